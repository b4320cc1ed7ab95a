//! What the control plane is told at start, already validated.

use super::address::AddressRule;
use super::session::Timing;

/// Settings of the control plane.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Keepalive interval, start and idle timeouts.
    pub timing: Timing,
    /// Viewers of one stream (`MAX_VIEWERS_PER_STREAM`).
    pub max_viewers: usize,
    /// Streams at once. Camera ids come from outside, so there has to be an end.
    pub max_streams: usize,
    /// Cameras remembered (`MAX_KNOWN_CAMERAS`), for the same reason.
    pub max_cameras: usize,
    /// Whether a start of a running stream succeeds (`START_IDEMPOTENT`).
    pub start_idempotent: bool,
    /// Whether a viewer starts a camera's stream that does not run (`START_ON_DEMAND`). The stream id that a
    /// viewer names counts for nothing then.
    pub start_on_demand: bool,
    /// Lowest and highest REMB value towards cameras, in kbit/s.
    pub bandwidth_kbit: (u32, u32),
    /// Which address cameras send to.
    pub address: AddressRule,
}

/// Whether the broker can be reached, as the MQTT edge reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerStatus {
    /// Messages can be published.
    Connected,
    /// They cannot.
    Disconnected {
        /// Why, in words.
        reason: String,
    },
}
