//! Puts packets back into order, at the price of a wait that is zero as long as nothing is reordered.
//!
//! A gap is waited for as long as late packets of the recent past needed, 50 ms at most. When that is over
//! the gap is given up at once. What comes later still has its number, and is let through as late: a viewer's own
//! buffer may have use for it.
//!
//! At the beginning nothing is known of the path yet, and a first keyframe without its beginning would cost a whole
//! group of pictures: so the first gaps are waited for as long as any, and so is what may precede the first packet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::id::ExtSeq;

/// A gap is waited for no longer than this: cameras' networks reorder by less, and a retransmission that takes
/// longer is better shown late than waited for by everyone.
pub const MAX_WAIT: Duration = Duration::from_millis(50);
/// Without a late packet for this long, nothing is waited for.
const MEMORY: Duration = Duration::from_secs(10);
/// So long after the first packet a gap is waited for as long as any: a keyframe takes a part of it.
const START: Duration = Duration::from_millis(500);
/// Beyond the time that a late packet needed, for the next one.
const MARGIN: Duration = Duration::from_millis(1);
/// Packets held at most; a keyframe of a fast camera has some hundred. Beyond it gaps are given up.
const MAX_HELD: usize = 512;
/// Gaps remembered that were given up, to learn from what still comes.
const MAX_GAPS: usize = 16;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is the next one: forward it, then ask [`Reorder::pop`].
    Next,
    /// Hand it to [`Reorder::hold`], then ask [`Reorder::pop`].
    Wait,
    /// Its gap was given up, or it is from before the first packet.
    Late,
}

/// What reordering was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReorderCounters {
    /// Packets that arrived behind a later one.
    pub reordered: u64,
    /// Of these, those that came after their gap was given up.
    pub late: u64,
    /// Sequence numbers given up.
    pub given_up: u64,
}

/// Order of one track; `T` is what is held of a packet.
#[derive(Debug)]
pub struct Reorder<T> {
    /// `None` while it is open what the first packet is.
    next: Option<ExtSeq>,
    /// When the first packet arrived.
    began: Option<Instant>,
    /// By number, without [`Reorder::next`].
    held: VecDeque<Held<T>>,
    gaps: VecDeque<Gap>,
    wait: Duration,
    last_late: Option<Instant>,
    counters: ReorderCounters,
}

#[derive(Debug)]
struct Held<T> {
    seq: ExtSeq,
    arrived: Instant,
    item: T,
}

/// Numbers from `from` to below `to` were given up; a later one arrived at `opened`.
#[derive(Debug)]
struct Gap {
    from: ExtSeq,
    to: ExtSeq,
    opened: Instant,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self {
            next: None,
            began: None,
            held: VecDeque::new(),
            gaps: VecDeque::new(),
            wait: Duration::ZERO,
            last_late: None,
            counters: ReorderCounters::default(),
        }
    }
}

impl<T> Reorder<T> {
    /// Decides about the packet `seq`, which arrived at `now` and was not seen before. `leads` is asked of the
    /// first one only: whether nobody would miss what precedes it.
    pub fn turn(&mut self, seq: ExtSeq, leads: impl FnOnce() -> bool, now: Instant) -> Turn {
        self.began.get_or_insert(now);
        let next = match self.next {
            Some(next) => next,
            None if self.held.is_empty() && leads() => *self.next.insert(seq),
            None => {
                self.learn_from_filled(seq, now);
                return Turn::Wait;
            }
        };
        if seq == next {
            self.next = Some(ExtSeq(seq.0 + 1));
            if !self.held.is_empty() {
                self.learn_from_filled(seq, now);
            }
            return Turn::Next;
        }
        if seq < next {
            self.counters.reordered += 1;
            self.counters.late += 1;
            if let Some(gap) = self.gaps.iter().find(|gap| (gap.from..gap.to).contains(&seq)) {
                self.learn(now.saturating_duration_since(gap.opened), now);
            }
            return Turn::Late;
        }
        if self.held.is_empty() && self.wait(now).is_zero() {
            self.give_up(next, seq, now);
            self.next = Some(ExtSeq(seq.0 + 1));
            return Turn::Next;
        }
        self.learn_from_filled(seq, now);
        Turn::Wait
    }

    /// Keeps a packet whose turn was [`Turn::Wait`].
    pub fn hold(&mut self, seq: ExtSeq, item: T, now: Instant) {
        let place = self.held.partition_point(|held| held.seq < seq);
        self.held.insert(place, Held { seq, arrived: now, item });
    }

    /// The next packet whose turn has come, or whose gap was waited for long enough.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let first = self.held.front()?.seq;
        if self.next != Some(first) && self.poll_timeout().is_some_and(|due| now < due) && self.held.len() <= MAX_HELD {
            return None;
        }
        self.pop_anyway(now)
    }

    /// The next packet held, whatever is missing before it: after a restart of the camera nothing is waited for.
    pub fn pop_anyway(&mut self, now: Instant) -> Option<T> {
        let first = self.held.front()?.seq;
        if let Some(next) = self.next.filter(|next| *next != first) {
            let opened = self.opened().unwrap_or(now);
            self.give_up(next, first, opened);
        }
        self.next = Some(ExtSeq(first.0 + 1));
        self.held.pop_front().map(|held| held.item)
    }

    /// When [`Reorder::pop`] will have something without another packet.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let opened = self.opened()?;
        Some(opened + self.wait(opened))
    }

    /// How long a gap is waited for that is seen at `now`.
    pub fn wait(&self, now: Instant) -> Duration {
        if self.began.is_some_and(|began| now.saturating_duration_since(began) < START) {
            return MAX_WAIT;
        }
        self.learned(now)
    }

    /// What late packets of the recent past needed.
    fn learned(&self, now: Instant) -> Duration {
        let recent = self.last_late.is_some_and(|last| now.saturating_duration_since(last) <= MEMORY);
        if recent { self.wait } else { Duration::ZERO }
    }

    /// What was seen so far.
    pub fn counters(&self) -> ReorderCounters {
        self.counters
    }

    /// When the first packet behind the first gap arrived.
    fn opened(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.arrived).min()
    }

    /// `seq` arrived behind packets that are held.
    fn learn_from_filled(&mut self, seq: ExtSeq, now: Instant) {
        let later = self.held.iter().filter(|held| held.seq > seq).map(|held| held.arrived).min();
        if let Some(opened) = later {
            self.counters.reordered += 1;
            self.learn(now.saturating_duration_since(opened), now);
        }
    }

    /// A packet came `lateness` after a later one: follows at once upwards, slowly downwards.
    fn learn(&mut self, lateness: Duration, now: Instant) {
        if lateness > MAX_WAIT {
            return;
        }
        let wanted = lateness + MARGIN;
        let current = self.learned(now);
        self.wait = wanted.max((current * 15 + wanted) / 16).min(MAX_WAIT);
        self.last_late = Some(now);
    }

    fn give_up(&mut self, from: ExtSeq, to: ExtSeq, opened: Instant) {
        self.counters.given_up += to.0 - from.0;
        if self.gaps.len() >= MAX_GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back(Gap { from, to, opened });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line {
        reorder: Reorder<u64>,
        now: Instant,
        out: Vec<u64>,
        late: Vec<u64>,
        leads: bool,
    }

    impl Line {
        /// One that begins with its first packet.
        fn fresh() -> Self {
            Self { reorder: Reorder::default(), now: Instant::now(), out: Vec::new(), late: Vec::new(), leads: true }
        }

        /// One whose beginning is over: packet 0 was long ago.
        fn new() -> Self {
            let mut line = Self::fresh();
            line.arrives(0, 0);
            line.passes(START);
            line.out.clear();
            line
        }

        fn arrives(&mut self, seq: u64, after_millis: u64) {
            self.passes(Duration::from_millis(after_millis));
            match self.reorder.turn(ExtSeq(seq), || self.leads, self.now) {
                Turn::Next => self.out.push(seq),
                Turn::Wait => self.reorder.hold(ExtSeq(seq), seq, self.now),
                Turn::Late => self.late.push(seq),
            }
            self.out.extend(std::iter::from_fn(|| self.reorder.pop(self.now)));
        }

        fn passes(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(due) = self.reorder.poll_timeout().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                let before = self.out.len();
                self.out.extend(std::iter::from_fn(|| self.reorder.pop(self.now)));
                assert!(self.out.len() > before, "a timeout without an effect would spin");
            }
            self.now = end;
        }
    }

    #[test]
    fn at_the_beginning_a_gap_is_waited_for_though_nothing_was_late_yet() {
        let mut line = Line::fresh();
        for seq in [1, 3, 2, 4, 6] {
            line.arrives(seq, 20);
        }
        assert_eq!((&*line.out, &*line.late), (&[1, 2, 3, 4][..], &[][..]));
        line.passes(MAX_WAIT);
        assert_eq!(line.out, [1, 2, 3, 4, 6]);
    }

    #[test]
    fn what_does_not_lead_is_first_only_when_nothing_came_before_it_in_50_ms() {
        let mut line = Line::fresh();
        line.leads = false;
        line.arrives(3, 0);
        line.arrives(2, 20);
        line.leads = true;
        line.arrives(1, 20);
        assert_eq!((&*line.out, line.reorder.poll_timeout()), (&[][..], Some(line.now + Duration::from_millis(10))));
        line.passes(Duration::from_millis(10));
        assert_eq!(line.out, [1, 2, 3]);
        assert_eq!(line.reorder.counters(), ReorderCounters { reordered: 2, late: 0, given_up: 0 });
        line.arrives(4, 0);
        assert_eq!(line.out, [1, 2, 3, 4]);
    }

    #[test]
    fn without_reordering_a_gap_delays_nothing() {
        let mut line = Line::new();
        for seq in [1, 2, 4, 7] {
            line.arrives(seq, 1);
            assert_eq!(line.out.last(), Some(&seq));
        }
        assert_eq!(line.reorder.poll_timeout(), None);
        assert_eq!(line.reorder.counters(), ReorderCounters { reordered: 0, late: 0, given_up: 3 });
    }

    #[test]
    fn the_first_reordering_is_late_and_the_next_is_repaired() {
        let mut line = Line::new();
        for seq in [1, 3, 2, 4, 6, 5, 7] {
            line.arrives(seq, 3);
        }
        assert_eq!(line.out, [1, 3, 4, 5, 6, 7]);
        assert_eq!(line.late, [2]);
        assert_eq!(line.reorder.wait(line.now), Duration::from_millis(4));
        assert_eq!(line.reorder.counters(), ReorderCounters { reordered: 2, late: 1, given_up: 1 });
    }

    #[test]
    fn a_gap_is_given_up_the_moment_its_wait_is_over() {
        let mut line = Line::new();
        for seq in [1, 3, 2, 5] {
            line.arrives(seq, 3);
        }
        assert_eq!(line.out, [1, 3]);
        assert_eq!(line.reorder.poll_timeout(), Some(line.now + Duration::from_millis(4)));
        line.passes(Duration::from_millis(3));
        assert_eq!(line.out, [1, 3]);
        line.passes(Duration::from_millis(1));
        assert_eq!(line.out, [1, 3, 5]);
        line.arrives(4, 1);
        assert_eq!(line.late, [2, 4]);
        assert_eq!(line.reorder.wait(line.now), Duration::from_millis(6), "it learns from what it missed");
    }

    #[test]
    fn a_packet_that_needed_more_than_50_ms_teaches_nothing() {
        let mut line = Line::new();
        line.arrives(1, 0);
        line.arrives(3, 1);
        line.arrives(2, 51);
        assert_eq!(line.reorder.wait(line.now), Duration::ZERO);
        line.arrives(5, 1);
        line.arrives(4, 50);
        assert_eq!(line.reorder.wait(line.now), MAX_WAIT);
    }

    #[test]
    fn the_wait_is_forgotten_ten_seconds_after_the_last_reordering() {
        let mut line = Line::new();
        for seq in [1, 3, 2, 4] {
            line.arrives(seq, 3);
        }
        line.arrives(5, 10_001);
        line.arrives(7, 1);
        assert_eq!(line.out.last(), Some(&7));
    }

    #[test]
    fn several_gaps_at_once_are_waited_for_each_on_its_own() {
        let mut line = Line::new();
        for seq in [1, 3, 2] {
            line.arrives(seq, 10);
        }
        for seq in [5, 7, 9, 6, 8] {
            line.arrives(seq, 2);
        }
        assert_eq!(line.out, [1, 3]);
        line.arrives(4, 1);
        assert_eq!(line.out, [1, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_is_held_is_bounded_by_number_too() {
        let mut line = Line::new();
        for seq in [1, 3, 2] {
            line.arrives(seq, 10);
        }
        for seq in 5..5 + MAX_HELD as u64 + 1 {
            line.arrives(seq, 0);
        }
        assert_eq!(line.out.len(), 2 + MAX_HELD + 1);
        assert_eq!(line.reorder.counters().given_up, 2);
    }

    #[test]
    fn after_a_restart_nothing_is_waited_for() {
        let mut line = Line::new();
        for seq in [1, 3, 2, 5, 7] {
            line.arrives(seq, 1);
        }
        let out: Vec<_> = std::iter::from_fn(|| line.reorder.pop_anyway(line.now)).collect();
        assert_eq!(out, [5, 7]);
        assert_eq!(line.reorder.turn(ExtSeq(8), || true, line.now), Turn::Next);
    }
}
