//! One viewer in a shard: rewrites, seals and sends what its browser gets. The only writer with its keys.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::base::time::ntp64;
use crate::base::{StreamId, ViewerId};
use crate::media::cache::{GopCache, PacketRing};
use crate::media::rewrite::Rewrite;
use crate::media::rtcp::{RtcpWriter, SenderInfo};
use crate::media::rtp::{FIXED_HEADER_LEN, RtpHeader};
use crate::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, MediaKind, RtpTime, SeqNo, Ssrc};
use crate::webrtc::{NegotiatedTracks, Remote, Sealer, Track};

/// Between sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A viewer that lost its picture gets the group of pictures again at most this often.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);
/// The same group is shown to one viewer so often: at its start and once more after a loss. A viewer that asks
/// again and again is short of bandwidth, and more of the same would take the rest.
const MAX_SHOWINGS: u32 = 2;
/// Packets that may wait for their turn: the largest group and what came live meanwhile. Beyond it the viewer
/// waits for the next keyframe.
const MAX_BACKLOG: usize = 2 * 8_192;
/// The same by TCP, where a connection that takes nothing could hold them for long.
const MAX_TCP_BACKLOG: usize = 4_096;
/// Retransmissions per second that one viewer may cause; beyond it loss is better cured by a keyframe.
const RETRANSMISSIONS_PER_SECOND: u32 = 500;

/// Sends datagrams of equal size, the last one possibly shorter, to one address.
pub trait RunSink {
    /// `contents` is cut into datagrams of `segment` bytes.
    ///
    /// # Errors
    ///
    /// The run (or the rest of it) was not sent and is lost.
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> io::Result<()>;
}

/// Where a viewer is, and the address of ours that it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The browser's address, or its connection.
    pub remote: Remote,
    /// Ours, so that a machine with several answers from the right one.
    pub local: Option<IpAddr>,
}

/// What a shard and the sessions both know of a viewer.
#[derive(Debug, Default)]
pub struct ViewerCounters {
    /// Set when the viewer is to be forgotten; the shard looks at it even if its queue is full.
    pub closed: AtomicBool,
    /// RTP packets sent, retransmissions included.
    pub packets: AtomicU64,
    /// Bytes sent, SRTP overhead included.
    pub bytes: AtomicU64,
    /// Retransmissions sent.
    pub retransmissions: AtomicU64,
    /// Runs that the socket refused.
    pub refused_runs: AtomicU64,
    /// Sound packets in a codec that the viewer does not take.
    pub audio_unplayable: AtomicU64,
}

/// A viewer whose DTLS is done.
pub struct NewViewer {
    /// Its id.
    pub viewer: ViewerId,
    /// What it watches.
    pub stream: StreamId,
    /// Payload types and SSRCs.
    pub tracks: NegotiatedTracks,
    /// The keys.
    pub sealer: Sealer,
    /// Where it is.
    pub path: Path,
    /// Shared with the session.
    pub counters: Arc<ViewerCounters>,
}

/// Outgoing state of one track.
struct TrackOut {
    kind: MediaKind,
    negotiated: Track,
    rewrite: Rewrite,
    rtx_seq: ExtSeq,
    packets: u32,
    octets: u32,
}

impl TrackOut {
    fn new(kind: MediaKind, negotiated: Track) -> Self {
        // Below 2^15 (RFC 3711 §3.3.1), and not guessable (RFC 3550 §5.1).
        let first_seq = ExtSeq(u64::from(rand::random_range(1..0x4000u16)));
        let first_time = RtpTime(u64::from(rand::random::<u32>() >> 1));
        Self {
            kind,
            negotiated,
            rewrite: Rewrite::new(first_seq, first_time),
            rtx_seq: ExtSeq(u64::from(rand::random_range(1..0x4000u16))),
            packets: 0,
            octets: 0,
        }
    }
}

pub(super) struct ViewerOut {
    pub(super) viewer: ViewerId,
    pub(super) counters: Arc<ViewerCounters>,
    path: Path,
    sealer: Sealer,
    cname: String,
    video: Option<TrackOut>,
    audio: Option<TrackOut>,
    next_report: Instant,
    last_start: Option<Instant>,
    /// The group shown last, by its first packet, and how often.
    shown: Option<(ExtSeq, u32)>,
    /// Video that waits for its turn; live frames queue up behind a replay.
    backlog: VecDeque<Arc<Frame>>,
    backlog_packets: usize,
    /// Nothing of the picture is sent before the next keyframe.
    awaits_keyframe: bool,
    /// The codec that it was said not to take.
    unplayable: Option<Codec>,
    retransmissions_left: u32,
    budget_since: Instant,
}

impl ViewerOut {
    pub(super) fn new(new: NewViewer, now: Instant) -> Self {
        Self {
            viewer: new.viewer,
            counters: new.counters,
            path: new.path,
            sealer: new.sealer,
            cname: new.tracks.cname,
            video: new.tracks.video.map(|track| TrackOut::new(MediaKind::Video, track)),
            audio: new.tracks.audio.map(|track| TrackOut::new(MediaKind::Audio, track)),
            next_report: now,
            last_start: None,
            shown: None,
            backlog: VecDeque::new(),
            backlog_packets: 0,
            awaits_keyframe: true,
            unplayable: None,
            retransmissions_left: RETRANSMISSIONS_PER_SECOND,
            budget_since: now,
        }
    }

    pub(super) fn set_path(&mut self, path: Path) {
        self.path = path;
    }

    /// Whether it has a connection of its own, whose refusals are nobody else's matter.
    pub(super) fn over_tcp(&self) -> bool {
        self.path.remote.connection.is_some()
    }

    /// Queues the group of pictures, if there is one that is worth it, so that the next live frame continues it.
    /// Returns whether there is something to send now; see [`Self::send_backlog`].
    pub(super) fn start(&mut self, gop: &GopCache, now: Instant) -> bool {
        let Some(video) = &mut self.video else { return false };
        let replay = gop.replay(now);
        let Some(first) = replay.clone().next().map(|frame| frame.packets[0].seq) else { return false };
        let again = match self.shown {
            Some((group, times)) if group == first => times,
            _ => 0,
        };
        let soon = self.last_start.is_some_and(|last| now < last + RESTART_INTERVAL);
        // To show a group with a hole again would break the decoder at the same place.
        if soon || !self.backlog.is_empty() || again >= MAX_SHOWINGS || (again > 0 && !gop.is_whole()) {
            return false;
        }
        let mut times: Vec<RtpTime> = replay.clone().map(|frame| frame.time).collect();
        times.sort_unstable();
        times.dedup();
        let Some(live) = times.pop() else { return false };
        video.rewrite.start(first, times, live);
        self.last_start = Some(now);
        self.shown = Some((first, again + 1));
        self.awaits_keyframe = false;
        self.backlog_packets = replay.clone().map(|frame| frame.packets.len()).sum();
        self.backlog.extend(replay.cloned());
        true
    }

    /// Sends what waits, about `budget` packets (whole frames), and takes them off it. Returns whether more waits.
    ///
    /// # Errors
    ///
    /// The socket refused; what it refused is sent again next time.
    pub(super) fn send_backlog(
        &mut self,
        budget: &mut usize,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) -> io::Result<bool> {
        while *budget > 0
            && let Some(frame) = self.backlog.front().cloned()
        {
            *budget = budget.saturating_sub(frame.packets.len());
            // Numbers and contents are the same the second time, so nothing is sealed twice with one nonce and
            // different bytes (RFC 7714 §8.1).
            self.send_frame(&frame, run, sink)?;
            self.backlog.pop_front();
            self.backlog_packets -= frame.packets.len();
        }
        Ok(!self.backlog.is_empty())
    }

    /// A live frame of the stream.
    pub(super) fn on_frame(&mut self, frame: &Arc<Frame>, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) {
        match frame.kind() {
            MediaKind::Video => self.on_video(frame, now, run, sink),
            MediaKind::Audio => {
                let Some(audio) = &mut self.audio else { return };
                if audio.negotiated.payload_type(frame.codec).is_none() {
                    if self.unplayable.replace(frame.codec) != Some(frame.codec) {
                        tracing::warn!(viewer = %self.viewer, codec = frame.codec.name(), "hears nothing: its offer does not have the camera's sound codec");
                    }
                    self.counters.audio_unplayable.fetch_add(frame.packets.len() as u64, Ordering::Relaxed);
                    return;
                }
                if !audio.rewrite.is_started() {
                    audio.rewrite.start(frame.packets[0].seq, Vec::new(), frame.time);
                }
                // Sound that the socket refuses is lost; the browser conceals it.
                let _ = self.send_frame(frame, run, sink);
            }
        }
    }

    fn on_video(&mut self, frame: &Arc<Frame>, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) {
        let Some(video) = &mut self.video else { return };
        if self.awaits_keyframe {
            if !frame.starts_keyframe {
                return;
            }
            video.rewrite.start(frame.packets[0].seq, Vec::new(), frame.time);
            self.awaits_keyframe = false;
            self.last_start = Some(now);
        }
        if frame.starts_keyframe {
            self.shown = Some((frame.packets[0].seq, 1));
        }
        if self.backlog.is_empty() {
            // The browser NACKs what it misses. But a connection's queue is full only when the network is too slow:
            // more of the same would only come later, so the picture goes on with a keyframe.
            let sent = self.send_frame(frame, run, sink);
            let full = sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            self.awaits_keyframe = full && self.over_tcp();
            return;
        }
        self.backlog_packets += frame.packets.len();
        self.backlog.push_back(frame.clone());
        if self.backlog_packets > if self.over_tcp() { MAX_TCP_BACKLOG } else { MAX_BACKLOG } {
            self.backlog.clear();
            self.backlog_packets = 0;
            self.awaits_keyframe = true;
        }
    }

    /// Counts what was sent; on an error some runs of the frame may have gone out.
    fn send_frame(&mut self, frame: &Frame, run: &mut Vec<u8>, sink: &mut impl RunSink) -> io::Result<()> {
        let track = match frame.kind() {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        };
        let Some(track) = track else { return Ok(()) };
        let Some(payload_type) = track.negotiated.payload_type(frame.codec) else { return Ok(()) };
        let mut out = RunBuilder::new(run, self.path, &self.counters, sink);
        let (mut packets, mut octets) = (0u32, 0u32);
        for packet in &frame.packets {
            let Some((seq, time)) = track.rewrite.map(packet.seq, frame.time) else { continue };
            let header = RtpHeader {
                payload_type,
                marker: packet.marker,
                seq: seq.wire(),
                timestamp: time.wire(),
                ssrc: track.negotiated.ssrc,
            };
            out.add(&mut self.sealer, header, seq, &[], &packet.payload);
            packets += 1;
            octets = octets.wrapping_add(packet.payload.len() as u32);
        }
        out.finish()?;
        track.packets = track.packets.wrapping_add(packets);
        track.octets = track.octets.wrapping_add(octets);
        Ok(())
    }

    /// Resends what the browser misses, on the RTX stream where it has one (RFC 4588), else byte-identical.
    pub(super) fn retransmit(
        &mut self,
        ssrc: Ssrc,
        lost: &[SeqNo],
        rings: &[PacketRing; 2],
        now: Instant,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) {
        if now >= self.budget_since + Duration::from_secs(1) {
            (self.budget_since, self.retransmissions_left) = (now, RETRANSMISSIONS_PER_SECOND);
        }
        let tracks = [&mut self.video, &mut self.audio];
        let Some(track) = tracks.into_iter().flatten().find(|track| track.negotiated.ssrc == ssrc) else { return };
        let Some((highest, _)) = track.rewrite.highest() else { return };
        let mut out = RunBuilder::new(run, self.path, &self.counters, sink);
        for wire in lost {
            let sent = highest.extend(*wire);
            let original = track.rewrite.original(sent).and_then(|seq| rings[track.kind.index()].get(seq));
            let Some((FramePacket { marker, payload, .. }, frame)) = original else { continue };
            // As it was sent: the codec may be another by now.
            let Some(payload_type) = track.negotiated.payload_type(frame.codec) else { continue };
            let Some(time) = track.rewrite.time_of(sent, frame.time) else { continue };
            let Some(left) = self.retransmissions_left.checked_sub(1) else { break };
            self.retransmissions_left = left;
            let ssrc = track.negotiated.ssrc;
            let mut header =
                RtpHeader { payload_type, marker: *marker, seq: sent.wire(), timestamp: time.wire(), ssrc };
            match &track.negotiated.rtx {
                Some(rtx) => {
                    header.payload_type = rtx.payload_type;
                    header.ssrc = rtx.ssrc;
                    header.seq = track.rtx_seq.wire();
                    // The original sequence number leads the payload (RFC 4588 §4).
                    out.add(&mut self.sealer, header, track.rtx_seq, &wire.0.to_be_bytes(), payload);
                    track.rtx_seq.0 += 1;
                }
                None => out.add(&mut self.sealer, header, sent, &[], payload),
            }
            self.counters.retransmissions.fetch_add(1, Ordering::Relaxed);
        }
        // What is refused is asked for again.
        let _ = out.finish();
    }

    /// Sends the sender reports that are due. Both tracks are mapped by the same server clock (`wall` at
    /// `now`), so that the browser can line up sound and picture (RFC 3550 §6.4.1).
    pub(super) fn report(
        &mut self,
        clocks: &[Option<ClockPoint>; 2],
        now: Instant,
        wall: SystemTime,
        sink: &mut impl RunSink,
    ) {
        if now < self.next_report {
            return;
        }
        self.next_report = now + REPORT_INTERVAL;
        for track in [&self.video, &self.audio].into_iter().flatten() {
            let Some(clock) = clocks[track.kind.index()] else { continue };
            let Some(time) = track.rewrite.live_time(clock.project(now)) else { continue };
            let ssrc = track.negotiated.ssrc;
            let info = SenderInfo {
                ssrc,
                ntp: ntp64(wall),
                rtp_time: time.wire(),
                packets: track.packets,
                octets: track.octets,
            };
            let mut writer = RtcpWriter::new();
            writer.sender_report(&info).cname(ssrc, &self.cname);
            if let Ok(sealed) = self.sealer.seal_rtcp(&writer.finish()) {
                let _ = sink.send_run(self.path, &sealed, sealed.len());
            }
        }
    }
}

/// Collects sealed packets of equal size; a shorter one may end a run (how GSO cuts it again).
struct RunBuilder<'a, S> {
    run: &'a mut Vec<u8>,
    segment: usize,
    path: Path,
    counters: &'a ViewerCounters,
    sink: &'a mut S,
    refused: Option<io::Error>,
}

/// GSO's own limit is 64; a keyframe's viewers take turns after this many (design §3).
const MAX_RUN_PACKETS: usize = 32;

impl<'a, S: RunSink> RunBuilder<'a, S> {
    fn new(run: &'a mut Vec<u8>, path: Path, counters: &'a ViewerCounters, sink: &'a mut S) -> Self {
        Self { run, segment: 0, path, counters, sink, refused: None }
    }

    /// Sends the rest.
    ///
    /// # Errors
    ///
    /// A run was refused, this one or an earlier one.
    fn finish(mut self) -> io::Result<()> {
        self.flush();
        self.refused.map_or(Ok(()), Err)
    }

    fn add(&mut self, sealer: &mut Sealer, header: RtpHeader, seq: ExtSeq, prefix: &[u8], payload: &[u8]) {
        let size = FIXED_HEADER_LEN + prefix.len() + payload.len() + sealer.overhead();
        let ended = !self.run.len().is_multiple_of(self.segment.max(1));
        let full = self.run.len() + size > (MAX_RUN_PACKETS * self.segment).min(crate::base::udp::MAX_RUN_BYTES);
        if !self.run.is_empty() && (ended || full || size > self.segment) {
            self.flush();
        }
        if self.run.is_empty() {
            self.segment = size;
        }
        let start = self.run.len();
        self.run.extend_from_slice(&header.to_bytes());
        self.run.extend_from_slice(prefix);
        self.run.extend_from_slice(payload);
        self.run.resize(start + size, 0);
        if sealer.seal_rtp(&mut self.run[start..], FIXED_HEADER_LEN, seq).is_err() {
            self.run.truncate(start);
        }
    }

    fn flush(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let packets = self.run.len().div_ceil(self.segment.max(1)) as u64;
        match self.sink.send_run(self.path, self.run, self.segment) {
            Ok(()) => {
                self.counters.packets.fetch_add(packets, Ordering::Relaxed);
                self.counters.bytes.fetch_add(self.run.len() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                self.counters.refused_runs.fetch_add(1, Ordering::Relaxed);
                self.refused = Some(error);
            }
        }
        self.run.clear();
    }
}
