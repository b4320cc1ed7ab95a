//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand::RngExt;

/// The first pause. A broker that restarts is back within a second.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause, before jitter. With it a broker is found again within 2 s of its return, however long it was
/// away: cameras live on keepalives.
const LONGEST: Duration = Duration::from_secs(1);
/// A connection that lasted this long was a good one; the next failure is a new story. A shorter one
/// may be a broker that accepts and throws out, which must not be asked five times a second.
const LIVED: Duration = Duration::from_secs(10);

/// Pauses that double from 0.2 s to 1 s, each ± 50 % so that many clients of one broker do not come
/// back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let base = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        base.mul_f64(rand::rng().random_range(0.5..1.5))
    }

    /// A connection ended after `lasted`.
    pub(super) fn connection_lasted(&mut self, lasted: Duration) {
        if lasted >= LIVED {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_jitter_up_to_the_longest() {
        for _ in 0..200 {
            let mut backoff = Backoff::default();
            let mut base = FIRST;
            for _ in 0..40 {
                let pause = backoff.next();
                assert!(pause >= base.mul_f64(0.5) && pause <= base.mul_f64(1.5), "{pause:?} around {base:?}");
                base = (base * 2).min(LONGEST);
            }
        }
    }

    #[test]
    fn only_a_connection_that_lived_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next();
            backoff.connection_lasted(Duration::from_secs(1));
        }
        assert!(backoff.next() >= LONGEST.mul_f64(0.5));
        backoff.connection_lasted(LIVED);
        assert!(backoff.next() <= FIRST.mul_f64(1.5));
    }
}
