//! The camera itself: is told messages, RTCP and time, says what to send and when to be told the time again.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::clip::Quality;
use super::faults::{Line, Transmit};
use super::feedback::Feedback;
use super::play::{Command, Kind, Target, parse};
use super::report::SimReport;
use super::settings::{CameraSettings, FaultSettings, SimSettings};
use super::stream::Stream;
use crate::base::{CameraId, StreamId};

/// Keeps the line's randomness apart from that of the numbers.
const LINE_SEED: u64 = 0x6c69_6e65;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Stop,
    NoFeedback,
    NoKeepalive,
    Reboot,
}

impl Ended {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::NoFeedback => "no_feedback",
            Self::NoKeepalive => "no_keepalive",
            Self::Reboot => "reboot",
        }
    }
}

#[derive(Debug)]
pub(super) struct Camera {
    id: CameraId,
    behaviour: CameraSettings,
    faults: FaultSettings,
    rng: Xoshiro256PlusPlus,
    /// One instant on both clocks.
    booted: (Instant, SystemTime),
    /// Whether the broker can be reached; the driver keeps it.
    pub(super) connected: bool,
    stream: Option<Stream>,
    reboot_at: Option<Instant>,
    rebooted: bool,
    out: Outbox,
    feedback: Feedback,
    /// What is left to tell of the last stream.
    last: Last,
    counters: Counters,
    last_refusal: Option<String>,
}

#[derive(Debug)]
struct Last {
    stream: Option<StreamId>,
    lasted: Duration,
    ended: Option<Ended>,
    quality: Quality,
    frame: Option<usize>,
}

#[derive(Debug, Default)]
struct Counters {
    plays: u64,
    plays_refused: u64,
    stops: u64,
    keepalives: u64,
    keepalive_gaps: u64,
    rtp_received: u64,
}

impl Camera {
    /// A camera that was switched on at `now`.
    pub(super) fn new(settings: &SimSettings, now: Instant, wall: SystemTime) -> Self {
        let faults = settings.faults.clone();
        let line = Line::new(settings.seed ^ LINE_SEED, faults.loss_percent, faults.reorder_percent);
        Self {
            id: settings.camera,
            behaviour: settings.behaviour.clone(),
            faults,
            rng: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            booted: (now, wall),
            connected: false,
            stream: None,
            reboot_at: None,
            rebooted: false,
            out: Outbox::new(now, line),
            feedback: Feedback::new(),
            last: Last { stream: None, lasted: Duration::ZERO, ended: None, quality: Quality::Hd, frame: None },
            counters: Counters::default(),
            last_refusal: None,
        }
    }

    /// A message came on one of the camera's topics.
    pub(super) fn on_message(&mut self, now: Instant, kind: Kind, payload: &[u8]) {
        match parse(kind, self.id, payload) {
            Ok(Command::Play { stream, target }) => self.play(now, stream, *target),
            Ok(Command::Keepalive { stream, count }) => {
                // Those for other streams are stragglers.
                if let Some(running) = self.stream.as_mut().filter(|running| running.id == stream) {
                    self.counters.keepalives += 1;
                    self.counters.keepalive_gaps += running.on_keepalive(now, count);
                }
            }
            Ok(Command::Stop { stream }) => {
                if self.stream.as_ref().is_some_and(|running| running.id == stream) {
                    self.counters.stops += 1;
                    self.end(now, Ended::Stop);
                }
            }
            Err(refusal) => {
                tracing::warn!(camera = %self.id, message = kind.name(), %refusal, "message refused");
                self.counters.plays_refused += u64::from(kind == Kind::Play);
                self.last_refusal = Some(refusal.to_string());
            }
        }
    }

    fn play(&mut self, now: Instant, id: StreamId, target: Target) {
        self.counters.plays += 1;
        if let Some(running) = self.stream.as_mut().filter(|running| running.id == id) {
            if running.target != target {
                tracing::info!(camera = %self.id, to = %target.video.rtp, "streams to another address");
                running.retarget(target);
            }
            return;
        }
        tracing::info!(camera = %self.id, stream = %id, to = %target.video.rtp, "streams");
        self.feedback = Feedback::new();
        self.last.ended = None;
        self.stream = Some(Stream::new(now, id, target, &self.behaviour, &mut self.rng));
        if !self.rebooted && self.reboot_at.is_none() {
            self.reboot_at = self.faults.reboot_after.map(|after| now + after);
        }
    }

    /// RTCP came, on whichever socket.
    pub(super) fn on_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        stream.on_rtcp(now);
        let wishes = self.feedback.on_rtcp(now, datagram, stream.target.video.ssrc);
        if let Some(bitrate) = wishes.bitrate.filter(|_| self.behaviour.follow_remb) {
            stream.follow(bitrate);
        }
        if wishes.keyframe && self.behaviour.honour_pli {
            stream.hurry();
        }
        if self.behaviour.answer_nack && !self.faults.silent {
            stream.resend(now, &wishes.resend, &mut self.out);
        }
    }

    /// RTP came: talk-back, which this camera has no loudspeaker for.
    pub(super) fn on_rtp(&mut self) {
        self.counters.rtp_received += 1;
    }

    /// Does all that is due at `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some((_, reason)) = self.stream_limit().filter(|(at, _)| *at <= now) {
            self.end(now, reason);
        }
        let wall = self.booted.1 + now.saturating_duration_since(self.booted.0);
        let Some(stream) = self.stream.as_mut().filter(|_| !self.faults.silent) else { return };
        let before = self.out.video_packets;
        stream.advance(now, wall, &mut self.out);
        if self.out.video_packets > before {
            self.feedback.on_sent(now);
        }
    }

    /// The next datagram to send.
    pub(super) fn transmit(&mut self) -> Option<Transmit> {
        self.out.queue.pop_front()
    }

    /// When [`Self::advance`] is to be called again, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let media = self.stream.as_ref().filter(|_| !self.faults.silent).map(Stream::deadline);
        let limit = self.stream_limit().map(|(at, _)| at);
        [media, limit, self.reboot_at].into_iter().flatten().min()
    }

    /// Whether it is time to call [`Self::reboot`].
    pub(super) fn reboot_due(&self, now: Instant) -> bool {
        self.reboot_at.is_some_and(|at| at <= now)
    }

    /// Forgets what it was doing. Whoever drives it takes its sockets and its link away.
    pub(super) fn reboot(&mut self, now: Instant) {
        tracing::info!(camera = %self.id, "reboots");
        self.reboot_at = None;
        self.rebooted = true;
        self.end(now, Ended::Reboot);
        self.out.queue.clear();
        self.connected = false;
    }

    /// When the stream ends by itself, and why.
    fn stream_limit(&self) -> Option<(Instant, Ended)> {
        let stream = self.stream.as_ref()?;
        let limit = |wait: Option<Duration>, last: Option<Instant>, reason| {
            wait.map(|wait| (last.unwrap_or(stream.started) + wait, reason))
        };
        let feedback = limit(self.behaviour.stop_without_feedback, self.feedback.last(), Ended::NoFeedback);
        let keepalive = limit(self.behaviour.stop_without_keepalive, stream.last_keepalive, Ended::NoKeepalive);
        [feedback, keepalive].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn end(&mut self, now: Instant, reason: Ended) {
        let Some(stream) = self.stream.take() else { return };
        tracing::info!(camera = %self.id, stream = %stream.id, reason = reason.name(), "streams no more");
        self.last = Last {
            stream: Some(stream.id),
            lasted: now.saturating_duration_since(stream.started),
            ended: Some(reason),
            quality: stream.quality(),
            frame: stream.shown(),
        };
        self.out.line.clear();
    }

    /// What there is to tell at `now`.
    pub(super) fn report(&self, now: Instant) -> SimReport {
        let (stream, out, counters) = (self.stream.as_ref(), &self.out, &self.counters);
        let lasted = |stream: &Stream| now.saturating_duration_since(stream.started);
        SimReport {
            camera_id: self.id,
            elapsed_seconds: now.saturating_duration_since(self.booted.0).as_secs_f64(),
            mqtt_connected: self.connected,
            streaming: stream.is_some(),
            streaming_seconds: stream.map_or(self.last.lasted, lasted).as_secs_f64(),
            stream_id: stream.map(|stream| stream.id).or(self.last.stream),
            stopped_reason: self.last.ended.map(Ended::name),
            last_refusal: self.last_refusal.clone(),
            packets_sent: out.video_packets,
            bytes_sent: out.bytes,
            audio_packets_sent: out.audio_packets,
            packets_resent: out.resent,
            rtp_received: counters.rtp_received,
            video_kbps: out.meter.kbps(now),
            clip: stream.map_or(self.last.quality, Stream::quality).name(),
            frame: stream.map_or(self.last.frame, Stream::shown),
            keepalives: counters.keepalives,
            keepalive_gaps: counters.keepalive_gaps,
            feedback: self.feedback.report(now),
            loss_reported: self.feedback.loss(),
            plays: counters.plays,
            plays_refused: counters.plays_refused,
            stops: counters.stops,
        }
    }
}

/// What waits to be sent, and what was. The driver empties it after every call.
#[derive(Debug)]
pub(super) struct Outbox {
    line: Line,
    queue: VecDeque<Transmit>,
    video_packets: u64,
    audio_packets: u64,
    resent: u64,
    bytes: u64,
    meter: Meter,
}

impl Outbox {
    fn new(now: Instant, line: Line) -> Self {
        let meter = Meter { since: now, bytes: 0, last: 0 };
        Self { line, queue: VecDeque::new(), video_packets: 0, audio_packets: 0, resent: 0, bytes: 0, meter }
    }

    pub(super) fn video(&mut self, now: Instant, packet: Transmit) {
        self.video_packets += 1;
        self.meter.add(now, packet.bytes.len());
        self.media(packet);
    }

    pub(super) fn resent(&mut self, now: Instant, packet: Transmit) {
        self.resent += 1;
        self.meter.add(now, packet.bytes.len());
        self.media(packet);
    }

    pub(super) fn audio(&mut self, packet: Transmit) {
        self.audio_packets += 1;
        self.media(packet);
    }

    pub(super) fn rtcp(&mut self, packet: Transmit) {
        self.queue.push_back(packet);
    }

    fn media(&mut self, packet: Transmit) {
        self.bytes += packet.bytes.len() as u64;
        self.line.pass(packet, &mut self.queue);
    }
}

/// Bytes in whole seconds.
#[derive(Debug, Clone, Copy)]
struct Meter {
    since: Instant,
    bytes: u64,
    last: u64,
}

impl Meter {
    fn add(&mut self, now: Instant, bytes: usize) {
        self.roll(now);
        self.bytes += bytes as u64;
    }

    fn kbps(mut self, now: Instant) -> u64 {
        self.roll(now);
        self.last * 8 / 1000
    }

    fn roll(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            self.last = if seconds == 1 { self.bytes } else { 0 };
            self.bytes = 0;
            self.since += Duration::from_secs(seconds);
        }
    }
}

#[cfg(test)]
#[path = "camera_tests.rs"]
mod tests;
