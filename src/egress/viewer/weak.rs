//! What a viewer's feedback leads to: thinning, probes, and everything again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{MAX_MARKED_PAYLOAD, ViewerOut};
use crate::egress::loss::Loss;
use crate::egress::marks::Marks;
use crate::egress::run::{RunBuilder, RunSink};
use crate::egress::thinning::{PROBE_FACTOR, PROBE_TIME, Step};
use crate::media::cache::PacketRing;
use crate::media::rtp::{RtpHeader, two_byte_extension};
use crate::media::{ExtSeq, Frame, RtpTime, SeqNo};

/// Probe packets leave at this pace.
pub(in crate::egress) const PROBE_TURN: Duration = Duration::from_millis(10);
/// A keyframe leaves so long before the queue in front of it is gone: the path stays busy, and the sound is not late.
const DRAINED_SOON: Duration = Duration::from_millis(30);
/// Packets that a probe repeats.
const PROBE_PACKETS: usize = 32;
/// A stream that rests is probed for at this rate, in bit/s: what a moving picture needs at least.
const LEAST_PROBE: u64 = 500_000;

/// What a viewer said.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Marked packets arrived: number, and microseconds of its clock.
    Arrivals(Vec<(SeqNo, i64)>),
    /// Loss of video and the round trip, where they are known.
    Report {
        /// Loss over a second or more that is complete with this report.
        loss: Option<Loss>,
        /// Round trip.
        round_trip: Option<Duration>,
    },
    /// Its estimate of what fits, in bit/s.
    Remb(u64),
}

/// A probe that is being sent.
pub(super) struct ProbeOut {
    packets: Vec<ProbePacket>,
    until: Instant,
    turn: Instant,
    sent: usize,
    /// Bytes that may be sent now; below zero after a packet that was larger.
    credit: f64,
    last: Instant,
    bytes_per_second: f64,
}

struct ProbePacket {
    seq: ExtSeq,
    time: RtpTime,
    marker: bool,
    payload: Bytes,
}

impl ViewerOut {
    /// Takes in what the viewer said.
    pub(in crate::egress) fn on_heard(&mut self, heard: &Heard, stream_rate: u64, now: Instant) {
        match heard {
            Heard::Arrivals(arrivals) => {
                for (number, arrival) in arrivals {
                    let Some(left) = self.marks.as_mut().and_then(|marks| marks.on_told(*number)) else { continue };
                    self.thinning.on_arrival(left, *arrival, now);
                    let queue = self.thinning.queue_us().unwrap_or(0);
                    self.held.on_told(now.saturating_duration_since(left.at), queue);
                    self.paced.on_arrival(*number, queue, stream_rate);
                }
                self.held.expect(self.marks.as_ref().and_then(Marks::untold_since));
                let mut rare = self.counters.rare();
                rare.queue_us = self.thinning.queue_us();
                if self.thinning.is_thinned()
                    && let Some(carries) = self.thinning.carries().filter(|carries| rare.carries != Some(*carries))
                {
                    rare.carries = Some(carries);
                    self.paced.set_rate(carries);
                }
            }
            Heard::Report { loss, round_trip } => {
                if let Some(round_trip) = round_trip {
                    self.resends.on_round_trip(*round_trip);
                }
                self.thinning.on_report(*loss, *round_trip, now);
            }
            Heard::Remb(remb) => self.thinning.on_remb(*remb, stream_rate, now),
        }
    }

    /// Whether [`Self::poll_thinning`] is to be called.
    pub(in crate::egress) fn has_pending_thinning(&self) -> bool {
        self.thinning.is_pending()
    }

    /// Does what is due. Returns whether a probe begins, and whether a keyframe is wanted.
    pub(in crate::egress) fn poll_thinning(
        &mut self,
        stream_rate: u64,
        rings: &[PacketRing; 2],
        now: Instant,
    ) -> (bool, bool) {
        if self.paced.is_on_the_way(now) {
            self.thinning.hold(now + PROBE_TURN);
        }
        match self.thinning.poll(self.counters.sent(), now) {
            Some(Step::Thin(reason)) => {
                let carries = self.thinning.carries();
                // What waits would only make the queue longer.
                self.backlog.clear();
                self.held.clear();
                self.passing = self.last_video;
                self.paced.begin(carries, stream_rate);
                self.counters.thinned.store(true, Ordering::Relaxed);
                let mut rare = self.counters.rare();
                rare.thinned = Some((reason, now));
                rare.thinnings += 1;
                rare.carries = carries;
                (false, false)
            }
            Some(Step::Probe) => {
                self.counters.rare().probes += 1;
                (self.begin_probe(stream_rate, rings, now), false)
            }
            Some(Step::StopProbe) => {
                self.probe = None;
                (false, false)
            }
            Some(Step::Resume) => (false, true),
            None => (false, false),
        }
    }

    /// Whether a video frame goes to a thinned viewer.
    pub(super) fn passes(
        &mut self,
        frame: &Arc<Frame>,
        now: Instant,
        run: &mut Vec<u8>,
        sink: &mut impl RunSink,
    ) -> bool {
        if !frame.starts_keyframe {
            let passes = self.passing == Some(frame.time);
            if passes && !self.repeatable.is_empty() && self.repeatable.len() < PROBE_PACKETS {
                self.repeatable.push(frame.clone());
            }
            return passes;
        }
        let resumes = self.thinning.on_keyframe(now);
        if !self.paced.has_begun() {
            // A newer one is better than one that still waits for the path.
            self.paced.take();
        }
        if !resumes && !self.paced.is_empty() {
            // It takes the path longer than the camera's time between two keyframes.
            self.passing = None;
            return false;
        }
        self.passing = Some(frame.time);
        self.repeatable.clear();
        if resumes {
            // What was not told of until now may never be.
            self.held.forget();
            self.marks.iter_mut().for_each(Marks::forget);
            let (left, mut at) = self.paced.take();
            for frame in left {
                // What is refused is asked for again.
                let _ = self.send_frame(&frame, &frame.packets[at..], true, now, run, sink);
                at = 0;
            }
            self.counters.thinned.store(false, Ordering::Relaxed);
            let mut rare = self.counters.rare();
            let since = rare.thinned.take().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since));
            rare.thinned_before += since;
        } else {
            self.repeatable.push(frame.clone());
        }
        true
    }

    /// Collects packets that the viewer has had: of the keyframe before, or else the last ones.
    fn begin_probe(&mut self, stream_rate: u64, rings: &[PacketRing; 2], now: Instant) -> bool {
        let mut packets = Vec::new();
        if let Some(video) = &mut self.video {
            let usable = |payload: &Bytes| (1..=MAX_MARKED_PAYLOAD).contains(&payload.len());
            // Of a keyframe that is being sent only some was.
            for frame in self.repeatable.iter().filter(|_| self.paced.is_empty()) {
                for packet in frame.packets.iter().filter(|packet| usable(&packet.payload)) {
                    let Some((seq, time)) = video.rewrite.map(packet.seq, frame.time) else { continue };
                    packets.push(ProbePacket { seq, time, marker: packet.marker, payload: packet.payload.clone() });
                }
            }
            let newest = video.rewrite.highest().map_or(0, |(seq, _)| seq.0);
            for seq in (0..PROBE_PACKETS as u64).map(|back| ExtSeq(newest.saturating_sub(back))) {
                if packets.len() >= PROBE_PACKETS {
                    break;
                }
                let ring = &rings[video.kind.index()];
                let original = video.rewrite.original(seq).and_then(|original| ring.get(original));
                let Some((packet, frame)) = original.filter(|(packet, _)| usable(&packet.payload)) else { continue };
                let Some(time) = video.rewrite.time_of(seq, frame.time) else { continue };
                packets.push(ProbePacket { seq, time, marker: packet.marker, payload: packet.payload.clone() });
            }
            // Large ones, because each costs the same.
            packets.sort_by_key(|packet| std::cmp::Reverse(packet.payload.len()));
            packets.truncate(PROBE_PACKETS);
        }
        if packets.is_empty() {
            self.thinning.probe_sent(0, now);
            return false;
        }
        let rate = stream_rate.max(LEAST_PROBE) as f64 / 8.0 * PROBE_FACTOR;
        let until = now + PROBE_TIME;
        self.probe =
            Some(ProbeOut { packets, until, turn: now, sent: 0, credit: 0.0, last: now, bytes_per_second: rate });
        true
    }

    /// Sends what is due of a keyframe or of a probe. Returns whether more is to come.
    pub(in crate::egress) fn take_turn(&mut self, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) -> bool {
        if self.probe.is_none()
            && (self.paced.goes_on() || self.thinning.is_drained(now + DRAINED_SOON, self.counters.sent()))
            && let Some((frame, packets)) = self.paced.next(now)
        {
            let packets = &frame.packets[packets];
            // What is refused is asked for again.
            let mark = self.send_frame(&frame, packets, true, now, run, sink).ok().flatten();
            if packets.last().is_some_and(|last| last.marker) {
                self.paced.on_end(mark, now);
            }
        }
        self.send_probe(now, run, sink) || !self.paced.is_empty()
    }

    fn send_probe(&mut self, now: Instant, run: &mut Vec<u8>, sink: &mut impl RunSink) -> bool {
        let Some(mut probe) = self.probe.take() else { return false };
        let (Some(video), Some(marks)) = (&mut self.video, &mut self.marks) else { return false };
        let Some(rtx) = video.negotiated.rtx else { return false };
        // A turn that comes late makes up for it, but not as a burst.
        let turn = (now.saturating_duration_since(probe.turn) + PROBE_TURN).min(PROBE_TURN * 3);
        probe.credit += probe.bytes_per_second * turn.as_secs_f64();
        probe.turn = now + PROBE_TURN;
        let mut out = RunBuilder::new(run, self.path, &self.counters, sink);
        while probe.credit > 0.0 {
            let packet = &probe.packets[probe.sent % probe.packets.len()];
            let header = RtpHeader {
                payload_type: rtx.payload_type,
                marker: packet.marker,
                seq: video.rtx_seq.wire(),
                timestamp: packet.time.wire(),
                ssrc: rtx.ssrc,
            };
            let extension = two_byte_extension(marks.extension, marks.next(now).0);
            let original = packet.seq.wire().0.to_be_bytes();
            out.add(&mut self.sealer, header, video.rtx_seq, &extension, &original, &packet.payload);
            marks.left(out.total());
            video.rtx_seq.0 += 1;
            probe.credit -= packet.payload.len() as f64;
            probe.sent += 1;
        }
        probe.last = now;
        let refused = out.finish().is_err();
        if refused || now + PROBE_TURN >= probe.until {
            self.thinning.probe_sent(probe.sent, probe.last);
            self.paced.interrupt();
            return false;
        }
        self.probe = Some(probe);
        true
    }
}
