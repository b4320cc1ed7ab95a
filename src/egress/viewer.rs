//! One viewer in a shard: rewrites, seals and sends what its browser gets. The only writer with its keys.

mod backlog;
mod held;
mod paced;
mod weak;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use self::backlog::Backlog;
use self::held::Held;
use self::paced::Paced;
pub use self::weak::Heard;
pub(super) use self::weak::PROBE_TURN;
use self::weak::ProbeOut;
use super::marks::Marks;
use super::resend::Resends;
use super::run::RunBuilder;
pub use super::run::{Path, RunSink};
use super::stats::FreezeWatch;
pub use super::stats::ViewerCounters;
use super::thinning::Thinning;
use crate::base::time::ntp64;
use crate::base::{StreamId, ViewerId};
use crate::media::cache::{GopCache, PacketRing};
use crate::media::rewrite::Rewrite;
use crate::media::rtcp::{RtcpWriter, SenderInfo};
use crate::media::rtp::{RtpHeader, two_byte_extension};
use crate::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, MediaKind, RtpTime, SeqNo, Ssrc};
use crate::webrtc::{Format, NegotiatedTracks, Sealer, Track};

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
/// With the extension and the two bytes of RTX a marked packet of this size is still one of 1,280 bytes in IPv6.
const MAX_MARKED_PAYLOAD: usize = 1_190;

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
    /// When the offer was accepted.
    pub offered: Instant,
}

/// What a viewer's output is made from.
pub(super) struct Memory<'a> {
    pub(super) gop: &'a GopCache,
    pub(super) rings: &'a [PacketRing; 2],
    /// The video's rate, in bit/s.
    pub(super) rate: u64,
}

/// What is left of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    Nothing,
    /// It leaves at its pace.
    Later,
    /// There was no budget for it.
    Due,
}

/// Outgoing state of one track.
struct TrackOut {
    kind: MediaKind,
    negotiated: Track,
    /// What was sent last: looked at before the list, which is elsewhere in memory.
    playing: Option<Format>,
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
            playing: None,
            rewrite: Rewrite::new(first_seq, first_time),
            rtx_seq: ExtSeq(u64::from(rand::random_range(1..0x4000u16))),
            packets: 0,
            octets: 0,
        }
    }

    /// The payload type to send `codec` with; `None` if the viewer does not take it.
    fn payload_type(&mut self, codec: Codec) -> Option<u8> {
        if let Some(playing) = self.playing.filter(|playing| playing.codec == codec) {
            return Some(playing.payload_type);
        }
        let payload_type = self.negotiated.payload_type(codec)?;
        self.playing = Some(Format { codec, payload_type });
        Some(payload_type)
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
    backlog: Backlog,
    /// Nothing of the picture is sent before the next keyframe.
    awaits_keyframe: bool,
    /// The codec that it was said not to take.
    unplayable: Option<Codec>,
    resends: Resends,
    marks: Option<Marks>,
    thinning: Thinning,
    /// The access unit that a thinned viewer gets.
    passing: Option<RtpTime>,
    last_video: Option<RtpTime>,
    /// What a thinned viewer got last, to probe with.
    repeatable: Vec<Arc<Frame>>,
    probe: Option<ProbeOut>,
    /// Keyframes of a thinned viewer on their way out.
    paced: Paced,
    held: Held,
    freezes: FreezeWatch,
    offered: Instant,
    has_sent: bool,
}

impl ViewerOut {
    pub(super) fn new(new: NewViewer, now: Instant) -> Self {
        let marks = new.tracks.video.as_ref().and_then(|track| track.transport_cc);
        let marks = marks.map(|extension| Marks::new(extension, now));
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
            backlog: Backlog::default(),
            awaits_keyframe: true,
            unplayable: None,
            resends: Resends::new(now),
            thinning: Thinning::new(marks.is_some(), now),
            marks,
            passing: None,
            last_video: None,
            repeatable: Vec::new(),
            probe: None,
            paced: Paced::default(),
            held: Held::default(),
            freezes: FreezeWatch::default(),
            offered: new.offered,
            has_sent: false,
        }
    }

    pub(super) fn set_path(&mut self, path: Path) {
        if path.remote != self.path.remote {
            self.thinning.on_new_path();
            self.held.forget();
            self.marks.iter_mut().for_each(Marks::forget);
        }
        self.path = path;
    }

    /// The viewer says that it has no picture to go on from.
    pub(super) fn on_lost_picture(&mut self, now: Instant) {
        self.freezes.on_lost(now);
    }

    /// Whether it has a connection of its own, whose refusals are nobody else's matter.
    pub(super) fn over_tcp(&self) -> bool {
        self.path.remote.connection.is_some()
    }

    /// Queues the group of pictures, if there is one that is worth it, so that the next live frame continues it.
    /// Returns whether there is something to send now; see [`Self::send_backlog`].
    pub(super) fn start(&mut self, gop: &GopCache, now: Instant) -> bool {
        // More of what a narrow path did not carry would not help it.
        if self.thinning.is_thinned() {
            return false;
        }
        let Some(video) = &mut self.video else { return false };
        let replay = gop.replay(now);
        let Some(first) = replay.clone().next().map(|frame| frame.packets[0].seq) else { return false };
        let again = match self.shown {
            Some((group, times)) if group == first => times,
            _ => 0,
        };
        let soon = self.last_start.is_some_and(|last| now < last + RESTART_INTERVAL);
        // To show a group with a hole again would break the decoder at the same place.
        // What waits comes as it is, and more would not help a path that says nothing.
        if soon
            || !self.held.is_empty()
            || self.held.is_silent(now)
            || !self.backlog.is_empty()
            || again >= MAX_SHOWINGS
            || (again > 0 && !gop.is_whole())
        {
            return false;
        }
        self.backlog.begin(replay, now);
        let (behind, live) = self.backlog.behind();
        video.rewrite.start(first, behind, live);
        self.last_start = Some(now);
        self.shown = Some((first, again + 1));
        self.awaits_keyframe = false;
        true
    }

    /// Sends what waits and is due, about `budget` packets (whole frames), and takes them off it.
    ///
    /// # Errors
    ///
    /// The socket refused; what it refused is sent again next time.
    pub(super) fn send_backlog(
        &mut self,
        budget: &mut usize,
        now: Instant,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) -> io::Result<Waiting> {
        while let Some(frame) = self.backlog.due(now) {
            if *budget == 0 {
                return Ok(Waiting::Due);
            }
            *budget = budget.saturating_sub(frame.packets.len());
            if let Some(video) = &mut self.video {
                let (behind, live) = self.backlog.behind();
                video.rewrite.replay(frame.time, behind, live);
            }
            // Numbers and contents are the same the second time, so nothing is sealed twice with one nonce and
            // different bytes (RFC 7714 §8.1).
            self.send_frame(&frame, &frame.packets, false, now, run, sink)?;
            self.backlog.pop();
        }
        Ok(if self.backlog.is_empty() { Waiting::Nothing } else { Waiting::Later })
    }

    /// A live frame of the stream. Returns whether [`Self::take_turn`] is to be called now and then.
    pub(super) fn on_frame(
        &mut self,
        frame: &Arc<Frame>,
        now: Instant,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) -> bool {
        match frame.kind() {
            MediaKind::Video => self.on_video(frame, now, run, sink),
            MediaKind::Audio => {
                let Some(audio) = &mut self.audio else { return false };
                if audio.payload_type(frame.codec).is_none() {
                    if self.unplayable.replace(frame.codec) != Some(frame.codec) {
                        tracing::warn!(viewer = %self.viewer, codec = frame.codec.name(), "hears nothing: its offer does not have the camera's sound codec");
                    }
                    self.counters.audio_unplayable.fetch_add(frame.packets.len() as u64, Ordering::Relaxed);
                    return false;
                }
                if !audio.rewrite.is_started() {
                    audio.rewrite.start(frame.packets[0].seq, 0, frame.time);
                }
                // Sound that the socket refuses is lost; the browser conceals it.
                let _ = self.send_frame(frame, &frame.packets, false, now, run, sink);
                self.paced.beside(&frame.packets);
                false
            }
        }
    }

    fn on_video(&mut self, frame: &Arc<Frame>, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) -> bool {
        if self.video.is_none() || (self.awaits_keyframe && !frame.starts_keyframe) {
            return false;
        }
        let thinned = self.thinning.is_thinned();
        if thinned && !self.passes(frame, now, run, sink) {
            return false;
        }
        if frame.starts_keyframe {
            if let Some(video) = self.video.as_mut().filter(|_| thinned || self.awaits_keyframe) {
                video.rewrite.skip_to(frame.packets[0].seq, frame.time);
            }
            if self.awaits_keyframe {
                self.awaits_keyframe = false;
                self.last_start = Some(now);
            }
            self.shown = Some((frame.packets[0].seq, 1));
        }
        if self.thinning.is_thinned() {
            let begins = self.paced.is_empty();
            self.paced.push(frame.clone());
            return begins;
        }
        if self.backlog.is_empty() {
            self.send_live(frame, now, run, sink);
            return false;
        }
        self.backlog.push(frame.clone());
        if self.backlog.packets() > if self.over_tcp() { MAX_TCP_BACKLOG } else { MAX_BACKLOG } {
            self.backlog.clear();
            self.awaits_keyframe = true;
        }
        false
    }

    /// Sends a live picture, or holds it back.
    fn send_live(&mut self, frame: &Arc<Frame>, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) {
        let silent = self.held.is_silent(now);
        // A picture that has begun is sent whole.
        if self.held.is_empty() && (!silent || self.last_video == Some(frame.time)) {
            if !silent {
                self.held.on_heard();
            }
            if let Err(error) = self.send_frame(frame, &frame.packets, true, now, run, sink) {
                self.on_refused(&error, now);
            }
            return;
        }
        self.held.push(frame.clone(), now);
        self.send_held(now, run, sink);
    }

    /// Sends pictures that were held back and may leave now.
    pub(super) fn send_held(&mut self, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) {
        if self.held.is_empty() {
            return;
        }
        let silent = self.held.is_silent(now);
        let (untold, last) = self.marks.as_ref().map_or((0, None), |marks| (marks.untold(), marks.last()));
        if silent && self.held.is_too_long(untold, now) {
            return self.thinning.on_silence();
        }
        let mut refused = None;
        for frame in self.held.take(silent, last, now) {
            refused = self.send_frame(&frame, &frame.packets, true, now, run, sink).err().or(refused);
            if refused.is_some() && self.over_tcp() {
                break;
            }
        }
        // One moment of a full socket is one refusal.
        if let Some(error) = refused {
            self.on_refused(&error, now);
        }
    }

    /// The browser NACKs what it misses. Not so a socket that refuses again and again. And a connection's queue is full
    /// only when the network is too slow: more of the same would only come later, so the picture goes on with a keyframe.
    fn on_refused(&mut self, error: &io::Error, now: Instant) {
        self.thinning.on_refused(now);
        if error.kind() == io::ErrorKind::WouldBlock && self.over_tcp() {
            self.awaits_keyframe = true;
            self.held.clear();
        }
    }

    /// Sends `sent`, packets of a frame, and counts what was sent; on an error some runs of them may have gone out.
    /// `live`: they are sent once, so that the last packet of a picture may carry a number of its own, which is returned.
    fn send_frame(
        &mut self,
        frame: &Frame,
        sent: &[FramePacket],
        live: bool,
        now: Instant,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) -> io::Result<Option<SeqNo>> {
        let is_video = frame.kind() == MediaKind::Video;
        let Some(track) = (if is_video { &mut self.video } else { &mut self.audio }) else { return Ok(None) };
        let Some(payload_type) = track.payload_type(frame.codec) else { return Ok(None) };
        let mut marks =
            self.marks.as_mut().filter(|marks| live && is_video && marks.is_due(self.thinning.is_curious(), now));
        let marked = sent.last().filter(|last| last.marker && last.payload.len() <= MAX_MARKED_PAYLOAD);
        let marked = marked.filter(|_| marks.is_some()).map(|last| last.seq);
        let mut mark = None;
        let mut out = RunBuilder::new(run, self.path, &self.counters, sink);
        let (mut packets, mut octets) = (0u32, 0u32);
        for packet in sent {
            let Some((seq, time)) = track.rewrite.map(packet.seq, frame.time) else { continue };
            let header = RtpHeader {
                payload_type,
                marker: packet.marker,
                seq: seq.wire(),
                timestamp: time.wire(),
                ssrc: track.negotiated.ssrc,
            };
            if marked == Some(packet.seq) {
                mark = marks.as_mut().map(|marks| (marks.next(now), marks.extension));
            }
            let extension = mark.map(|(number, id)| two_byte_extension(id, number.0));
            let extension = extension.as_ref().map_or(&[][..], |extension| extension);
            out.add(&mut self.sealer, header, seq, extension, &[], &packet.payload);
            packets += 1;
            octets = octets.wrapping_add(packet.payload.len() as u32);
        }
        if let (Some(marks), Some(_)) = (marks, mark) {
            marks.left(out.total());
            if !self.held.expects() {
                self.held.expect(marks.untold_since());
            }
        }
        out.finish()?;
        track.packets = track.packets.wrapping_add(packets);
        track.octets = track.octets.wrapping_add(octets);
        if packets > 0 {
            self.after_frame(frame, now);
        }
        Ok(mark.map(|(number, _)| number))
    }

    /// Keeps the figures that tell how the picture begins and stops.
    fn after_frame(&mut self, frame: &Frame, now: Instant) {
        if !self.has_sent {
            self.has_sent = true;
            self.counters.rare().first_packet = Some(now.saturating_duration_since(self.offered));
        }
        if frame.kind() != MediaKind::Video || self.last_video == Some(frame.time) {
            return;
        }
        if self.last_video.is_none() {
            self.counters.rare().first_keyframe = Some(now.saturating_duration_since(self.offered));
        }
        self.last_video = Some(frame.time);
        let regular = self.backlog.is_empty() && !self.thinning.is_thinned();
        if let Some(freeze) = self.freezes.on_picture(frame.starts_keyframe, regular, now) {
            let mut rare = self.counters.rare();
            rare.freezes += 1;
            rare.frozen += freeze;
        }
    }

    /// Resends what the browser misses, on the RTX stream where it has one (RFC 4588), else byte-identical.
    pub(super) fn retransmit(
        &mut self,
        ssrc: Ssrc,
        lost: &[SeqNo],
        memory: Memory<'_>,
        now: Instant,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) {
        self.resends.refill(memory.rate, now);
        let tracks = [&mut self.video, &mut self.audio];
        let Some(track) = tracks.into_iter().flatten().find(|track| track.negotiated.ssrc == ssrc) else { return };
        let Some((highest, _)) = track.rewrite.highest() else { return };
        let mut out = RunBuilder::new(run, self.path, &self.counters, sink);
        for wire in lost {
            let sent = highest.extend(*wire);
            let original = track.rewrite.original(sent).and_then(|seq| memory.rings[track.kind.index()].get(seq));
            let Some((FramePacket { marker, payload, .. }, frame)) = original else { continue };
            // As it was sent: the codec may be another by now.
            let Some(payload_type) = track.negotiated.payload_type(frame.codec) else { continue };
            let Some(time) = track.rewrite.time_of(sent, frame.time) else { continue };
            if !self.resends.allows(sent, payload.len(), now) {
                self.counters.withheld.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let ssrc = track.negotiated.ssrc;
            let mut header =
                RtpHeader { payload_type, marker: *marker, seq: sent.wire(), timestamp: time.wire(), ssrc };
            match &track.negotiated.rtx {
                Some(rtx) => {
                    header.payload_type = rtx.payload_type;
                    header.ssrc = rtx.ssrc;
                    header.seq = track.rtx_seq.wire();
                    // The original sequence number leads the payload (RFC 4588 §4).
                    out.add(&mut self.sealer, header, track.rtx_seq, &[], &wire.0.to_be_bytes(), payload);
                    track.rtx_seq.0 += 1;
                }
                None => out.add(&mut self.sealer, header, sent, &[], &[], payload),
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
