//! What happens to cameras, told over MQTT: one retained message for each aspect of each camera.
//!
//! A message says how it is now, so only the newest of each topic counts: while the broker is away newer ones take
//! the place of older ones, and nothing piles up. A broker that comes back may have forgotten what it kept, so it
//! gets everything again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::link::{Link, LinkStatus, Message};
use crate::base::{CameraId, Shutdown};
use crate::control::history::Aspect;
use crate::control::{Change, Control, Events};
use crate::telemetry::metrics::{Collect, Page, catalog};

/// After a message that a connected broker did not take.
const REST: Duration = Duration::from_secs(30);
/// Between two numbers of viewers of one camera: a hundred may come in a second.
const COUNT_PACE: Duration = Duration::from_millis(250);

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
        let now = Instant::now();
        for camera in known {
            let state = camera.stream.map_or_else(|| json!("stopped"), |(_, state)| json!(state));
            let state = state.as_str().unwrap_or_default().to_owned();
            board.note(Change::now(camera.camera_id, Aspect::State, state, None), now);
            let code = json!(camera.picture.code).as_str().unwrap_or_default().to_owned();
            board.note(Change::now(camera.camera_id, Aspect::Picture, code, Some(camera.picture.text)), now);
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
                Some(change) => board.note(change, Instant::now()),
                None => return,
            },
            changed = status.changed() => match changed {
                Ok(()) if status.borrow().is_connected() => board.forget_published(Instant::now()),
                Ok(()) => {}
                Err(_) => return,
            },
            // A broker that is there and refused is asked again now and then.
            () = tokio::time::sleep(REST), if connected && board.resting => board.resting = false,
            () = reached(board.next_at()), if connected => {
                let Some(change) = board.take(Instant::now()) else { continue };
                let payload = change.to_json().to_string().into();
                let message = Message { topic: topic.of(change.camera, change.what), payload, retain: true };
                match link.publish(message).await {
                    Ok(()) => drop(counters.delivered.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        counters.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%error, "an event could not be published");
                        board.put_back(&change, Instant::now());
                        board.rest();
                    }
                }
            }
        }
    }
}

async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

type Key = (CameraId, &'static str);

/// The newest change of every aspect of every camera, and which of them the broker does not have.
#[derive(Debug, Default)]
struct Board {
    newest: BTreeMap<Key, Change>,
    /// What the broker does not have, and from when on it is told.
    news: BTreeMap<Key, Instant>,
    /// When the number of a camera's viewers was told last.
    counted: BTreeMap<CameraId, Instant>,
    resting: bool,
}

impl Board {
    fn note(&mut self, change: Change, now: Instant) {
        // Cameras publish these themselves, and they are no state that could be kept.
        if change.what == Aspect::Activity {
            return;
        }
        let key = (change.camera, change.what.name());
        self.resting = false;
        let known = self.newest.get(&key).is_some_and(|old| (&old.value, &old.text) == (&change.value, &change.text));
        if !known {
            let counted = self.counted.get(&change.camera).filter(|_| change.what == Aspect::Viewers);
            let at = counted.map_or(now, |counted| now.max(*counted + COUNT_PACE));
            self.newest.insert(key, change);
            self.news.entry(key).or_insert(at);
        }
    }

    /// When there is something to tell.
    fn next_at(&self) -> Option<Instant> {
        self.news.values().min().filter(|_| !self.resting).copied()
    }

    fn take(&mut self, now: Instant) -> Option<Change> {
        let key = *self.news.iter().find(|(_, at)| **at <= now)?.0;
        self.news.remove(&key);
        let change = self.newest.get(&key).cloned();
        if change.as_ref().is_some_and(|change| change.what == Aspect::Viewers) {
            self.counted.insert(key.0, now);
        }
        change
    }

    fn put_back(&mut self, change: &Change, now: Instant) {
        self.news.insert((change.camera, change.what.name()), now);
    }

    fn rest(&mut self) {
        self.resting = true;
    }

    fn forget_published(&mut self, now: Instant) {
        self.resting = false;
        self.news.extend(self.newest.keys().map(|key| (*key, now)));
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
        let (mut board, now) = (Board::default(), Instant::now());
        for value in ["starting", "active", "active"] {
            board.note(change('1', Aspect::State, value), now);
        }
        board.note(change('2', Aspect::Viewers, "3"), now);
        board.note(change('2', Aspect::Activity, "motion"), now);
        assert_eq!(board.take(now).unwrap().value, "active");
        assert_eq!(board.take(now).unwrap().value, "3");
        assert_eq!((board.take(now), board.next_at()), (None, None));
        board.note(change('1', Aspect::State, "active"), now);
        assert_eq!(board.next_at(), None, "nothing has changed");
        board.forget_published(now);
        assert_eq!([board.take(now).unwrap().value, board.take(now).unwrap().value], ["active", "3"]);
    }

    #[test]
    fn many_viewers_that_come_at_once_are_told_in_few_messages() {
        let (mut board, start) = (Board::default(), Instant::now());
        let mut told = Vec::new();
        for n in 0..=100 {
            let now = start + Duration::from_millis(n * 10);
            board.note(change('1', Aspect::Viewers, &n.to_string()), now);
            told.extend(board.take(now).map(|change| change.value));
        }
        assert_eq!(told, ["0", "25", "50", "75", "100"]);
        // What matters more does not wait behind it.
        let now = start + Duration::from_secs(1);
        board.note(change('1', Aspect::Viewers, "3"), now);
        board.note(change('1', Aspect::State, "active"), now);
        assert_eq!(board.take(now).unwrap().value, "active");
        assert_eq!((board.take(now), board.next_at()), (None, Some(now + COUNT_PACE)));
        assert_eq!(board.take(now + COUNT_PACE).unwrap().value, "3");
    }

    #[test]
    fn a_message_that_was_refused_waits_for_the_next_change() {
        let (mut board, now) = (Board::default(), Instant::now());
        board.note(change('1', Aspect::State, "active"), now);
        let taken = board.take(now).unwrap();
        board.put_back(&taken, now);
        board.rest();
        assert_eq!(board.next_at(), None);
        board.note(change('2', Aspect::State, "active"), now);
        assert_eq!((board.next_at(), board.news.len()), (Some(now), 2));
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
