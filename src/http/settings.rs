//! What the HTTP edge is told at start, already validated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use utoipa::ToSchema;

use super::Certificates;
use super::requests::RequestCounters;
use crate::access::{Access, ClientLimits};
use crate::base::AllowedOrigins;
use crate::telemetry::metrics::Collect;

/// Settings of the API and dashboard ports.
#[derive(Debug, Clone, Default)]
pub struct ApiSettings {
    /// Whose pages may call.
    pub allowed_origins: AllowedOrigins,
    /// Who may do what.
    pub access: Access,
    /// How often a client may ask.
    pub clients: Arc<ClientLimits>,
    /// The listeners' certificate, where there is one.
    pub certificates: Option<Certificates>,
    /// What the pages have to know.
    pub pages: PageSettings,
    /// The figures of other parts, for `/metrics`.
    pub metrics: MetricsSources,
    /// What `/ready` tells.
    pub ready: Readiness,
    /// Requests on all HTTP ports.
    pub requests: Arc<RequestCounters>,
}

/// Whether the start of the service is over. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on, for good.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Parts that have figures to show.
#[derive(Clone, Default)]
pub struct MetricsSources(pub Vec<Arc<dyn Collect>>);

impl std::fmt::Debug for MetricsSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MetricsSources").field(&self.0.len()).finish()
    }
}

/// The content of `/viewer-config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageSettings {
    /// Port of the REST API.
    pub api_port: u16,
    /// Port of the signaling WebSocket.
    pub signaling_port: u16,
    /// Whether that is `wss`.
    pub signaling_secure: bool,
    /// The REST API, where it is not to be found by its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// The signaling WebSocket, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signaling_url: Option<String>,
    /// STUN and TURN servers for browsers.
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server as browsers take it (`RTCIceServer`).
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl std::fmt::Debug for IceServer {
    /// Leaves the credential out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).field("username", &self.username).finish_non_exhaustive()
    }
}
