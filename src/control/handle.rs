//! [`Control`]: the one handle that all edges use.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::cameras::{CameraInfo, LabelError};
use super::events::EventsError;
use super::history::{Change, Point};
use super::info::{Health, Sources, StreamInfo, ViewerInfo};
use super::label::LabelChange;
use super::live::{LiveClient, LiveFrames};
use super::session::State;
use super::settings::BrokerStatus;
use super::tally::Tally;
use crate::base::{CameraId, SessionId, StreamId, ViewerId};
use crate::egress::{Candidate, CloseReason, IceRestart, RestartError, ViewerAnswer};
use crate::telemetry::metrics::Collect;

/// Every call answers within this time, whatever hangs below (contract §5: 10 s).
pub const ANSWER_WITHIN: Duration = Duration::from_millis(9_500);
/// The first attempt to reach the broker is waited for no longer than this.
const FIRST_ATTEMPT: Duration = Duration::from_secs(3);
/// A shutdown waits no longer for `stop` to reach the broker.
pub const STOP_ALL_WITHIN: Duration = Duration::from_millis(1_500);
/// Calls that may wait for the control task. Beyond that, callers wait to get in, within [`ANSWER_WITHIN`].
pub(super) const REQUEST_QUEUE: usize = 256;

/// Handle of the control plane; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) start_on_demand: bool,
    pub(super) tally: Arc<Tally>,
    /// As it was when control began, until the first attempt to reach the broker has ended.
    pub(super) broker: watch::Receiver<BrokerStatus>,
}

/// Who wants to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewViewer {
    /// The stream that the page believes to run; `None` for whichever runs.
    pub stream_id: Option<String>,
    /// SDP offer.
    pub offer: String,
    /// The viewer that makes room for this one, if this one is accepted.
    pub replaces: Option<ViewerId>,
}

/// How a stream is to be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Lowest REMB value in kbit/s; the configured one if `None`.
    pub min_bandwidth: Option<u32>,
    /// Highest REMB value in kbit/s; the configured one if `None`.
    pub max_bandwidth: Option<u32>,
    /// Address of the client that asks, a hint for the address in the SDP.
    pub client_ip: Option<IpAddr>,
}

/// A stream whose `play` the broker has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The camera.
    pub camera_id: CameraId,
    /// The session's id for people.
    pub session_id: SessionId,
    /// The stream.
    pub stream_id: StreamId,
    /// `active`, unless it has ended meanwhile.
    pub state: State,
    /// When the start was asked for.
    pub started_at: SystemTime,
    /// It ran before this call; only with `start_idempotent`.
    pub already_running: bool,
}

/// Why a stream was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It starts, runs or waits for its start already.
    #[error("Stream already active for camera {camera}")]
    AlreadyActive {
        /// The camera.
        camera: CameraId,
        /// The running session.
        session_id: SessionId,
        /// The running stream.
        stream_id: StreamId,
    },
    /// The options make no sense; the text says why.
    #[error("{0}")]
    Options(String),
    /// Broker or media engine refused; the text says which and why.
    #[error("{0}")]
    Failed(String),
    /// The limit of streams is reached.
    #[error("Maximum streams ({0}) reached")]
    TooMany(usize),
    /// Somebody stopped it before it ran.
    #[error("Stream was stopped before it had started")]
    StoppedMeanwhile,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a stream was not stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// There is none.
    #[error("No active stream for camera {0}")]
    NotFound(CameraId),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a viewer was not accepted. The texts go to viewer pages (contract §6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddViewerError {
    /// The camera does not stream.
    #[error("No active stream found for camera {0}")]
    NoStream(CameraId),
    /// The camera streams, but the page asked for an earlier stream.
    #[error("Stream {asked} is not the active stream of camera {camera}")]
    OtherStream {
        /// The camera.
        camera: CameraId,
        /// The stream id of the page, shortened.
        asked: String,
    },
    /// The limit of viewers is reached.
    #[error("Maximum viewers ({0}) reached for stream")]
    TooMany(usize),
    /// The offer cannot be used.
    #[error("Invalid SDP offer: {0}")]
    Offer(String),
    /// The media engine is down or overloaded.
    #[error("{0}")]
    Media(String),
    /// The stream was to be started for this viewer, and could not be.
    #[error(transparent)]
    Start(StartError),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The control plane itself did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It is shutting down or has stopped.
    #[error("Service is shutting down")]
    Stopped,
    /// It did not answer within [`ANSWER_WITHIN`].
    #[error("No answer within 10 s")]
    Timeout,
}

/// An accepted viewer. Dropping it ends the viewer.
#[derive(Debug)]
pub struct ViewerHandle {
    /// The viewer.
    pub viewer_id: ViewerId,
    /// The stream that it watches.
    pub stream_id: StreamId,
    /// The SDP answer.
    pub answer: String,
    /// The server's candidates; the answer holds them as well.
    pub candidates: Vec<Candidate>,
    pub(super) closed: oneshot::Receiver<CloseReason>,
    pub(super) ended: Option<CloseReason>,
    pub(super) access_ended: Option<AccessEnded>,
    pub(super) _guard: ViewerGuard,
}

/// Dropping it tells the control task that the viewer left.
#[derive(Debug)]
pub(super) struct ViewerGuard {
    pub(super) viewer: ViewerId,
    pub(super) left: mpsc::UnboundedSender<ViewerId>,
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        // Without the task there are no viewers.
        let _ = self.left.send(self.viewer);
    }
}

/// Resolves when somebody may watch no more.
pub(super) struct AccessEnded(Pin<Box<dyn Future<Output = ()> + Send>>);

impl fmt::Debug for AccessEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessEnded")
    }
}

impl ViewerHandle {
    /// When `ended` resolves, [`Self::closed`] says [`CloseReason::AccessEnded`]; whoever holds the handle drops it
    /// then, as after any other end.
    pub fn ends_with(&mut self, ended: impl Future<Output = ()> + Send + 'static) {
        self.access_ended = Some(AccessEnded(Box::pin(ended)));
    }

    /// Resolves when the viewer's session has ended, and says why. Cancel-safe; may be called again.
    pub async fn closed(&mut self) -> CloseReason {
        if let Some(reason) = &self.ended {
            return reason.clone();
        }
        let access_ended = async {
            match &mut self.access_ended {
                Some(AccessEnded(ended)) => ended.await,
                None => std::future::pending().await,
            }
        };
        let reason = tokio::select! {
            biased;
            // The control task drops the sender without a word only when it ends itself.
            reason = &mut self.closed => reason.unwrap_or(CloseReason::Shutdown),
            () = access_ended => CloseReason::AccessEnded,
        };
        self.ended.insert(reason).clone()
    }
}

pub(super) type Reply<T> = oneshot::Sender<T>;

pub(super) enum Request {
    Start { camera: CameraId, options: StartOptions, join: bool, reply: Reply<Result<Started, StartError>> },
    Stop { camera: CameraId, reply: Reply<Result<StreamInfo, StopError>> },
    StopAll { reason: String, reply: Reply<()> },
    Streams { reply: Reply<Vec<StreamInfo>> },
    Stream { camera: CameraId, reply: Reply<Option<(StreamInfo, Vec<ViewerInfo>)>> },
    Viewers { camera: Option<CameraId>, reply: Reply<Vec<ViewerInfo>> },
    Sources { reply: Reply<Sources> },
    Health { reply: Reply<Health> },
    AddViewer { camera: CameraId, viewer: NewViewer, reply: Reply<Result<ViewerHandle, AddViewerError>> },
    Frames { camera: CameraId, client: Option<LiveClient>, reply: Reply<Result<LiveFrames, AddViewerError>> },
    Keyframe { stream: StreamId, reply: Reply<()> },
    RemoveViewer { viewer: ViewerId, reply: Reply<bool> },
    RestartViewer { viewer: ViewerId, offer: String, reply: Reply<Result<ViewerAnswer, RestartError>> },
    RestartIce { viewer: ViewerId, remote_ufrag: String, reply: Reply<Result<IceRestart, RestartError>> },
    Cameras { reply: Reply<Vec<CameraInfo>> },
    Camera { camera: CameraId, reply: Reply<Option<CameraInfo>> },
    History { camera: CameraId, reply: Reply<(Vec<Point>, Vec<Change>)> },
    Events { reply: Reply<Result<broadcast::Receiver<Change>, EventsError>> },
    Label { camera: CameraId, change: LabelChange, reply: Reply<Result<CameraInfo, LabelError>> },
}

impl Control {
    /// Calls of this handle and its clones that control has not begun with.
    pub fn waiting_requests(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Starts a camera's stream and resolves when the broker has acknowledged `play`.
    ///
    /// # Errors
    ///
    /// [`StartError`], at the latest after [`ANSWER_WITHIN`].
    pub async fn start_stream(&self, camera: CameraId, options: StartOptions) -> Result<Started, StartError> {
        let started = async {
            // Scripts start a stream as soon as the port answers.
            let _ = tokio::time::timeout(FIRST_ATTEMPT, self.broker_tried()).await;
            self.ask(|reply| Request::Start { camera, options, join: false, reply }).await?
        };
        tokio::time::timeout(ANSWER_WITHIN, started).await.unwrap_or(Err(Unavailable::Timeout.into()))
    }

    /// Resolves when the first attempt to reach the broker has ended, well or badly: from then on a start is
    /// refused for a reason only.
    pub async fn broker_tried(&self) {
        let mut status = self.broker.clone();
        if *status.borrow() != BrokerStatus::Connected && status.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Stops a camera's stream: the camera is told, viewers are told and closed.
    ///
    /// # Errors
    ///
    /// [`StopError`], at the latest after [`ANSWER_WITHIN`].
    pub async fn stop_stream(&self, camera: CameraId) -> Result<StreamInfo, StopError> {
        self.ask(|reply| Request::Stop { camera, reply }).await?
    }

    /// Stops all streams for good, because of a shutdown: cameras and viewers are told, new ones are refused.
    /// Takes [`STOP_ALL_WITHIN`] at most.
    pub async fn stop_all(&self, reason: &str) {
        let reason = reason.to_owned();
        let stopped = self.ask(|reply| Request::StopAll { reason, reply });
        if tokio::time::timeout(STOP_ALL_WITHIN, stopped).await.is_err() {
            tracing::warn!("not every camera could be told to stop in time");
        }
    }

    /// The streams that start, run or stop, by camera id.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn streams(&self) -> Result<Vec<StreamInfo>, Unavailable> {
        self.ask(|reply| Request::Streams { reply }).await
    }

    /// A camera's stream with its viewers; a failed one for ten minutes or until the next start.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn stream(&self, camera: CameraId) -> Result<Option<(StreamInfo, Vec<ViewerInfo>)>, Unavailable> {
        self.ask(|reply| Request::Stream { camera, reply }).await
    }

    /// The viewers of one camera, or all, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn viewers(&self, camera: Option<CameraId>) -> Result<Vec<ViewerInfo>, Unavailable> {
        self.ask(|reply| Request::Viewers { camera, reply }).await
    }

    /// What was dropped on the camera ports, and whose it was.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn sources(&self) -> Result<Sources, Unavailable> {
        self.ask(|reply| Request::Sources { reply }).await
    }

    /// How the service is.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn health(&self) -> Result<Health, Unavailable> {
        self.ask(|reply| Request::Health { reply }).await
    }

    /// Accepts a viewer of a camera's running stream. With `start_on_demand` the stream is started if none runs,
    /// and the viewer waits for the broker's acknowledgement of `play`.
    ///
    /// # Errors
    ///
    /// [`AddViewerError`], at the latest after [`ANSWER_WITHIN`]. The viewer to be replaced lives on then.
    pub async fn add_viewer(&self, camera: CameraId, viewer: NewViewer) -> Result<ViewerHandle, AddViewerError> {
        let added = async {
            if self.start_on_demand {
                let options = StartOptions::default();
                let started = self.ask(|reply| Request::Start { camera, options, join: true, reply }).await?;
                started.map_err(AddViewerError::Start)?;
            }
            self.ask(|reply| Request::AddViewer { camera, viewer, reply }).await?
        };
        let added = tokio::time::timeout(ANSWER_WITHIN, added).await.unwrap_or(Err(Unavailable::Timeout.into()));
        added.inspect_err(|error| self.tally.refused(error))
    }

    /// Ends a viewer; `false` if there is no such viewer.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn remove_viewer(&self, viewer: ViewerId) -> Result<bool, Unavailable> {
        self.ask(|reply| Request::RemoveViewer { viewer, reply }).await
    }

    /// Takes the next offer of a running viewer's peer connection: an ICE restart. Media goes on.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]; inside, why it is no restart. The viewer goes on as it was.
    pub async fn restart_viewer(
        &self,
        viewer: ViewerId,
        offer: String,
    ) -> Result<Result<ViewerAnswer, RestartError>, Unavailable> {
        self.ask(|reply| Request::RestartViewer { viewer, offer, reply }).await
    }

    /// Restarts ICE for a viewer whose client has only sent its new user fragment (WHEP).
    ///
    /// # Errors
    ///
    /// [`Unavailable`]; inside, why it is no restart. The viewer goes on as it was.
    pub async fn restart_ice(
        &self,
        viewer: ViewerId,
        remote_ufrag: String,
    ) -> Result<Result<IceRestart, RestartError>, Unavailable> {
        self.ask(|reply| Request::RestartIce { viewer, remote_ufrag, reply }).await
    }

    /// What was counted since the start.
    pub fn tally(&self) -> &dyn Collect {
        &*self.tally
    }

    pub(super) async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let answered = async {
            self.requests.send(request(reply)).await.map_err(|_| Unavailable::Stopped)?;
            answer.await.map_err(|_| Unavailable::Stopped)
        };
        tokio::time::timeout(ANSWER_WITHIN, answered).await.unwrap_or(Err(Unavailable::Timeout))
    }
}
