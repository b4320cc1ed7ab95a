//! Pictures that are held back while a viewer says nothing of those before: a queue may be growing that is longer than
//! the time it takes to hear of it. On a path that has got very narrow, a second of the stream is a minute of its time.
//!
//! If it only was silent for a moment, nothing is lost, and the pictures are late by what they were held. That is why holding
//! may begin early, and why thinning must not.

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
/// Held for so long, and so many marks not told of: the path does not carry the stream.
const TOO_LONG: Duration = Duration::from_secs(1);
const MARKS: usize = 5;
/// Pictures that leave with each new one when the viewer is heard again.
const AT_ONCE: usize = 4;

/// Pictures of one viewer that wait until something is heard of those before.
#[derive(Debug, Default)]
pub(super) struct Held {
    frames: VecDeque<Arc<Frame>>,
    /// Nothing was heard since, and pictures were to leave.
    since: Option<Instant>,
    /// How long it takes to hear of an arrival, if there is no queue: the longest lately.
    tells_within: Option<Duration>,
    /// When something should have been heard of what has left.
    deadline: Option<Instant>,
}

impl Held {
    /// An arrival was told of, so long after the packet left; the packet met this queue, in microseconds.
    pub(super) fn on_told(&mut self, after: Duration, queue_us: i64) {
        let queue = Duration::from_micros(u64::try_from(queue_us).unwrap_or(0));
        let told = after.saturating_sub(queue);
        self.tells_within = Some(self.tells_within.map_or(told, |longest| told.max((longest * 15 + told) / 16)));
    }

    /// When the first mark left that nothing was heard of yet. On a path that just carries the stream a keyframe may take
    /// longer; then what is behind it waits here and not there, and is hardly later for it.
    pub(super) fn expect(&mut self, untold_since: Option<Instant>) {
        let usual = self.tells_within.map(|within| (within * LONGER).clamp(LEAST, MOST));
        self.deadline = untold_since.zip(usual).map(|(left, usual)| left + usual);
    }

    /// Whether something is expected to be heard, so that a further mark changes nothing.
    pub(super) fn expects(&self) -> bool {
        self.deadline.is_some()
    }

    /// Nothing is known of the path any more.
    pub(super) fn forget(&mut self) {
        (self.tells_within, self.deadline) = (None, None);
    }

    /// Whether nothing was heard for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn push(&mut self, frame: Arc<Frame>, now: Instant) {
        self.since.get_or_insert(now);
        self.frames.push_back(frame);
    }

    /// A picture leaves without being held.
    pub(super) fn on_heard(&mut self) {
        if self.since.is_some() {
            self.since = None;
        }
    }

    /// Whether the path is taken for one that does not carry the stream, with so many marks not told of.
    pub(super) fn is_too_long(&self, untold: usize, now: Instant) -> bool {
        untold >= MARKS && self.since.is_some_and(|since| now >= since + TOO_LONG)
    }

    /// Frames that leave now: those of some pictures, or while it is silent those of one if the one before left long
    /// ago, at `last`.
    pub(super) fn take(&mut self, silent: bool, last: Option<Instant>, now: Instant) -> VecDeque<Arc<Frame>> {
        if silent && last.is_some_and(|last| now < last + FEELER) {
            return VecDeque::new();
        }
        let (mut pictures, mut frames, mut time) = (0, 0, None);
        for frame in &self.frames {
            pictures += usize::from(time.replace(frame.time) != Some(frame.time));
            if pictures > if silent { 1 } else { AT_ONCE } {
                break;
            }
            frames += 1;
        }
        let rest = self.frames.split_off(frames);
        if !silent {
            self.since = Some(now).filter(|_| !rest.is_empty());
        }
        std::mem::replace(&mut self.frames, rest)
    }

    /// Drops what is held.
    pub(super) fn clear(&mut self) {
        self.since = None;
        self.frames.clear();
    }
}
