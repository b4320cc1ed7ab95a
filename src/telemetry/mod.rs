//! Logging: where lines go, which ones, and how often outsiders may cause one. Metrics: their names and their format.

mod logging;
pub mod metrics;
mod rate;

pub use logging::{InvalidFilter, LogConfig, LogFilter, LogFormat, LogGuard, init, log_filter, set_log_filter};
pub use rate::RateLimited;
