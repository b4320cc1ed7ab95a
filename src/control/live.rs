//! Frames of a stream as they are, for edges that pack them for players without WebRTC.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::{ANSWER_WITHIN, AddViewerError, Control, Request, StartOptions, Unavailable, ViewerGuard};
use crate::base::{CameraId, StreamId, ViewerId};
use crate::egress::{CloseReason, FrameTap, ViewerStats};
use crate::media::{Codec, Frame};

/// Who watches without WebRTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveClient {
    /// Its address, where that is known.
    pub remote: Option<SocketAddr>,
    /// How it gets the stream, like `http`.
    pub protocol: &'static str,
}

/// What somebody who watches without WebRTC was sent: its edge counts, the control task tells.
#[derive(Debug)]
pub struct LiveCounters {
    client: LiveClient,
    with_opus: bool,
    accepted: Instant,
    pieces: AtomicU64,
    bytes: AtomicU64,
    first: OnceLock<Duration>,
    /// Of all who ever watched so.
    total_bytes: Arc<AtomicU64>,
}

impl LiveCounters {
    pub(super) fn new(client: LiveClient, with_opus: bool, total_bytes: Arc<AtomicU64>) -> Self {
        let (pieces, bytes, first) = Default::default();
        Self { client, with_opus, accepted: Instant::now(), pieces, bytes, first, total_bytes }
    }

    /// A piece was handed to the system.
    pub fn sent(&self, bytes: usize) {
        self.first.get_or_init(|| self.accepted.elapsed());
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.total_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// In the form of the others' figures. What only WebRTC tells stays empty.
    pub(super) fn stats(&self) -> ViewerStats {
        let first = self.first.get().map(|time| time.as_millis() as u64);
        ViewerStats {
            connected: true,
            remote: self.client.remote,
            protocol: Some(self.client.protocol),
            packets: self.pieces.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            // Pictures begin with a keyframe.
            first_packet_ms: first,
            first_keyframe_ms: first,
            audio_codecs: self.with_opus.then_some(Codec::Opus).into_iter().collect(),
            ..ViewerStats::default()
        }
    }
}

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
    pub(super) seat: Option<Seat>,
}

/// The place of a viewer among the others.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) counters: Arc<LiveCounters>,
    pub(super) closed: oneshot::Receiver<CloseReason>,
    pub(super) ended: bool,
    pub(super) _guard: ViewerGuard,
}

impl Seat {
    /// Resolves when the control task has ended the viewer, or itself. Cancel-safe; may be called again.
    async fn closed(&mut self) {
        let (closed, ended) = (&mut self.closed, &mut self.ended);
        poll_fn(|cx| {
            *ended = *ended || Pin::new(&mut *closed).poll(cx).is_ready();
            if *ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl LiveFrames {
    /// The next frame, from the running group of pictures on; `None` when the stream is over, or the viewer was
    /// ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Frame>> {
        let Some(seat) = &mut self.seat else { return self.frames.next().await };
        tokio::select! {
            biased;
            () = seat.closed() => None,
            frame = self.frames.next() => frame,
        }
    }

    /// The group of pictures that was running when the stream was tapped; empty if there was none.
    pub async fn running_group(&mut self) -> Vec<Arc<Frame>> {
        self.frames.first().await
    }

    /// Where to count what the viewer was sent, where it counts as one.
    pub fn counters(&self) -> Option<Arc<LiveCounters>> {
        self.seat.as_ref().map(|seat| Arc::clone(&seat.counters))
    }
}

impl Control {
    /// Watches a camera's running stream without WebRTC; counts as a viewer. With `start_on_demand` the stream is
    /// started if none runs.
    ///
    /// # Errors
    ///
    /// [`AddViewerError`], at the latest after [`ANSWER_WITHIN`].
    pub async fn watch_frames(&self, camera: CameraId, client: LiveClient) -> Result<LiveFrames, AddViewerError> {
        let added = async {
            if self.start_on_demand {
                let options = StartOptions::default();
                let started = self.ask(|reply| Request::Start { camera, options, join: true, reply }).await?;
                started.map_err(AddViewerError::Start)?;
            }
            self.ask(|reply| Request::Frames { camera, client: Some(client), reply }).await?
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
        self.ask(|reply| Request::Frames { camera, client: None, reply }).await?
    }

    /// Asks the camera for a keyframe, if the stream runs.
    pub async fn request_keyframe(&self, stream: StreamId) {
        // Who asks will ask again.
        let _ = self.ask(|reply| Request::Keyframe { stream, reply }).await;
    }
}
