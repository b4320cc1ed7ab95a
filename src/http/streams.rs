//! `/streams`.

use std::net::SocketAddr;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::document::{
    AlreadyActive, BadCamera, BadRequest, CameraPath, NotFound, Refusal, TimedOut, TooLarge, Unanswered,
};
use super::error::ApiError;
use super::views::{Answer, Started, Stopped, StreamDetail, StreamList};
use crate::access::Grant;
use crate::base::CameraId;
use crate::base::id::InvalidCameraId;
use crate::control::StartOptions;

/// The streams that start, run or stop.
#[utoipa::path(get, path = "/streams", operation_id = "listStreams", tag = "streams",
    responses((status = 200, description = "The streams", body = StreamList), Unanswered))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Answer<StreamList>, ApiError> {
    let mut streams = api.control.streams().await?;
    streams.retain(|stream| grant.sees(&stream.camera_id));
    Ok(Answer(StreamList::new(&streams)))
}

/// A camera's stream with its viewers; a failed one for ten minutes or until the next start.
#[utoipa::path(get, path = "/streams/{camera}", operation_id = "getStream", tag = "streams", params(CameraPath),
    responses((status = 200, description = "The stream", body = StreamDetail), BadCamera, NotFound, Unanswered))]
pub(super) async fn detail(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Answer<StreamDetail>, ApiError> {
    let camera = camera_id(camera)?;
    let found = api.control.stream(camera).await?;
    let (info, viewers) = found.ok_or_else(|| ApiError::not_found(format!("No active stream for camera {camera}")))?;
    Ok(Answer(StreamDetail::new(&info, &viewers)))
}

/// What a start takes. Other keys are ignored. The lower value must not be above the other.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by hand, for refusals in words; here for the document")]
pub(super) struct StartBody {
    /// Lowest bitrate that the camera is asked for, in kbit/s.
    #[schema(value_type = Option<u64>, maximum = 4_294_967_295u64, example = 500)]
    min_bandwidth: Option<u32>,
    /// Highest bitrate that the camera is asked for, in kbit/s.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295u64, example = 2000)]
    max_bandwidth: Option<u32>,
}

/// Starts a camera's stream: answers when the broker has acknowledged `play`.
#[utoipa::path(post, path = "/streams/{camera}/start", operation_id = "startStream", tag = "streams",
    params(CameraPath), request_body(content = Option<StartBody>),
    responses(
        (status = 201, description = "It was started", body = Started),
        (status = 200, description = "It runs already, with `START_IDEMPOTENT`", body = Started),
        (status = 409, description = "It starts, runs or waits for its start", body = AlreadyActive),
        (status = 503, description = "The broker or the media engine refused, or there are too many streams",
            body = Refusal),
        BadRequest, TooLarge, TimedOut,
    ))]
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
    Ok((status, Answer(Started::new(&started))).into_response())
}

/// Stops a camera's stream. Its viewers are told and closed.
#[utoipa::path(post, path = "/streams/{camera}/stop", operation_id = "stopStream", tag = "streams", params(CameraPath),
    responses(
        (status = 200, description = "It was stopped", body = Stopped),
        BadCamera, NotFound, TooLarge, Unanswered,
    ))]
pub(super) async fn stop(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Answer<Stopped>, ApiError> {
    let camera = camera_id(camera)?;
    // Some clients send `{}`; whatever it is, it has to be small.
    read_body(body)?;
    let info = api.control.stop_stream(camera).await?;
    Ok(Answer(Stopped::new(&info)))
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
    let range = 0.0..=f64::from(u32::MAX);
    let kbit = |key: &str| match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        // Also 2500.0: JSON has one kind of number, and Python writes 5000 / 2 so.
        Some(value) => match value.as_f64().filter(|kbit| kbit.fract() == 0.0 && range.contains(kbit)) {
            Some(kbit) => Ok(Some(kbit as u32)),
            None => Err(ApiError::bad_request(format!("{key} must be a whole number of kbit/s"))),
        },
    };
    Ok(StartOptions { min_bandwidth: kbit("min_bandwidth")?, max_bandwidth: kbit("max_bandwidth")?, client_ip: None })
}
