//! `/cameras`: what is known of cameras, and their names and notes.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::document::{BadCamera, BadRequest, CameraPath, NotFound, Refusal, TimedOut, TooLarge, Unanswered};
use super::error::ApiError;
use super::streams::{camera_id, read_body};
use super::views::{Answer, CameraDetail, CameraList};
use crate::access::Grant;
use crate::control::{InvalidLabel, LabelChange};

/// Every camera that was heard of over MQTT, has a name, or streams.
#[utoipa::path(get, path = "/cameras", operation_id = "listCameras", tag = "cameras",
    responses((status = 200, description = "The cameras", body = CameraList), Unanswered))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Answer<CameraList>, ApiError> {
    let mut cameras = api.control.cameras().await?;
    cameras.retain(|info| grant.sees(&info.camera_id));
    Ok(Answer(CameraList::new(&cameras)))
}

/// One camera with its last motion and sound events.
#[utoipa::path(get, path = "/cameras/{camera}", operation_id = "getCamera", tag = "cameras", params(CameraPath),
    responses((status = 200, description = "The camera", body = CameraDetail), BadCamera, NotFound, Unanswered))]
pub(super) async fn detail(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Answer<CameraDetail>, ApiError> {
    let camera = camera_id(camera)?;
    let info = api.control.camera(camera).await?;
    let info = info.ok_or_else(|| ApiError::not_found(format!("Camera {camera} is not known")))?;
    Ok(Answer(CameraDetail::new(&info)))
}

/// What a `PUT` of a camera takes: one or both.
#[derive(ToSchema)]
#[schema(min_properties = 1)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by hand, for refusals in words; here for the document")]
pub(super) struct CameraLabel {
    /// One line; `null` clears.
    #[schema(max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", example = "Gate")]
    name: Option<String>,
    /// `null` clears.
    #[schema(max_length = 2000, pattern = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$")]
    notes: Option<String>,
}

/// Sets a camera's name and notes. A camera that was not heard of yet can be named as well.
#[utoipa::path(put, path = "/cameras/{camera}", operation_id = "labelCamera", tag = "cameras", params(CameraPath),
    request_body(content = CameraLabel),
    responses(
        (status = 200, description = "The camera", body = CameraDetail),
        (status = 503, description = "Too many cameras have a name or notes, or the service ends", body = Refusal),
        BadRequest, TooLarge, TimedOut,
    ))]
pub(super) async fn update(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Answer<CameraDetail>, ApiError> {
    let camera = camera_id(camera)?;
    let change = label_change(&read_body(body)?)?;
    Ok(Answer(CameraDetail::new(&api.control.label_camera(camera, change).await?)))
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
