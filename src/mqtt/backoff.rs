//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand::RngExt;

/// The first pause. A broker that restarts is back within a second.
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause before a broker that cannot be reached is tried again, before jitter. Cameras live on
/// keepalives, which have to go on within 2 s of its return; an attempt that fails costs next to nothing.
const LONGEST: Duration = Duration::from_secs(1);
/// The longest pause for a broker that is there and refuses us, or throws us out, before jitter: each attempt costs
/// it a handshake and a line in its log.
const LONGEST_REFUSED: Duration = Duration::from_secs(10);
/// A connection that lasted this long was a good one; the next failure is a new story.
const LIVED: Duration = LONGEST_REFUSED;
/// Parts of a pause by which it may be shorter or longer, so that many clients of one broker do not come back in step.
const JITTER: f64 = 0.25;

/// How an attempt, or a connection, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody answered, or not as a broker that is up.
    NotReached,
    /// The broker said no, or is not the one that we trust.
    Refused,
    /// We were let in for this long.
    Lasted(Duration),
}

/// Pauses that double from 0.2 s to 1 s, or to 10 s where the broker wants none of us, each ± 25 %.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    unreachable: u32,
    refusals: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub(super) fn next(&mut self, ending: Ending) -> Duration {
        if matches!(ending, Ending::Lasted(lasted) if lasted >= LIVED) {
            *self = Self::default();
        }
        let (attempts, longest) = match ending {
            Ending::NotReached => (&mut self.unreachable, LONGEST),
            // A broker that lets us in and throws us out is as much in need of peace.
            Ending::Refused | Ending::Lasted(_) => (&mut self.refusals, LONGEST_REFUSED),
        };
        let base = FIRST.saturating_mul(1 << (*attempts).min(16)).min(longest);
        *attempts = attempts.saturating_add(1);
        base.mul_f64(rand::rng().random_range(1.0 - JITTER..1.0 + JITTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_jitter_up_to_the_longest() {
        for (ending, longest) in [
            (Ending::NotReached, LONGEST),
            (Ending::Refused, LONGEST_REFUSED),
            (Ending::Lasted(Duration::from_secs(1)), LONGEST_REFUSED),
        ] {
            for _ in 0..200 {
                let mut backoff = Backoff::default();
                let mut base = FIRST;
                for _ in 0..40 {
                    let pause = backoff.next(ending);
                    assert!(pause >= base.mul_f64(0.75) && pause <= base.mul_f64(1.25), "{pause:?} around {base:?}");
                    base = (base * 2).min(longest);
                }
            }
        }
    }

    #[test]
    fn a_broker_that_was_away_for_hours_is_found_within_a_second_and_a_half() {
        let mut backoff = Backoff::default();
        // Thrown out a few times, as by a broker that restarts more than once, then gone.
        for _ in 0..5 {
            backoff.next(Ending::Lasted(Duration::from_secs(2)));
        }
        for _ in 0..10_000 {
            let pause = backoff.next(Ending::NotReached);
            assert!(pause <= Duration::from_millis(1_500), "{pause:?}");
        }
    }

    #[test]
    fn only_a_connection_that_lived_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next(Ending::Lasted(Duration::from_secs(1)));
        }
        assert!(backoff.next(Ending::Refused) >= LONGEST_REFUSED.mul_f64(0.75));
        assert!(backoff.next(Ending::Lasted(LIVED)) <= FIRST.mul_f64(1.25));
    }
}
