//! Viewers.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, address, hundredths};
use crate::base::{CameraId, StreamId, ViewerId};
use crate::control::{ThinReason, ViewerInfo, ViewerStats};

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
    /// The address of ours that it talks to.
    #[schema(required)]
    local: Option<String>,
    /// `udp` or `tcp`.
    #[schema(required)]
    protocol: Option<&'static str>,
    #[schema(required)]
    srtp_profile: Option<&'static str>,
    packets: u64,
    bytes: u64,
    /// Runs of packets handed to the kernel.
    runs: u64,
    /// Runs that the socket refused.
    refused_runs: u64,
    retransmissions: u64,
    /// Packets that were asked for and not sent again.
    retransmissions_withheld: u64,
    /// Packets that it asked for again.
    nacks: u64,
    /// Keyframes that it asked for, by PLI.
    plis: u64,
    /// Keyframes that it asked for, by FIR.
    firs: u64,
    /// Of video, by its receiver reports of the last second or more.
    #[schema(minimum = 0, maximum = 1)]
    fraction_lost: f64,
    /// Video packets lost so far, by its last receiver report; negative after duplicates.
    lost: i64,
    jitter_ms: f64,
    #[schema(required)]
    rtt_ms: Option<f64>,
    #[schema(required)]
    remb_kbps: Option<u64>,
    /// Queueing on the way to it, where it reports arrival times.
    #[schema(required)]
    queue_ms: Option<f64>,
    /// Freezes inferred from what was sent and asked for.
    freezes: u64,
    freeze_seconds: f64,
    /// From the offer to the first packet.
    #[schema(required)]
    first_packet_ms: Option<u64>,
    /// From the offer to the first keyframe.
    #[schema(required)]
    first_keyframe_ms: Option<u64>,
    /// Only keyframes are sent now.
    thinned: bool,
    #[schema(required)]
    thinned_reason: Option<&'static str>,
    #[schema(required)]
    thinned_since: Option<Time>,
    thinnings: u64,
    thinned_seconds: f64,
    /// Probes of a thinned path.
    probes: u64,
    /// What the path was last seen to carry while it was thinned for its delay.
    #[schema(required)]
    carries_kbps: Option<u64>,
    /// The sound that it takes, the preferred one first.
    audio_codecs: Vec<&'static str>,
    /// Sound packets that it did not get because its offer has no such codec.
    audio_unplayable: u64,
}

impl ViewerFigures {
    fn new(stats: &ViewerStats) -> Self {
        Self {
            remote: address(stats.remote),
            local: address(stats.local),
            protocol: stats.protocol,
            srtp_profile: stats.srtp_profile,
            packets: stats.packets,
            bytes: stats.bytes,
            runs: stats.runs,
            refused_runs: stats.refused_runs,
            retransmissions: stats.retransmissions,
            retransmissions_withheld: stats.retransmissions_withheld,
            nacks: stats.nacks,
            plis: stats.plis,
            firs: stats.firs,
            fraction_lost: stats.fraction_lost,
            lost: stats.lost,
            jitter_ms: hundredths(stats.jitter_ms),
            rtt_ms: stats.rtt_ms.map(hundredths),
            remb_kbps: stats.remb.map(|remb| remb / 1000),
            queue_ms: stats.queue_ms.map(hundredths),
            freezes: stats.freezes,
            freeze_seconds: hundredths(stats.freeze_seconds),
            first_packet_ms: stats.first_packet_ms,
            first_keyframe_ms: stats.first_keyframe_ms,
            thinned: stats.thinned,
            thinned_reason: stats.thinned_reason.map(ThinReason::name),
            thinned_since: stats.thinned_since.map(Into::into),
            thinnings: stats.thinnings,
            thinned_seconds: hundredths(stats.thinned_seconds),
            probes: stats.probes,
            carries_kbps: stats.carries.map(|carries| carries / 1000),
            audio_codecs: stats.audio_codecs.iter().map(|codec| codec.name()).collect(),
            audio_unplayable: stats.audio_unplayable,
        }
    }
}
