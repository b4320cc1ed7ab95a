//! A second way out for a stream's frames: as they are, to whoever packs them differently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::audience::Watching;
use crate::media::Frame;
use crate::media::cache::GopCache;

/// Frames that wait for a reader, some seconds of video. What does not fit is lost for it; it sees the gap.
const QUEUE: usize = 512;

/// The frames of one stream: the group of pictures that is running, then what comes live.
#[derive(Debug)]
pub struct FrameTap {
    incoming: mpsc::Receiver<Vec<Arc<Frame>>>,
    group: VecDeque<Arc<Frame>>,
    /// Frames come at once as long as somebody watches.
    _watching: Option<Watching>,
}

/// Where a shard puts them.
#[derive(Debug)]
pub(super) struct Tap {
    frames: mpsc::Sender<Vec<Arc<Frame>>>,
    /// Frames that found the queue full, of all taps.
    missed: Arc<AtomicU64>,
}

/// A tap and its reader, who is one of those who watch.
pub(super) fn tap(missed: Arc<AtomicU64>, watching: Option<Watching>) -> (Tap, FrameTap) {
    let (frames, incoming) = mpsc::channel(QUEUE);
    (Tap { frames, missed }, FrameTap { incoming, group: VecDeque::new(), _watching: watching })
}

impl FrameTap {
    /// The next frame; `None` when the stream is over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Frame>> {
        loop {
            if let Some(frame) = self.group.pop_front() {
                return Some(frame);
            }
            self.group.extend(self.incoming.recv().await?);
        }
    }

    /// What is there without waiting: at the begin the group of pictures that was running.
    pub async fn first(&mut self) -> Vec<Arc<Frame>> {
        self.incoming.recv().await.unwrap_or_default()
    }

    /// These frames as the running group of pictures, and what keeps the stream from ending after them.
    pub fn of(frames: Vec<Arc<Frame>>) -> (Self, impl Send + 'static) {
        let (tap, reader) = tap(Arc::default(), None);
        // There is room: nothing was sent yet.
        let _ = tap.frames.try_send(frames);
        (reader, tap)
    }
}

impl Tap {
    /// Shows the group of pictures, so that the reader has something to begin with.
    pub(super) fn begin(&self, gop: &GopCache, now: Instant) {
        // Nobody else has sent anything yet: there is room.
        let _ = self.frames.try_send(gop.replay(now).cloned().collect());
    }

    /// Returns whether anybody still reads.
    pub(super) fn on_frame(&self, frame: &Arc<Frame>) -> bool {
        match self.frames.try_send(vec![frame.clone()]) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{ClockPoint, Codec, RtpTime};

    #[tokio::test]
    async fn frames_that_a_slow_reader_misses_are_counted_and_those_that_it_has_room_for_come_in_order() {
        let (missed, now) = (Arc::<AtomicU64>::default(), Instant::now());
        let (tap, mut reader) = tap(missed.clone(), None);
        let frame = |n: usize| {
            let time = RtpTime(n as u64);
            let clock = ClockPoint { at: now, rtp: time, rate: 90_000 };
            let packets = Vec::new();
            Arc::new(Frame { codec: Codec::H264, time, starts_keyframe: false, packets, arrived: now, clock })
        };
        assert!((0..QUEUE + 3).all(|n| tap.on_frame(&frame(n))), "it still reads");
        assert_eq!(missed.load(Ordering::Relaxed), 3);
        for n in 0..QUEUE {
            assert_eq!(reader.next().await.unwrap().time, RtpTime(n as u64));
        }
        drop(reader);
        assert!(!tap.on_frame(&frame(0)));
        assert_eq!(missed.load(Ordering::Relaxed), 3, "nobody missed that one");
    }
}
