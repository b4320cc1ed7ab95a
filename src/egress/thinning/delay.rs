//! The queue on the way to a viewer, from the times at which marked packets left and arrived.
//!
//! The two clocks are not the same and need not be: what counts is by how much the way got longer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::egress::marks::Left;
use crate::media::SeqNo;
use crate::media::transport_cc::elapsed_us;

/// What is looked at; packets that left earlier than this before the newest one are history.
const WINDOW: Duration = Duration::from_millis(250);
/// At most so many samples; a probe has fewer.
const MAX_SAMPLES: usize = 64;
/// The shortest way of this time and of the one before is the way without a queue. Longer than a queue can
/// stand, short enough that clocks that drift by 100 ppm part by 3 ms only.
const BASE_PERIOD: Duration = Duration::from_secs(15);

/// More than jitter, less than anybody notices.
const STANDING: i64 = 40_000;
/// A queue that grows is one from here on …
const GROWN: i64 = 100_000;
/// … if it grew by this share of the time, that is, if this much more is sent than fits …
const GROWTH: f64 = 0.15;
/// … for at least so long.
const GROWTH_SPAN: Duration = Duration::from_millis(70);
/// A queue of this length is too long whether it grows or not …
const TOO_LONG: i64 = 300_000;
/// … if it stood for so long, and does not drain (a keyframe's, or that of a viewer's start).
const TOO_LONG_SPAN: Duration = Duration::from_millis(100);
const DRAINS: f64 = -0.5;
/// What the path carries is known from packets that arrived within this time, in microseconds, or more.
const CARRIES_SPAN: i64 = 100_000;
/// No more are sent in [`WINDOW`]: packets that left at once may be told of in the wrong order.
const MOST_BYTES: u32 = 1 << 30;

#[derive(Debug, Clone, Copy)]
struct Sample {
    sent: Instant,
    /// Time on the way in microseconds, plus an unknown constant.
    way: i64,
    /// Bytes sent with it, modulo 2^32.
    bytes: u32,
    number: SeqNo,
}

/// One viewer's delays.
#[derive(Debug, Default)]
pub(super) struct DelayWatch {
    origin: Option<(Instant, i64)>,
    samples: VecDeque<Sample>,
    /// The shortest ways of the last period and of this one, and when this one began.
    base: Option<(i64, i64, Instant)>,
}

impl DelayWatch {
    /// A packet arrived at `arrival_us` of the receiver's clock. One that was overtaken may be told of after those
    /// that left later.
    pub(super) fn on_arrival(&mut self, Left { at: sent, bytes, number }: Left, arrival_us: i64) {
        let (first_sent, first_arrival) = *self.origin.get_or_insert((sent, arrival_us));
        let since = sent.saturating_duration_since(first_sent).as_micros() as i64;
        let way = elapsed_us(first_arrival, arrival_us) - since;
        while self.samples.len() >= MAX_SAMPLES
            || self.samples.front().is_some_and(|s| sent.saturating_duration_since(s.sent) > WINDOW)
        {
            self.samples.pop_front();
        }
        let place = self.samples.iter().rposition(|s| s.sent <= sent).map_or(0, |before| before + 1);
        self.samples.insert(place, Sample { sent, way, bytes, number });
        let (last, current, since) = self.base.unwrap_or((way, way, sent));
        self.base = Some(match sent.saturating_duration_since(since) > BASE_PERIOD {
            true => (current, way, sent),
            false => (last, current.min(way), since),
        });
    }

    /// The newest queueing delay in microseconds.
    pub(super) fn queue_us(&self) -> Option<i64> {
        Some(self.samples.back()?.way - self.base_way()?)
    }

    /// Whether a queue stands that is too long or on its way there.
    pub(super) fn stands(&self) -> bool {
        let Some((base, newest)) = self.base_way().zip(self.samples.back()) else { return false };
        let Some(oldest) = self.waiting().last() else { return false };
        let span = newest.sent.saturating_duration_since(oldest.sent);
        if span.is_zero() {
            return false;
        }
        let growth = (newest.way - oldest.way) as f64 / span.as_micros() as f64;
        let grown = newest.way - base >= GROWN && growth >= GROWTH && span >= GROWTH_SPAN;
        let long = self.waiting().take_while(|s| s.way - base >= TOO_LONG).last();
        let long = long.is_some_and(|s| newest.sent.saturating_duration_since(s.sent) >= TOO_LONG_SPAN);
        grown || (long && growth > DRAINS)
    }

    /// What arrived behind packets that had to wait, in bit/s: all that the path carries. `None` if nothing waited
    /// for long enough to tell.
    pub(super) fn carries(&self) -> Option<u64> {
        let (base, newest) = self.base_way().zip(self.samples.back())?;
        let mut oldest = newest;
        for sample in self.waiting() {
            // What left after its queue was gone arrived when it left, not when the path could take it.
            let gap = oldest.sent.saturating_duration_since(sample.sent).as_micros() as i64;
            // And what a full queue had no room for did not arrive at all.
            let missing = oldest.number.0.wrapping_sub(sample.number.0) > 1;
            if gap > sample.way - base || missing {
                break;
            }
            oldest = sample;
        }
        let left_in = newest.sent.saturating_duration_since(oldest.sent).as_micros() as i64;
        let arrived_in = left_in + newest.way - oldest.way;
        let bytes = newest.bytes.wrapping_sub(oldest.bytes);
        (arrived_in >= CARRIES_SPAN && (1..MOST_BYTES).contains(&bytes))
            .then(|| (u64::from(bytes) * 8_000_000 / arrived_in as u64).max(1))
    }

    /// The newest packets that all had to wait, the newest one first.
    fn waiting(&self) -> impl Iterator<Item = &Sample> {
        let base = self.base_way().unwrap_or(i64::MAX);
        self.samples.iter().rev().take_while(move |s| s.way.saturating_sub(base) >= STANDING)
    }

    /// The present way is the one without a queue.
    pub(super) fn rebase(&mut self) {
        let shortest = self.samples.iter().map(|s| s.way).min();
        self.base = shortest.zip(self.samples.back()).map(|(way, newest)| (way, way, newest.sent));
    }

    fn base_way(&self) -> Option<i64> {
        self.base.map(|(last, current, _)| last.min(current))
    }
}
