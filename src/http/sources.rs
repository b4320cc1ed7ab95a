//! `/sources`: who sends to the camera ports without being let in, and why.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::Api;
use super::error::ApiError;
use crate::base::CameraId;
use crate::base::time::iso8601;
use crate::control::{Drops, RefusedSource};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let found = api.control.sources().await?;
    let sources: Vec<Value> = found.refused.iter().map(|(camera, source)| view(*camera, source)).collect();
    let dropped: Map<String, Value> =
        found.dropped.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect();
    Ok(Json(
        json!({ "count": sources.len(), "sources": sources, "dropped": dropped, "viewer_port": viewer_port(&found.viewer_port) }),
    ))
}

/// By reason, in datagrams; connections by what became of them.
fn viewer_port(drops: &Drops) -> Value {
    let Drops { stranger, sessions, tcp } = drops;
    json!({
        "stranger": stranger,
        "unproven": sessions.unproven_source,
        "stun_unauthenticated": sessions.stun_unauthenticated,
        "stun_ignored": sessions.stun_ignored,
        "dtls_discarded": sessions.dtls_discarded,
        "srtcp_refused": sessions.srtcp_refused,
        "rtcp_malformed": sessions.rtcp_malformed,
        "rtp_ignored": sessions.rtp_ignored,
        "unknown": sessions.unknown,
        "late": sessions.after_close,
        "tcp": tcp,
    })
}

fn view(camera: Option<CameraId>, source: &RefusedSource) -> Value {
    json!({
        "address": source.source.to_string(),
        "port": source.port,
        "first_seen": iso8601(source.first_seen),
        "last_seen": iso8601(source.last_seen),
        "packets": source.packets,
        "reason": source.reason.name(),
        "nearest_camera_id": camera,
        "nearest_stream_id": source.nearest,
    })
}
