//! Frames of a stream as they are, for edges that pack them for players without WebRTC.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::handle::{ANSWER_WITHIN, AddViewerError, Control, Request, StartOptions, Unavailable};
use crate::base::{CameraId, StreamId, ViewerId};
use crate::egress::FrameTap;
use crate::media::Frame;

/// The frames of one stream. Dropping it ends the viewer.
#[derive(Debug)]
pub struct LiveFrames {
    /// The viewer, where it counts as one.
    pub viewer_id: Option<ViewerId>,
    /// The stream that it watches.
    pub stream_id: StreamId,
    /// Whether Opus arrives.
    pub with_opus: bool,
    pub(super) frames: FrameTap,
    /// Its end tells the control task that the viewer left.
    pub(super) _guard: Option<oneshot::Sender<()>>,
}

impl LiveFrames {
    /// The next frame, from the running group of pictures on; `None` when the stream is over. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Frame>> {
        self.frames.next().await
    }

    /// The group of pictures that was running when the stream was tapped; empty if there was none.
    pub async fn running_group(&mut self) -> Vec<Arc<Frame>> {
        self.frames.first().await
    }
}

impl Control {
    /// Watches a camera's running stream without WebRTC; counts as a viewer. With `start_on_demand` the stream is
    /// started if none runs.
    ///
    /// # Errors
    ///
    /// [`AddViewerError`], at the latest after [`ANSWER_WITHIN`].
    pub async fn watch_frames(&self, camera: CameraId) -> Result<LiveFrames, AddViewerError> {
        let added = async {
            if self.start_on_demand {
                let options = StartOptions::default();
                let started = self.ask(|reply| Request::Start { camera, options, join: true, reply }).await?;
                started.map_err(AddViewerError::Start)?;
            }
            self.ask(|reply| Request::Frames { camera, counts: true, reply }).await?
        };
        let added = tokio::time::timeout(ANSWER_WITHIN, added).await.unwrap_or(Err(Unavailable::Timeout.into()));
        added.inspect_err(|error| self.tally.refused(error))
    }

    /// Looks at a camera's running stream; nobody is counted, and nothing is started.
    ///
    /// # Errors
    ///
    /// [`AddViewerError`].
    pub async fn glance(&self, camera: CameraId) -> Result<LiveFrames, AddViewerError> {
        self.ask(|reply| Request::Frames { camera, counts: false, reply }).await?
    }

    /// Asks the camera for a keyframe, if the stream runs.
    pub async fn request_keyframe(&self, stream: StreamId) {
        // Who asks will ask again.
        let _ = self.ask(|reply| Request::Keyframe { stream, reply }).await;
    }
}
