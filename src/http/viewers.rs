//! `/viewers`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Api, streams, views};

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let viewers = views::viewers(&api.control.viewers(None).await?);
    Ok(Json(json!({ "count": viewers.len(), "viewers": viewers })))
}

pub(super) async fn of_camera(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let camera = streams::camera_id(camera)?;
    let viewers = views::viewers(&api.control.viewers(Some(camera)).await?);
    Ok(Json(json!({ "camera_id": camera, "count": viewers.len(), "viewers": viewers })))
}
