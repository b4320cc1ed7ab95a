//! The pages, embedded in the binary.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::settings::PageSettings;

/// Pages load nothing from elsewhere and run no inline script; they may connect to the API and the signaling,
/// which are on other ports.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss: http: https:; \
     media-src 'self' blob:; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'";

#[derive(RustEmbed)]
#[folder = "static/"]
pub(super) struct Assets;

/// `/static/*` and `/viewer-config.json`.
pub(super) fn shared() -> OpenApiRouter<PageSettings> {
    OpenApiRouter::default().routes(routes!(settings)).route("/static/{*path}", get(file))
}

/// What pages have to know to reach the other ports.
#[utoipa::path(get, path = "/viewer-config.json", operation_id = "getViewerConfig", tag = "pages",
    responses((status = 200, description = "Ports and ICE servers", body = PageSettings)))]
async fn settings(State(pages): State<PageSettings>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-cache")], Json(pages))
}

/// The viewer page.
#[utoipa::path(get, path = "/viewer", operation_id = "getViewer", tag = "pages",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn viewer_page() -> Result<Response, ApiError> {
    asset("viewer.html")
}

/// The viewer page under the name that older links have.
#[utoipa::path(get, path = "/viewer.html", operation_id = "getViewerHtml", tag = "pages",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn viewer_html() -> Result<Response, ApiError> {
    asset("viewer.html")
}

/// The script of the viewer page.
#[utoipa::path(get, path = "/viewer.js", operation_id = "getViewerScript", tag = "pages",
    responses((status = 200, description = "The script", body = String, content_type = "text/javascript")))]
pub(super) async fn viewer_script() -> Result<Response, ApiError> {
    asset("viewer.js")
}

/// This document as a page.
#[utoipa::path(get, path = "/docs", operation_id = "getDocs", tag = "pages",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn docs_page() -> Result<Response, ApiError> {
    asset("docs.html")
}

pub(super) async fn start_page() -> Result<Response, ApiError> {
    asset("index.html")
}

/// The login page.
#[utoipa::path(get, path = "/login", operation_id = "getLogin", tag = "pages",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn login_page() -> Result<Response, ApiError> {
    asset("login.html")
}

async fn file(path: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    // A path that is not UTF-8 names nothing either.
    asset(&path.map(|Path(path)| path).unwrap_or_default())
}

/// Embedded files are looked up by name, so there is no file system to climb in.
fn asset(path: &str) -> Result<Response, ApiError> {
    let file = Assets::get(path).ok_or_else(|| ApiError::not_found("Not found"))?;
    let content_type = content_type(file.metadata.mimetype());
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, content_type),
        // Browsers ask again each time: a page of another version would speak another protocol.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((headers, file.data).into_response())
}

fn content_type(mime: &str) -> HeaderValue {
    let textual = mime.starts_with("text/") || mime.ends_with("javascript") || mime.ends_with("json");
    let value = if textual { format!("{mime}; charset=utf-8") } else { mime.to_owned() };
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}
