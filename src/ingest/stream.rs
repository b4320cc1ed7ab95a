//! One camera's stream: from accepted packets to frames, with the feedback that keeps it coming. Sans-IO.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::clock::StreamClock;
use crate::media::doctor::CodecReport;
use crate::media::pipeline::Pipeline;
use crate::media::receive::{Placed, Refused, TrackReceiver};
use crate::media::reorder::ReorderCounters;
use crate::media::rtcp::{RtcpBlock, blocks};
use crate::media::rtp::RtpPacket;
use crate::media::{Codec, Frame, FrameSink, MediaKind};
use crate::webrtc::feedback::{CameraFeedback, FeedbackHealth, FeedbackSettings, FeedbackWarning};

/// No RTP for this long is a stall (design §4).
pub(super) const STALL_AFTER: Duration = Duration::from_secs(3);
/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(500);

/// What a stream wants done.
pub(super) enum StreamOutput {
    /// A compound RTCP packet for the camera.
    Feedback(Vec<u8>),
    Stalled(Duration),
    Resumed,
    /// The feedback's state has changed.
    Warning(Option<FeedbackWarning>),
}

pub(super) struct Stream {
    tracks: [Track; 2],
    clock: StreamClock,
    feedback: CameraFeedback,
    /// Off only in tests of cameras: the counter-proof of the 30 s rule.
    feedback_enabled: bool,
    sink: Arc<dyn FrameSink>,
    next_tick: Instant,
    last_packet: Option<Instant>,
    /// What people want to see: once there was video, sound alone is a stall.
    last_video: Option<Instant>,
    stalled: bool,
    last_keyframe: Option<Instant>,
    warning: Option<FeedbackWarning>,
    outputs: VecDeque<StreamOutput>,
    /// Packets that may have been its camera's and were refused, before it was parked.
    pub(super) refused: u64,
    /// When it was asked to make room for others.
    pub(super) asked_to_yield: Option<Instant>,
    /// Scratch.
    frames: Vec<Frame>,
}

struct Track {
    receiver: TrackReceiver,
    pipeline: Pipeline,
}

impl Track {
    fn new(kind: MediaKind) -> Self {
        Self { receiver: TrackReceiver::new(), pipeline: Pipeline::new(kind) }
    }
}

/// Figures of a stream for the API.
pub(super) struct StreamFigures {
    pub(super) video: super::TrackStats,
    pub(super) audio: super::TrackStats,
    pub(super) last_packet: Option<Instant>,
    pub(super) last_keyframe: Option<Instant>,
    pub(super) last_feedback: Option<Instant>,
    pub(super) feedback_sent: u64,
    pub(super) plis_sent: u64,
    pub(super) nacks_sent: u64,
    pub(super) feedback_health: FeedbackHealth,
    pub(super) remb: u64,
    pub(super) profile_level_id: Option<String>,
    pub(super) codec: Option<Box<CodecReport>>,
    pub(super) reordering: ReorderCounters,
}

impl Stream {
    pub(super) fn new(
        settings: FeedbackSettings,
        feedback_enabled: bool,
        sink: Arc<dyn FrameSink>,
        now: Instant,
    ) -> Self {
        Self {
            tracks: [Track::new(MediaKind::Video), Track::new(MediaKind::Audio)],
            clock: StreamClock::default(),
            feedback: CameraFeedback::new(settings),
            feedback_enabled,
            sink,
            next_tick: now + TICK,
            last_packet: None,
            last_video: None,
            stalled: false,
            last_keyframe: None,
            warning: None,
            outputs: VecDeque::new(),
            refused: 0,
            asked_to_yield: None,
            frames: Vec::new(),
        }
    }

    /// A packet that the latch gave to this stream. `moved`: it is the first one from its address.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it is not forwarded, or not yet.
    pub(super) fn on_rtp(
        &mut self,
        codec: Codec,
        packet: &RtpPacket,
        moved: bool,
        now: Instant,
    ) -> Result<(), Refused> {
        let kind = codec.kind();
        let clock = &self.clock;
        let track = &mut self.tracks[kind.index()];
        let mut placed = match track.receiver.place(packet, codec, moved, &|| clock.expected(kind, now), now) {
            Ok(placed) => placed,
            Err(refused) => {
                if refused == Refused::Duplicate {
                    track.receiver.count_duplicate();
                    self.feedback.on_duplicate(packet, now);
                }
                return Err(refused);
            }
        };
        let confirmed = track.receiver.take_confirmed();
        let is_first = self.last_packet.is_none();
        self.last_packet = Some(now);
        if kind == MediaKind::Video {
            self.last_video = Some(now);
            self.refused = 0;
        }
        if (kind == MediaKind::Video || self.last_video.is_none()) && std::mem::take(&mut self.stalled) {
            self.outputs.push_back(StreamOutput::Resumed);
        }
        let restarted = placed.restarted;
        if let Some((first, placed_first)) = confirmed {
            self.forward(&first, placed_first, now);
            placed.restarted = false;
        }
        self.forward(packet, placed, now);
        self.emit(now);
        // What the camera sent before its reboot is of no use to what comes after it.
        if restarted && !is_first && kind == MediaKind::Video {
            self.feedback.request_keyframe(now);
        }
        Ok(())
    }

    fn forward(&mut self, packet: &RtpPacket, placed: Placed, now: Instant) {
        let kind = placed.codec.kind();
        if placed.restarted {
            self.clock.on_restart(kind);
        }
        self.feedback.on_rtp(placed.codec, packet, placed.restarted, now);
        let clock = self.clock.on_packet(placed.codec, placed.time, now);
        self.tracks[kind.index()].pipeline.push(packet, placed, clock, now, &mut self.frames);
    }

    /// The camera's own RTCP.
    pub(super) fn on_rtcp(&mut self, datagram: &[u8], now: Instant) {
        for block in blocks(datagram).map_while(Result::ok) {
            let RtcpBlock::SenderReport(info, _) = block else { continue };
            for kind in [MediaKind::Video, MediaKind::Audio] {
                let track = &self.tracks[kind.index()];
                if track.receiver.ssrc() != Some(info.ssrc) {
                    continue;
                }
                if let Some(rtp) = track.receiver.continuous_time(info.rtp_time) {
                    self.clock.on_sender_report(kind, info.ntp, rtp, now);
                }
            }
        }
        self.feedback.on_rtcp(datagram, now);
    }

    pub(super) fn request_keyframe(&mut self, now: Instant) {
        self.feedback.request_keyframe(now);
    }

    /// The camera has restarted, or was told to stop.
    pub(super) fn interrupted(&mut self) {
        self.feedback.interrupted();
    }

    /// The last feedback did not leave.
    pub(super) fn on_send_failed(&mut self) {
        self.feedback.on_send_failed();
    }

    pub(super) fn set_viewer_limit(&mut self, bits_per_second: Option<u64>) {
        self.feedback.set_viewer_limit(bits_per_second);
    }

    pub(super) fn poll_timeout(&mut self) -> Instant {
        let pipelines = self.tracks.iter().filter_map(|track| track.pipeline.poll_timeout());
        let feedback = if self.feedback_enabled { self.feedback.poll_timeout() } else { None };
        pipelines.chain(feedback).fold(self.next_tick, Instant::min)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for track in &mut self.tracks {
            track.pipeline.handle_timeout(now, &mut self.frames);
        }
        self.emit(now);
        if self.feedback_enabled {
            while let Some(compound) = self.feedback.poll_datagram(now) {
                self.outputs.push_back(StreamOutput::Feedback(compound));
            }
        }
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let warning = self.feedback.health(now).warning;
        if warning != self.warning {
            self.warning = warning;
            self.outputs.push_back(StreamOutput::Warning(warning));
        }
        let last = self.last_video.or(self.last_packet);
        let silence = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if silence >= STALL_AFTER && !self.stalled {
            self.stalled = true;
            self.feedback.request_keyframe(now);
            self.outputs.push_back(StreamOutput::Stalled(silence));
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<StreamOutput> {
        self.outputs.pop_front()
    }

    pub(super) fn figures(&mut self, now: Instant) -> StreamFigures {
        let [video, audio] = &mut self.tracks;
        let counters = self.feedback.counters();
        StreamFigures {
            video: video.receiver.figures(now).into(),
            audio: audio.receiver.figures(now).into(),
            last_packet: self.last_packet,
            last_keyframe: self.last_keyframe,
            last_feedback: self.feedback.last_sent(),
            feedback_sent: counters.compounds,
            plis_sent: counters.plis + counters.firs,
            nacks_sent: counters.nacks,
            feedback_health: self.feedback.health(now),
            remb: self.feedback.bitrate(),
            profile_level_id: video.pipeline.profile().map(|profile| profile.to_string()),
            codec: video.pipeline.codec().map(Box::new),
            reordering: video.pipeline.reordering(),
        }
    }

    fn emit(&mut self, now: Instant) {
        for frame in self.frames.drain(..) {
            if frame.starts_keyframe {
                self.last_keyframe = Some(now);
                self.feedback.on_keyframe(now);
            }
            self.sink.push(Arc::new(frame));
        }
    }
}

impl From<crate::media::receive::ReceiveFigures> for super::TrackStats {
    fn from(figures: crate::media::receive::ReceiveFigures) -> Self {
        Self {
            packets: figures.packets,
            bytes: figures.bytes,
            lost: figures.lost,
            duplicates: figures.duplicates,
            jitter_ms: figures.jitter.as_secs_f64() * 1_000.0,
            bitrate: figures.bitrate,
            codec: figures.codec,
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
