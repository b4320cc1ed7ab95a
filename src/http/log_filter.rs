//! `/log-filter`: what is logged, readable and changeable while the service runs.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::document::{BadRequest, Refusal, TooLarge};
use super::error::ApiError;
use super::streams::read_body;
use super::views::{Answer, LogFilterView};
use crate::telemetry::{LogFilter, log_filter, set_log_filter};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LogFilterChange)]
pub(super) struct Change {
    /// As in `LOG_LEVEL`.
    #[schema(example = "info,honeycast::ingest=debug")]
    filter: String,
}

/// What is logged.
#[utoipa::path(get, path = "/log-filter", operation_id = "getLogFilter", tag = "service",
    responses(
        (status = 200, description = "The filter", body = LogFilterView),
        (status = 503, description = "The process does not log through honeycast", body = Refusal),
    ))]
pub(super) async fn show() -> Result<Answer<LogFilterView>, ApiError> {
    log_filter().map(view).ok_or_else(no_log)
}

/// Changes what is logged, until the process ends.
#[utoipa::path(put, path = "/log-filter", operation_id = "setLogFilter", tag = "service",
    request_body(content = Change),
    responses(
        (status = 200, description = "The filter as it is now", body = LogFilterView),
        (status = 503, description = "The process does not log through honeycast", body = Refusal),
        BadRequest, TooLarge,
    ))]
pub(super) async fn change(body: Result<Bytes, BytesRejection>) -> Result<Answer<LogFilterView>, ApiError> {
    let change: Change = serde_json::from_slice(&read_body(body)?)
        .map_err(|error| ApiError::bad_request(format!("the body must be {{\"filter\": \"…\"}}: {error}")))?;
    let filter: LogFilter = change.filter.parse().map_err(|error| ApiError::bad_request(format!("filter {error}")))?;
    let before = set_log_filter(filter.clone()).ok_or_else(no_log)?;
    tracing::info!(before = before.as_str(), now = filter.as_str(), "the log filter was changed");
    Ok(view(filter))
}

fn view(filter: LogFilter) -> Answer<LogFilterView> {
    Answer(LogFilterView { filter: filter.as_str().to_owned() })
}

fn no_log() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_log", "this process does not log through honeycast's own log")
}
