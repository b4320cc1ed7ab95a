//! Pictures that are held back while a viewer says nothing of those before: a queue may be growing that is longer than
//! the time it takes to hear of it. On a path that has got very narrow, a second of the stream is a minute of its time.
//!
//! If it only was silent, nothing is lost and the pictures are late by what they were held. That is why holding may begin
//! early, and why thinning must not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::Frame;

/// A viewer that tells of arrivals takes longer for it than it ever did lately, by this factor, and than this …
const LONGER: u32 = 2;
const LEAST: Duration = Duration::from_millis(300);
/// … but it takes no path so long.
const MOST: Duration = Duration::from_secs(1);
/// A picture leaves once in a while: what told of those before may have been lost.
const FEELER: Duration = Duration::from_millis(250);
/// Held for so long, the path does not carry the stream.
const TOO_LONG: Duration = Duration::from_secs(1);

/// Pictures of one viewer that wait until something is heard of those before.
#[derive(Debug, Default)]
pub(super) struct Held {
    frames: VecDeque<Arc<Frame>>,
    since: Option<Instant>,
    /// How long it takes to hear of an arrival, if there is no queue: the longest lately.
    tells_within: Option<Duration>,
}

impl Held {
    /// An arrival was told of, so long after the packet left; the packet met this queue, in microseconds.
    pub(super) fn on_told(&mut self, after: Duration, queue_us: i64) {
        let queue = Duration::from_micros(u64::try_from(queue_us).unwrap_or(0));
        let told = after.saturating_sub(queue);
        self.tells_within = Some(self.tells_within.map_or(told, |longest| told.max((longest * 15 + told) / 16)));
    }

    /// Nothing is known of the path any more.
    pub(super) fn forget(&mut self) {
        self.tells_within = None;
    }

    /// Whether a packet that left then and was not told of yet should have been.
    pub(super) fn is_silent(&self, untold_since: Option<Instant>, now: Instant) -> bool {
        let within = self.tells_within.map(|within| (within * LONGER).clamp(LEAST, MOST));
        untold_since.zip(within).is_some_and(|(since, within)| now >= since + within)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn push(&mut self, frame: Arc<Frame>, now: Instant) {
        self.since.get_or_insert(now);
        self.frames.push_back(frame);
    }

    pub(super) fn is_too_long(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + TOO_LONG)
    }

    /// Frames that leave now: all of them, or those of one picture if the one before left long ago, at `last`.
    pub(super) fn take(&mut self, silent: bool, last: Option<Instant>, now: Instant) -> VecDeque<Arc<Frame>> {
        if !silent {
            return self.clear();
        }
        let Some(first) = self.frames.front().filter(|_| last.is_none_or(|last| now >= last + FEELER)) else {
            return VecDeque::new();
        };
        let time = first.time;
        let end = self.frames.iter().position(|frame| frame.time != time);
        let rest = end.map(|end| self.frames.split_off(end)).unwrap_or_default();
        std::mem::replace(&mut self.frames, rest)
    }

    /// What is held.
    pub(super) fn clear(&mut self) -> VecDeque<Arc<Frame>> {
        self.since = None;
        std::mem::take(&mut self.frames)
    }
}
