//! What happens to cameras, told over MQTT: one retained message for each aspect of each camera.
//!
//! A message says how it is now, so only the newest of each topic counts: while the broker is away newer ones take
//! the place of older ones, and nothing piles up. A broker that comes back may have forgotten what it kept, so it
//! gets everything again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::link::{Link, LinkStatus, Message};
use crate::base::{CameraId, Shutdown};
use crate::control::history::Aspect;
use crate::control::{Change, Control, Events};
use crate::telemetry::metrics::{Collect, Page, catalog};

/// After a message that a connected broker did not take.
const REST: Duration = Duration::from_secs(30);

/// Where an event goes. `{node}`, `{camera_id}` and `{what}` are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTopic(String);

/// Why a text is no [`EventTopic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a topic with {{camera_id}} and {{what}}, without + and #")]
pub struct InvalidEventTopic;

impl EventTopic {
    /// Checks the template and fills in the node's name.
    ///
    /// # Errors
    ///
    /// [`InvalidEventTopic`].
    pub fn new(template: &str, node: &str) -> Result<Self, InvalidEventTopic> {
        let topic = fill_node(template, node);
        let fits = ["{camera_id}", "{what}"].iter().all(|part| topic.matches(part).count() == 1);
        let legal = !topic.contains(['+', '#', '\0']) && topic.len() < 1_024;
        if fits && legal { Ok(Self(topic)) } else { Err(InvalidEventTopic) }
    }

    fn of(&self, camera: CameraId, what: Aspect) -> String {
        self.0.replace("{camera_id}", &camera.to_string()).replace("{what}", what.name())
    }
}

/// Puts the name of this node where a topic wants it; characters that topics cannot hold become `_`.
pub fn fill_node(template: &str, node: &str) -> String {
    let node: String = node.chars().map(|c| if matches!(c, '/' | '+' | '#' | '\0') { '_' } else { c }).collect();
    template.replace("{node}", &node)
}

/// Events published and not, since the start.
#[derive(Debug, Default)]
pub struct EventCounters {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl Collect for EventCounters {
    fn collect(&self, page: &mut Page) {
        for (outcome, count) in [("delivered", &self.delivered), ("failed", &self.failed)] {
            page.count(&catalog::EVENTS, &["mqtt", outcome], count.load(Ordering::Relaxed));
        }
    }
}

/// Publishes changes until `shutdown` is requested or the control plane has ended.
pub async fn run(link: Link, topic: EventTopic, control: Control, counters: &EventCounters, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.requested() => {}
        () = publish_all(&link, &topic, &control, counters) => {}
    }
}

async fn publish_all(link: &Link, topic: &EventTopic, control: &Control, counters: &EventCounters) {
    let mut board = Board::default();
    let mut status = link.status();
    // A reader that was too slow has missed changes: it looks at everything again.
    while let Ok(mut events) = control.events(None).await {
        let Ok(known) = control.cameras().await else { return };
        for camera in known {
            let state = camera.stream.map_or_else(|| json!("stopped"), |(_, state)| json!(state));
            let state = state.as_str().unwrap_or_default().to_owned();
            board.note(Change::now(camera.camera_id, Aspect::State, state, None));
            let code = json!(camera.picture.code).as_str().unwrap_or_default().to_owned();
            board.note(Change::now(camera.camera_id, Aspect::Picture, code, Some(camera.picture.text)));
        }
        forward(link, topic, &mut board, &mut status, &mut events, counters).await;
    }
}

/// Ends with `events`.
async fn forward(
    link: &Link,
    topic: &EventTopic,
    board: &mut Board,
    status: &mut tokio::sync::watch::Receiver<LinkStatus>,
    events: &mut Events,
    counters: &EventCounters,
) {
    loop {
        let connected = status.borrow_and_update().is_connected();
        tokio::select! {
            // Changes first: a message that is out of date need not be sent.
            biased;
            change = events.next() => match change {
                Some(change) => board.note(change),
                None => return,
            },
            changed = status.changed() => match changed {
                Ok(()) if status.borrow().is_connected() => board.forget_published(),
                Ok(()) => {}
                Err(_) => return,
            },
            // A broker that is there and refused is asked again now and then.
            () = tokio::time::sleep(REST), if connected && board.resting => board.resting = false,
            () = async {}, if connected && board.has_news() => {
                let Some(change) = board.take() else { continue };
                let payload = change.to_json().to_string().into();
                let message = Message { topic: topic.of(change.camera, change.what), payload, retain: true };
                match link.publish(message).await {
                    Ok(()) => drop(counters.delivered.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        counters.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%error, "an event could not be published");
                        board.put_back(&change);
                        board.rest();
                    }
                }
            }
        }
    }
}

/// The newest change of every aspect of every camera, and which of them the broker does not have.
#[derive(Debug, Default)]
struct Board {
    newest: BTreeMap<(CameraId, &'static str), Change>,
    news: BTreeSet<(CameraId, &'static str)>,
    resting: bool,
}

impl Board {
    fn note(&mut self, change: Change) {
        // Cameras publish these themselves, and they are no state that could be kept.
        if change.what == Aspect::Activity {
            return;
        }
        let key = (change.camera, change.what.name());
        self.resting = false;
        let known = self.newest.get(&key).is_some_and(|old| (&old.value, &old.text) == (&change.value, &change.text));
        if !known {
            self.newest.insert(key, change);
            self.news.insert(key);
        }
    }

    fn has_news(&self) -> bool {
        !self.resting && !self.news.is_empty()
    }

    fn take(&mut self) -> Option<Change> {
        let key = self.news.pop_first()?;
        self.newest.get(&key).cloned()
    }

    fn put_back(&mut self, change: &Change) {
        self.news.insert((change.camera, change.what.name()));
    }

    fn rest(&mut self) {
        self.resting = true;
    }

    fn forget_published(&mut self) {
        self.resting = false;
        self.news.extend(self.newest.keys().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(last: char) -> CameraId {
        format!("0000000000000000000000000000000{last}").parse().unwrap()
    }

    fn change(last: char, what: Aspect, value: &str) -> Change {
        Change::now(camera(last), what, value.to_owned(), None)
    }

    #[test]
    fn only_the_newest_of_each_topic_is_told_and_all_again_to_a_broker_that_came_back() {
        let mut board = Board::default();
        for value in ["starting", "active", "active"] {
            board.note(change('1', Aspect::State, value));
        }
        board.note(change('2', Aspect::Viewers, "3"));
        board.note(change('2', Aspect::Activity, "motion"));
        assert_eq!(board.take().unwrap().value, "active");
        assert_eq!(board.take().unwrap().value, "3");
        assert!(board.take().is_none() && !board.has_news());
        board.note(change('1', Aspect::State, "active"));
        assert!(!board.has_news(), "nothing has changed");
        board.forget_published();
        assert_eq!([board.take().unwrap().value, board.take().unwrap().value], ["active", "3"]);
    }

    #[test]
    fn a_message_that_was_refused_waits_for_the_next_change() {
        let mut board = Board::default();
        board.note(change('1', Aspect::State, "active"));
        let taken = board.take().unwrap();
        board.put_back(&taken);
        board.rest();
        assert!(!board.has_news());
        board.note(change('2', Aspect::State, "active"));
        assert!(board.has_news());
        assert_eq!(board.news.len(), 2);
    }

    #[test]
    fn topics_name_node_camera_and_aspect() {
        let topic = EventTopic::new("honeycast/{node}/cameras/{camera_id}/{what}", "edge/1").unwrap();
        let expected = "honeycast/edge_1/cameras/00000000000000000000000000000001/picture";
        assert_eq!(topic.of(camera('1'), Aspect::Picture), expected);
        for bad in ["", "honeycast/{what}", "a/{camera_id}", "a/+/{camera_id}/{what}", "{camera_id}{camera_id}{what}"] {
            assert_eq!(EventTopic::new(bad, "n"), Err(InvalidEventTopic), "{bad}");
        }
    }
}
