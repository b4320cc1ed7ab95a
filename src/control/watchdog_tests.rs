//! The watchdog in the session that it belongs to, on virtual time.

use super::*;
use crate::control::watchdog::{LONGEST_REPLAY_GAP, MAX_TURNS, SHORTEST_REPLAY_GAP};

impl Scene {
    /// The camera's last packet was three seconds ago.
    fn stalls(&mut self) {
        self.input(Input::MediaStalled(seconds(3)));
    }

    fn error(&self) -> &str {
        self.session.error().unwrap()
    }
}

/// A watched session that is given up after this silence.
fn impatient(give_up_after: u64) -> Scene {
    let mut scene = Scene::new(Timing { give_up_after: seconds(give_up_after), ..TIMING });
    scene.input(Input::Opened(Ok(PORTS)));
    scene.input(Input::MediaFlows);
    scene.input(Input::Viewers(1));
    scene
}

#[test]
fn ten_seconds_of_silence_bring_play_again_with_growing_gaps() {
    let mut scene = Scene::watched();
    scene.advance(seconds(100));
    scene.input(Input::MediaStalled(seconds(3)));
    assert_eq!(scene.session.media_reason(scene.now).unwrap(), "no RTP packet from the camera for 3 s");
    scene.advance(seconds(200));
    assert_eq!(scene.times(&PLAY), [0.0, 107.0, 117.0, 137.0, 177.0, 237.0, 297.0]);
    assert_eq!(scene.session.state(), State::Active, "viewers stay");
    assert_eq!(scene.session.active_reason(), Some(ActiveReason::Media));
}

#[test]
fn a_camera_that_stays_silent_is_given_up_with_the_reason_and_told_to_stop() {
    let mut scene = Scene::new(Timing { give_up_after: seconds(120), ..TIMING });
    scene.input(Input::Opened(Ok(PORTS)));
    scene.input(Input::MediaFlows);
    scene.input(Input::Viewers(1));
    scene.advance(seconds(50));
    scene.input(Input::MediaStalled(seconds(3)));
    scene.advance(seconds(116));
    assert_eq!(scene.session.state(), State::Active);
    scene.advance(seconds(1));
    assert_eq!(scene.session.state(), State::Error);
    let reason = scene.session.error().unwrap();
    assert_eq!(reason, "camera fell silent: no RTP packet for 120 s, although play was sent again");
    assert_eq!(scene.times(&STOP), [167.0]);
    assert!(scene.did(&Action::Release(EndCause::Failed)), "viewers are told");
    assert_eq!(scene.session.poll_at(), None);
}

#[test]
fn a_silent_camera_that_connects_at_the_last_moment_gets_its_chance() {
    let mut scene = Scene::new(Timing { give_up_after: seconds(60), ..TIMING });
    scene.input(Input::Opened(Ok(PORTS)));
    scene.input(Input::MediaFlows);
    scene.advance(seconds(10));
    scene.input(Input::MediaStalled(seconds(3)));
    scene.advance(seconds(56));
    scene.input(Input::CameraConnected);
    scene.advance(seconds(9));
    assert_eq!(scene.session.state(), State::Active);
    scene.input(Input::MediaFlows);
    scene.advance(seconds(100));
    assert_eq!(scene.session.state(), State::Active);
}

#[test]
fn packets_after_a_stall_end_the_replays() {
    let mut scene = Scene::watched();
    scene.advance(seconds(10));
    scene.input(Input::MediaStalled(seconds(3)));
    scene.advance(seconds(2));
    scene.input(Input::MediaFlows);
    scene.advance(seconds(100));
    assert_eq!(scene.times(&PLAY), [0.0]);
}

#[test]
fn a_camera_that_connects_gets_play_again_at_once() {
    let mut scene = Scene::watched();
    scene.advance(seconds(50));
    scene.input(Input::CameraConnected);
    assert_eq!(scene.times(&PLAY), [0.0, 50.0]);
}

#[test]
fn a_camera_that_connects_ten_times_in_a_row_gets_one_more_play() {
    let mut scene = Scene::watched();
    scene.advance(seconds(50));
    for _ in 0..10 {
        scene.input(Input::CameraConnected);
    }
    scene.advance(seconds(60));
    assert_eq!(scene.times(&PLAY), [0.0, 50.0, 52.0]);
}

#[test]
fn a_camera_that_connects_at_the_last_moment_gets_its_chance() {
    let mut scene = Scene::active();
    scene.advance(seconds(29));
    scene.input(Input::CameraConnected);
    scene.advance(seconds(9));
    assert_eq!(scene.session.state(), State::Active);
    scene.input(Input::MediaFlows);
    scene.advance(seconds(60));
    assert_eq!(scene.session.state(), State::Active);
}

#[test]
fn a_replay_that_fails_is_tried_again() {
    let mut scene = Scene::watched();
    scene.advance(seconds(20));
    scene.broken = Some("not connected");
    scene.input(Input::MediaStalled(seconds(10)));
    scene.advance(seconds(5));
    scene.broken = None;
    let before = scene.session.plays();
    scene.advance(SHORTEST_REPLAY_GAP);
    assert_eq!(scene.session.plays(), before + 1);
}

#[test]
fn a_camera_that_does_not_answer_gets_play_again_after_ten_seconds() {
    let mut scene = Scene::active();
    scene.advance(seconds(29));
    assert_eq!(scene.times(&PLAY), [0.0, 10.0, 20.0]);
    let reason = scene.session.media_reason(scene.now).unwrap();
    assert_eq!(reason, "waiting for the camera's first RTP packet, 29 s after play");
    scene.advance(seconds(1));
    assert_eq!(scene.session.failure(), Some(Failure::NeverAnswered));
}

#[test]
fn a_camera_that_answers_the_second_play_streams() {
    let mut scene = Scene::active();
    scene.advance(seconds(11));
    scene.input(Input::MediaFlows);
    scene.advance(seconds(200));
    assert_eq!(scene.times(&PLAY), [0.0, 10.0]);
    assert_eq!(scene.session.state(), State::Active);
}

#[test]
fn with_endless_patience_the_gaps_stay_at_a_minute_and_keepalives_go_on() {
    let mut scene = impatient(0);
    scene.stalls();
    scene.advance(seconds(24 * 3600));
    assert_eq!(scene.session.state(), State::Active);
    let plays = scene.times(&PLAY);
    let gaps: Vec<f64> = plays.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[5..].iter().all(|gap| *gap == LONGEST_REPLAY_GAP.as_secs_f64()), "{gaps:?}");
    assert_eq!(scene.session.keepalive().count(), 24 * 3600 / 4 + 1);
}

#[test]
fn connected_during_a_silence_brings_play_at_once_and_starts_the_gaps_over() {
    let mut scene = impatient(0);
    scene.stalls();
    scene.advance(seconds(250));
    let before = scene.times(&PLAY).len();
    scene.input(Input::CameraConnected);
    scene.advance(seconds(35));
    assert_eq!(scene.times(&PLAY)[before..], [250.0, 260.0, 280.0]);
}

#[test]
fn a_silence_that_ends_starts_the_next_one_with_short_gaps() {
    let mut scene = impatient(0);
    scene.stalls();
    scene.advance(seconds(120));
    scene.input(Input::MediaFlows);
    scene.advance(seconds(30));
    let before = scene.times(&PLAY).len();
    scene.stalls();
    scene.advance(seconds(20));
    assert_eq!(scene.times(&PLAY)[before..], [157.0, 167.0]);
}

#[test]
fn a_play_that_the_broker_did_not_take_is_sent_as_soon_as_it_is_back() {
    let mut scene = impatient(0);
    scene.stalls();
    scene.broken = Some("not connected");
    scene.advance(seconds(100));
    let tried = scene.times(&PLAY);
    // The last packet came 3 s before.
    assert_eq!(tried, [0.0, 7.0, 9.0, 13.0, 21.0, 37.0, 69.0], "at growing gaps meanwhile");
    scene.broken = None;
    scene.input(Input::BrokerConnected);
    assert_eq!(scene.times(&PLAY)[tried.len()..], [100.0]);
    scene.advance(seconds(30));
    assert_eq!(scene.times(&PLAY)[tried.len()..], [100.0, 110.0, 130.0], "failed ones do not widen the gaps");
}

#[test]
fn a_broker_that_comes_back_brings_no_play_to_a_camera_that_sends() {
    let mut scene = Scene::watched();
    scene.broken = Some("not connected");
    scene.advance(seconds(60));
    scene.broken = None;
    scene.input(Input::BrokerConnected);
    scene.advance(seconds(60));
    assert_eq!(scene.times(&PLAY), [0.0]);
}

#[test]
fn a_broker_that_comes_back_gets_the_failed_keepalive_at_once_with_the_same_count() {
    let mut scene = Scene::watched();
    scene.advance(seconds(10));
    scene.broken = Some("not connected");
    scene.advance(Duration::from_millis(7_300));
    scene.broken = None;
    let count = scene.session.keepalive().count();
    scene.input(Input::BrokerConnected);
    let sent = scene.times(&Action::Publish(Command::Keepalive(count)));
    assert_eq!(sent.last(), Some(&17.3));
    scene.advance(seconds(100));
    assert_eq!(scene.times(&Action::Publish(Command::Keepalive(count + 1))), [20.0], "back on the grid");
    assert_eq!(scene.session.keepalive().count(), count + 1 + 25);
}

#[test]
fn a_broker_that_comes_back_adds_no_keepalive_where_none_is_missing() {
    let mut scene = Scene::watched();
    scene.advance(seconds(10));
    let before = scene.log.len();
    for _ in 0..100 {
        scene.input(Input::BrokerConnected);
    }
    assert_eq!(scene.log.len(), before);
}

#[test]
fn a_camera_that_could_not_be_told_for_long_gets_its_chance_when_the_broker_is_back() {
    let mut scene = impatient(60);
    scene.stalls();
    scene.broken = Some("not connected");
    scene.advance(seconds(56));
    scene.broken = None;
    scene.input(Input::BrokerConnected);
    scene.advance(seconds(9));
    assert_eq!(scene.session.state(), State::Active);
    scene.input(Input::MediaFlows);
    scene.advance(seconds(100));
    assert_eq!(scene.session.state(), State::Active);
}

#[test]
fn a_camera_given_up_while_the_broker_is_away_says_so() {
    let mut scene = impatient(60);
    scene.stalls();
    scene.broken = Some("connection refused");
    scene.advance(seconds(57));
    assert_eq!(scene.session.state(), State::Error);
    let reason = "camera fell silent: no RTP packet for 60 s, and play could not be sent again: connection refused";
    assert_eq!(scene.error(), reason);
    assert_eq!(scene.session.failure(), Some(Failure::Silent));
}

#[test]
fn patience_shorter_than_the_first_replay_claims_no_replay() {
    let mut scene = impatient(5);
    scene.stalls();
    scene.advance(seconds(2));
    // The patience with a camera that has just been started is longer.
    assert_eq!(scene.session.state(), State::Active);
    scene.input(Input::MediaFlows);
    scene.advance(seconds(60));
    scene.stalls();
    scene.advance(seconds(2));
    assert_eq!(scene.error(), "camera fell silent: no RTP packet for 5 s");
}

#[test]
fn keepalives_number_themselves_on_through_silence_replays_and_a_reboot() {
    let mut scene = impatient(0);
    scene.stalls();
    scene.advance(seconds(50));
    scene.input(Input::CameraConnected);
    scene.advance(seconds(50));
    scene.input(Input::MediaFlows);
    scene.advance(seconds(100));
    let counts: Vec<u64> = scene
        .log
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Publish(Command::Keepalive(count)) => Some(*count),
            _ => None,
        })
        .collect();
    assert_eq!(counts, (0..=50).collect::<Vec<_>>());
}

#[test]
fn a_late_answer_to_play_does_not_revive_what_was_given_up() {
    let mut scene = impatient(60);
    scene.advance(seconds(40));
    scene.stalls();
    scene.advance(seconds(57));
    assert_eq!(scene.session.state(), State::Error);
    let before = scene.log.len();
    for late in [
        Input::PlayDone(Ok(())),
        Input::KeepaliveDone(Err("late".into())),
        Input::MediaFlows,
        Input::CameraConnected,
        Input::BrokerConnected,
        Input::Viewers(0),
        Input::Stop(EndCause::Requested),
    ] {
        scene.input(late);
        scene.advance(seconds(100));
    }
    assert_eq!(scene.log.len(), before, "{:?}", &scene.log[before..]);
    assert_eq!(scene.session.state(), State::Error);
}

const PARK: Action = Action::Park;
const REOPEN: Action = Action::Reopen;

impl Scene {
    /// The ingest cannot tell the camera from another; it agrees to expect nothing for it.
    fn parks(&mut self) {
        let before = self.times(&PARK).len();
        self.input(Input::ShouldYield);
        assert_eq!(self.times(&PARK).len(), before + 1);
        self.input(Input::Parked);
    }
}

#[test]
fn a_camera_that_cannot_be_told_from_others_is_told_to_stop_and_to_play_again_when_its_turn_comes() {
    let mut scene = Scene::active();
    scene.input(Input::Viewers(1));
    scene.advance(seconds(2));
    scene.input(Input::ShouldYield);
    assert!(!scene.did(&PARK), "it has a moment to answer");
    scene.advance(seconds(3));
    scene.parks();
    scene.input(Input::ShouldYield);
    scene.input(Input::CameraConnected);
    scene.input(Input::BrokerConnected);
    scene.advance(seconds(60));
    assert_eq!((scene.times(&STOP), scene.times(&REOPEN), scene.times(&PLAY)), (vec![5.0], vec![16.0], vec![0.0]));
    assert_eq!(scene.session.state(), State::Active, "it is not given up while it waits");
    assert!(scene.session.media_reason(scene.now).unwrap().contains("one by one"));
    let keepalives = scene.session.keepalive().count();
    let other = PortPlan { video_rtp: 6006, rtcp: 6007, audio_rtp: 6008 };
    scene.input(Input::Reopened(Ok(other)));
    assert_eq!(scene.times(&PLAY), [0.0, 65.0]);
    assert_eq!(scene.session.keepalive().count(), keepalives + 1, "keepalives rest with the camera");
    scene.input(Input::MediaFlows);
    scene.advance(seconds(100));
    assert_eq!((scene.session.active_reason(), scene.times(&STOP).len()), (Some(ActiveReason::Media), 1));
}

#[test]
fn a_camera_that_answers_in_none_of_its_turns_is_given_up() {
    let mut scene = Scene::active();
    scene.input(Input::Viewers(1));
    for (turn, length) in (1..=MAX_TURNS).zip([3, 6, 9]) {
        scene.advance(seconds(length) - Duration::from_millis(1));
        scene.input(Input::ShouldYield);
        assert_eq!(scene.times(&PARK).len() + 1, turn as usize, "a slow camera has longer turns after the first");
        scene.advance(Duration::from_millis(1));
        scene.parks();
        scene.advance(seconds(12));
        assert_eq!(scene.times(&REOPEN).len(), turn as usize);
        scene.input(Input::Reopened(Ok(PORTS)));
    }
    scene.advance(seconds(9));
    scene.input(Input::ShouldYield);
    assert_eq!(scene.session.state(), State::Error);
    assert!(scene.error().starts_with("camera never answered play"), "{}", scene.error());
}

#[test]
fn a_turn_that_does_not_come_is_asked_for_again_and_a_parked_session_can_be_stopped() {
    let mut scene = impatient(0);
    scene.advance(seconds(40));
    scene.stalls();
    scene.parks();
    scene.input(Input::MediaFlows);
    scene.advance(seconds(11));
    scene.input(Input::Reopened(Err("not now".into())));
    scene.advance(seconds(10));
    assert_eq!(scene.times(&REOPEN), [51.0, 61.0]);
    scene.input(Input::Stop(EndCause::Requested));
    assert_eq!(scene.session.state(), State::Stopped);
    scene.input(Input::Reopened(Ok(PORTS)));
    assert_eq!(scene.times(&PLAY), [0.0]);
}

#[test]
fn a_running_or_ended_session_makes_no_room() {
    let mut scene = Scene::watched();
    scene.advance(seconds(60));
    scene.input(Input::ShouldYield);
    scene.input(Input::Stop(EndCause::Requested));
    scene.input(Input::ShouldYield);
    scene.input(Input::Parked);
    assert!(!scene.did(&PARK));
}

#[test]
fn runs_of_thirty_seconds_in_a_row_are_counted_unless_the_camera_restarted() {
    let mut scene = Scene::watched();
    let runs = |scene: &mut Scene, seconds: u64, restarts: bool| {
        scene.advance(Duration::from_secs(seconds + 3));
        scene.stalls();
        if restarts {
            scene.input(Input::CameraConnected);
        }
        let runs = scene.session.watchdog().starved_runs();
        scene.input(Input::MediaFlows);
        runs
    };
    let found = [(30, false), (30, false), (30, true), (30, false), (20, false), (30, false)]
        .map(|(seconds, restarts)| runs(&mut scene, seconds, restarts));
    assert_eq!(found, [1, 2, 0, 1, 0, 1]);
}
