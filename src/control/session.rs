//! The state machine of one camera session, sans-IO: what happened and when comes in, what to do comes out.
//!
//! ```text
//! starting ──play acknowledged──▶ active ──stop──▶ stopping ──▶ stopped
//!     └──────── play failed ────────┴── no media in time, or silence for too long ──▶ error
//! ```

use std::time::{Duration, Instant};

use serde::Serialize;

use super::keepalive::Keepalive;
pub use super::watchdog::Media;
use super::watchdog::Watchdog;
use crate::ingest::PortPlan;

/// How long `stop` may take to be acknowledged before the session counts as stopped anyway.
pub const STOP_WAIT: Duration = Duration::from_secs(3);

/// `state` of the API (contract §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = StreamState)]
pub enum State {
    /// No session.
    Idle,
    /// `play` is on its way to the broker.
    Starting,
    /// The broker has acknowledged `play`, or media has arrived.
    Active,
    /// `stop` is on its way to the broker.
    Stopping,
    /// The session failed; the reason is known.
    Error,
    /// The session ended because somebody wanted it to.
    Stopped,
}

/// What `active` rests on: a published `play` is not yet a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActiveReason {
    /// The broker has acknowledged `play`; the camera has not sent anything yet.
    PlayPublished,
    /// RTP packets have arrived.
    Media,
}

/// What a failed session failed of; [`Session::error`] says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The camera ports could not be had.
    Ports,
    /// The broker did not take `play`.
    NotPublished,
    /// The camera never sent a packet.
    NeverAnswered,
    /// The camera sent, fell silent and stayed so.
    Silent,
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndCause {
    /// Somebody asked for it.
    Requested,
    /// Nobody watched for the idle timeout.
    Idle,
    /// Honeycast shuts down.
    Shutdown,
    /// The session failed.
    Failed,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The ingest expects the stream on these ports, or cannot.
    Opened(Result<PortPlan, String>),
    /// The broker has acknowledged `play`, or why not.
    PlayDone(Result<(), String>),
    /// The broker has acknowledged a keepalive, or why not.
    KeepaliveDone(Result<(), String>),
    /// The broker has acknowledged `stop`, or why not.
    StopDone(Result<(), String>),
    /// RTP packets arrive, for the first time or again.
    MediaFlows,
    /// None have for this long.
    MediaStalled(Duration),
    /// Others cannot be told from this camera, which shows nothing.
    ShouldYield,
    /// The ingest expects nothing for the stream any more.
    Parked,
    /// The ingest expects the parked stream again, on these ports, or cannot.
    Reopened(Result<PortPlan, String>),
    /// The camera has connected to the broker: it may have rebooted and forgotten the stream.
    CameraConnected,
    /// The broker can be reached again.
    BrokerConnected,
    /// So many viewers watch now.
    Viewers(usize),
    /// End the session.
    Stop(EndCause),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to the camera and report the result as the input of the same name.
    Publish(Command),
    /// The start has succeeded.
    Started,
    /// The start has failed; the reason in words.
    StartFailed(String),
    /// Let the ingest expect nothing for the stream, and report [`Input::Parked`] if it did.
    Park,
    /// Let the ingest expect the parked stream again when it can be told from all others, and report the result.
    Reopen,
    /// Close the stream at ingest and egress; viewers are told.
    Release(EndCause),
    /// The session is over.
    Ended,
}

/// A message to the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `play`, with the session's SDP.
    Play,
    /// `keepalive` with this count.
    Keepalive(u64),
    /// `stop`.
    Stop,
}

/// Times of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between keepalives (`KEEPALIVE_INTERVAL`).
    pub keepalive_interval: Duration,
    /// From `play` to the first RTP packet (`STREAM_START_TIMEOUT`).
    pub start_timeout: Duration,
    /// Without viewers until the session stops by itself (`STREAM_IDLE_TIMEOUT`); zero means never.
    pub idle_timeout: Duration,
    /// Silence of a camera that has sent before until the session is given up (`STREAM_GIVE_UP_AFTER`); zero
    /// means never.
    pub give_up_after: Duration,
}

/// One session of one camera.
#[derive(Debug)]
pub struct Session {
    timing: Timing,
    state: State,
    ports: Option<PortPlan>,
    failure: Option<(Failure, String)>,
    started: Instant,
    ended: Option<Instant>,
    /// When the broker had acknowledged the first `play`.
    acknowledged: Option<Instant>,
    stop_deadline: Option<Instant>,
    idle_since: Option<Instant>,
    watchdog: Watchdog,
    plays: u64,
    publish_errors: u64,
    last_error: Option<String>,
    keepalive: Keepalive,
}

impl Session {
    /// A session that has just begun: the caller opens the ingest and reports [`Input::Opened`].
    pub fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            state: State::Starting,
            ports: None,
            failure: None,
            started: now,
            ended: None,
            acknowledged: None,
            stop_deadline: None,
            idle_since: Some(now),
            watchdog: Watchdog::new(timing.start_timeout, timing.give_up_after, now),
            plays: 0,
            publish_errors: 0,
            last_error: None,
            keepalive: Keepalive::new(timing.keepalive_interval),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Opened(result) => self.on_opened(now, result, &mut actions),
            Input::PlayDone(result) => self.on_play_done(now, result, &mut actions),
            Input::KeepaliveDone(result) => {
                if let Err(reason) = &result {
                    self.note_error(reason);
                }
                self.keepalive.done(now, result);
            }
            Input::StopDone(result) => {
                if let Err(reason) = &result {
                    self.note_error(reason);
                }
                if self.state == State::Stopping {
                    self.end(now, State::Stopped, &mut actions);
                }
            }
            Input::MediaFlows => self.watchdog.flows(now),
            Input::MediaStalled(silence) => self.watchdog.stalls(now, silence),
            Input::ShouldYield => self.on_should_yield(now, &mut actions),
            Input::Parked if self.state == State::Active => {
                self.watchdog.park(now);
                actions.push(Action::Publish(Command::Stop));
            }
            Input::Reopened(Ok(ports)) if self.state == State::Active && self.watchdog.is_parked() => {
                self.ports = Some(ports);
                self.watchdog.unpark(now);
                self.play(now, &mut actions);
            }
            Input::Reopened(Err(_)) => self.watchdog.queue_again(now),
            Input::Parked | Input::Reopened(_) => {}
            Input::CameraConnected => self.watchdog.camera_connected(now),
            Input::BrokerConnected => {
                self.keepalive.hurry(now);
                self.watchdog.broker_back(now);
            }
            Input::Viewers(0) => self.idle_since = self.idle_since.or(Some(now)),
            Input::Viewers(_) => self.idle_since = None,
            Input::Stop(cause) => self.on_stop(now, cause, &mut actions),
        }
        self.on_time(now, &mut actions);
        actions
    }

    /// Tells that the time of [`Self::poll_at`] has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.on_time(now, &mut actions);
        actions
    }

    /// When [`Self::handle_timeout`] is due at the latest, `None` for never.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.state {
            State::Starting | State::Active => [
                self.keepalive.poll_at().filter(|_| !self.watchdog.is_parked()),
                self.watchdog.give_up_at(),
                self.watchdog.replay_due_at().filter(|_| self.state == State::Active),
                self.idle_deadline(),
            ]
            .into_iter()
            .flatten()
            .min(),
            State::Stopping => self.stop_deadline,
            State::Idle | State::Error | State::Stopped => None,
        }
    }

    /// Where the session is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What `active` rests on; `None` in every other state.
    pub fn active_reason(&self) -> Option<ActiveReason> {
        match (self.state, self.media()) {
            (State::Active, Media::Waiting) => Some(ActiveReason::PlayPublished),
            (State::Active, _) => Some(ActiveReason::Media),
            _ => None,
        }
    }

    /// Whether packets arrive.
    pub fn media(&self) -> Media {
        self.watchdog.media()
    }

    /// What looks after the packets.
    pub fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// How long the camera has been waited for, from the acknowledgement of the first `play` on.
    pub fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.acknowledged.unwrap_or(self.started))
    }

    /// In words what is wrong with the media of a running session.
    pub fn media_reason(&self, now: Instant) -> Option<String> {
        match (self.state, self.media()) {
            (State::Starting, Media::Waiting) => Some("play is on its way to the camera".into()),
            (State::Active, Media::Waiting | Media::Stalled(_)) if self.watchdog.is_parked() => {
                Some("cameras that cannot be told from each other are started one by one; this one waits".into())
            }
            (State::Active, Media::Waiting) => {
                let waited = self.waited(now).as_secs();
                Some(format!("waiting for the camera's first RTP packet, {waited} s after play"))
            }
            (State::Starting | State::Active, Media::Stalled(since)) => {
                let silence = now.saturating_duration_since(since).as_secs();
                Some(format!("no RTP packet from the camera for {silence} s"))
            }
            _ => None,
        }
    }

    /// Why the session failed, in words.
    pub fn error(&self) -> Option<&str> {
        self.failure.as_ref().map(|(_, reason)| reason.as_str())
    }

    /// Why the session failed.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.as_ref().map(|(failure, _)| *failure)
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When it ended, for whatever reason.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// The keepalives.
    pub fn keepalive(&self) -> &Keepalive {
        &self.keepalive
    }

    /// `play`s acknowledged by the broker.
    pub fn plays(&self) -> u64 {
        self.plays
    }

    /// Messages to the camera that could not be published, and why the last of them.
    pub fn publish_errors(&self) -> (u64, Option<&str>) {
        (self.publish_errors, self.last_error.as_deref())
    }

    fn is_running(&self) -> bool {
        matches!(self.state, State::Starting | State::Active)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.idle_since.filter(|_| !self.timing.idle_timeout.is_zero()).map(|since| since + self.timing.idle_timeout)
    }

    fn note_error(&mut self, reason: &str) {
        self.publish_errors += 1;
        self.last_error = Some(reason.to_owned());
    }

    fn on_opened(&mut self, now: Instant, result: Result<PortPlan, String>, actions: &mut Vec<Action>) {
        if self.state != State::Starting || self.ports.is_some() {
            return;
        }
        match result {
            Ok(ports) => {
                self.ports = Some(ports);
                self.play(now, actions);
            }
            Err(reason) => {
                actions.push(Action::StartFailed(reason.clone()));
                self.fail(now, Failure::Ports, reason, actions);
            }
        }
    }

    fn play(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.watchdog.play_sent(now);
        actions.push(Action::Publish(Command::Play));
    }

    fn on_play_done(&mut self, now: Instant, result: Result<(), String>, actions: &mut Vec<Action>) {
        match &result {
            Ok(()) => self.plays += 1,
            Err(reason) => self.note_error(reason),
        }
        match (self.state, result) {
            // Packets prove that the camera has heard, whatever became of the acknowledgement.
            (State::Starting, result) if result.is_ok() || self.media() != Media::Waiting => {
                self.state = State::Active;
                self.acknowledged = Some(now);
                self.watchdog.started(now);
                self.keepalive.start(now);
                actions.push(Action::Started);
            }
            (State::Starting, Err(reason)) => {
                let reason = format!("play could not be published: {reason}");
                actions.push(Action::StartFailed(reason.clone()));
                // The broker may have passed it on without telling us.
                actions.push(Action::Publish(Command::Stop));
                self.fail(now, Failure::NotPublished, reason, actions);
            }
            (_, result) => self.watchdog.play_done(now, result.is_ok()),
        }
    }

    fn on_stop(&mut self, now: Instant, cause: EndCause, actions: &mut Vec<Action>) {
        if !self.is_running() {
            return;
        }
        self.keepalive.stop();
        if !self.watchdog.has_played() {
            actions.push(Action::Release(cause));
            self.end(now, State::Stopped, actions);
            return;
        }
        self.state = State::Stopping;
        self.stop_deadline = Some(now + STOP_WAIT);
        actions.push(Action::Publish(Command::Stop));
        actions.push(Action::Release(cause));
    }

    fn fail(&mut self, now: Instant, failure: Failure, reason: String, actions: &mut Vec<Action>) {
        self.failure = Some((failure, reason));
        self.keepalive.stop();
        actions.push(Action::Release(EndCause::Failed));
        self.end(now, State::Error, actions);
    }

    fn end(&mut self, now: Instant, state: State, actions: &mut Vec<Action>) {
        self.state = state;
        self.ended = Some(now);
        actions.push(Action::Ended);
    }

    fn on_time(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.state == State::Stopping && self.stop_deadline.is_some_and(|at| at <= now) {
            self.end(now, State::Stopped, actions);
        }
        if self.is_running() && self.watchdog.give_up_at().is_some_and(|at| at <= now) {
            self.give_up(now, actions);
        }
        if self.is_running() && self.idle_deadline().is_some_and(|at| at <= now) {
            self.on_stop(now, EndCause::Idle, actions);
        }
        if self.state != State::Active {
            return;
        }
        if self.watchdog.is_replay_due(now) {
            if self.watchdog.is_parked() {
                self.watchdog.queue();
                actions.push(Action::Reopen);
            } else {
                self.play(now, actions);
            }
        }
        // A camera that was told to stop has nothing to keep alive.
        if self.watchdog.is_parked() {
            return;
        }
        if let Some(count) = self.keepalive.take_due(now) {
            actions.push(Action::Publish(Command::Keepalive(count)));
        }
    }

    /// A camera that shows nothing makes room for those that cannot be told from it: it is told to stop, and to play
    /// again when its turn comes.
    fn on_should_yield(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.state != State::Active || !self.watchdog.may_yield(now) {
            return;
        }
        if self.watchdog.is_out_of_turns() {
            self.give_up(now, actions);
        } else {
            actions.push(Action::Park);
        }
    }

    fn give_up(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let seconds = self.timing.start_timeout.as_secs();
        let (failure, reason) = match (self.state, self.ports, self.media()) {
            (_, _, Media::Stalled(since)) => {
                let silence = now.saturating_duration_since(since).as_secs();
                let effort = match (self.watchdog.is_failing(), &self.last_error, self.watchdog.replays()) {
                    (true, Some(error), _) => format!(", and play could not be sent again: {error}"),
                    (_, _, 0) => String::new(),
                    _ => ", although play was sent again".into(),
                };
                (Failure::Silent, format!("camera fell silent: no RTP packet for {silence} s{effort}"))
            }
            (State::Active, Some(ports), _) => {
                let (video, audio) = (ports.video_rtp, ports.audio_rtp);
                let reason =
                    format!("camera never answered play: no RTP packet on UDP {video}/{audio} within {seconds} s");
                (Failure::NeverAnswered, reason)
            }
            (_, None, _) => (Failure::Ports, format!("the camera ports were not opened within {seconds} s")),
            _ => (Failure::NotPublished, format!("play was not acknowledged within {seconds} s")),
        };
        if self.state == State::Starting {
            actions.push(Action::StartFailed(reason.clone()));
        }
        if self.watchdog.has_played() {
            actions.push(Action::Publish(Command::Stop));
        }
        self.fail(now, failure, reason, actions);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
