//! HTTP: the REST API of contract §5, WHEP, the pages, and the server that carries them (and the signaling).

mod assets;
mod auth;
mod cameras;
mod connection;
mod cors;
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
mod event_tests;
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
use axum::routing::{get, post};

pub use requests::RequestCounters;
pub use serve::{Transport, serve};
pub use settings::{ApiSettings, IceServer, MetricsSources, PageSettings};
pub use tls::{CertificateState, Certificates, TlsFiles};

use self::auth::Gate;
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
}

/// The router of the API port (8080): REST, WHEP and the viewer page.
pub fn api_router(control: Control, settings: ApiSettings) -> Router {
    let rest = Router::new()
        .route("/health", get(health::health))
        .route("/metrics", get(metrics::scrape))
        .route("/log-filter", get(log_filter::show).put(log_filter::change))
        .route("/streams", get(streams::list))
        .route("/streams/{camera}", get(streams::detail))
        .route("/streams/{camera}/history", get(events::history))
        .route("/streams/{camera}/events", get(events::of_camera))
        .route("/events", get(events::of_all))
        .route("/streams/{camera}/start", post(streams::start))
        .route("/streams/{camera}/keyframe.mp4", get(mp4::keyframe))
        .route("/streams/{camera}/live.mp4", get(mp4::live))
        .route("/streams/{camera}/stop", post(streams::stop))
        .route("/sources", get(sources::list))
        .route("/viewers", get(viewers::list))
        .route("/viewers/{camera}", get(viewers::of_camera))
        .route("/cameras", get(cameras::list))
        .route("/cameras/{camera}", get(cameras::detail).put(cameras::update))
        .with_state(Api {
            control: control.clone(),
            certificates: settings.certificates.clone(),
            metrics: settings.metrics.clone(),
            requests: settings.requests.clone(),
        })
        .merge(whep::routes(control, &settings.pages.ice_servers))
        .layer(from_fn(error::never_cache));
    let pages = Router::new()
        .route("/viewer", get(assets::viewer_page))
        .route("/viewer.html", get(assets::viewer_page))
        .route("/viewer.js", get(assets::viewer_script));
    finish(rest.merge(pages), settings)
}

/// The router of the dashboard port (5000): the start page and the viewer page.
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
        .merge(login::routes(gate.clone()).layer(from_fn(error::never_cache)))
        .merge(assets::shared(settings.pages))
        .fallback(async || ApiError::not_found("Not found"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(limits::bodies))
        .layer(from_fn_with_state(gate, auth::authorize))
        .layer(from_fn_with_state(settings.clients, limits::clients))
        .layer(from_fn_with_state(settings.allowed_origins, cors::cors))
        .layer(from_fn_with_state(settings.requests, requests::count))
}
