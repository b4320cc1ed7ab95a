//! Whether a camera's feedback loop works: is it sent, is it obeyed. Trouble shows long before the 30 s after
//! which a camera without feedback stops (contract §1).

use std::fmt;
use std::time::{Duration, Instant};

/// Packets that arrive for this long without any feedback sent are trouble.
const MAX_UNSENT: Duration = Duration::from_secs(5);
/// Silence that ends a run of packets.
const RUN_ENDS: Duration = Duration::from_secs(3);
/// A run of this length looks like a camera that misses feedback.
const STARVED: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(35));
/// Such runs in a row that are no accident.
const STARVED_RUNS: u32 = 2;
/// A camera has this long to come down to a REMB.
const OBEYS_WITHIN: Duration = Duration::from_secs(10);
/// REMB below this share of what arrives is an order to send less …
const ORDER: f64 = 0.9;
/// … which is obeyed at this multiple of REMB.
const OBEYED: f64 = 1.05;
/// A keyframe this soon after a request answers it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Silence after which an unanswered request says nothing about the camera's manners.
const MAX_GAP: Duration = Duration::from_secs(1);

/// What the feedback of one camera achieves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedbackHealth {
    /// The bitrate came down within 10 s after the last REMB that asked for less; `None`: none has yet.
    pub follows_remb: Option<bool>,
    /// A keyframe came within 2 s after the last request; `None`: nothing was asked yet.
    pub answers_pli: Option<bool>,
    /// What an operator should look at.
    pub warning: Option<FeedbackWarning>,
}

/// What is wrong with a camera's feedback, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedbackWarning {
    /// Packets arrive, but no feedback could be sent for 5 s: the camera is about to stop.
    NotSent,
    /// The camera stopped about 30 s after it began, twice in a row: our feedback does not reach it.
    NotAccepted,
    /// The camera goes on sending more than REMB allows.
    RembIgnored,
}

impl fmt::Display for FeedbackWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "no feedback could be sent to the camera for 5 s or more; it will stop after 30 s",
            Self::NotAccepted => {
                "the camera stopped about 30 s after its start twice in a row: our feedback does not reach it"
            }
            Self::RembIgnored => "the camera sends more than it was asked for (REMB)",
        })
    }
}

/// Watches one camera.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// First and last packet of the current run.
    run: Option<(Instant, Instant)>,
    starved_runs: u32,
    /// The last feedback sent, and the one before in case it did not leave.
    sent: [Option<Instant>; 2],
    order: Option<Instant>,
    follows_remb: Option<bool>,
    request: Option<Instant>,
    answers_pli: Option<bool>,
}

impl Health {
    /// An RTP packet of the camera.
    pub(super) fn on_packet(&mut self, now: Instant) {
        let Some((start, last)) = self.run else {
            self.run = Some((now, now));
            return;
        };
        let silence = now.saturating_duration_since(last);
        if silence >= MAX_GAP {
            (self.request, self.order) = (None, None);
        }
        if silence < RUN_ENDS {
            self.run = Some((start, now));
            return;
        }
        self.starved_runs = self.starved_after(start, last);
        self.run = Some((now, now));
    }

    /// The camera has restarted, or was told to stop: the silence around that is not the feedback's fault.
    pub(super) fn interrupted(&mut self) {
        (self.run, self.starved_runs) = (None, 0);
    }

    /// A compound packet leaves.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.sent = [Some(now), self.sent[0]];
    }

    /// It did not leave.
    pub(super) fn on_send_failed(&mut self) {
        self.sent[0] = self.sent[1];
    }

    /// When the last feedback left.
    pub(super) fn last_sent(&self) -> Option<Instant> {
        self.sent[0]
    }

    /// A PLI or FIR leaves.
    pub(super) fn on_request(&mut self, now: Instant) {
        if self.is_running(now, MAX_GAP) {
            self.request.get_or_insert(now);
        }
    }

    /// A keyframe began.
    pub(super) fn on_keyframe(&mut self, now: Instant) {
        if let Some(asked) = self.request.take() {
            self.answers_pli = Some(now.saturating_duration_since(asked) <= ANSWERS_WITHIN);
        }
    }

    /// Compares what was asked for with what arrives, both in bit/s.
    pub(super) fn on_rates(&mut self, remb: u64, received: u64, now: Instant) {
        if received == 0 {
            return;
        }
        let (remb, received) = (remb as f64, received as f64);
        match self.order {
            None if remb < received * ORDER => self.order = Some(now),
            None => {}
            Some(_) if received <= remb * OBEYED => (self.order, self.follows_remb) = (None, Some(true)),
            Some(since) if now.saturating_duration_since(since) >= OBEYS_WITHIN => self.follows_remb = Some(false),
            Some(_) => {}
        }
    }

    /// The state at `now`.
    pub(super) fn state(&self, now: Instant) -> FeedbackHealth {
        let overdue = self.request.is_some_and(|asked| now.saturating_duration_since(asked) > ANSWERS_WITHIN);
        let unanswered = overdue && self.is_running(now, MAX_GAP);
        let answers_pli = if unanswered { Some(false) } else { self.answers_pli };
        FeedbackHealth { follows_remb: self.follows_remb, answers_pli, warning: self.warning(now) }
    }

    fn warning(&self, now: Instant) -> Option<FeedbackWarning> {
        let (start, last) = self.run?;
        let unsent = now.saturating_duration_since(self.sent[0].map_or(start, |sent| sent.max(start)));
        if self.is_running(now, RUN_ENDS) && unsent >= MAX_UNSENT {
            return Some(FeedbackWarning::NotSent);
        }
        let starved = if self.is_running(now, RUN_ENDS) { self.starved_runs } else { self.starved_after(start, last) };
        if starved >= STARVED_RUNS {
            return Some(FeedbackWarning::NotAccepted);
        }
        (self.follows_remb == Some(false)).then_some(FeedbackWarning::RembIgnored)
    }

    /// Starved runs in a row once the run from `start` to `last` has ended.
    fn starved_after(&self, start: Instant, last: Instant) -> u32 {
        let length = last.saturating_duration_since(start);
        if length < STARVED.0 || length > STARVED.1 {
            return 0;
        }
        self.starved_runs + 1
    }

    fn is_running(&self, now: Instant, within: Duration) -> bool {
        self.run.is_some_and(|(_, last)| now.saturating_duration_since(last) < within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Packets every 100 ms for `seconds`, feedback every second if `fed`; returns the end.
    fn run(health: &mut Health, start: Instant, seconds: u32, fed: bool) -> Instant {
        for n in 0..seconds * 10 {
            let now = start + n * SECOND / 10;
            health.on_packet(now);
            if fed && n % 10 == 0 {
                health.on_sent(now);
            }
        }
        start + seconds * SECOND
    }

    #[test]
    fn five_seconds_of_packets_without_feedback_are_a_warning() {
        let (mut health, start) = (Health::default(), Instant::now());
        let end = run(&mut health, start, 4, false);
        assert_eq!(health.state(end).warning, None);
        let end = run(&mut health, end, 2, false);
        assert_eq!(health.state(end).warning, Some(FeedbackWarning::NotSent));
        health.on_sent(end);
        assert_eq!(health.state(end).warning, None);
    }

    #[test]
    fn feedback_that_fails_to_leave_does_not_count_as_sent() {
        let (mut health, start) = (Health::default(), Instant::now());
        for n in 0..60 {
            health.on_packet(start + n * SECOND / 10);
            health.on_sent(start + n * SECOND / 10);
            health.on_send_failed();
        }
        let state = health.state(start + 6 * SECOND);
        assert_eq!((state.warning, health.last_sent()), (Some(FeedbackWarning::NotSent), None));
    }

    #[test]
    fn a_camera_that_stops_after_30_s_twice_does_not_accept_our_feedback() {
        let (mut health, start) = (Health::default(), Instant::now());
        let end = run(&mut health, start, 30, true);
        assert_eq!(health.state(end + 5 * SECOND).warning, None);
        let end = run(&mut health, end + 10 * SECOND, 30, true);
        assert_eq!(health.state(end).warning, None);
        assert_eq!(health.state(end + 5 * SECOND).warning, Some(FeedbackWarning::NotAccepted));
        let end = run(&mut health, end + 10 * SECOND, 10, true);
        assert_eq!(health.state(end).warning, Some(FeedbackWarning::NotAccepted));
        assert_eq!(health.state(end + 5 * SECOND).warning, None, "this run had another end");
        // It lives longer: all is well after its next stop.
        let end = run(&mut health, end, 60, true);
        assert_eq!(health.state(end + 5 * SECOND).warning, None);
    }

    #[test]
    fn reboots_and_stops_near_30_s_are_not_taken_for_missing_feedback() {
        let (mut health, mut end) = (Health::default(), Instant::now());
        for _ in 0..4 {
            end = run(&mut health, end + 10 * SECOND, 30, true);
            health.interrupted();
            assert_eq!(health.state(end + 5 * SECOND).warning, None);
        }
        for length in [30, 20, 30, 40, 30] {
            end = run(&mut health, end + 10 * SECOND, length, true);
            assert_eq!(health.state(end + 5 * SECOND).warning, None, "not twice in a row");
        }
    }

    #[test]
    fn a_camera_has_10_s_to_follow_remb() {
        let (mut health, start) = (Health::default(), Instant::now());
        run(&mut health, start, 30, true);
        health.on_rates(1_000_000, 3_000_000, start);
        health.on_rates(1_000_000, 2_000_000, start + 9 * SECOND);
        assert_eq!(health.state(start + 9 * SECOND).follows_remb, None);
        health.on_rates(1_000_000, 2_000_000, start + 10 * SECOND);
        assert_eq!(health.state(start + 30 * SECOND).warning, Some(FeedbackWarning::RembIgnored));
        health.on_rates(1_000_000, 1_000_000, start + 12 * SECOND);
        assert_eq!(health.state(start + 30 * SECOND).follows_remb, Some(true));
        assert_eq!(health.state(start + 30 * SECOND).warning, None);
    }

    #[test]
    fn silence_is_no_obedience() {
        let (mut health, start) = (Health::default(), Instant::now());
        let end = run(&mut health, start, 5, true);
        health.on_rates(1_000_000, 3_000_000, end);
        health.on_rates(1_000_000, 0, end + 3 * SECOND);
        run(&mut health, end + 3 * SECOND, 1, true);
        health.on_rates(1_000_000, 500_000, end + 4 * SECOND);
        assert_eq!(health.state(end + 4 * SECOND).follows_remb, None);
    }

    #[test]
    fn a_pli_is_answered_by_a_keyframe_within_2_s() {
        let (mut health, start) = (Health::default(), Instant::now());
        let asked = run(&mut health, start, 5, true);
        assert_eq!(health.state(asked).answers_pli, None);
        health.on_request(asked);
        let late = run(&mut health, asked, 3, true);
        assert_eq!(health.state(late).answers_pli, Some(false));
        health.on_keyframe(late);
        assert_eq!(health.state(late).answers_pli, Some(false));
        health.on_request(late);
        health.on_keyframe(late + SECOND);
        assert_eq!(health.state(late + SECOND).answers_pli, Some(true));
    }

    #[test]
    fn a_request_to_a_silent_camera_says_nothing_about_it() {
        let (mut health, start) = (Health::default(), Instant::now());
        let end = run(&mut health, start, 5, true);
        health.on_request(end + 5 * SECOND);
        assert_eq!(health.state(end + 20 * SECOND).answers_pli, None);
    }
}
