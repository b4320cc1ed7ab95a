use std::time::Duration;

use super::*;
use crate::control::camera::CommandKind;
use crate::control::testing::{Call, Mood, OTHER_CAMERA, Rig, camera, settings};
use crate::control::{
    AddViewerError, Health, MediaState, StartError, StartOptions, State, StopError, Unavailable, ViewerHandle,
};
use crate::egress::CloseReason;

pub(super) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

async fn viewer(rig: &Rig, stream: StreamId) -> ViewerHandle {
    rig.add_viewer(stream).await.unwrap()
}

pub(super) async fn state(rig: &Rig) -> Option<State> {
    rig.control.stream(camera()).await.unwrap().map(|(info, _)| info.state)
}

/// Waits on virtual time until `done`.
pub(super) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn a_start_opens_egress_and_ingest_before_play_and_sends_a_keepalive_after() {
    let rig = Rig::new();
    let started = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    assert_eq!((started.state, started.already_running), (State::Active, false));
    until("the first keepalive", async || rig.world.count(CommandKind::Keepalive) == 1).await;
    let stream = started.stream_id;
    let calls = rig.world.calls();
    assert_eq!(calls[0], Call::OpenEgress(stream));
    assert_eq!(calls[1], Call::Open { stream, bitrate_range: (500_000, 5_000_000), expected_ip: None });
    let kinds: Vec<_> = rig.world.published().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [CommandKind::Play, CommandKind::Keepalive]);
    for (_, payload) in rig.world.published() {
        assert_eq!(payload["streamId"], stream.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_concurrent_starts_one_wins_and_the_other_is_told_its_ids() {
    let rig = Rig::new();
    let (one, two) = tokio::join!(
        rig.control.start_stream(camera(), StartOptions::default()),
        rig.control.start_stream(camera(), StartOptions::default()),
    );
    let winner = one.unwrap();
    let expected = StartError::AlreadyActive {
        camera: camera(),
        session_id: winner.session_id.clone(),
        stream_id: winner.stream_id,
    };
    assert_eq!(two.unwrap_err(), expected);
    let again = rig.control.start_stream(camera(), StartOptions::default()).await;
    assert_eq!(again.unwrap_err(), expected);
    rig.streams_keep_one_keepalive_sender(seconds(400)).await;
}

impl Rig {
    async fn streams_keep_one_keepalive_sender(&self, time: Duration) {
        let stream = self.control.streams().await.unwrap()[0].stream_id;
        let source = "10.0.0.5:40000".parse().unwrap();
        self.ingest(IngestEvent::MediaStarted { stream, source }).await;
        let _viewer = viewer(self, stream).await;
        tokio::time::sleep(time).await;
        let expected = time.as_secs() / 4;
        let sent = self.world.count(CommandKind::Keepalive) as u64;
        assert!(sent.abs_diff(expected) <= 1, "{sent} keepalives in {time:?}");
        assert_eq!(self.world.count(CommandKind::Play), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_start_gives_the_running_stream_to_all() {
    let rig = Rig::with(Settings { start_idempotent: true, ..settings() });
    let (one, two) = tokio::join!(
        rig.control.start_stream(camera(), StartOptions::default()),
        rig.control.start_stream(camera(), StartOptions::default()),
    );
    let three = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.already_running, two.already_running, three.already_running), (false, true, true));
    assert!(one.stream_id == two.stream_id && one.stream_id == three.stream_id);
    assert_eq!(two.state, State::Active);
    assert_eq!(rig.world.count(CommandKind::Play), 1);
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_broker_refuses_the_start_at_once_and_in_words() {
    let rig = Rig::new();
    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "connection refused".into() });
    let error = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap_err();
    assert_eq!(error, StartError::Failed("MQTT broker is not connected: connection refused".into()));
    assert_eq!(rig.world.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_comes_before_the_first_attempt_to_reach_the_broker_has_ended_waits_for_it() {
    let early = BrokerStatus::Disconnected { reason: "not yet".into() };
    let rig = Rig::with_broker(early.clone());
    let connects = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(rig.world.calls(), []);
        rig.broker_status.send_replace(BrokerStatus::Connected);
    };
    let (started, ()) = tokio::join!(rig.control.start_stream(camera(), StartOptions::default()), connects);
    assert_eq!(started.unwrap().state, State::Active);

    let rig = Rig::with_broker(early);
    let begun = tokio::time::Instant::now();
    let error = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap_err();
    assert_eq!(error, StartError::Failed("MQTT broker is not connected: not yet".into()));
    assert_eq!(begun.elapsed(), Duration::from_secs(3), "not for ever");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_fails_the_start_within_ten_seconds_and_everything_is_released() {
    let rig = Rig::new();
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let begun = Instant::now();
    let error = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap_err();
    assert!(begun.elapsed() < seconds(10), "{:?}", begun.elapsed());
    let reason = "play could not be published: the broker did not acknowledge in time";
    assert_eq!(error, StartError::Failed(reason.into()));
    let (info, _) = rig.control.stream(camera()).await.unwrap().unwrap();
    assert_eq!((info.state, info.error.as_deref()), (State::Error, Some(reason)));
    let closed = |call: &Call| matches!(call, Call::Close(id) if *id == info.stream_id);
    assert!(rig.world.calls().iter().any(closed));
    assert!(rig.world.calls().contains(&Call::CloseEgress(info.stream_id, CloseReason::StreamStopped)));
    assert_eq!(rig.control.health().await.unwrap().active_streams, 0);
    assert_eq!(rig.control.streams().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_media_engine_that_hangs_or_is_down_fails_the_start() {
    for mood in [Mood::Hangs, Mood::Fails("down")] {
        let rig = Rig::new();
        *rig.world.ingest.lock().unwrap() = mood;
        let error = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap_err();
        assert!(matches!(&error, StartError::Failed(reason) if reason.contains("media engine")), "{error}");
        assert_eq!(rig.world.published(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_stream_stays_readable_for_ten_minutes_and_can_be_started_again() {
    let rig = Rig::new();
    rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(state(&rig).await, Some(State::Error));
    assert_eq!(rig.control.stop_stream(camera()).await, Err(StopError::NotFound(camera())));
    tokio::time::sleep(seconds(568)).await;
    assert_eq!(state(&rig).await, Some(State::Error));
    rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    assert_eq!(state(&rig).await, Some(State::Active));
    tokio::time::sleep(seconds(640)).await;
    assert_eq!(state(&rig).await, None);
}

#[tokio::test(start_paused = true)]
async fn stop_answers_with_the_final_state_and_closes_viewers_with_the_reason() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let mut viewer = viewer(&rig, stream).await;
    let info = rig.control.stop_stream(camera()).await.unwrap();
    assert_eq!((info.state, info.stream_id, info.viewer_count), (State::Stopped, stream, 0));
    assert_eq!(info.media.state, MediaState::Stopped);
    assert!(info.stopped_at.is_some());
    assert_eq!(viewer.closed().await, CloseReason::StreamStopped);
    assert_eq!(viewer.closed().await, CloseReason::StreamStopped, "may be asked again");
    assert_eq!(rig.world.count(CommandKind::Stop), 1);
    assert_eq!(state(&rig).await, None);
    assert_eq!(rig.control.stop_stream(camera()).await, Err(StopError::NotFound(camera())));
}

#[tokio::test(start_paused = true)]
async fn stop_with_a_hanging_broker_answers_within_ten_seconds() {
    let rig = Rig::new();
    rig.streaming().await;
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let begun = Instant::now();
    let info = rig.control.stop_stream(camera()).await.unwrap();
    assert_eq!(info.state, State::Stopped);
    assert!(begun.elapsed() < seconds(10));
}

#[tokio::test(start_paused = true)]
async fn a_start_during_a_stop_waits_for_the_camera_to_hear_stop_first() {
    let rig = Rig::new();
    let first = rig.streaming().await;
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let stopping = tokio::spawn({
        let control = rig.control.clone();
        async move { control.stop_stream(camera()).await }
    });
    until("stopping", async || state(&rig).await == Some(State::Stopping)).await;
    *rig.world.broker.lock().unwrap() = Mood::Works;
    let (second, third) = tokio::join!(
        rig.control.start_stream(camera(), StartOptions::default()),
        rig.control.start_stream(camera(), StartOptions::default()),
    );
    let second = second.unwrap();
    assert_ne!(second.stream_id, first);
    assert!(matches!(third, Err(StartError::AlreadyActive { stream_id, .. }) if stream_id == second.stream_id));
    assert_eq!(stopping.await.unwrap().unwrap().stream_id, first);
    let kinds: Vec<_> = rig.world.published().into_iter().map(|(kind, _)| kind).collect();
    let stop = kinds.iter().position(|kind| *kind == CommandKind::Stop).unwrap();
    assert_eq!(kinds.iter().rposition(|kind| *kind == CommandKind::Play), Some(stop + 1), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn stopping_a_stream_that_still_starts_fails_the_start() {
    let rig = Rig::new();
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let start = rig.control.start_stream(camera(), StartOptions::default());
    let stop = async {
        until("play on its way", async || rig.world.count(CommandKind::Play) == 1).await;
        rig.control.stop_stream(camera()).await
    };
    let (start, stop) = tokio::join!(start, stop);
    assert_eq!(start.unwrap_err(), StartError::StoppedMeanwhile);
    assert_eq!(stop.unwrap().state, State::Stopped);
}

#[tokio::test(start_paused = true)]
async fn bandwidth_options_narrow_the_configured_range_and_nonsense_is_refused() {
    let options = |min_bandwidth, max_bandwidth| StartOptions { min_bandwidth, max_bandwidth, client_ip: None };
    for (asked, expected) in [
        (options(None, Some(2000)), (500_000, 2_000_000)),
        (options(Some(800), None), (800_000, 5_000_000)),
        (options(Some(1), Some(u32::MAX)), (500_000, 5_000_000)),
        (options(None, Some(100)), (500_000, 500_000)),
    ] {
        let rig = Rig::new();
        rig.control.start_stream(camera(), asked).await.unwrap();
        let range = rig.world.calls().into_iter().find_map(|call| match call {
            Call::Open { bitrate_range, .. } => Some(bitrate_range),
            _ => None,
        });
        assert_eq!(range, Some(expected), "{asked:?}");
    }
    let rig = Rig::new();
    for asked in [options(Some(3000), Some(2000)), options(Some(0), None), options(None, Some(0))] {
        let error = rig.control.start_stream(camera(), asked).await.unwrap_err();
        assert!(matches!(error, StartError::Options(_)), "{asked:?}: {error}");
    }
    assert_eq!(rig.world.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn streams_beyond_the_limit_are_refused() {
    let rig = Rig::with(Settings { max_streams: 1, ..settings() });
    rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    let other = OTHER_CAMERA.parse().unwrap();
    let error = rig.control.start_stream(other, StartOptions::default()).await.unwrap_err();
    assert_eq!(error, StartError::TooMany(1));
}

#[tokio::test(start_paused = true)]
async fn the_sdp_names_the_local_address_for_a_local_camera_and_else_the_external_one() {
    for (camera_ip, client_ip, expected) in [
        (Some("192.168.1.50"), Some("198.51.100.1"), "192.168.1.10"),
        (Some("198.51.100.9"), Some("192.168.1.2"), "203.0.113.7"),
        (None, Some("192.168.1.2"), "192.168.1.10"),
        (None, None, "203.0.113.7"),
    ] {
        let rig = Rig::new();
        if camera_ip.is_some() {
            rig.camera_connects(camera_ip).await;
        }
        let client_ip = client_ip.map(|ip: &str| ip.parse().unwrap());
        rig.control.start_stream(camera(), StartOptions { client_ip, ..Default::default() }).await.unwrap();
        let (_, play) = rig.world.published().remove(0);
        let line = format!("\r\nc=IN IP4 {expected}\r\n");
        assert!(play["sdpOffer"].as_str().unwrap().contains(&line), "{camera_ip:?} {client_ip:?}: {play}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rebooted_camera_gets_play_again_with_the_same_stream_and_its_viewers_stay() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let viewer = viewer(&rig, stream).await;
    tokio::time::sleep(seconds(20)).await;
    rig.camera_connects(Some("10.0.0.77")).await;
    until("play again", async || rig.world.count(CommandKind::Play) == 2).await;
    let plays: Vec<_> =
        rig.world.published().into_iter().filter(|(kind, _)| *kind == CommandKind::Play).map(|(_, p)| p).collect();
    assert_eq!(plays[0]["streamId"], plays[1]["streamId"]);
    assert_ne!(plays[0]["requestId"], plays[1]["requestId"]);
    assert!(rig.world.calls().contains(&Call::Expect(stream, "10.0.0.77".parse().unwrap())));
    assert_eq!(rig.control.viewers(Some(camera())).await.unwrap()[0].viewer_id, viewer.viewer_id);
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_its_reason_and_ends_in_play_again() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let _viewer = viewer(&rig, stream).await;
    rig.ingest(IngestEvent::MediaStalled { stream, silence: seconds(3) }).await;
    let (info, _) = rig.control.stream(camera()).await.unwrap().unwrap();
    assert_eq!((info.state, info.media.state), (State::Active, MediaState::Stalled));
    assert_eq!(info.media.reason.as_deref(), Some("no RTP packet from the camera for 3 s"));
    tokio::time::sleep(seconds(8)).await;
    assert_eq!(rig.world.count(CommandKind::Play), 2);
    rig.ingest(IngestEvent::MediaResumed { stream }).await;
    let (info, _) = rig.control.stream(camera()).await.unwrap().unwrap();
    assert_eq!((info.media.state, info.media.reason), (MediaState::Flowing, None));
}

#[tokio::test(start_paused = true)]
async fn keepalives_outlive_a_broker_that_is_away() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let _viewer = viewer(&rig, stream).await;
    *rig.world.broker.lock().unwrap() = Mood::Fails("not connected");
    tokio::time::sleep(seconds(120)).await;
    *rig.world.broker.lock().unwrap() = Mood::Works;
    let before = rig.control.stream(camera()).await.unwrap().unwrap().0.keepalive;
    assert!(before.running && before.errors >= 100, "{before:?}");
    assert_eq!(before.last_error.as_deref(), Some("not connected"));
    tokio::time::sleep(seconds(40)).await;
    let after = rig.control.stream(camera()).await.unwrap().unwrap().0.keepalive;
    assert!(after.count >= before.count + 9, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_viewer_needs_the_running_stream_and_a_free_place() {
    let rig = Rig::with(Settings { max_viewers: 2, ..settings() });
    let add = |stream: String| rig.add_viewer(stream);
    let none = add(StreamId::random().to_string()).await.unwrap_err();
    assert_eq!(none.to_string(), format!("No active stream found for camera {}", camera()));
    let stream = rig.streaming().await;
    for other in [StreamId::random().to_string(), "nonsense".repeat(100)] {
        let error = add(other).await.unwrap_err();
        assert!(matches!(error, AddViewerError::OtherStream { ref asked, .. } if asked.len() <= 64), "{error}");
    }
    let (one, two, three) =
        tokio::join!(add(stream.to_string()), add(stream.to_string()), add(stream.to_string().to_uppercase()));
    let (one, _two) = (one.unwrap(), two.unwrap());
    assert_eq!(three.unwrap_err().to_string(), "Maximum viewers (2) reached for stream");
    drop(one);
    until("the place is free", async || rig.control.viewers(None).await.unwrap().len() == 1).await;
    add(stream.to_string()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_viewer_takes_the_place_of_the_one_it_replaces_only_if_it_is_accepted() {
    let rig = Rig::with(Settings { max_viewers: 1, ..settings() });
    let stream = rig.streaming().await;
    let mut first = rig.add_viewer(stream).await.unwrap();
    assert!(rig.replace_viewer("another", Some(first.viewer_id)).await.is_err());
    *rig.world.egress.lock().unwrap() = Mood::Fails("no H.264");
    assert!(rig.replace_viewer(stream, Some(first.viewer_id)).await.is_err());
    let lives = rig.control.viewers(None).await.unwrap();
    assert_eq!(lives.iter().map(|viewer| viewer.viewer_id).collect::<Vec<_>>(), [first.viewer_id]);
    *rig.world.egress.lock().unwrap() = Mood::Works;
    let second = rig.replace_viewer(stream, Some(first.viewer_id)).await.unwrap();
    assert_eq!(first.closed().await, CloseReason::Left);
    let lives = rig.control.viewers(None).await.unwrap();
    assert_eq!(lives.iter().map(|viewer| viewer.viewer_id).collect::<Vec<_>>(), [second.viewer_id]);
    assert!(rig.add_viewer(stream).await.is_err(), "the limit holds");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_removes_the_viewer_at_the_egress() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let viewer = viewer(&rig, stream).await;
    let id = viewer.viewer_id;
    drop(viewer);
    until("removed", async || rig.world.calls().contains(&Call::RemoveViewer(id, CloseReason::Left))).await;
    assert_eq!(rig.control.health().await.unwrap().total_viewers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_while_the_answer_is_made_leaves_no_viewer() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let add = rig.add_viewer(stream);
    *rig.world.egress.lock().unwrap() = Mood::Hangs;
    let given_up = tokio::time::timeout(seconds(1), add).await;
    assert!(given_up.is_err());
    tokio::time::sleep(seconds(5)).await;
    let Some(Call::AddViewer(id, _)) = rig.world.calls().into_iter().find(|c| matches!(c, Call::AddViewer(..))) else {
        panic!("egress was not asked");
    };
    assert!(rig.world.calls().contains(&Call::RemoveViewer(id, CloseReason::Left)));
    assert_eq!(rig.control.viewers(None).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn the_egress_closing_a_viewer_tells_its_holder_why() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let mut viewer = viewer(&rig, stream).await;
    rig.egress(EgressEvent::Connected { viewer: viewer.viewer_id }).await;
    assert!(rig.control.viewers(None).await.unwrap()[0].connected);
    assert!(rig.world.calls().contains(&Call::Keyframe(stream)));
    rig.egress(EgressEvent::Closed { viewer: viewer.viewer_id, reason: CloseReason::ConsentExpired }).await;
    assert_eq!(viewer.closed().await, CloseReason::ConsentExpired);
    assert_eq!(rig.control.viewers(None).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_keyframe_wish_reaches_the_ingest() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    rig.egress(EgressEvent::KeyframeWanted { stream }).await;
    assert!(rig.world.calls().contains(&Call::Keyframe(stream)));
}

#[tokio::test(start_paused = true)]
async fn what_viewers_can_take_reaches_the_ingest() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    rig.egress(EgressEvent::ViewerLimit { stream, bits_per_second: Some(700_000) }).await;
    assert!(rig.world.calls().contains(&Call::ViewerLimit(stream, Some(700_000))));
}

#[tokio::test(start_paused = true)]
async fn an_unwatched_stream_stops_after_five_minutes_counted_from_the_last_viewer() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let viewer = viewer(&rig, stream).await;
    tokio::time::sleep(seconds(1000)).await;
    assert_eq!(state(&rig).await, Some(State::Active));
    drop(viewer);
    tokio::time::sleep(seconds(299)).await;
    assert_eq!(state(&rig).await, Some(State::Active));
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(state(&rig).await, None);
    assert_eq!(rig.world.count(CommandKind::Stop), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_tells_cameras_and_viewers_and_refuses_new_ones() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let mut viewer = viewer(&rig, stream).await;
    rig.control.stop_all("shutdown").await;
    assert_eq!(rig.world.count(CommandKind::Stop), 1);
    assert_eq!(viewer.closed().await, CloseReason::Shutdown);
    assert!(rig.world.calls().contains(&Call::CloseEgress(stream, CloseReason::Shutdown)));
    let error = rig.control.start_stream(camera(), StartOptions::default()).await.unwrap_err();
    assert_eq!(error, StartError::Unavailable(Unavailable::Stopped));
    rig.shutdown.request();
    rig.shutdown.drained().await;
    assert_eq!(rig.control.health().await, Err(Unavailable::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_a_hanging_broker_takes_a_second_and_a_half() {
    let rig = Rig::new();
    rig.streaming().await;
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let begun = Instant::now();
    rig.control.stop_all("shutdown").await;
    assert_eq!(begun.elapsed(), crate::control::STOP_ALL_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn health_counts_and_names_what_is_wrong() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let _viewer = viewer(&rig, stream).await;
    rig.camera_connects(None).await;
    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "connection refused".into() });
    let health = rig.control.health().await.unwrap();
    assert_eq!(
        health,
        Health {
            media_up: true,
            broker: BrokerStatus::Disconnected { reason: "connection refused".into() },
            active_streams: 1,
            failing_keepalives: (0, None),
            total_viewers: 1,
            cameras_known: 1,
            cameras_online: 1,
            camera_store: None,
        }
    );
    let Rig { control, ingest_events, .. } = rig;
    drop(ingest_events);
    until("the ingest is gone", async || !control.health().await.unwrap().media_up).await;
}
