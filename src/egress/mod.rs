//! Egress: the viewer port. Frames come in through a [`FrameSink`](crate::media::FrameSink), SRTP goes
//! out to every viewer.
//!
//! `driver` owns the port and feeds `sessions` (ICE, DTLS, feedback); when a session is up, its keys
//! go to one `shard`, whose [`fanout`] rewrites, seals and sends frames to the viewers it owns.

mod driver;
pub mod fanout;
mod handle;
mod limits;
mod loss;
mod marks;
mod rate;
mod resend;
mod run;
mod sessions;
mod shard;
mod stats;
mod tap;
mod thinning;
pub mod viewer;
mod wishes;

pub use handle::{
    AddViewer, Candidate, CloseReason, EgressEvent, EgressHandle, EgressSettings, ViewerAnswer, ViewerError, ViewerPort,
};
pub use limits::RembPolicy;
pub use stats::ViewerStats;
pub use tap::FrameTap;
pub use thinning::ThinReason;
