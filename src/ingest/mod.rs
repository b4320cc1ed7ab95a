//! Ingest: the camera ports. RTP comes in, RTCP feedback goes out, frames go to a
//! [`FrameSink`](crate::media::FrameSink).
//!
//! `driver` owns the sockets, `intake` decides whose packet it is, `stream` turns packets into
//! frames and feedback; the last two know neither socket nor clock.

mod driver;
mod handle;
mod intake;
mod stream;

pub use driver::{CameraPorts, pool_plans};
pub use handle::{IngestEvent, IngestHandle, IngestSettings, IngestStats, OpenError, OpenStream, PortPlan, TrackStats};
pub use intake::{DropCounters, DropReason, OPEN_WAIT, RefusedSource};

pub use crate::media::latch::{LONGEST_TURN, MEMORY, TURN};
pub use crate::webrtc::feedback::{FeedbackHealth, FeedbackWarning};
