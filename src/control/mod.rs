//! The control plane: which cameras there are, which streams run, who watches. The edges hold a
//! [`Control`](handle::Control); one task behind it owns all state.

pub mod address;
pub mod camera;
pub mod keepalive;
pub mod play;
pub mod registry;
pub mod session;
