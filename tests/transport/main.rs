//! How media reach viewers: by UDP and by TCP, IPv4 and IPv6, from one address and then another. Real sockets of
//! this machine, a browser of webrtc-rs's protocol crates, and the egress as a library.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod peer;
mod rig;
mod scenarios;
mod tcp;

use std::future::Future;
use std::time::Duration;

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else { panic!("in vain: {what}") };
    value
}
