//! What several integration tests need: real brokers, certificates.
//!
//! Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod certs;
pub mod mosquitto;
