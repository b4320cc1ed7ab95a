//! What every layer may use: identifiers, clocks, shutdown. Depends on nothing above it.

pub mod cores;
pub mod files;
pub mod id;
pub mod net;
mod origins;
pub mod shutdown;
pub mod time;
pub mod timers;
pub mod udp;

pub use id::{CameraId, SessionId, StreamId, ViewerId};
pub use origins::AllowedOrigins;
pub use shutdown::Shutdown;
pub use timers::Timers;
