//! The one place where webrtc-rs types appear.

pub mod feedback;
