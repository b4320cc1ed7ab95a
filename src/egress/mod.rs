//! Egress: the viewer port. Frames come in through a [`FrameSink`](crate::media::FrameSink), SRTP goes
//! out to every viewer.
//!
//! `driver` owns the port and feeds `sessions` (ICE, DTLS, feedback); when a session is up, its keys
//! go to one `shard`, whose [`fanout`] rewrites, seals and sends frames to the viewers it owns.

mod driver;
pub mod fanout;
mod handle;
mod limits;
mod sessions;
mod shard;
mod tap;
pub mod viewer;

pub use handle::{
    AddViewer, Candidate, CloseReason, EgressEvent, EgressHandle, EgressSettings, ViewerAnswer, ViewerError,
    ViewerPort, ViewerStats,
};
pub use tap::FrameTap;
