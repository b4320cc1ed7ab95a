//! Webhooks: what happens to cameras, posted as signed JSON to one URL (<https://www.standardwebhooks.com>).

mod delivery;
mod signature;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::sync::mpsc;

pub use delivery::{InvalidUrl, Target};
pub use signature::{InvalidSecret, Secret};

use self::delivery::{Delivery, Outcome};
use crate::base::Shutdown;
use crate::base::time::iso8601;
use crate::control::history::Aspect;
use crate::control::{Change, Control};
use crate::telemetry::metrics::{Collect, Page, catalog};

/// Events that may wait while the receiver is away; what comes then is dropped and counted.
const QUEUE: usize = 1_024;

/// What a webhook needs.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    /// Where to.
    pub target: Target,
    /// Known to the receiver too.
    pub secret: Secret,
    /// The name of this node, in every event.
    pub node: String,
}

/// Events by fate, since the start.
#[derive(Debug, Default)]
pub struct WebhookCounters {
    delivered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Collect for WebhookCounters {
    fn collect(&self, page: &mut Page) {
        for (outcome, count) in [
            ("delivered", &self.delivered),
            ("refused", &self.refused),
            ("failed", &self.failed),
            ("dropped", &self.dropped),
        ] {
            page.count(&catalog::EVENTS, &["webhook", outcome], count.load(Ordering::Relaxed));
        }
    }
}

/// One event, as it is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    /// The same in every attempt, so that a receiver can tell repetitions.
    id: String,
    body: String,
}

impl Event {
    fn of(change: &Change, node: &str) -> Self {
        let mut data = change.to_json();
        data["node"] = node.into();
        let body = json!({
            "type": format!("camera.{}", change.what.name()),
            "timestamp": iso8601(change.at),
            "data": data,
        });
        Self { id: format!("evt_{}", uuid::Uuid::new_v4().simple()), body: body.to_string() }
    }
}

/// Posts changes until `shutdown` is requested or the control plane has ended: one after the other, each tried for
/// some minutes at most.
///
/// # Errors
///
/// The system's certificates cannot be read.
pub fn start(
    settings: WebhookSettings,
    control: Control,
    counters: Arc<WebhookCounters>,
    shutdown: &Shutdown,
) -> std::io::Result<()> {
    let delivery = Delivery::new(settings.target, settings.secret)?;
    let (queue, waiting) = mpsc::channel(QUEUE);
    let stop = shutdown.clone();
    let of_collect = counters.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = stop.requested() => {}
            () = collect(&control, &settings.node, &queue, &of_collect) => {}
        }
    });
    let stop = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = stop.requested() => {}
            () = post_all(&delivery, waiting, &counters) => {}
        }
    });
    Ok(())
}

async fn collect(control: &Control, node: &str, queue: &mpsc::Sender<Event>, counters: &WebhookCounters) {
    while let Ok(mut events) = control.events(None).await {
        while let Some(change) = events.next().await {
            // How many watch changes with every page that is opened; who wants that reads the metrics.
            if change.what != Aspect::Viewers && queue.try_send(Event::of(&change, node)).is_err() {
                counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn post_all(delivery: &Delivery, mut waiting: mpsc::Receiver<Event>, counters: &WebhookCounters) {
    while let Some(event) = waiting.recv().await {
        let counter = match delivery.deliver(&event).await {
            Outcome::Delivered => &counters.delivered,
            Outcome::Refused => &counters.refused,
            Outcome::Failed => &counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
