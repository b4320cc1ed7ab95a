//! Groups the packets of one timestamp, so that egress can hand a whole run to the kernel at once.

use std::time::{Duration, Instant};

use super::frame::{ClockPoint, Frame, FramePacket, MediaKind};
use super::h264::{self, ProfileLevelId};
use super::id::RtpTime;
use super::receive::Placed;
use super::rtp::RtpPacket;

/// A frame is handed on with at most this many packets: viewers take turns (design §3).
pub const MAX_PACKETS: usize = 32;
/// A frame waits at most this long for its marker bit. Adds to the delay, saves a system call per packet.
pub const MAX_WAIT: Duration = Duration::from_millis(1);

/// Collects the packets of one track.
#[derive(Debug)]
pub struct Framer {
    kind: MediaKind,
    open: Option<Frame>,
    /// Timestamp of the access unit whose beginning was seen last.
    unit: Option<RtpTime>,
    profile: Option<ProfileLevelId>,
}

impl Framer {
    /// A framer that holds nothing.
    pub fn new(kind: MediaKind) -> Self {
        Self { kind, open: None, unit: None, profile: None }
    }

    /// Adds a packet. Yields the frames that are complete with it: none, one, or two when the packet
    /// belongs to another timestamp than the ones before and ends its own.
    pub fn push(&mut self, packet: &RtpPacket, at: Placed, clock: ClockPoint, now: Instant) -> [Option<Frame>; 2] {
        let payload = packet.payload();
        if payload.is_empty() {
            return [None, None];
        }
        let before = match &self.open {
            Some(frame) if frame.time != at.time => self.open.take(),
            _ => None,
        };
        let mut begins_keyframe = false;
        if self.kind == MediaKind::Video {
            let scan = h264::scan(&payload);
            self.profile = scan.profile.or(self.profile);
            // Only the first piece of an access unit is a place to start.
            begins_keyframe = scan.begins_keyframe && self.unit != Some(at.time);
            if begins_keyframe {
                self.unit = Some(at.time);
            }
        }
        let frame = self.open.get_or_insert_with(|| Frame {
            kind: self.kind,
            time: at.time,
            starts_keyframe: false,
            packets: Vec::new(),
            arrived: now,
            clock,
        });
        frame.starts_keyframe |= begins_keyframe;
        let place = frame.packets.partition_point(|p| p.seq < at.seq);
        frame.packets.insert(place, FramePacket { seq: at.seq, marker: packet.marker(), payload });
        // Every audio packet is a frame of its own.
        let complete = packet.marker() || self.kind == MediaKind::Audio || frame.packets.len() >= MAX_PACKETS;
        [before, if complete { self.open.take() } else { None }]
    }

    /// When [`Framer::flush`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.as_ref().map(|frame| frame.arrived + MAX_WAIT)
    }

    /// Gives out the open frame if it has waited long enough.
    pub fn flush(&mut self, now: Instant) -> Option<Frame> {
        self.open.take_if(|frame| now >= frame.arrived + MAX_WAIT)
    }

    /// Profile of the last SPS seen.
    pub fn profile(&self) -> Option<ProfileLevelId> {
        self.profile
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::id::{ExtSeq, SeqNo, Ssrc};
    use crate::media::rtp::RtpHeader;

    const SPS: &[u8] = &[0x67, 0x42, 0xe0, 0x1f];
    const IDR: &[u8] = &[0x65, 0];
    const SLICE: &[u8] = &[0x41, 0];

    fn push(framer: &mut Framer, seq: u64, time: u64, marker: bool, payload: &[u8], now: Instant) -> Vec<Frame> {
        let header =
            RtpHeader { payload_type: 103, marker, seq: SeqNo(seq as u16), timestamp: time as u32, ssrc: Ssrc(1) };
        let packet = RtpPacket::parse(Bytes::from([&header.to_bytes()[..], payload].concat())).unwrap();
        let at = Placed { seq: ExtSeq(seq), time: RtpTime(time), restarted: false };
        let clock = ClockPoint { at: now, rtp: RtpTime(time) };
        framer.push(&packet, at, clock, now).into_iter().flatten().collect()
    }

    #[test]
    fn the_marker_ends_a_frame_and_a_keyframe_is_marked_once() {
        let (mut framer, now) = (Framer::new(MediaKind::Video), Instant::now());
        assert!(push(&mut framer, 1, 100, false, SPS, now).is_empty());
        let frames = push(&mut framer, 2, 100, true, IDR, now);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].starts_keyframe);
        assert_eq!(frames[0].packets.len(), 2);
        assert_eq!(framer.profile().unwrap().to_string(), "42e01f");
        let next = push(&mut framer, 3, 200, true, SLICE, now);
        assert!(!next[0].starts_keyframe);
    }

    #[test]
    fn a_big_keyframe_is_cut_and_only_its_first_piece_is_a_start() {
        let (mut framer, now) = (Framer::new(MediaKind::Video), Instant::now());
        let frames: Vec<_> = (0..64).flat_map(|n| push(&mut framer, n, 100, n == 63, &[0x7c, 0x85], now)).collect();
        assert_eq!(frames.iter().map(|f| f.packets.len()).collect::<Vec<_>>(), [32, 32]);
        assert_eq!(frames.iter().map(|f| f.starts_keyframe).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn another_timestamp_ends_a_frame_without_marker() {
        let (mut framer, now) = (Framer::new(MediaKind::Video), Instant::now());
        push(&mut framer, 1, 100, false, SLICE, now);
        let frames = push(&mut framer, 2, 200, true, SLICE, now);
        assert_eq!(frames.iter().map(|f| f.time.0).collect::<Vec<_>>(), [100, 200]);
    }

    #[test]
    fn a_frame_without_marker_leaves_after_a_millisecond() {
        let (mut framer, now) = (Framer::new(MediaKind::Video), Instant::now());
        push(&mut framer, 1, 100, false, SLICE, now);
        assert!(framer.flush(now).is_none());
        let due = framer.poll_timeout().unwrap();
        assert_eq!(due, now + MAX_WAIT);
        assert_eq!(framer.flush(due).unwrap().packets.len(), 1);
        assert_eq!(framer.poll_timeout(), None);
    }

    #[test]
    fn reordered_packets_leave_in_order() {
        let (mut framer, now) = (Framer::new(MediaKind::Video), Instant::now());
        push(&mut framer, 2, 100, false, SLICE, now);
        push(&mut framer, 1, 100, false, SLICE, now);
        let frame = push(&mut framer, 3, 100, true, SLICE, now).remove(0);
        assert_eq!(frame.packets.iter().map(|p| p.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn empty_payloads_are_dropped() {
        let (mut framer, now) = (Framer::new(MediaKind::Video), Instant::now());
        assert!(push(&mut framer, 1, 100, true, &[], now).is_empty());
    }
}
