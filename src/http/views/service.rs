//! The service itself: health, readiness, version, who is refused, what is logged.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::base::{CameraId, StreamId};
use crate::control::{BrokerStatus, Drops, Health, RefusedSource, Sources, StoreInfo, TcpCounters};
use crate::http::CertificateState;

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(in crate::http) struct HealthView {
    status: HealthStatus,
    timestamp: Time,
    /// Whether the media engine, which is built in, runs.
    kurento_connected: bool,
    mqtt_connected: bool,
    active_streams: usize,
    total_viewers: usize,
    cameras_known: usize,
    cameras_online: usize,
    /// Where cameras are kept across restarts; `null` for in memory only.
    #[schema(required)]
    camera_store: Option<CameraStoreView>,
    /// The listeners' certificate; `null` without one.
    #[schema(required)]
    certificate: Option<CertificateView>,
    version: &'static str,
    /// In words what is wrong; empty when healthy.
    reasons: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum HealthStatus {
    Healthy,
    Degraded,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CameraStore)]
pub(in crate::http) struct CameraStoreView {
    /// Something is known that is not in the file yet.
    unsaved: bool,
    failed_writes: u64,
    #[schema(required)]
    last_failure: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Certificate)]
struct CertificateView {
    /// When the one that is served was read.
    loaded_at: Time,
    /// When the one that is served expires.
    not_after: Time,
    /// Replaced so often.
    reloads: u64,
    /// Why the files, as they are now, are not served; the earlier certificate is.
    #[schema(required)]
    failure: Option<String>,
}

impl HealthView {
    pub(in crate::http) fn new(health: &Health, certificate: Option<CertificateState>) -> Self {
        let mut reasons = Vec::new();
        if !health.media_up {
            reasons.push("the media engine is down".to_owned());
        }
        if let BrokerStatus::Disconnected { reason } = &health.broker {
            reasons.push(format!("the MQTT broker is not connected: {reason}"));
        } else if let (streams @ 1.., Some(why)) = &health.failing_keepalives {
            reasons.push(format!("the MQTT broker does not take the keepalives of {streams} streams: {why}"));
        }
        let store = |store: &StoreInfo| CameraStoreView {
            unsaved: store.unsaved,
            failed_writes: store.failed_writes,
            last_failure: store.last_failure.clone(),
        };
        Self {
            status: if reasons.is_empty() { HealthStatus::Healthy } else { HealthStatus::Degraded },
            timestamp: SystemTime::now().into(),
            kurento_connected: health.media_up,
            mqtt_connected: health.broker == BrokerStatus::Connected,
            active_streams: health.active_streams,
            total_viewers: health.total_viewers,
            cameras_known: health.cameras_known,
            cameras_online: health.cameras_online,
            camera_store: health.camera_store.as_ref().map(store),
            certificate: certificate.map(|state| CertificateView {
                loaded_at: state.loaded_at.into(),
                not_after: state.not_after.into(),
                reloads: state.reloads,
                failure: state.failure,
            }),
            version: env!("CARGO_PKG_VERSION"),
            reasons,
        }
    }
}

/// The service takes calls.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ready)]
pub(in crate::http) struct ReadyView {
    /// Always true.
    pub(in crate::http) ready: bool,
}

/// What runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub(in crate::http) struct VersionView {
    pub(in crate::http) version: &'static str,
    /// The git commit, where whoever built it said so.
    #[schema(required)]
    pub(in crate::http) commit: Option<&'static str>,
    /// What it was built with.
    pub(in crate::http) features: Vec<&'static str>,
}

/// What is logged.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogFilter)]
pub(in crate::http) struct LogFilterView {
    /// As in `LOG_LEVEL`.
    #[schema(example = "info,honeycast::ingest=debug")]
    pub(in crate::http) filter: String,
}

/// Who sends to the camera ports without being let in.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SourceList {
    sources: Vec<SourceView>,
    count: usize,
    /// Packets dropped since the start of the service, for every reason.
    dropped: BTreeMap<&'static str, u64>,
    viewer_port: ViewerPortView,
}

/// Datagrams on the viewers' port that had no effect, by reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ViewerPort)]
struct ViewerPortView {
    /// Of no viewer.
    stranger: u64,
    /// From an address without an authenticated ICE check.
    unproven: u64,
    stun_unauthenticated: u64,
    stun_ignored: u64,
    dtls_discarded: u64,
    srtcp_refused: u64,
    rtcp_malformed: u64,
    rtp_ignored: u64,
    unknown: u64,
    /// After the viewer's end.
    late: u64,
    tcp: TcpCounters,
}

impl ViewerPortView {
    fn new(Drops { stranger, sessions, tcp }: &Drops) -> Self {
        Self {
            stranger: *stranger,
            unproven: sessions.unproven_source,
            stun_unauthenticated: sessions.stun_unauthenticated,
            stun_ignored: sessions.stun_ignored,
            dtls_discarded: sessions.dtls_discarded,
            srtcp_refused: sessions.srtcp_refused,
            rtcp_malformed: sessions.rtcp_malformed,
            rtp_ignored: sessions.rtp_ignored,
            unknown: sessions.unknown,
            late: sessions.after_close,
            tcp: *tcp,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub(in crate::http) struct SourceView {
    /// Address and port of the sender.
    address: String,
    /// The port of ours.
    port: u16,
    first_seen: Time,
    last_seen: Time,
    packets: u64,
    reason: &'static str,
    /// The camera that it comes nearest to.
    #[schema(required)]
    nearest_camera_id: Option<CameraId>,
    #[schema(required)]
    nearest_stream_id: Option<StreamId>,
}

impl SourceList {
    pub(in crate::http) fn new(found: &Sources) -> Self {
        Self {
            count: found.refused.len(),
            sources: found.refused.iter().map(|(camera, source)| SourceView::new(*camera, source)).collect(),
            dropped: found.dropped.iter().map(|(reason, count)| (reason.name(), *count)).collect(),
            viewer_port: ViewerPortView::new(&found.viewer_port),
        }
    }
}

impl SourceView {
    fn new(nearest: Option<CameraId>, source: &RefusedSource) -> Self {
        Self {
            address: source.source.to_string(),
            port: source.port,
            first_seen: source.first_seen.into(),
            last_seen: source.last_seen.into(),
            packets: source.packets,
            reason: source.reason.name(),
            nearest_camera_id: nearest,
            nearest_stream_id: source.nearest,
        }
    }
}
