//! The sequence numbers of one source, in constant time and space per packet.

use crate::media::{ExtSeq, SeqNo};

/// Packets remembered to recognise duplicates.
const REMEMBERED: u64 = u128::BITS as u64;
/// The first packet's cycle: room below for packets that it overtook.
pub(super) const FIRST_CYCLE: u64 = 0x1_0000;

/// What a sequence number means against those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The highest so far, by this much (1 without a gap, and for the first packet).
    Ahead(u64),
    /// Overtaken by others.
    Late,
    /// Seen before.
    Duplicate,
}

/// The highest sequence number and which of the last 128 arrived.
#[derive(Debug, Default)]
pub(super) struct SeqWindow {
    highest: Option<ExtSeq>,
    /// Bit `n` set: `highest - n` arrived.
    seen: u128,
}

impl SeqWindow {
    /// Places the next packet.
    pub(super) fn place(&mut self, seq: SeqNo) -> (ExtSeq, Arrival) {
        let Some(highest) = self.highest else {
            let first = ExtSeq(FIRST_CYCLE + u64::from(seq.0));
            (self.highest, self.seen) = (Some(first), 1);
            return (first, Arrival::Ahead(1));
        };
        let seq = highest.extend(seq);
        if seq > highest {
            let by = seq.0 - highest.0;
            self.seen = if by < REMEMBERED { self.seen << by } else { 0 } | 1;
            self.highest = Some(seq);
            return (seq, Arrival::Ahead(by));
        }
        let behind = highest.0 - seq.0;
        if behind >= REMEMBERED {
            return (seq, Arrival::Late);
        }
        let bit = 1 << behind;
        let arrival = if self.seen & bit == 0 { Arrival::Late } else { Arrival::Duplicate };
        self.seen |= bit;
        (seq, arrival)
    }

    /// The highest number so far; `None` before the first packet.
    pub(super) fn highest(&self) -> Option<ExtSeq> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_late_packets_and_duplicates_are_told_apart_across_the_wrap() {
        let mut window = SeqWindow::default();
        let mut place = |seq| window.place(SeqNo(seq)).1;
        assert_eq!([65_534, 65_535, 1].map(&mut place), [Arrival::Ahead(1), Arrival::Ahead(1), Arrival::Ahead(2)]);
        assert_eq!([0, 0, 65_535, 1].map(&mut place)[0], Arrival::Late);
        assert_eq!([0, 65_535, 1].map(&mut place), [Arrival::Duplicate; 3]);
        assert_eq!(place(65_533), Arrival::Late);
        assert_eq!([300, 299, 299].map(place), [Arrival::Ahead(299), Arrival::Late, Arrival::Duplicate]);
        assert_eq!(window.highest(), Some(ExtSeq(0x2_0000 + 300)));
    }
}
