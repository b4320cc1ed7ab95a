//! One stream's place in the latch: who holds its slots, and what a new source is to it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::clue::{Clock, Clue};
use super::strangers::{Past, Stranger};
use super::{
    AUDIO_GRACE, Arrival, CONFIRM, DISPUTE_GAP, Dispute, EXPECTED_SILENCE, Entrance, Expect, HINT_PATIENCE, Key,
    MEMORY, PIN_LIFE, RELATCH_SILENCE, RETURN_TURN, RTCP_SILENCE, STARVED, Slot, TURN, Unlatched,
};
use crate::base::CameraId;
use crate::media::Codec;

const SLOTS: [Slot; 3] = [Slot::Video, Slot::Audio, Slot::Rtcp];

#[derive(Debug)]
pub(super) struct Expectation {
    pub(super) camera: CameraId,
    pub(super) entrance: Entrance,
    cname: String,
    opened: Instant,
    /// The address that the control plane knows, and since when.
    announced: Option<(IpAddr, Instant)>,
    slots: [Option<Holder>; 3],
    /// Since when its present source of video is pinned.
    video_since: Option<Instant>,
    /// The IP of a source that was given up after a long silence.
    former_ip: Option<IpAddr>,
    /// Sources that were given up: the camera may go on elsewhere, unannounced.
    former: [Option<Former>; 3],
    dispute: Option<Dispute>,
    disputed_packets: u64,
    /// Sound that may be its own was refused.
    disputed_sound: bool,
}

/// The source of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) source: SocketAddr,
    pub(super) last: Instant,
    pinned: Instant,
    clock: Option<Clock>,
}

/// What is known of a slot's source that was given up.
#[derive(Debug, Clone, Copy)]
struct Former {
    last: Instant,
    clock: Option<Clock>,
}

/// Whether a source that was heard `last` then was there beside a stranger.
fn was_beside(last: Instant, stranger: &Stranger) -> bool {
    last >= stranger.resumed + CONFIRM
}

/// What a source is to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may claim it, because of the IP.
    Near,
    /// It may claim it, because nothing is known that speaks against it.
    Far,
    /// It may claim it if nobody else could: sound that comes long after the picture.
    Late,
    /// It may claim it if nobody else could: its camera was announced elsewhere and has not been heard there,
    /// as is the case behind a NAT that the camera does not know of.
    Distant,
    /// It may be its camera's, but must not claim it. `near`: because of the IP. `soon`: the stream's own
    /// source is alive and will rule it out when it is heard next.
    Rival { near: bool, soon: bool },
    /// It is not its camera's; where that is worth telling, why.
    No(Option<Unlatched>),
}

/// A packet was taken.
pub(super) struct Taken {
    /// The source is new in this slot.
    pub(super) new: bool,
    /// Sources that hold no slot any more, and their media clocks.
    pub(super) dropped: [Option<(Key, LastClock)>; 2],
}

/// A source's media clock, when it was seen last.
pub(super) type LastClock = Option<(Slot, Clock)>;

/// How a source's IP relates to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// The IP of its live media, of its silent sources, or the announced one.
    Same,
    /// Another one, but it is not known where the camera is: it was never heard of.
    Open,
    /// Another one than before. Whether the camera has moved is not known: nothing was announced.
    Moved,
    /// Another one than the announced one, from which nothing came so far.
    Elsewhere,
    /// Another one than the known one.
    Foreign,
}

impl Expectation {
    pub(super) fn new(expect: Expect, now: Instant) -> Self {
        Self {
            camera: expect.camera,
            entrance: expect.entrance,
            cname: expect.cname,
            opened: now,
            announced: expect.announced.map(|ip| (ip.to_canonical(), now)),
            slots: [None; 3],
            video_since: None,
            former_ip: None,
            former: [None; 3],
            dispute: None,
            disputed_packets: 0,
            disputed_sound: false,
        }
    }

    pub(super) fn announce(&mut self, ip: IpAddr, now: Instant) {
        let ip = ip.to_canonical();
        if self.announced.is_none_or(|(known, _)| known != ip) {
            self.announced = Some((ip, now));
        }
    }

    pub(super) fn holder(&self, slot: Slot) -> Option<Holder> {
        self.slots[slot as usize]
    }

    /// Its media clocks, each with its possible rates in Hz.
    pub(super) fn clocks(&self) -> impl Iterator<Item = (&'static [u32], Clock)> {
        SLOTS.into_iter().filter_map(|slot| Some((clock_rates(slot), self.clock(slot)?)))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.slots.iter().flatten().map(|holder| (self.entrance, holder.source))
    }

    /// Whether its video was heard a moment ago.
    pub(super) fn shows(&self, now: Instant) -> bool {
        self.holder(Slot::Video).is_some_and(|video| now < video.last + CONFIRM)
    }

    pub(super) fn has_live_video(&self, now: Instant) -> bool {
        self.holder(Slot::Video).is_some_and(|video| now < video.last + RELATCH_SILENCE)
    }

    /// A packet of video that may be this stream's was refused.
    pub(super) fn disputed(&mut self, now: Instant) {
        self.disputed_packets += 1;
        match &mut self.dispute {
            Some(dispute) if now < dispute.last + DISPUTE_GAP => {
                dispute.last = now;
                dispute.packets += 1;
            }
            dispute => *dispute = Some(Dispute { since: now, last: now, packets: 1 }),
        }
    }

    /// The refusals that go on, while no video of its own is alive.
    pub(super) fn dispute(&self, now: Instant) -> Option<Dispute> {
        let lives = self.has_live_video(now);
        self.dispute.filter(|dispute| !lives && now < dispute.last + DISPUTE_GAP)
    }

    /// The same for sound.
    pub(super) fn sound_disputed(&mut self) {
        self.disputed_sound = true;
    }

    pub(super) fn has_disputed_sound(&self) -> bool {
        self.disputed_sound
    }

    pub(super) fn disputed_packets(&self) -> u64 {
        self.disputed_packets
    }

    pub(super) fn to_expect(&self) -> Expect {
        let announced = self.announced.map(|(ip, _)| ip);
        Expect { camera: self.camera, announced, cname: self.cname.clone(), entrance: self.entrance }
    }

    /// Whether it had its time to show video and shows none.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        match self.holder(Slot::Video) {
            Some(video) => video.last + RETURN_TURN <= now,
            None => self.opened + TURN <= now,
        }
    }

    pub(super) fn has_cname(&self, cname: &[u8]) -> bool {
        !self.cname.is_empty() && self.cname.as_bytes() == cname
    }

    /// Takes a packet that is this stream's, unless another live source holds the slot.
    pub(super) fn take(&mut self, arrival: &Arrival<'_>, now: Instant) -> Option<Taken> {
        let source = arrival.source;
        let clock = match arrival.clue {
            Clue::Rtp(clue) => Some(Clock { ssrc: clue.ssrc, timestamp: clue.timestamp, at: now }),
            _ => None,
        };
        let live = self.is_live(arrival.slot, source.ip(), now);
        let rtp = Some(arrival.slot).filter(|slot| *slot != Slot::Rtcp);
        let place = &mut self.slots[arrival.slot as usize];
        let replaced = match place {
            Some(holder) if holder.source == source => {
                (holder.last, holder.clock) = (now, clock.or(holder.clock));
                return Some(Taken { new: false, dropped: [None; 2] });
            }
            Some(_) if live => return None,
            place => place.replace(Holder { source, last: now, pinned: now, clock }),
        };
        let mut dropped = [replaced, None];
        self.disputed_sound &= arrival.slot != Slot::Audio;
        if arrival.slot == Slot::Video {
            self.video_since = Some(now);
            (self.dispute, self.disputed_packets) = (None, 0);
            // After a reboot the old RTCP source is nobody. If it is alive it comes back with its next report.
            if replaced.is_some() {
                dropped[1] = self.slots[Slot::Rtcp as usize].take_if(|rtcp| rtcp.source != source);
            }
        }
        let lost = |old: Option<Holder>| {
            let old = old.filter(|old| !self.holds((self.entrance, old.source)))?;
            Some(((self.entrance, old.source), rtp.zip(old.clock)))
        };
        Some(Taken { new: true, dropped: dropped.map(lost) })
    }

    /// What an unpinned source that arrived at this stream's entrance is to it.
    pub(super) fn standing(&self, arrival: &Arrival<'_>, stranger: &Stranger, now: Instant) -> Standing {
        let (ip, slot) = (arrival.source.ip().to_canonical(), arrival.slot);
        let own = match stranger.past {
            Past::Of(camera) if camera != self.camera => return Standing::No(Some(Unlatched::OtherCamera)),
            Past::Of(_) => true,
            Past::Unknown | Past::Suspect(_) | Past::Doubtful => false,
        };
        match self.relation(ip, now) {
            Relation::Foreign => Standing::No(None),
            Relation::Elsewhere if slot == Slot::Rtcp => Standing::No(None),
            Relation::Elsewhere if stranger.first < self.opened && !own => Standing::No(Some(Unlatched::Earlier)),
            Relation::Elsewhere if now < stranger.first + HINT_PATIENCE => Standing::No(Some(Unlatched::Unconfirmed)),
            Relation::Elsewhere => Standing::Distant,
            Relation::Moved => {
                let near = self.announced.is_some_and(|(announced, _)| announced == ip);
                self.ruled_out_by(SLOTS, stranger, near, ip, now)
            }
            Relation::Open if stranger.first < self.opened && !own => Standing::No(Some(Unlatched::Earlier)),
            // A camera's RTCP says nothing about itself: only a stream with media can own it.
            Relation::Open if slot == Slot::Rtcp => Standing::Rival { near: false, soon: false },
            Relation::Open => Standing::Far,
            // It does not answer the play. Its own camera's, if that sends on, is known.
            Relation::Same if stranger.first < self.opened && !own && !self.is_suspected(stranger) => {
                if !self.was_heard() {
                    return Standing::No(Some(Unlatched::Earlier));
                }
                match self.slot_standing(slot, stranger, ip, now) {
                    // Nor is it the sound of a picture that does; until that is proven it must not be another's either.
                    Standing::Near | Standing::Late => Standing::Rival { near: true, soon: false },
                    other => other,
                }
            }
            Relation::Same => self.slot_standing(slot, stranger, ip, now),
        }
    }

    /// What a source of the right IP is to a slot.
    fn slot_standing(&self, slot: Slot, stranger: &Stranger, ip: IpAddr, now: Instant) -> Standing {
        match self.is_live(slot, ip, now) {
            true => self.ruled_out_by([slot], stranger, true, ip, now),
            false => self.free_slot(slot, stranger, ip, now),
        }
    }

    /// What a source of the right IP is to a slot that nobody alive holds.
    fn free_slot(&self, slot: Slot, stranger: &Stranger, ip: IpAddr, now: Instant) -> Standing {
        let former = self.former[slot as usize].map(|former| former.last);
        let last = self.holder(slot).map(|holder| holder.last).or(former);
        match (self.holder(slot), slot) {
            // It was there while the real source was alive: it is not its successor.
            _ if last.is_some_and(|last| was_beside(last, stranger)) => Standing::No(Some(Unlatched::SlotTaken)),
            // Since when it is there tells: who waited for sound then may own it, though it had to be confirmed.
            (_, Slot::Audio) if !self.audio_may_come(stranger.first, now) => match self.is_live(Slot::Video, ip, now) {
                true => Standing::Late,
                false => Standing::No(None),
            },
            (None, Slot::Rtcp) if !self.has_live_media(ip, now) => Standing::Rival { near: true, soon: false },
            _ => Standing::Near,
        }
    }

    /// The camera is at one place at a time: was one of its own live sources heard since the stranger came?
    fn ruled_out_by<const N: usize>(
        &self,
        slots: [Slot; N],
        stranger: &Stranger,
        near: bool,
        ip: IpAddr,
        now: Instant,
    ) -> Standing {
        let mut live = slots.into_iter().filter(|slot| self.is_live(*slot, ip, now)).peekable();
        let soon = live.peek().is_some();
        let heard = live.filter_map(|slot| self.holder(slot)).any(|own| was_beside(own.last, stranger));
        match (heard, near) {
            (true, true) => Standing::No(Some(Unlatched::SlotTaken)),
            (true, false) => Standing::No(None),
            (false, _) => Standing::Rival { near, soon },
        }
    }

    /// Whether a pinned source is this stream's without a new claim.
    pub(super) fn keeps(&self, source: SocketAddr, now: Instant) -> bool {
        self.slots.iter().flatten().any(|holder| holder.source == source && now < holder.last + PIN_LIFE)
    }

    /// Whether a pinned source sends as if it were not this stream's any more. After a pause the address may be another
    /// camera's, as it is when a NAT restarts together with the cameras behind it: only a media clock that goes on shows
    /// that it is not.
    pub(super) fn is_anothers(&self, arrival: &Arrival<'_>, now: Instant) -> bool {
        let own = self.holder(arrival.slot);
        match arrival.clue {
            Clue::None => false,
            Clue::Rtp(clue) => {
                let rates = clock_rates(arrival.slot);
                match own.filter(|own| own.source == arrival.source) {
                    Some(own) => {
                        own.last + CONFIRM <= now && own.clock.is_some_and(|clock| !clock.goes_on(clue, rates, now))
                    }
                    // What held another slot begins to send for this one.
                    None => {
                        let media = [Slot::Video, Slot::Audio].into_iter().filter_map(|slot| self.holder(slot));
                        let last = media.filter(|media| media.source == arrival.source).map(|media| media.last).max();
                        let is_heard = last.is_some_and(|last| now < last + CONFIRM);
                        !is_heard && !own.and_then(|own| own.clock).is_some_and(|clock| clock.fits(clue, rates, now))
                    }
                }
            }
            // While video comes, its camera is where it was.
            Clue::Rtcp(_) if self.shows(now) => false,
            Clue::Rtcp(clue) => clue.report.is_some_and(|report| {
                let clocks = |slot: Slot| Some((slot, self.holder(slot)?.clock.filter(|own| own.ssrc == report.ssrc)?));
                let mut own = [Slot::Video, Slot::Audio].into_iter().filter_map(clocks).peekable();
                own.peek().is_some() && !own.any(|(slot, own)| own.fits(report, clock_rates(slot), now))
            }),
        }
    }

    /// The media clock of a source that holds a slot.
    pub(super) fn clock_of(&self, source: SocketAddr) -> LastClock {
        let holders = [Slot::Video, Slot::Audio].into_iter().filter_map(|slot| Some((slot, self.holder(slot)?)));
        let clocks = holders.filter(|(_, holder)| holder.source == source);
        clocks.filter_map(|(slot, holder)| Some((slot, holder.clock?))).max_by_key(|(_, clock)| clock.at)
    }

    /// Whether its camera may be the stranger although it is known to be elsewhere: it was not heard there since, but
    /// not long ago. One that was silent for longer has stopped, and tells where it is before it hears of `play`.
    pub(super) fn may_have_moved(&self, stranger: &Stranger, now: Instant) -> bool {
        let last = self.slots.iter().flatten().map(|holder| holder.last).max();
        last.is_none_or(|last| last < stranger.resumed + CONFIRM && now < last + STARVED)
    }

    fn is_suspected(&self, stranger: &Stranger) -> bool {
        stranger.past == Past::Suspect(self.camera)
    }

    /// Whether it ever had a source.
    pub(super) fn was_heard(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    pub(super) fn has_clock(&self, slot: Slot) -> bool {
        self.clock(slot).is_some()
    }

    fn clock(&self, slot: Slot) -> Option<Clock> {
        self.holder(slot).and_then(|holder| holder.clock).or(self.former[slot as usize].and_then(|former| former.clock))
    }

    /// Gives a source up.
    pub(super) fn let_go(&mut self, source: SocketAddr) {
        for (slot, former) in self.slots.iter_mut().zip(&mut self.former) {
            if let Some(holder) = slot.take_if(|holder| holder.source == source) {
                self.former_ip = Some(source.ip().to_canonical());
                let clock = holder.clock.or(former.and_then(|former| former.clock));
                *former = Some(Former { last: holder.last, clock });
            }
        }
    }

    /// Whether a stranger may be this stream's camera, as far as it was found out until `now`.
    pub(super) fn could_be(&self, (entrance, source): Key, stranger: &Stranger, now: Instant) -> bool {
        if entrance != self.entrance {
            return false;
        }
        // While its own source is alive, only that source can have become the stranger, and its clock goes on.
        if let Some((slot, clue, at)) = stranger.clock
            && let Some(own) = self.clock(slot)
        {
            let fits = own.fits(clue, clock_rates(slot), at);
            // Also where it is not known to be yet.
            if fits || self.is_live(slot, source.ip(), now) {
                return fits;
            }
        }
        let cleared = |slot| {
            let arrival = Arrival { source, entrance, slot, clue: Clue::None };
            matches!(self.standing(&arrival, stranger, now), Standing::No(_))
        };
        !SLOTS.into_iter().all(cleared)
    }

    /// Whether a clue shows that the packet is this stream's.
    pub(super) fn fits(&self, arrival: &Arrival<'_>, now: Instant) -> bool {
        let fits = |slot: Slot, clue| self.clock(slot).is_some_and(|own| own.fits(clue, clock_rates(slot), now));
        match arrival.clue {
            Clue::None => false,
            Clue::Rtp(clue) => fits(arrival.slot, clue),
            Clue::Rtcp(clue) => clue.report.is_some_and(|clue| fits(Slot::Video, clue) || fits(Slot::Audio, clue)),
        }
    }

    /// Whether a packet might not be told from one of the stream that `other` will be.
    pub(super) fn conflicts_with(&self, other: &Expect, now: Instant) -> bool {
        if self.entrance != other.entrance || self.camera == other.camera || self.is_settled(now) {
            return false;
        }
        let live: Vec<IpAddr> = self.live_ips(None, now).collect();
        let known = match live.is_empty() {
            true => self.silent_ips().chain(self.announced.map(|(ip, _)| ip)).collect(),
            false => live,
        };
        match other.announced {
            // Where it was heard it may still be; where it was only announced, too.
            Some(ip) => known.is_empty() || known.contains(&ip.to_canonical()),
            None => true,
        }
    }

    /// All media that it has are latched and alive, and no more are to come.
    fn is_settled(&self, now: Instant) -> bool {
        let live = |slot: Slot| self.holder(slot).is_some_and(|holder| now < holder.last + silence(slot));
        live(Slot::Video) && (live(Slot::Audio) || !self.audio_may_come(now, now))
    }

    /// Whether a free audio slot still waits for a source that was `first` heard then.
    fn audio_may_come(&self, first: Instant, now: Instant) -> bool {
        let video_lives = self.has_live_video(now);
        let begins = self.video_since.is_none_or(|since| first < since + AUDIO_GRACE);
        // With the picture the sound returns, wherever it was before.
        let returns = !video_lives || self.holder(Slot::Audio).is_some_and(|audio| now < audio.last + MEMORY);
        begins || returns
    }

    fn relation(&self, ip: IpAddr, now: Instant) -> Relation {
        let announced = self.announced.map(|(ip, _)| ip);
        if self.live_ips(Some(ip), now).next().is_some() {
            return match self.live_ips(Some(ip), now).any(|live| live == ip) {
                true => Relation::Same,
                false if announced.is_some_and(|announced| announced != ip) => Relation::Foreign,
                // Where it was announced it may have moved, though its old source is not silent for long yet.
                false => Relation::Moved,
            };
        }
        match self.silent_ips().chain(announced).any(|known| known == ip) {
            true => Relation::Same,
            false if announced.is_some() && self.silent_ips().next().is_none() => Relation::Elsewhere,
            false if announced.is_some() => Relation::Foreign,
            false if self.silent_ips().next().is_some() => Relation::Moved,
            false => Relation::Open,
        }
    }

    /// IPs of live media; `newcomer` is the IP that would replace them.
    fn live_ips(&self, newcomer: Option<IpAddr>, now: Instant) -> impl Iterator<Item = IpAddr> {
        [Slot::Video, Slot::Audio]
            .into_iter()
            .filter(move |slot| match newcomer {
                Some(ip) => self.is_live(*slot, ip, now),
                None => self.holder(*slot).is_some_and(|holder| now < holder.last + silence(*slot)),
            })
            .filter_map(|slot| self.holder(slot))
            .map(|holder| holder.source.ip().to_canonical())
    }

    fn silent_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.slots.iter().flatten().map(|holder| holder.source.ip().to_canonical()).chain(self.former_ip)
    }

    fn has_live_media(&self, ip: IpAddr, now: Instant) -> bool {
        self.live_ips(Some(ip), now).next().is_some()
    }

    /// Whether a slot is held against a newcomer with this IP.
    fn is_live(&self, slot: Slot, newcomer: IpAddr, now: Instant) -> bool {
        let Some(holder) = self.holder(slot) else { return false };
        let newcomer = newcomer.to_canonical();
        let expected = self.announced.is_some_and(|(ip, since)| {
            ip == newcomer && since >= holder.pinned && holder.source.ip().to_canonical() != newcomer
        });
        now < holder.last + if expected { EXPECTED_SILENCE } else { silence(slot) }
    }

    fn holds(&self, key: Key) -> bool {
        self.keys().any(|held| held == key)
    }
}

/// After which silence a slot's holder can be replaced.
fn silence(slot: Slot) -> Duration {
    match slot {
        Slot::Video | Slot::Audio => RELATCH_SILENCE,
        Slot::Rtcp => RTCP_SILENCE,
    }
}

/// In Hz; a sender report does not tell which codec its sound has.
pub(super) fn clock_rates(slot: Slot) -> &'static [u32] {
    const AUDIO: &[u32] = &[Codec::Opus.clock_rate(), Codec::Pcmu.clock_rate()];
    const VIDEO: &[u32] = &[Codec::H264.clock_rate()];
    match slot {
        Slot::Audio => AUDIO,
        Slot::Video | Slot::Rtcp => VIDEO,
    }
}
