//! `/streams`.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Api, views};
use crate::access::Grant;
use crate::base::CameraId;
use crate::base::id::InvalidCameraId;
use crate::control::StartOptions;

pub(super) async fn list(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Json<Value>, ApiError> {
    let mut streams = api.control.streams().await?;
    streams.retain(|stream| grant.sees(&stream.camera_id));
    let streams: Vec<Value> = streams.iter().map(views::stream_summary).collect();
    Ok(Json(json!({ "count": streams.len(), "streams": streams })))
}

pub(super) async fn detail(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let camera = camera_id(camera)?;
    let found = api.control.stream(camera).await?;
    let (info, viewers) = found.ok_or_else(|| ApiError::not_found(format!("No active stream for camera {camera}")))?;
    Ok(Json(views::stream_detail(&info, &viewers)))
}

pub(super) async fn start(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
    extensions: Extensions,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let camera = camera_id(camera)?;
    let mut options = start_options(&read_body(body)?)?;
    options.client_ip = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let started = api.control.start_stream(camera, options).await?;
    let status = if started.already_running { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(views::started(&started))).into_response())
}

pub(super) async fn stop(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let camera = camera_id(camera)?;
    // Some clients send `{}`; whatever it is, it has to be small.
    read_body(body)?;
    let info = api.control.stop_stream(camera).await?;
    Ok(Json(views::stopped(&info)))
}

/// The camera of the path. Anything but 32 upper-case hex digits is refused here, before it gets near a topic.
pub(super) fn camera_id(path: Result<Path<String>, PathRejection>) -> Result<CameraId, ApiError> {
    let text = path.map(|Path(text)| text).unwrap_or_default();
    text.parse().map_err(|error: InvalidCameraId| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_camera_id", format!("Invalid camera id: {error}"))
    })
}

pub(super) fn read_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(),
        _ => ApiError::bad_request("Body could not be read"),
    })
}

/// The optional body of a start. Unknown keys are ignored, as the old service did.
fn start_options(body: &[u8]) -> Result<StartOptions, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(StartOptions::default());
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| ApiError::bad_request("Body is not valid JSON"))?;
    if !(body.is_object() || body.is_null()) {
        return Err(ApiError::bad_request("Body is not a JSON object"));
    }
    let kbit = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|kbit| u32::try_from(kbit).ok()) {
            Some(kbit) => Ok(Some(kbit)),
            None => Err(ApiError::bad_request(format!("{key} must be a whole number of kbit/s"))),
        },
    };
    Ok(StartOptions { min_bandwidth: kbit("min_bandwidth")?, max_bandwidth: kbit("max_bandwidth")?, client_ip: None })
}
