//! A limit for log lines that outsiders can trigger.

use std::time::{Duration, Instant};

/// Lets one event through per interval and counts the others.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # let now = Instant::now();
/// let mut limit = honeycast::telemetry::RateLimited::every(Duration::from_secs(5));
/// if let Some(suppressed) = limit.allow(now) {
///     // tracing::warn!(suppressed, "…");
/// }
/// ```
#[derive(Debug, Clone)]
pub struct RateLimited {
    interval: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimited {
    /// At most one event per `interval`; the first one passes.
    pub const fn every(interval: Duration) -> Self {
        Self { interval, last: None, suppressed: 0 }
    }

    /// Whether an event at `now` may be told; if so, how many were kept back since the last one that was.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        // A `now` before the last one (another thread's clock read) counts as no time passed.
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_per_interval_and_the_others_are_counted() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut limit = RateLimited::every(Duration::from_secs(1));
        assert_eq!(limit.allow(at(10)), Some(0));
        assert_eq!(limit.allow(at(10)), None);
        assert_eq!(limit.allow(at(1009)), None);
        assert_eq!(limit.allow(at(1010)), Some(2));
        assert_eq!(limit.allow(at(500)), None, "time that runs backwards lets nothing through");
        assert_eq!(limit.allow(at(2010)), Some(1));
    }
}
