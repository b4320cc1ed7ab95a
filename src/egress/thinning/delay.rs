//! The queue on the way to a viewer, from the times at which marked packets left and arrived.
//!
//! The two clocks are not the same and need not be: what counts is by how much the way got longer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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

#[derive(Debug, Clone, Copy)]
struct Sample {
    sent: Instant,
    /// Time on the way in microseconds, plus an unknown constant.
    way: i64,
}

/// A queue that stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// By how many seconds it grows in a second.
    pub(super) growth: f64,
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
    /// A packet that left at `sent` arrived at `arrival_us` of the receiver's clock. One that was overtaken may be
    /// told of after those that left later.
    pub(super) fn on_arrival(&mut self, sent: Instant, arrival_us: i64) {
        let (first_sent, first_arrival) = *self.origin.get_or_insert((sent, arrival_us));
        let since = sent.saturating_duration_since(first_sent).as_micros() as i64;
        let way = elapsed_us(first_arrival, arrival_us) - since;
        while self.samples.len() >= MAX_SAMPLES
            || self.samples.front().is_some_and(|s| sent.saturating_duration_since(s.sent) > WINDOW)
        {
            self.samples.pop_front();
        }
        let place = self.samples.iter().rposition(|s| s.sent <= sent).map_or(0, |before| before + 1);
        self.samples.insert(place, Sample { sent, way });
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

    /// The queue, if one stands that is too long or on its way there.
    pub(super) fn standing(&self) -> Option<Standing> {
        let base = self.base_way()?;
        let newest = self.samples.back()?;
        // The newest packets that all had to wait.
        let waiting = || self.samples.iter().rev().take_while(|s| s.way - base >= STANDING);
        let oldest = waiting().last()?;
        let span = newest.sent.saturating_duration_since(oldest.sent);
        if span.is_zero() {
            return None;
        }
        let growth = (newest.way - oldest.way) as f64 / span.as_micros() as f64;
        let grown = newest.way - base >= GROWN && growth >= GROWTH && span >= GROWTH_SPAN;
        let long = waiting().take_while(|s| s.way - base >= TOO_LONG).last();
        let long = long.is_some_and(|s| newest.sent.saturating_duration_since(s.sent) >= TOO_LONG_SPAN);
        (grown || (long && growth > DRAINS)).then_some(Standing { growth })
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
