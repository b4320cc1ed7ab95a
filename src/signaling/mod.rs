//! WebSocket signaling (contract §6): [`protocol`] reads and writes the messages, a task per socket talks to
//! the control plane.

mod counters;
pub mod protocol;
mod socket;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

pub use counters::{Counters, SignalingStats};

use self::counters::Count;
use crate::base::{AllowedOrigins, Shutdown};
use crate::control::Control;

/// Longest message in bytes; an offer is below 20 KB.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Settings of the signaling port.
#[derive(Debug, Clone, Default)]
pub struct SignalingSettings {
    /// Whose pages may connect. Clients that are no pages send no origin and always may.
    pub allowed_origins: AllowedOrigins,
}

#[derive(Clone)]
struct Signaling {
    control: Control,
    settings: SignalingSettings,
    counters: Arc<Counters>,
    shutdown: Shutdown,
}

/// The router of the signaling port: every path is the socket.
pub fn router(control: Control, settings: SignalingSettings, counters: Arc<Counters>, shutdown: Shutdown) -> Router {
    Router::new().fallback(accept).with_state(Signaling { control, settings, counters, shutdown })
}

async fn accept(
    State(signaling): State<Signaling>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            signaling.counters.count(Count::NotWebSocket);
            let text = format!("This port speaks WebSocket: {}", rejection.body_text());
            return refuse(StatusCode::UPGRADE_REQUIRED, "upgrade_required", &text);
        }
    };
    let origin = request.headers().get(header::ORIGIN);
    if origin.is_some_and(|o| !o.to_str().is_ok_and(|text| signaling.settings.allowed_origins.allows(text))) {
        signaling.counters.count(Count::ForeignOrigin);
        return refuse(StatusCode::FORBIDDEN, "foreign_origin", "This origin may not connect");
    }
    let Signaling { control, counters, shutdown, .. } = signaling;
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(async move |socket| {
        // Counted by the shutdown, so that the process waits until the page was told.
        let _ = shutdown.spawn(socket::run(socket, control, counters, shutdown.clone())).await;
    })
}

fn refuse(status: StatusCode, code: &str, text: &str) -> Response {
    (status, Json(json!({ "error": text, "code": code }))).into_response()
}
