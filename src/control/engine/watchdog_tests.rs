//! Silence, broker trouble and the one field that explains them, through the control task on virtual time.

use std::time::SystemTime;

use super::tests::{seconds, state, until};
use super::*;
use crate::control::camera::{CameraContent, CommandKind, Device};
use crate::control::testing::{Call, Mood, Rig, camera, settings};
use crate::control::{MediaState, PictureCode, PictureStatus, StartOptions, State, StreamInfo, Timing};
use crate::egress::CloseReason;
use crate::ingest::{DropReason, IngestStats, RefusedSource, TrackStats};
use crate::media::doctor::CodecReport;

/// A rig whose streams are given up after this silence.
fn impatient(give_up_after: u64) -> Rig {
    let timing = Timing { give_up_after: seconds(give_up_after), ..settings().timing };
    Rig::with(Settings { timing, ..settings() })
}

impl Rig {
    async fn stall(&self, stream: StreamId) {
        self.ingest(IngestEvent::MediaStalled { stream, silence: seconds(3) }).await;
    }

    async fn info(&self) -> StreamInfo {
        self.control.stream(camera()).await.unwrap().unwrap().0
    }

    async fn why(&self) -> PictureStatus {
        self.info().await.picture
    }

    fn lose_broker(&self) {
        *self.world.broker.lock().unwrap() = Mood::Fails("not connected");
        self.broker_status.send_replace(BrokerStatus::Disconnected { reason: "connection refused".into() });
    }

    fn find_broker(&self) {
        *self.world.broker.lock().unwrap() = Mood::Works;
        self.broker_status.send_replace(BrokerStatus::Connected);
    }

    async fn says(&self, online: bool, retained: bool) {
        let content = CameraContent::Connection { online, at: None, ip: None, device: Device::default() };
        self.camera_messages.send(CameraMessage { camera: camera(), content, retained }).await.unwrap();
        self.settle().await;
    }

    /// The keepalive counts that were sent with a stream's id.
    fn keepalive_counts(&self, stream: StreamId) -> Vec<u64> {
        let of_stream = |(kind, payload): (CommandKind, serde_json::Value)| {
            let mine = kind == CommandKind::Keepalive && payload["streamId"] == stream.to_string();
            mine.then(|| payload["keepaliveCount"].as_u64().unwrap())
        };
        self.world.published().into_iter().filter_map(of_stream).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn viewers_stay_through_five_minutes_of_silence_and_then_are_told() {
    let rig = impatient(300);
    let stream = rig.streaming().await;
    let mut viewer = rig.add_viewer(stream).await.unwrap();
    rig.stall(stream).await;
    tokio::time::sleep(seconds(296)).await;
    let info = rig.info().await;
    assert_eq!((info.state, info.viewer_count, info.media.state), (State::Active, 1, MediaState::Stalled));
    assert!(info.keepalive.running);
    let plays = rig.world.published().into_iter().filter(|(kind, _)| *kind == CommandKind::Play);
    let ids: Vec<_> = plays.map(|(_, payload)| payload["streamId"].clone()).collect();
    assert_eq!(ids, vec![serde_json::json!(stream.to_string()); 8], "0, 10, 20, 40, 80, 140, 200, 260 s");

    tokio::time::sleep(seconds(2)).await;
    assert_eq!(viewer.closed().await, CloseReason::StreamStopped);
    let info = rig.info().await;
    let reason = "camera fell silent: no RTP packet for 300 s, although play was sent again";
    assert_eq!((info.state, info.error.as_deref()), (State::Error, Some(reason)));
    assert_eq!(info.picture, PictureStatus { code: PictureCode::Stalled, text: reason.into() });
    assert!(!info.keepalive.running);
    let (kind, stop) = rig.world.published().pop().unwrap();
    assert_eq!((kind, &stop["streamId"]), (CommandKind::Stop, &serde_json::json!(stream.to_string())));
}

#[tokio::test(start_paused = true)]
async fn a_stream_in_error_is_restarted_with_one_keepalive_sender_that_counts_from_zero() {
    let rig = impatient(60);
    let first = rig.streaming().await;
    rig.stall(first).await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(state(&rig).await, Some(State::Error));
    let before = rig.keepalive_counts(first).len();
    let second = rig.streaming().await;
    assert_ne!(first, second);
    let _viewer = rig.add_viewer(second).await.unwrap();
    tokio::time::sleep(seconds(41)).await;
    assert_eq!(rig.keepalive_counts(first).len(), before, "the first stream says nothing more");
    assert_eq!(rig.keepalive_counts(second), (0..=10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_broker_outage_of_a_minute_costs_no_viewer_and_keepalives_go_on_at_once() {
    let rig = impatient(300);
    let stream = rig.streaming().await;
    let _viewer = rig.add_viewer(stream).await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    rig.lose_broker();
    tokio::time::sleep(Duration::from_millis(60_300)).await;
    let errors = rig.info().await.keepalive.errors;
    assert!((50..=62).contains(&errors), "retried every second and counted: {errors}");
    let before = rig.info().await.keepalive.count;
    let returned = Instant::now();
    rig.find_broker();
    until("a keepalive", async || rig.info().await.keepalive.count > before).await;
    assert!(returned.elapsed() < Duration::from_millis(100), "{:?}", returned.elapsed());
    tokio::time::sleep(seconds(100)).await;
    let info = rig.info().await;
    assert_eq!((info.state, info.viewer_count, info.manager.plays), (State::Active, 1, 1));
    let mut acknowledged = rig.keepalive_counts(stream);
    acknowledged.dedup();
    assert!(acknowledged.windows(2).all(|pair| pair[1] == pair[0] + 1), "{acknowledged:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_met_no_broker_goes_out_the_moment_it_is_back() {
    let rig = impatient(300);
    let stream = rig.streaming().await;
    let _viewer = rig.add_viewer(stream).await.unwrap();
    rig.lose_broker();
    rig.stall(stream).await;
    tokio::time::sleep(seconds(47)).await;
    assert_eq!(rig.why().await.code, PictureCode::BrokerUnreachable);
    assert_eq!(rig.info().await.manager.plays, 1);
    let returned = Instant::now();
    rig.find_broker();
    until("play", async || rig.info().await.manager.plays == 2).await;
    assert!(returned.elapsed() < Duration::from_millis(100), "{:?}", returned.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_half_open_broker_gets_one_keepalive_at_a_time() {
    let rig = impatient(0);
    let stream = rig.streaming().await;
    let _viewer = rig.add_viewer(stream).await.unwrap();
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let before = rig.keepalive_counts(stream).len();
    tokio::time::sleep(seconds(600)).await;
    let sent = rig.keepalive_counts(stream).len() - before;
    // Each waits 5.3 s for its acknowledgement, then a second.
    assert!((80..=115).contains(&sent), "{sent}");
    let info = rig.info().await;
    assert_eq!(info.keepalive.last_error.as_deref(), Some("the broker did not acknowledge in time"));
    assert!(info.keepalive.running && info.state == State::Active);
    let failing = rig.control.health().await.unwrap().failing_keepalives;
    assert_eq!(failing, (1, Some("the broker did not acknowledge in time".into())));
    *rig.world.broker.lock().unwrap() = Mood::Works;
    tokio::time::sleep(seconds(20)).await;
    assert!(rig.info().await.keepalive.count >= info.keepalive.count + 3);
    assert_eq!(rig.control.health().await.unwrap().failing_keepalives, (0, None));
}

#[tokio::test(start_paused = true)]
async fn cameras_that_come_back_with_the_broker_and_still_send_are_not_interrupted() {
    let rig = impatient(300);
    let stream = rig.streaming().await;
    let fresh = || Some(IngestStats { last_packet: Some(SystemTime::now()), ..IngestStats::default() });
    rig.lose_broker();
    rig.settle().await;
    rig.find_broker();
    rig.settle().await;
    *rig.world.stats.lock().unwrap() = fresh();
    rig.says(true, false).await;
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(rig.world.count(CommandKind::Play), 1);
    // This one does not send: a power cut took both.
    *rig.world.stats.lock().unwrap() =
        Some(IngestStats { last_packet: Some(SystemTime::now() - seconds(2)), ..IngestStats::default() });
    rig.says(true, false).await;
    until("play", async || rig.world.count(CommandKind::Play) == 2).await;
    // Later the word of a camera counts as ever.
    tokio::time::sleep(seconds(60)).await;
    *rig.world.stats.lock().unwrap() = fresh();
    rig.says(true, false).await;
    until("play", async || rig.world.count(CommandKind::Play) == 3).await;
    assert!(!rig.world.calls().contains(&Call::Close(stream)));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_connected_messages_is_one_play_every_two_seconds_and_kept_ones_are_none() {
    let rig = impatient(300);
    rig.streaming().await;
    for _ in 0..1_000 {
        rig.says(true, true).await;
    }
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(rig.world.count(CommandKind::Play), 1, "a kept message tells nothing new");
    for _ in 0..1_000 {
        rig.says(true, false).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((5..=7).contains(&rig.world.count(CommandKind::Play)), "{}", rig.world.count(CommandKind::Play));
}

#[tokio::test(start_paused = true)]
async fn with_an_idle_timeout_of_zero_a_stream_without_viewers_never_stops() {
    let timing = Timing { idle_timeout: Duration::ZERO, ..settings().timing };
    let rig = Rig::with(Settings { timing, ..settings() });
    let stream = rig.streaming().await;
    drop(rig.add_viewer(stream).await.unwrap());
    tokio::time::sleep(seconds(100_000)).await;
    assert_eq!(state(&rig).await, Some(State::Active));
}

#[tokio::test(start_paused = true)]
async fn the_reason_follows_a_stream_from_play_to_picture() {
    let rig = impatient(300);
    let started = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    let stream = started.stream_id;
    assert_eq!(rig.why().await.code, PictureCode::WaitingForCamera);
    tokio::time::sleep(seconds(11)).await;
    assert_eq!(rig.why().await.code, PictureCode::NeverAnswered);
    rig.says(false, false).await;
    assert_eq!(rig.why().await.code, PictureCode::CameraOffline);
    rig.says(true, false).await;
    assert_eq!(rig.why().await.code, PictureCode::NeverAnswered);

    let source = "10.0.0.5:40000".parse().unwrap();
    let mut stats = IngestStats { video: TrackStats { packets: 9, ..TrackStats::default() }, ..IngestStats::default() };
    rig.ingest(IngestEvent::MediaStarted { stream, source }).await;
    for (keyframe, undecodable_keyframes, expected) in [
        (None, 0, PictureCode::NoKeyframe),
        (None, 1, PictureCode::NoSps),
        (Some(SystemTime::now()), 1, PictureCode::Ok),
    ] {
        stats.last_keyframe = keyframe;
        stats.codec = Some(Box::new(CodecReport { undecodable_keyframes, ..CodecReport::default() }));
        *rig.world.stats.lock().unwrap() = Some(stats.clone());
        assert_eq!(rig.why().await.code, expected);
        assert_eq!(rig.control.streams().await.unwrap()[0].picture.code, expected);
    }
    tokio::time::sleep(seconds(33)).await;
    rig.stall(stream).await;
    assert_eq!(rig.why().await.code, PictureCode::Stalled, "once is chance");
    rig.ingest(IngestEvent::MediaResumed { stream }).await;
    tokio::time::sleep(seconds(33)).await;
    rig.stall(stream).await;
    assert_eq!(rig.why().await.code, PictureCode::FeedbackNotAccepted);
    rig.ingest(IngestEvent::MediaResumed { stream }).await;
    tokio::time::sleep(seconds(30)).await;
    rig.says(true, false).await;
    assert!(rig.world.calls().contains(&Call::CameraRestarted(stream)));
    tokio::time::sleep(seconds(3)).await;
    rig.stall(stream).await;
    rig.says(true, false).await;
    assert_eq!(rig.why().await.code, PictureCode::Stalled, "it has rebooted");
}

#[tokio::test(start_paused = true)]
async fn refused_packets_explain_only_the_streams_that_they_could_belong_to() {
    let rig = impatient(300);
    let refused = |source: &str, age: u64, reason, nearest| {
        let source = source.parse().unwrap();
        let last_seen = SystemTime::now() - seconds(age);
        vec![RefusedSource { source, port: 5006, first_seen: last_seen, last_seen, packets: 1, reason, nearest }]
    };
    rig.camera_connects(Some("10.0.0.5")).await;
    let stream = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap().stream_id;
    let other = crate::control::testing::OTHER_CAMERA.parse().unwrap();
    let content =
        CameraContent::Connection { online: true, at: None, ip: "10.0.0.6".parse().ok(), device: Device::default() };
    rig.camera_messages.send(CameraMessage { camera: other, content, retained: false }).await.unwrap();
    rig.settle().await;
    let unexpected = DropReason::Unexpected;
    for (list, explains) in [
        (refused("198.51.100.7:4000", 0, unexpected, Some(stream)), true),
        (refused("198.51.100.7:4000", 0, unexpected, None), false),
        (refused("10.0.0.5:4000", 0, DropReason::Ambiguous, None), true),
        (refused("10.0.0.6:4000", 0, unexpected, Some(stream)), true),
        (refused("10.0.0.6:4000", 0, unexpected, None), false),
        (refused("198.51.100.7:4000", 0, unexpected, Some(StreamId::random())), false),
        (refused("198.51.100.7:4000", 60, unexpected, None), false),
        (refused("198.51.100.7:4000", 0, DropReason::Duplicate, None), false),
    ] {
        *rig.world.refused.lock().unwrap() = list.clone();
        let why = rig.why().await;
        assert_eq!(why.code == PictureCode::UnexpectedAddress, explains, "{list:?}: {why:?}");
    }
    // What was the matter stays readable when the evidence is gone.
    *rig.world.refused.lock().unwrap() = refused("198.51.100.7:4000", 0, unexpected, Some(stream));
    tokio::time::sleep(seconds(31)).await;
    rig.world.refused.lock().unwrap().clear();
    let info = rig.info().await;
    assert_eq!((info.state, info.picture.code), (State::Error, PictureCode::UnexpectedAddress));
    assert!(info.picture.text.starts_with("no packet was known to be this camera's"), "{}", info.picture.text);
    assert_eq!(info.error, Some(info.picture.text));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_makes_room_is_parked_before_its_camera_hears_stop_and_its_viewers_stay() {
    let rig = impatient(300);
    let stream = rig.streaming().await;
    let viewer = rig.add_viewer(stream).await.unwrap();
    rig.stall(stream).await;
    rig.ingest(IngestEvent::ShouldYield { stream }).await;
    assert_eq!(rig.world.calls().iter().filter(|call| **call == Call::Park(stream)).count(), 0, "play is too fresh");
    tokio::time::sleep(seconds(4)).await;
    rig.ingest(IngestEvent::ShouldYield { stream }).await;
    until("stop", async || rig.world.count(CommandKind::Stop) == 1).await;
    let why = rig.why().await;
    assert_eq!(why.code, PictureCode::UnexpectedAddress);
    assert!(why.text.contains("one by one"), "{}", why.text);
    tokio::time::sleep(seconds(12)).await;
    until("play again", async || rig.world.count(CommandKind::Play) == 2).await;
    let calls = rig.world.calls();
    let order: Vec<_> = calls
        .iter()
        .filter_map(|call| match call {
            Call::Park(of) if *of == stream => Some("park"),
            Call::Reopen(of) if *of == stream => Some("reopen"),
            Call::Publish(_, CommandKind::Stop, _) => Some("stop"),
            Call::Publish(_, CommandKind::Play, payload) if payload["streamId"] == stream.to_string() => Some("play"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["play", "park", "stop", "reopen", "play"]);
    let source = "10.0.0.5:40000".parse().unwrap();
    rig.ingest(IngestEvent::MediaStarted { stream, source }).await;
    let info = rig.info().await;
    assert_eq!((info.state, info.media.state), (State::Active, MediaState::Flowing));
    assert_eq!(rig.control.viewers(Some(camera())).await.unwrap()[0].viewer_id, viewer.viewer_id);
}
