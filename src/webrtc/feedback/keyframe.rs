//! When to ask a camera for a keyframe.

use std::time::{Duration, Instant};

/// At most one request in this time, however many viewers ask (contract §4).
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Unanswered PLIs after which FIR is tried in turn: some cameras know only one of them.
const PLIS_BEFORE_FIR: u32 = 3;
/// A camera that answers neither is not asked for ever; its next keyframe comes by itself.
const MAX_ATTEMPTS: u32 = 8;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Pli,
    /// With its command sequence number (RFC 5104 §4.3.1.2).
    Fir(u8),
}

/// Coalesced keyframe requests to one camera.
#[derive(Debug, Default)]
pub(super) struct KeyframeRequests {
    wanted_since: Option<Instant>,
    last_sent: Option<Instant>,
    attempts: u32,
    fir_command: u8,
}

impl KeyframeRequests {
    pub(super) fn want(&mut self, now: Instant) {
        if self.wanted_since.is_none() || self.attempts >= MAX_ATTEMPTS {
            self.wanted_since = Some(now);
            self.attempts = 0;
        }
    }

    pub(super) fn satisfied(&mut self) {
        self.wanted_since = None;
        self.attempts = 0;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let since = self.wanted_since?;
        (self.attempts < MAX_ATTEMPTS).then(|| self.last_sent.map_or(since, |last| since.max(last + MIN_INTERVAL)))
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<Request> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return None;
        }
        self.last_sent = Some(now);
        self.attempts += 1;
        if self.attempts > PLIS_BEFORE_FIR && self.attempts.is_multiple_of(2) {
            self.fir_command = self.fir_command.wrapping_add(1);
            return Some(Request::Fir(self.fir_command));
        }
        Some(Request::Pli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_wishes_is_one_pli_in_half_a_second() {
        let (mut requests, start) = (KeyframeRequests::default(), Instant::now());
        let mut sent = 0;
        for ms in 0..1_000 {
            let now = start + Duration::from_millis(ms);
            requests.want(now);
            sent += u32::from(requests.due(now).is_some());
        }
        assert_eq!(sent, 2);
    }

    #[test]
    fn a_keyframe_ends_the_asking_but_not_the_spacing() {
        let (mut requests, start) = (KeyframeRequests::default(), Instant::now());
        requests.want(start);
        assert_eq!(requests.due(start), Some(Request::Pli));
        requests.satisfied();
        assert_eq!(requests.poll_timeout(), None);
        requests.want(start + Duration::from_millis(100));
        assert_eq!(requests.due(start + Duration::from_millis(499)), None);
        assert_eq!(requests.due(start + MIN_INTERVAL), Some(Request::Pli));
    }

    #[test]
    fn a_camera_deaf_to_pli_is_tried_with_fir_and_then_left_alone() {
        let (mut requests, mut now) = (KeyframeRequests::default(), Instant::now());
        requests.want(now);
        let mut sent = Vec::new();
        while let Some(due) = requests.poll_timeout() {
            now = now.max(due);
            sent.extend(requests.due(now));
        }
        assert_eq!(sent.len(), MAX_ATTEMPTS as usize);
        assert_eq!(sent[..4], [Request::Pli, Request::Pli, Request::Pli, Request::Fir(1)]);
        let commands = sent.iter().filter_map(|request| match request {
            Request::Fir(command) => Some(*command),
            Request::Pli => None,
        });
        assert!(commands.eq(1..=3), "each FIR is a new command: an encoder ignores one that it has seen");
    }
}
