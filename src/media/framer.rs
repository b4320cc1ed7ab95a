//! Groups the packets of one timestamp, so that egress can hand a whole run to the kernel at once.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::frame::{ClockPoint, Codec, Frame, FramePacket, MediaKind};
use super::repair::Part;

/// A frame is handed on with at most this many packets: viewers take turns (design §3).
pub const MAX_PACKETS: usize = 32;
/// A frame waits at most this long for its marker bit. Adds to the delay, saves a system call per packet.
pub const MAX_WAIT: Duration = Duration::from_millis(1);

/// Collects the packets of one track.
#[derive(Debug, Default)]
pub struct Framer {
    open: Option<Frame>,
}

impl Framer {
    /// Adds a packet, whose payload must not be empty. Yields the frames that are complete with it: none,
    /// one, or two when the packet belongs to another timestamp than the ones before and ends its own.
    pub fn push(&mut self, part: Part, codec: Codec, clock: ClockPoint, now: Instant) -> [Option<Frame>; 2] {
        let before = match &self.open {
            // What a decoder can start with is the first packet of a frame.
            Some(frame) if frame.time != part.time || part.starts_keyframe => self.open.take(),
            _ => None,
        };
        let frame = self.open.get_or_insert_with(|| Frame {
            codec,
            time: part.time,
            starts_keyframe: part.starts_keyframe,
            packets: Vec::new(),
            arrived: now,
            clock,
        });
        let place = frame.packets.partition_point(|p| p.seq < part.seq);
        frame.packets.insert(place, FramePacket { seq: part.seq, marker: part.marker, payload: part.payload });
        // Every audio packet is a frame of its own.
        let complete = part.marker || codec.kind() == MediaKind::Audio || frame.packets.len() >= MAX_PACKETS;
        [before, if complete { self.open.take() } else { None }].map(|frame| frame.map(compact))
    }

    /// When [`Framer::flush`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.as_ref().map(|frame| frame.arrived + MAX_WAIT)
    }

    /// Gives out the open frame if it has waited long enough.
    pub fn flush(&mut self, now: Instant) -> Option<Frame> {
        self.open.take_if(|frame| now >= frame.arrived + MAX_WAIT).map(compact)
    }
}

/// Moves the payloads into memory of the frame's own, one behind the other. What arrived together shares memory;
/// without this a frame that is kept for seconds would keep the packets of all other cameras beside it.
fn compact(mut frame: Frame) -> Frame {
    let mut storage = BytesMut::with_capacity(frame.packets.iter().map(|packet| packet.payload.len()).sum());
    for packet in &mut frame.packets {
        storage.extend_from_slice(&packet.payload);
        packet.payload = storage.split().freeze();
    }
    frame.packets.shrink_to_fit();
    frame
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::id::{ExtSeq, RtpTime};

    const SLICE: &[u8] = &[0x41, 0];

    fn push(framer: &mut Framer, seq: u64, time: u64, marker: bool, starts: bool, now: Instant) -> Vec<Frame> {
        let (seq, time, payload) = (ExtSeq(seq), RtpTime(time), Bytes::from_static(SLICE));
        let part = Part { seq, time, marker, payload, starts_keyframe: starts };
        framer
            .push(part, Codec::H264, ClockPoint { at: now, rtp: time, rate: 90_000 }, now)
            .into_iter()
            .flatten()
            .collect()
    }

    #[test]
    fn the_marker_ends_a_frame_and_a_keyframe_is_marked_once() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        assert!(push(&mut framer, 1, 100, false, true, now).is_empty());
        let frames = push(&mut framer, 2, 100, true, false, now);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].starts_keyframe);
        assert_eq!(frames[0].packets.len(), 2);
        assert!(!push(&mut framer, 3, 200, true, false, now)[0].starts_keyframe);
    }

    #[test]
    fn a_big_keyframe_is_cut_and_only_its_first_piece_is_a_start() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        let frames: Vec<_> = (0..64).flat_map(|n| push(&mut framer, n, 100, n == 63, n == 0, now)).collect();
        assert_eq!(frames.iter().map(|f| f.packets.len()).collect::<Vec<_>>(), [32, 32]);
        assert_eq!(frames.iter().map(|f| f.starts_keyframe).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_start_is_always_the_first_packet_of_its_frame() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        push(&mut framer, 1, 100, false, false, now);
        let frames = push(&mut framer, 2, 100, true, true, now);
        assert_eq!(
            frames.iter().map(|f| (f.packets[0].seq.0, f.starts_keyframe)).collect::<Vec<_>>(),
            [(1, false), (2, true)]
        );
    }

    #[test]
    fn another_timestamp_ends_a_frame_without_marker() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        push(&mut framer, 1, 100, false, false, now);
        let frames = push(&mut framer, 2, 200, true, false, now);
        assert_eq!(frames.iter().map(|f| f.time.0).collect::<Vec<_>>(), [100, 200]);
    }

    #[test]
    fn a_frame_without_marker_leaves_after_a_millisecond() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        push(&mut framer, 1, 100, false, false, now);
        assert!(framer.flush(now).is_none());
        let due = framer.poll_timeout().unwrap();
        assert_eq!(due, now + MAX_WAIT);
        assert_eq!(framer.flush(due).unwrap().packets.len(), 1);
        assert_eq!(framer.poll_timeout(), None);
    }

    #[test]
    fn a_frame_does_not_keep_the_memory_that_its_packets_arrived_in() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        let chunk = Bytes::from(vec![0x41; 100]);
        let mut frames = Vec::new();
        for n in 0..3u64 {
            let payload = chunk.slice(10 * n as usize..10 * n as usize + 5);
            let (seq, time) = (ExtSeq(n), RtpTime(100));
            let part = Part { seq, time, marker: n == 2, payload, starts_keyframe: false };
            let clock = ClockPoint { at: now, rtp: time, rate: 90_000 };
            frames.extend(framer.push(part, Codec::H264, clock, now).into_iter().flatten());
        }
        assert!(frames[0].packets.iter().all(|packet| packet.payload[..] == [0x41; 5]));
        assert!(chunk.is_unique());
    }

    #[test]
    fn late_packets_of_an_open_frame_find_their_place() {
        let (mut framer, now) = (Framer::default(), Instant::now());
        push(&mut framer, 2, 100, false, false, now);
        push(&mut framer, 1, 100, false, false, now);
        let frame = push(&mut framer, 3, 100, true, false, now).remove(0);
        assert_eq!(frame.packets.iter().map(|p| p.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
