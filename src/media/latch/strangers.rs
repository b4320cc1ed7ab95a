//! Sources that belong to nobody: since when they send, and whose they were. Bounded.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::clue::Clock;
use super::expectation::{LastClock, clock_rates};
use super::{
    Arrival, CONFIRM, Clue, Entrance, Key, MAX_STRANGERS, MEMORY, PAUSE, RELATCH_SILENCE, RtcpClue, RtpClue, Slot,
};
use crate::base::CameraId;

/// Media clocks remembered of cameras whose streams have ended.
const MAX_CLOCKS: usize = 1_024;
/// A source's clock is compared with those in its first packets.
const COMPARED: u64 = 16;
/// Looked at before one has to go: bounds the work per packet.
const SECOND_CHANCES: usize = 8;

/// What is known of a source that belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stranger {
    /// Since when it has been sending without a pause of [`RELATCH_SILENCE`], and as one source.
    pub(super) first: Instant,
    /// The same without a pause of [`PAUSE`]; of reports, which are always apart, as `first`.
    pub(super) resumed: Instant,
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
    /// It may have been this camera's, whose stream ended before that was clear. No other camera's until then.
    Suspect(CameraId),
    /// The same for more than one camera.
    Doubtful,
}

impl Stranger {
    /// Whether it paused and goes on with another media clock.
    fn begins_anew(&self, arrival: &Arrival<'_>, now: Instant) -> bool {
        let Clue::Rtp(clue) = arrival.clue else { return false };
        // Whose reports came from there does not send pictures from there as well.
        let Some((slot, known, at)) = self.clock else { return matches!(self.past, Past::Of(_)) };
        let clock = Clock { ssrc: known.ssrc, timestamp: known.timestamp, at };
        at + CONFIRM <= now && !(slot == arrival.slot && clock.goes_on(clue, clock_rates(slot), now))
    }
}

impl Past {
    /// It may have been the source of a stream of `camera` that has ended.
    fn suspect(&mut self, camera: CameraId) {
        *self = match *self {
            Self::Unknown => Self::Suspect(camera),
            Self::Suspect(other) if other != camera => Self::Doubtful,
            past => past,
        };
    }
}

/// The sources by address. When full, one that was not heard lately makes room ("second chance").
#[derive(Debug, Default)]
pub(super) struct Strangers {
    known: HashMap<Key, Stranger>,
    /// Every key of `known` once, and keys that have left it.
    order: VecDeque<Key>,
    /// Of cameras whose streams have ended: one that has not heard `stop` and gets another address goes on with it.
    clocks: VecDeque<Left>,
}

/// A media clock that may go on.
#[derive(Debug)]
struct Left {
    camera: CameraId,
    entrance: Entrance,
    /// In Hz, of the codecs that it may be of.
    rates: &'static [u32],
    clock: Clock,
}

impl Left {
    fn is_remembered(&self, now: Instant) -> bool {
        now < self.clock.at + MEMORY
    }
}

impl Strangers {
    /// A packet came from a source; returns what is known of it now.
    pub(super) fn note(&mut self, key: Key, arrival: &Arrival<'_>, now: Instant) -> Stranger {
        let clock = match arrival.clue {
            Clue::Rtp(clue) => Some((arrival.slot, clue, now)),
            _ => None,
        };
        // Whose clock goes on may be theirs.
        let compare = |past: &mut Past, clocks: &mut VecDeque<Left>| {
            // A sender report does not tell of which medium it is.
            let (clue, rates) = match arrival.clue {
                Clue::Rtp(clue) => (clue, Some(clock_rates(arrival.slot))),
                Clue::Rtcp(RtcpClue { report: Some(clue), .. }) => (clue, None),
                _ => return,
            };
            let comparable = |left: &&mut Left| left.entrance == key.0 && rates.is_none_or(|rates| left.rates == rates);
            for left in clocks.iter_mut().filter(comparable) {
                if left.is_remembered(now) && left.clock.fits(clue, left.rates, now) {
                    past.suspect(left.camera);
                    left.clock = Clock { ssrc: clue.ssrc, timestamp: clue.timestamp, at: now };
                }
            }
        };
        if let Some(stranger) = self.known.get_mut(&key) {
            let silence = now.saturating_duration_since(stranger.last);
            if silence >= MEMORY {
                stranger.past = Past::Unknown;
            }
            let is_anew = stranger.begins_anew(arrival, now);
            if silence >= RELATCH_SILENCE || is_anew {
                stranger.first = now;
                stranger.resumed = now;
                stranger.packets = 0;
            }
            if silence >= PAUSE && arrival.slot != Slot::Rtcp {
                stranger.resumed = now;
            }
            // Its camera may have restarted, or the address is another camera's now.
            if let Past::Of(camera) = stranger.past
                && is_anew
            {
                stranger.past = Past::Suspect(camera);
            }
            stranger.last = now;
            stranger.packets += 1;
            stranger.clock = clock.or(stranger.clock);
            stranger.touched = true;
            if stranger.packets <= COMPARED || stranger.past != Past::Unknown {
                compare(&mut stranger.past, &mut self.clocks);
            }
            return *stranger;
        }
        let mut past = Past::Unknown;
        compare(&mut past, &mut self.clocks);
        self.insert(key, Stranger { first: now, resumed: now, last: now, packets: 1, past, clock, touched: false })
    }

    /// A source has lost its stream; `clock` is its media clock, if it had one.
    pub(super) fn remember(&mut self, key: Key, past: Past, clock: LastClock, now: Instant) {
        let clock = clock.map(|(slot, Clock { ssrc, timestamp, at })| (slot, RtpClue { ssrc, timestamp }, at));
        self.insert(key, Stranger { first: now, resumed: now, last: now, packets: 0, past, clock, touched: true });
    }

    /// Those for which `suspected` holds may have been `camera`'s.
    pub(super) fn doubt(&mut self, camera: CameraId, suspected: impl Fn(Key, &Stranger) -> bool, now: Instant) {
        let mut left = Vec::new();
        for (key, stranger) in &mut self.known {
            if now < stranger.last + MEMORY && suspected(*key, stranger) {
                stranger.past.suspect(camera);
                if let Some((slot, RtpClue { ssrc, timestamp }, at)) = stranger.clock {
                    let clock = Clock { ssrc, timestamp, at };
                    left.push(Left { camera, entrance: key.0, rates: clock_rates(slot), clock });
                }
            }
        }
        left.into_iter().for_each(|left| self.leave(left, now));
    }

    /// A media clock of a camera whose stream has ended; `rates` in Hz, of the codecs that it may be of.
    pub(super) fn remember_clock(
        &mut self,
        camera: CameraId,
        entrance: Entrance,
        rates: &'static [u32],
        clock: Clock,
        now: Instant,
    ) {
        self.leave(Left { camera, entrance, rates, clock }, now);
    }

    fn leave(&mut self, left: Left, now: Instant) {
        self.clocks.retain(|left| left.is_remembered(now));
        if self.clocks.len() >= MAX_CLOCKS {
            self.clocks.pop_front();
        }
        self.clocks.push_back(left);
    }

    /// This one may be `camera`'s, whose stream has ended.
    pub(super) fn suspect(&mut self, key: Key, camera: CameraId, now: Instant) {
        let Some(stranger) = self.known.get_mut(&key) else { return };
        let before = stranger.past;
        stranger.past.suspect(camera);
        if stranger.past != before
            && let Some((slot, RtpClue { ssrc, timestamp }, at)) = stranger.clock
        {
            // It may move.
            let clock = Clock { ssrc, timestamp, at };
            self.leave(Left { camera, entrance: key.0, rates: clock_rates(slot), clock }, now);
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
