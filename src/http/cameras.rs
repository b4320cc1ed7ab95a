//! `/cameras`: what is known of cameras, and their names and notes.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::streams::{camera_id, read_body};
use super::{Api, views};
use crate::access::Grant;
use crate::base::time::iso8601;
use crate::control::registry::ActivityEvent;
use crate::control::{CameraInfo, InvalidLabel, LabelChange};

pub(super) async fn list(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Json<Value>, ApiError> {
    let cameras = api.control.cameras().await?;
    let cameras: Vec<Value> = cameras.iter().filter(|info| grant.sees(&info.camera_id)).map(summary).collect();
    Ok(Json(json!({ "count": cameras.len(), "cameras": cameras })))
}

pub(super) async fn detail(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let camera = camera_id(camera)?;
    let info = api.control.camera(camera).await?;
    let info = info.ok_or_else(|| ApiError::not_found(format!("Camera {camera} is not known")))?;
    Ok(Json(whole(&info)))
}

pub(super) async fn update(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let camera = camera_id(camera)?;
    let change = label_change(&read_body(body)?)?;
    Ok(Json(whole(&api.control.label_camera(camera, change).await?)))
}

/// The body of a PUT. Unlike a start, whose clients are old, this one refuses keys that it does not know: a slip
/// of the pen would look like success.
fn label_change(body: &[u8]) -> Result<LabelChange, ApiError> {
    let body: Value = serde_json::from_slice(body).map_err(|_| ApiError::bad_request("Body is not valid JSON"))?;
    let Value::Object(body) = body else { return Err(ApiError::bad_request("Body is not a JSON object")) };
    let unknown: Vec<&str> = body.keys().map(String::as_str).filter(|key| !["name", "notes"].contains(key)).collect();
    if !unknown.is_empty() {
        let named = unknown.iter().take(10).map(|key| key.chars().take(40).collect::<String>());
        let named = named.collect::<Vec<_>>().join(", ");
        return Err(ApiError::bad_request(format!("Unknown keys: {named}; name and notes can be set")));
    }
    let mut change = LabelChange::new();
    if let Some(name) = body.get("name") {
        change = change.name(text("name", name)?).map_err(invalid)?;
    }
    if let Some(notes) = body.get("notes") {
        change = change.notes(text("notes", notes)?).map_err(invalid)?;
    }
    if change.is_empty() {
        return Err(ApiError::bad_request("Body must have name or notes"));
    }
    Ok(change)
}

fn text<'a>(key: &str, value: &'a Value) -> Result<Option<&'a str>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(ApiError::bad_request(format!("{key} must be a text or null"))),
    }
}

fn invalid(error: InvalidLabel) -> ApiError {
    ApiError::bad_request(error.to_string())
}

/// An entry of `GET /cameras`.
fn summary(info: &CameraInfo) -> Value {
    Value::Object(fields(info))
}

/// `GET /cameras/{id}`: the same, and its history.
fn whole(info: &CameraInfo) -> Value {
    let mut body = fields(info);
    body.insert("events".into(), info.camera.events.iter().map(event).collect());
    Value::Object(body)
}

fn fields(info: &CameraInfo) -> Map<String, Value> {
    let camera = &info.camera;
    let mut body = Map::new();
    body.insert("camera_id".into(), json!(info.camera_id));
    body.insert("name".into(), json!(camera.label.name));
    body.insert("notes".into(), json!(camera.label.notes));
    if let Value::Object(facts) = views::camera(&camera.facts) {
        body.extend(facts);
    }
    body.insert("online_changed_at".into(), json!(camera.facts.online_changed.map(iso8601)));
    body.insert("mac".into(), json!(camera.facts.mac));
    body.insert("link_status".into(), json!(camera.facts.link_status));
    body.insert("last_activity".into(), camera.events.front().map_or(Value::Null, event));
    let stream = info.stream.map(|(stream_id, state)| json!({ "stream_id": stream_id, "state": state }));
    body.insert("stream".into(), json!(stream));
    body.insert("why_no_picture".into(), json!(info.picture));
    body
}

fn event(event: &ActivityEvent) -> Value {
    json!({
        "event_id": event.event_id,
        "activity_type": event.activity_type,
        "at": event.at.map(iso8601),
        "received_at": event.received.map(iso8601),
        "confidence": event.confidence,
    })
}
