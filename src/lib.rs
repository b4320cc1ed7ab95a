//! Honeycast: cameras that speak plain RTP, seen in browsers.
//!
//! The modules, bottom-up. Imports go down only; `tests/layers.rs` holds the rule.
//!
//! | layer | modules |
//! |---|---|
//! | base | [`base`], [`telemetry`] |
//! | access | [`access`], who may do what; no I/O |
//! | store | [`store`], the file that outlives the process |
//! | media core, sans-IO | [`media`] |
//! | media io | [`webrtc`] below [`ingest`] and [`egress`] |
//! | control | [`control`] |
//! | edges | [`mqtt`], [`http`], [`signaling`] |
//! | wiring | [`config`], [`app`], [`cli`] |
//! | a client of its own | [`sim`], the simulated camera |

pub mod base;
pub mod telemetry;

pub mod access;

pub mod store;

pub mod media;

pub mod webrtc;

pub mod egress;
pub mod ingest;

pub mod control;

pub mod http;
pub mod mqtt;
pub mod signaling;
pub mod webhook;

pub mod sim;

pub mod app;
pub mod cli;
pub mod config;
