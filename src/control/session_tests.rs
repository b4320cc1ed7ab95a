use super::*;
use crate::control::keepalive::RETRY_AFTER;

const PORTS: PortPlan = PortPlan { video_rtp: 5006, rtcp: 5007, audio_rtp: 5008 };
const TIMING: Timing = Timing {
    keepalive_interval: Duration::from_secs(4),
    start_timeout: Duration::from_secs(30),
    idle_timeout: Duration::from_secs(300),
    give_up_after: Duration::ZERO,
};
const PLAY: Action = Action::Publish(Command::Play);
const STOP: Action = Action::Publish(Command::Stop);

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A session on virtual time, with a broker that acknowledges at once unless it is `broken`.
struct Scene {
    session: Session,
    start: Instant,
    now: Instant,
    broken: Option<&'static str>,
    /// What the session did, with seconds since the start.
    log: Vec<(f64, Action)>,
}

impl Scene {
    fn new(timing: Timing) -> Self {
        let start = Instant::now();
        Self { session: Session::new(timing, start), start, now: start, broken: None, log: Vec::new() }
    }

    /// A session whose play was acknowledged.
    fn active() -> Self {
        let mut scene = Self::new(TIMING);
        scene.input(Input::Opened(Ok(PORTS)));
        assert_eq!(scene.session.state(), State::Active);
        scene
    }

    /// The same with packets and one viewer.
    fn watched() -> Self {
        let mut scene = Self::active();
        scene.input(Input::MediaFlows);
        scene.input(Input::Viewers(1));
        scene
    }

    fn input(&mut self, input: Input) {
        let actions = self.session.handle(self.now, input);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.log.push(((self.now - self.start).as_secs_f64(), action.clone()));
            let result = self.broken.map_or(Ok(()), |reason| Err(reason.to_owned()));
            match action {
                Action::Publish(Command::Play) => self.input(Input::PlayDone(result)),
                Action::Publish(Command::Keepalive(_)) => self.input(Input::KeepaliveDone(result)),
                Action::Publish(Command::Stop) => self.input(Input::StopDone(result)),
                _ => {}
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.session.poll_at().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            let actions = self.session.handle_timeout(self.now);
            assert!(!actions.is_empty() || self.session.poll_at() > Some(self.now), "a timeout that does nothing");
            self.perform(actions);
        }
        self.now = until;
    }

    /// Seconds since the start at which `action` was taken.
    fn times(&self, action: &Action) -> Vec<f64> {
        self.log.iter().filter(|(_, a)| a == action).map(|(at, _)| *at).collect()
    }

    fn did(&self, action: &Action) -> bool {
        self.log.iter().any(|(_, a)| a == action)
    }
}

#[test]
fn play_goes_out_when_the_ports_are_open_and_the_first_keepalive_right_after() {
    let mut scene = Scene::new(TIMING);
    assert_eq!(scene.session.state(), State::Starting);
    scene.input(Input::Opened(Ok(PORTS)));
    let actions: Vec<_> = scene.log.iter().map(|(_, action)| action.clone()).collect();
    assert_eq!(actions, [PLAY, Action::Started, Action::Publish(Command::Keepalive(0))]);
    assert_eq!(scene.session.state(), State::Active);
    assert_eq!(scene.session.active_reason(), Some(ActiveReason::PlayPublished));
}

#[test]
fn active_rests_on_media_once_packets_arrive() {
    let mut scene = Scene::active();
    scene.input(Input::MediaFlows);
    assert_eq!(scene.session.active_reason(), Some(ActiveReason::Media));
    assert_eq!(scene.session.media_reason(scene.now), None);
}

#[test]
fn keepalives_number_themselves_and_come_every_interval() {
    let mut scene = Scene::watched();
    scene.advance(seconds(3600));
    for n in [1, 2, 450, 900] {
        let at = scene.times(&Action::Publish(Command::Keepalive(n)));
        assert_eq!(at, [n as f64 * 4.0], "keepalive {n}");
    }
    assert_eq!(scene.session.keepalive().count(), 901);
}

#[test]
fn keepalives_outlive_a_broker_that_is_away_for_ten_minutes() {
    let mut scene = Scene::watched();
    scene.broken = Some("not connected");
    scene.advance(seconds(600));
    assert_eq!(scene.session.state(), State::Active);
    assert!(scene.session.keepalive().errors() >= 150);
    scene.broken = None;
    scene.advance(RETRY_AFTER + seconds(4));
    assert!(scene.session.keepalive().count() >= 2);
    assert!(scene.session.keepalive().is_running());
}

#[test]
fn a_silent_camera_ends_in_an_error_in_words_and_is_told_to_stop() {
    let mut scene = Scene::active();
    scene.advance(seconds(29));
    assert_eq!(scene.session.state(), State::Active);
    scene.advance(seconds(1));
    assert_eq!(scene.session.state(), State::Error);
    assert_eq!(scene.session.error(), Some("camera never answered play: no RTP packet on UDP 5006/5008 within 30 s"));
    assert_eq!(scene.times(&STOP), [30.0]);
    assert!(scene.did(&Action::Release(EndCause::Failed)) && scene.did(&Action::Ended));
    assert!(!scene.session.keepalive().is_running());
    assert_eq!(scene.session.poll_at(), None);
}

#[test]
fn a_play_that_cannot_be_published_fails_the_start_with_the_brokers_words() {
    let mut scene = Scene::new(TIMING);
    scene.broken = Some("not connected to 127.0.0.1:8883");
    scene.input(Input::Opened(Ok(PORTS)));
    let reason = "play could not be published: not connected to 127.0.0.1:8883";
    assert!(scene.did(&Action::StartFailed(reason.into())));
    assert!(scene.did(&Action::Release(EndCause::Failed)));
    assert_eq!((scene.session.state(), scene.session.error()), (State::Error, Some(reason)));
}

#[test]
fn packets_count_as_an_acknowledgement_that_got_lost() {
    let mut scene = Scene::new(TIMING);
    let actions = scene.session.handle(scene.now, Input::Opened(Ok(PORTS)));
    assert_eq!(actions, [PLAY]);
    scene.input(Input::MediaFlows);
    scene.input(Input::PlayDone(Err("no acknowledgement within 5 s".into())));
    assert_eq!(scene.session.state(), State::Active);
    assert!(scene.did(&Action::Started));
}

#[test]
fn ports_that_cannot_be_opened_fail_the_start_without_a_word_to_the_camera() {
    let mut scene = Scene::new(TIMING);
    scene.input(Input::Opened(Err("the media engine has stopped".into())));
    assert!(scene.did(&Action::StartFailed("the media engine has stopped".into())));
    assert!(!scene.did(&PLAY) && !scene.did(&STOP));
    assert_eq!(scene.session.state(), State::Error);
}

#[test]
fn stop_tells_camera_and_viewers_once() {
    let mut scene = Scene::watched();
    scene.input(Input::Stop(EndCause::Requested));
    scene.input(Input::Stop(EndCause::Requested));
    assert_eq!(scene.session.state(), State::Stopped);
    assert_eq!(scene.times(&STOP).len(), 1);
    assert_eq!(scene.times(&Action::Release(EndCause::Requested)).len(), 1);
    assert_eq!(scene.times(&Action::Ended).len(), 1);
    scene.advance(seconds(3600));
    assert_eq!(scene.session.keepalive().count(), 1, "no keepalive after stop");
}

#[test]
fn stop_ends_without_the_brokers_answer_after_three_seconds() {
    let mut scene = Scene::watched();
    let actions = scene.session.handle(scene.now, Input::Stop(EndCause::Requested));
    assert_eq!(actions, [STOP, Action::Release(EndCause::Requested)]);
    assert_eq!(scene.session.state(), State::Stopping);
    scene.advance(STOP_WAIT);
    assert_eq!(scene.session.state(), State::Stopped);
    assert_eq!(scene.session.ended(), Some(scene.start + STOP_WAIT));
}

#[test]
fn stop_before_play_says_nothing_to_the_camera() {
    let mut scene = Scene::new(TIMING);
    scene.input(Input::Stop(EndCause::Requested));
    assert!(!scene.did(&STOP));
    assert_eq!(scene.session.state(), State::Stopped);
    scene.input(Input::Opened(Ok(PORTS)));
    assert!(!scene.did(&PLAY), "a late open must not revive the session");
}

#[test]
fn five_minutes_without_viewers_stop_the_stream() {
    let mut scene = Scene::watched();
    scene.advance(seconds(1000));
    scene.input(Input::Viewers(0));
    scene.advance(seconds(299));
    assert_eq!(scene.session.state(), State::Active);
    scene.advance(seconds(1));
    assert_eq!(scene.session.state(), State::Stopped);
    assert!(scene.did(&Action::Release(EndCause::Idle)));
}

#[test]
fn a_stream_nobody_ever_watched_stops_too_and_zero_means_never() {
    let mut scene = Scene::active();
    scene.input(Input::MediaFlows);
    scene.advance(seconds(300));
    assert_eq!(scene.session.state(), State::Stopped);

    let mut scene = Scene::new(Timing { idle_timeout: Duration::ZERO, ..TIMING });
    scene.input(Input::Opened(Ok(PORTS)));
    scene.input(Input::MediaFlows);
    scene.advance(seconds(100_000));
    assert_eq!(scene.session.state(), State::Active);
}

#[test]
fn an_acknowledgement_that_never_comes_ends_in_an_error() {
    let mut scene = Scene::new(TIMING);
    let actions = scene.session.handle(scene.now, Input::Opened(Ok(PORTS)));
    assert_eq!(actions, [PLAY]);
    scene.advance(seconds(30));
    assert_eq!(scene.session.state(), State::Error);
    assert!(scene.did(&Action::StartFailed("play was not acknowledged within 30 s".into())));
}

#[test]
fn viewers_that_come_and_go_restart_the_five_minutes() {
    let mut scene = Scene::watched();
    for _ in 0..10 {
        scene.input(Input::Viewers(0));
        scene.advance(seconds(299));
        scene.input(Input::Viewers(1));
        scene.advance(seconds(1));
        scene.input(Input::Viewers(2));
        scene.input(Input::Viewers(1));
    }
    assert_eq!(scene.session.state(), State::Active);
    scene.input(Input::Viewers(0));
    // Said twice, as when a second one was refused: the five minutes run from the first time.
    scene.advance(seconds(200));
    scene.input(Input::Viewers(0));
    scene.advance(seconds(99));
    assert_eq!(scene.session.state(), State::Active);
    scene.advance(seconds(1));
    assert_eq!(scene.session.state(), State::Stopped);
}

#[path = "watchdog_tests.rs"]
mod watchdog_tests;
