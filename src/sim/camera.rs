//! The camera itself: is told messages, RTCP and time, says what to send and when to be told the time again.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::clip::Quality;
use super::faults::{Line, Transmit};
use super::feedback::Feedback;
use super::play::{Command, Destination, Kind, Target, parse};
use super::record::{Record, SentPicture};
use super::report::SimReport;
use super::settings::{Fault, Imitated, SimSettings};
use super::stream::{Marks, Stream};
use crate::base::StreamId;
use crate::media::{SeqNo, Ssrc};

/// Keeps the line's randomness apart from that of the numbers.
const LINE_SEED: u64 = 0x6c69_6e65;

/// The SSRCs of all cameras (contract §1).
const IMITATED_VIDEO: Ssrc = Ssrc(1_607_797_317);
const IMITATED_AUDIO: Ssrc = Ssrc(229_236_353);

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
    settings: SimSettings,
    rng: Xoshiro256PlusPlus,
    /// One instant on both clocks.
    booted: (Instant, SystemTime),
    /// Whether the broker can be reached; the driver keeps it.
    pub(super) connected: bool,
    stream: Option<Stream>,
    /// Messages, and when it does what they say.
    told: VecDeque<(Instant, Kind, Vec<u8>)>,
    /// What is still to befall it, the next first; `None` before the first stream.
    schedule: Option<VecDeque<(Instant, Fault)>>,
    /// What was asked for.
    asked: VecDeque<Fault>,
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
    marks: Marks,
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
        let quality = if settings.behaviour.small_picture { Quality::Sd } else { Quality::Hd };
        let marks = Marks::default();
        Self {
            settings: settings.clone(),
            rng: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            booted: (now, wall),
            connected: false,
            stream: None,
            told: VecDeque::new(),
            schedule: None,
            asked: VecDeque::new(),
            out: Outbox::new(now, Line::new(settings.seed ^ LINE_SEED, &settings.faults)),
            feedback: Feedback::new(),
            last: Last { stream: None, lasted: Duration::ZERO, ended: None, quality, frame: None, marks },
            counters: Counters::default(),
            last_refusal: None,
        }
    }

    /// A message came on one of the camera's topics.
    pub(super) fn on_message(&mut self, now: Instant, kind: Kind, payload: &[u8]) {
        let reaction = self.settings.behaviour.reaction;
        match reaction.is_zero() {
            true => self.obey(now, kind, payload),
            false => self.told.push_back((now + reaction, kind, payload.to_vec())),
        }
    }

    fn obey(&mut self, now: Instant, kind: Kind, payload: &[u8]) {
        match parse(kind, self.settings.camera, payload) {
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
                tracing::warn!(camera = %self.settings.camera, message = kind.name(), %refusal, "message refused");
                self.counters.plays_refused += u64::from(kind == Kind::Play);
                self.last_refusal = Some(refusal.to_string());
            }
        }
    }

    fn play(&mut self, now: Instant, id: StreamId, target: Target) {
        self.counters.plays += 1;
        if let Some(running) = self.stream.as_mut().filter(|running| running.id == id) {
            if running.target != target {
                tracing::info!(camera = %self.settings.camera, to = %target.video.rtp, "streams to another address");
                running.retarget(target);
            }
            return;
        }
        tracing::info!(camera = %self.settings.camera, stream = %id, to = %target.video.rtp, "streams");
        self.feedback = Feedback::new();
        self.last.ended = None;
        if let Some(before) = self.stream.take() {
            self.last.marks = before.next_marks();
        }
        self.stream = Some(Stream::new(now, id, target, &self.settings, self.last.marks, &mut self.rng));
        if self.schedule.is_none() {
            let mut schedule: Vec<_> =
                self.settings.faults.schedule.iter().map(|(after, fault)| (now + *after, *fault)).collect();
            schedule.sort_by_key(|(at, _)| *at);
            self.schedule = Some(schedule.into());
        }
    }

    /// Sends to somebody who has not asked for it, as the sources that a real camera would be.
    pub(super) fn imitate(&mut self, now: Instant, to: Imitated) {
        let destination = |rtp, ssrc| Destination { rtp, rtcp: to.rtcp, ssrc };
        let target = Target {
            video: destination(to.video, IMITATED_VIDEO),
            audio: destination(to.audio, IMITATED_AUDIO),
            cname: "imitator".to_owned(),
        };
        self.play(now, StreamId::random(), target);
    }

    /// RTCP came, on whichever socket.
    pub(super) fn on_rtcp(&mut self, now: Instant, datagram: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        stream.on_rtcp(now);
        let wishes = self.feedback.on_rtcp(now, datagram, stream.video_ssrc());
        if let Some(bitrate) = wishes.bitrate.filter(|_| self.settings.behaviour.follow_remb) {
            stream.follow(bitrate);
        }
        if wishes.keyframe && self.settings.behaviour.honour_pli {
            stream.hurry();
        }
        if self.settings.behaviour.answer_nack && !self.settings.faults.silent {
            stream.resend(now, &wishes.resend, &mut self.out);
        }
    }

    /// RTP came: talk-back, which this camera has no loudspeaker for.
    pub(super) fn on_rtp(&mut self) {
        self.counters.rtp_received += 1;
    }

    /// Does all that is due at `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some((_, kind, payload)) = self.told.pop_front_if(|(at, ..)| *at <= now) {
            self.obey(now, kind, &payload);
        }
        if let Some((_, reason)) = self.stream_limit().filter(|(at, _)| *at <= now) {
            self.end(now, reason);
        }
        self.out.line.arrive(now, &mut self.out.queue);
        let wall = self.booted.1 + now.saturating_duration_since(self.booted.0);
        let Some(stream) = self.stream.as_mut().filter(|_| !self.settings.faults.silent) else { return };
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
        let media = self.stream.as_ref().filter(|_| !self.settings.faults.silent).map(Stream::deadline);
        let limit = self.stream_limit().map(|(at, _)| at);
        let fault = self.schedule.iter().flatten().next().map(|(at, _)| *at);
        let told = self.told.front().map(|(at, ..)| *at);
        [media, limit, fault, told, self.out.line.deadline()].into_iter().flatten().min()
    }

    /// Lets something befall it as soon as the driver asks.
    pub(super) fn ask(&mut self, fault: Fault) {
        self.asked.push_back(fault);
    }

    /// What befalls it by `now`, if there is anything left. The camera has taken its part; sockets and link are
    /// its driver's.
    pub(super) fn next_fault(&mut self, now: Instant) -> Option<Fault> {
        let due = self.schedule.as_mut().and_then(|schedule| schedule.pop_front_if(|(at, _)| *at <= now));
        let fault = due.map(|(_, fault)| fault).or_else(|| self.asked.pop_front())?;
        tracing::info!(camera = %self.settings.camera, ?fault, "fault");
        match fault {
            Fault::Reboot => {
                self.end(now, Ended::Reboot);
                self.told.clear();
                self.out.queue.clear();
                self.connected = false;
            }
            Fault::ChangeSource => {
                if let Some(stream) = &mut self.stream {
                    stream.change_source(&mut self.rng);
                }
            }
            Fault::SwitchSound => {
                if let Some(stream) = &mut self.stream {
                    stream.switch_sound(&mut self.rng);
                }
            }
            Fault::Rebind | Fault::Move(_) => {}
        }
        Some(fault)
    }

    /// When the stream ends by itself, and why.
    fn stream_limit(&self) -> Option<(Instant, Ended)> {
        // An imitator goes on whatever it is told.
        let stream = self.stream.as_ref().filter(|_| self.settings.faults.imitate.is_none())?;
        let limit = |wait: Option<Duration>, last: Option<Instant>, reason| {
            wait.map(|wait| (last.unwrap_or(stream.started) + wait, reason))
        };
        let feedback = limit(self.settings.behaviour.stop_without_feedback, self.feedback.last(), Ended::NoFeedback);
        let keepalive =
            limit(self.settings.behaviour.stop_without_keepalive, stream.last_keepalive, Ended::NoKeepalive);
        [feedback, keepalive].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn end(&mut self, now: Instant, reason: Ended) {
        let Some(stream) = self.stream.take() else { return };
        tracing::info!(camera = %self.settings.camera, stream = %stream.id, reason = reason.name(), "streams no more");
        self.last = Last {
            stream: Some(stream.id),
            lasted: now.saturating_duration_since(stream.started),
            ended: Some(reason),
            quality: stream.quality(),
            frame: stream.shown(),
            marks: stream.next_marks(),
        };
        self.out.line.clear();
    }

    /// What became of its last pictures.
    pub(super) fn pictures(&self) -> Vec<SentPicture> {
        self.out.record.pictures()
    }

    /// What there is to tell at `now`.
    pub(super) fn report(&self, now: Instant) -> SimReport {
        let (stream, out, counters) = (self.stream.as_ref(), &self.out, &self.counters);
        let lasted = |stream: &Stream| now.saturating_duration_since(stream.started);
        SimReport {
            camera_id: self.settings.camera,
            elapsed_seconds: now.saturating_duration_since(self.booted.0).as_secs_f64(),
            mqtt_connected: self.connected,
            streaming: stream.is_some(),
            streaming_seconds: stream.map_or(self.last.lasted, lasted).as_secs_f64(),
            stream_id: stream.map(|stream| stream.id).or(self.last.stream),
            stopped_reason: self.last.ended.map(Ended::name),
            last_refusal: self.last_refusal.clone(),
            packets_sent: out.video_packets,
            packets_lost: out.video_lost,
            pictures_decodable: out.record.decodable(),
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
            mean_loss_reported: self.feedback.mean_loss(),
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
    pub(super) record: Record,
    video_packets: u64,
    video_lost: u64,
    audio_packets: u64,
    resent: u64,
    bytes: u64,
    meter: Meter,
}

impl Outbox {
    fn new(now: Instant, line: Line) -> Self {
        let meter = Meter { since: now, bytes: 0, last: 0 };
        Self {
            line,
            queue: VecDeque::new(),
            record: Record::default(),
            video_packets: 0,
            video_lost: 0,
            audio_packets: 0,
            resent: 0,
            bytes: 0,
            meter,
        }
    }

    pub(super) fn video(&mut self, now: Instant, seq: SeqNo, packet: Transmit) {
        self.video_packets += 1;
        self.meter.add(now, packet.bytes.len());
        if self.media(now, packet) {
            self.record.passed(now, seq);
        } else {
            self.video_lost += 1;
        }
    }

    pub(super) fn resent(&mut self, now: Instant, seq: SeqNo, packet: Transmit) {
        self.resent += 1;
        self.meter.add(now, packet.bytes.len());
        if self.media(now, packet) {
            self.record.passed(now, seq);
        }
    }

    pub(super) fn audio(&mut self, now: Instant, packet: Transmit) {
        self.audio_packets += 1;
        let _ = self.media(now, packet);
    }

    pub(super) fn rtcp(&mut self, packet: Transmit) {
        self.queue.push_back(packet);
    }

    /// Whether it gets through.
    fn media(&mut self, now: Instant, packet: Transmit) -> bool {
        self.bytes += packet.bytes.len() as u64;
        self.line.pass(now, packet, &mut self.queue)
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
