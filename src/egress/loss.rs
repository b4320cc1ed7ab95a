//! A viewer's loss, from the totals in its receiver reports.
//!
//! Browsers put a report beside every NACK, so that the fraction in a report is often that of three packets, and
//! one that was overtaken counts in it as lost. The totals of a second or more say how it is: what comes late is
//! taken off them again.

use std::time::{Duration, Instant};

use crate::media::rtcp::ReportBlock;

/// Loss is told for this time at least …
const WINDOW: Duration = Duration::from_secs(1);
/// … and for so many packets: of 10 % loss that is random, 35 % in a window are then one in a million.
const WINDOW_PACKETS: i32 = 50;
/// Totals that do not go on for this long have begun anew.
const STALE: Duration = Duration::from_secs(10);

/// Loss over some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Fraction of the packets, 0 to 1.
    pub fraction: f64,
    /// Since when.
    pub since: Instant,
}

/// The totals of one viewer's video.
#[derive(Debug, Clone, Default)]
pub(super) struct LossMeter {
    /// Highest sequence number and packets lost at the beginning of the window, and when that was.
    began: Option<(u32, i32, Instant)>,
}

impl LossMeter {
    /// Takes in a report that has just come. Returns the loss when a window is full.
    pub(super) fn on_report(&mut self, report: &ReportBlock, now: Instant) -> Option<Loss> {
        let (highest, lost, since) = *self.began.get_or_insert((report.highest_seq, report.cumulative_lost, now));
        // As a signed number: reports may overtake each other, or say the same twice.
        let expected = report.highest_seq.wrapping_sub(highest).cast_signed();
        let length = now.saturating_duration_since(since);
        if expected <= 0 && length >= STALE {
            self.began = None;
        }
        if expected < WINDOW_PACKETS || length < WINDOW {
            return None;
        }
        self.began = Some((report.highest_seq, report.cumulative_lost, now));
        // Fewer than before: more of what was missing came late than was lost since.
        let lost = report.cumulative_lost.saturating_sub(lost).clamp(0, expected);
        Some(Loss { fraction: f64::from(lost) / f64::from(expected), since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Reports(LossMeter, Instant);

    impl Reports {
        fn new() -> Self {
            Self(LossMeter::default(), Instant::now())
        }

        fn at(&mut self, ms: u64, highest_seq: u32, cumulative_lost: i32) -> Option<f64> {
            let report = ReportBlock {
                ssrc: 1,
                fraction_lost: 255,
                cumulative_lost,
                highest_seq,
                jitter: 0,
                last_sr: 0,
                delay_since_last_sr: 0,
            };
            self.0.on_report(&report, self.1 + Duration::from_millis(ms)).map(|loss| loss.fraction)
        }
    }

    #[test]
    fn the_fractions_of_reports_beside_nacks_count_for_nothing() {
        let mut reports = Reports::new();
        assert_eq!(reports.at(0, 65_500, 10), None);
        for n in 1..20 {
            assert_eq!(reports.at(u64::from(n) * 50, 65_500 + n * 3, 10 + 1), None);
        }
        assert_eq!(reports.at(1_000, 65_600, 15), Some(0.05));
        assert_eq!(reports.at(2_000, 65_700, 12), Some(0.0), "what was missing has come");
    }

    #[test]
    fn few_packets_say_nothing_until_there_are_more() {
        let mut reports = Reports::new();
        reports.at(0, 0, 0);
        assert_eq!(reports.at(5_000, 49, 20), None);
        assert_eq!(reports.at(6_000, 100, 40), Some(0.4));
    }

    #[test]
    fn reports_that_repeat_or_go_back_are_passed_over_and_new_totals_taken_up() {
        let mut reports = Reports::new();
        reports.at(0, 1_000, 50);
        assert_eq!(reports.at(1_500, 1_000, 50), None);
        assert_eq!(reports.at(1_600, 900, 45), None);
        assert_eq!(reports.at(2_000, 1_100, 60), Some(0.1));
        assert_eq!(reports.at(12_500, 7, 0), None);
        assert_eq!(reports.at(12_600, 8, 0), None);
        assert_eq!(reports.at(14_000, 108, 50), Some(0.5));
        assert_eq!(reports.at(16_000, 400, i32::MAX), Some(1.0), "a made-up total");
    }
}
