//! How much a camera may send: an estimate on the receiving side, from loss, delay and the measured rate.
//!
//! Cameras carry no send times, so the RTP timestamp stands for the time of sending. What counts is what
//! *stays*: a keyframe is several times as big as other frames and fills every queue for a moment, and
//! jitter delays single packets. So the delay is judged by the *least* delay in a window (a standing queue
//! delays every packet) and loss by two windows in a row. While a queue stands, the measured rate is the
//! path's capacity, and the estimate goes just below it; from there it probes upwards.
//!
//! The thresholds on loss are those of draft-ietf-rmcat-gcc-02 §6; the delay part is ours.

use std::time::{Duration, Instant};

use crate::media::RtpTime;

/// Length of a bucket, and between two decisions.
const BUCKET: Duration = Duration::from_millis(250);
/// Buckets in a second: the window of the measured rate and of the standing queue.
const WINDOW: usize = 4;
/// Buckets kept: 4 s, so that a keyframe that overflows a queue now and then is not overlooked.
const BUCKETS: usize = 4 * WINDOW;
/// Silence after which the measurements begin anew.
const MAX_SILENCE: Duration = Duration::from_secs(2);

/// Least delays of this long each make up the base delay; together 30 s, in which a camera's clock of
/// 200 ppm drifts by 6 ms.
const BASE_SLOT: Duration = Duration::from_secs(5);
const BASE_SLOTS: usize = 6;
/// A step of the delay beyond this is a camera that set its media clock anew.
const MAX_DELAY_STEP: i64 = 3_000_000;

/// A queue that stands this high, in microseconds, is overload.
const QUEUE_HIGH: i64 = 30_000;
/// A queue below this is none; with loss it is half of the evidence for overload.
const QUEUE_LOW: i64 = 15_000;
/// Falls by this much in half a window: the queue is draining by itself.
const DRAINING: i64 = 10_000;

/// Loss up to which the estimate may grow.
const LOSS_LOW: f64 = 0.02;
/// Loss beyond which it falls.
const LOSS_HIGH: f64 = 0.10;
/// Fewer packets in a second say nothing about loss.
const MIN_PACKETS: u32 = 40;

/// The estimate falls to this share of the measured rate: room for the queue to drain.
const DECREASE: f64 = 0.85;
/// Cameras obey with some delay; what is seen before says nothing about the new estimate.
const REACTION: Duration = Duration::from_secs(4);
/// Before the camera has had time to react, only a fall below this share is worth another decrease.
const CORRECTION: f64 = 0.75;
/// The estimate rests this long below a known limit before it tries what lies above.
const PLATEAU: Duration = Duration::from_secs(9);
/// A probe goes this far beyond the known limit: far enough for a queue to show within a second or two.
const PROBE: f64 = 1.05;
/// A probe is judged after this: the camera's reaction, and a queue that builds slowly.
const PROBE_TIME: Duration = Duration::from_secs(6);
/// Growth per second without a known limit.
const GROWTH: f64 = 0.15;
/// Growth per second with loss between the thresholds but without a queue, some time after a decrease.
const LOSSY_GROWTH: f64 = 0.02;
const LOSSY_PATIENCE: Duration = Duration::from_secs(10);
/// It ends at this share of the known limit.
const LOSSY_SHARE: f64 = 0.93;
/// Beyond this multiple of what arrives, plus [`HEADROOM`], nothing is known …
const MAX_OVER_RECEIVED: f64 = 1.5;
/// … (in bit/s) …
const HEADROOM: f64 = 250_000.0;
/// … and the estimate grows slowly, per second: a camera in a quiet scene, or one that knows a small and a large
/// picture and nothing between, would never come back up otherwise.
const UNPROVEN_GROWTH: f64 = 0.04;
/// So many decreases in a row without effect on the delay: then it is the camera's clock, not a queue …
const MAX_FRUITLESS: u32 = 3;
/// … and the delay is not looked at for this long.
const DISTRUST: Duration = Duration::from_secs(60);

/// What arrived in one [`BUCKET`].
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    bytes: u64,
    received: u32,
    expected: u32,
    /// Least delay in microseconds; the origin means nothing.
    least_delay: Option<i64>,
}

/// The estimate for one camera's video.
#[derive(Debug)]
pub(super) struct Bandwidth {
    range: (u64, u64),
    estimate: f64,
    /// Newest first; `open` is still being filled.
    buckets: [Bucket; BUCKETS],
    open: Bucket,
    opened: Option<Instant>,
    delay: Delay,
    /// Rate at which the path was full when the estimate last fell.
    limit: Option<f64>,
    last_decrease: Option<Instant>,
    /// Since when the estimate rests below `limit`, or probes above it.
    step: Option<(Step, Instant)>,
    fruitless: u32,
    distrust_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Rest,
    Probe,
}

impl Bandwidth {
    /// `range` in bit/s. The estimate begins at its top: nothing is known against it.
    pub(super) fn new(range: (u64, u64)) -> Self {
        let range = (range.0, range.1.max(range.0));
        Self {
            range,
            estimate: range.1 as f64,
            buckets: [Bucket::default(); BUCKETS],
            open: Bucket::default(),
            opened: None,
            delay: Delay::default(),
            limit: None,
            last_decrease: None,
            step: None,
            fruitless: 0,
            distrust_until: None,
        }
    }

    /// The estimate in bit/s, within the range.
    pub(super) fn estimate(&self) -> u64 {
        self.estimate as u64
    }

    /// Bit/s over the last 4 s, so that a keyframe does not count for more than it is.
    pub(super) fn received(&self) -> u64 {
        self.rate(0, BUCKETS) as u64
    }

    /// Another source begins. What is known of the path stays, what was measured goes.
    pub(super) fn restart(&mut self) {
        self.buckets = [Bucket::default(); BUCKETS];
        self.open = Bucket::default();
        self.opened = None;
        self.delay = Delay::default();
    }

    /// A packet of `bytes` that is no duplicate; `ahead`: by how much it raised the highest sequence number.
    pub(super) fn on_packet(&mut self, bytes: usize, ahead: u64, timestamp: u32, clock_rate: u32, now: Instant) {
        self.advance(now);
        self.opened.get_or_insert(now);
        self.open.bytes += bytes as u64;
        // A packet that was overtaken fills the gap that it left, be it in the bucket before.
        let overtaken = ahead == 0 && self.open.received >= self.open.expected;
        if overtaken && self.buckets[0].received < self.buckets[0].expected {
            self.buckets[0].received += 1;
        } else {
            self.open.received += 1;
        }
        self.open.expected = self.open.expected.saturating_add(u32::try_from(ahead).unwrap_or(u32::MAX));
        match self.delay.measure(timestamp, clock_rate, now) {
            Some(delay) => self.open.least_delay = Some(self.open.least_delay.map_or(delay, |least| least.min(delay))),
            None => self.forget_delays(),
        }
    }

    /// When the next decision is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.opened.map(|opened| opened + BUCKET)
    }

    /// Decides for every bucket that has ended.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(opened) = self.opened else { return };
        if now.saturating_duration_since(opened) >= MAX_SILENCE {
            let delay = std::mem::take(&mut self.delay);
            self.restart();
            self.delay = delay;
            return;
        }
        while let Some(end) = self.opened.map(|opened| opened + BUCKET).filter(|end| *end <= now) {
            self.buckets.rotate_right(1);
            self.buckets[0] = std::mem::take(&mut self.open);
            self.opened = Some(end);
            self.delay.base.add(self.buckets[0].least_delay, end);
            self.decide(end);
        }
    }

    fn decide(&mut self, now: Instant) {
        let received = self.rate(0, WINDOW);
        // Not of the newest bucket: packets that were overtaken may still fill its gaps.
        let (loss, loss_before) = (self.loss(1, 1 + WINDOW), self.loss(1 + WINDOW, 1 + 2 * WINDOW));
        let trusted = self.distrust_until.is_none_or(|until| now >= until);
        let queue = self.queue().filter(|_| trusted);
        let standing = queue.is_some_and(|queue| queue.stands && queue.least >= QUEUE_HIGH)
            || queue.is_some_and(|queue| queue.stands && queue.least >= QUEUE_LOW)
                && self.loss(1, 1 + WINDOW / 2) >= LOSS_LOW;
        if standing || loss.min(loss_before) > LOSS_HIGH {
            let evidence = Evidence { queue: standing, loss: loss >= LOSS_LOW };
            self.decrease(received, evidence, now);
            return;
        }
        if queue.is_some_and(|queue| queue.least < QUEUE_LOW) {
            self.fruitless = 0;
        }
        if queue.is_some_and(|queue| queue.least >= QUEUE_LOW) {
            return;
        }
        self.increase(received, loss.max(self.loss(1, BUCKETS)), now);
    }

    fn decrease(&mut self, received: f64, evidence: Evidence, now: Instant) {
        let reacted = self.last_decrease.is_none_or(|last| now.saturating_duration_since(last) >= REACTION);
        // Loss is that of the last seconds: it may be older than the decrease before.
        if !reacted && !evidence.queue {
            return;
        }
        let target = received * DECREASE;
        if target >= self.estimate * if reacted { 1.0 } else { CORRECTION } {
            return;
        }
        if reacted && !evidence.loss {
            self.fruitless += 1;
            if self.fruitless > MAX_FRUITLESS {
                self.fruitless = 0;
                self.distrust_until = Some(now + DISTRUST);
                self.forget_delays();
                return;
            }
        }
        self.set(target);
        self.limit = Some(received);
        self.last_decrease = Some(now);
        self.step = Some((Step::Rest, now));
    }

    fn increase(&mut self, received: f64, loss: f64, now: Instant) {
        let since_decrease = self.last_decrease.map(|last| now.saturating_duration_since(last));
        if since_decrease.is_some_and(|since| since < REACTION) {
            return;
        }
        let seconds = BUCKET.as_secs_f64();
        let wanted = if loss >= LOSS_LOW {
            if since_decrease.is_none_or(|since| since < LOSSY_PATIENCE) {
                return;
            }
            // Not quite up to what went through before: there the loss may come from the path's limit.
            self.limit.map_or(f64::MAX, |limit| limit * LOSSY_SHARE).min(self.estimate * (1.0 + LOSSY_GROWTH * seconds))
        } else {
            match (self.limit, self.step) {
                (Some(_), Some((Step::Rest, since))) if now.saturating_duration_since(since) < PLATEAU => return,
                (Some(limit), Some((Step::Rest, _))) => {
                    self.step = Some((Step::Probe, now));
                    limit * PROBE
                }
                (Some(_), Some((Step::Probe, since))) if now.saturating_duration_since(since) < PROBE_TIME => return,
                _ => {
                    // The probe went through: the limit is gone.
                    self.limit = None;
                    self.estimate * (1.0 + GROWTH * seconds)
                }
            }
        };
        let known = received.max(self.rate(WINDOW, 2 * WINDOW)) * MAX_OVER_RECEIVED + HEADROOM;
        let unproven = self.estimate * (1.0 + UNPROVEN_GROWTH * seconds);
        self.set(wanted.min(known.max(unproven)).max(self.estimate));
    }

    fn set(&mut self, estimate: f64) {
        self.estimate = estimate.clamp(self.range.0 as f64, self.range.1 as f64);
    }

    /// Bit/s over the buckets `from..to`.
    fn rate(&self, from: usize, to: usize) -> f64 {
        let bytes: u64 = self.buckets[from..to].iter().map(|bucket| bucket.bytes).sum();
        bytes as f64 * 8.0 / (BUCKET.as_secs_f64() * (to - from) as f64)
    }

    /// Share of packets lost in the buckets `from..to`.
    fn loss(&self, from: usize, to: usize) -> f64 {
        let sum = |field: fn(&Bucket) -> u32| self.buckets[from..to].iter().map(|b| u64::from(field(b))).sum::<u64>();
        let (expected, received) = (sum(|b| b.expected), sum(|b| b.received));
        if expected < u64::from(MIN_PACKETS) {
            return 0.0;
        }
        expected.saturating_sub(received) as f64 / expected as f64
    }

    /// The queue in the last window, if packets came in both its halves.
    fn queue(&self) -> Option<Queue> {
        let base = self.delay.base.least()?;
        let least = |from: usize, to: usize| self.buckets[from..to].iter().filter_map(|b| b.least_delay).min();
        let (newer, older) = (least(0, WINDOW / 2)?, least(WINDOW / 2, WINDOW)?);
        Some(Queue { least: newer.min(older) - base, stands: newer + DRAINING > older })
    }

    fn forget_delays(&mut self) {
        self.delay = Delay::default();
        self.open.least_delay = None;
        self.buckets.iter_mut().for_each(|bucket| bucket.least_delay = None);
    }
}

/// What speaks for overload.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    queue: bool,
    loss: bool,
}

/// The least queueing delay of the last window.
#[derive(Debug, Clone, Copy)]
struct Queue {
    /// In microseconds above the base.
    least: i64,
    /// Not draining by itself.
    stands: bool,
}

/// Delay of packets: arrival against timestamp, with an unknown but constant origin.
#[derive(Debug, Default)]
struct Delay {
    origin: Option<Instant>,
    last: Option<(RtpTime, i64)>,
    base: Base,
}

impl Delay {
    /// The packet's delay in microseconds; `None` if the media clock was set anew.
    fn measure(&mut self, timestamp: u32, clock_rate: u32, now: Instant) -> Option<i64> {
        let origin = *self.origin.get_or_insert(now);
        let time = match self.last {
            Some((last, _)) => last.extend(timestamp),
            // Two wraps up, so that earlier timestamps stay positive.
            None => RtpTime((2 << 32) + u64::from(timestamp)),
        };
        let rate = u64::from(clock_rate.max(1));
        let sent = (time.0 / rate * 1_000_000 + time.0 % rate * 1_000_000 / rate) as i64;
        let delay = now.saturating_duration_since(origin).as_micros() as i64 - sent;
        let last = self.last.replace((time, delay));
        last.is_none_or(|(_, last)| delay.abs_diff(last) < MAX_DELAY_STEP.unsigned_abs()).then_some(delay)
    }
}

/// Least delay of the last 30 s.
#[derive(Debug, Default)]
struct Base {
    slots: [Option<i64>; BASE_SLOTS],
    started: Option<Instant>,
}

impl Base {
    fn add(&mut self, delay: Option<i64>, now: Instant) {
        let started = *self.started.get_or_insert(now);
        if now.saturating_duration_since(started) >= BASE_SLOT {
            self.slots.rotate_right(1);
            self.slots[0] = None;
            self.started = Some(now);
        }
        self.slots[0] = self.slots[0].into_iter().chain(delay).min();
    }

    fn least(&self) -> Option<i64> {
        self.slots.iter().flatten().min().copied()
    }
}

#[cfg(test)]
#[path = "bandwidth_tests.rs"]
mod tests;
