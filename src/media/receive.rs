//! One track as it is received: wrap-around, duplicates, restarts and RFC 3550 statistics.
//!
//! Out comes a numbering that is continuous for viewers whatever the camera does: a reboot or an SSRC
//! change continues one above the highest number so far, and the timestamp goes on by the wall clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::Codec;
use super::id::{ExtSeq, RtpTime, SeqNo, Ssrc};
use super::rtp::RtpPacket;

/// A forward jump beyond this is a restart, not loss (RFC 3550 A.1 `MAX_DROPOUT`).
const MAX_DROPOUT: i64 = 3_000;
/// A packet further back than this is a restart, not reordering. RFC 3550 A.1 suggests 100, which knows no
/// retransmissions: what is asked for after 300 ms at 5 Mbit/s comes several hundred packets late.
const MAX_MISORDER: i64 = WINDOW as i64;
/// Packets remembered to recognise duplicates.
const WINDOW: u64 = 1_024;
/// A known source that comes from a new address goes on with its timestamps within this of the clock (NAT
/// rebinding); else it has rebooted.
const REBINDING_TOLERANCE: Duration = Duration::from_secs(2);
/// A timestamp that leaves the wall clock by more than this was restarted.
const MAX_TIMESTAMP_LEAP: Duration = Duration::from_secs(10);
/// Sequence numbers towards viewers begin here: room below for a replay, far from the first wrap.
const FIRST_SEQ: u64 = 0x1_0000;
const FIRST_TIME: u64 = 1 << 32;
const BITRATE_WINDOW: Duration = Duration::from_secs(1);

/// Place of an accepted packet on the continuous numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Continuous sequence number.
    pub seq: ExtSeq,
    /// Continuous timestamp, in units of the codec's clock rate.
    pub time: RtpTime,
    /// What the packet holds.
    pub codec: Codec,
    /// The packet is the first one of a source (first packet, reboot, change of SSRC or codec).
    pub restarted: bool,
}

/// Why a packet is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Seen before.
    Duplicate,
    /// Far outside the expected range; believed only when the next packet follows it (RFC 3550 A.1).
    Probation,
}

/// Receive state of one track.
#[derive(Debug)]
pub struct TrackReceiver {
    source: Option<Source>,
    /// Highest continuous numbers given out.
    highest: (ExtSeq, RtpTime),
    last_arrival: Option<Instant>,
    counters: Counters,
    rate: RateMeter,
    /// The packet under probation, and what it became when the next one confirmed it.
    held: Option<Held>,
    confirmed: Option<(RtpPacket, Placed)>,
}

/// See [`TrackReceiver::place`].
type Expected<'a> = &'a dyn Fn() -> Option<RtpTime>;

/// A packet that may be the first one of a new run.
#[derive(Debug)]
struct Held {
    packet: RtpPacket,
    expected: Option<RtpTime>,
    arrived: Instant,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counters {
    packets: u64,
    bytes: u64,
    duplicates: u64,
    lost_before_restart: u64,
}

/// State of one run of one SSRC.
#[derive(Debug)]
struct Source {
    ssrc: Ssrc,
    codec: Codec,
    highest_seq: ExtSeq,
    first_seq: ExtSeq,
    received: u64,
    last_time: RtpTime,
    seen: Seen,
    /// What to add to get the continuous numbers.
    seq_shift: i64,
    time_shift: i64,
    /// Next number after an unbelievable jump (`bad_seq` of RFC 3550 A.1).
    probation: Option<SeqNo>,
    /// Timestamp of the last packet, and smoothed jitter in timestamp units (RFC 3550 A.8).
    last_timestamp: Option<u32>,
    jitter: f64,
}

/// Figures of a track so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReceiveFigures {
    /// Packets accepted.
    pub packets: u64,
    /// Payload bytes accepted.
    pub bytes: u64,
    /// Packets expected and not received, never below 0.
    pub lost: u64,
    /// Duplicates refused.
    pub duplicates: u64,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Payload bits per second over the last second.
    pub bitrate: u64,
    /// What is being received.
    pub codec: Option<Codec>,
}

impl Default for TrackReceiver {
    fn default() -> Self {
        Self::new()
    }
}

impl TrackReceiver {
    /// A track that has received nothing.
    pub fn new() -> Self {
        Self {
            source: None,
            highest: (ExtSeq(FIRST_SEQ - 1), RtpTime(FIRST_TIME)),
            last_arrival: None,
            counters: Counters::default(),
            rate: RateMeter::default(),
            held: None,
            confirmed: None,
        }
    }

    /// Places a packet of `codec` that arrived at `now`. `moved`: it is the first one from another address of its
    /// camera. `expected` tells the continuous timestamp that a packet should have now ([`StreamClock::expected`]);
    /// where the camera's own clock was set anew, and only then is it asked, the track goes on from there.
    ///
    /// [`StreamClock::expected`]: super::clock::StreamClock::expected
    ///
    /// After a restart that needed a second packet as proof, [`Self::take_confirmed`] gives the first one.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the packet must not be forwarded now.
    pub fn place(
        &mut self,
        packet: &RtpPacket,
        codec: Codec,
        moved: bool,
        expected: Expected<'_>,
        now: Instant,
    ) -> Result<Placed, Refused> {
        let goes_on = |source: &Source| {
            source.ssrc == packet.ssrc() && source.codec == codec && !(moved && self.has_rebooted(packet, now))
        };
        if !self.source.as_ref().is_some_and(goes_on) {
            self.held = None;
            return Ok(self.restart(packet, codec, expected, now));
        }
        match self.source.as_mut().expect("checked above").admit(packet.seq()) {
            Ok(Admission::Continues) => {
                self.held = None;
                Ok(self.accept(packet, false, expected, now))
            }
            Ok(Admission::Restarts) => match self.held.take().filter(|held| held.packet.ssrc() == packet.ssrc()) {
                Some(Held { packet: first, expected: then, arrived }) => {
                    // Its time is that of its own arrival.
                    let placed = self.restart(&first, codec, &|| then, arrived);
                    self.confirmed = Some((first, placed));
                    // It follows the first one, so it cannot be refused.
                    self.source.as_mut().expect("restarted above").admit(packet.seq())?;
                    Ok(self.accept(packet, true, expected, now))
                }
                None => Ok(self.restart(packet, codec, expected, now)),
            },
            Err(refused) => {
                if refused == Refused::Probation {
                    self.held = Some(Held { packet: packet.clone(), expected: expected(), arrived: now });
                }
                Err(refused)
            }
        }
    }

    /// The packet before the one that was placed last, if that one was its proof. To be forwarded first.
    pub fn take_confirmed(&mut self) -> Option<(RtpPacket, Placed)> {
        self.confirmed.take()
    }

    /// Whether a packet from a new address begins a new run: its numbers do not go on where they were.
    fn has_rebooted(&self, packet: &RtpPacket, now: Instant) -> bool {
        let Some(source) = &self.source else { return true };
        let ahead = source.highest_seq.extend(packet.seq()).0 as i64 - source.highest_seq.0 as i64;
        let clock_rate = source.codec.clock_rate();
        let elapsed = self.last_arrival.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let advanced = source.last_time.extend(packet.timestamp()).0 as i64 - source.last_time.0 as i64;
        let off = (advanced - ticks(elapsed, clock_rate) as i64).unsigned_abs();
        !(1..MAX_DROPOUT).contains(&ahead) || off > ticks(REBINDING_TOLERANCE, clock_rate)
    }

    fn accept(&mut self, packet: &RtpPacket, restarted: bool, expected: Expected<'_>, now: Instant) -> Placed {
        let elapsed = self.last_arrival.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let source = self.source.as_mut().expect("a source was admitted or started");
        let clock_rate = source.codec.clock_rate();
        let seq = source.highest_seq.extend(packet.seq());
        let mut time = source.last_time.extend(packet.timestamp());
        let leap = ticks(elapsed + MAX_TIMESTAMP_LEAP, clock_rate);
        if time.0.abs_diff(source.last_time.0) > leap {
            // The media clock was set anew without a new SSRC or sequence: go on by the wall clock.
            let goes_on = go_on(self.highest.1, expected(), elapsed, clock_rate);
            source.time_shift = goes_on.0 as i64 - time.0 as i64;
        }
        source.last_time = time;
        source.update_jitter(packet.timestamp(), now, clock_rate, self.last_arrival);
        time = RtpTime(time.0.saturating_add_signed(source.time_shift));
        let seq = ExtSeq(seq.0.saturating_add_signed(source.seq_shift));
        let placed = Placed { seq, time, codec: source.codec, restarted };
        self.highest = (self.highest.0.max(placed.seq), self.highest.1.max(placed.time));
        self.last_arrival = Some(now);
        let bytes = packet.payload().len() as u64;
        self.counters.packets += 1;
        self.counters.bytes += bytes;
        self.rate.add(bytes, now);
        placed
    }

    /// A packet was refused as duplicate.
    pub fn count_duplicate(&mut self) {
        self.counters.duplicates += 1;
    }

    /// Figures at `now`.
    pub fn figures(&mut self, now: Instant) -> ReceiveFigures {
        let jitter = |source: &Source| source.jitter / f64::from(source.codec.clock_rate());
        let (lost, jitter) = self.source.as_ref().map_or((0, 0.0), |s| (s.lost(), jitter(s)));
        ReceiveFigures {
            packets: self.counters.packets,
            bytes: self.counters.bytes,
            lost: self.counters.lost_before_restart + lost,
            duplicates: self.counters.duplicates,
            jitter: Duration::from_secs_f64(jitter),
            codec: self.source.as_ref().map(|source| source.codec),
            bitrate: self.rate.bits_per_second(now),
        }
    }

    /// The continuous timestamp of a timestamp on the camera's clock, as its sender reports carry it.
    pub fn continuous_time(&self, timestamp: u32) -> Option<RtpTime> {
        let source = self.source.as_ref()?;
        Some(RtpTime(source.last_time.extend(timestamp).0.saturating_add_signed(source.time_shift)))
    }

    /// SSRC that is being received.
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.source.as_ref().map(|s| s.ssrc)
    }

    fn restart(&mut self, packet: &RtpPacket, codec: Codec, expected: Expected<'_>, now: Instant) -> Placed {
        let elapsed = self.last_arrival.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let next_seq = self.highest.0.0 + 1;
        // In units of the old clock: where the codec changes, numbers go on and their meaning is another.
        let next_time = self
            .source
            .as_ref()
            .map_or(self.highest.1, |source| go_on(self.highest.1, expected(), elapsed, source.codec.clock_rate()));
        self.counters.lost_before_restart += self.source.as_ref().map_or(0, Source::lost);
        // Two wraps up: numbers before the first packet (reordered at the start) stay positive.
        let seq = ExtSeq(0x2_0000 + u64::from(packet.seq().0));
        let time = RtpTime((2 << 32) + u64::from(packet.timestamp()));
        self.source = Some(Source {
            ssrc: packet.ssrc(),
            codec,
            highest_seq: seq,
            first_seq: seq,
            received: 1,
            last_time: time,
            seen: Seen::new(seq),
            seq_shift: next_seq as i64 - seq.0 as i64,
            time_shift: next_time.0 as i64 - time.0 as i64,
            probation: None,
            last_timestamp: None,
            jitter: 0.0,
        });
        self.accept(packet, true, expected, now)
    }
}

/// Where a track goes on whose clock was set anew: where it is expected to be, or as much later than the `highest`
/// timestamp as the last packet is past; always forward.
fn go_on(highest: RtpTime, expected: Option<RtpTime>, elapsed: Duration, rate: u32) -> RtpTime {
    let by_arrival = RtpTime(highest.0 + ticks(elapsed, rate));
    // An estimate that leaves the wall clock is none.
    let near = |expected: &RtpTime| expected.0.abs_diff(by_arrival.0) <= ticks(MAX_TIMESTAMP_LEAP, rate);
    expected.filter(near).unwrap_or(by_arrival).max(RtpTime(highest.0 + 1))
}

/// Which of the last [`WINDOW`] numbers were received.
#[derive(Debug)]
struct Seen([u64; (WINDOW / 64) as usize]);

impl Seen {
    fn new(first: ExtSeq) -> Self {
        let mut seen = Self([0; (WINDOW / 64) as usize]);
        seen.insert(first);
        seen
    }

    fn place(seq: ExtSeq) -> (usize, u64) {
        let bit = seq.0 % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn contains(&self, seq: ExtSeq) -> bool {
        let (word, mask) = Self::place(seq);
        self.0[word] & mask != 0
    }

    fn insert(&mut self, seq: ExtSeq) {
        let (word, mask) = Self::place(seq);
        self.0[word] |= mask;
    }

    /// Forgets the numbers that those from `highest` to `next` take the place of.
    fn advance(&mut self, highest: ExtSeq, next: ExtSeq) {
        if next.0 - highest.0 >= WINDOW {
            self.0.fill(0);
            return;
        }
        for seq in highest.0 + 1..=next.0 {
            let (word, mask) = Self::place(ExtSeq(seq));
            self.0[word] &= !mask;
        }
    }
}

enum Admission {
    Continues,
    Restarts,
}

impl Source {
    /// Sequence validation of RFC 3550 A.1 with a window for duplicates.
    fn admit(&mut self, wire: SeqNo) -> Result<Admission, Refused> {
        let seq = self.highest_seq.extend(wire);
        let ahead = seq.0 as i64 - self.highest_seq.0 as i64;
        if ahead >= MAX_DROPOUT || ahead <= -MAX_MISORDER {
            if self.probation == Some(wire) {
                return Ok(Admission::Restarts);
            }
            self.probation = Some(SeqNo(wire.0.wrapping_add(1)));
            return Err(Refused::Probation);
        }
        self.probation = None;
        if ahead > 0 {
            self.seen.advance(self.highest_seq, seq);
            self.highest_seq = seq;
        } else {
            if self.seen.contains(seq) {
                return Err(Refused::Duplicate);
            }
            self.first_seq = self.first_seq.min(seq);
        }
        self.seen.insert(seq);
        self.received += 1;
        Ok(Admission::Continues)
    }

    fn lost(&self) -> u64 {
        (self.highest_seq.0 - self.first_seq.0 + 1).saturating_sub(self.received)
    }

    /// RFC 3550 A.8; the arrival clock is differenced, so its origin does not matter.
    fn update_jitter(&mut self, timestamp: u32, now: Instant, clock_rate: u32, last: Option<Instant>) {
        let Some(last) = last else { return };
        let arrived = ticks(now.saturating_duration_since(last), clock_rate) as i64;
        if let Some(previous) = self.last_timestamp {
            let sent = i64::from(timestamp.wrapping_sub(previous) as i32);
            let d = (arrived - sent).unsigned_abs() as f64;
            self.jitter += (d - self.jitter) / 16.0;
        }
        self.last_timestamp = Some(timestamp);
    }
}

/// `duration` in timestamp units of `clock_rate` Hz.
pub(crate) fn ticks(duration: Duration, clock_rate: u32) -> u64 {
    let rate = u64::from(clock_rate);
    duration.as_secs().saturating_mul(rate).saturating_add(u64::from(duration.subsec_nanos()) * rate / 1_000_000_000)
}

/// Bits over a sliding second, in slots of 100 ms.
#[derive(Debug, Default)]
struct RateMeter {
    slots: VecDeque<(Instant, u64)>,
}

impl RateMeter {
    const SLOT: Duration = Duration::from_millis(100);

    fn add(&mut self, bytes: u64, now: Instant) {
        match self.slots.back_mut() {
            Some((start, sum)) if now.saturating_duration_since(*start) < Self::SLOT => *sum += bytes,
            _ => self.slots.push_back((now, bytes)),
        }
        self.expire(now);
    }

    fn bits_per_second(&mut self, now: Instant) -> u64 {
        self.expire(now);
        self.slots.iter().map(|(_, bytes)| bytes * 8).sum()
    }

    fn expire(&mut self, now: Instant) {
        while self.slots.front().is_some_and(|(start, _)| now.saturating_duration_since(*start) >= BITRATE_WINDOW) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
