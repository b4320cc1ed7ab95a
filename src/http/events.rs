//! `/events` and `/streams/{id}/events`: changes as server-sent events; `/streams/{id}/history`: the last hour.

use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::io::ReaderStream;

use super::Api;
use super::document::{BadCamera, CameraPath, Refusal, TimedOut, Unanswered};
use super::error::ApiError;
use super::streams::camera_id;
use super::views::{Answer, History};
use crate::access::Grant;
use crate::base::time::iso8601;
use crate::control::{Events, EventsError};

/// Bytes that wait for a reader, a few dozen events. With the queue of the control plane behind it, that is all
/// that a slow reader can hold.
const BUFFER: usize = 8 * 1024;
/// A reader that takes nothing for so long is let go.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Between two signs of life: proxies close what is silent, and a dead reader is noticed by them.
const PING_EVERY: Duration = Duration::from_secs(15);
/// After this many milliseconds browsers ask again.
const RETRY_MS: u32 = 2_000;

/// Changes of every camera as server-sent events. The answer does not end.
#[utoipa::path(get, path = "/events", operation_id = "readEvents", tag = "events",
    responses(
        (status = 200, description = "`hello` with time and version, then one event per change, named after `what`, with \
            a `Change` as data", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many readers, or the service ends", body = Refusal),
        TimedOut,
    ))]
pub(super) async fn of_all(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Response, ApiError> {
    Ok(stream(api.control.events(None).await?, grant))
}

/// Changes of one camera as server-sent events. The answer does not end.
#[utoipa::path(get, path = "/streams/{camera}/events", operation_id = "readEventsOfCamera", tag = "events",
    params(CameraPath),
    responses(
        (status = 200, description = "As of `/events`", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many readers, or the service ends", body = Refusal),
        BadCamera, TimedOut,
    ))]
pub(super) async fn of_camera(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let camera = camera_id(camera)?;
    Ok(stream(api.control.events(Some(camera)).await?, grant))
}

/// The last hour of a camera: figures every ten seconds while it streams, and what changed.
#[utoipa::path(get, path = "/streams/{camera}/history", operation_id = "getHistory", tag = "events",
    params(CameraPath),
    responses((status = 200, description = "The last hour", body = History), BadCamera, Unanswered))]
pub(super) async fn history(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Answer<History>, ApiError> {
    let camera = camera_id(camera)?;
    let (points, changes) = api.control.history(camera).await?;
    Ok(Answer(History::new(camera, &points, &changes)))
}

fn stream(events: Events, grant: Grant) -> Response {
    let (writer, reader) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let ended = grant.ended(SystemTime::now());
        tokio::select! {
            () = write(events, writer, &grant) => {}
            // The reader asks again, and is told why not.
            _ = ended => {}
        }
    });
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        // nginx would collect them.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (StatusCode::OK, headers, Body::from_stream(ReaderStream::new(reader))).into_response()
}

/// Ends with the service, with the reader, or when the reader is too slow.
async fn write(mut events: Events, mut writer: DuplexStream, grant: &Grant) {
    let hello = json!({ "now": iso8601(SystemTime::now()), "version": env!("CARGO_PKG_VERSION") });
    let mut text = format!("retry: {RETRY_MS}\nevent: hello\ndata: {hello}\n\n");
    loop {
        match tokio::time::timeout(WRITE_WITHIN, writer.write_all(text.as_bytes())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        text = match tokio::time::timeout(PING_EVERY, events.next()).await {
            // JSON holds no line break, so the event is one line of data.
            Ok(Some(event)) if !grant.sees(&event.camera) => String::new(),
            Ok(Some(event)) => format!("event: {}\ndata: {}\n\n", event.what.name(), event.to_json()),
            Ok(None) => return,
            Err(_) => ": still here\n\n".to_owned(),
        };
    }
}

impl From<EventsError> for ApiError {
    fn from(error: EventsError) -> Self {
        match error {
            EventsError::TooMany(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", error.to_string())
            }
            EventsError::Unavailable(error) => error.into(),
        }
    }
}
