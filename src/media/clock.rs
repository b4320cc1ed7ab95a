//! Which server time a media timestamp belongs to, the same for sound and picture of a stream.
//!
//! Each track has a clock of its own: the earliest arrivals of the last seconds tell it, as the network only ever
//! adds delay. That makes no difference of what the camera itself takes longer for, so the camera's sender reports
//! tell how much later simultaneous sound arrives than picture (RFC 3550 §6.4.1), and the sound's clock is set
//! back by that. What was learnt once stays: it is the way that the camera is built. Reports that contradict each
//! other or what arrives are not believed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::{ClockPoint, Codec, MediaKind};
use super::id::RtpTime;
use super::receive::ticks;

/// Arrivals of this long tell a clock: enough of them for one that was not delayed, and so short that clocks which
/// drift by 100 ppm part by 1 ms.
const WINDOW: Duration = Duration::from_secs(10);
const BUCKET: Duration = Duration::from_secs(1);
/// An arrival this much earlier or later than the estimate means that the media clock was restarted.
const RESTART: Duration = Duration::from_secs(2);
/// Before this a clock may still be told by delayed packets alone.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Two reports of one track agree if their wall clock and their timestamps advance alike: within this …
const REPORT_TOLERANCE: i128 = 20 * MILLISECOND;
/// … and this share of the time between them.
const REPORT_DRIFT: i128 = 1_000;
/// Reports of both tracks that lie further apart are not compared: wall clocks of their own, or an old report.
const MAX_APART: i128 = 15_000 * MILLISECOND;
/// A report tells of the moment at which it is sent; a timestamp further from it is made up.
const MAX_FROM_NOW: Duration = Duration::from_secs(5);
/// No camera takes this much longer for its sound than for its picture.
const MAX_SKEW: i128 = 1_000 * MILLISECOND;
/// Differences of which the middle one counts.
const SKEWS: usize = 5;

/// Time is counted in nanoseconds.
const MILLISECOND: i128 = 1_000_000;
const SECOND: i128 = 1_000 * MILLISECOND;

/// Clocks of both tracks of a stream.
#[derive(Debug, Default)]
pub struct StreamClock {
    tracks: [Option<TrackClock>; 2],
    reports: [Reports; 2],
    /// How much later the sound arrives than the picture of the same moment, as the last reports said.
    skews: VecDeque<i128>,
    skew: i128,
}

/// Earliest-arrival estimate of one track.
#[derive(Debug)]
struct TrackClock {
    rate: u32,
    /// Where delays are counted from.
    origin: (Instant, RtpTime),
    /// The least delay of each second, against the origin.
    least: VecDeque<(Instant, i128)>,
}

/// The last sender report of a track, and whether the one before agrees with it.
#[derive(Debug, Default, Clone, Copy)]
struct Reports {
    last: Option<CameraReport>,
    agree: bool,
}

/// A sender report of the camera: its wall clock (NTP, 2⁻³² s) at a timestamp.
#[derive(Debug, Clone, Copy)]
struct CameraReport {
    ntp: u64,
    rtp: RtpTime,
}

impl StreamClock {
    /// A packet of `codec` with continuous timestamp `time` arrived at `now`. Returns the track's clock.
    pub fn on_packet(&mut self, codec: Codec, time: RtpTime, now: Instant) -> ClockPoint {
        let (kind, rate) = (codec.kind(), codec.clock_rate());
        let track = match &mut self.tracks[kind.index()] {
            Some(track) if track.rate == rate && track.takes(time, now) => track,
            other => other.insert(TrackClock { rate, origin: (now, time), least: VecDeque::new() }),
        };
        let late = track.on_packet(time, now);
        let later = match kind {
            MediaKind::Video => late,
            MediaKind::Audio => late + self.skew,
        };
        let away = Duration::from_nanos(later.unsigned_abs() as u64);
        let at = if later < 0 { now + away } else { now.checked_sub(away).unwrap_or(now) };
        ClockPoint { at, rtp: time, rate }
    }

    /// The timestamp that a packet would have that arrived at `now` without delay.
    pub fn expected(&self, kind: MediaKind, now: Instant) -> Option<RtpTime> {
        let track = self.tracks[kind.index()].as_ref()?;
        let elapsed = nanos(now, track.origin.0) - track.least()?;
        let ahead = elapsed * i128::from(track.rate) / SECOND;
        Some(RtpTime(track.origin.1.0.saturating_add_signed(ahead as i64)))
    }

    /// The camera reported at `now` that its clock showed `ntp` at the continuous timestamp `rtp`.
    pub fn on_sender_report(&mut self, kind: MediaKind, ntp: u64, rtp: RtpTime, now: Instant) {
        let Some(track) = &self.tracks[kind.index()] else { return };
        let near = |expected: RtpTime| expected.0.abs_diff(rtp.0) <= ticks(MAX_FROM_NOW, track.rate);
        if self.expected(kind, now).is_some_and(near) {
            self.reports[kind.index()].add(CameraReport { ntp, rtp }, track.rate);
        } else {
            self.reports[kind.index()] = Reports::default();
        }
        if let Some(skew) = self.measure(now) {
            if self.skews.len() == SKEWS {
                self.skews.pop_front();
            }
            self.skews.push_back(skew);
            let mut sorted: Vec<i128> = self.skews.iter().copied().collect();
            sorted.sort_unstable();
            self.skew = sorted[sorted.len() / 2];
        }
    }

    /// The camera restarted: its reports of before say nothing any more. Its ways are the same.
    pub fn on_restart(&mut self, kind: MediaKind) {
        self.tracks[kind.index()] = None;
        self.reports = [Reports::default(); 2];
    }

    fn measure(&self, now: Instant) -> Option<i128> {
        let ([video, audio], [Some(picture), Some(sound)]) = (self.reports, &self.tracks) else { return None };
        let settled = |track: &TrackClock| now.saturating_duration_since(track.origin.0) >= SETTLED_AFTER;
        if !(video.agree && audio.agree && settled(picture) && settled(sound)) {
            return None;
        }
        let (video, audio) = (video.last?, audio.last?);
        let apart = ntp_nanos(audio.ntp, video.ntp);
        let arrived_apart =
            nanos(sound.origin.0, picture.origin.0) + sound.arrival(audio.rtp)? - picture.arrival(video.rtp)?;
        let skew = arrived_apart - apart;
        (apart.abs() <= MAX_APART && skew.abs() <= MAX_SKEW).then_some(skew)
    }
}

impl TrackClock {
    /// Whether the packet can be one of this clock.
    fn takes(&self, time: RtpTime, now: Instant) -> bool {
        self.least().is_some_and(|least| (self.delay(time, now) - least).unsigned_abs() <= RESTART.as_nanos())
    }

    /// How much later than the earliest the packet came.
    fn on_packet(&mut self, time: RtpTime, now: Instant) -> i128 {
        let delay = self.delay(time, now);
        match self.least.back_mut() {
            Some((since, least)) if now.saturating_duration_since(*since) < BUCKET => *least = delay.min(*least),
            _ => self.least.push_back((now, delay)),
        }
        while self.least.len() > 1
            && self.least.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > WINDOW)
        {
            self.least.pop_front();
        }
        delay - self.least().unwrap_or(delay)
    }

    fn delay(&self, time: RtpTime, now: Instant) -> i128 {
        nanos(now, self.origin.0) - self.since_origin(time)
    }

    fn least(&self) -> Option<i128> {
        self.least.iter().map(|(_, least)| *least).min()
    }

    /// When a packet of this timestamp arrives without delay, after the origin.
    fn arrival(&self, time: RtpTime) -> Option<i128> {
        Some(self.since_origin(time) + self.least()?)
    }

    fn since_origin(&self, time: RtpTime) -> i128 {
        (i128::from(time.0) - i128::from(self.origin.1.0)) * SECOND / i128::from(self.rate)
    }
}

impl Reports {
    fn add(&mut self, report: CameraReport, rate: u32) {
        if let Some(last) = self.last {
            let media = (i128::from(report.rtp.0) - i128::from(last.rtp.0)) * SECOND / i128::from(rate);
            let wall = ntp_nanos(report.ntp, last.ntp);
            if media == 0 && wall == 0 {
                // The same one twice.
                return;
            }
            let off = (wall - media).abs();
            self.agree = media > 0 && off <= REPORT_TOLERANCE + media / REPORT_DRIFT;
        }
        self.last = Some(report);
    }
}

fn nanos(later: Instant, earlier: Instant) -> i128 {
    match later.checked_duration_since(earlier) {
        Some(ahead) => ahead.as_nanos() as i128,
        None => -((earlier - later).as_nanos() as i128),
    }
}

/// From `b` to `a`, the shorter way around (RFC 5905 §6).
fn ntp_nanos(a: u64, b: u64) -> i128 {
    (i128::from(a.wrapping_sub(b) as i64) * SECOND) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const VIDEO: Codec = Codec::H264;
    const AUDIO: Codec = Codec::Opus;

    fn millis(point: ClockPoint, rtp: u64, start: Instant) -> i64 {
        let ahead = rtp as i64 - point.rtp.0 as i64;
        (nanos(point.at, start) / MILLISECOND) as i64 + ahead * 1_000 / i64::from(point.rate)
    }

    /// Picture and sound of one moment each 20 ms; the sound arrives `sound_late` after the picture.
    fn run(clock: &mut StreamClock, start: Instant, from: u64, to: u64, sound_late: Duration) -> ClockPoint {
        let mut last = None;
        for n in from..to {
            let now = start + 20 * MS * n as u32;
            clock.on_packet(VIDEO, RtpTime((1 << 32) + n * 1_800), now);
            last = Some(clock.on_packet(AUDIO, RtpTime((2 << 32) + n * 960), now + sound_late));
        }
        last.unwrap()
    }

    fn report(clock: &mut StreamClock, start: Instant, seconds: u64) {
        let (now, ntp) = (start + 1_000 * MS * seconds as u32, (500 + seconds) << 32);
        clock.on_sender_report(MediaKind::Video, ntp, RtpTime((1 << 32) + seconds * 90_000), now);
        clock.on_sender_report(MediaKind::Audio, ntp, RtpTime((2 << 32) + seconds * 48_000), now);
    }

    #[test]
    fn late_packets_do_not_move_the_clock_and_early_ones_do() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.on_packet(VIDEO, RtpTime(1_000_000), start);
        let late = clock.on_packet(VIDEO, RtpTime(1_003_600), start + 90 * MS);
        assert_eq!(millis(late, 1_003_600, start), 40);
        let early = clock.on_packet(VIDEO, RtpTime(1_007_200), start + 70 * MS);
        assert_eq!(millis(early, 1_007_200, start), 70);
    }

    #[test]
    fn a_way_that_became_longer_is_believed_after_ten_seconds_and_not_before() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        let arrives = |clock: &mut StreamClock, n: u64, late: Duration| {
            clock.on_packet(VIDEO, RtpTime(1_000_000 + n * 3_600), start + 40 * MS * n as u32 + late)
        };
        for n in 0..250 {
            arrives(&mut clock, n, Duration::ZERO);
        }
        for n in 250..460 {
            let point = arrives(&mut clock, n, 300 * MS);
            assert_eq!(millis(point, 1_000_000, start), 0, "{n}");
        }
        for n in 460..760 {
            arrives(&mut clock, n, 300 * MS);
        }
        assert_eq!(millis(arrives(&mut clock, 760, 300 * MS), 1_000_000, start), 300);
    }

    #[test]
    fn reports_tie_sound_to_picture_however_late_the_sound_arrives() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        run(&mut clock, start, 0, 200, 500 * MS);
        report(&mut clock, start, 2);
        let before = run(&mut clock, start, 200, 250, 500 * MS);
        assert_eq!(millis(before, 2 << 32, start), 500, "one report may be wrong");
        report(&mut clock, start, 3);
        let after = run(&mut clock, start, 250, 300, 500 * MS);
        assert_eq!(millis(after, 2 << 32, start), 0);
        // That is how the camera is built: without reports and after a restart as well.
        let long_after = run(&mut clock, start, 300, 3_000, 500 * MS);
        assert_eq!(millis(long_after, 2 << 32, start), 0);
        clock.on_restart(MediaKind::Audio);
        assert_eq!(millis(run(&mut clock, start, 3_000, 3_001, 500 * MS), 2 << 32, start), 0);
    }

    #[test]
    fn reports_that_cannot_be_are_not_believed() {
        type Odd = fn(u64) -> (u64, u64);
        let odd: [(&str, Odd); 4] = [
            ("stands still", |_| (500 << 32, 0)),
            ("has a day of its own", |seconds| ((86_900 + seconds) << 32, seconds * 48_000)),
            ("has timestamps of nothing", |seconds| ((500 + seconds) << 32, (1 << 31) + seconds * 48_000)),
            ("counts in another rate", |seconds| ((500 + seconds) << 32, seconds * 8_000)),
        ];
        for (what, report) in odd {
            let (mut clock, start) = (StreamClock::default(), Instant::now());
            let mut last = run(&mut clock, start, 0, 50, 30 * MS);
            for seconds in 1..20 {
                let now = start + 1_000 * MS * seconds as u32;
                let (ntp, rtp) = report(seconds);
                let picture = RtpTime((1 << 32) + seconds * 90_000);
                clock.on_sender_report(MediaKind::Video, (500 + seconds) << 32, picture, now);
                clock.on_sender_report(MediaKind::Audio, ntp, RtpTime((2 << 32) + rtp), now);
                last = run(&mut clock, start, seconds * 50, seconds * 50 + 50, 30 * MS);
            }
            assert_eq!(millis(last, 2 << 32, start), 30, "a clock that {what}");
        }
    }

    #[test]
    fn a_camera_that_sets_its_wall_clock_between_two_reports_moves_nothing() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        let mut last = run(&mut clock, start, 0, 50, 100 * MS);
        for seconds in 1..20u64 {
            let now = start + 1_000 * MS * seconds as u32;
            let ntp = |step: u64| ((500 + seconds) << 32) + (step << 31);
            // Half a second later from the 10th report on; the picture's report of then had gone out.
            let (before, after) = (ntp(u64::from(seconds > 10)), ntp(u64::from(seconds >= 10)));
            clock.on_sender_report(MediaKind::Video, before, RtpTime((1 << 32) + seconds * 90_000), now);
            clock.on_sender_report(MediaKind::Audio, after, RtpTime((2 << 32) + seconds * 48_000), now);
            last = run(&mut clock, start, seconds * 50, seconds * 50 + 50, 100 * MS);
            if seconds > 2 {
                assert_eq!(millis(last, 2 << 32, start), 0, "after {seconds} s");
            }
        }
        assert_eq!(last.rate, 48_000);
    }

    #[test]
    fn a_restart_takes_the_new_arrival_at_once() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.on_packet(VIDEO, RtpTime(1_000_000), start);
        let point = clock.on_packet(VIDEO, RtpTime(9_000_000), start + 10 * MS);
        assert_eq!(point, ClockPoint { at: start + 10 * MS, rtp: RtpTime(9_000_000), rate: 90_000 });
    }

    #[test]
    fn another_codec_has_another_rate() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.on_packet(Codec::Opus, RtpTime(1_000_000), start);
        clock.on_packet(Codec::Pcmu, RtpTime(1_000_960), start + 20 * MS);
        let point = clock.on_packet(Codec::Pcmu, RtpTime(1_001_120), start + 45 * MS);
        assert_eq!((point.rate, millis(point, 1_001_120, start)), (8_000, 40));
        assert_eq!(clock.expected(MediaKind::Audio, start + 60 * MS), Some(RtpTime(1_001_280)));
    }
}
