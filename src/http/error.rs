//! Every refusal is JSON: `{error, code, hint?}` and a few more keys where clients read them.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::BODY_LIMIT;
use super::document::Refusal;
use super::views::Answer;
use crate::access::{Denied, Forbidden};
use crate::control::{LabelError, StartError, StopError, Unavailable};

/// A refusal.
#[derive(Debug, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    #[serde(flatten)]
    refusal: Refusal,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        Self { status, refusal: Refusal { error: error.into(), code, hint: None }, more: Map::new() }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", error)
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
    }

    pub(super) fn unauthorized(denied: &Denied) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", denied.to_string())
            .hint("send Authorization: Bearer with a token or key, or log in at /login")
    }

    pub(super) fn forbidden(forbidden: &Forbidden) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", forbidden.to_string())
    }

    pub(super) fn too_many_requests() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests")
            .hint("Retry-After says when to ask again; limits.requests_per_second is the limit of a client")
    }

    pub(super) fn body_too_large() -> Self {
        let error = format!("Body is larger than {} KiB", BODY_LIMIT / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", error)
    }

    pub(super) fn unsupported_media_type(expected: &str) -> Self {
        let error = format!("The body must be {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", error)
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.refusal.hint = Some(hint);
        self
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.more.insert(key.to_owned(), value);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Answer(&self).into_response();
        *response.status_mut() = self.status;
        response
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        let (status, code) = match error {
            Unavailable::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            Unavailable::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        match error {
            StartError::AlreadyActive { session_id, stream_id, .. } => {
                Self::new(StatusCode::CONFLICT, "already_active", text)
                    .with("session_id", json!(session_id))
                    .with("stream_id", json!(stream_id))
            }
            StartError::Options(_) => Self::bad_request(text),
            StartError::Failed(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "start_failed", text)
                .hint("GET /health tells whether the MQTT broker and the media engine are reachable"),
            StartError::TooMany(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", text),
            StartError::StoppedMeanwhile => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped_meanwhile", text),
            StartError::Unavailable(error) => error.into(),
        }
    }
}

impl From<LabelError> for ApiError {
    fn from(error: LabelError) -> Self {
        match error {
            LabelError::Full(full) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_cameras", full.to_string())
                .hint("raise cameras.max_known, or clear names and notes that are not needed any more"),
            LabelError::Unavailable(error) => error.into(),
        }
    }
}

impl From<StopError> for ApiError {
    fn from(error: StopError) -> Self {
        match error {
            StopError::NotFound(_) => Self::not_found(error.to_string()),
            StopError::Unavailable(error) => error.into(),
        }
    }
}

/// State is only true at the moment of the answer.
pub(super) async fn never_cache(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
