//! Looks after the packets of one session: when `play` is due again, and when the patience ends. Sans-IO.

use std::time::{Duration, Instant};

use crate::ingest::{LONGEST_TURN, MEMORY, TURN};

/// Silence after which `play` is sent again.
pub const REPLAY_AFTER: Duration = Duration::from_secs(10);
/// The gaps between further `play`s to a silent camera double up to this.
pub const LONGEST_REPLAY_GAP: Duration = Duration::from_secs(60);
/// A camera that reports itself several times in a row gets `play` no more often than this; it is also the first
/// pause after a `play` that could not be published.
pub const SHORTEST_REPLAY_GAP: Duration = Duration::from_secs(2);
/// A camera that was told to stop, because it could not be told from others, rests for this long before its next turn:
/// what it sent is forgotten by then ([`MEMORY`]), even if it took a moment to hear.
pub const REST: Duration = MEMORY.saturating_add(Duration::from_secs(1));
/// A camera that accepts no feedback stops 30 s after it began (contract §1), give or take what it takes to notice.
const STARVED: std::ops::RangeInclusive<Duration> = Duration::from_secs(25)..=Duration::from_secs(35);
/// Turns that a camera gets that has never answered.
pub const MAX_TURNS: u32 = 3;

/// Whether packets arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// None so far.
    Waiting,
    /// They do.
    Flowing,
    /// They did, until then.
    Stalled(Instant),
}

/// The watchdog of one session.
///
/// A silent camera gets `play` again 10 s after its last packet (or after the `play` before the first one), then
/// at gaps that double from 10 s to 60 s. Only a `play` that the broker has acknowledged widens the gap; one that
/// could not be published is tried again after 2 s, at gaps that double as well, and at once when the broker is back.
#[derive(Debug, Clone)]
pub struct Watchdog {
    start_timeout: Duration,
    give_up_after: Duration,
    media: Media,
    flowing_since: Option<Instant>,
    last_run: Option<Duration>,
    /// Runs in a row that were as long as those of a camera that no feedback reaches.
    starved_runs: u32,
    /// End of the patience with a camera that has not sent anything.
    patience_until: Instant,
    replay_at: Option<Instant>,
    /// `play`s acknowledged, and in a row not acknowledged, in the current silence.
    replays: u32,
    failures: u32,
    in_flight: bool,
    last_play: Option<Instant>,
    /// The camera was told to stop until its next turn.
    parked: bool,
    turns: u32,
}

impl Watchdog {
    /// Watches from `now` on. `start_timeout` is the patience with a camera that has never sent, `give_up_after`
    /// that with one that fell silent; zero means endless for the latter.
    pub fn new(start_timeout: Duration, give_up_after: Duration, now: Instant) -> Self {
        Self {
            start_timeout,
            give_up_after,
            media: Media::Waiting,
            flowing_since: None,
            last_run: None,
            starved_runs: 0,
            patience_until: now + start_timeout,
            replay_at: None,
            replays: 0,
            failures: 0,
            in_flight: false,
            last_play: None,
            parked: false,
            turns: 0,
        }
    }

    /// Whether packets arrive.
    pub fn media(&self) -> Media {
        self.media
    }

    /// How long packets arrived before the current silence; `None` while they do, or before the first.
    pub fn last_run(&self) -> Option<Duration> {
        self.last_run
    }

    /// How often in a row the camera has fallen silent about 30 s after it began, as it does without feedback, and
    /// had not restarted nor been told to stop.
    pub fn starved_runs(&self) -> u32 {
        self.starved_runs
    }

    /// `play`s that the broker took since the camera fell silent.
    pub fn replays(&self) -> u32 {
        self.replays
    }

    /// Whether the last `play` could not be published.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether `play` was ever sent.
    pub fn has_played(&self) -> bool {
        self.last_play.is_some()
    }

    /// Whether the camera was told to stop until its next turn.
    pub fn is_parked(&self) -> bool {
        self.parked
    }

    /// Whether the session can make room for others: its camera was told to play, had the time to answer, and did not,
    /// or not so that it could be told from others. The next turn is longer: the camera may be slow.
    pub fn may_yield(&self, now: Instant) -> bool {
        let answered = self.media == Media::Flowing || self.parked || self.in_flight;
        let turn = TURN.saturating_mul(self.turns.saturating_add(1)).min(LONGEST_TURN);
        !answered && self.last_play.is_some_and(|play| play + turn <= now)
    }

    /// Whether it has had all its turns.
    pub fn is_out_of_turns(&self) -> bool {
        self.media == Media::Waiting && self.turns >= MAX_TURNS
    }

    /// The camera is told to stop; its next turn begins after [`REST`].
    pub fn park(&mut self, now: Instant) {
        self.parked = true;
        self.starved_runs = 0;
        self.turns = self.turns.saturating_add(1);
        self.replay_at = Some(now + REST);
    }

    /// The next turn was asked for. It comes with [`Self::unpark`].
    pub fn queue(&mut self) {
        self.replay_at = None;
    }

    /// The turn that was asked for does not come; it is asked for again later.
    pub fn queue_again(&mut self, now: Instant) {
        if self.parked {
            self.replay_at = Some(now + REPLAY_AFTER);
        }
    }

    /// The turn has come: `play` is due, and its patience begins.
    pub fn unpark(&mut self, now: Instant) {
        self.parked = false;
        self.give_a_chance(now);
    }

    /// `play` goes out now. Its result goes to [`Self::play_done`].
    pub fn play_sent(&mut self, now: Instant) {
        self.in_flight = true;
        self.last_play = Some(now);
        self.replay_at = None;
    }

    /// The broker has acknowledged the session's first `play`: now it is the camera's turn.
    pub fn started(&mut self, now: Instant) {
        self.in_flight = false;
        self.patience_until = now + self.start_timeout;
        if self.media == Media::Waiting {
            self.schedule(now + REPLAY_AFTER);
        }
    }

    /// The broker has acknowledged a further `play`, or not.
    pub fn play_done(&mut self, now: Instant, published: bool) {
        self.in_flight = false;
        if self.media == Media::Flowing || self.parked {
            self.failures = 0;
            return;
        }
        if published {
            if std::mem::take(&mut self.failures) > 0 {
                self.give_a_chance(now);
            }
            self.schedule(now + doubled(REPLAY_AFTER, self.replays));
            self.replays = self.replays.saturating_add(1);
        } else {
            self.schedule(now + doubled(SHORTEST_REPLAY_GAP, self.failures));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Packets arrive, for the first time or again.
    pub fn flows(&mut self, now: Instant) {
        if self.parked {
            // Of a moment ago.
            return;
        }
        self.turns = 0;
        if self.media != Media::Flowing {
            self.flowing_since = Some(now);
        }
        self.media = Media::Flowing;
        self.last_run = None;
        self.replay_at = None;
        (self.replays, self.failures) = (0, 0);
    }

    /// No packet has arrived for `silence`.
    pub fn stalls(&mut self, now: Instant, silence: Duration) {
        if self.media != Media::Flowing {
            return;
        }
        let since = now.checked_sub(silence).unwrap_or(now);
        self.media = Media::Stalled(since);
        self.last_run = self.flowing_since.map(|start| since.saturating_duration_since(start));
        self.starved_runs = match self.last_run {
            Some(run) if STARVED.contains(&run) => self.starved_runs.saturating_add(1),
            _ => 0,
        };
        if !self.parked {
            self.schedule(since + REPLAY_AFTER);
        }
    }

    /// The camera has connected to the broker, perhaps after a reboot: `play` is due at once, and what it missed
    /// before counts no more.
    pub fn camera_connected(&mut self, now: Instant) {
        self.starved_runs = 0;
        let at = self.last_play.map_or(now, |last| now.max(last + SHORTEST_REPLAY_GAP));
        (self.replays, self.failures) = (0, 0);
        if !self.parked {
            self.schedule(at);
        }
        self.give_a_chance(at);
    }

    /// The broker can be reached again: what could not be published is due at once.
    pub fn broker_back(&mut self, now: Instant) {
        if self.failures > 0 && self.replay_at.is_some() && !self.parked {
            self.failures = 1;
            self.schedule(now);
        }
    }

    /// Whether `play` is due. If so, the caller sends it and says [`Self::play_sent`].
    pub fn is_replay_due(&self, now: Instant) -> bool {
        self.replay_due_at().is_some_and(|at| at <= now)
    }

    /// When `play` is due again, unless one is on its way.
    pub fn replay_due_at(&self) -> Option<Instant> {
        self.replay_at.filter(|_| !self.in_flight)
    }

    /// End of the patience with a silent camera; `None` while it sends, or for endless patience.
    pub fn give_up_at(&self) -> Option<Instant> {
        match self.media {
            // It can do nothing before its turn.
            Media::Waiting if self.parked => None,
            Media::Waiting => Some(self.patience_until),
            Media::Stalled(since) if !self.give_up_after.is_zero() => {
                Some((since + self.give_up_after).max(self.patience_until))
            }
            Media::Stalled(_) | Media::Flowing => None,
        }
    }

    fn schedule(&mut self, at: Instant) {
        self.replay_at = Some(self.replay_at.map_or(at, |other| other.min(at)));
    }

    /// A camera that comes back at the last moment still gets some time to answer.
    fn give_a_chance(&mut self, from: Instant) {
        self.patience_until = self.patience_until.max(from + self.start_timeout.min(REPLAY_AFTER));
    }
}

/// `gap`, doubled `times`, up to [`LONGEST_REPLAY_GAP`].
fn doubled(gap: Duration, times: u32) -> Duration {
    gap.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_REPLAY_GAP)
}
