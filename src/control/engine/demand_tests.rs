//! Streams that viewers start, on virtual time.

use super::tests::{seconds, state, until};
use super::*;
use crate::control::camera::CommandKind;
use crate::control::testing::{Mood, Rig, camera, settings};
use crate::control::{AddViewerError, StartError, StartOptions, State};

fn on_demand() -> Rig {
    Rig::with(Settings { start_on_demand: true, ..settings() })
}

#[tokio::test(start_paused = true)]
async fn viewers_start_a_stream_on_demand_and_two_at_once_start_one() {
    let rig = on_demand();
    let (one, two) = tokio::join!(rig.add_viewer("stale"), rig.add_viewer("auto"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.stream_id, two.stream_id);
    assert_eq!(rig.world.count(CommandKind::Play), 1);
    assert_eq!(state(&rig).await, Some(State::Active));
    assert_eq!(rig.control.stream(camera()).await.unwrap().unwrap().0.viewer_count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_started_on_demand_refuses_the_viewer_with_the_reason() {
    let rig = on_demand();
    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "connection refused".into() });
    let error = rig.add_viewer("auto").await.unwrap_err();
    assert_eq!(error.to_string(), "MQTT broker is not connected: connection refused");
    let off = Rig::new();
    let error = off.add_viewer("auto").await.unwrap_err();
    assert!(matches!(error, AddViewerError::NoStream(_)), "{error}");
    assert_eq!(off.world.count(CommandKind::Play), 0);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_waits_for_the_plays_acknowledgement() {
    let rig = on_demand();
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let begun = Instant::now();
    let (one, two) = tokio::join!(rig.add_viewer("auto"), rig.add_viewer(""));
    assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert!(matches!(&error, AddViewerError::Start(StartError::Failed(_))), "{error}");
        assert!(error.to_string().contains("did not acknowledge in time"), "{error}");
    }
    assert_eq!(rig.control.viewers(None).await.unwrap(), []);
    assert_eq!(rig.world.count(CommandKind::Play), 1);
    *rig.world.broker.lock().unwrap() = Mood::Works;
    rig.add_viewer("auto").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_finds_its_stream_running_starts_none() {
    let rig = on_demand();
    let stream = rig.streaming().await;
    for asked in ["auto", "", "a stream of yesterday"] {
        assert_eq!(rig.add_viewer(asked).await.unwrap().stream_id, stream);
    }
    assert_eq!(rig.world.count(CommandKind::Play), 1);
    assert_eq!(rig.control.stream(camera()).await.unwrap().unwrap().0.manager.start_attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn viewers_that_come_while_the_stream_stops_wait_for_the_next_one_together() {
    let rig = on_demand();
    let first = rig.streaming().await;
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let stopping = tokio::spawn({
        let control = rig.control.clone();
        async move { control.stop_stream(camera()).await }
    });
    until("stopping", async || state(&rig).await == Some(State::Stopping)).await;
    *rig.world.broker.lock().unwrap() = Mood::Works;
    let (one, two) = tokio::join!(rig.add_viewer("auto"), rig.add_viewer("auto"));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.stream_id, two.stream_id);
    assert_ne!(one.stream_id, first);
    stopping.await.unwrap().unwrap();
    assert_eq!(rig.world.count(CommandKind::Play), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_and_a_viewer_at_once_are_one_stream_and_the_start_is_answered_as_ever() {
    let rig = on_demand();
    let (viewer, start) =
        tokio::join!(rig.add_viewer("auto"), rig.control.start_stream(camera(), StartOptions::default()));
    let stream = viewer.unwrap().stream_id;
    assert!(matches!(start, Err(StartError::AlreadyActive { stream_id, .. }) if stream_id == stream), "{start:?}");
    assert_eq!(rig.world.count(CommandKind::Play), 1);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_starts_a_stream_that_had_failed_and_the_limit_of_viewers_holds() {
    let rig = Rig::with(Settings { start_on_demand: true, max_viewers: 1, ..settings() });
    rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(state(&rig).await, Some(State::Error));
    let _viewer = rig.add_viewer("auto").await.unwrap();
    assert_eq!(state(&rig).await, Some(State::Active));
    let error = rig.add_viewer("auto").await.unwrap_err();
    assert_eq!(error.to_string(), "Maximum viewers (1) reached for stream");
}

#[tokio::test(start_paused = true)]
async fn a_stream_started_on_demand_stops_when_nobody_watches_for_the_idle_timeout() {
    let rig = on_demand();
    let viewer = rig.add_viewer("auto").await.unwrap();
    let source = "10.0.0.5:40000".parse().unwrap();
    rig.ingest(IngestEvent::MediaStarted { stream: viewer.stream_id, source }).await;
    drop(viewer);
    tokio::time::sleep(seconds(301)).await;
    assert_eq!(state(&rig).await, None);
    assert_eq!(rig.world.count(CommandKind::Stop), 1);
}
