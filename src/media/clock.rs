//! Which server time a media timestamp belongs to, the same for sound and picture of a stream.
//!
//! Without sender reports the earliest arrivals tell (network delay only ever adds). With sender
//! reports of both tracks the camera's own clock ties them together, and only the picture's arrivals
//! anchor that clock to ours (RFC 3550 §6.4.1).

use std::time::{Duration, Instant};

use super::frame::{ClockPoint, MediaKind};
use super::id::RtpTime;
use super::receive::ticks;

/// How fast an estimate may move later again: clocks of cameras drift by less than this.
const MAX_DRIFT_PPM: u128 = 200;
/// An arrival this much earlier or later than the estimate means that the media clock was restarted.
const RESTART: Duration = Duration::from_secs(2);

/// Clocks of both tracks of a stream.
#[derive(Debug, Default)]
pub struct StreamClock {
    tracks: [Option<TrackClock>; 2],
    reports: [Option<CameraReport>; 2],
}

/// Earliest-arrival estimate of one track.
#[derive(Debug, Clone, Copy)]
struct TrackClock {
    point: ClockPoint,
    updated: Instant,
}

/// A sender report of the camera: its wall clock (NTP, 2⁻³² s) at a timestamp.
#[derive(Debug, Clone, Copy)]
struct CameraReport {
    ntp: u64,
    rtp: RtpTime,
}

impl StreamClock {
    /// A packet of `kind` with continuous timestamp `time` arrived at `now`. Returns the track's clock.
    pub fn on_packet(&mut self, kind: MediaKind, time: RtpTime, now: Instant) -> ClockPoint {
        let rate = kind.clock_rate();
        let arrival = ClockPoint { at: now, rtp: time };
        let estimate = match self.tracks[kind.index()] {
            None => arrival,
            Some(TrackClock { point, updated }) => {
                let expected = point.project(now, rate);
                let elapsed = now.saturating_duration_since(updated);
                let allowance = ticks(elapsed, rate) as u128 * MAX_DRIFT_PPM / 1_000_000;
                if expected.0.abs_diff(time.0) > ticks(RESTART, rate) {
                    arrival
                } else {
                    // A packet that is early against the estimate corrects it; otherwise it drifts later slowly.
                    let later = RtpTime(expected.0.saturating_sub(allowance as u64));
                    ClockPoint { at: now, rtp: later.max(time) }
                }
            }
        };
        self.tracks[kind.index()] = Some(TrackClock { point: estimate, updated: now });
        self.point(kind).unwrap_or(estimate)
    }

    /// The camera reported that its clock showed `ntp` at the continuous timestamp `rtp`.
    pub fn on_sender_report(&mut self, kind: MediaKind, ntp: u64, rtp: RtpTime) {
        self.reports[kind.index()] = Some(CameraReport { ntp, rtp });
    }

    /// The camera restarted: its reports of before say nothing any more.
    pub fn on_restart(&mut self, kind: MediaKind) {
        self.tracks[kind.index()] = None;
        self.reports = [None; 2];
    }

    fn point(&self, kind: MediaKind) -> Option<ClockPoint> {
        let own = self.tracks[kind.index()]?.point;
        if kind == MediaKind::Video {
            return Some(own);
        }
        let ([Some(video), Some(audio)], Some(anchor)) = (self.reports, self.tracks[MediaKind::Video.index()]) else {
            return Some(own);
        };
        // Video timestamp at the instant (on the camera's clock) of the audio report, then to our clock.
        let video_rate = MediaKind::Video.clock_rate();
        let apart = (audio.ntp.wrapping_sub(video.ntp) as i64 as i128 * i128::from(video_rate)) >> 32;
        let video_time = RtpTime(video.rtp.0.saturating_add_signed(apart as i64));
        let ahead = video_time.0 as i64 - anchor.point.rtp.0 as i64;
        let offset = Duration::from_secs_f64(ahead.unsigned_abs() as f64 / f64::from(video_rate));
        let at = if ahead >= 0 { anchor.point.at + offset } else { anchor.point.at.checked_sub(offset)? };
        Some(ClockPoint { at, rtp: audio.rtp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn millis(point: ClockPoint, rtp: u64, rate: u32, start: Instant) -> i64 {
        let ahead = rtp as i64 - point.rtp.0 as i64;
        point.at.duration_since(start).as_millis() as i64 + ahead * 1_000 / i64::from(rate)
    }

    #[test]
    fn late_packets_do_not_move_the_clock_and_early_ones_do() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.on_packet(MediaKind::Video, RtpTime(1_000_000), start);
        let late = clock.on_packet(MediaKind::Video, RtpTime(1_003_600), start + 90 * MS);
        assert!((39..=41).contains(&millis(late, 1_003_600, 90_000, start)));
        let early = clock.on_packet(MediaKind::Video, RtpTime(1_007_200), start + 70 * MS);
        assert!((69..=70).contains(&millis(early, 1_007_200, 90_000, start)));
    }

    #[test]
    fn reports_tie_sound_to_picture_however_late_the_sound_arrives() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.on_packet(MediaKind::Video, RtpTime(1_000_000), start);
        // Captured at the same instant, the sound arrives 500 ms later.
        clock.on_packet(MediaKind::Audio, RtpTime(2_000_000), start + 500 * MS);
        clock.on_sender_report(MediaKind::Video, 10 << 32, RtpTime(1_000_000));
        clock.on_sender_report(MediaKind::Audio, 11 << 32, RtpTime(2_048_000));
        let point = clock.on_packet(MediaKind::Audio, RtpTime(2_000_960), start + 520 * MS);
        assert!((-1..=1).contains(&millis(point, 2_000_000, 48_000, start)), "{point:?}");
    }

    #[test]
    fn a_restart_takes_the_new_arrival_at_once() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.on_packet(MediaKind::Video, RtpTime(1_000_000), start);
        let point = clock.on_packet(MediaKind::Video, RtpTime(9_000_000), start + 10 * MS);
        assert_eq!(point, ClockPoint { at: start + 10 * MS, rtp: RtpTime(9_000_000) });
    }
}
