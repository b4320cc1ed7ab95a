//! Which pages may talk to us: one rule for the API (CORS) and the signaling socket.

use std::sync::Arc;

/// Origins whose pages may read answers and open sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All; the origin is echoed, because credentials forbid `*`.
    #[default]
    Any,
    /// These, like `https://dashboard.example`, without a trailing slash.
    Only(Arc<[String]>),
}

impl AllowedOrigins {
    /// Whether pages of `origin` are welcome. Origins compare as bytes (RFC 6454 §5).
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}
