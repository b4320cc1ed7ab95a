//! The media core, sans-IO: packets and time come in as arguments, decisions come out.
//!
//! Nothing in here opens a socket, reads a clock, logs, or knows tokio; `tests/layers.rs` holds the rule.

pub mod bits;
pub mod cache;
pub mod clock;
pub mod doctor;
pub mod frame;
pub mod framer;
pub mod h264;
pub mod id;
pub mod latch;
pub mod mp4;
pub mod numbering;
pub mod packetize;
pub mod parameters;
pub mod pipeline;
pub mod receive;
pub mod reorder;
pub mod repair;
pub mod rewrite;
pub mod rtcp;
pub mod rtp;
pub mod sps;
#[cfg(test)]
mod sync_tests;
pub mod transport_cc;

pub use frame::{ClockPoint, Codec, Frame, FramePacket, FrameSink, MediaKind};
pub use id::{ExtSeq, RtpTime, SeqNo, Ssrc};
