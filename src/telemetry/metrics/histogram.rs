//! A distribution with fixed buckets; recording takes two atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a duration fell into each bucket. Nobody waits for anybody.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// Upper bounds, ascending.
    bounds: [Duration; N],
    /// Not cumulative; what is above the last bound is in `count` only.
    buckets: [AtomicU64; N],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSnapshot {
    /// Upper bound in seconds and how many were at most that.
    pub buckets: Vec<(f64, u64)>,
    /// All.
    pub count: u64,
    /// Of all, in seconds.
    pub sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// Buckets for durations of at most `bounds_ms` milliseconds each, ascending.
    pub const fn with_bounds_ms(bounds_ms: [u64; N]) -> Self {
        let mut bounds = [Duration::ZERO; N];
        let mut index = 0;
        while index < N {
            bounds[index] = Duration::from_millis(bounds_ms[index]);
            index += 1;
        }
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            count: AtomicU64::new(0),
            sum_micros: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        if let Some(index) = self.bounds.iter().position(|bound| duration <= *bound) {
            self.buckets[index].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts of this moment.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut below = 0;
        let buckets = self.bounds.iter().zip(&self.buckets).map(|(bound, bucket)| {
            below += bucket.load(Ordering::Relaxed);
            (bound.as_secs_f64(), below)
        });
        let buckets: Vec<_> = buckets.collect();
        // Recording goes on meanwhile: the whole is never less than its parts.
        let count = self.count.load(Ordering::Relaxed).max(below);
        HistogramSnapshot { buckets, count, sum: self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_bucket_and_buckets_add_up() {
        let histogram = Histogram::with_bounds_ms([10, 100]);
        for ms in [1, 10, 11, 500] {
            histogram.record(Duration::from_millis(ms));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets, [(0.01, 2), (0.1, 3)]);
        assert_eq!((snapshot.count, snapshot.sum), (4, 0.522));
    }
}
