//! Sound and picture of a camera for hours, on virtual time: what a viewer makes of our sender reports and of the
//! timestamps that it gets (RFC 3550 §6.4.1) puts what was captured at one moment within 40 ms.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::clock::StreamClock;
use super::frame::{ClockPoint, Codec};
use super::id::{RtpTime, SeqNo, Ssrc};
use super::receive::TrackReceiver;
use super::rewrite::Rewrite;
use super::rtp::{RtpHeader, RtpPacket};

const LIMIT_MS: f64 = 40.0;
const HOUR: f64 = 3_600.0;
/// Between the camera's sender reports, and between ours.
const CAMERA_REPORTS: f64 = 5.0;
const OUR_REPORTS: f64 = 1.0;
/// Network delay, without and with jitter.
const DELAY: f64 = 0.020;
const JITTER: f64 = 0.030;
/// How long a reboot takes.
const REBOOT: f64 = 40.0;

/// What the camera's sender reports are like.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reports {
    None,
    Right,
    /// Both media report wall clocks of their own.
    OtherEpoch,
    /// The wall clock stands still.
    Frozen,
    /// Timestamps that are not those of the packets.
    MadeUp,
    /// Right ones, but the camera sets its clock by minutes now and then.
    Stepping,
}

/// How a camera is built.
#[derive(Debug, Clone, Copy)]
struct Build {
    reports: Reports,
    sound: Codec,
    /// Error of its video and audio clocks in parts per million.
    drift: [f64; 2],
    /// Seconds that it takes longer for sound than for picture before it sends.
    sound_late: f64,
    /// It reboots in the middle.
    reboots: bool,
}

/// One medium of the camera.
struct Source {
    codec: Codec,
    interval: f64,
    ppm: f64,
    late: f64,
    /// Of this run: media time begins at this true time with this timestamp.
    began: f64,
    first_time: u32,
    seq: u16,
    next: f64,
    next_report: f64,
}

impl Source {
    fn boot(&mut self, at: f64, rng: &mut impl RngExt) {
        (self.began, self.first_time, self.seq) = (at, rng.random(), rng.random());
        (self.next, self.next_report) = (at, at + rng.random_range(0.2..CAMERA_REPORTS));
    }

    /// The timestamp of what is captured at a true time.
    fn timestamp(&self, at: f64) -> u32 {
        let ticks = (at - self.began) * f64::from(self.codec.clock_rate()) * (1.0 + self.ppm / 1e6);
        self.first_time.wrapping_add(ticks as u64 as u32)
    }
}

/// A viewer's knowledge of one track: the last report, as NTP seconds and timestamp.
#[derive(Default, Clone, Copy)]
struct Mapping {
    report: Option<(f64, u32)>,
}

impl Mapping {
    /// When a frame was captured, on the server's wall clock.
    fn captured(&self, timestamp: u32, codec: Codec) -> Option<f64> {
        let (ntp, rtp) = self.report?;
        Some(ntp + f64::from(timestamp.wrapping_sub(rtp) as i32) / f64::from(codec.clock_rate()))
    }
}

/// The worst distance in milliseconds between pictures and sounds of one moment, from the time on from which it
/// can be known.
fn worst(build: Build, hours: f64, seed: u64) -> f64 {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let start = Instant::now();
    let instant = |at: f64| start + Duration::from_secs_f64(at);
    let source = |codec, interval, ppm, late| Source {
        codec,
        interval,
        ppm,
        late,
        began: 0.0,
        first_time: 0,
        seq: 0,
        next: 0.0,
        next_report: 0.0,
    };
    let mut sources =
        [source(Codec::H264, 0.1, build.drift[0], 0.0), source(build.sound, 0.1, build.drift[1], build.sound_late)];
    sources.iter_mut().for_each(|source| source.boot(0.0, &mut rng));
    let (end, mut reboot) = (hours * HOUR, build.reboots.then_some(hours * HOUR / 2.0));

    let mut clock = StreamClock::default();
    let mut receivers = [TrackReceiver::new(), TrackReceiver::new()];
    let mut rewrites = [0, 1].map(|n| Rewrite::new(super::ExtSeq(100), RtpTime((1 << 31) + n * 12_345)));
    let mut points: [Option<ClockPoint>; 2] = [None; 2];
    let mut mappings = [Mapping::default(); 2];
    // Of the last packet of each track: how far the mapping is from the truth.
    let mut errors: [Option<f64>; 2] = [None; 2];
    let (mut next_own, mut worst) = (OUR_REPORTS, 0.0f64);
    // Both tracks have one queue: packets keep their order within a track.
    let mut last_arrival = [0.0f64; 2];

    while sources[0].next < end {
        let of = usize::from(sources[1].next + sources[1].late < sources[0].next);
        let captured = sources[of].next;
        if reboot.is_some_and(|at| captured >= at) {
            reboot = None;
            sources.iter_mut().for_each(|source| source.boot(captured + REBOOT, &mut rng));
            continue;
        }
        let sent = captured + sources[of].late;
        let arrives = (sent + DELAY + rng.random_range(0.0..JITTER)).max(last_arrival[of]);
        last_arrival[of] = arrives;
        // Our reports that are due before.
        while next_own < arrives {
            for n in 0..2 {
                let Some(point) = points[n] else { continue };
                if let Some(time) = rewrites[n].live_time(point.project(instant(next_own))) {
                    mappings[n].report = Some((next_own, time.wire()));
                }
            }
            next_own += OUR_REPORTS;
        }
        let (timestamp, seq, codec) = (sources[of].timestamp(captured), sources[of].seq, sources[of].codec);
        sources[of].seq = seq.wrapping_add(1);
        sources[of].next += sources[of].interval;
        let header = RtpHeader { payload_type: 0, marker: true, seq: SeqNo(seq), timestamp, ssrc: Ssrc(7) };
        let packet = RtpPacket::parse(Bytes::copy_from_slice(&[&header.to_bytes()[..], &[1]].concat())).unwrap();
        let (kind, now) = (codec.kind(), instant(arrives));
        let mut place = |receiver: &mut TrackReceiver, packet: &RtpPacket, rewrite: &mut Rewrite| {
            let placed = receiver.place(packet, codec, false, &|| clock.expected(kind, now), now).ok()?;
            let mut all: Vec<_> = receiver.take_confirmed().map(|(_, placed)| placed).into_iter().collect();
            all.push(placed);
            let mut sent = None;
            for (n, placed) in all.iter().enumerate() {
                if n == 0 && placed.restarted {
                    clock.on_restart(kind);
                }
                points[of] = Some(clock.on_packet(codec, placed.time, now));
                if !rewrite.is_started() {
                    rewrite.start(placed.seq, 0, placed.time);
                }
                sent = rewrite.map(placed.seq, placed.time);
            }
            sent
        };
        let mapped = place(&mut receivers[of], &packet, &mut rewrites[of]);
        errors[of] = mapped.and_then(|(_, time)| mappings[of].captured(time.wire(), codec)).map(|ntp| ntp - captured);
        // Without right reports nobody can know what the camera takes longer for; with them from the second on.
        let known = build.sound_late == 0.0 || captured > 3.0 * CAMERA_REPORTS;
        if let (true, [Some(picture), Some(sound)]) = (known, errors) {
            worst = worst.max((picture - sound).abs() * 1_000.0);
        }
        // The camera's report, which takes its own time.
        if captured >= sources[of].next_report {
            let source = &mut sources[of];
            source.next_report += CAMERA_REPORTS;
            let wall = 1_000_000.0 + captured;
            let (wall, rtp) = match build.reports {
                Reports::None => continue,
                Reports::Right => (wall, source.timestamp(captured)),
                Reports::OtherEpoch => (wall + of as f64 * 86_400.0, source.timestamp(captured)),
                Reports::Frozen => (1_000_000.0, source.timestamp(captured)),
                Reports::MadeUp => (wall, source.timestamp(captured).wrapping_add(1 << (29 + of))),
                Reports::Stepping => (wall + (captured / 600.0).floor() * 90.0, source.timestamp(captured)),
            };
            if let Some(rtp) = receivers[of].continuous_time(rtp) {
                clock.on_sender_report(kind, (wall * 4_294_967_296.0) as u64, rtp, instant(arrives));
            }
        }
    }
    worst
}

const STEADY: Build =
    Build { reports: Reports::None, sound: Codec::Opus, drift: [0.0, 0.0], sound_late: 0.0, reboots: false };

#[test]
fn without_reports_of_the_camera_sound_and_picture_stay_in_step_for_six_hours_and_through_a_reboot() {
    for drift in [[100.0, -100.0], [-100.0, 100.0]] {
        let found = worst(Build { drift, reboots: true, ..STEADY }, 6.0, 1);
        assert!(found <= LIMIT_MS, "{drift:?}: {found:.1} ms");
    }
}

#[test]
fn reports_of_the_camera_make_good_what_it_takes_longer_for_for_six_hours_and_through_a_reboot() {
    for (sound_late, sound) in [(0.3, Codec::Opus), (-0.2, Codec::Pcmu)] {
        let reports = Reports::Right;
        let build = Build { reports, sound, drift: [100.0, -100.0], sound_late, reboots: true };
        let found = worst(build, 6.0, 2);
        assert!(found <= LIMIT_MS, "{build:?}: {found:.1} ms");
    }
}

#[test]
fn wrong_reports_of_the_camera_change_nothing() {
    for reports in [Reports::OtherEpoch, Reports::Frozen, Reports::MadeUp] {
        let found = worst(Build { reports, drift: [-100.0, 100.0], reboots: true, ..STEADY }, 2.0, 3);
        assert!(found <= LIMIT_MS, "{reports:?}: {found:.1} ms");
    }
}

#[test]
fn a_camera_that_sets_its_wall_clock_again_and_again_stays_in_step() {
    let build = Build { reports: Reports::Stepping, drift: [100.0, -100.0], sound_late: 0.25, ..STEADY };
    let found = worst(build, 2.0, 4);
    assert!(found <= LIMIT_MS, "{found:.1} ms");
}
