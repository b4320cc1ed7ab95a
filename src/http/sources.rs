//! `/sources`: who sends to the camera ports without being let in, and why.

use axum::extract::State;

use super::Api;
use super::document::Unanswered;
use super::error::ApiError;
use super::views::{Answer, SourceList};

/// Who sends to the camera ports without being let in, the last heard one first.
#[utoipa::path(get, path = "/sources", operation_id = "listSources", tag = "service",
    responses((status = 200, description = "The sources", body = SourceList), Unanswered))]
pub(super) async fn list(State(api): State<Api>) -> Result<Answer<SourceList>, ApiError> {
    Ok(Answer(SourceList::new(&api.control.sources().await?)))
}
