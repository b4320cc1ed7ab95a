//! How many keyframes one viewer can have the camera make. Every keyframe costs all viewers of the stream, so a
//! viewer that asks and asks gets some at once and then one every few seconds.

use std::time::{Duration, Instant};

/// At once.
const BURST: f64 = 4.0;
/// And one more every so often.
const INTERVAL: Duration = Duration::from_secs(3);
/// Wishes that follow each other within this time are one: the camera has not answered yet.
const SAME: Duration = Duration::from_millis(250);

/// The wishes of one viewer.
#[derive(Debug)]
pub(super) struct Wishes {
    left: f64,
    filled: Instant,
    last: Option<Instant>,
}

impl Wishes {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now, last: None }
    }

    /// Whether a wish of now is passed on.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + since / INTERVAL.as_secs_f64()).min(BURST);
        self.filled = now;
        if self.left < 1.0 || self.last.is_some_and(|last| now.saturating_duration_since(last) < SAME) {
            return false;
        }
        self.left -= 1.0;
        self.last = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_wishes_gets_a_few_at_once_and_then_one_every_three_seconds() {
        let start = Instant::now();
        let mut wishes = Wishes::new(start);
        let passed: Vec<u64> = (0..20_000).filter(|ms| wishes.allows(start + Duration::from_millis(*ms))).collect();
        assert_eq!(passed[..4], [0, 250, 500, 750]);
        assert_eq!(passed.len(), 4 + 6, "{passed:?}");
    }
}
