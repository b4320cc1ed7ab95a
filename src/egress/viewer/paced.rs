//! The keyframes of a thinned viewer leave as fast as its path takes them, not at once: a keyframe that fills
//! the path's queue delays the sound behind it by all the time that it takes itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::weak::PROBE_TURN;
use crate::media::rtp::FIXED_HEADER_LEN;
use crate::media::{Frame, FramePacket, SeqNo};

/// A path of which nothing is known is believed to carry this share of the stream.
const UNKNOWN_SHARE: f64 = 0.4;
/// A queue behind a keyframe from which on the next one is slower, and up to which it is faster, in microseconds. With
/// one in between, the keyframe is there as soon as the path can carry it, and sound is not much later.
const QUEUE_LONG: i64 = 200_000;
const QUEUE_SHORT: i64 = 100_000;
const SLOWER: f64 = 0.8;
const FASTER: f64 = 1.05;
/// Bytes a second that any path carries.
const LEAST_RATE: f64 = 4_000.0;
/// Header and tag of a packet.
const PACKET_OVERHEAD: usize = FIXED_HEADER_LEN + 16;
/// What the sound takes of a keyframe's turn at most: a path that hardly carries the sound has its keyframes late.
const MOST_BESIDE: f64 = 0.75;
/// After a keyframe its queue is known when the viewer tells of the arrival of its last packet, or never; on a path that
/// tells nothing, it is taken for gone after a moment.
const TELLS: Duration = Duration::from_millis(1_500);
const SILENT: Duration = Duration::from_millis(200);

/// Pictures that are being sent; [`Self::next`] is to be called every [`PROBE_TURN`].
#[derive(Debug, Default)]
pub(super) struct Paced {
    frames: VecDeque<Arc<Frame>>,
    /// The next packet of the first frame.
    at: usize,
    /// Bytes per second, and how many of them may be sent now; below zero after a packet that was larger.
    rate: f64,
    credit: f64,
    turn: Option<Instant>,
    /// It goes on, whatever is known of the path's queue.
    goes_on: bool,
    /// Bytes that went beside since the last turn.
    beside: f64,
    /// The last packet of a picture whose arrival is not known yet: its mark, and when it left.
    ended: Option<(Option<SeqNo>, Instant)>,
}

impl Paced {
    /// The path carries so much, in bit/s, if that was seen.
    pub(super) fn begin(&mut self, carries: Option<u64>, stream_rate: u64) {
        self.set_rate(carries.unwrap_or((stream_rate as f64 * UNKNOWN_SHARE) as u64));
        self.ended = None;
    }

    /// The path was seen to carry so much, in bit/s.
    pub(super) fn set_rate(&mut self, carries: u64) {
        self.rate = (carries as f64 / 8.0).max(LEAST_RATE);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether some of a picture has been sent.
    pub(super) fn has_begun(&self) -> bool {
        !self.is_empty() && (self.goes_on || self.at > 0)
    }

    /// Whether it is sent although the path's queue is not gone.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Something else filled the path's queue.
    pub(super) fn interrupt(&mut self) {
        (self.goes_on, self.turn) = (false, None);
    }

    /// Whether a picture is being sent, or may be on the path.
    pub(super) fn is_on_the_way(&self, now: Instant) -> bool {
        let lasts = |mark: Option<SeqNo>| if mark.is_some() { TELLS } else { SILENT };
        !self.is_empty() || self.ended.is_some_and(|(mark, at)| now < at + lasts(mark))
    }

    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        if self.frames.is_empty() {
            (self.at, self.credit, self.turn, self.goes_on, self.beside) = (0, 0.0, None, false, 0.0);
        }
        self.frames.push_back(frame);
    }

    /// What is left, and the place in the first of it; there is nothing to be sent afterwards.
    pub(super) fn take(&mut self) -> (VecDeque<Arc<Frame>>, usize) {
        (std::mem::take(&mut self.frames), std::mem::take(&mut self.at))
    }

    /// Packets of sound were sent, which take the path's time too.
    pub(super) fn beside(&mut self, packets: &[FramePacket]) {
        if self.has_begun() {
            self.beside += packets.iter().map(bytes).sum::<f64>();
        }
    }

    /// Packets whose turn it is: a frame, and which of its packets. After the last one of a picture follows
    /// [`Self::on_end`].
    pub(super) fn next(&mut self, now: Instant) -> Option<(Arc<Frame>, std::ops::Range<usize>)> {
        let frame = self.frames.front()?.clone();
        // A turn that comes late makes up for it, but not as a burst.
        let since = self.turn.map_or(PROBE_TURN, |turn| now.saturating_duration_since(turn));
        self.turn = Some(now);
        self.goes_on = true;
        let carries = self.rate * since.min(PROBE_TURN * 3).as_secs_f64();
        let beside = self.beside.min(carries * MOST_BESIDE);
        self.beside -= beside;
        self.credit += carries - beside;
        let from = self.at;
        while self.credit > 0.0
            && let Some(packet) = frame.packets.get(self.at)
        {
            self.credit -= bytes(packet);
            self.at += 1;
        }
        let packets = from..self.at;
        if self.at >= frame.packets.len() {
            self.frames.pop_front();
            self.at = 0;
        }
        Some((frame, packets))
    }

    /// The last packet of a picture has left now, with this mark.
    pub(super) fn on_end(&mut self, mark: Option<SeqNo>, now: Instant) {
        self.ended = Some((mark, now));
    }

    /// The packet with this mark met this queue, in microseconds. The last one of a picture sent here tells whether the
    /// next one may be faster, or one that left later.
    pub(super) fn on_arrival(&mut self, mark: SeqNo, queue_us: i64, stream_rate: u64) {
        let has_left = |last: SeqNo| mark.0.wrapping_sub(last.0) < 1 << 15;
        if self.ended.take_if(|(last, _)| last.is_some_and(has_left)).is_none() {
            return;
        }
        let most = (stream_rate as f64 / 8.0).max(LEAST_RATE);
        self.rate = match queue_us {
            QUEUE_LONG.. => self.rate * SLOWER,
            ..=QUEUE_SHORT => self.rate * FASTER,
            _ => self.rate,
        }
        .clamp(LEAST_RATE, most);
    }
}

fn bytes(packet: &FramePacket) -> f64 {
    (packet.payload.len() + PACKET_OVERHEAD) as f64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{ClockPoint, Codec, ExtSeq, RtpTime};

    const PACKETS: u64 = 29;

    fn keyframe(now: Instant) -> Arc<Frame> {
        let packet = |n| FramePacket { seq: ExtSeq(n), marker: n + 1 == PACKETS, payload: Bytes::from(vec![0; 1_000]) };
        let time = RtpTime(0);
        let clock = ClockPoint { at: now, rtp: time, rate: 90_000 };
        let packets = (0..PACKETS).map(packet).collect();
        Arc::new(Frame { codec: Codec::H264, time, starts_keyframe: true, packets, arrived: now, clock })
    }

    /// Keyframes of 29 kB every 4 s on a path of 340 kbit/s: from the camera to the viewer, and the queue behind each.
    fn keyframes(believed: Option<u64>) -> Vec<(Duration, Duration)> {
        const BYTES_PER_SECOND: f64 = 42_500.0;
        const STREAM: u64 = 680_000;
        let (mut paced, begun) = (Paced::default(), Instant::now());
        paced.begin(believed, STREAM);
        let (mut path_free, mut out) = (begun, Vec::new());
        for number in 0..8 {
            let from = begun + Duration::from_secs(4) * number;
            let mut now = from;
            paced.push(keyframe(now));
            while let Some((_, packets)) = paced.next(now) {
                for _ in packets {
                    path_free = path_free.max(now) + Duration::from_secs_f64(1_028.0 / BYTES_PER_SECOND);
                }
                if !paced.is_empty() {
                    now += PROBE_TURN;
                }
            }
            let queue = path_free - now;
            let mark = SeqNo(number as u16);
            paced.on_end(Some(mark), now);
            assert!(paced.is_on_the_way(now));
            paced.on_arrival(mark, queue.as_micros() as i64, STREAM);
            assert!(!paced.is_on_the_way(now));
            out.push((path_free - from, queue));
        }
        out
    }

    #[test]
    fn a_keyframe_is_there_as_soon_as_the_path_can_carry_it_and_leaves_a_short_queue() {
        let least = Duration::from_secs_f64(29.0 * 1.028 / 42.5);
        for believed in [None, Some(250_000), Some(340_000), Some(450_000)] {
            let all = keyframes(believed);
            for (took, queue) in &all[1..] {
                assert!(*queue <= Duration::from_millis(250), "{believed:?}: {all:?}");
                assert!(*took <= least * 3 / 2, "{believed:?}: {all:?}");
            }
            assert!(all[7].0 <= least * 21 / 20, "{believed:?}: {all:?}");
        }
    }
}
