//! Commands to cameras and messages from them.

use std::sync::Arc;

use honeycast::base::{CameraId, Shutdown};
use honeycast::control::camera::{CameraCommand, CameraContent, CameraMessage, CommandKind};
use honeycast::mqtt::{CameraLinkCounters, CameraLinkStats, TopicSettings, Topics, camera_link};
use tokio::sync::{mpsc, oneshot};

use crate::support::mosquitto::{Mosquitto, Options};
use crate::{Client, fake, in_time, message, settings};

const A: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
const B: &str = "00000000000000000000000000000001";

/// The camera link on a broker, seen from the control plane.
struct Plane {
    commands: mpsc::Sender<CameraCommand>,
    events: mpsc::Receiver<CameraMessage>,
    counters: Arc<CameraLinkCounters>,
    shutdown: Shutdown,
}

impl Plane {
    async fn start(port: u16) -> Self {
        let topics = Topics::new(&TopicSettings::default()).unwrap();
        let mut settings = settings(port, &[]);
        settings.subscriptions = topics.subscriptions();
        let Client { link, incoming, shutdown } = Client::connected(settings).await;
        let (commands, receiver) = mpsc::channel(16);
        let (sender, events) = mpsc::channel(16);
        let counters = Arc::new(CameraLinkCounters::default());
        let run = camera_link::run(link, topics, receiver, incoming, sender, shutdown.clone(), Arc::clone(&counters));
        shutdown.spawn(run);
        Self { commands, events, counters, shutdown }
    }

    async fn send(&self, camera: &str, kind: CommandKind, payload: &str) -> oneshot::Receiver<Result<(), String>> {
        let (done, answer) = oneshot::channel();
        let camera = camera.parse().unwrap();
        self.commands.send(CameraCommand { camera, kind, payload: payload.to_owned(), done }).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn commands_reach_their_topics_in_order_and_are_acknowledged() {
    let broker = Mosquitto::start(Options::plain());
    let mut camera = Client::connected(settings(broker.port(), &["prod/honeycomb/+/stream/+"])).await;
    let plane = Plane::start(broker.port()).await;
    let kinds = [CommandKind::Play, CommandKind::Keepalive, CommandKind::Stop];
    let mut answers = Vec::new();
    for kind in kinds {
        answers.push(plane.send(A, kind, &format!("{kind:?}")).await);
    }
    for answer in answers {
        assert_eq!(in_time(answer).await.unwrap(), Ok(()));
    }
    for (kind, word) in kinds.into_iter().zip(["play", "keepalive", "stop"]) {
        let expected = message(&format!("prod/honeycomb/{A}/stream/{word}"), &format!("{kind:?}"));
        assert_eq!(camera.next().await, expected);
    }
}

#[tokio::test]
async fn messages_of_cameras_arrive_and_bad_ones_are_counted_by_reason() {
    let broker = Mosquitto::start(Options::plain());
    let camera = Client::connected(settings(broker.port(), &[])).await;
    let mut plane = Plane::start(broker.port()).await;
    let large = "x".repeat(65 * 1024);
    for (topic, payload) in [
        ("prod/device/connection/hive-cam/not-a-camera".to_owned(), "{}"),
        (format!("prod/device/connection/hive-cam/{A}"), "{}"),
        (format!("prod/device/status/hive-cam/{A}"), "{\"battery\":"),
        (format!("prod/device/status/hive-cam/{A}"), "[]"),
        (format!("prod/device/message/hive-cam/{A}/activity/motion"), large.as_str()),
        (format!("prod/device/connection/hive-cam/{A}"), r#"{"status":"connected","ipAddress":"192.0.2.4"}"#),
    ] {
        camera.link.publish(message(&topic, payload)).await.unwrap();
    }
    let event = in_time(plane.events.recv()).await.unwrap();
    assert_eq!(event.camera, A.parse::<CameraId>().unwrap());
    let CameraContent::Connection { online: true, ip: Some(ip), .. } = event.content else { panic!("{event:?}") };
    assert_eq!(ip.to_string(), "192.0.2.4");
    // The counter of forwarded messages moves after the hand-over; asking it here would be a race.
    let stats = CameraLinkStats { forwarded: 0, ..plane.counters.snapshot() };
    let expected = CameraLinkStats {
        not_a_camera: 1,
        no_status: 1,
        not_json: 1,
        not_an_object: 1,
        too_large: 1,
        ..CameraLinkStats::default()
    };
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn an_acknowledgement_that_is_missing_delays_no_other_camera_and_fails_at_the_stop() {
    let (port, broker) = fake::serve_one(fake::Mood::AcknowledgeOnly(B)).await;
    let plane = Plane::start(port).await;
    let slow = plane.send(A, CommandKind::Play, "never acknowledged").await;
    let quick = plane.send(B, CommandKind::Play, "acknowledged").await;
    assert_eq!(in_time(quick).await.unwrap(), Ok(()));

    plane.shutdown.request();
    let words = in_time(slow).await.unwrap().unwrap_err();
    assert!(words.contains("shutting down"), "{words}");
    in_time(plane.shutdown.drained()).await;
    in_time(broker).await.unwrap();
}

#[tokio::test]
async fn a_command_without_a_broker_is_answered_with_the_reason() {
    let mut broker = Mosquitto::start(Options::plain());
    let plane = Plane::start(broker.port()).await;
    broker.kill();
    // Whether the link knows already or finds out with this message, the answer says that there is no broker.
    let answer = plane.send(A, CommandKind::Play, "{}").await;
    let words = in_time(answer).await.unwrap().unwrap_err();
    assert!(words.starts_with("not connected to the MQTT broker: "), "{words}");
}
