//! Cameras that cannot be told from each other get their pictures one by one. The control plane's part is played
//! as it plays it: a stream that should yield is parked and its camera told to stop; after a rest it is reopened,
//! and told to play when its turn comes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::tests::{Opened, SLICE, Scene, VIDEO};
use super::*;
use crate::ingest::{LONGEST_TURN, MEMORY, TURN};
use crate::media::SeqNo;
use crate::media::rtp::RtpHeader;

const REST: Duration = MEMORY.saturating_add(Duration::from_secs(1));
const STEP: Duration = Duration::from_millis(100);

/// A camera, and the control plane's view of it.
struct Camera {
    id: StreamId,
    /// Where it sends from when it is told to; `None` if it is dead.
    from: Option<String>,
    sends: bool,
    /// `play` (true) and `stop`, and when it does what they say.
    told: VecDeque<(Instant, bool)>,
    /// Of its media, at the start of the scene; and its next packet's number.
    clock: u32,
    seq: u16,
    played: Instant,
    rests_until: Option<Instant>,
    reopening: Option<Opened>,
    shows: bool,
    stops: u32,
    /// Since it showed something.
    turns: u32,
}

/// Cameras that are told to play and stop.
struct Site {
    scene: Scene,
    begun: Instant,
    /// How long cameras take to do what they are told.
    slow: Duration,
    cameras: BTreeMap<u8, Camera>,
    opening: Vec<(u8, StreamId, Option<String>, Opened)>,
}

impl Site {
    fn new() -> Self {
        let scene = Scene::new();
        Self { begun: scene.now, scene, slow: Duration::ZERO, cameras: BTreeMap::new(), opening: Vec::new() }
    }

    /// Starts the stream of a camera of unknown address.
    fn start(&mut self, number: u8, from: Option<&str>) {
        let (id, _, opened) = self.scene.request(number, None);
        self.opening.push((number, id, from.map(str::to_owned), opened));
    }

    fn run(&mut self, duration: Duration) {
        let end = self.scene.now + duration;
        while self.scene.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.scene.now;
        for (number, id, from, mut opened) in std::mem::take(&mut self.opening) {
            if opened.try_recv().is_ok() {
                let (told, sends) = (VecDeque::from([(now + self.slow, true)]), false);
                let (rests_until, reopening) = (None, None);
                let (clock, seq) = (u32::from(number) << 28, 0);
                let (played, shows, stops, turns) = (now, false, 0, 0);
                let camera =
                    Camera { id, from, sends, told, clock, seq, played, rests_until, reopening, shows, stops, turns };
                self.cameras.insert(number, camera);
            } else {
                self.opening.push((number, id, from, opened));
            }
        }
        for camera in self.cameras.values_mut() {
            if camera.rests_until.is_some_and(|at| at <= now) {
                camera.rests_until = None;
                camera.reopening = Some(self.scene.intake.reopen(camera.id, now).unwrap());
            }
            if camera.reopening.as_mut().is_some_and(|opened| opened.try_recv().is_ok()) {
                (camera.reopening, camera.played) = (None, now);
                camera.told.push_back((now + self.slow, true));
            }
            while let Some((_, play)) = camera.told.pop_front_if(|(at, _)| *at <= now) {
                camera.sends = play && camera.from.is_some();
            }
            if let Some(from) = camera.from.clone().filter(|_| camera.sends) {
                camera.seq = camera.seq.wrapping_add(1);
                let elapsed = (now - self.begun).as_millis() as u32 * 90;
                let (seq, timestamp) = (SeqNo(camera.seq), camera.clock.wrapping_add(elapsed));
                let header = RtpHeader { payload_type: 103, marker: true, seq, timestamp, ssrc: VIDEO };
                let taken = self.scene.datagram(&from, [&header.to_bytes()[..], SLICE].concat()).is_ok();
                let owner = self.scene.intake.latch.owner(Entrance::Shared, from.parse().unwrap());
                assert_eq!(owner, taken.then_some(camera.id), "{from} is shown under another name");
            }
        }
        self.scene.run(STEP);
        for event in self.scene.events() {
            match event {
                IngestEvent::ShouldYield { stream } => {
                    // It may be asked before its control plane knows that it is open.
                    let turn = |camera: &Camera| TURN.saturating_mul(camera.turns + 1).min(LONGEST_TURN);
                    if self.by_id(stream).is_none_or(|camera| now < camera.played + turn(camera)) {
                        continue;
                    }
                    if self.scene.intake.park(stream, self.scene.now) {
                        let (rest, heard) = (self.scene.now + REST, self.scene.now + self.slow);
                        let camera = self.by_id(stream).unwrap();
                        camera.told.push_back((heard, false));
                        (camera.stops, camera.turns) = (camera.stops + 1, camera.turns + 1);
                        camera.rests_until = Some(rest);
                    }
                }
                IngestEvent::MediaStarted { stream, .. } | IngestEvent::MediaResumed { stream } => {
                    let camera = self.by_id(stream).unwrap();
                    (camera.shows, camera.turns) = (true, 0);
                }
                IngestEvent::MediaStalled { stream, .. } => self.by_id(stream).unwrap().shows = false,
                IngestEvent::FeedbackWarning { .. } => {}
            }
        }
    }

    /// All are dark for 20 s and then send together, from other ports and with other clocks.
    fn return_from_power_cut(&mut self) {
        self.cameras.values_mut().for_each(|camera| camera.sends = false);
        self.run(Duration::from_secs(20));
        for (number, camera) in &mut self.cameras {
            camera.clock = camera.clock.wrapping_add(77_000_000);
            camera.from = Some(format!("10.0.0.5:{number}500"));
            // `play` reaches all of them when they report themselves.
            camera.sends = true;
        }
    }

    fn by_id(&mut self, id: StreamId) -> Option<&mut Camera> {
        self.cameras.values_mut().find(|camera| camera.id == id)
    }

    fn shown(&self) -> Vec<u8> {
        self.cameras.iter().filter(|(_, camera)| camera.shows).map(|(number, _)| *number).collect()
    }
}

#[test]
fn a_dead_camera_of_unknown_address_makes_room_for_the_one_that_is_started_after_it() {
    let mut site = Site::new();
    site.start(1, None);
    site.run(Duration::from_secs(4));
    site.start(2, Some("10.0.0.5:4000"));
    site.run(Duration::from_secs(6));
    assert_eq!(site.shown(), [2]);
    assert_eq!(site.cameras[&2].stops, 0, "it was not interrupted");
}

#[test]
fn a_dead_camera_among_others_that_start_in_the_same_second_costs_them_half_a_minute_and_none_is_mixed_up() {
    let mut site = Site::new();
    for (number, from) in [(1, None), (2, Some("10.0.0.5:4000")), (3, Some("10.0.0.6:4000"))] {
        site.start(number, from);
    }
    site.run(Duration::from_secs(45));
    assert_eq!(site.shown(), [2, 3]);
    site.run(Duration::from_secs(60));
    assert_eq!(site.shown(), [2, 3]);
}

#[test]
fn a_dead_camera_that_comes_back_gets_its_picture_at_its_next_turn() {
    let mut site = Site::new();
    site.start(1, None);
    site.start(2, None);
    site.start(3, Some("10.0.0.6:4000"));
    site.run(Duration::from_secs(60));
    assert_eq!(site.shown(), [3]);
    for (number, from) in [(1, "10.0.0.7:4000"), (2, "10.0.0.5:4000")] {
        site.cameras.get_mut(&number).unwrap().from = Some(from.to_owned());
    }
    site.run(Duration::from_secs(60));
    assert_eq!(site.shown(), [1, 2, 3]);
}

/// Five cameras that show their pictures.
fn behind_one_address() -> Site {
    let mut site = Site::new();
    for number in 1..=5 {
        site.start(number, Some(&format!("10.0.0.5:{number}000")));
        site.run(Duration::from_secs(6));
    }
    assert_eq!(site.shown(), [1, 2, 3, 4, 5]);
    site
}

#[test]
fn cameras_behind_one_address_that_return_at_once_from_a_power_cut_are_all_back_within_a_minute() {
    let mut site = behind_one_address();
    site.return_from_power_cut();
    site.run(Duration::from_secs(60));
    assert_eq!(site.shown(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_running_stream_is_never_asked_to_make_room_and_a_parked_one_gets_no_packet_and_no_feedback() {
    let mut s = Scene::new();
    let (first, _) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.run(Duration::from_secs(4));
    s.video("10.0.0.5:4000", SLICE).unwrap();
    let (second, _, _waits) = s.request(2, None);
    for _ in 0..60 {
        s.run(STEP);
        s.video("10.0.0.5:4000", SLICE).unwrap();
    }
    assert!(!s.events().contains(&IngestEvent::ShouldYield { stream: first }));
    s.intake.close(second, s.now);
    s.run(Duration::from_secs(6));
    assert!(s.intake.park(first, s.now));
    assert!(!s.intake.park(first, s.now), "it is parked");
    s.run(Duration::from_secs(1));
    assert!(s.video("10.0.0.5:4000", SLICE).is_err());
    assert!(s.run(Duration::from_secs(5)).is_empty());
    let mut opened = s.intake.reopen(first, s.now).unwrap();
    assert_eq!(s.intake.reopen(first, s.now).unwrap_err(), crate::ingest::OpenError::NotParked);
    assert_eq!(opened.try_recv(), Ok(Ok(Entrance::Shared)));
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.intake.close(first, s.now);
    assert_eq!(s.intake.reopen(first, s.now).unwrap_err(), crate::ingest::OpenError::NotParked);
}

#[test]
fn refused_packets_that_may_be_a_streams_are_counted_until_it_shows_video() {
    let mut s = Scene::new();
    let (first, _) = s.open();
    let (_, _, _kept) = s.request(2, None);
    s.run(OPEN_WAIT + Duration::from_millis(60));
    for _ in 0..20 {
        s.video("10.0.0.5:4000", SLICE).unwrap_err();
        s.run(STEP);
    }
    let count = |s: &mut Scene| s.intake.stats(first, s.now, SystemTime::now()).unwrap().ambiguous_packets;
    assert_eq!(count(&mut s), 20);
    s.intake.park(first, s.now);
    assert_eq!(count(&mut s), 20);
    let _kept = s.intake.reopen(first, s.now).unwrap();
}

#[test]
fn cameras_that_take_seconds_to_do_what_they_are_told_get_longer_turns_and_all_their_pictures() {
    // All but the first are slower than the first turn is long.
    for (slow, within_s) in [(2, 60), (4, 60), (6, 90), (8, 150)] {
        let slow = Duration::from_secs(slow);
        let mut site = Site { slow, ..Site::new() };
        for (number, from) in [(1, None), (2, Some("10.0.0.5:4000")), (3, Some("10.0.0.6:4000"))] {
            site.start(number, from);
        }
        site.run(Duration::from_secs(within_s));
        assert_eq!(site.shown(), [2, 3], "{slow:?}: a dead one among them");

        let mut site = behind_one_address();
        site.slow = slow;
        site.return_from_power_cut();
        site.run(Duration::from_secs(within_s));
        assert_eq!(site.shown(), [1, 2, 3, 4, 5], "{slow:?}: after a power cut");
    }
}
