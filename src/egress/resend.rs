//! How much may be resent to one viewer: a budget in bytes by the stream's rate, and nothing twice within a
//! round trip, which is how long the first copy needs to show up in the viewer's NACKs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::media::ExtSeq;

/// Resent bytes per byte of the stream. Loss beyond it is better cured by a keyframe, or by thinning.
const SHARE: f64 = 0.5;
/// A still picture's stream is too little to go by: bytes per second.
const LEAST_RATE: f64 = 32_000.0;
/// The budget that may be saved up: that of one second, and no less than this, in bytes.
const LEAST_BURST: f64 = 64_000.0;
/// A round trip that is not known yet, and the bounds of one that is.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(30);
const ROUND_TRIPS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
/// Resent packets that are remembered.
const REMEMBERED: usize = 512;

/// What was resent to one viewer lately, and what still may be.
#[derive(Debug)]
pub(super) struct Resends {
    bytes_left: f64,
    filled: Instant,
    recent: VecDeque<(ExtSeq, Instant)>,
    round_trip: Duration,
}

impl Resends {
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes_left: LEAST_BURST, filled: now, recent: VecDeque::new(), round_trip: UNKNOWN_ROUND_TRIP }
    }

    pub(super) fn on_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.clamp(ROUND_TRIPS[0], ROUND_TRIPS[1]);
    }

    /// Fills up the budget. `stream_rate` in bit/s.
    pub(super) fn refill(&mut self, stream_rate: u64, now: Instant) {
        let rate = (stream_rate as f64 / 8.0 * SHARE).max(LEAST_RATE);
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.bytes_left = (self.bytes_left + rate * since).min(rate.max(LEAST_BURST));
        while self.recent.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= self.round_trip) {
            self.recent.pop_front();
        }
    }

    /// Whether the packet that was sent as `seq` may be resent now; if so, it is taken off the budget.
    pub(super) fn allows(&mut self, seq: ExtSeq, bytes: usize, now: Instant) -> bool {
        let too_soon = self.recent.iter().any(|(recent, _)| *recent == seq);
        if too_soon || self.bytes_left < bytes as f64 || self.recent.len() >= REMEMBERED {
            return false;
        }
        self.bytes_left -= bytes as f64;
        self.recent.push_back((seq, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_budget_is_half_the_streams_rate() {
        let now = Instant::now();
        let mut resends = Resends::new(now);
        let mut taken = |at: Instant, first: u64| {
            resends.refill(2_000_000, at);
            (0..1_000).filter(|n| resends.allows(ExtSeq(first + n), 1_000, at)).count()
        };
        assert_eq!(taken(now, 0), 64, "what may be saved up");
        assert_eq!(taken(now + 100 * MS, 5_000), 12);
        assert_eq!(taken(now + 60_000 * MS, 9_000), 125, "no more than a second's");
    }

    #[test]
    fn nothing_is_resent_twice_within_a_round_trip() {
        let now = Instant::now();
        let mut resends = Resends::new(now);
        resends.on_round_trip(100 * MS);
        let mut allowed = |ms: u32| {
            resends.refill(2_000_000, now + ms * MS);
            resends.allows(ExtSeq(7), 1_000, now + ms * MS)
        };
        assert!(allowed(0));
        assert!(!allowed(0));
        assert!(!allowed(99));
        assert!(allowed(100));
    }
}
