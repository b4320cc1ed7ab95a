//! What egress remembers of a track: packets for NACKs, and the group of pictures for new viewers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{Frame, FramePacket};
use super::id::ExtSeq;

/// Nobody asks for a packet again after this time; slow cameras would fill a ring with a minute of it.
const MAX_RING_AGE: Duration = Duration::from_secs(5);

/// The newest packets of a track, found by sequence number: so many, and those of the last 5 s.
#[derive(Debug)]
pub struct PacketRing {
    slots: Vec<Option<(Arc<Frame>, u8)>>,
    /// What is older has been forgotten.
    oldest: Option<u64>,
}

impl PacketRing {
    /// A ring for `capacity` packets, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self { slots: vec![None; capacity.max(1)], oldest: None }
    }

    /// Remembers the packets of a frame, each in the place of one that is `capacity` older, and forgets what is
    /// too old.
    pub fn insert(&mut self, frame: &Arc<Frame>) {
        self.forget_before(frame);
        for (index, packet) in frame.packets.iter().enumerate() {
            let slot = self.slot(packet.seq);
            // A frame holds at most 32 packets.
            self.slots[slot] = Some((frame.clone(), index as u8));
        }
    }

    /// The packet with this number and its frame, if it is still remembered.
    pub fn get(&self, seq: ExtSeq) -> Option<(&FramePacket, &Frame)> {
        let (frame, index) = self.slots[self.slot(seq)].as_ref()?;
        let packet = &frame.packets[usize::from(*index)];
        (packet.seq == seq).then_some((packet, &**frame))
    }

    fn forget_before(&mut self, frame: &Frame) {
        let newest = frame.packets[0].seq.0;
        // What a jump has left behind is passed over in one turn of the ring.
        let mut oldest = self.oldest.unwrap_or(newest).max(newest.saturating_sub(self.slots.len() as u64));
        while oldest < newest {
            let slot = self.slot(ExtSeq(oldest));
            let age = self.slots[slot].as_ref().map(|(kept, _)| frame.arrived.saturating_duration_since(kept.arrived));
            if age.is_some_and(|age| age <= MAX_RING_AGE) {
                break;
            }
            self.slots[slot] = None;
            oldest += 1;
        }
        self.oldest = Some(oldest.min(newest));
    }

    fn slot(&self, seq: ExtSeq) -> usize {
        (seq.0 % self.slots.len() as u64) as usize
    }
}

/// Bounds of a [`GopCache`].
const MAX_PACKETS: usize = 8_192;
const MAX_BYTES: usize = 8 << 20;
const MAX_AGE: Duration = Duration::from_secs(20);
/// Older than this, the newest frame is the past, and showing it would pass it off as live. Browsers ask for
/// a keyframe every 3 s while nothing comes, so a replay then would also loop.
const STALE: Duration = Duration::from_secs(2);

/// Video frames since the last keyframe: a new viewer's first picture.
///
/// A group that exceeds 8,192 packets, 8 MiB or 20 s is forgotten; viewers then wait for the next keyframe.
#[derive(Debug, Default)]
pub struct GopCache {
    frames: VecDeque<Arc<Frame>>,
    packets: usize,
    bytes: usize,
}

impl GopCache {
    /// Adds the next frame.
    pub fn push(&mut self, frame: &Arc<Frame>) {
        if frame.starts_keyframe {
            self.clear();
        } else if self.frames.is_empty() {
            return;
        }
        self.packets += frame.packets.len();
        self.bytes += frame.packets.iter().map(|packet| packet.payload.len()).sum::<usize>();
        self.frames.push_back(frame.clone());
        let oldest = self.frames.front().map(|first| first.arrived);
        let too_old = oldest.is_some_and(|first| frame.arrived.saturating_duration_since(first) > MAX_AGE);
        if self.packets > MAX_PACKETS || self.bytes > MAX_BYTES || too_old {
            self.clear();
        }
    }

    /// The frames from the keyframe to the live edge; empty when there is nothing a decoder can start with,
    /// or when the camera has been silent for 2 s.
    pub fn replay(&self, now: Instant) -> impl ExactSizeIterator<Item = &Arc<Frame>> + Clone {
        let stale = self.frames.back().is_some_and(|last| now.saturating_duration_since(last.arrived) > STALE);
        self.frames.range(if stale { self.frames.len().. } else { 0.. })
    }

    /// Whether no packet is missing between the first and the newest one.
    pub fn is_whole(&self) -> bool {
        let numbers = self.frames.iter().flat_map(|frame| frame.packets.iter().map(|packet| packet.seq.0));
        let (mut count, mut lowest, mut highest) = (0, u64::MAX, 0);
        for number in numbers {
            (count, lowest, highest) = (count + 1, lowest.min(number), highest.max(number));
        }
        count > 0 && highest - lowest + 1 == count
    }

    fn clear(&mut self) {
        self.frames.clear();
        (self.packets, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{ClockPoint, Codec, RtpTime};

    fn frame(seq: u64, count: u64, starts_keyframe: bool, arrived: Instant) -> Arc<Frame> {
        let payload = Bytes::from_static(&[0; 100]);
        let packets =
            (seq..seq + count).map(|seq| FramePacket { seq: ExtSeq(seq), marker: false, payload: payload.clone() });
        let time = RtpTime(seq * 10);
        Arc::new(Frame {
            codec: Codec::H264,
            time,
            starts_keyframe,
            packets: packets.collect(),
            arrived,
            clock: ClockPoint { at: arrived, rtp: time, rate: 90_000 },
        })
    }

    #[test]
    fn the_ring_finds_recent_packets_and_forgets_old_ones() {
        let (mut ring, now) = (PacketRing::new(8), Instant::now());
        ring.insert(&frame(0, 4, true, now));
        ring.insert(&frame(4, 4, false, now));
        assert_eq!(ring.get(ExtSeq(5)).unwrap().1.time, RtpTime(40));
        ring.insert(&frame(8, 2, false, now));
        assert!(ring.get(ExtSeq(0)).is_none());
        assert!(ring.get(ExtSeq(8)).is_some());
        assert!(ring.get(ExtSeq(100)).is_none());
    }

    #[test]
    fn the_ring_forgets_what_nobody_asks_for_any_more() {
        let (mut ring, now) = (PacketRing::new(64), Instant::now());
        let kept = frame(0, 4, true, now);
        ring.insert(&kept);
        // A hole, and a late packet of it.
        ring.insert(&frame(6, 2, false, now + Duration::from_secs(1)));
        ring.insert(&frame(5, 1, false, now + Duration::from_secs(2)));
        assert!(ring.get(ExtSeq(3)).is_some() && ring.get(ExtSeq(5)).is_some());
        ring.insert(&frame(8, 2, false, now + MAX_RING_AGE + Duration::from_millis(1)));
        assert!((0..4).all(|seq| ring.get(ExtSeq(seq)).is_none()));
        assert_eq!(Arc::strong_count(&kept), 1);
        assert!((5..10).all(|seq| ring.get(ExtSeq(seq)).is_some()));
        ring.insert(&frame(1_000_000, 1, false, now + Duration::from_secs(60)));
        assert!((0..10).all(|seq| ring.get(ExtSeq(seq)).is_none()));
    }

    #[test]
    fn the_cache_holds_frames_from_the_last_keyframe_on() {
        let (mut cache, now) = (GopCache::default(), Instant::now());
        cache.push(&frame(0, 1, false, now));
        assert_eq!(cache.replay(now).len(), 0);
        cache.push(&frame(1, 2, true, now));
        cache.push(&frame(3, 1, false, now));
        assert_eq!(cache.replay(now).len(), 2);
        cache.push(&frame(4, 2, true, now));
        assert_eq!(cache.replay(now).map(|f| f.packets[0].seq.0).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn a_group_without_end_is_forgotten() {
        let (mut cache, now) = (GopCache::default(), Instant::now());
        cache.push(&frame(0, 1, true, now));
        for n in 0..MAX_PACKETS as u64 {
            cache.push(&frame(1 + n, 1, false, now));
        }
        assert_eq!(cache.replay(now).len(), 0);
    }

    #[test]
    fn a_group_with_a_hole_is_not_whole_until_the_hole_is_filled() {
        let (mut cache, now) = (GopCache::default(), Instant::now());
        assert!(!cache.is_whole());
        cache.push(&frame(10, 2, true, now));
        assert!(cache.is_whole());
        cache.push(&frame(13, 2, false, now));
        assert!(!cache.is_whole());
        cache.push(&frame(12, 1, false, now));
        assert!(cache.is_whole());
    }

    #[test]
    fn a_stale_group_is_not_shown_as_live() {
        let (mut cache, now) = (GopCache::default(), Instant::now());
        cache.push(&frame(0, 1, true, now));
        assert_eq!(cache.replay(now + STALE).len(), 1);
        assert_eq!(cache.replay(now + STALE + Duration::from_millis(1)).len(), 0);
    }
}
