//! Sorts what arrives on the camera ports: which stream, which track, or why not. Sans-IO.

mod drops;
mod opening;
mod pool;
mod refused;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

pub use self::drops::{DropCounters, DropReason};
pub use self::opening::OPEN_WAIT;
use self::opening::Opening;
use self::pool::PortPool;
use self::refused::Refusals;
pub use self::refused::RefusedSource;
use super::handle::{IngestEvent, IngestStats, OpenStream};
use super::stream::{Stream, StreamOutput};
use crate::base::{StreamId, Timers};
use crate::media::latch::{Arrival, Clue, Entrance, Expect, Latch, Latched, Refusal, RtcpClue, RtpClue, Slot};
use crate::media::rtcp::blocks;
use crate::media::rtp::{DatagramKind, RtpPacket, classify};
use crate::media::{Codec, MediaKind, Ssrc};
use crate::webrtc::feedback::FeedbackSettings;

/// Payload types of the SDP in `play` (contract §3).
const PAYLOAD_TYPES: [(u8, Codec); 3] = [(103, Codec::H264), (96, Codec::Opus), (0, Codec::Pcmu)];
const CNAME: &str = "honeycast";

/// The port of ours that a datagram arrived at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) entrance: Entrance,
    pub(super) port: u16,
}

/// A datagram for a camera. It leaves from the RTCP port of `entrance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) stream: StreamId,
    pub(super) entrance: Entrance,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Why a datagram was dropped, and the stream that it came nearest to.
type Dropped = (DropReason, Option<StreamId>);

/// All streams behind the camera ports.
pub(super) struct Intake {
    ssrc: Ssrc,
    feedback_enabled: bool,
    latch: Latch<StreamId>,
    streams: HashMap<StreamId, Stream>,
    pool: PortPool,
    /// Opens that wait until their stream can be told from the others, in order.
    opening: VecDeque<Opening>,
    /// Streams that nothing is expected for at present.
    parked: HashMap<StreamId, Expect>,
    next_admission: Option<Instant>,
    timers: Timers<StreamId>,
    drops: Arc<DropCounters>,
    refusals: Refusals,
    datagrams: VecDeque<Outgoing>,
    events: VecDeque<IngestEvent>,
}

impl Intake {
    /// `ssrc` is ours in RTCP. Without `feedback_enabled` cameras get no RTCP at all. `pool` port triples can be
    /// given to single streams.
    pub(super) fn new(ssrc: Ssrc, feedback_enabled: bool, pool: u16) -> Self {
        Self {
            ssrc,
            feedback_enabled,
            latch: Latch::default(),
            streams: HashMap::new(),
            pool: PortPool::new(pool),
            opening: VecDeque::new(),
            parked: HashMap::new(),
            next_admission: None,
            timers: Timers::default(),
            drops: Arc::default(),
            refusals: Refusals::default(),
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub(super) fn drops(&self) -> Arc<DropCounters> {
        self.drops.clone()
    }

    /// Sources whose packets were dropped; `wall` is the system time at `now`.
    pub(super) fn refused(&mut self, now: Instant, wall: SystemTime) -> Vec<RefusedSource> {
        self.refusals.list(now, wall)
    }

    fn begin(&mut self, open: OpenStream, expect: Expect, now: Instant) {
        let settings = FeedbackSettings { ssrc: self.ssrc, cname: CNAME.to_owned(), bitrate_range: open.bitrate_range };
        let stream = Stream::new(settings, self.feedback_enabled, open.sink, now);
        self.latch.open(open.stream, expect, now);
        self.streams.insert(open.stream, stream);
        self.rearm(open.stream);
    }

    /// Forgets a stream, or an open that still waits.
    pub(super) fn close(&mut self, stream: StreamId, now: Instant) {
        self.opening.retain(|opening| opening.id() != stream);
        self.discard(stream, now);
        self.admit(now);
    }

    fn discard(&mut self, stream: StreamId, now: Instant) {
        if let Some(Entrance::Own(index)) = self.latch.entrance(stream) {
            self.pool.release(index, now);
        }
        self.latch.close(stream, now);
        self.parked.remove(&stream);
        self.streams.remove(&stream);
        self.timers.set(stream, None);
    }

    pub(super) fn expect(&mut self, stream: StreamId, ip: IpAddr, now: Instant) {
        self.latch.expect(stream, ip, now);
        if let Some(parked) = self.parked.get_mut(&stream) {
            parked.announced = Some(ip);
        }
        for opening in self.opening.iter_mut().filter(|opening| opening.id() == stream) {
            opening.expect(ip);
        }
    }

    pub(super) fn camera_restarted(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.interrupted();
        }
    }

    pub(super) fn request_keyframe(&mut self, id: StreamId, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.request_keyframe(now);
            self.rearm(id);
        }
    }

    /// The viewers of a stream can use no more than this, in bit/s.
    pub(super) fn set_viewer_limit(&mut self, id: StreamId, bits_per_second: Option<u64>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.set_viewer_limit(bits_per_second);
            self.rearm(id);
        }
    }

    /// A datagram from [`Intake::poll_datagram`] could not be sent.
    pub(super) fn on_send_failed(&mut self, datagram: &Outgoing, now: Instant) {
        // Of several destinations the first one stands for all: they are ports of one address.
        if self.latch.rtcp_destinations(datagram.stream, now).next() == Some(datagram.to)
            && let Some(stream) = self.streams.get_mut(&datagram.stream)
        {
            stream.on_send_failed();
        }
    }

    /// One datagram from any camera port. Returns why it was dropped, if it was.
    pub(super) fn on_datagram(
        &mut self,
        source: SocketAddr,
        door: Door,
        datagram: Bytes,
        now: Instant,
    ) -> Result<(), DropReason> {
        let result = match classify(&datagram) {
            DatagramKind::Rtp => self.on_rtp(source, door, datagram, now),
            DatagramKind::Rtcp => self.on_rtcp(source, door, &datagram, now),
            DatagramKind::Other => Err((DropReason::NotRtp, None)),
        };
        result.map_err(|(reason, nearest)| {
            self.drops.add(reason);
            if reason.concerns_source() {
                let nearest = nearest.or_else(|| self.latch.owner(door.entrance, source));
                self.refusals.add((source, door.port), reason, nearest, now);
            }
            reason
        })
    }

    fn on_rtp(&mut self, source: SocketAddr, door: Door, datagram: Bytes, now: Instant) -> Result<(), Dropped> {
        let packet = RtpPacket::parse(datagram).map_err(|_| (DropReason::MalformedRtp, None))?;
        let codec = PAYLOAD_TYPES.iter().find(|(number, _)| *number == packet.payload_type()).map(|(_, codec)| *codec);
        let codec = codec.ok_or((DropReason::PayloadType, None))?;
        let kind = codec.kind();
        let clue = Clue::Rtp(RtpClue { ssrc: packet.ssrc(), timestamp: packet.timestamp() });
        let arrival = Arrival { source, entrance: door.entrance, slot: kind.into(), clue };
        let Latched { stream: id, new, waited } = self.latched(&arrival, door, now)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            if waited && kind == MediaKind::Video {
                // The keyframe that it began with was among the packets dropped meanwhile.
                stream.request_keyframe(now);
            }
            let placed = stream.on_rtp(codec, &packet, new, now);
            if new && kind == MediaKind::Video && placed.is_ok() {
                self.events.push_back(IngestEvent::MediaStarted { stream: id, source });
            }
            self.after(id, now);
            placed.map_err(|refused| (refused.into(), None))?;
        }
        Ok(())
    }

    fn on_rtcp(&mut self, source: SocketAddr, door: Door, datagram: &[u8], now: Instant) -> Result<(), Dropped> {
        // A source is pinned only by RTCP that is well-formed from end to end.
        if blocks(datagram).any(|block| block.is_err()) {
            return Err((DropReason::MalformedRtcp, None));
        }
        let clue = Clue::Rtcp(RtcpClue::of(datagram));
        let arrival = Arrival { source, entrance: door.entrance, slot: Slot::Rtcp, clue };
        let Latched { stream: id, .. } = self.latched(&arrival, door, now)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.on_rtcp(datagram, now);
            self.after(id, now);
        }
        Ok(())
    }

    fn latched(&mut self, arrival: &Arrival<'_>, door: Door, now: Instant) -> Result<Latched<StreamId>, Dropped> {
        let latched =
            self.latch.accept(arrival, now).map_err(|Refusal { why, nearest }| (DropReason::from(why), nearest))?;
        if latched.waited {
            self.refusals.remove((arrival.source, door.port));
        }
        Ok(latched)
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.timers.next_deadline().into_iter().chain(self.next_admission).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = self.timers.expired(now) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.handle_timeout(now);
                self.after(id, now);
                self.settle_dispute(id, now);
            }
        }
        if self.next_admission.is_some_and(|at| at <= now) {
            self.admit(now);
        }
    }

    /// The next datagram to send to a camera. Destinations come from the latch and from nowhere else.
    pub(super) fn poll_datagram(&mut self) -> Option<Outgoing> {
        self.datagrams.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<IngestEvent> {
        self.events.pop_front()
    }

    /// Figures of a stream; `wall` is the system time at `now`.
    pub(super) fn stats(&mut self, id: StreamId, now: Instant, wall: SystemTime) -> Option<IngestStats> {
        let stream = self.streams.get_mut(&id)?;
        let (figures, refused) = (stream.figures(now), stream.refused);
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
            nacks_sent: figures.nacks_sent,
            feedback_health: figures.feedback_health,
            profile_level_id: figures.profile_level_id,
            codec: figures.codec,
            reordering: figures.reordering,
            ambiguous_packets: refused + self.latch.disputed(id),
        })
    }

    /// Collects what a stream wants done, and when it wants to be asked again.
    fn after(&mut self, id: StreamId, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        while let Some(output) = stream.poll_output() {
            match output {
                StreamOutput::Feedback(compound) => {
                    let Some(entrance) = self.latch.entrance(id) else { continue };
                    let targets = self.latch.rtcp_destinations(id, now);
                    self.datagrams.extend(targets.map(|to| Outgoing {
                        stream: id,
                        entrance,
                        to,
                        bytes: compound.clone(),
                    }));
                }
                StreamOutput::Stalled(silence) => {
                    self.events.push_back(IngestEvent::MediaStalled { stream: id, silence });
                }
                StreamOutput::Warning(warning) => {
                    self.events.push_back(IngestEvent::FeedbackWarning { stream: id, warning });
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

fn expectation(open: &OpenStream, entrance: Entrance) -> Expect {
    Expect { camera: open.camera, announced: open.expected_ip, cname: open.cname.clone(), entrance }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod turn_tests;
