//! Ingest: the camera ports. RTP comes in, RTCP feedback goes out, frames go to a
//! [`FrameSink`](crate::media::FrameSink).
//!
//! `driver` owns the sockets, `intake` decides whose packet it is, `stream` turns packets into
//! frames and feedback; the last two know neither socket nor clock.

mod driver;
mod handle;
mod intake;
mod stream;

pub use driver::CameraPorts;
pub use handle::{IngestEvent, IngestHandle, IngestSettings, IngestStats, OpenError, OpenStream, PortPlan, TrackStats};
pub use intake::{DropCounters, DropReason, RefusedSource};
