//! Transport-wide sequence numbers: which packets carry one, and when each of them left.
//!
//! Browsers report the arrival of every packet that is marked, up to twenty times a second. The last packet of a
//! picture tells all that is needed, and every second or third picture is enough while nothing is going on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::SeqNo;

/// Between marks while nothing is going on.
const CALM: Duration = Duration::from_millis(75);
/// Marks whose arrival may still be reported.
const REMEMBERED: usize = 256;

/// The marks of one viewer.
#[derive(Debug)]
pub(super) struct Marks {
    /// The number of the extension.
    pub(super) extension: u8,
    next: u16,
    /// When the marks up to the newest one left.
    sent: VecDeque<Instant>,
}

impl Marks {
    pub(super) fn new(extension: u8) -> Self {
        Self { extension, next: rand::random(), sent: VecDeque::new() }
    }

    /// Whether the next picture gets a mark.
    pub(super) fn is_due(&self, curious: bool, now: Instant) -> bool {
        curious || self.sent.back().is_none_or(|last| now.saturating_duration_since(*last) >= CALM)
    }

    /// A number for a packet that leaves now.
    pub(super) fn next(&mut self, now: Instant) -> u16 {
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    /// When the packet with this number left; `None` for what was never sent or is long past.
    pub(super) fn sent_at(&self, number: SeqNo) -> Option<Instant> {
        let age = usize::from(self.next.wrapping_sub(1).wrapping_sub(number.0));
        self.sent.get(self.sent.len().checked_sub(age + 1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_by_its_number_until_it_is_long_past() {
        let (mut marks, start) = (Marks::new(3), Instant::now());
        marks.next = 65_530;
        for n in 0..300_u32 {
            let at = start + Duration::from_millis(u64::from(n));
            assert_eq!(marks.next(at), 65_530_u16.wrapping_add(n as u16));
            assert_eq!(marks.sent_at(SeqNo(65_530_u16.wrapping_add(n as u16))), Some(at));
        }
        assert_eq!(marks.sent_at(SeqNo(65_530)), None, "long past");
        assert_eq!(marks.sent_at(SeqNo(294)), None, "never sent");
        assert!(marks.sent_at(SeqNo(100)).is_some());
    }

    #[test]
    fn marks_are_rare_while_nothing_is_going_on() {
        let (mut marks, now) = (Marks::new(3), Instant::now());
        assert!(marks.is_due(false, now));
        marks.next(now);
        assert!(!marks.is_due(false, now + Duration::from_millis(40)));
        assert!(marks.is_due(true, now + Duration::from_millis(40)));
        assert!(marks.is_due(false, now + Duration::from_millis(80)));
    }
}
