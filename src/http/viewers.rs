//! `/viewers`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Api, streams, views};
use crate::access::Grant;

pub(super) async fn list(State(api): State<Api>, Extension(grant): Extension<Grant>) -> Result<Json<Value>, ApiError> {
    let mut viewers = api.control.viewers(None).await?;
    viewers.retain(|viewer| grant.sees(&viewer.camera_id));
    let viewers = views::viewers(&viewers);
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
