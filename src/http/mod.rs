//! HTTP: the REST API of contract §5, WHEP, the pages, and the server that carries them (and the signaling).

mod assets;
mod auth;
mod cameras;
mod connection;
mod cors;
mod document;
mod error;
mod events;
mod health;
mod limits;
mod log_filter;
mod login;
mod metrics;
mod mp4;
mod needs;
mod requests;
pub mod sdpfrag;
mod serve;
mod settings;
mod sources;
mod streams;
mod tls;
mod viewers;
mod views;
mod whep;

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod camera_tests;
#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod health_tests;
#[cfg(test)]
mod metrics_tests;
#[cfg(test)]
mod mp4_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use requests::RequestCounters;
pub use serve::{Transport, serve};
pub use settings::{ApiSettings, IceServer, MetricsSources, PageSettings, Readiness};
pub use tls::{CertificateState, Certificates, TlsFiles};

use self::auth::Gate;
use self::document::{Document, DocumentText};
use self::error::ApiError;
use crate::control::Control;

/// Request bodies are a few dozen bytes, offers of viewers 20 KB; more is refused with 413.
pub const BODY_LIMIT: usize = 64 * 1024;

#[derive(Clone)]
struct Api {
    control: Control,
    certificates: Option<Certificates>,
    metrics: MetricsSources,
    requests: Arc<RequestCounters>,
    ready: Readiness,
    document: DocumentText,
}

/// The router of the API port (8080): REST, WHEP and the viewer page.
pub fn api_router(control: Control, settings: ApiSettings) -> Router {
    let (rest, _) = rest().split_for_parts();
    let whep = whep::router(control.clone(), &settings.pages.ice_servers).layer(from_fn(error::never_cache));
    let api = Api {
        control,
        certificates: settings.certificates.clone(),
        metrics: settings.metrics.clone(),
        requests: settings.requests.clone(),
        ready: settings.ready.clone(),
        document: DocumentText::new(&document()),
    };
    finish(rest.with_state(api).merge(whep), settings)
}

/// Every route of the API port.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(rest().into_openapi());
    document.merge(whep::routes().into_openapi());
    document.merge(login::routes().into_openapi());
    document.merge(assets::shared().into_openapi());
    document::complete(&mut document);
    document
}

/// The calls that ask the control plane or the service, and the pages.
fn rest() -> OpenApiRouter<Api> {
    let calls = OpenApiRouter::default()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::version))
        .routes(routes!(metrics::scrape))
        .routes(routes!(log_filter::show, log_filter::change))
        .routes(routes!(streams::list))
        .routes(routes!(streams::detail))
        .routes(routes!(events::history))
        .routes(routes!(events::of_camera))
        .routes(routes!(events::of_all))
        .routes(routes!(mp4::keyframe))
        .routes(routes!(mp4::live))
        .routes(routes!(streams::start))
        .routes(routes!(streams::stop))
        .routes(routes!(sources::list))
        .routes(routes!(viewers::list))
        .routes(routes!(viewers::of_camera, viewers::remove))
        .routes(routes!(cameras::list))
        .routes(routes!(cameras::detail, cameras::update))
        .layer(from_fn(error::never_cache));
    // Pages and texts say themselves how long they hold.
    calls
        .routes(routes!(document::json))
        .routes(routes!(assets::docs_page))
        .routes(routes!(assets::viewer_page))
        .routes(routes!(assets::viewer_html))
        .routes(routes!(assets::viewer_script))
}

/// The router of the dashboard port (5000): the dashboard and the viewer page.
pub fn dashboard_router(settings: ApiSettings) -> Router {
    let pages = Router::new()
        .route("/", get(assets::start_page))
        .route("/livestream/viewer", get(assets::viewer_page_below))
        .route("/sw.js", get(assets::service_worker))
        .route("/viewer.js", get(assets::viewer_script));
    finish(pages, settings)
}

/// What both ports share: assets, the login, JSON for every refusal, limits, access, CORS. A request passes the layers
/// from the last to the first: nobody is asked who they are before a preflight, and no body is read before that.
fn finish(router: Router, settings: ApiSettings) -> Router {
    let gate = Arc::new(Gate { access: settings.access, origins: settings.allowed_origins.clone() });
    router
        .merge(Router::from(login::routes()).with_state(gate.clone()).layer(from_fn(error::never_cache)))
        .merge(Router::from(assets::shared()).with_state(settings.pages))
        .fallback(async || ApiError::not_found("Not found"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(limits::bodies))
        .layer(from_fn_with_state(gate, auth::authorize))
        .layer(from_fn_with_state(settings.clients, limits::clients))
        .layer(from_fn_with_state(settings.allowed_origins, cors::cors))
        .layer(from_fn_with_state(settings.requests, requests::count))
}
