//! `/sources`: who sends to the camera ports without being let in, and why.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::Api;
use super::error::ApiError;
use crate::base::CameraId;
use crate::base::time::iso8601;
use crate::control::RefusedSource;

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let found = api.control.sources().await?;
    let sources: Vec<Value> = found.refused.iter().map(|(camera, source)| view(*camera, source)).collect();
    let dropped: Map<String, Value> =
        found.dropped.iter().map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect();
    Ok(Json(json!({ "count": sources.len(), "sources": sources, "dropped": dropped })))
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
