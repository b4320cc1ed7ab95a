//! What several integration tests need: real brokers, certificates, the binary as a process.
//!
//! Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

pub mod certs;
pub mod mosquitto;
pub mod peer;
pub mod service;

use std::time::Duration;

/// Longest wait for anything that must come. Generous: it only ends a test that has failed already.
pub const PATIENCE: Duration = Duration::from_secs(60);
