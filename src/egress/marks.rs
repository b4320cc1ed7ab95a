//! Transport-wide sequence numbers: which packets carry one, and when each of them left.
//!
//! Browsers report the arrival of every packet that is marked, up to twenty times a second. The last packet of a
//! picture tells all that is needed, and every second or third picture is enough while nothing is going on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::SeqNo;

/// Between marks while nothing is going on.
const CALM_US: u64 = 75_000;
/// Marks whose arrival may still be reported.
const REMEMBERED: usize = 256;
/// Nor is that of a mark before a pause of this length. All that are remembered are within what 32 bits can tell.
const PAUSE_US: u64 = 10_000_000;

/// When a marked packet left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// To the next microsecond, so that it is not before the time at which it was marked.
    pub(super) at: Instant,
    /// Bytes that had been sent to the viewer with it, modulo 2^32.
    pub(super) bytes: u32,
    /// Its number.
    pub(super) number: SeqNo,
}

/// The marks of one viewer. There are as many of them as there are viewers, so that a mark takes eight bytes.
#[derive(Debug)]
pub(super) struct Marks {
    /// The number of the extension.
    pub(super) extension: u8,
    next: u16,
    origin: Instant,
    /// When the newest mark left, in microseconds since then.
    newest: u64,
    /// The last 32 bits of such a time, and of the bytes; the newest one is the last.
    sent: VecDeque<(u32, u32)>,
    /// How many of them left later than the last one whose arrival was told of.
    untold: usize,
}

impl Marks {
    pub(super) fn new(extension: u8, now: Instant) -> Self {
        Self { extension, next: rand::random(), origin: now, newest: 0, sent: VecDeque::new(), untold: 0 }
    }

    /// Whether the next picture gets a mark.
    pub(super) fn is_due(&self, curious: bool, now: Instant) -> bool {
        curious || self.sent.is_empty() || self.micros(now) >= self.newest + CALM_US
    }

    /// A number for a packet that leaves now; [`Self::left`] follows.
    pub(super) fn next(&mut self, now: Instant) -> SeqNo {
        let since = self.micros(now).max(self.newest);
        if since - self.newest >= PAUSE_US {
            self.sent.clear();
            self.untold = 0;
        }
        if self.sent.len() >= REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((since as u32, 0));
        self.newest = since;
        self.untold = (self.untold + 1).min(self.sent.len());
        let number = SeqNo(self.next);
        self.next = self.next.wrapping_add(1);
        number
    }

    /// So many bytes were sent with the packet that was numbered last, modulo 2^32.
    pub(super) fn left(&mut self, bytes: u32) {
        if let Some(newest) = self.sent.back_mut() {
            newest.1 = bytes;
        }
    }

    /// The packet with this number has arrived. When it left; `None` for what was never sent or is long past.
    pub(super) fn on_told(&mut self, number: SeqNo) -> Option<Left> {
        let age = usize::from(self.next.wrapping_sub(1).wrapping_sub(number.0));
        let left = self.get(age)?;
        self.untold = self.untold.min(age);
        Some(left)
    }

    /// When the first mark left that left later than the last one whose arrival was told of.
    pub(super) fn untold_since(&self) -> Option<Instant> {
        Some(self.get(self.untold.checked_sub(1)?)?.at)
    }

    /// How many marks left later than the last one that was told of.
    pub(super) fn untold(&self) -> usize {
        self.untold
    }

    /// When the last one left.
    pub(super) fn last(&self) -> Option<Instant> {
        Some(self.get(0)?.at)
    }

    /// What is told of those that have left counts no more.
    pub(super) fn forget(&mut self) {
        self.sent.clear();
        self.untold = 0;
    }

    /// The mark that so many followed.
    fn get(&self, age: usize) -> Option<Left> {
        let (at, bytes) = *self.sent.get(self.sent.len().checked_sub(age + 1)?)?;
        let before = (self.newest as u32).wrapping_sub(at);
        let number = SeqNo(self.next.wrapping_sub(age as u16 + 1));
        Some(Left { at: self.time(self.newest.checked_sub(u64::from(before))?), bytes, number })
    }

    /// Microseconds from the origin until `now`, rounded up.
    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_nanos().div_ceil(1_000))
    }

    fn time(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_mark_is_found_by_its_number_until_it_is_long_past() {
        let start = Instant::now();
        let mut marks = Marks::new(3, start);
        marks.next = 65_530;
        // From one wrap of the microseconds and of the bytes to the next.
        let begun = Duration::from_micros((1 << 32) - 100_000);
        for n in 0..300_u32 {
            let (at, number) = (start + begun + n * MS, SeqNo(65_530_u16.wrapping_add(n as u16)));
            assert_eq!(marks.next(at), number);
            let bytes = n.wrapping_sub(100).wrapping_mul(1_000);
            marks.left(bytes);
            assert_eq!(marks.on_told(number), Some(Left { at, bytes, number }));
        }
        assert_eq!(marks.on_told(SeqNo(65_530)), None, "long past");
        assert_eq!(marks.on_told(SeqNo(294)), None, "never sent");
        let left = Left { at: start + begun + 106 * MS, bytes: 6_000, number: SeqNo(100) };
        assert_eq!(marks.on_told(SeqNo(100)), Some(left));
    }

    #[test]
    fn a_mark_never_left_before_it_was_made() {
        let start = Instant::now();
        let mut marks = Marks::new(3, start);
        for ns in [0, 1, 999, 1_000, 1_001] {
            let now = start + Duration::from_nanos(ns);
            let number = marks.next(now);
            let at = marks.on_told(number).unwrap().at;
            assert!(at >= now && at < now + Duration::from_micros(1), "{ns}");
        }
    }

    #[test]
    fn a_pause_that_the_clock_of_a_mark_cannot_tell_is_no_shorter_one() {
        let start = Instant::now();
        let mut marks = Marks::new(3, start);
        let first = marks.next(start);
        let second = marks.next(start + Duration::from_micros(1 << 32) + MS);
        assert_eq!(marks.on_told(first), None);
        assert!(marks.on_told(second).is_some());
    }

    #[test]
    fn marks_are_rare_while_nothing_is_going_on() {
        let now = Instant::now();
        let mut marks = Marks::new(3, now);
        assert!(marks.is_due(false, now));
        marks.next(now);
        assert!(!marks.is_due(false, now + 40 * MS));
        assert!(marks.is_due(true, now + 40 * MS));
        assert!(marks.is_due(false, now + 80 * MS));
    }
}
