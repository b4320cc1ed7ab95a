//! Sorts what arrives on the camera ports: which stream, which track, or why not. Sans-IO.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::handle::{IngestEvent, IngestStats, OpenError, OpenStream};
use super::stream::{Stream, StreamOutput};
use crate::base::{StreamId, Timers};
use crate::media::latch::{Latch, Slot, Unlatched};
use crate::media::receive::Refused;
use crate::media::rtcp::blocks;
use crate::media::rtp::{DatagramKind, RtpPacket, classify};
use crate::media::{MediaKind, Ssrc};
use crate::webrtc::feedback::FeedbackSettings;

/// Payload types of the SDP in `play` (contract §3).
const VIDEO_PAYLOAD_TYPE: u8 = 103;
const OPUS_PAYLOAD_TYPE: u8 = 96;
const CNAME: &str = "honeycast";

/// Why a datagram on a camera port was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Neither RTP nor RTCP by its first bytes.
    NotRtp,
    /// RTP that breaks RFC 3550 §5.1.
    MalformedRtp,
    /// RTCP that breaks RFC 3550 §6.
    MalformedRtcp,
    /// A payload type that the SDP did not offer, or that is not forwarded.
    PayloadType,
    /// A source that no stream expects.
    Unexpected,
    /// A source that more than one stream could mean.
    Ambiguous,
    /// Another live source holds the place.
    SlotTaken,
    /// A packet that was received before.
    Duplicate,
    /// A jump in the sequence that the next packet did not confirm.
    Probation,
}

impl DropReason {
    /// Every reason, in the order of its counter.
    pub const ALL: [Self; 9] = [
        Self::NotRtp,
        Self::MalformedRtp,
        Self::MalformedRtcp,
        Self::PayloadType,
        Self::Unexpected,
        Self::Ambiguous,
        Self::SlotTaken,
        Self::Duplicate,
        Self::Probation,
    ];
}

impl From<Unlatched> for DropReason {
    fn from(reason: Unlatched) -> Self {
        match reason {
            Unlatched::Unexpected => Self::Unexpected,
            Unlatched::Ambiguous => Self::Ambiguous,
            Unlatched::SlotTaken => Self::SlotTaken,
        }
    }
}

impl From<Refused> for DropReason {
    fn from(reason: Refused) -> Self {
        match reason {
            Refused::Duplicate => Self::Duplicate,
            Refused::Probation => Self::Probation,
        }
    }
}

/// Datagrams dropped so far, by reason.
#[derive(Debug, Default)]
pub struct DropCounters([AtomicU64; DropReason::ALL.len()]);

impl DropCounters {
    /// How many were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    fn add(&self, reason: DropReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Sources remembered whose packets were refused.
const MAX_REFUSED: usize = 16;

/// A source whose RTP or RTCP was refused because it belongs to no stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSource {
    /// Its address.
    pub source: SocketAddr,
    /// When the last packet was dropped.
    pub last_seen: SystemTime,
    /// Why it was.
    pub reason: DropReason,
    /// The open stream that the source comes nearest to, if any.
    pub nearest: Option<StreamId>,
}

/// All streams behind the camera ports.
pub(super) struct Intake {
    ssrc: Ssrc,
    feedback_enabled: bool,
    latch: Latch<StreamId>,
    streams: HashMap<StreamId, Stream>,
    timers: Timers<StreamId>,
    drops: Arc<DropCounters>,
    /// The last heard one at the end, each once; at most [`MAX_REFUSED`].
    refused: VecDeque<(SocketAddr, DropReason, Instant)>,
    datagrams: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<IngestEvent>,
}

impl Intake {
    /// `ssrc` is ours in RTCP. Without `feedback_enabled` cameras get no RTCP at all.
    pub(super) fn new(ssrc: Ssrc, feedback_enabled: bool) -> Self {
        Self {
            ssrc,
            feedback_enabled,
            latch: Latch::default(),
            streams: HashMap::new(),
            timers: Timers::default(),
            drops: Arc::default(),
            refused: VecDeque::with_capacity(MAX_REFUSED),
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn drops(&self) -> Arc<DropCounters> {
        self.drops.clone()
    }

    pub(super) fn open(&mut self, open: OpenStream, now: Instant) -> Result<(), OpenError> {
        if self.streams.contains_key(&open.stream) {
            return Err(OpenError::AlreadyOpen);
        }
        let settings = FeedbackSettings { ssrc: self.ssrc, cname: CNAME.to_owned(), bitrate_range: open.bitrate_range };
        let stream = Stream::new(settings, self.feedback_enabled, open.sink, now);
        self.latch.open(open.stream, open.expected_ip);
        self.streams.insert(open.stream, stream);
        self.rearm(open.stream);
        Ok(())
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        self.latch.close(stream);
        self.streams.remove(&stream);
        self.timers.set(stream, None);
    }

    pub(super) fn expect(&mut self, stream: StreamId, ip: IpAddr) {
        self.latch.expect(stream, ip);
    }

    pub(super) fn request_keyframe(&mut self, id: StreamId, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.request_keyframe(now);
            self.rearm(id);
        }
    }

    /// One datagram from any camera port. Returns why it was dropped, if it was.
    pub(super) fn on_datagram(&mut self, source: SocketAddr, datagram: Bytes, now: Instant) -> Result<(), DropReason> {
        let result = match classify(&datagram) {
            DatagramKind::Rtp => self.on_rtp(source, datagram, now),
            DatagramKind::Rtcp => self.on_rtcp(source, &datagram, now),
            DatagramKind::Other => Err(DropReason::NotRtp),
        };
        if let Err(reason) = result {
            self.drops.add(reason);
            if matches!(reason, DropReason::Unexpected | DropReason::Ambiguous | DropReason::SlotTaken) {
                self.refuse(source, reason, now);
            }
        }
        result
    }

    fn refuse(&mut self, source: SocketAddr, reason: DropReason, now: Instant) {
        if let Some(known) = self.refused.iter().rposition(|(other, ..)| *other == source) {
            self.refused.remove(known);
        } else if self.refused.len() >= MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back((source, reason, now));
    }

    /// Sources refused lately, the last heard one first; `wall` is the system time at `now`.
    pub(super) fn refused(&self, now: Instant, wall: SystemTime) -> Vec<RefusedSource> {
        let wall_time =
            |at: Instant| wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(SystemTime::UNIX_EPOCH);
        let shown = |&(source, reason, at): &(SocketAddr, DropReason, Instant)| RefusedSource {
            source,
            last_seen: wall_time(at),
            reason,
            nearest: None,
        };
        self.refused.iter().rev().map(shown).collect()
    }

    fn on_rtp(&mut self, source: SocketAddr, datagram: Bytes, now: Instant) -> Result<(), DropReason> {
        let packet = RtpPacket::parse(datagram).map_err(|_| DropReason::MalformedRtp)?;
        let kind = match packet.payload_type() {
            VIDEO_PAYLOAD_TYPE => MediaKind::Video,
            OPUS_PAYLOAD_TYPE => MediaKind::Audio,
            _ => return Err(DropReason::PayloadType),
        };
        let latched = self.latch.accept(source, kind.into(), now)?;
        if latched.new && kind == MediaKind::Video {
            self.events.push_back(IngestEvent::MediaStarted { stream: latched.stream, source });
        }
        if let Some(stream) = self.streams.get_mut(&latched.stream) {
            let placed = stream.on_rtp(kind, &packet, now);
            self.after(latched.stream);
            placed?;
        }
        Ok(())
    }

    fn on_rtcp(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
        // A source is pinned only by RTCP that is well-formed from end to end.
        if blocks(datagram).any(|block| block.is_err()) {
            return Err(DropReason::MalformedRtcp);
        }
        let latched = self.latch.accept(source, Slot::Rtcp, now)?;
        if let Some(stream) = self.streams.get_mut(&latched.stream) {
            stream.on_rtcp(datagram, now);
            self.after(latched.stream);
        }
        Ok(())
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.expired(now) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.handle_timeout(now);
                self.after(id);
            }
        }
    }

    /// The next datagram to send to a camera. Destinations come from the latch and from nowhere else.
    pub(super) fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.datagrams.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<IngestEvent> {
        self.events.pop_front()
    }

    /// Figures of a stream; `wall` is the system time at `now`.
    pub(super) fn stats(&mut self, id: StreamId, now: Instant, wall: SystemTime) -> Option<IngestStats> {
        let figures = self.streams.get_mut(&id)?.figures(now);
        let wall_time = |at: Instant| wall.checked_sub(now.saturating_duration_since(at));
        Some(IngestStats {
            video: figures.video,
            audio: figures.audio,
            video_source: self.latch.source(id, Slot::Video),
            audio_source: self.latch.source(id, Slot::Audio),
            rtcp_source: self.latch.source(id, Slot::Rtcp),
            last_packet: figures.last_packet.and_then(wall_time),
            last_keyframe: figures.last_keyframe.and_then(wall_time),
            feedback_sent: figures.feedback_sent,
            last_feedback: figures.last_feedback.and_then(wall_time),
            remb: figures.remb,
            plis_sent: figures.plis_sent,
            profile_level_id: figures.profile_level_id,
        })
    }

    /// Collects what a stream wants done, and when it wants to be asked again.
    fn after(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        while let Some(output) = stream.poll_output() {
            match output {
                StreamOutput::Feedback(compound) => {
                    let targets = self.latch.rtcp_destinations(id);
                    self.datagrams.extend(targets.map(|to| (to, compound.clone())));
                }
                StreamOutput::Stalled(silence) => {
                    self.events.push_back(IngestEvent::MediaStalled { stream: id, silence });
                }
                StreamOutput::Resumed => self.events.push_back(IngestEvent::MediaResumed { stream: id }),
            }
        }
        self.rearm(id);
    }

    fn rearm(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.timers.set(id, Some(stream.poll_timeout()));
        }
    }
}

#[cfg(test)]
mod tests;
