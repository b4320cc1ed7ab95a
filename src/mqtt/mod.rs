//! MQTT: the one link to the broker, what crosses it, and the small broker that can be embedded.
//!
//! Types of the client and broker libraries do not leave this folder.

mod backoff;
mod driver;
pub mod link;
mod reason;
pub mod tls;

pub use link::{Link, LinkCounters, LinkError, LinkSettings, LinkStatus, Message, PublishError};
pub use tls::TlsSettings;
