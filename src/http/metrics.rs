//! `GET /metrics` for Prometheus.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::document::Unanswered;
use super::error::ApiError;
use super::{Api, Certificates};
use crate::control::{
    BrokerStatus, CameraInfo, Health, IngestStats, MediaState, Sources, State as StreamState, StreamInfo, TrackStats,
    ViewerInfo,
};
use crate::telemetry::metrics::{Collect as _, Page, catalog};

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "service",
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        Unanswered,
    ))]
pub(super) async fn scrape(State(api): State<Api>) -> Result<impl IntoResponse, ApiError> {
    let control = &api.control;
    let (health, streams, viewers, cameras, sources) = tokio::try_join!(
        control.health(),
        control.streams(),
        control.viewers(None),
        control.cameras(),
        control.sources(),
    )?;
    let mut page = Page::new();
    service(&mut page, &health);
    if let Some(certificate) = api.certificates.as_ref().map(Certificates::state) {
        page.maybe(&catalog::CERTIFICATE_EXPIRY, &[], seconds(Some(certificate.not_after)));
        page.add(&catalog::CERTIFICATE_FAILURE, &[], flag(certificate.failure.is_some()));
    }
    self::streams(&mut page, &streams);
    self::viewers(&mut page, &streams, &viewers);
    self::cameras(&mut page, &cameras);
    self::sources(&mut page, &sources);
    page.count(&catalog::QUEUE_WAITING, &["requests"], control.waiting_requests() as u64);
    control.tally().collect(&mut page);
    api.requests.collect(&mut page);
    for source in &api.metrics.0 {
        source.collect(&mut page);
    }
    Ok(([(header::CONTENT_TYPE, Page::CONTENT_TYPE)], page.render()))
}

fn service(page: &mut Page, health: &Health) {
    page.add(&catalog::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    page.add(&catalog::MEDIA_UP, &[], flag(health.media_up));
    page.add(&catalog::MQTT_CONNECTED, &[], flag(health.broker == BrokerStatus::Connected));
    page.count(&catalog::CAMERAS_KNOWN, &[], health.cameras_known as u64);
    page.count(&catalog::CAMERAS_ONLINE, &[], health.cameras_online as u64);
    if let Some(store) = &health.camera_store {
        page.add(&catalog::STORE_UNSAVED, &[], flag(store.unsaved));
        page.count(&catalog::STORE_FAILURES, &[], store.failed_writes);
    }
}

fn streams(page: &mut Page, streams: &[StreamInfo]) {
    let states =
        [("starting", StreamState::Starting), ("active", StreamState::Active), ("stopping", StreamState::Stopping)];
    for (name, state) in states {
        let count = streams.iter().filter(|stream| stream.state == state).count();
        page.count(&catalog::STREAMS, &[name], count as u64);
    }
    for stream in streams {
        let camera = stream.camera_id.to_string();
        let of = &[camera.as_str()];
        page.add(&catalog::STREAM_MEDIA, of, flag(stream.media.state == MediaState::Flowing));
        page.count(&catalog::STREAM_VIEWERS, of, stream.viewer_count as u64);
        page.maybe(&catalog::STREAM_STARTED, of, seconds(Some(stream.started_at)));
        page.count(&catalog::STREAM_PLAYS, of, stream.manager.plays);
        page.count(&catalog::KEEPALIVES, of, stream.keepalive.count);
        page.count(&catalog::KEEPALIVE_ERRORS, of, stream.keepalive.errors);
        if let Some(stats) = &stream.media.stats {
            ingest(page, &camera, stats);
        }
    }
}

fn ingest(page: &mut Page, camera: &str, stats: &IngestStats) {
    for (medium, track) in [("video", &stats.video), ("audio", &stats.audio)] {
        self::track(page, &[camera, medium], track);
    }
    let of = &[camera];
    page.maybe(&catalog::INGEST_LAST_PACKET, of, seconds(stats.last_packet));
    page.maybe(&catalog::INGEST_LAST_KEYFRAME, of, seconds(stats.last_keyframe));
    page.count(&catalog::FEEDBACK_SENT, of, stats.feedback_sent);
    page.maybe(&catalog::FEEDBACK_LAST, of, seconds(stats.last_feedback));
    page.add(&catalog::FEEDBACK_REMB, of, stats.remb as f64 / 8.0);
    page.count(&catalog::FEEDBACK_KEYFRAMES, of, stats.plis_sent);
    page.count(&catalog::FEEDBACK_NACKS, of, stats.nacks_sent);
    let health = &stats.feedback_health;
    page.maybe(&catalog::FEEDBACK_FOLLOWS_REMB, of, health.follows_remb.map(flag));
    page.maybe(&catalog::FEEDBACK_ANSWERS_PLI, of, health.answers_pli.map(flag));
    page.add(&catalog::FEEDBACK_WARNING, of, flag(health.warning.is_some()));
}

fn track(page: &mut Page, of: &[&str], track: &TrackStats) {
    page.count(&catalog::INGEST_PACKETS, of, track.packets);
    page.count(&catalog::INGEST_BYTES, of, track.bytes);
    page.count(&catalog::INGEST_LOST, of, track.lost);
    page.count(&catalog::INGEST_DUPLICATES, of, track.duplicates);
    page.add(&catalog::INGEST_JITTER, of, track.jitter_ms / 1_000.0);
    page.add(&catalog::INGEST_BITRATE, of, track.bitrate as f64 / 8.0);
}

fn viewers(page: &mut Page, streams: &[StreamInfo], viewers: &[ViewerInfo]) {
    for connected in [true, false] {
        let count = viewers.iter().filter(|viewer| viewer.connected == connected).count();
        page.count(&catalog::VIEWERS, &[if connected { "true" } else { "false" }], count as u64);
    }
    let mut protocols = BTreeMap::<_, u64>::new();
    for viewer in viewers.iter().filter(|viewer| viewer.connected) {
        if let Some(protocol) = viewer.stats.as_ref().and_then(|stats| stats.protocol) {
            *protocols.entry(protocol).or_default() += 1;
        }
    }
    for (protocol, count) in protocols {
        page.count(&catalog::VIEWERS_BY_PROTOCOL, &[protocol], count);
    }
    for stream in streams {
        let stats = || {
            let of_stream = viewers.iter().filter(|viewer| viewer.stream_id == stream.stream_id);
            of_stream.filter(|viewer| viewer.connected).filter_map(|viewer| viewer.stats.as_ref())
        };
        let camera = stream.camera_id.to_string();
        let loss = stats().map(|stats| stats.fraction_lost).reduce(f64::max);
        let round_trip = stats().filter_map(|stats| stats.rtt_ms).reduce(f64::max);
        page.maybe(&catalog::VIEWER_WORST_LOSS, &[&camera], loss);
        page.maybe(&catalog::VIEWER_WORST_RTT, &[&camera], round_trip.map(|ms| ms / 1_000.0));
    }
}

fn cameras(page: &mut Page, cameras: &[CameraInfo]) {
    for info in cameras {
        let camera = info.camera_id.to_string();
        let of = &[camera.as_str()];
        let facts = &info.camera.facts;
        page.maybe(&catalog::CAMERA_ONLINE, of, facts.online.map(flag));
        page.maybe(&catalog::CAMERA_BATTERY, of, facts.battery_percent);
        page.maybe(&catalog::CAMERA_SIGNAL, of, facts.signal);
        let code = serde_json::to_value(info.picture.code).ok();
        if let Some(code) = code.as_ref().and_then(|code| code.as_str()) {
            page.add(&catalog::CAMERA_PICTURE, &[&camera, code], 1.0);
        }
    }
}

fn sources(page: &mut Page, sources: &Sources) {
    for (reason, count) in &sources.dropped {
        page.count(&catalog::INGEST_DROPPED, &[reason.name()], *count);
        let refused = sources.refused.iter().filter(|(_, source)| source.reason == *reason).count();
        page.count(&catalog::INGEST_REFUSED_SOURCES, &[reason.name()], refused as u64);
    }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn seconds(time: Option<SystemTime>) -> Option<f64> {
    time?.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}
