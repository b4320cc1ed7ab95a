//! The JSON of the API: keys, types and texts of contract §5, and their schemas for the OpenAPI document. Seconds are
//! whole numbers, because old scripts print them with `%d`.

mod camera;
mod media;
mod service;
mod stream;
mod viewer;

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

pub(super) use camera::{CameraDetail, CameraList};
pub(super) use service::{HealthView, LogFilterView, ReadyView, SourceList, VersionView};
pub(super) use stream::{History, Started, Stopped, StreamDetail, StreamList};
pub(super) use viewer::{ViewerList, ViewersOfCamera};

use super::error::ApiError;

/// A body, its keys sorted by name as they always were.
pub(super) struct Answer<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_value(&self.0) {
            Ok(body) => Json(body).into_response(),
            Err(error) => {
                let text = format!("The answer could not be written: {error}");
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text).into_response()
            }
        }
    }
}

/// ISO-8601 in UTC with microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = DateTime, example = "2026-11-25T01:23:41.005000Z")]
pub(in crate::http) struct Time(String);

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        Self(crate::base::time::iso8601(time))
    }
}

fn time(time: Option<SystemTime>) -> Option<Time> {
    time.map(Time::from)
}

fn address(address: Option<SocketAddr>) -> Option<String> {
    address.map(|address| address.to_string())
}

/// A whole number where it is one: `4`, not `4.0`.
fn whole_if_whole(seconds: f64) -> serde_json::Number {
    let whole = serde_json::Number::from(seconds as u64);
    if seconds.fract() == 0.0 { whole } else { serde_json::Number::from_f64(seconds).unwrap_or(whole) }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
