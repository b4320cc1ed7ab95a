//! Logging: where lines go, which ones, and how often outsiders may cause one.

mod logging;
mod rate;

pub use logging::{InvalidFilter, LogConfig, LogFilter, LogFormat, LogGuard, init};
pub use rate::RateLimited;
