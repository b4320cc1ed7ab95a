//! A viewer behind a link that is narrow for a while: what queues up there, and what is seen of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::tests::{Scene, VIDEO};
use super::weak_tests::{GOOD, WEAK, mark};
use crate::base::ViewerId;
use crate::egress::stats::{ViewerCounters, ViewerStats};
use crate::egress::viewer::{Heard, Path};
use crate::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, RtpTime, SeqNo};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const STEP_MS: u128 = 5;
const TICK_MS: u128 = 200;
/// Chromium's, of a stream like this.
const FEEDBACK_MS: u128 = 60;
const SOUND_MS: u128 = 20;
const PICTURE_MS: u128 = 40;
const GROUP: u64 = 100;
const PACKET: usize = 1_150;
const SOUND: usize = 120;
/// SRTP's header and tag.
const OVERHEAD: usize = 12 + 16;
/// A link that never is the matter, in bit/s.
const WIDE: f64 = 100e6;
/// What a stream of keyframes of 25 packets, others of 3, and sound needs, in bit/s.
const RATE: f64 = ((25 + 99 * 3) * (PACKET + OVERHEAD) * 8 / 4 + 50 * (SOUND + OVERHEAD) * 8) as f64;

struct Narrow {
    scene: Scene,
    viewer: ViewerId,
    counters: Arc<ViewerCounters>,
    /// Bit/s.
    link: f64,
    free_at: Instant,
    arrivals: Vec<(Instant, SeqNo)>,
    pictures: u64,
    seq: u64,
    /// The longest queue, and when it was one.
    worst: (Duration, Duration),
    /// What a keyframe adds that was sent at once, because nothing was known of the limit yet: its own time, and that of
    /// pictures behind it until it should have been told of.
    keyframe_soon: Duration,
    /// The longest queue that the link has room for.
    room: Duration,
    /// Pictures from one keyframe to the next, and packets of each keyframe.
    group: u64,
    keyframe: u64,
    /// Milliseconds between pictures.
    every: u128,
    /// Share of the marks that do not arrive.
    loses: f64,
    random: StdRng,
    /// What is told of an arrival takes so long.
    far: Duration,
    /// The viewer tells of no arrival before.
    tells_from: Instant,
    /// Video packets that went to the viewer, and those of the camera.
    video: usize,
    sent_video: usize,
}

impl Narrow {
    fn new() -> Self {
        let mut scene = Scene::new();
        let (viewer, counters) = scene.joins(WEAK, true);
        let now = scene.now;
        Self {
            scene,
            viewer,
            counters,
            link: WIDE,
            free_at: now,
            arrivals: Vec::new(),
            pictures: 0,
            seq: 1 << 16,
            worst: (Duration::ZERO, Duration::ZERO),
            keyframe_soon: Duration::ZERO,
            room: 1_000 * SECOND,
            group: GROUP,
            keyframe: 25,
            every: PICTURE_MS,
            loses: 0.0,
            random: StdRng::seed_from_u64(1),
            far: Duration::ZERO,
            tells_from: now,
            video: 0,
            sent_video: 0,
        }
    }

    /// From now on the link carries this share of the stream.
    fn limit(&mut self, share: f64) {
        self.link = RATE * share;
        self.worst = (Duration::ZERO, Duration::ZERO);
        let pictures_left = (self.group - self.pictures % self.group) as u32;
        let soon = Duration::from_millis(self.every as u64) * pictures_left <= 500 * MS;
        let takes = Duration::from_secs_f64((self.keyframe as usize * (PACKET + OVERHEAD) * 8) as f64 / self.link);
        self.keyframe_soon = if soon { 2 * takes } else { Duration::ZERO };
    }

    fn at(&self) -> Duration {
        self.scene.now - self.scene.start()
    }

    fn run(&mut self, time: Duration) {
        let end = self.scene.now + time;
        while self.scene.now < end {
            let ms = self.at().as_millis();
            if ms.is_multiple_of(self.every) {
                let keyframe = self.pictures.is_multiple_of(self.group);
                self.pictures += 1;
                self.send(Codec::H264, keyframe, if keyframe { self.keyframe } else { 3 }, PACKET);
            }
            if ms.is_multiple_of(SOUND_MS) {
                self.send(Codec::Opus, false, 1, SOUND);
            }
            let Scene { fanout, network, now, .. } = &mut self.scene;
            fanout.take_turns(*now, network);
            if ms.is_multiple_of(TICK_MS) {
                fanout.tick(*now, SystemTime::now(), network);
            }
            // A keyframe that is asked for is the next picture.
            if !fanout.take_wanted().is_empty() {
                self.pictures = 0;
            }
            self.deliver();
            if ms.is_multiple_of(FEEDBACK_MS) {
                self.feedback();
            }
            self.scene.now += Duration::from_millis(STEP_MS as u64);
        }
    }

    fn send(&mut self, codec: Codec, starts_keyframe: bool, packets: u64, size: usize) {
        let now = self.scene.now;
        let time = RtpTime((1 << 32) + self.at().as_micros() as u64 * u64::from(codec.clock_rate()) / 1_000_000);
        let numbers = self.seq..self.seq + packets;
        self.seq += packets;
        let packet = |seq| FramePacket {
            seq: ExtSeq(seq),
            marker: seq + 1 == self.seq,
            payload: Bytes::from(vec![seq as u8; size]),
        };
        let clock = ClockPoint { at: now, rtp: time, rate: codec.clock_rate() };
        let packets: Vec<_> = numbers.map(packet).collect();
        self.sent_video += if codec == Codec::H264 { packets.len() } else { 0 };
        let frame = Frame { codec, time, starts_keyframe, packets, arrived: now, clock };
        self.scene.fanout.on_frame(self.scene.stream, &Arc::new(frame), now, &mut self.scene.network);
    }

    /// Puts what was sent on the link.
    fn deliver(&mut self) {
        let now = self.scene.now;
        self.scene.only_rtp(WEAK);
        for packet in self.scene.received(WEAK) {
            if self.free_at > now + self.room {
                continue;
            }
            let bits = (packet.as_bytes().len() + OVERHEAD - 12) as f64 * 8.0;
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bits / self.link);
            let told = mark(&packet).filter(|_| !self.random.random_bool(self.loses));
            self.arrivals.extend(told.map(|number| (self.free_at, number)));
            self.video += usize::from(packet.ssrc() == VIDEO);
        }
        self.worst = self.worst.max((self.free_at.saturating_duration_since(now), self.at()));
    }

    fn feedback(&mut self) {
        let (now, start) = (self.scene.now, self.scene.start());
        if now < self.tells_from {
            return;
        }
        let arrived = self.arrivals.extract_if(.., |(at, _)| *at + self.far <= now);
        let arrived: Vec<_> = arrived.map(|(at, number)| (number, (at - start).as_micros() as i64)).collect();
        if !arrived.is_empty() {
            self.scene.fanout.heard(self.viewer, &Heard::Arrivals(arrived), now);
        }
    }

    fn stats(&self) -> ViewerStats {
        ViewerStats::default().with(&self.counters, self.scene.now, SystemTime::now())
    }
}

#[test]
fn half_the_rate_never_queues_up_half_a_second_whenever_it_begins() {
    for begins in 0..50 {
        let mut narrow = Narrow::new();
        narrow.run(5 * SECOND + begins * 80 * MS);
        assert!(!narrow.stats().thinned);
        narrow.limit(0.5);
        narrow.run(14 * SECOND);
        let stats = narrow.stats();
        assert!(stats.thinned, "{begins}");
        assert_eq!(stats.thinnings, 1, "{begins}");
        let carries = stats.carries.unwrap() as f64 / narrow.link;
        assert!((0.98..1.02).contains(&carries), "{begins}: {carries}");
        assert!(narrow.worst.0 <= 400 * MS + narrow.keyframe_soon, "{begins}: {:?}", narrow.worst);
        assert!(stats.probes >= 5, "{begins}: {}", stats.probes);
        narrow.link = WIDE;
        narrow.run(3 * SECOND);
        assert!(!narrow.stats().thinned, "{begins}");
    }
}

#[test]
fn a_path_that_hardly_carries_anything_is_not_flooded_until_it_says_so() {
    for (share, most) in [(0.25, 1_500 * MS), (0.1, 5 * SECOND)] {
        for begins in 0..12 {
            let mut narrow = Narrow::new();
            narrow.run(5 * SECOND + begins * 320 * MS);
            narrow.limit(share);
            narrow.run(14 * SECOND);
            assert!(narrow.stats().thinned, "{share} {begins}");
            assert!(narrow.worst.0 <= most + narrow.keyframe_soon, "{share} {begins}: {:?}", narrow.worst);
        }
    }
}

#[test]
fn a_viewer_that_is_silent_for_a_moment_misses_nothing() {
    for silence in [400 * MS, 700 * MS, 900 * MS] {
        let mut narrow = Narrow::new();
        narrow.run(5 * SECOND);
        narrow.tells_from = narrow.scene.now + silence;
        narrow.run(5 * SECOND);
        assert_eq!(narrow.stats().thinnings, 0, "{silence:?}");
        assert_eq!(narrow.video, narrow.sent_video, "{silence:?}");
        assert!(narrow.worst.0 <= 50 * MS, "{silence:?}: {:?}", narrow.worst);
    }
}

#[test]
fn what_was_told_of_and_got_lost_stops_nothing() {
    for lost in [200 * MS, 400 * MS, 900 * MS] {
        let mut narrow = Narrow::new();
        narrow.run(5 * SECOND);
        narrow.tells_from = narrow.scene.now + lost;
        narrow.run(lost);
        // Nobody will ever hear of these.
        narrow.arrivals.clear();
        narrow.run(5 * SECOND);
        assert_eq!(narrow.stats().thinnings, 0, "{lost:?}");
        assert_eq!(narrow.video, narrow.sent_video, "{lost:?}");
    }
}

#[test]
fn a_viewer_that_falls_silent_for_good_is_thinned_and_one_that_never_spoke_is_not() {
    let mut narrow = Narrow::new();
    narrow.run(5 * SECOND);
    narrow.tells_from = narrow.scene.now + 60 * SECOND;
    narrow.run(2 * SECOND);
    assert!(narrow.stats().thinned);
    let mut narrow = Narrow::new();
    narrow.tells_from = narrow.scene.now + 60 * SECOND;
    narrow.run(20 * SECOND);
    assert_eq!(narrow.stats().thinnings, 0);
    assert_eq!(narrow.video, narrow.sent_video);
}

#[test]
fn a_viewer_that_tells_nonsense_harms_itself_at_most_and_only_while_it_does() {
    // What transport-cc can say: 24 bits of 64 ms (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
    const MOST: i64 = (1 << 24) * 64_000;
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut narrow = Narrow::new();
        let (_, beside) = narrow.scene.joins(GOOD, true);
        narrow.run(5 * SECOND);
        for _ in 0..100 {
            narrow.run(50 * MS);
            let mut numbers: Vec<_> = (0..random.random_range(1..20)).map(|_| SeqNo(random.random())).collect();
            numbers.extend(narrow.arrivals.iter().map(|(_, number)| *number));
            let arrivals = numbers.into_iter().map(|number| (number, random.random_range(0..MOST))).collect();
            narrow.scene.fanout.heard(narrow.viewer, &Heard::Arrivals(arrivals), narrow.scene.now);
        }
        // The shortest way that it told of is the one without a queue for up to twice 15 s.
        narrow.run(45 * SECOND);
        assert!(!narrow.stats().thinned, "{seed}");
        let beside = ViewerStats::default().with(&beside, narrow.scene.now, SystemTime::now());
        assert_eq!((beside.thinnings, beside.refused_runs), (0, 0));
        narrow.scene.only_rtp(GOOD);
        let video = narrow.scene.received(GOOD).iter().filter(|packet| packet.ssrc() == VIDEO).count();
        assert_eq!(video, narrow.sent_video, "{seed}");
    }
}

#[test]
fn packets_that_are_lost_of_a_stream_of_few_pictures_hold_nothing_back() {
    for every in [200, 500, 1_000, 3_000] {
        let mut narrow = Narrow::new();
        (narrow.every, narrow.loses) = (every, 0.1);
        narrow.run(600 * SECOND);
        assert_eq!(narrow.stats().thinnings, 0, "{every}");
        assert_eq!(narrow.video, narrow.sent_video, "{every}");
    }
}

#[test]
fn another_path_is_not_taken_for_silence() {
    let mut narrow = Narrow::new();
    narrow.run(5 * SECOND);
    narrow.tells_from = narrow.scene.now + 60 * SECOND;
    narrow.run(700 * MS);
    assert!(narrow.video < narrow.sent_video, "pictures are held back");
    let path = Path { remote: ([127, 0, 0, 2], WEAK).into(), local: None };
    narrow.scene.fanout.set_path(narrow.viewer, path);
    narrow.arrivals.clear();
    narrow.run(5 * SECOND);
    assert_eq!(narrow.stats().thinnings, 0);
    assert_eq!(narrow.video, narrow.sent_video);
}

#[test]
fn a_socket_that_refuses_what_was_held_back_is_asked_again_with_the_rest() {
    let mut narrow = Narrow::new();
    narrow.run(5 * SECOND);
    narrow.tells_from = narrow.scene.now + 700 * MS;
    narrow.run(700 * MS);
    let missing = narrow.sent_video - narrow.video;
    assert!(missing >= 6 * 3, "{missing} packets are held back");
    narrow.scene.network.broken = true;
    narrow.run(40 * MS);
    narrow.scene.network.broken = false;
    narrow.run(5 * SECOND);
    assert_eq!(narrow.stats().thinnings, 0);
    let lost = narrow.sent_video - narrow.video;
    assert!((1..=4 * 3).contains(&lost), "{lost} of {missing} lost");
}

#[test]
fn what_is_held_back_when_the_camera_pauses_is_not_kept() {
    let mut narrow = Narrow::new();
    narrow.run(5 * SECOND);
    narrow.tells_from = narrow.scene.now + 600 * MS;
    narrow.run(600 * MS);
    assert!(narrow.video < narrow.sent_video, "pictures are held back");
    narrow.every = 1_000_000;
    narrow.run(2 * SECOND);
    assert_eq!(narrow.video, narrow.sent_video);
}

#[test]
fn what_is_held_back_behind_a_keyframe_is_hardly_late() {
    const GROUPS: u32 = 10;
    let mut narrow = Narrow::new();
    // A keyframe takes 0.27 s, and it is known of 0.06 s later.
    narrow.limit(1.05);
    narrow.run(SECOND);
    let (mut held, mut idle) = (0, Duration::ZERO);
    for _ in 0..GROUPS * 4_000 / STEP_MS as u32 {
        narrow.run(STEP_MS as u32 * MS);
        let waits = narrow.sent_video - narrow.video;
        held += waits;
        if waits > 0 && narrow.free_at <= narrow.scene.now {
            idle += STEP_MS as u32 * MS;
        }
    }
    assert!(held > 0, "it takes longer than it takes to be told of");
    assert!(idle / GROUPS < 30 * MS, "the path waits too, {:?} in a group", idle / GROUPS);
    assert_eq!(narrow.stats().thinnings, 0);
}

#[test]
fn keyframes_one_after_the_other_do_not_keep_a_path_from_being_tried() {
    // What is told of one comes when the next one is on its way.
    for keyframe in [50, 75, 100] {
        let mut narrow = Narrow::new();
        (narrow.group, narrow.keyframe, narrow.far) = (25, keyframe, 600 * MS);
        narrow.run(5 * SECOND);
        narrow.limit(0.5);
        narrow.run(10 * SECOND);
        assert!(narrow.stats().thinned, "{keyframe}");
        narrow.link = WIDE;
        narrow.run(8 * SECOND);
        assert!(!narrow.stats().thinned, "{keyframe}: {} probes", narrow.stats().probes);
    }
}

#[test]
fn what_a_short_queue_had_no_room_for_does_not_count_as_carried() {
    for share in [0.25, 0.5] {
        let mut narrow = Narrow::new();
        narrow.room = 150 * MS;
        narrow.run(5 * SECOND);
        narrow.limit(share);
        narrow.run(20 * SECOND);
        let stats = narrow.stats();
        assert!(stats.thinned, "{share}");
        let carries = stats.carries.map_or(0.0, |carries| carries as f64 / narrow.link);
        assert!(carries < 1.3, "{share}: {carries}");
    }
}
