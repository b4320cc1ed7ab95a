//! Configuration: defaults < file < `.env` < environment < flags become one checked [`Config`].
//!
//! [`keys`] is the one list of all keys; [`mod@load`] reads the layers, `check` finds impossible combinations.
//! Every problem is reported at once, with the key and where its value came from.

mod check;
mod dotenv;
pub mod keys;
pub mod load;
mod setting;
mod tree;

pub use check::store_problem;
pub(crate) use load::STATE_DIRECTORY;
pub use load::{Loaded, Origin, Problem, Problems, Sources, load};
pub use setting::{LocalNetworks, PortRange, Secret, StorePlace};
pub use tree::{
    ApiConfig, AuthConfig, CameraConfig, Config, EventConfig, LimitConfig, ListenConfig, LogSection, MediaConfig,
    MqttConfig, NetworkConfig, RembPolicy, SignalingConfig, StreamConfig, TlsConfig, TopicConfig, ViewerConfig,
};

#[cfg(test)]
mod tests;
