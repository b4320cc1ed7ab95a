//! MQTT: the one link to the broker, what crosses it, and the small broker that can be embedded.
//!
//! Types of the client and broker libraries do not leave this folder.

mod backoff;
#[cfg(feature = "embedded-broker")]
pub mod broker;
pub mod camera_link;
mod driver;
pub mod events;
pub mod inbound;
pub mod link;
mod reason;
pub mod tls;
pub mod topics;

#[cfg(feature = "embedded-broker")]
pub use broker::{BrokerError, BrokerSettings, EmbeddedBroker};
pub use camera_link::{CameraLinkCounters, CameraLinkStats};
pub use events::{EventCounters, EventTopic, fill_node};
pub use link::{Link, LinkCounters, LinkError, LinkSettings, LinkStatus, Message, PublishError};
pub use tls::TlsSettings;
pub use topics::{TopicSettings, Topics};
