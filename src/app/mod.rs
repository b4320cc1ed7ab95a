//! Wiring: builds the parts in order, announces their addresses, drains them in order.

mod access;
mod broker;
mod demo;
mod listeners;
mod run;
mod service;

pub(crate) use demo::with_defaults as demo_sources;
pub(crate) use run::StopSignal;
pub use run::{Outcome, run};
pub use service::{Addresses, Service, StartError};
