use super::super::path_tests::{Outcome, Receiver, SCENE, Scene, play};
use super::*;

/// The estimate alone, sent every 0.8 s and at once when it falls.
struct Bare {
    bandwidth: Bandwidth,
    highest: Option<u16>,
    sent: Option<(Instant, u64)>,
}

impl Bare {
    fn new() -> Self {
        Self { bandwidth: Bandwidth::new((500_000, 5_000_000)), highest: None, sent: None }
    }
}

impl Receiver for Bare {
    fn on_packet(&mut self, seq: u16, timestamp: u32, payload: usize, now: Instant) {
        let ahead = self.highest.map_or(1, |highest| seq.wrapping_sub(highest) as i16);
        if ahead > 0 {
            self.highest = Some(seq);
        }
        self.bandwidth.on_packet(payload + 12, ahead.max(0) as u64, timestamp, 90_000, now);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.bandwidth.poll_timeout()
    }

    fn remb(&mut self, now: Instant) -> Option<u64> {
        self.bandwidth.advance(now);
        let value = self.bandwidth.estimate();
        let due = self.sent.is_none_or(|(at, last)| now >= at + Duration::from_millis(800) || value < last * 97 / 100);
        due.then(|| {
            self.sent = Some((now, value));
            value
        })
    }
}

/// Plays `scene` for `seconds` with each of a dozen seeds.
fn outcomes(scene: Scene, seconds: f64) -> impl Iterator<Item = (u64, Outcome)> {
    (0..12).map(move |seed| (seed, play(scene, seconds, seed, &mut Bare::new())))
}

/// No limit anywhere.
const FREE: Scene = Scene { limited: (0.0, 0.0), ..SCENE };
const TOP: f64 = 5e6;

#[test]
fn on_a_free_path_the_estimate_stays_at_its_top_whatever_jitter_drift_and_loss_up_to_5_percent() {
    for scene in [
        FREE,
        Scene { jitter: 0.03, ..FREE },
        Scene { jitter: 0.1, ..FREE },
        Scene { jitter: 0.03, loss: 0.01, ..FREE },
        Scene { jitter: 0.03, loss: 0.05, ..FREE },
    ] {
        for (seed, outcome) in outcomes(scene, 60.0) {
            assert!(outcome.remb.iter().skip(4).all(|remb| *remb == 0 || *remb as f64 == TOP), "seed {seed}");
        }
    }
}

#[test]
fn a_camera_in_a_quiet_scene_does_not_drag_the_estimate_down() {
    for loss in [0.0, 0.05] {
        for (seed, outcome) in outcomes(Scene { wishes: &[(0.0, 150e3)], loss, ..FREE }, 100.0) {
            assert_eq!(outcome.remb(98.0), TOP, "seed {seed}");
        }
    }
}

#[test]
fn a_camera_that_was_limited_and_then_quiet_comes_back_up_when_its_scene_gets_busy() {
    let wishes = &[(0.0, 3e6), (30.0, 120e3), (120.0, 3e6)];
    for (seed, outcome) in outcomes(Scene { wishes, limited: (0.0, 60.0), ..SCENE }, 160.0) {
        // Nothing arrives that proves anything: it grows slowly.
        assert!((0.7e6..2e6).contains(&outcome.remb(45.0)), "seed {seed}: {}", outcome.remb(45.0));
        assert!(outcome.sent(146.0, 154.0) > 2.7e6, "seed {seed}: {}", outcome.sent(146.0, 154.0));
    }
}

#[test]
fn a_camera_that_knows_but_two_bitrates_finds_back_to_the_larger_one() {
    let scene = Scene { limit: 600e3, limited: (0.0, 30.0), pictures: Some((200e3, 1.5e6)), ..SCENE };
    for (seed, outcome) in outcomes(scene, 100.0) {
        assert!(outcome.sent(10.0, 30.0) < 400e3, "seed {seed}: {}", outcome.sent(10.0, 30.0));
        assert!(outcome.sent(80.0, 96.0) > 1.4e6, "seed {seed}: {}", outcome.sent(80.0, 96.0));
    }
}

#[test]
fn loss_of_20_percent_brings_the_estimate_down_even_without_a_queue() {
    for (seed, outcome) in outcomes(Scene { loss: 0.2, jitter: 0.03, ..FREE }, 40.0) {
        assert!(outcome.remb(30.0) < 1e6, "seed {seed}: {}", outcome.remb(30.0));
        assert!(outcome.remb.iter().all(|remb| *remb == 0 || *remb >= 500_000));
    }
}

#[test]
fn a_queue_too_shallow_for_keyframes_still_tells_the_limit() {
    for (seed, outcome) in outcomes(Scene { queue: 0.05, ..SCENE }, 100.0) {
        let sent = outcome.sent(20.0, 96.0);
        assert!((0.7e6..1.05e6).contains(&sent), "seed {seed}: {sent}");
    }
}

#[test]
fn a_deep_queue_is_kept_short() {
    for (seed, outcome) in outcomes(Scene { queue: 1.0, ..SCENE }, 100.0) {
        let (sent, arrived) = (outcome.sent(16.0, 96.0), outcome.arrived(16.0, 96.0));
        assert!((0.8e6..1.0e6).contains(&sent), "seed {seed}: {sent}");
        assert!(arrived > sent * 0.98, "seed {seed}: {arrived} of {sent}");
    }
}

#[test]
fn a_camera_that_takes_5_s_to_follow_still_gets_most_of_the_path() {
    for (seed, outcome) in outcomes(Scene { lag: (4.0, 5.0), ..SCENE }, 120.0) {
        let arrived = outcome.arrived(20.0, 116.0);
        assert!((0.8e6..1.0e6).contains(&arrived), "seed {seed}: {arrived}");
    }
}

#[test]
fn a_camera_that_ignores_remb_does_not_make_the_estimate_collapse() {
    for (seed, outcome) in outcomes(Scene { obeys: false, ..SCENE }, 60.0) {
        assert!(outcome.remb(56.0) > 0.75e6, "seed {seed}: {}", outcome.remb(56.0));
    }
}

#[test]
fn a_camera_whose_clock_runs_one_percent_wrong_is_not_starved_for_it() {
    let mut lowest = f64::MAX;
    for (_, outcome) in outcomes(Scene { drift: 10_000.0, ..FREE }, 200.0) {
        lowest = lowest.min(outcome.sent(0.0, 196.0));
    }
    assert!(lowest > 2e6, "{lowest}");
}

#[test]
fn a_media_clock_that_is_set_anew_is_no_queue() {
    let (mut bandwidth, start) = (Bandwidth::new((500_000, 5_000_000)), Instant::now());
    for n in 0..1_000u32 {
        let leap = if n >= 500 { 3_000_000_000 } else { 0 };
        bandwidth.on_packet(1_200, 1, leap + n * 900, 90_000, start + n * Duration::from_millis(10));
    }
    assert_eq!(bandwidth.estimate(), 5_000_000);
}

#[test]
fn silence_and_a_new_source_forget_measurements_but_not_the_estimate() {
    let (mut bandwidth, start) = (Bandwidth::new((500_000, 5_000_000)), Instant::now());
    // A queue that grows by 20 ms a frame.
    let mut now = start;
    for n in 0..200u32 {
        now = start + n * Duration::from_millis(60);
        bandwidth.on_packet(1_200, 1, n * 3_600, 90_000, now);
    }
    let low = bandwidth.estimate();
    assert!(low < 1_000_000, "{low}");
    bandwidth.advance(now + Duration::from_secs(10));
    assert_eq!((bandwidth.estimate(), bandwidth.received(), bandwidth.poll_timeout()), (low, 0, None));
    bandwidth.restart();
    assert_eq!(bandwidth.estimate(), low);
}
