//! Sources that belong to nobody: since when they send, and whose they were. Bounded.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::{Arrival, Clue, Key, MAX_STRANGERS, MEMORY, RELATCH_SILENCE, RtpClue, Slot};
use crate::base::CameraId;

/// Looked at before one has to go: bounds the work per packet.
const SECOND_CHANCES: usize = 8;

/// What is known of a source that belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stranger {
    /// Since when it has been sending without a pause of [`RELATCH_SILENCE`].
    pub(super) first: Instant,
    pub(super) last: Instant,
    /// Since then.
    pub(super) packets: u64,
    pub(super) past: Past,
    /// Its media clock, when it was seen last.
    pub(super) clock: Option<(Slot, RtpClue, Instant)>,
    /// Heard since the eviction looked at it last.
    touched: bool,
}

/// Whose a source was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    Unknown,
    /// It was latched to a stream of this camera.
    Of(CameraId),
    /// It may have been the source of a stream that ended before that was clear.
    Doubtful,
}

/// The sources by address. When full, one that was not heard lately makes room ("second chance").
#[derive(Debug, Default)]
pub(super) struct Strangers {
    known: HashMap<Key, Stranger>,
    /// Every key of `known` once, and keys that have left it.
    order: VecDeque<Key>,
}

impl Strangers {
    /// A packet came from a source; returns what is known of it now.
    pub(super) fn note(&mut self, key: Key, arrival: &Arrival<'_>, now: Instant) -> Stranger {
        let clock = match arrival.clue {
            Clue::Rtp(clue) => Some((arrival.slot, clue, now)),
            _ => None,
        };
        if let Some(stranger) = self.known.get_mut(&key) {
            let silence = now.saturating_duration_since(stranger.last);
            if silence >= MEMORY {
                stranger.past = Past::Unknown;
            }
            if silence >= RELATCH_SILENCE {
                stranger.first = now;
                stranger.packets = 0;
            }
            stranger.last = now;
            stranger.packets += 1;
            stranger.clock = clock.or(stranger.clock);
            stranger.touched = true;
            return *stranger;
        }
        self.insert(key, Stranger { first: now, last: now, packets: 1, past: Past::Unknown, clock, touched: false })
    }

    /// A source has lost its stream.
    pub(super) fn remember(&mut self, key: Key, past: Past, now: Instant) {
        self.insert(key, Stranger { first: now, last: now, packets: 0, past, clock: None, touched: true });
    }

    /// Marks those for which `suspected` holds.
    pub(super) fn doubt(&mut self, suspected: impl Fn(Key, &Stranger) -> bool, now: Instant) {
        for (key, stranger) in &mut self.known {
            if stranger.past == Past::Unknown && now < stranger.last + MEMORY && suspected(*key, stranger) {
                stranger.past = Past::Doubtful;
            }
        }
    }

    /// It has a stream now.
    pub(super) fn forget(&mut self, key: Key) {
        self.known.remove(&key);
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn insert(&mut self, key: Key, stranger: Stranger) -> Stranger {
        if self.known.insert(key, stranger).is_some() {
            return stranger;
        }
        self.order.push_back(key);
        // Keys that were forgotten and noted again may stand there twice.
        while self.known.len() > MAX_STRANGERS || self.order.len() > 2 * MAX_STRANGERS {
            if !self.evict_one() {
                break;
            }
        }
        stranger
    }

    fn evict_one(&mut self) -> bool {
        for chance in 0.. {
            let Some(key) = self.order.pop_front() else { return false };
            match self.known.get_mut(&key) {
                None => return true,
                Some(stranger) if stranger.touched && chance < SECOND_CHANCES => {
                    stranger.touched = false;
                    self.order.push_back(key);
                }
                Some(_) => {
                    self.known.remove(&key);
                    return true;
                }
            }
        }
        false
    }
}
