//! Whether a viewer's path carries its stream, and when to try again. Sans-IO.
//!
//! A path that does not is given keyframes only. How it is known, the quickest first: a queue that grows or
//! stands (arrival times of marked packets, where the browser reports them), sends that are refused, loss that
//! lasts, silence of a viewer that told of arrivals before, a round trip that grew (receiver reports), and the viewer's REMB
//! where loss or delay say the same.
//! Loss alone has to be high: a radio link loses packets at any rate, and retransmissions mend that. Packets that
//! overtake each other are not lost, and jitter is no queue.
//!
//! Keyframes say nothing about more, so a thinned path is probed: for a moment it carries as much as the stream
//! would need (old packets on the retransmission stream). Where that is not possible, the stream itself is the
//! probe. Every try that fails doubles the time to the next one.

mod delay;
mod probe;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::delay::DelayWatch;
pub(super) use self::probe::{PROBE_FACTOR, PROBE_TIME};
use self::probe::{Probe, Verdict};
use super::loss::Loss;
use super::marks::Left;

/// Loss (0 to 1) in one window of a second or more that no path has by accident …
const LOSS_AT_ONCE: f64 = 0.35;
/// … and in two in a row. Retransmissions cure less: with a fifth lost, one packet of 125 is lost three times.
const LOSS_LASTING: f64 = 0.20;
/// Loss beside which a low REMB is believed.
const LOSS_HINT: f64 = 0.15;
/// By how much a round trip is longer than the shortest one: in one report, in all for a while, beside a low REMB.
const ROUND_TRIP_AT_ONCE: Duration = Duration::from_millis(500);
const ROUND_TRIP_LASTING: Duration = Duration::from_millis(200);
/// That while: a report comes beside every NACK, so that their number says nothing.
const ROUND_TRIP_LASTS: Duration = Duration::from_millis(900);
const ROUND_TRIP_HINT: Duration = Duration::from_millis(100);
/// The shortest round trip is that of this time and of the one before.
const ROUND_TRIP_PERIOD: Duration = Duration::from_secs(30);
/// A REMB below this share of the stream's rate is low.
const LOW_REMB: f64 = 0.7;
/// What hints at each other is not older.
const HINT_LASTS: Duration = Duration::from_secs(2);
/// So many frames refused by the socket within [`REFUSAL_WINDOW`] are a path that is blocked.
const REFUSED_FRAMES: u32 = 3;
const REFUSAL_WINDOW: Duration = Duration::from_secs(1);
/// Round trips and estimates that come sooner after a change still tell of the time before.
const SETTLES: Duration = Duration::from_millis(1_500);

/// From thinning to the first probe, and between probes: the queue has to drain.
const FIRST_TRY: Duration = Duration::from_millis(1_000);
/// The same where only the stream itself can tell, which costs all viewers a keyframe.
const FIRST_BLIND_TRY: Duration = Duration::from_millis(2_000);
/// A try is not put off for longer.
const LONGEST_HOLD: Duration = Duration::from_secs(4);
/// No queue is believed to be longer, whatever a viewer says.
const LONGEST_QUEUE: Duration = Duration::from_secs(10);
/// After tries that failed with the stream itself, at most.
const LAST_TRY: Duration = Duration::from_secs(32);
/// A path that carried the stream for so long starts over with [`FIRST_TRY`].
const PROVEN: Duration = Duration::from_secs(30);
/// Thinned again within this time, the last try was a failure.
const TRIED: Duration = Duration::from_secs(10);
/// Between two wishes for the keyframe that a path is ready for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Why a viewer is thinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinReason {
    /// A queue grows or stands on its path, or nothing is heard of what it was sent.
    Delay,
    /// Its path loses too much.
    Loss,
    /// Its REMB is below what the stream needs, and loss or delay agree.
    Bandwidth,
    /// The socket takes no more for it.
    Blocked,
}

impl ThinReason {
    /// One word for statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Bandwidth => "bandwidth",
            Self::Blocked => "blocked",
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Keyframes only from the next access unit on.
    Thin(ThinReason),
    /// Send a probe; [`Thinning::probe_sent`] is to be called for the last packet.
    Probe,
    /// Stop the probe that is being sent.
    StopProbe,
    /// The path is ready for everything: a keyframe is wanted.
    Resume,
}

#[derive(Debug)]
enum State {
    Full {
        since: Instant,
    },
    Thinned {
        next_try: Instant,
        /// When that was to be before it was put off.
        due: Instant,
    },
    Probing(Probe),
    /// Everything goes on with the next keyframe.
    Ready {
        ask: Instant,
    },
}

impl State {
    fn thinned(due: Instant) -> Self {
        Self::Thinned { next_try: due, due }
    }
}

/// The state of one viewer's path.
#[derive(Debug)]
pub(super) struct Thinning {
    state: State,
    delay: DelayWatch,
    round_trips: RoundTrips,
    /// Windows of high loss in a row.
    lossy_windows: u32,
    /// When loss or a long round trip was reported last.
    hint: Option<Instant>,
    low_remb: Option<Instant>,
    refused: (Instant, u32),
    /// Whether probes are possible.
    probes: bool,
    failures: u32,
    thin: Option<ThinReason>,
    carries: Option<u64>,
    /// It is thinned for its loss.
    lossy: bool,
    /// The last packet that was told of, and the queue that it met.
    told: Option<(Left, Duration)>,
    last_arrival: Option<Instant>,
}

impl Thinning {
    /// A path of which nothing bad is known. `probes`: packets can be marked and sent again.
    pub(super) fn new(probes: bool, now: Instant) -> Self {
        Self {
            state: State::Full { since: now },
            delay: DelayWatch::default(),
            round_trips: RoundTrips::default(),
            lossy_windows: 0,
            hint: None,
            low_remb: None,
            refused: (now, 0),
            probes,
            failures: 0,
            thin: None,
            carries: None,
            lossy: false,
            told: None,
            last_arrival: None,
        }
    }

    /// Whether only keyframes are sent.
    pub(super) fn is_thinned(&self) -> bool {
        !matches!(self.state, State::Full { .. })
    }

    /// Whether every frame should be marked: something is going on.
    pub(super) fn is_curious(&self) -> bool {
        const CURIOUS_US: i64 = 20_000;
        self.is_thinned() || self.delay.queue_us().is_some_and(|queue| queue > CURIOUS_US)
    }

    /// Whether [`Self::poll`] may have something to say without new input.
    pub(super) fn is_pending(&self) -> bool {
        self.is_thinned() || self.thin.is_some()
    }

    /// The last queueing delay that is known, in microseconds.
    pub(super) fn queue_us(&self) -> Option<i64> {
        self.delay.queue_us()
    }

    /// A marked packet has arrived at `arrival_us` of the viewer's clock.
    pub(super) fn on_arrival(&mut self, left: Left, arrival_us: i64, now: Instant) {
        self.last_arrival = Some(now);
        self.delay.on_arrival(left, arrival_us);
        match &mut self.state {
            State::Full { .. } => {
                // A way that only got longer tells nothing of what it carries.
                self.carries = None;
                if self.delay.stands() {
                    self.thin = Some(ThinReason::Delay);
                    self.carries = self.delay.carries();
                }
            }
            State::Probing(probe) => probe.on_arrival(left.at, arrival_us),
            State::Thinned { .. } | State::Ready { .. } => {}
        }
        // What a queue that is full had no room for has been sent, but does not arrive.
        if self.is_thinned() && !self.lossy {
            self.carries = self.delay.carries().or(self.carries);
        }
        let queue = u64::try_from(self.delay.queue_us().unwrap_or(0)).unwrap_or(0);
        self.told = Some((left, Duration::from_micros(queue)));
    }

    /// A receiver report: the loss of a window that is full with it, and the round trip where it tells one.
    pub(super) fn on_report(&mut self, loss: Option<Loss>, round_trip: Option<Duration>, now: Instant) {
        let longer = round_trip.map_or(Duration::ZERO, |round_trip| self.round_trips.on_round_trip(round_trip, now));
        let State::Full { since } = self.state else { return };
        // Windows that began before tell of keyframes on a path that was too narrow.
        let loss = loss.filter(|loss| loss.since >= since).map(|loss| loss.fraction);
        if let Some(loss) = loss {
            self.lossy_windows = if loss >= LOSS_LASTING { self.lossy_windows + 1 } else { 0 };
            if loss >= LOSS_AT_ONCE || self.lossy_windows >= 2 {
                self.thin = Some(ThinReason::Loss);
            }
        }
        if now < since + SETTLES {
            return;
        }
        // Arrival times tell the same, better and sooner.
        let knows_better = self.last_arrival.is_some_and(|last| now < last + HINT_LASTS);
        if !knows_better && self.round_trips.is_long(now) {
            self.thin = Some(ThinReason::Delay);
        }
        if loss.is_some_and(|loss| loss >= LOSS_HINT) || longer >= ROUND_TRIP_HINT {
            self.hint = Some(now);
        }
        self.judge_remb(now);
    }

    /// The viewer's estimate of what fits, and the stream's rate, both in bit/s.
    pub(super) fn on_remb(&mut self, remb: u64, stream_rate: u64, now: Instant) {
        self.low_remb = ((remb as f64) < stream_rate as f64 * LOW_REMB).then_some(now);
        if let State::Full { since } = self.state
            && now >= since + SETTLES
        {
            self.judge_remb(now);
        }
    }

    fn judge_remb(&mut self, now: Instant) {
        let recent = |at: Option<Instant>| at.is_some_and(|at| now < at + HINT_LASTS);
        // A viewer whose delays are known needs no such guess, and its REMB may be that of another time.
        let knows_better = self.last_arrival.is_some_and(|last| now < last + HINT_LASTS);
        if recent(self.low_remb) && recent(self.hint) && !knows_better {
            self.thin = Some(ThinReason::Bandwidth);
        }
    }

    /// Nothing was heard of what was sent, for too long.
    pub(super) fn on_silence(&mut self) {
        if !self.is_thinned() {
            self.thin = Some(ThinReason::Delay);
        }
    }

    /// What the path was last seen to carry, in bit/s, while it was thinned or when that began.
    pub(super) fn carries(&self) -> Option<u64> {
        self.carries
    }

    /// Whether the queue that is known of will be gone by then. `sent`: bytes that were sent to the viewer until now, modulo
    /// 2^32.
    pub(super) fn is_drained(&self, by: Instant, sent: u32) -> bool {
        let Some((left, queue)) = self.told else { return true };
        // Of a run of probe packets that the socket refused some may have been marked.
        let behind = u64::from((sent.wrapping_sub(left.bytes) as i32).max(0) as u32) * 8_000_000;
        let takes = Duration::from_micros(self.carries.map_or(0, |carries| behind / carries));
        by >= left.at + queue.saturating_add(takes).min(LONGEST_QUEUE)
    }

    /// The socket did not take a frame for this viewer.
    pub(super) fn on_refused(&mut self, now: Instant) {
        if now > self.refused.0 + REFUSAL_WINDOW {
            self.refused = (now, 0);
        }
        self.refused.1 += 1;
        if self.refused.1 >= REFUSED_FRAMES {
            self.thin = Some(ThinReason::Blocked);
        }
    }

    /// Something is on its way until then, beside which a probe would tell little. That is so for a while only: something
    /// may be on the way all the time.
    pub(super) fn hold(&mut self, until: Instant) {
        if let State::Thinned { next_try, due } = &mut self.state {
            *next_try = (*next_try).max(until.min(*due + LONGEST_HOLD));
        }
    }

    /// The viewer is reached by another path from now on.
    pub(super) fn on_new_path(&mut self) {
        self.delay = DelayWatch::default();
        self.round_trips = RoundTrips::default();
        (self.last_arrival, self.carries, self.told) = (None, None, None);
    }

    /// What is due; to be called after the others and a few times a second. `sent` as in [`Self::is_drained`].
    pub(super) fn poll(&mut self, sent: u32, now: Instant) -> Option<Step> {
        let (thin, drained) = (self.thin.take(), self.is_drained(now, sent));
        match &mut self.state {
            State::Full { since } => {
                let carried = now.saturating_duration_since(*since);
                if carried >= PROVEN {
                    self.failures = 0;
                }
                let reason = thin?;
                self.lossy = reason == ThinReason::Loss;
                self.carries = self.carries.filter(|_| reason == ThinReason::Delay);
                if self.failures > 0 && carried < TRIED {
                    self.failures += 1;
                } else {
                    self.failures = 1;
                }
                self.state = State::thinned(now + self.pause());
                Some(Step::Thin(reason))
            }
            State::Thinned { next_try, .. } if now >= *next_try && drained => {
                if self.probes {
                    self.state = State::Probing(Probe::new(now));
                    return Some(Step::Probe);
                }
                self.state = State::Ready { ask: now + ASK_AGAIN };
                Some(Step::Resume)
            }
            State::Thinned { .. } => None,
            State::Probing(probe) => match probe.verdict(now)? {
                Verdict::Carries => {
                    self.delay.rebase();
                    self.state = State::Ready { ask: now + ASK_AGAIN };
                    Some(Step::Resume)
                }
                Verdict::Fails => {
                    // A probe costs little, so the next one does not wait longer.
                    self.state = State::thinned(now + FIRST_TRY);
                    Some(Step::StopProbe)
                }
            },
            State::Ready { ask } if now >= *ask => {
                *ask = now + ASK_AGAIN;
                Some(Step::Resume)
            }
            State::Ready { .. } => None,
        }
    }

    /// The last packet of the probe has left (or there was nothing to probe with).
    pub(super) fn probe_sent(&mut self, packets: usize, now: Instant) {
        if let State::Probing(probe) = &mut self.state {
            if packets == 0 {
                self.state = State::Ready { ask: now };
            } else {
                probe.sent(packets, now);
            }
        }
    }

    /// A keyframe is about to be sent. Returns whether everything goes on with it.
    pub(super) fn on_keyframe(&mut self, now: Instant) -> bool {
        if matches!(self.state, State::Ready { .. }) {
            self.state = State::Full { since: now };
            (self.lossy_windows, self.hint, self.low_remb, self.thin, self.carries) = (0, None, None, None, None);
            self.refused = (now, 0);
            self.round_trips.forget_long();
            return true;
        }
        false
    }

    fn pause(&self) -> Duration {
        let first = if self.probes { FIRST_TRY } else { FIRST_BLIND_TRY };
        first.saturating_mul(1 << self.failures.saturating_sub(1).min(6)).min(LAST_TRY)
    }
}

/// Round trips of receiver reports.
#[derive(Debug, Default)]
struct RoundTrips {
    /// The shortest of the last period and of this one, and when this one began.
    base: Option<(Duration, Duration, Instant)>,
    longer: Duration,
    /// All were long since then.
    long_since: Option<Instant>,
}

impl RoundTrips {
    /// By how much it is longer than the shortest.
    fn on_round_trip(&mut self, round_trip: Duration, now: Instant) -> Duration {
        let (last, current, since) = self.base.unwrap_or((round_trip, round_trip, now));
        let base = match now.saturating_duration_since(since) > ROUND_TRIP_PERIOD {
            true => (current, round_trip, now),
            false => (last, current.min(round_trip), since),
        };
        self.base = Some(base);
        self.longer = round_trip.saturating_sub(base.0.min(base.1));
        self.long_since = (self.longer >= ROUND_TRIP_LASTING).then(|| self.long_since.unwrap_or(now));
        self.longer
    }

    fn is_long(&self, now: Instant) -> bool {
        let lasts = |since| now.saturating_duration_since(since) >= ROUND_TRIP_LASTS;
        self.longer >= ROUND_TRIP_AT_ONCE || self.long_since.is_some_and(lasts)
    }

    fn forget_long(&mut self) {
        (self.longer, self.long_since) = (Duration::ZERO, None);
    }
}
