//! Egress: the viewer port. Frames come in through a [`FrameSink`](crate::media::FrameSink), SRTP goes out to every viewer.

mod handle;

pub use handle::{
    AddViewer, Candidate, CloseReason, EgressEvent, EgressHandle, ViewerAnswer, ViewerError, ViewerStats,
};
