//! What the control plane answers: plain copies of its state.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::cameras::StoreInfo;
use super::picture::PictureStatus;
use super::registry::CameraFacts;
use super::session::{ActiveReason, State};
use super::settings::BrokerStatus;
use crate::base::{CameraId, SessionId, StreamId, ViewerId};
use crate::egress::{Drops, ViewerStats};
use crate::ingest::{DropReason, IngestStats, RefusedSource};

/// A stream, running or failed.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInfo {
    /// The camera.
    pub camera_id: CameraId,
    /// The session's id for people.
    pub session_id: SessionId,
    /// The stream.
    pub stream_id: StreamId,
    /// Where the session is.
    pub state: State,
    /// Why it failed.
    pub error: Option<String>,
    /// When the start was asked for.
    pub started_at: SystemTime,
    /// When it ended.
    pub stopped_at: Option<SystemTime>,
    /// From start to end, or until now.
    pub duration: Duration,
    /// Accepted viewers.
    pub viewer_count: usize,
    /// The keepalives.
    pub keepalive: KeepaliveInfo,
    /// Attempts and failures.
    pub manager: ManagerInfo,
    /// What is known of the packets.
    pub media: MediaInfo,
    /// What the camera said over MQTT.
    pub camera: Option<CameraFacts>,
    /// Whether there is a picture, and why not.
    pub picture: PictureStatus,
}

/// Keepalives of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepaliveInfo {
    /// Whether they are being sent.
    pub running: bool,
    /// Time between two.
    pub interval: Duration,
    /// Acknowledged by the broker.
    pub count: u64,
    /// Failed.
    pub errors: u64,
    /// When the last one was acknowledged.
    pub last_success: Option<SystemTime>,
    /// Why the last failed one failed.
    pub last_error: Option<String>,
    /// Since the first one.
    pub elapsed: Duration,
}

/// Attempts and failures of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManagerInfo {
    /// Starts asked for, refused ones included.
    pub start_attempts: u64,
    /// Stops asked for.
    pub stop_attempts: u64,
    /// Messages to the camera that could not be published.
    pub errors: u64,
    /// Why the last of them could not.
    pub last_error: Option<String>,
    /// `play`s acknowledged by the broker: more than one after a reboot of the camera or a silence.
    pub plays: u64,
}

/// Packets of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaInfo {
    /// Whether they arrive.
    pub state: MediaState,
    /// In words what is wrong.
    pub reason: Option<String>,
    /// What `active` rests on.
    pub active_reason: Option<ActiveReason>,
    /// The ingest's figures; of an ended stream the last ones.
    pub stats: Option<IngestStats>,
}

/// Whether packets arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MediaState {
    /// None so far.
    Waiting,
    /// They do.
    Flowing,
    /// They did, but no longer.
    Stalled,
    /// The stream is being stopped, or has been: none are taken.
    Stopped,
}

/// An accepted viewer.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewerInfo {
    /// The viewer.
    pub viewer_id: ViewerId,
    /// The camera that it watches.
    pub camera_id: CameraId,
    /// The stream that it watches.
    pub stream_id: StreamId,
    /// When it was accepted.
    pub created_at: SystemTime,
    /// ICE and DTLS are up.
    pub connected: bool,
    /// The egress's figures.
    pub stats: Option<ViewerStats>,
}

/// What was dropped on the camera ports and the viewer port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The sources, each with the camera that it comes nearest to; the last heard one first.
    pub refused: Vec<(Option<CameraId>, RefusedSource)>,
    /// Packets dropped since the start, for every reason.
    pub dropped: Vec<(DropReason, u64)>,
    /// What arrived on the viewer port in vain.
    pub viewer_port: Drops,
}

/// How the service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Ingest and egress run.
    pub media_up: bool,
    /// The link to the broker.
    pub broker: BrokerStatus,
    /// Streams that start or run.
    pub active_streams: usize,
    /// Those of them whose last keepalive failed, and why one of them did: with the broker connected, it is slow or
    /// refuses.
    pub failing_keepalives: (usize, Option<String>),
    /// Accepted viewers.
    pub total_viewers: usize,
    /// Cameras heard of over MQTT.
    pub cameras_known: usize,
    /// Those that are connected to the broker.
    pub cameras_online: usize,
    /// Where cameras are kept across restarts; `None` for in memory only.
    pub camera_store: Option<StoreInfo>,
}
