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

use std::future::Future;
use std::time::Duration;

use support::PATIENCE;

/// Between two looks at something that nobody reports.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for what must come.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else { panic!("in vain: {what}") };
    value
}

/// Looks until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let looking = async {
        while !look().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, looking).await;
}
