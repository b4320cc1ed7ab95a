//! Between the control plane and the broker: commands out, camera messages in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::inbound::{self, Malformed};
use super::link::{Link, Message};
use super::topics::{Topics, UnknownTopic};
use crate::base::Shutdown;
use crate::control::camera::{CameraCommand, CameraMessage};
use crate::telemetry::metrics::{Collect, Page, catalog};

/// Commands that may wait for the broker's acknowledgement at one time. Beyond it the queue of commands
/// is left standing, so that its sender feels it.
const MAX_UNACKNOWLEDGED: usize = 512;

/// What came from cameras, counted by its fate.
#[derive(Debug, Default)]
pub struct CameraLinkCounters {
    forwarded: AtomicU64,
    unknown_topic: AtomicU64,
    not_a_camera: AtomicU64,
    too_large: AtomicU64,
    not_json: AtomicU64,
    not_an_object: AtomicU64,
    no_status: AtomicU64,
}

/// A snapshot of [`CameraLinkCounters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CameraLinkStats {
    /// Handed to the control plane.
    pub forwarded: u64,
    /// Dropped: the topic matches no filter.
    pub unknown_topic: u64,
    /// Dropped: the topic does not name a camera.
    pub not_a_camera: u64,
    /// Dropped: larger than 64 KiB.
    pub too_large: u64,
    /// Dropped: not JSON.
    pub not_json: u64,
    /// Dropped: JSON, but not an object.
    pub not_an_object: u64,
    /// Dropped: a connection message without a status.
    pub no_status: u64,
}

impl Collect for CameraLinkCounters {
    fn collect(&self, page: &mut Page) {
        let stats = self.snapshot();
        for (reason, count) in [
            ("unknown_topic", stats.unknown_topic),
            ("not_a_camera", stats.not_a_camera),
            ("too_large", stats.too_large),
            ("not_json", stats.not_json),
            ("not_an_object", stats.not_an_object),
            ("no_status", stats.no_status),
        ] {
            page.count(&catalog::MQTT_DROPPED, &[reason], count);
        }
    }
}

impl CameraLinkCounters {
    /// The numbers now.
    pub fn snapshot(&self) -> CameraLinkStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CameraLinkStats {
            forwarded: read(&self.forwarded),
            unknown_topic: read(&self.unknown_topic),
            not_a_camera: read(&self.not_a_camera),
            too_large: read(&self.too_large),
            not_json: read(&self.not_json),
            not_an_object: read(&self.not_an_object),
            no_status: read(&self.no_status),
        }
    }

    fn count(&self, rejected: Rejected) {
        let counter = match rejected {
            Rejected::Topic(UnknownTopic::NoMatch) => &self.unknown_topic,
            Rejected::Topic(UnknownTopic::NotACamera) => &self.not_a_camera,
            Rejected::Payload(Malformed::TooLarge) => &self.too_large,
            Rejected::Payload(Malformed::NotJson) => &self.not_json,
            Rejected::Payload(Malformed::NotAnObject) => &self.not_an_object,
            Rejected::Payload(Malformed::NoStatus) => &self.no_status,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Carries both directions until `shutdown` is requested or both have ended.
///
/// Commands are published in the order in which they come, and their acknowledgements awaited side by
/// side: a slow one delays nobody. Every command's `done` is answered. Messages that cannot be read are
/// counted and dropped. When the control plane does not keep up with `events`, messages wait here and
/// then in the link, which drops and counts the newest.
pub async fn run(
    link: Link,
    topics: Topics,
    commands: mpsc::Receiver<CameraCommand>,
    inbound: mpsc::Receiver<Message>,
    events: mpsc::Sender<CameraMessage>,
    shutdown: Shutdown,
    counters: Arc<CameraLinkCounters>,
) {
    tokio::join!(
        publish_commands(&link, &topics, commands, &shutdown),
        forward_messages(&topics, inbound, events, &shutdown, &counters),
    );
}

async fn publish_commands(
    link: &Link,
    topics: &Topics,
    mut commands: mpsc::Receiver<CameraCommand>,
    shutdown: &Shutdown,
) {
    let mut waiting = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv(), if waiting.len() < MAX_UNACKNOWLEDGED => match command {
                Some(command) => publish(link, topics, command, &mut waiting),
                None => break,
            },
            Some(_) = waiting.join_next() => {}
            () = shutdown.requested() => break,
        }
    }
    // What is queued already still gets an answer: by then the link says that it is shutting down.
    commands.close();
    while let Ok(command) = commands.try_recv() {
        publish(link, topics, command, &mut waiting);
    }
    while waiting.join_next().await.is_some() {}
}

fn publish(link: &Link, topics: &Topics, command: CameraCommand, waiting: &mut JoinSet<()>) {
    let CameraCommand { camera, kind, payload, done } = command;
    let message = Message { topic: topics.command(kind, camera), payload: payload.into(), retain: false };
    let submitted = link.submit(message);
    waiting.spawn(async move {
        let result = submitted.wait().await;
        if let Err(error) = &result {
            tracing::debug!(%camera, ?kind, %error, "camera command not published");
        }
        // Nobody has to wait for the answer.
        let _ = done.send(result.map_err(|error| error.to_string()));
    });
}

async fn forward_messages(
    topics: &Topics,
    mut inbound: mpsc::Receiver<Message>,
    events: mpsc::Sender<CameraMessage>,
    shutdown: &Shutdown,
    counters: &CameraLinkCounters,
) {
    let forward = async {
        while let Some(message) = inbound.recv().await {
            match read(topics, &message) {
                Ok(content) => {
                    if events.send(content).await.is_err() {
                        return;
                    }
                    counters.forwarded.fetch_add(1, Ordering::Relaxed);
                }
                Err(rejected) => {
                    counters.count(rejected);
                    // Anybody with access to the broker can cause this, so it is not worth more than debug.
                    tracing::debug!(topic = %message.topic, ?rejected, "camera message dropped");
                }
            }
        }
    };
    tokio::select! {
        () = forward => {}
        () = shutdown.requested() => {}
    }
}

#[derive(Debug, Clone, Copy)]
enum Rejected {
    Topic(UnknownTopic),
    Payload(Malformed),
}

fn read(topics: &Topics, message: &Message) -> Result<CameraMessage, Rejected> {
    let (kind, camera) = topics.report(&message.topic).map_err(Rejected::Topic)?;
    let parsed = inbound::parse(kind, camera, &message.payload).map_err(Rejected::Payload)?;
    Ok(CameraMessage { retained: message.retain, ..parsed })
}
