//! Sequence numbers when one packet becomes none, one or several: what follows closes up or makes room, and
//! the number of a lost packet stays free for it.

use std::collections::VecDeque;

use super::id::ExtSeq;

/// Changes remembered for late packets.
const MAX_SHIFTS: usize = 64;

/// From the numbers of one side to those of the other.
#[derive(Debug)]
pub struct Numbering {
    /// From this number on, this much is added. Ascending, never empty.
    shifts: VecDeque<(ExtSeq, i64)>,
    /// The number being worked on, and the next one for a part of it.
    current: ExtSeq,
    next: u64,
}

impl Default for Numbering {
    fn default() -> Self {
        Self { shifts: VecDeque::from([(ExtSeq(0), 0)]), current: ExtSeq(0), next: 0 }
    }
}

impl Numbering {
    /// Begins with the packet `seq`.
    pub fn open(&mut self, seq: ExtSeq) {
        self.current = seq;
        self.next = seq.0.saturating_add_signed(self.shift());
    }

    /// The number for the next part of the packet.
    pub fn take(&mut self) -> ExtSeq {
        self.next += 1;
        ExtSeq(self.next - 1)
    }

    /// Leaves a hole in the packet's place.
    pub fn skip(&mut self) {
        self.next += 1;
    }

    /// The packet is done: what follows moves by what it took more or less than its own number.
    pub fn close(&mut self) {
        let shift = self.next as i64 - (self.current.0 as i64 + 1);
        if shift != self.shift() {
            if self.shifts.len() >= MAX_SHIFTS {
                self.shifts.pop_front();
            }
            self.shifts.push_back((ExtSeq(self.current.0 + 1), shift));
        }
    }

    /// The number that was left for a packet that was lost.
    pub fn late(&self, seq: ExtSeq) -> Option<ExtSeq> {
        let (_, shift) = self.shifts.iter().rev().find(|(from, _)| *from <= seq)?;
        Some(ExtSeq(seq.0.saturating_add_signed(*shift)))
    }

    fn shift(&self) -> i64 {
        self.shifts.back().map_or(0, |(_, shift)| *shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packet `seq` becomes `parts` parts.
    fn becomes(numbering: &mut Numbering, seq: u64, parts: usize) -> Vec<u64> {
        numbering.open(ExtSeq(seq));
        let numbers = (0..parts).map(|_| numbering.take().0).collect();
        numbering.close();
        numbers
    }

    #[test]
    fn parts_make_room_and_dropped_packets_close_up() {
        let mut numbering = Numbering::default();
        assert_eq!(becomes(&mut numbering, 10, 1), [10]);
        assert_eq!(becomes(&mut numbering, 11, 3), [11, 12, 13]);
        assert_eq!(becomes(&mut numbering, 12, 1), [14]);
        assert_eq!(becomes(&mut numbering, 13, 0), [0; 0]);
        assert_eq!(becomes(&mut numbering, 14, 1), [15]);
    }

    #[test]
    fn a_lost_packet_keeps_the_number_it_would_have_had() {
        let mut numbering = Numbering::default();
        becomes(&mut numbering, 10, 3);
        assert_eq!(becomes(&mut numbering, 12, 2), [14, 15]);
        assert_eq!(numbering.late(ExtSeq(11)), Some(ExtSeq(13)));
        assert_eq!(numbering.late(ExtSeq(9)), Some(ExtSeq(9)), "from before the first packet");
    }

    #[test]
    fn a_skipped_packet_leaves_a_hole() {
        let mut numbering = Numbering::default();
        becomes(&mut numbering, 10, 1);
        numbering.open(ExtSeq(11));
        numbering.skip();
        numbering.close();
        assert_eq!(becomes(&mut numbering, 12, 1), [12]);
    }

    #[test]
    fn what_was_too_long_ago_has_no_number_any_more() {
        let mut numbering = Numbering::default();
        (0..=MAX_SHIFTS as u64).for_each(|n| drop(becomes(&mut numbering, 10 + 2 * n, 2)));
        assert_eq!(numbering.late(ExtSeq(9)), None);
        assert!(numbering.late(ExtSeq(11 + 2 * MAX_SHIFTS as u64 - 2)).is_some());
    }
}
