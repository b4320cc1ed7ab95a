//! Whole paths on virtual time: a camera, a link with a token bucket and a queue, a browser that reports.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::probe::{PROBE_FACTOR, PROBE_TIME};
use super::*;
use crate::egress::loss::LossMeter;
use crate::egress::stats::ViewerStats;
use crate::media::SeqNo;
use crate::media::rtcp::ReportBlock;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// One way without a queue.
const WAY: Duration = Duration::from_millis(10);
const PACKET: usize = 1_200;
/// What the camera sends, in bit/s, keyframes included.
const RATE: f64 = 2e6;
const FRAME: Duration = Duration::from_millis(40);
const GOP_FRAMES: u64 = 100;
/// A keyframe is that many times as large as another frame.
const KEYFRAME: usize = 6;

#[derive(Clone, Copy)]
struct Link {
    rate: f64,
    bucket: usize,
    queue: usize,
    loss: f64,
    jitter: Duration,
}

const WIDE: Link = Link { rate: 100e6, bucket: 10_000, queue: 1 << 20, loss: 0.0, jitter: Duration::ZERO };
/// Half the rate, and a queue of ten seconds.
const HALF_DEEP: Link = Link { rate: 1e6, queue: 1_250_000, ..WIDE };
/// Half the rate, and a queue of 100 ms.
const HALF_SHALLOW: Link = Link { rate: 1e6, queue: 12_500, ..WIDE };

#[derive(Clone, Copy, PartialEq)]
enum Browser {
    /// Reports arrival times.
    Modern,
    /// Receiver reports only.
    Plain,
}

/// A browser's receive statistics (RFC 3550 A.3). Like Chromium, it reports beside every NACK, and once a second.
#[derive(Default)]
struct Receiver {
    on_the_way: Vec<(Instant, u32)>,
    highest: u32,
    received: u32,
    /// Highest number and packets lost of the last report.
    reported: (u32, u32),
}

impl Receiver {
    /// What has arrived until now. Returns whether something was missing, which may only have been overtaken.
    fn receive(&mut self, now: Instant) -> bool {
        let mut arrived: Vec<_> = self.on_the_way.extract_if(.., |(arrives, _)| *arrives <= now).collect();
        arrived.sort_unstable();
        let mut missing = false;
        for (_, seq) in arrived {
            self.received += 1;
            missing |= seq > self.highest + 1;
            self.highest = self.highest.max(seq);
        }
        missing
    }

    fn report(&mut self) -> ReportBlock {
        let lost = self.highest - self.received;
        let (highest_before, lost_before) = std::mem::replace(&mut self.reported, (self.highest, lost));
        let (expected, lost_since) = (self.highest - highest_before, lost.saturating_sub(lost_before));
        ReportBlock {
            fraction_lost: (lost_since * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            cumulative_lost: lost as i32,
            highest_seq: self.highest,
            ..ReportBlock::default()
        }
    }
}

struct Path {
    start: Instant,
    now: Instant,
    link: Link,
    /// What the camera sends, in bit/s.
    rate: f64,
    receiver: Receiver,
    meter: LossMeter,
    next_seq: u32,
    /// The largest fraction that a report named.
    worst_fraction: u8,
    free_at: Instant,
    random: StdRng,
    browser: Browser,
    thinning: Thinning,
    frame: u64,
    wants_keyframe: Option<Instant>,
    keyframes_asked: u32,
    probe: Option<(Instant, usize)>,
    probes: u32,
    bytes: u32,
    next_mark: SeqNo,
    arrivals: Vec<(Left, Instant)>,
    /// Times at which it was thinned, and at which everything went on.
    changes: Vec<(Duration, bool)>,
    reason: Option<ThinReason>,
    carries: Option<u64>,
    worst: Duration,
}

impl Path {
    fn new(browser: Browser, link: Link) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            link,
            rate: RATE,
            receiver: Receiver::default(),
            meter: LossMeter::default(),
            next_seq: 1,
            worst_fraction: 0,
            free_at: start,
            random: StdRng::seed_from_u64(7),
            browser,
            thinning: Thinning::new(browser == Browser::Modern, start),
            frame: 0,
            wants_keyframe: None,
            keyframes_asked: 0,
            probe: None,
            probes: 0,
            // It is about to wrap.
            bytes: u32::MAX - 100_000,
            next_mark: SeqNo(u16::MAX - 10),
            arrivals: Vec::new(),
            changes: Vec::new(),
            reason: None,
            carries: None,
            worst: Duration::ZERO,
        }
    }

    fn at(&self) -> Duration {
        self.now - self.start
    }

    /// Sends one packet; when it arrives, if it does.
    fn send(&mut self, marked: bool) -> Option<Instant> {
        self.bytes = self.bytes.wrapping_add(PACKET as u32);
        if marked {
            self.next_mark.0 = self.next_mark.0.wrapping_add(1);
        }
        let bits = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / self.link.rate);
        let begins = self.free_at.max(self.now.checked_sub(bits(self.link.bucket)).unwrap_or(self.start));
        let full = begins > self.now && begins - self.now > bits(self.link.queue);
        if full || self.random.random_bool(self.link.loss) {
            return None;
        }
        self.free_at = begins + bits(PACKET);
        let arrives = self.free_at.max(self.now) + WAY + self.link.jitter.mul_f64(self.random.random());
        if marked && self.browser == Browser::Modern {
            self.arrivals.push((Left { at: self.now, bytes: self.bytes, number: self.next_mark }, arrives));
        }
        Some(arrives)
    }

    fn run(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while self.now < end {
            let ms = self.at().as_millis();
            if ms.is_multiple_of(FRAME.as_millis()) {
                self.camera();
            }
            if ms.is_multiple_of(10) {
                self.send_probe();
            }
            if ms.is_multiple_of(50) {
                self.feedback();
            }
            if self.receiver.receive(self.now) || ms.is_multiple_of(1_000) {
                self.report();
            }
            if ms.is_multiple_of(200) {
                self.poll();
            }
            self.now += MS;
        }
        self
    }

    fn report(&mut self) {
        let queue = self.free_at.saturating_duration_since(self.now);
        let report = self.receiver.report();
        self.worst_fraction = self.worst_fraction.max(report.fraction_lost);
        let loss = ViewerStats::default().on_report(&report, &mut self.meter, self.now);
        self.thinning.on_report(loss, Some(WAY * 2 + queue), self.now);
        self.poll();
    }

    fn camera(&mut self) {
        let asked = self.wants_keyframe.take_if(|at| self.now >= *at).is_some();
        let keyframe = self.frame == 0 || asked;
        self.frame = if keyframe { 1 } else { (self.frame + 1) % GOP_FRAMES };
        let small = self.rate / 8.0 * FRAME.as_secs_f64() / PACKET as f64;
        let packets = if keyframe { small * KEYFRAME as f64 } else { small }.round() as usize;
        if keyframe && self.thinning.on_keyframe(self.now) {
            self.changes.push((self.at(), false));
        }
        if self.thinning.is_thinned() && !keyframe {
            return;
        }
        for packet in 0..packets {
            let arrives = self.send(packet + 1 == packets);
            self.receiver.on_the_way.extend(arrives.map(|arrives| (arrives, self.next_seq)));
            self.next_seq += 1;
            if !keyframe {
                self.worst = self.worst.max(arrives.map_or(Duration::ZERO, |at| at - self.now));
            }
        }
    }

    fn send_probe(&mut self) {
        let Some((until, sent)) = self.probe else { return };
        if self.now >= until {
            self.probe = None;
            return self.thinning.probe_sent(sent, self.now - 10 * MS);
        }
        let packets = (self.rate * PROBE_FACTOR / 100.0 / 8.0 / PACKET as f64).round() as usize;
        for _ in 0..packets {
            self.send(true);
        }
        self.probe = Some((until, sent + packets));
    }

    fn feedback(&mut self) {
        let (now, start) = (self.now, self.start);
        // The feedback is on its way back as long.
        let mut ready: Vec<_> = self.arrivals.extract_if(.., |(_, arrives)| *arrives + WAY <= now).collect();
        ready.sort_unstable_by_key(|(_, arrives)| *arrives);
        for (left, arrives) in ready {
            // The viewer's clock has another zero.
            self.thinning.on_arrival(left, (arrives - start).as_micros() as i64 + 123_456_789, now);
        }
        self.poll();
    }

    fn poll(&mut self) {
        match self.thinning.poll(self.bytes, self.now) {
            Some(Step::Thin(reason)) => {
                (self.reason, self.carries) = (Some(reason), self.thinning.carries());
                self.changes.push((self.at(), true));
            }
            Some(Step::Probe) => {
                self.probes += 1;
                self.probe = Some((self.now + PROBE_TIME, 0));
            }
            Some(Step::StopProbe) => self.probe = None,
            Some(Step::Resume) => {
                self.keyframes_asked += 1;
                self.wants_keyframe.get_or_insert(self.now + 200 * MS);
            }
            None => {}
        }
    }

    fn thinnings(&self) -> usize {
        self.changes.iter().filter(|(_, thinned)| *thinned).count()
    }
}

#[test]
fn a_path_that_is_wide_enough_is_left_alone() {
    for browser in [Browser::Modern, Browser::Plain] {
        for rate in [100e6, 8e6, 4e6] {
            let path = &mut Path::new(browser, Link { rate, ..WIDE });
            path.run(60 * SECOND);
            assert_eq!(path.changes, [], "{rate}");
        }
    }
}

#[test]
fn random_loss_and_jitter_without_a_limit_thin_nobody() {
    for browser in [Browser::Modern, Browser::Plain] {
        for loss in [0.01, 0.05, 0.10] {
            for (rate, jitter) in [(RATE, 30), (RATE, 60), (400e3, 30), (8e6, 30)] {
                let path = &mut Path::new(browser, Link { loss, jitter: jitter * MS, ..WIDE });
                path.rate = rate;
                path.run(120 * SECOND);
                assert_eq!(path.changes, [], "{loss} {rate} {jitter}");
            }
        }
    }
}

#[test]
fn packets_that_overtake_each_other_are_loss_in_reports_and_none_on_the_path() {
    for browser in [Browser::Modern, Browser::Plain] {
        let path = &mut Path::new(browser, Link { jitter: 30 * MS, ..WIDE });
        path.run(120 * SECOND);
        assert!(path.worst_fraction > 128, "the reports say what they say in browsers: {}", path.worst_fraction);
        assert_eq!(path.changes, []);
    }
}

#[test]
fn half_the_rate_with_a_deep_queue_thins_before_the_delay_is_half_a_second() {
    let path = &mut Path::new(Browser::Modern, WIDE);
    path.run(5 * SECOND).link = HALF_DEEP;
    path.run(20 * SECOND);
    assert_eq!(path.reason, Some(ThinReason::Delay));
    assert!(path.worst < 500 * MS, "{:?}", path.worst);
    assert_eq!(path.thinnings(), 1, "{:?}", path.changes);
    let carries = path.carries.unwrap() as f64;
    assert!((0.95e6..1.05e6).contains(&carries), "{carries}");
    assert_eq!(path.keyframes_asked, 0, "a path that cannot carry the stream bothers no camera");
    assert!(path.probes >= 10, "{}", path.probes);
}

#[test]
fn half_the_rate_with_a_shallow_queue_thins_for_loss() {
    for browser in [Browser::Modern, Browser::Plain] {
        let path = &mut Path::new(browser, WIDE);
        path.run(5 * SECOND).link = HALF_SHALLOW;
        path.run(3 * SECOND);
        assert!(path.thinnings() > 0, "{:?}", path.changes);
    }
}

#[test]
fn without_arrival_times_the_round_trip_tells() {
    let path = &mut Path::new(Browser::Plain, WIDE);
    path.run(5 * SECOND).link = HALF_DEEP;
    path.run(3 * SECOND);
    assert_eq!(path.reason, Some(ThinReason::Delay));
}

#[test]
fn everything_is_back_within_three_seconds_of_the_end_of_the_limit_whenever_that_is() {
    for tenths in 0..12 {
        for limit in [HALF_DEEP, HALF_SHALLOW] {
            let path = &mut Path::new(Browser::Modern, WIDE);
            path.run(5 * SECOND).link = limit;
            path.run(10 * SECOND + tenths * 100 * MS).link = WIDE;
            let lifted = path.at();
            path.run(10 * SECOND);
            let (back, thinned) = *path.changes.last().unwrap();
            assert!(!thinned && back <= lifted + 3 * SECOND, "{lifted:?} {:?}", path.changes);
        }
    }
}

#[test]
fn without_probes_the_stream_is_tried_ever_more_rarely() {
    let path = &mut Path::new(Browser::Plain, WIDE);
    path.run(5 * SECOND).link = HALF_SHALLOW;
    path.run(300 * SECOND);
    let tries: Vec<_> = path.changes.iter().filter(|(_, thinned)| !thinned).map(|(at, _)| *at).collect();
    assert!((3..=16).contains(&tries.len()), "{tries:?}");
    path.link = WIDE;
    path.run(40 * SECOND);
    assert!(!path.thinning.is_thinned());
}

#[test]
fn a_bucket_larger_than_a_probe_lets_it_pass_but_not_for_long() {
    // 500 kB at once, then half the rate: every probe looks fine and the stream never is.
    let path = &mut Path::new(Browser::Modern, WIDE);
    path.run(5 * SECOND).link = Link { bucket: 500_000, ..HALF_DEEP };
    path.run(300 * SECOND);
    assert!((2..=16).contains(&path.thinnings()), "{:?}", path.changes);
    // The keyframe of a try that was in vain takes half a second itself.
    assert!(path.worst < 800 * MS, "{:?}", path.worst);
}

#[test]
fn a_path_that_is_just_too_narrow_keeps_the_delay_within_half_a_second() {
    for share in [0.6, 0.75, 0.9, 0.97] {
        let path = &mut Path::new(Browser::Modern, WIDE);
        path.run(5 * SECOND).link = Link { rate: RATE * share, ..HALF_DEEP };
        path.run(120 * SECOND);
        assert!(path.thinnings() > 0, "{share}");
        assert!(path.worst < 500 * MS, "{share}: {:?}", path.worst);
        assert!(path.thinnings() <= 12, "{share}: {:?}", path.changes);
    }
}

#[test]
fn a_stall_of_the_radio_that_ends_by_itself_is_no_queue() {
    let path = &mut Path::new(Browser::Modern, Link { queue: 10 << 20, ..WIDE });
    path.run(5 * SECOND);
    for _ in 0..20 {
        // Nothing gets through for 250 ms, then everything at once.
        path.free_at = path.now + 250 * MS;
        path.run(3 * SECOND);
    }
    assert_eq!(path.changes, []);
}

#[test]
fn the_burst_of_a_viewers_start_drains_without_thinning() {
    let path = &mut Path::new(Browser::Modern, Link { rate: 8e6, queue: 10 << 20, ..WIDE });
    path.run(MS);
    // A megabyte at once: a second of this link.
    path.free_at = path.now + SECOND;
    path.run(10 * SECOND);
    assert_eq!(path.changes, []);
}

#[test]
fn a_remb_counts_beside_loss_and_only_then() {
    let now = Instant::now();
    let mut thinning = Thinning::new(false, now);
    let later = now + 5 * SECOND;
    thinning.on_remb(600_000, 2_000_000, later);
    assert_eq!(thinning.poll(0, later), None, "it is bounded by what was received");
    thinning.on_report(Some(Loss { fraction: 0.16, since: later }), None, later + SECOND);
    assert_eq!(thinning.poll(0, later + SECOND), Some(Step::Thin(ThinReason::Bandwidth)));
}

#[test]
fn a_socket_that_refuses_frame_after_frame_thins_and_a_single_refusal_does_not() {
    let now = Instant::now();
    let mut thinning = Thinning::new(false, now);
    for second in 0..10 {
        thinning.on_refused(now + second * 2 * SECOND);
        assert_eq!(thinning.poll(0, now), None);
    }
    let now = now + 30 * SECOND;
    (0..3).for_each(|n| thinning.on_refused(now + n * FRAME));
    assert_eq!(thinning.poll(0, now + 3 * FRAME), Some(Step::Thin(ThinReason::Blocked)));
}
