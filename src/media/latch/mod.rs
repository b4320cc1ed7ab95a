//! Latching: which source address belongs to which stream.
//!
//! All cameras use the same SSRCs on the same three ports (contract §4), so only the source address tells
//! them apart. The principle: rather no picture than one camera's picture under another's name. The rules,
//! in their order; `ARCHITECTURE.md` has them with their reasons:
//!
//! 1. A pinned address belongs to its stream; the medium is told by payload type. A live holder of a slot
//!    (video, audio, RTCP) is never displaced. One that paused for [`CONFIRM`] and goes on with another media
//!    clock is a new source: the address may be another camera's now.
//! 2. An unknown address may claim a slot that is free, or whose holder fell silent before the address was
//!    first seen, of a stream that expects it: its IP is that of the stream's other media, of its earlier
//!    sources, or the announced one. A stream of which no address is known takes a source from anywhere, if
//!    it was first seen after the stream was opened and nobody else is nearer. So does, after [`HINT_PATIENCE`],
//!    a stream whose announced address is silent, if nobody else could be meant at all.
//! 3. Every other stream whose camera could be behind that address too is a rival. A rival is ruled out when
//!    its own source went on sending after the new one had appeared. While one is left, the claim waits.
//! 4. Between rivals, clues decide only if they fit exactly one: the CNAME of the SDP, or the media clock.
//! 5. What was a camera's source stays that camera's until it is silent for [`MEMORY`]; a stream that was
//!    closed without ever being latched stays a rival for [`AFTERLIFE`].
//!
//! Nothing is sent to an address that is not pinned: [`Latch::rtcp_destinations`] is the only way to one.

mod clue;
mod expectation;
mod field;
mod strangers;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use self::clue::{Clue, RtcpClue, RtpClue};
use self::expectation::{Expectation, Standing};
use self::field::{Field, Interest};
use self::strangers::{Past, Stranger, Strangers};
use super::frame::MediaKind;
use crate::base::CameraId;

/// A holder of a media slot that was silent for this long can be replaced by a source that qualifies.
pub const RELATCH_SILENCE: Duration = Duration::from_secs(3);
/// The same, if the new source has the IP that the control plane announced after the holder was pinned.
pub const EXPECTED_SILENCE: Duration = Duration::from_secs(1);
/// The same for RTCP, which is sent every few seconds only (RFC 3550 §6.2).
pub const RTCP_SILENCE: Duration = Duration::from_secs(15);
/// A stream's sound must begin this soon after its picture; later its free audio slot attracts nobody,
/// so that a camera without sound does not make its neighbour's sound ambiguous.
pub const AUDIO_GRACE: Duration = Duration::from_secs(3);
/// A rival is ruled out when its own source was heard this long after the new one appeared: packets of a
/// source that has moved do not arrive later than that.
pub const CONFIRM: Duration = Duration::from_millis(500);
/// A source of media that pauses for so long may have been another one meanwhile: its camera's NAT gives it one port, then
/// another, then the first again.
pub const PAUSE: Duration = Duration::from_millis(800);
/// A camera may send from another address than the announced one (a NAT that it does not know of). Nothing must
/// have come from the announced one meanwhile, and nobody else may be expected.
pub const HINT_PATIENCE: Duration = Duration::from_secs(1);
/// What was a camera's source is no other camera's until it was silent for this long.
pub const MEMORY: Duration = Duration::from_secs(10);
/// A stream that was closed unlatched stays a rival for this long: its camera may answer the play late.
pub const AFTERLIFE: Duration = Duration::from_secs(5);
/// A camera without feedback sends no longer than this (contract §1: 30 s).
pub const STARVED: Duration = Duration::from_secs(35);
/// A pinned source that was silent for longer has to be claimed again. NATs keep a mapping for 30 s at least.
pub const PIN_LIFE: Duration = Duration::from_secs(20);
/// Sources remembered that belong to nobody; the one that was silent for long makes room.
pub const MAX_STRANGERS: usize = 2_048;
/// Refusals of packets that may be a stream's are one dispute unless there is a pause of this length.
pub const DISPUTE_GAP: Duration = Duration::from_secs(1);
/// RTCP that was silent for this long is not the only destination of feedback any more.
const RTCP_FRESH: Duration = Duration::from_secs(8);

/// What a packet from a camera is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Video RTP.
    Video,
    /// Audio RTP.
    Audio,
    /// RTCP of both media.
    Rtcp,
}

impl From<MediaKind> for Slot {
    fn from(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Video => Self::Video,
            MediaKind::Audio => Self::Audio,
        }
    }
}

/// The ports that a packet arrived at. Sources at different entrances have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entrance {
    /// The three ports that all cameras share.
    Shared,
    /// Three ports that one stream has for itself: which of the pool.
    Own(u16),
}

/// A stream that is to be expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Its camera. What was this camera's source before is taken again at once.
    pub camera: CameraId,
    /// The address that its packets will come from, where the control plane knows it.
    pub announced: Option<IpAddr>,
    /// The CNAME of its SDP.
    pub cname: String,
    /// The ports that it was told to send to.
    pub entrance: Entrance,
}

/// A well-formed packet on a camera port.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it arrived.
    pub entrance: Entrance,
    /// What it is for.
    pub slot: Slot,
    /// What it says about its sender.
    pub clue: Clue<'a>,
}

/// Why a packet belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unlatched {
    /// No stream expects this source.
    Unexpected,
    /// More than one camera could have sent it.
    Ambiguous,
    /// It may be a stream's new source; another stream's camera must be ruled out first ([`CONFIRM`]).
    Unconfirmed,
    /// It was sending before the stream was opened that would take it: it does not answer its play.
    Earlier,
    /// Another live source of that stream holds the slot.
    SlotTaken,
    /// It was another camera's source until a moment ago.
    OtherCamera,
}

/// Packets of video are refused that may be a stream's, while it has none: they may be another's as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute {
    /// Since when, without a pause of [`DISPUTE_GAP`].
    pub since: Instant,
    /// When the last one was refused.
    pub last: Instant,
    /// How many were, in that time.
    pub packets: u64,
}

/// A stream that was opened and shows no video for so long makes room for others that cannot be told from it.
pub const TURN: Duration = Duration::from_secs(3);
/// One that showed none in its turns before gets longer ones, up to this: its camera may be slow to do what it is told.
pub const LONGEST_TURN: Duration = Duration::from_secs(9);
/// The same for one that has shown video: cameras need a while to boot.
pub const RETURN_TURN: Duration = Duration::from_secs(10);

/// Why a packet belongs to nobody, and the stream that it comes nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<K> {
    /// The reason.
    pub why: Unlatched,
    /// The stream of the same IP, or the one that it would belong to if the reason were not.
    pub nearest: Option<K>,
}

/// An accepted packet's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latched<K> {
    /// The stream.
    pub stream: K,
    /// The slot was claimed with this packet (first packet of this source for this slot).
    pub new: bool,
    /// Packets of this source were dropped before.
    pub waited: bool,
}

/// The table of sources.
#[derive(Debug)]
pub struct Latch<K> {
    streams: HashMap<K, Expectation>,
    pins: HashMap<Key, K>,
    strangers: Strangers,
    /// Streams that were closed unlatched, and until when they count.
    ghosts: Vec<(Expectation, Instant)>,
}

/// A source address at an entrance.
type Key = (Entrance, SocketAddr);

impl<K> Default for Latch<K> {
    fn default() -> Self {
        Self { streams: HashMap::new(), pins: HashMap::new(), strangers: Strangers::default(), ghosts: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash> Latch<K> {
    /// Expects a stream from `now` on. One that is open already starts anew.
    pub fn open(&mut self, stream: K, expect: Expect, now: Instant) {
        self.close(stream, now);
        // Its own play is on its way: what the camera sends now is its, whichever stream it was for.
        self.ghosts.retain(|(ghost, until)| *until > now && ghost.camera != expect.camera);
        self.streams.insert(stream, Expectation::new(expect, now));
    }

    /// The control plane learned the camera's address.
    pub fn expect(&mut self, stream: K, ip: IpAddr, now: Instant) {
        if let Some(expectation) = self.streams.get_mut(&stream) {
            expectation.announce(ip, now);
        }
    }

    /// Ends a stream. Its sources are remembered as its camera's.
    pub fn close(&mut self, stream: K, now: Instant) {
        let Some(expectation) = self.streams.remove(&stream) else { return };
        for key in expectation.keys() {
            if self.pins.remove(&key).is_some() {
                self.strangers.remember(key, Past::Of(expectation.camera), expectation.clock_of(key.1), now);
            }
        }
        for (rates, clock) in expectation.clocks() {
            self.strangers.remember_clock(expectation.camera, expectation.entrance, rates, clock, now);
        }
        // Whoever might have been its camera, and never was proven another, must not become another's now.
        self.strangers.doubt(expectation.camera, |key, stranger| expectation.could_be(key, stranger, now), now);
        // One that was not heard a moment ago may be on its way to another address, where it misses its stop.
        if !expectation.shows(now) {
            self.ghosts.retain(|(_, until)| *until > now);
            self.ghosts.push((expectation, now + AFTERLIFE));
        }
    }

    /// Whose packet is this? Pins the source if the rules allow it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: drop and count the packet.
    pub fn accept(&mut self, arrival: &Arrival<'_>, now: Instant) -> Result<Latched<K>, Refusal<K>> {
        let key = (arrival.entrance, arrival.source);
        let (stream, waited) = match self.holder_of(key, arrival, now) {
            Some(owner) => (owner, false),
            None => {
                let stranger = self.strangers.note(key, arrival, now);
                (self.claim(arrival, &stranger, now)?, stranger.packets > 1)
            }
        };
        let refused = |why| Refusal { why, nearest: Some(stream) };
        let expectation = self.streams.get_mut(&stream).ok_or(refused(Unlatched::Unexpected))?;
        let taken = expectation.take(arrival, now).ok_or(refused(Unlatched::SlotTaken))?;
        if taken.new {
            self.pins.insert(key, stream);
            self.strangers.forget(key);
            for (old, clock) in taken.dropped.into_iter().flatten() {
                if self.pins.remove(&old).is_some() {
                    // Reports have no clock of their own to show later that it is the same camera.
                    let past = if clock.is_some() { Past::Of } else { Past::Suspect };
                    self.strangers.remember(old, past(expectation.camera), clock, now);
                }
            }
        }
        Ok(Latched { stream, new: taken.new, waited: taken.new && waited })
    }

    /// Where RTCP goes: to the camera's own RTCP source while that is heard; otherwise to the RTP source and,
    /// as RFC 3550 §11 has it, to the port above, unless that is another stream's.
    pub fn rtcp_destinations(&self, stream: K, now: Instant) -> impl Iterator<Item = SocketAddr> + use<K> {
        let found = self.streams.get(&stream).map(|expectation| {
            let rtcp = expectation.holder(Slot::Rtcp);
            if let Some(rtcp) = rtcp.filter(|holder| now < holder.last + RTCP_FRESH) {
                return [Some(rtcp.source), None, None];
            }
            let rtp = expectation.holder(Slot::Video).or(expectation.holder(Slot::Audio)).map(|holder| holder.source);
            let above = rtp
                .and_then(|rtp| rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port)))
                .filter(|above| self.pins.get(&(expectation.entrance, *above)).is_none_or(|owner| *owner == stream));
            let rtcp = rtcp.map(|holder| holder.source).filter(|rtcp| Some(*rtcp) != rtp && Some(*rtcp) != above);
            [rtcp, rtp, above]
        });
        found.unwrap_or_default().into_iter().flatten()
    }

    /// Address that holds a slot.
    pub fn source(&self, stream: K, slot: Slot) -> Option<SocketAddr> {
        Some(self.streams.get(&stream)?.holder(slot)?.source)
    }

    /// The ports of a stream.
    pub fn entrance(&self, stream: K) -> Option<Entrance> {
        Some(self.streams.get(&stream)?.entrance)
    }

    /// Whose a source is.
    pub fn owner(&self, entrance: Entrance, source: SocketAddr) -> Option<K> {
        self.pins.get(&(entrance, source)).copied()
    }

    /// All pinned sources.
    pub fn pins(&self) -> impl Iterator<Item = (Entrance, SocketAddr, K)> + '_ {
        self.pins.iter().map(|((entrance, source), stream)| (*entrance, *source, *stream))
    }

    /// A camera that could not be told from the expected one, because it is not fully latched itself.
    pub fn conflict(&self, expect: &Expect, now: Instant) -> Option<CameraId> {
        let ghosts = self.ghosts.iter().filter(|(_, until)| *until > now).map(|(ghost, _)| ghost);
        self.streams.values().chain(ghosts).find(|other| other.conflicts_with(expect, now)).map(|other| other.camera)
    }

    /// Packets that may be this stream's are being refused because they may be another's, or older than its
    /// `play`; `None` while it has live video.
    pub fn dispute(&self, stream: K, now: Instant) -> Option<Dispute> {
        self.streams.get(&stream)?.dispute(now)
    }

    /// Whether a stream's video is alive.
    pub fn shows_video(&self, stream: K, now: Instant) -> bool {
        self.streams.get(&stream).is_some_and(|expectation| expectation.has_live_video(now))
    }

    /// Packets of video refused in disputes since the stream was opened, or since its last video.
    pub fn disputed(&self, stream: K) -> u64 {
        self.streams.get(&stream).map_or(0, Expectation::disputed_packets)
    }

    /// Ends a stream for the time being; [`Latch::open`] with what this gives goes on with it.
    pub fn park(&mut self, stream: K, now: Instant) -> Option<Expect> {
        let expect = self.streams.get(&stream)?.to_expect();
        self.close(stream, now);
        Some(expect)
    }

    /// The streams that keep the expected one from being told from them, although they had their time to show video.
    pub fn blockers(&self, expect: &Expect, now: Instant) -> Vec<K> {
        let blocks = |other: &Expectation| other.is_overdue(now) && other.conflicts_with(expect, now);
        self.streams.iter().filter(|(_, other)| blocks(other)).map(|(stream, _)| *stream).collect()
    }

    /// Sources remembered that belong to nobody.
    pub fn strangers(&self) -> usize {
        self.strangers.len()
    }

    /// Whose a source is at `now`. A pin ends when its source was silent for long, or sends on as another would: a NAT
    /// may have given the address to another camera meanwhile, so it has to be claimed again.
    fn holder_of(&mut self, key: Key, arrival: &Arrival<'_>, now: Instant) -> Option<K> {
        let owner = *self.pins.get(&key)?;
        let expectation = self.streams.get_mut(&owner)?;
        if expectation.keeps(key.1, now) && !expectation.is_anothers(arrival, now) {
            return Some(owner);
        }
        expectation.let_go(key.1);
        self.pins.remove(&key);
        None
    }

    /// The one stream that may claim an unpinned source's packet. Remembers who else may be its owner.
    fn claim(&mut self, arrival: &Arrival<'_>, stranger: &Stranger, now: Instant) -> Result<K, Refusal<K>> {
        let mut interest = Interest::default();
        let result = self.claimant(arrival, stranger, &mut interest, now);
        for camera in interest.ghosts {
            // A late answer to a stream that has ended may last for longer than its ghost.
            self.strangers.suspect((arrival.entrance, arrival.source), camera, now);
        }
        if let Err(Refusal { why: Unlatched::Ambiguous | Unlatched::Earlier, .. }) = result {
            for stream in if interest.streams.is_empty() { interest.distant } else { interest.streams } {
                let Some(expectation) = self.streams.get_mut(&stream) else { continue };
                match arrival.slot {
                    Slot::Video => expectation.disputed(now),
                    Slot::Audio => expectation.sound_disputed(),
                    Slot::Rtcp => {}
                }
            }
        }
        result
    }

    fn claimant(
        &self,
        arrival: &Arrival<'_>,
        stranger: &Stranger,
        interest: &mut Interest<K>,
        now: Instant,
    ) -> Result<K, Refusal<K>> {
        let mut field = Field::default();
        field.past = stranger.past;
        for (stream, expectation) in self.streams.iter().filter(|(_, e)| e.entrance == arrival.entrance) {
            let standing = expectation.standing(arrival, stranger, now);
            match standing {
                Standing::No(None | Some(Unlatched::OtherCamera | Unlatched::SlotTaken)) => {}
                Standing::Distant => interest.distant.push(*stream),
                _ => interest.streams.push(*stream),
            }
            if matches!(standing, Standing::No(_)) && expectation.may_have_moved(stranger, now) {
                field.unheard.push(expectation);
            }
            field.add(Some(*stream), expectation, standing);
        }
        for (ghost, _) in self.ghosts.iter().filter(|(e, until)| e.entrance == arrival.entrance && *until > now) {
            let standing = match ghost.standing(arrival, stranger, now) {
                // Also one of which no address is known: it may be behind that one as well.
                Standing::Near | Standing::Late | Standing::Far => Standing::Rival { near: true, soon: false },
                other => other,
            };
            if matches!(standing, Standing::Rival { .. }) {
                interest.ghosts.push(ghost.camera);
            }
            field.add(None, ghost, standing);
        }
        // A CNAME of ours names its stream, whoever else is near.
        let named = match arrival.clue {
            Clue::Rtcp(RtcpClue { cname: Some(cname), .. }) => {
                self.streams.iter().find(|(_, e)| e.has_cname(cname)).map(|(stream, _)| *stream)
            }
            _ => None,
        };
        field.decide(arrival, named, now)
    }
}
