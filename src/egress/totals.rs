//! What the egress has done since its start, for metrics.

use std::time::Duration;

use super::handle::EgressHandle;
use super::stats::ViewerStats;
use crate::telemetry::metrics::{Collect, Histogram, Page, catalog};

/// Upper bounds in milliseconds: a picture is there in one round trip, or with the camera's next keyframe.
const FIRST_PICTURE_BOUNDS_MS: [u64; 10] = [25, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000];

/// Sums over all viewers, those that are gone included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) runs: u64,
    pub(super) refused_runs: u64,
    pub(super) retransmissions: u64,
    pub(super) nacks: u64,
    pub(super) keyframe_requests: u64,
    pub(super) audio_unplayable: u64,
}

impl Sums {
    pub(super) fn add(&mut self, stats: &ViewerStats) {
        self.packets += stats.packets;
        self.bytes += stats.bytes;
        self.runs += stats.runs;
        self.refused_runs += stats.refused_runs;
        self.retransmissions += stats.retransmissions;
        self.nacks += stats.nacks;
        self.keyframe_requests += stats.plis + stats.firs;
        self.audio_unplayable += stats.audio_unplayable;
    }
}

/// Kept by the sessions, and taken from viewers when they leave.
#[derive(Debug)]
pub(super) struct Totals {
    /// Of viewers that are gone.
    pub(super) gone: Sums,
    pub(super) first_picture: Histogram<10>,
}

impl Default for Totals {
    fn default() -> Self {
        Self { gone: Sums::default(), first_picture: Histogram::with_bounds_ms(FIRST_PICTURE_BOUNDS_MS) }
    }
}

impl Totals {
    pub(super) fn first_picture(&self, after: Duration) {
        self.first_picture.record(after);
    }
}

impl Collect for EgressHandle {
    fn collect(&self, page: &mut Page) {
        self.collect_sessions(page);
        page.count(&catalog::EGRESS_DROPPED_FRAMES, &[], self.dropped_frames());
        page.count(&catalog::EGRESS_MISSED_FRAMES, &[], self.missed_frames());
        page.count(&catalog::QUEUE_WAITING, &["frames"], self.waiting_frames());
        let drops = self.drops();
        page.count(&catalog::EGRESS_UNKNOWN, &[], drops.stranger);
        page.count(&catalog::EGRESS_TCP_OPEN, &[], drops.tcp.open);
        for (reason, count) in [
            ("refused", drops.tcp.refused),
            ("crowded_out", drops.tcp.crowded_out),
            ("unproven", drops.tcp.unproven),
            ("strangers", drops.tcp.strangers),
            ("malformed", drops.tcp.malformed),
            ("silent", drops.tcp.silent),
            ("stalled", drops.tcp.stalled),
        ] {
            page.count(&catalog::EGRESS_TCP_ENDED, &[reason], count);
        }
    }
}

/// The figures of viewers that are there, and of all that ever were.
pub(super) fn collect(page: &mut Page, totals: &Totals, viewers: impl Iterator<Item = ViewerStats>) {
    let mut sums = totals.gone;
    let (mut thinned, mut profiles) = (0, Vec::new());
    for stats in viewers {
        sums.add(&stats);
        thinned += u64::from(stats.thinned);
        if stats.connected {
            profiles.extend(stats.srtp_profile);
        }
    }
    page.count(&catalog::VIEWERS_THINNED, &[], thinned);
    profiles.sort_unstable();
    for of_one in profiles.chunk_by(|a, b| a == b) {
        page.count(&catalog::VIEWERS_BY_PROFILE, &[of_one[0]], of_one.len() as u64);
    }
    page.distribution(&catalog::VIEWER_FIRST_PICTURE, &[], &totals.first_picture.snapshot());
    page.count(&catalog::EGRESS_PACKETS, &[], sums.packets);
    page.count(&catalog::EGRESS_BYTES, &[], sums.bytes);
    page.count(&catalog::EGRESS_RUNS, &[], sums.runs);
    page.count(&catalog::EGRESS_REFUSED_RUNS, &[], sums.refused_runs);
    page.count(&catalog::EGRESS_RETRANSMISSIONS, &[], sums.retransmissions);
    page.count(&catalog::EGRESS_NACKED, &[], sums.nacks);
    page.count(&catalog::EGRESS_KEYFRAME_REQUESTS, &[], sums.keyframe_requests);
    page.count(&catalog::EGRESS_UNPLAYABLE, &[], sums.audio_unplayable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_viewers_had_stays_in_the_sums_when_they_are_gone() {
        let stats = |packets, profile| ViewerStats {
            connected: true,
            packets,
            runs: packets / 8,
            plis: 1,
            firs: 2,
            audio_unplayable: 5,
            srtp_profile: Some(profile),
            ..Default::default()
        };
        let mut totals = Totals::default();
        totals.gone.add(&stats(80, "gone"));
        totals.first_picture(Duration::from_millis(120));
        let mut page = Page::new();
        collect(&mut page, &totals, [stats(8, "a"), stats(16, "b"), stats(8, "a")].into_iter());
        let text = page.render();
        for line in [
            "honeycast_egress_packets_total 112",
            "honeycast_egress_runs_total 14",
            "honeycast_egress_keyframe_requests_total 12",
            "honeycast_egress_unplayable_audio_packets_total 20",
            "honeycast_viewers_by_srtp_profile{profile=\"a\"} 2",
            "honeycast_viewers_by_srtp_profile{profile=\"b\"} 1",
            "honeycast_viewer_first_picture_seconds_bucket{le=\"0.2\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("gone"), "{text}");
    }
}
