//! When the next keepalive is due, and how the last ones went. Sans-IO.

use std::time::{Duration, Instant};

/// A failed keepalive is tried again after this time, or at the next regular one if that is sooner.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A shorter interval would only flood the broker.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The keepalives of one camera session.
///
/// They lie on a grid of `start + n × interval`, so that neither slow acknowledgements nor retries make them
/// drift. One at most is in flight. A failure is counted and never ends them.
#[derive(Debug, Clone)]
pub struct Keepalive {
    interval: Duration,
    grid: Option<Instant>,
    next: Option<Instant>,
    in_flight: bool,
    /// The last one failed.
    failing: bool,
    count: u64,
    errors: u64,
    last_success: Option<Instant>,
    last_error: Option<String>,
}

impl Keepalive {
    /// No keepalives until [`Self::start`].
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: interval.max(SHORTEST_INTERVAL),
            grid: None,
            next: None,
            in_flight: false,
            failing: false,
            count: 0,
            errors: 0,
            last_success: None,
            last_error: None,
        }
    }

    /// The first one is due now.
    pub fn start(&mut self, now: Instant) {
        self.grid = Some(now);
        self.next = Some(now);
    }

    /// No more from now on.
    pub fn stop(&mut self) {
        self.next = None;
    }

    /// The broker can be reached again: if the last one failed, the next is due now.
    pub fn hurry(&mut self, now: Instant) {
        if self.failing {
            self.next = self.next.map(|next| next.min(now));
        }
    }

    /// When [`Self::take_due`] has something to say.
    pub fn poll_at(&self) -> Option<Instant> {
        self.next.filter(|_| !self.in_flight)
    }

    /// The `keepaliveCount` to publish now, if one is due. Its result goes to [`Self::done`].
    pub fn take_due(&mut self, now: Instant) -> Option<u64> {
        if self.poll_at()? > now {
            return None;
        }
        self.in_flight = true;
        self.next = Some(self.next_on_grid(now));
        Some(self.count)
    }

    /// How the one in flight went.
    pub fn done(&mut self, now: Instant, result: Result<(), String>) {
        self.in_flight = false;
        self.failing = result.is_err();
        match result {
            Ok(()) => {
                self.count += 1;
                self.last_success = Some(now);
            }
            Err(reason) => {
                self.errors += 1;
                self.last_error = Some(reason);
                self.next = self.next.map(|next| next.min(now + RETRY_AFTER));
            }
        }
    }

    /// Whether keepalives are being sent.
    pub fn is_running(&self) -> bool {
        self.next.is_some()
    }

    /// Whether the last one failed.
    pub fn is_failing(&self) -> bool {
        self.failing && self.is_running()
    }

    /// Time between two of them.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Acknowledged by the broker so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Failed so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// When the last one was acknowledged.
    pub fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    /// Why the last failed one failed.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// When keepalives began.
    pub fn started(&self) -> Option<Instant> {
        self.grid
    }

    fn next_on_grid(&self, now: Instant) -> Instant {
        let grid = self.grid.unwrap_or(now);
        let into_the_interval = now.saturating_duration_since(grid).as_nanos() % self.interval.as_nanos();
        // Less than the interval, which came from a Duration of seconds.
        now + self.interval - Duration::from_nanos(into_the_interval as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(4);

    /// Runs for `total`, each publish taking `latency` and succeeding if `works(time since start)`.
    fn run(total: Duration, latency: Duration, works: impl Fn(Duration) -> bool) -> Keepalive {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL);
        keepalive.start(start);
        while let Some(at) = keepalive.poll_at() {
            if at.duration_since(start) > total {
                break;
            }
            assert!(keepalive.take_due(at).is_some());
            assert_eq!(keepalive.take_due(at), None, "one in flight at most");
            let answered = at + latency;
            let ok = works(answered - start);
            keepalive.done(answered, if ok { Ok(()) } else { Err("broker unreachable".into()) });
        }
        keepalive
    }

    #[test]
    fn eight_hours_do_not_drift() {
        let hours = Duration::from_secs(8 * 3600);
        for latency in [Duration::ZERO, Duration::from_millis(3), Duration::from_millis(1500)] {
            let keepalive = run(hours, latency, |_| true);
            let expected = hours.as_secs() / INTERVAL.as_secs();
            assert!(keepalive.count().abs_diff(expected) <= 1, "{} at {latency:?}", keepalive.count());
            assert_eq!(keepalive.errors(), 0);
        }
    }

    #[test]
    fn a_failure_is_retried_after_a_second_and_keeps_its_number() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL);
        keepalive.start(start);
        assert_eq!(keepalive.take_due(start), Some(0));
        keepalive.done(start, Err("not connected".into()));
        assert_eq!(keepalive.poll_at(), Some(start + RETRY_AFTER));
        assert_eq!(keepalive.take_due(start + RETRY_AFTER), Some(0));
        keepalive.done(start + RETRY_AFTER, Ok(()));
        assert_eq!(keepalive.poll_at(), Some(start + INTERVAL), "back on the grid");
        assert_eq!((keepalive.count(), keepalive.errors()), (1, 1));
        assert_eq!(keepalive.last_error(), Some("not connected"));
    }

    #[test]
    fn an_outage_of_an_hour_ends_with_keepalives_again() {
        let hour = Duration::from_secs(3600);
        let keepalive = run(3 * hour, Duration::ZERO, |since| since < hour || since > 2 * hour);
        assert!(keepalive.is_running());
        assert_eq!(keepalive.errors(), 3601, "one try a second while the broker was away");
        assert!(keepalive.count().abs_diff(2 * 3600 / 4) <= 2, "{}", keepalive.count());
    }

    #[test]
    fn stop_ends_them_even_with_one_in_flight() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(INTERVAL);
        keepalive.start(start);
        assert!(keepalive.take_due(start).is_some());
        keepalive.stop();
        keepalive.done(start, Err("late".into()));
        assert_eq!(keepalive.poll_at(), None);
        assert!(!keepalive.is_running());
    }
}
