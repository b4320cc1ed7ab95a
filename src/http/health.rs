//! `GET /health`, `GET /ready` and `GET /version`.

use axum::extract::State;
use axum::http::StatusCode;

use super::document::Refusal;
use super::error::ApiError;
use super::views::{Answer, HealthView, ReadyView, VersionView};
use super::{Api, Certificates};
use crate::control::{BrokerStatus, Health, Unavailable};

/// How the service is. Always 200: what is wrong stands in the body. A new certificate that cannot be used does not make
/// it degraded: the earlier one serves, and who restarts what is degraded would not get it back.
#[utoipa::path(get, path = "/health", operation_id = "getHealth", tag = "service",
    responses((status = 200, description = "How it is", body = HealthView)))]
pub(super) async fn health(State(api): State<Api>) -> Answer<HealthView> {
    let health = api.control.health().await.unwrap_or_else(unanswered);
    Answer(HealthView::new(&health, api.certificates.as_ref().map(Certificates::state)))
}

fn unanswered(why: Unavailable) -> Health {
    Health {
        media_up: false,
        broker: BrokerStatus::Disconnected { reason: why.to_string() },
        active_streams: 0,
        failing_keepalives: (0, None),
        total_viewers: 0,
        cameras_known: 0,
        cameras_online: 0,
        camera_store: None,
    }
}

/// Whether calls make sense: the ports are bound, the control plane answers, the media engine runs, and the MQTT broker
/// was tried once. A broker that cannot be reached is no reason to send callers elsewhere.
#[utoipa::path(get, path = "/ready", operation_id = "getReady", tag = "service",
    responses(
        (status = 200, description = "It takes calls", body = ReadyView),
        (status = 503, description = "Not yet, or no more; the text says why", body = Refusal),
    ))]
pub(super) async fn ready(State(api): State<Api>) -> Result<Answer<ReadyView>, ApiError> {
    let not = |code, text: String| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, text));
    match api.control.health().await {
        Err(why @ Unavailable::Stopped) => not("shutting_down", why.to_string()),
        Err(why @ Unavailable::Timeout) => not("timeout", why.to_string()),
        Ok(health) if !health.media_up => not("media_down", "The media engine is down".to_owned()),
        Ok(_) if !api.ready.is_set() => not("starting", "The MQTT broker has not been tried yet".to_owned()),
        Ok(_) => Ok(Answer(ReadyView { ready: true })),
    }
}

/// What runs.
#[utoipa::path(get, path = "/version", operation_id = "getVersion", tag = "service",
    responses((status = 200, description = "The version", body = VersionView)))]
pub(super) async fn version() -> Answer<VersionView> {
    let broker = cfg!(feature = "embedded-broker").then_some("embedded-broker");
    Answer(VersionView {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("HONEYCAST_COMMIT"),
        features: broker.into_iter().collect(),
    })
}
