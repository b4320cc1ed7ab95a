//! The MQTT link against real brokers: mosquitto as a process of its own, and the embedded one.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod camera_link;
#[cfg(feature = "embedded-broker")]
mod embedded;
mod fake;
mod link;
mod outage;
mod tls;

use std::future::Future;
use std::time::Duration;

use honeycast::base::Shutdown;
use honeycast::mqtt::{Link, LinkSettings, LinkStatus, Message};
use support::PATIENCE;
use tokio::sync::mpsc;

/// A link with everything that a test has to hold on to.
struct Client {
    link: Link,
    incoming: mpsc::Receiver<Message>,
    shutdown: Shutdown,
}

impl Client {
    fn start(settings: LinkSettings) -> Self {
        let shutdown = Shutdown::new();
        let (link, incoming) = Link::start(settings, &shutdown).unwrap();
        Self { link, incoming, shutdown }
    }

    async fn connected(settings: LinkSettings) -> Self {
        let client = Self::start(settings);
        client.wait_connected().await;
        client
    }

    async fn wait_connected(&self) {
        let mut status = self.link.status();
        let waiting = status.wait_for(LinkStatus::is_connected);
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("never connected: {:?}", self.link);
        }
    }

    /// The reason of the first disconnected status that satisfies `fits`.
    async fn reason(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut status = self.link.status();
        let found = in_time(status.wait_for(|status| match status {
            LinkStatus::Disconnected { reason, .. } => fits(reason),
            LinkStatus::Connected => false,
        }));
        match &*found.await.unwrap() {
            LinkStatus::Disconnected { reason, .. } => reason.clone(),
            LinkStatus::Connected => unreachable!("filtered above"),
        }
    }

    /// The reason of the first attempt that failed.
    async fn refusal(&self) -> String {
        self.reason(|reason| !reason.contains("not made yet")).await
    }

    async fn next(&mut self) -> Message {
        in_time(self.incoming.recv()).await.expect("the link lives")
    }

    async fn stop(self) {
        self.shutdown.request();
        in_time(self.shutdown.drained()).await;
    }
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came")
}

fn settings(port: u16, subscriptions: &[&str]) -> LinkSettings {
    LinkSettings {
        host: "127.0.0.1".to_owned(),
        port,
        client_id_prefix: "test".to_owned(),
        credentials: None,
        tls: None,
        keep_alive: Duration::from_secs(30),
        subscriptions: subscriptions.iter().map(|&filter| filter.to_owned()).collect(),
        last_will: None,
        birth: None,
    }
}

fn message(topic: &str, payload: &str) -> Message {
    Message { topic: topic.to_owned(), payload: payload.to_owned().into(), retain: false }
}

fn retained(topic: &str, payload: &str) -> Message {
    Message { retain: true, ..message(topic, payload) }
}
