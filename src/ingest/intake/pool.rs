//! The pool of port triples: which are free.

use std::time::{Duration, Instant};

/// Ports of a stream that ended are not given away for this long: late packets of its camera meet nobody.
pub(in crate::ingest) const REST: Duration = Duration::from_secs(15);

/// One entry per triple.
#[derive(Debug)]
pub(super) struct PortPool(Vec<Triple>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Triple {
    New,
    Taken,
    Since(Instant),
}

impl PortPool {
    pub(super) fn new(triples: u16) -> Self {
        Self(vec![Triple::New; usize::from(triples)])
    }

    /// Takes the triple that has rested longest, if one has rested enough.
    pub(super) fn take(&mut self, now: Instant) -> Option<u16> {
        let rested = |triple: &Triple| match triple {
            Triple::New => Some(None),
            Triple::Since(since) if now >= *since + REST => Some(Some(*since)),
            Triple::Since(_) | Triple::Taken => None,
        };
        let free = self.0.iter().enumerate().filter_map(|(index, triple)| Some((rested(triple)?, index)));
        let (_, index) = free.min()?;
        self.0[index] = Triple::Taken;
        u16::try_from(index).ok()
    }

    /// Gives a triple back.
    pub(super) fn release(&mut self, index: u16, now: Instant) {
        if let Some(triple) = self.0.get_mut(usize::from(index)) {
            *triple = Triple::Since(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_rest_before_they_are_given_away_again_and_the_longest_rested_goes_first() {
        let (mut pool, start) = (PortPool::new(2), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!((pool.take(start), pool.take(start), pool.take(start)), (Some(0), Some(1), None));
        pool.release(1, at(1));
        pool.release(0, at(2));
        assert_eq!(pool.take(at(15)), None);
        assert_eq!((pool.take(at(17)), pool.take(at(17)), pool.take(at(17))), (Some(1), Some(0), None));
    }
}
