//! Ingest: the camera ports. RTP comes in, RTCP feedback goes out, frames go to a [`FrameSink`](crate::media::FrameSink).

mod handle;

pub use handle::{IngestEvent, IngestHandle, IngestStats, OpenError, OpenStream, PortPlan, TrackStats};
