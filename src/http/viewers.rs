//! `/viewers`.

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::document::{BadCamera, BadViewer, NotFound, Unanswered};
use super::error::ApiError;
use super::views::{Answer, ViewerList, ViewersOfCamera};
use super::{Api, streams};
use crate::access::Grant;
use crate::base::id::InvalidViewerId;
use crate::base::{CameraId, ViewerId};

/// The viewers of all streams, the oldest first.
#[utoipa::path(get, path = "/viewers", operation_id = "listViewers", tag = "viewers",
    responses((status = 200, description = "The viewers", body = ViewerList), Unanswered))]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
) -> Result<Answer<ViewerList>, ApiError> {
    let mut viewers = api.control.viewers(None).await?;
    viewers.retain(|viewer| grant.sees(&viewer.camera_id));
    Ok(Answer(ViewerList::new(&viewers)))
}

/// The viewers of one camera; an empty list for a camera that nobody knows.
#[utoipa::path(get, path = "/viewers/{id}", operation_id = "listViewersOfCamera", tag = "viewers",
    params(("id" = CameraId, Path, description = "A camera's id")),
    responses((status = 200, description = "The viewers", body = ViewersOfCamera), BadCamera, Unanswered))]
pub(super) async fn of_camera(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Answer<ViewersOfCamera>, ApiError> {
    let camera = streams::camera_id(camera)?;
    Ok(Answer(ViewersOfCamera::new(camera, &api.control.viewers(Some(camera)).await?)))
}

/// Ends a viewer. Its page is told and may come back.
#[utoipa::path(delete, path = "/viewers/{id}", operation_id = "removeViewer", tag = "viewers",
    params(("id" = ViewerId, Path, description = "A viewer's id, not a camera's")),
    responses((status = 204, description = "It was ended"), BadViewer, NotFound, Unanswered))]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    viewer: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let text = viewer.map(|Path(text)| text).unwrap_or_default();
    let viewer: ViewerId = text.parse().map_err(|error: InvalidViewerId| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_viewer_id", format!("Invalid viewer id: {error}"))
    })?;
    let viewers = api.control.viewers(None).await?;
    // Who may not see it is told what is told of a viewer that does not exist.
    let may = viewers.iter().any(|info| info.viewer_id == viewer && grant.sees(&info.camera_id));
    match may && api.control.remove_viewer(viewer).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found(format!("No viewer {viewer}"))),
    }
}
