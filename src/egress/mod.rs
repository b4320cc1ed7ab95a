//! Egress: the viewer port. Frames come in through a [`FrameSink`](crate::media::FrameSink), SRTP goes
//! out to every viewer.
//!
//! `driver` owns the port and feeds `sessions` (ICE, DTLS, feedback); when a session is up, its keys
//! go to one `shard`, whose [`fanout`] rewrites, seals and sends frames to the viewers it owns.

mod audience;
mod driver;
pub mod fanout;
mod handle;
mod limits;
mod loss;
mod marks;
mod port;
mod rate;
mod resend;
mod run;
mod sessions;
mod shard;
mod stats;
mod tap;
mod tcp;
mod tcp_connections;
pub mod tcp_frames;
mod thinning;
mod totals;
pub mod viewer;
mod wishes;

pub use handle::{
    AddViewer, Candidate, CloseReason, EgressEvent, EgressHandle, EgressSettings, IceRestart, RestartError,
    ViewerAnswer, ViewerError,
};
pub use limits::RembPolicy;
pub use port::{Drops, PortOptions, ViewerPort};
pub use stats::ViewerStats;
pub use tap::FrameTap;
pub use tcp_connections::TcpCounters;
pub use thinning::ThinReason;
