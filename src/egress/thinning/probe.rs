//! A moment of the stream's rate on a thinned path: does the way get longer meanwhile?

use std::time::{Duration, Instant};

use crate::media::transport_cc::elapsed_us;

/// How long a probe lasts, and by how much it is faster than the stream.
pub(in crate::egress) const PROBE_TIME: Duration = Duration::from_millis(150);
pub(in crate::egress) const PROBE_FACTOR: f64 = 1.25;
/// By how much the way may get longer: on a path of exactly the stream's rate it is a quarter of the time.
const LONGER: i64 = 30_000;
/// It is stopped at once when the way got longer by this.
const MUCH_LONGER: i64 = 80_000;
/// The way is the shortest of so many packets in a row, which takes the jitter out.
const SMOOTHING: usize = 3;
/// Share of the packets whose arrival has to be reported.
const ARRIVED: f64 = 0.8;
/// After this without an answer it has failed.
const PATIENCE: Duration = Duration::from_millis(800);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Carries,
    Fails,
}

#[derive(Debug)]
pub(super) struct Probe {
    started: Instant,
    /// How many packets, and when the last one left.
    sent: Option<(usize, Instant)>,
    origin: Option<(Instant, i64)>,
    /// Time on the way, in microseconds, from the first packet's.
    ways: Vec<i64>,
    last_arrived: Option<Instant>,
}

impl Probe {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, sent: None, origin: None, ways: Vec::new(), last_arrived: None }
    }

    pub(super) fn sent(&mut self, packets: usize, now: Instant) {
        self.sent = Some((packets, now));
    }

    pub(super) fn on_arrival(&mut self, sent: Instant, arrival_us: i64) {
        if sent < self.started {
            return;
        }
        let (first_sent, first_arrival) = *self.origin.get_or_insert((sent, arrival_us));
        let since = sent.saturating_duration_since(first_sent).as_micros() as i64;
        self.ways.push(elapsed_us(first_arrival, arrival_us) - since);
        self.last_arrived = Some(sent);
    }

    /// `None` while it is not decided.
    pub(super) fn verdict(&self, now: Instant) -> Option<Verdict> {
        let shortest = |ways: &[i64]| ways.iter().min().copied();
        let first = self.ways.get(..SMOOTHING).and_then(shortest);
        let last = self.ways.len().checked_sub(SMOOTHING).and_then(|at| shortest(&self.ways[at..]));
        let longer = first.zip(last).map(|(first, last)| last - first);
        if longer.is_some_and(|longer| longer > MUCH_LONGER) {
            return Some(Verdict::Fails);
        }
        let (packets, end) = match self.sent {
            Some(sent) => sent,
            // It is still being sent.
            None => return (now > self.started + PROBE_TIME + PATIENCE).then_some(Verdict::Fails),
        };
        let enough = self.ways.len() as f64 >= packets as f64 * ARRIVED && self.ways.len() > SMOOTHING;
        let complete = self.ways.len() >= packets || self.last_arrived.is_some_and(|last| last >= end);
        match longer {
            Some(longer) if enough && complete => {
                Some(if longer <= LONGER { Verdict::Carries } else { Verdict::Fails })
            }
            _ => (now > end + PATIENCE).then_some(Verdict::Fails),
        }
    }
}
