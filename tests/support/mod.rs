//! What several integration tests need: real brokers, certificates, the binary as a process.
//!
//! Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

pub mod certs;
pub mod mosquitto;
pub mod peer;
pub mod service;

use std::future::Future;
use std::time::Duration;

/// Longest wait for anything that must come. Generous: it only ends a test that has failed already.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that nobody tells of.
pub const LOOK: Duration = Duration::from_millis(25);

/// Waits for something that must come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else { panic!("in vain: {what}") };
    value
}

/// Looks until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, looking).await;
}

/// The same for what is known without waiting.
pub async fn until_so(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || std::future::ready(look())).await;
}
