//! `/log-filter`: what is logged, readable and changeable while the service runs.

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::telemetry::{LogFilter, log_filter, set_log_filter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    filter: String,
}

pub(super) async fn show() -> Result<Json<Value>, ApiError> {
    log_filter().map(view).ok_or_else(no_log)
}

pub(super) async fn change(body: Bytes) -> Result<Json<Value>, ApiError> {
    let change: Change = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body must be {{\"filter\": \"…\"}}: {error}")))?;
    let filter: LogFilter = change.filter.parse().map_err(|error| ApiError::bad_request(format!("filter {error}")))?;
    let before = set_log_filter(filter.clone()).ok_or_else(no_log)?;
    tracing::info!(before = before.as_str(), now = filter.as_str(), "the log filter was changed");
    Ok(view(filter))
}

fn view(filter: LogFilter) -> Json<Value> {
    Json(json!({ "filter": filter.as_str() }))
}

fn no_log() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", "this process does not log through honeycast's own log")
}
