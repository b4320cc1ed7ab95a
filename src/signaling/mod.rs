//! WebSocket signaling (contract §6): [`protocol`] reads and writes the messages, [`conversation`] says what follows
//! what, a task per socket carries it and talks to the control plane.

pub mod conversation;
mod counters;
pub mod protocol;
mod socket;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

pub use counters::{Counters, SignalingStats};

use self::counters::Count;
use crate::access::{Access, ClientLimits, credential};
use crate::base::{AllowedOrigins, Shutdown};
use crate::control::Control;

/// Longest message in bytes; an offer is below 20 KB.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Bytes read at a time. The library clears and keeps a buffer of this size for every page, 128 KiB unless told.
const READ_BUFFER: usize = 4 << 10;

/// Settings of the signaling port.
#[derive(Debug, Clone, Default)]
pub struct SignalingSettings {
    /// Whose pages may connect. Clients that are no pages send no origin and always may.
    pub allowed_origins: AllowedOrigins,
    /// Who may do what.
    pub access: Access,
    /// How often a client may open a socket.
    pub clients: Arc<ClientLimits>,
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
    let Signaling { control, settings, counters, shutdown } = signaling;
    if let Some(wait) = too_often(&settings.clients, &request) {
        counters.count(Count::TooManyRequests);
        let text = "Too many requests";
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        let refusal = refuse(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text);
        return ([(header::RETRY_AFTER, seconds)], refusal).into_response();
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            counters.count(Count::NotWebSocket);
            let text = format!("This port speaks WebSocket: {}", rejection.body_text());
            return refuse(StatusCode::UPGRADE_REQUIRED, "not_websocket", &text);
        }
    };
    let text = |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let (origin, host) = (text(header::ORIGIN), text(header::HOST));
    if origin.is_some_and(|origin| !settings.allowed_origins.allows(origin, host)) {
        counters.count(Count::ForeignOrigin);
        return refuse(StatusCode::FORBIDDEN, "foreign_origin", "This origin may not connect");
    }
    let cookies = request.headers().get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let own_page = origin.is_none_or(|origin| settings.allowed_origins.trusts(origin, host));
    let credential = credential::find(text(header::AUTHORIZATION), request.uri().query(), cookies, own_page);
    let granted = settings.access.grant(credential, SystemTime::now());
    // Pages are not told why a handshake was refused, but hear what is said on a socket.
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).read_buffer_size(READ_BUFFER);
    upgrade.on_upgrade(async move |socket| {
        // Counted by the shutdown, so that the process waits until the page was told.
        let _ = shutdown.spawn(socket::run(socket, granted, control, counters, shutdown.clone())).await;
    })
}

/// How long the client has to wait, if it has asked too often.
fn too_often(clients: &ClientLimits, request: &Request) -> Option<Duration> {
    let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    let headers = request.headers().get_all("x-forwarded-for").iter();
    let client = clients.client(peer.ip(), headers.filter_map(|value| value.to_str().ok()));
    clients.take(client, Instant::now()).err()
}

fn refuse(status: StatusCode, code: &str, text: &str) -> Response {
    (status, Json(json!({ "error": text, "code": code }))).into_response()
}
