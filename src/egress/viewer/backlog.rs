//! The group of pictures on its way to a viewer that begins, and the live frames that queue up behind it.
//!
//! Not one burst: what a second of the stream fits through would drop most of four seconds of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::{Frame, RtpTime};

/// A group is sent so many times as fast as it was filmed …
const SPEED: u32 = 8;
/// … and within this time, however long it is.
const LONGEST: Duration = Duration::from_millis(600);
/// Bytes that leave at once: the first picture of most cameras, one run of packets.
const AT_ONCE: f64 = 38_400.0;

/// Video that waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    frames: VecDeque<Arc<Frame>>,
    packets: usize,
    /// The time of the stream at the live edge.
    live: RtpTime,
    /// Since when it is sent at which rate, in bytes a second, and bytes sent so far.
    began: Option<Instant>,
    rate: f64,
    sent: f64,
}

impl Backlog {
    /// Takes in a group of pictures.
    pub(super) fn begin<'a>(&mut self, group: impl Iterator<Item = &'a Arc<Frame>>, now: Instant) {
        self.clear();
        group.for_each(|frame| self.push(frame.clone()));
        let filmed = self.frames.front().map_or(Duration::ZERO, |first| now.saturating_duration_since(first.arrived));
        let bytes: f64 = self.frames.iter().map(|frame| bytes(frame)).sum();
        self.rate = bytes / (filmed / SPEED).min(LONGEST).max(Duration::from_millis(1)).as_secs_f64();
        (self.began, self.sent) = (Some(now), 0.0);
    }

    /// A live frame, which must not overtake the others.
    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        self.packets += frame.packets.len();
        self.live = if self.frames.is_empty() { frame.time } else { self.live.max(frame.time) };
        self.frames.push_back(frame);
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.packets = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Packets that wait.
    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    /// How many frames wait behind the next one, and the time of the stream at the live edge.
    pub(super) fn behind(&self) -> (usize, RtpTime) {
        (self.frames.len().saturating_sub(1), self.live)
    }

    /// The next frame, if its time has come.
    pub(super) fn due(&self, now: Instant) -> Option<Arc<Frame>> {
        let since = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.frames.front().filter(|_| self.sent < AT_ONCE + self.rate * since.as_secs_f64()).cloned()
    }

    /// The next frame was sent.
    pub(super) fn pop(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.packets -= frame.packets.len();
            self.sent += bytes(&frame);
        }
    }
}

fn bytes(frame: &Frame) -> f64 {
    frame.packets.iter().map(|packet| packet.payload.len()).sum::<usize>() as f64
}
