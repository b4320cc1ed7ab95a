//! A second way out for a stream's frames: as they are, to whoever packs them differently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::media::Frame;
use crate::media::cache::GopCache;

/// Frames that wait for a reader, some seconds of video. What does not fit is lost for it; it sees the gap.
const QUEUE: usize = 512;

/// The frames of one stream: the group of pictures that is running, then what comes live.
#[derive(Debug)]
pub struct FrameTap {
    incoming: mpsc::Receiver<Vec<Arc<Frame>>>,
    group: VecDeque<Arc<Frame>>,
}

/// Where a shard puts them.
#[derive(Debug)]
pub(super) struct Tap {
    frames: mpsc::Sender<Vec<Arc<Frame>>>,
}

/// A tap and its reader.
pub(super) fn tap() -> (Tap, FrameTap) {
    let (frames, incoming) = mpsc::channel(QUEUE);
    (Tap { frames }, FrameTap { incoming, group: VecDeque::new() })
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
        let (tap, reader) = tap();
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
        !matches!(self.frames.try_send(vec![frame.clone()]), Err(TrySendError::Closed(_)))
    }
}
