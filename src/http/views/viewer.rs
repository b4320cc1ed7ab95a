//! Viewers.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, address, hundredths};
use crate::base::{CameraId, StreamId, ViewerId};
use crate::control::{ViewerInfo, ViewerStats};

/// The viewers of all streams, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ViewerList {
    viewers: Vec<Viewer>,
    count: usize,
}

impl ViewerList {
    pub(in crate::http) fn new(viewers: &[ViewerInfo]) -> Self {
        Self { count: viewers.len(), viewers: viewers.iter().map(Viewer::new).collect() }
    }
}

/// The viewers of one camera; none for a camera that nobody knows.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ViewersOfCamera {
    camera_id: CameraId,
    #[serde(flatten)]
    list: ViewerList,
}

impl ViewersOfCamera {
    pub(in crate::http) fn new(camera_id: CameraId, viewers: &[ViewerInfo]) -> Self {
        Self { camera_id, list: ViewerList::new(viewers) }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Viewer {
    viewer_id: ViewerId,
    camera_id: CameraId,
    stream_id: StreamId,
    created_at: Time,
    /// A name of the old system, for scripts that print it.
    webrtc_endpoint_id: String,
    /// ICE and DTLS are up.
    connected: bool,
    #[schema(required)]
    stats: Option<ViewerFigures>,
}

impl Viewer {
    pub(super) fn new(viewer: &ViewerInfo) -> Self {
        Self {
            viewer_id: viewer.viewer_id,
            camera_id: viewer.camera_id,
            stream_id: viewer.stream_id,
            created_at: viewer.created_at.into(),
            webrtc_endpoint_id: format!("{}_honeycast.WebRtcEndpoint", viewer.viewer_id),
            connected: viewer.connected,
            stats: viewer.stats.as_ref().map(ViewerFigures::new),
        }
    }
}

/// What a viewer was sent, and what it says of that.
#[derive(Debug, Serialize, ToSchema)]
struct ViewerFigures {
    /// The browser's address.
    #[schema(required)]
    remote: Option<String>,
    packets: u64,
    bytes: u64,
    retransmissions: u64,
    /// Packets that it asked for again.
    nacks: u64,
    /// Keyframes that it asked for.
    plis: u64,
    /// Of video, by its last receiver report.
    #[schema(minimum = 0, maximum = 1)]
    fraction_lost: f64,
    #[schema(required)]
    rtt_ms: Option<f64>,
    #[schema(required)]
    remb_kbps: Option<u64>,
    /// The sound that it takes, the preferred one first.
    audio_codecs: Vec<&'static str>,
    /// Sound packets that it did not get because its offer has no such codec.
    audio_unplayable: u64,
}

impl ViewerFigures {
    fn new(stats: &ViewerStats) -> Self {
        Self {
            remote: address(stats.remote),
            packets: stats.packets,
            bytes: stats.bytes,
            retransmissions: stats.retransmissions,
            nacks: stats.nacks,
            plis: stats.plis,
            fraction_lost: stats.fraction_lost,
            rtt_ms: stats.rtt_ms.map(hundredths),
            remb_kbps: stats.remb.map(|remb| remb / 1000),
            audio_codecs: stats.audio_codecs.iter().map(|codec| codec.name()).collect(),
            audio_unplayable: stats.audio_unplayable,
        }
    }
}
