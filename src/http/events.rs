//! `/events` and `/streams/{id}/events`: changes as server-sent events; `/streams/{id}/history`: the last hour.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::io::ReaderStream;

use super::error::ApiError;
use super::streams::camera_id;
use super::{Api, views};
use crate::access::Grant;
use crate::base::time::iso8601;
use crate::control::history::POINT_EVERY;
use crate::control::{Change, Events, EventsError, Point};

/// Bytes that wait for a reader, a few dozen events. With the queue of the control plane behind it, that is all
/// that a slow reader can hold.
const BUFFER: usize = 8 * 1024;
/// A reader that takes nothing for so long is let go.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Between two signs of life: proxies close what is silent, and a dead reader is noticed by them.
const PING_EVERY: Duration = Duration::from_secs(15);
/// After this many milliseconds browsers ask again.
const RETRY_MS: u32 = 2_000;

pub(super) async fn of_all(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Response, ApiError> {
    Ok(stream(api.control.events(None).await?, grant))
}

pub(super) async fn of_camera(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let camera = camera_id(camera)?;
    Ok(stream(api.control.events(Some(camera)).await?, grant))
}

pub(super) async fn history(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let camera = camera_id(camera)?;
    let (points, changes) = api.control.history(camera).await?;
    Ok(Json(json!({
        "camera_id": camera,
        "interval_seconds": POINT_EVERY.as_secs(),
        "points": points.iter().map(point).collect::<Vec<_>>(),
        "changes": changes.iter().map(Change::to_json).collect::<Vec<_>>(),
        "now": iso8601(SystemTime::now()),
    })))
}

fn stream(events: Events, grant: Grant) -> Response {
    let (writer, reader) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let left = grant.until().map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
        let write = write(events, writer, &grant);
        match left {
            // The reader asks again, and is told why not.
            Some(left) => drop(tokio::time::timeout(left, write).await),
            None => write.await,
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

fn point(point: &Point) -> Value {
    json!({
        "at": iso8601(point.at),
        "bitrate": point.bitrate,
        "loss": (point.loss * 10_000.0).round() / 10_000.0,
        "jitter_ms": views::hundredths(point.jitter_ms),
        "remb_kbps": point.remb_kbps,
        "viewers": point.viewers,
    })
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
