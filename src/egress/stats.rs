//! What is known of a viewer: counters that its shard writes, and the snapshot for the outside.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::loss::{Loss, LossMeter};
use super::thinning::ThinReason;
use crate::media::Codec;
use crate::media::rtcp::ReportBlock;

/// Middle 32 bits of NTP time count 1/65,536 s.
const NTP_SHORT: f64 = 65_536.0;
/// A round trip longer than this is a wrapped or made-up figure.
const MAX_RTT: Duration = Duration::from_secs(60);
const VIDEO_TICKS_PER_MS: f64 = 90.0;

/// What a shard and the sessions both know of a viewer.
#[derive(Debug, Default)]
pub struct ViewerCounters {
    /// Set when the viewer is to be forgotten; the shard looks at it even if its queue is full.
    pub closed: AtomicBool,
    /// RTP packets sent, retransmissions and probes included.
    pub packets: AtomicU64,
    /// Bytes sent, SRTP overhead included.
    pub bytes: AtomicU64,
    /// Runs handed to the kernel.
    pub runs: AtomicU64,
    /// Retransmissions sent.
    pub retransmissions: AtomicU64,
    /// NACKed packets that were not resent: the budget was used up, or they had been resent a moment ago.
    pub withheld: AtomicU64,
    /// Runs that the socket refused.
    pub refused_runs: AtomicU64,
    /// Sound packets in a codec that the viewer does not take.
    pub audio_unplayable: AtomicU64,
    /// Only keyframes are sent.
    pub thinned: AtomicBool,
    rare: Mutex<RareFigures>,
}

impl ViewerCounters {
    /// Bytes sent, modulo 2^32.
    pub(super) fn sent(&self) -> u32 {
        self.bytes.load(Ordering::Relaxed) as u32
    }

    /// From the offer to the first packet of the first keyframe.
    pub(super) fn first_keyframe(&self) -> Option<Duration> {
        self.rare().first_keyframe
    }

    /// What changes a few times in a minute. To be held for a moment only: the other side may be a shard.
    pub(super) fn rare(&self) -> MutexGuard<'_, RareFigures> {
        // Plain figures: nothing is half done after a panic.
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Figures that a shard writes when something happens, not with every packet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RareFigures {
    pub(super) first_packet: Option<Duration>,
    pub(super) first_keyframe: Option<Duration>,
    pub(super) freezes: u64,
    pub(super) frozen: Duration,
    /// Why only keyframes are sent, and since when.
    pub(super) thinned: Option<(ThinReason, Instant)>,
    pub(super) thinnings: u64,
    /// Time in earlier thinnings.
    pub(super) thinned_before: Duration,
    pub(super) probes: u64,
    /// What the path was last seen to carry, in bit/s.
    pub(super) carries: Option<u64>,
    pub(super) queue_us: Option<i64>,
}

/// What the egress knows of a viewer, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ViewerStats {
    /// ICE and DTLS are up.
    pub connected: bool,
    /// The browser's address.
    pub remote: Option<SocketAddr>,
    /// The address of ours that it talks to.
    pub local: Option<SocketAddr>,
    /// `udp` or `tcp`.
    pub protocol: Option<&'static str>,
    /// SRTP profile, by its name in DTLS.
    pub srtp_profile: Option<&'static str>,
    /// RTP packets sent, retransmissions and probes included.
    pub packets: u64,
    /// Bytes sent, SRTP included.
    pub bytes: u64,
    /// Runs of packets handed to the kernel.
    pub runs: u64,
    /// Retransmissions sent.
    pub retransmissions: u64,
    /// NACKed packets that were not resent: no budget left, or resent less than a round trip ago.
    pub retransmissions_withheld: u64,
    /// Runs of packets that the socket refused.
    pub refused_runs: u64,
    /// NACKed packets asked for.
    pub nacks: u64,
    /// PLIs received.
    pub plis: u64,
    /// FIRs received.
    pub firs: u64,
    /// Fraction of video packets lost, 0–1, over the last second or more that receiver reports tell of.
    pub fraction_lost: f64,
    /// Video packets lost so far by the last receiver report; negative after duplicates.
    pub lost: i64,
    /// Interarrival jitter of the video by the last receiver report, in milliseconds.
    pub jitter_ms: f64,
    /// Round-trip time by the last receiver report, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Its last REMB in bit/s: bounded by what it receives, so a hint only.
    pub remb: Option<u64>,
    /// The sound that it takes, the preferred one first; empty without sound.
    pub audio_codecs: Vec<Codec>,
    /// Sound packets that it did not get because its offer has no such codec.
    pub audio_unplayable: u64,
    /// Queueing delay on the way to it, in milliseconds, where it reports arrival times.
    pub queue_ms: Option<f64>,
    /// Freezes inferred from what was sent and asked for.
    pub freezes: u64,
    /// Their time together, in seconds.
    pub freeze_seconds: f64,
    /// From the offer to the first packet of media, in milliseconds.
    pub first_packet_ms: Option<u64>,
    /// From the offer to the first packet of the first keyframe, in milliseconds.
    pub first_keyframe_ms: Option<u64>,
    /// Only keyframes are sent now.
    pub thinned: bool,
    /// Why.
    pub thinned_reason: Option<ThinReason>,
    /// Since when.
    pub thinned_since: Option<SystemTime>,
    /// How often so far.
    pub thinnings: u64,
    /// For how long altogether, in seconds.
    pub thinned_seconds: f64,
    /// Probes of a thinned path.
    pub probes: u64,
    /// What the path was last seen to carry, in bit/s, while it was thinned for its delay.
    pub carries: Option<u64>,
}

impl ViewerStats {
    /// Takes in a report block on the video. Returns the loss when enough was reported on since the last time.
    pub(super) fn on_report(&mut self, report: &ReportBlock, meter: &mut LossMeter, now: Instant) -> Option<Loss> {
        let loss = meter.on_report(report, now);
        self.fraction_lost = loss.map_or(self.fraction_lost, |loss| loss.fraction);
        self.lost = i64::from(report.cumulative_lost);
        self.jitter_ms = f64::from(report.jitter) / VIDEO_TICKS_PER_MS;
        loss
    }

    /// The round trip that a report block tells, if it does; `ntp_short` is the middle of the NTP time now.
    pub(super) fn on_round_trip(&mut self, report: &ReportBlock, ntp_short: u32) -> Option<Duration> {
        if report.last_sr == 0 {
            return None;
        }
        // RFC 3550 §6.4.1: A - LSR - DLSR.
        let round_trip = ntp_short.wrapping_sub(report.last_sr).wrapping_sub(report.delay_since_last_sr);
        let round_trip = Duration::from_secs_f64(f64::from(round_trip) / NTP_SHORT);
        if round_trip >= MAX_RTT {
            return None;
        }
        self.rtt_ms = Some(round_trip.as_secs_f64() * 1_000.0);
        Some(round_trip)
    }

    /// Adds what the shard knows; `wall` is the system time at `now`.
    pub(super) fn with(mut self, counters: &ViewerCounters, now: Instant, wall: SystemTime) -> Self {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rare = *counters.rare();
        let millis = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let thinned_for = rare.thinned.map(|(_, since)| now.saturating_duration_since(since));
        self.packets = count(&counters.packets);
        self.bytes = count(&counters.bytes);
        self.runs = count(&counters.runs);
        self.retransmissions = count(&counters.retransmissions);
        self.retransmissions_withheld = count(&counters.withheld);
        self.audio_unplayable = count(&counters.audio_unplayable);
        self.refused_runs = count(&counters.refused_runs);
        self.queue_ms = rare.queue_us.map(|queue| queue.max(0) as f64 / 1_000.0);
        self.freezes = rare.freezes;
        self.freeze_seconds = rare.frozen.as_secs_f64();
        self.first_packet_ms = millis(rare.first_packet);
        self.first_keyframe_ms = millis(rare.first_keyframe);
        self.thinned = rare.thinned.is_some();
        self.thinned_reason = rare.thinned.map(|(reason, _)| reason);
        self.thinned_since = thinned_for.and_then(|time| wall.checked_sub(time));
        self.thinnings = rare.thinnings;
        self.thinned_seconds = (rare.thinned_before + thinned_for.unwrap_or_default()).as_secs_f64();
        self.probes = rare.probes;
        self.carries = rare.carries;
        self
    }
}

/// Finds freezes in what is sent: a picture that comes much later than the ones before (the rule of
/// `freezeCount` in webrtc-stats), and the time from a lost picture to the next keyframe.
#[derive(Debug, Default)]
pub(super) struct FreezeWatch {
    last: Option<Instant>,
    /// Moving average of the time between pictures.
    usual: Option<Duration>,
    lost_at: Option<Instant>,
}

/// A picture is late if it comes this much later than usual, and three times as late.
const LATE: Duration = Duration::from_millis(150);
/// The average is over about so many pictures.
const AVERAGED: u32 = 30;

impl FreezeWatch {
    /// A picture begins to be sent. `regular` is whether pictures should come at their usual pace. Returns a
    /// freeze that ends with it.
    pub(super) fn on_picture(&mut self, keyframe: bool, regular: bool, now: Instant) -> Option<Duration> {
        let gap = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        if keyframe && let Some(lost_at) = self.lost_at.take() {
            return Some(now.saturating_duration_since(lost_at));
        }
        let (gap, usual) = (gap?, self.usual);
        if usual.is_some_and(|usual| gap > (usual * 3).max(usual + LATE)) {
            return Some(gap);
        }
        if regular {
            self.usual = Some(usual.map_or(gap, |usual| (usual * (AVERAGED - 1) + gap) / AVERAGED));
        }
        None
    }

    /// The viewer said that its picture is lost.
    pub(super) fn on_lost(&mut self, now: Instant) {
        // Before the first picture there is nothing to freeze.
        if self.last.is_some() {
            self.lost_at.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(40);

    #[test]
    fn a_late_picture_and_a_lost_one_are_freezes() {
        let (mut watch, mut now) = (FreezeWatch::default(), Instant::now());
        watch.on_lost(now);
        for n in 0..50 {
            assert_eq!(watch.on_picture(n == 0, true, now), None);
            now += FRAME;
        }
        now += Duration::from_millis(130);
        assert_eq!(watch.on_picture(false, true, now), None, "170 ms are less than 190");
        now += Duration::from_millis(400);
        assert_eq!(watch.on_picture(false, true, now), Some(Duration::from_millis(400)));
        watch.on_lost(now);
        watch.on_lost(now + FRAME);
        for n in 1..=3 {
            assert_eq!(watch.on_picture(false, true, now + n * FRAME), None);
        }
        assert_eq!(watch.on_picture(true, true, now + 4 * FRAME), Some(4 * FRAME));
    }
}
