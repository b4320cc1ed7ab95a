//! Many simulated cameras on the three ports of the real binary, each on an address of its own and with a viewer
//! of its own that looks at the content of each packet: whose picture is it?

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../viewer/page.rs"]
#[allow(dead_code)]
mod page;
#[path = "../support/mod.rs"]
mod support;

mod crowd;
mod flood;
mod lines;
mod pictures;
mod scenarios;
mod site;
mod viewer;

use support::{LOOK, until, within};
