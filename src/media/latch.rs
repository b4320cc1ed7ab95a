//! Latching: which source address belongs to which stream.
//!
//! All cameras use the same SSRCs on the same three ports (contract §4), so only the source address
//! tells them apart. The rules, in their order:
//!
//! 1. A pinned address belongs to its stream; the medium is told by payload type.
//! 2. An unknown address may claim a slot (video, audio, RTCP) that is free, or whose holder has been
//!    silent for [`RELATCH_SILENCE`], of a stream that expects it: its IP is the one that MQTT named or
//!    from which the stream's other media come. Streams whose IP nobody knows are considered last.
//! 3. The claim stands only if exactly one stream qualifies; otherwise the packet is dropped.
//!
//! Nothing is sent to an address that is not pinned: [`Latch::rtcp_destinations`] is the only way to one.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::frame::MediaKind;

/// A slot's holder that was silent for this long can be replaced by a source that qualifies.
pub const RELATCH_SILENCE: Duration = Duration::from_secs(3);
/// A stream's sound must begin this soon after its picture; later its free audio slot attracts nobody,
/// so that a camera without sound does not make its neighbour's sound ambiguous.
pub const AUDIO_GRACE: Duration = Duration::from_secs(10);

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

/// Why a packet belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unlatched {
    /// No stream expects this source.
    Unexpected,
    /// More than one stream could be meant.
    Ambiguous,
    /// The source belongs to a stream, but another live source of that stream holds the slot.
    SlotTaken,
}

/// An accepted packet's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latched<K> {
    /// The stream.
    pub stream: K,
    /// The slot was claimed with this packet (first packet of this source for this slot).
    pub new: bool,
}

/// The table of sources.
#[derive(Debug)]
pub struct Latch<K> {
    streams: HashMap<K, Expectation>,
    sources: HashMap<SocketAddr, K>,
}

#[derive(Debug, Default)]
struct Expectation {
    expected_ip: Option<IpAddr>,
    slots: [Option<Holder>; 3],
    video_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    source: SocketAddr,
    last: Instant,
}

impl<K: Copy + Eq + Hash> Default for Latch<K> {
    fn default() -> Self {
        Self { streams: HashMap::new(), sources: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Latch<K> {
    /// Expects a stream from now on, from `expected_ip` if the control plane knows it.
    pub fn open(&mut self, stream: K, expected_ip: Option<IpAddr>) {
        self.streams.insert(stream, Expectation { expected_ip, ..Default::default() });
    }

    /// The control plane learned the camera's address.
    pub fn expect(&mut self, stream: K, ip: IpAddr) {
        if let Some(expectation) = self.streams.get_mut(&stream) {
            expectation.expected_ip = Some(ip);
        }
    }

    /// Forgets a stream and its sources.
    pub fn close(&mut self, stream: K) {
        self.streams.remove(&stream);
        self.sources.retain(|_, owner| *owner != stream);
    }

    /// Whose packet is this? Pins the source if the rules allow it.
    ///
    /// # Errors
    ///
    /// [`Unlatched`]: drop and count the packet.
    pub fn accept(&mut self, source: SocketAddr, slot: Slot, now: Instant) -> Result<Latched<K>, Unlatched> {
        let stream = match self.sources.get(&source) {
            Some(owner) => *owner,
            None => self.claimant(source, slot, now)?,
        };
        let expectation = self.streams.get_mut(&stream).ok_or(Unlatched::Unexpected)?;
        let new = match &mut expectation.slots[slot as usize] {
            Some(holder) if holder.source == source => {
                holder.last = now;
                false
            }
            Some(holder) if !holder.is_silent(now) => return Err(Unlatched::SlotTaken),
            place => {
                let replaced = place.replace(Holder { source, last: now });
                self.sources.insert(source, stream);
                if let Some(old) = replaced
                    && !expectation.holds(old.source)
                {
                    self.sources.remove(&old.source);
                }
                true
            }
        };
        if slot == Slot::Video && new {
            expectation.video_since = Some(now);
        }
        Ok(Latched { stream, new })
    }

    /// Where RTCP for `slot`'s medium goes: to the camera's own RTCP source once it is known, until then
    /// to the RTP source and, as RFC 3550 §11 has it, to the port above.
    pub fn rtcp_destinations(&self, stream: K) -> impl Iterator<Item = SocketAddr> + use<K> {
        let slots = self.streams.get(&stream).map(|e| e.slots).unwrap_or_default();
        let rtp = slots[Slot::Video as usize].or(slots[Slot::Audio as usize]);
        let [first, second] = match (slots[Slot::Rtcp as usize], rtp) {
            (Some(rtcp), _) => [Some(rtcp.source), None],
            (None, Some(rtp)) => {
                let above = rtp.source.port().checked_add(1).map(|port| SocketAddr::new(rtp.source.ip(), port));
                [Some(rtp.source), above]
            }
            (None, None) => [None, None],
        };
        first.into_iter().chain(second)
    }

    /// Address that holds a slot.
    pub fn source(&self, stream: K, slot: Slot) -> Option<SocketAddr> {
        self.streams.get(&stream)?.slots[slot as usize].map(|holder| holder.source)
    }

    fn claimant(&self, source: SocketAddr, slot: Slot, now: Instant) -> Result<K, Unlatched> {
        let candidates = |wanted: Match| {
            let mut found = self
                .streams
                .iter()
                .filter(move |(_, e)| e.wants(source.ip(), slot, now) == Some(wanted))
                .map(|(k, _)| *k);
            (found.next(), found.next())
        };
        for level in [Match::Expected, Match::Unknown] {
            match candidates(level) {
                (Some(stream), None) => return Ok(stream),
                (Some(_), Some(_)) => return Err(Unlatched::Ambiguous),
                _ => {}
            }
        }
        Err(Unlatched::Unexpected)
    }
}

/// How well a source fits a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Expected,
    Unknown,
}

impl Expectation {
    fn wants(&self, ip: IpAddr, slot: Slot, now: Instant) -> Option<Match> {
        let free = self.slots[slot as usize].is_none_or(|holder| holder.is_silent(now));
        let in_time = match slot {
            Slot::Audio => {
                self.video_since.is_none_or(|since| now < since + AUDIO_GRACE) || self.slots[slot as usize].is_some()
            }
            // A camera's RTCP says nothing about itself: only a stream with media can own it.
            Slot::Rtcp => self.slots[Slot::Video as usize].is_some() || self.slots[Slot::Audio as usize].is_some(),
            Slot::Video => true,
        };
        if !free || !in_time {
            return None;
        }
        let mut known = self.slots.iter().flatten().map(|holder| holder.source.ip()).chain(self.expected_ip).peekable();
        if known.peek().is_none() {
            return Some(Match::Unknown);
        }
        known.any(|known| known == ip).then_some(Match::Expected)
    }

    fn holds(&self, source: SocketAddr) -> bool {
        self.slots.iter().flatten().any(|holder| holder.source == source)
    }
}

impl Holder {
    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= RELATCH_SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    struct Scene {
        latch: Latch<u8>,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { latch: Latch::default(), now: Instant::now() }
        }

        fn packet(&mut self, from: &str, slot: Slot) -> Result<u8, Unlatched> {
            self.latch.accept(addr(from), slot, self.now).map(|latched| latched.stream)
        }

        fn after(&mut self, seconds: u64) -> &mut Self {
            self.now += Duration::from_secs(seconds);
            self
        }
    }

    #[test]
    fn a_lone_pending_stream_takes_the_first_source_from_anywhere() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Ok(1));
        assert_eq!(s.packet("10.0.0.5:4002", Slot::Audio), Ok(1));
        assert_eq!(s.packet("10.0.0.5:4001", Slot::Rtcp), Ok(1));
    }

    #[test]
    fn nobody_expects_a_stranger() {
        let mut s = Scene::new();
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Err(Unlatched::Unexpected));
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        assert_eq!(s.packet("10.0.0.9:4000", Slot::Video), Err(Unlatched::Unexpected));
        assert_eq!(s.packet("10.0.0.9:4001", Slot::Rtcp), Err(Unlatched::Unexpected));
    }

    #[test]
    fn two_pending_streams_without_addresses_are_ambiguous() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.latch.open(2, None);
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Err(Unlatched::Ambiguous));
    }

    #[test]
    fn the_address_from_mqtt_decides_between_two_pending_streams() {
        let mut s = Scene::new();
        s.latch.open(1, Some("10.0.0.5".parse().unwrap()));
        s.latch.open(2, Some("10.0.0.6".parse().unwrap()));
        assert_eq!(s.packet("10.0.0.6:4000", Slot::Video), Ok(2));
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Ok(1));
        assert_eq!(s.packet("10.0.0.7:4000", Slot::Video), Err(Unlatched::Unexpected));
    }

    #[test]
    fn a_second_camera_behind_the_same_address_is_told_apart_when_it_comes_later() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.packet("10.0.0.5:4002", Slot::Audio).unwrap();
        s.latch.open(2, None);
        assert_eq!(s.packet("10.0.0.5:5000", Slot::Video), Ok(2));
        assert_eq!(s.packet("10.0.0.5:5002", Slot::Audio), Ok(2));
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Ok(1));
    }

    #[test]
    fn a_camera_without_sound_does_not_claim_its_neighbours_for_ever() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.after(11).latch.open(2, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.packet("10.0.0.5:5000", Slot::Video).unwrap();
        assert_eq!(s.packet("10.0.0.5:5002", Slot::Audio), Ok(2));
    }

    #[test]
    fn rtcp_of_two_cameras_behind_one_address_stays_unlatched_rather_than_guessed() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.latch.open(2, None);
        s.packet("10.0.0.5:5000", Slot::Video).unwrap();
        assert_eq!(s.packet("10.0.0.5:5001", Slot::Rtcp), Err(Unlatched::Ambiguous));
    }

    #[test]
    fn an_imitator_never_gets_in_while_the_real_source_is_alive() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.after(2);
        assert_eq!(s.packet("10.0.0.5:6000", Slot::Video), Err(Unlatched::Unexpected));
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.after(2);
        assert_eq!(s.packet("10.0.0.5:6000", Slot::Video), Err(Unlatched::Unexpected));
    }

    #[test]
    fn after_silence_a_new_port_of_the_same_address_takes_over_and_another_address_does_not() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.after(4);
        assert_eq!(s.packet("10.0.0.9:6000", Slot::Video), Err(Unlatched::Unexpected));
        assert_eq!(s.packet("10.0.0.5:6000", Slot::Video), Ok(1));
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Err(Unlatched::Unexpected));
    }

    #[test]
    fn after_silence_the_address_that_mqtt_names_takes_over() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.after(4).latch.expect(1, "10.0.0.77".parse().unwrap());
        assert_eq!(s.packet("10.0.0.77:4000", Slot::Video), Ok(1));
    }

    #[test]
    fn feedback_goes_to_both_possible_ports_until_the_cameras_own_rtcp_shows_the_right_one() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        assert_eq!(s.latch.rtcp_destinations(1).count(), 0);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        let both: Vec<_> = s.latch.rtcp_destinations(1).collect();
        assert_eq!(both, [addr("10.0.0.5:4000"), addr("10.0.0.5:4001")]);
        s.packet("10.0.0.5:7777", Slot::Rtcp).unwrap();
        assert_eq!(s.latch.rtcp_destinations(1).collect::<Vec<_>>(), [addr("10.0.0.5:7777")]);
    }

    #[test]
    fn one_socket_for_rtp_and_rtcp_is_one_source() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Rtcp), Ok(1));
        assert_eq!(s.latch.rtcp_destinations(1).collect::<Vec<_>>(), [addr("10.0.0.5:4000")]);
    }

    #[test]
    fn a_closed_stream_gets_nothing_and_its_source_is_free() {
        let mut s = Scene::new();
        s.latch.open(1, None);
        s.packet("10.0.0.5:4000", Slot::Video).unwrap();
        s.latch.close(1);
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Err(Unlatched::Unexpected));
        assert_eq!(s.latch.rtcp_destinations(1).count(), 0);
        s.latch.open(2, None);
        assert_eq!(s.packet("10.0.0.5:4000", Slot::Video), Ok(2));
    }
}
