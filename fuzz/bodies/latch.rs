//! Streams that open and close, hints, packets from anywhere, time: the latch's invariants hold after each step.
//!
//! Four bytes a step: what, which stream, which address, which slot or how long.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use honeycast::base::CameraId;
use honeycast::media::Ssrc;
use honeycast::media::latch::{
    Arrival, Clue, EXPECTED_SILENCE, Entrance, Expect, Latch, MAX_STRANGERS, RtcpClue, RtpClue, Slot,
};

const SLOTS: [Slot; 3] = [Slot::Video, Slot::Audio, Slot::Rtcp];
const STREAMS: u8 = 6;

struct World {
    latch: Latch<u8>,
    now: Instant,
    open: BTreeSet<u8>,
    parked: HashMap<u8, Expect>,
    /// When a source was accepted last for a stream's slot.
    heard: HashMap<(u8, usize), (SocketAddr, Instant)>,
}

/// Whether at least one packet was accepted.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut world = World {
        latch: Latch::default(),
        now: Instant::now(),
        open: BTreeSet::new(),
        parked: HashMap::new(),
        heard: HashMap::new(),
    };
    let mut accepted = false;
    for step in data.chunks_exact(4).take(2_000) {
        accepted |= world.step([step[0], step[1], step[2], step[3]]);
        world.check();
    }
    accepted
}

fn ip(bits: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, bits % 3])
}

fn camera(number: u8) -> CameraId {
    format!("{number:032X}").parse().expect("32 hex digits")
}

fn entrance(stream: u8) -> Entrance {
    if stream == STREAMS - 1 { Entrance::Own(0) } else { Entrance::Shared }
}

impl World {
    fn step(&mut self, [what, which, from, how]: [u8; 4]) -> bool {
        let stream = which % STREAMS;
        match what % 8 {
            0 => {
                let announced = (from & 0x80 != 0).then(|| ip(from));
                // Two streams of one camera follow each other.
                let (camera, cname) = (camera(stream / 2), format!("user{stream}@host"));
                let expect = Expect { camera, announced, cname, entrance: entrance(stream) };
                // One that was parked may go on with what it was.
                let expect = self.parked.remove(&stream).filter(|_| how & 1 != 0).unwrap_or(expect);
                let conflict = self.latch.conflict(&expect, self.now);
                assert!(conflict.is_none_or(|other| other != camera), "a camera is not confused with itself");
                self.latch.open(stream, expect, self.now);
                self.forget(stream);
                self.open.insert(stream);
            }
            1 if how & 1 != 0 => {
                let parked = self.latch.park(stream, self.now);
                assert_eq!(parked.is_some(), self.open.remove(&stream), "what is open can be parked, and nothing else");
                self.parked.extend(parked.map(|expect| (stream, expect)));
                self.forget(stream);
            }
            1 => {
                self.latch.close(stream, self.now);
                self.forget(stream);
                self.open.remove(&stream);
            }
            2 => self.latch.expect(stream, ip(from), self.now),
            3 => self.now += Duration::from_millis(u64::from(how) * 100),
            _ => return self.packet(entrance(stream), from, how),
        }
        false
    }

    fn forget(&mut self, stream: u8) {
        self.heard.retain(|(of, _), _| *of != stream);
    }

    fn packet(&mut self, entrance: Entrance, from: u8, how: u8) -> bool {
        self.now += Duration::from_millis(u64::from(how >> 4));
        let source = SocketAddr::new(ip(from), 4_000 + u16::from(from >> 4));
        let index = usize::from(how % 3);
        let media = RtpClue { ssrc: Ssrc(u32::from(how & 1)), timestamp: u32::from(from) << 24 };
        let cname = format!("user{}@host", from % STREAMS);
        let clue = match (SLOTS[index], how & 8) {
            (_, 0) => Clue::None,
            (Slot::Rtcp, _) => Clue::Rtcp(RtcpClue { cname: Some(cname.as_bytes()), report: Some(media) }),
            _ => Clue::Rtp(media),
        };
        let arrival = Arrival { source, entrance, slot: SLOTS[index], clue };
        let accepted = self.latch.accept(&arrival, self.now);
        if let Ok(latched) = accepted {
            let stream = latched.stream;
            assert!(self.open.contains(&stream), "a packet went to a stream that is not open");
            assert_eq!(self.latch.entrance(stream), Some(entrance), "a packet went to a stream of other ports");
            assert_eq!(self.latch.source(stream, SLOTS[index]), Some(source));
            if let Some((holder, last)) = self.heard.insert((stream, index), (source, self.now))
                && holder != source
            {
                // Only RTCP can go earlier: with the video source that is replaced.
                let alive = SLOTS[index] != Slot::Rtcp && self.now < last + EXPECTED_SILENCE;
                assert!(!alive, "{holder} was displaced by {source} while it was alive");
            }
        }
        // A packet can end its own source's pin: the media clock is another one after a pause.
        let (latch, key) = (&self.latch, (entrance, source));
        self.heard.retain(|(of, slot), (holder, _)| {
            let holds = latch.source(*of, SLOTS[*slot]) == Some(*holder);
            let may_end = (self::entrance(*of), *holder) == key || SLOTS[*slot] == Slot::Rtcp;
            assert!(holds || may_end, "{holder} lost its slot to a packet of {source}");
            holds
        });
        accepted.is_ok()
    }

    fn check(&self) {
        let pins: Vec<_> = self.latch.pins().collect();
        let addresses: BTreeSet<_> = pins.iter().map(|(entrance, source, _)| (*entrance, *source)).collect();
        assert_eq!(addresses.len(), pins.len(), "an address is pinned to two streams");
        assert!(self.latch.strangers() <= MAX_STRANGERS);
        for (entrance, source, stream) in pins {
            assert!(self.open.contains(&stream), "{source} is pinned to a stream that is not open");
            assert!(SLOTS.into_iter().any(|slot| self.latch.source(stream, slot) == Some(source)));
            assert_eq!(self.latch.entrance(stream), Some(entrance));
        }
        for stream in 0..STREAMS {
            if let Some(dispute) = self.latch.dispute(stream, self.now) {
                assert!(self.open.contains(&stream) && !self.latch.shows_video(stream, self.now));
                assert!(dispute.since <= dispute.last && dispute.last <= self.now);
                assert!((1..=self.latch.disputed(stream)).contains(&dispute.packets));
            }
            for slot in SLOTS {
                let Some(source) = self.latch.source(stream, slot) else { continue };
                assert_eq!(self.latch.owner(entrance(stream), source), Some(stream), "a holder is not pinned");
            }
            let rtp = self.latch.source(stream, Slot::Video).or(self.latch.source(stream, Slot::Audio));
            for to in self.latch.rtcp_destinations(stream, self.now) {
                let owner = self.latch.owner(entrance(stream), to);
                // The port above the RTP source is the one exception (RFC 3550 §11).
                let above = rtp.is_some_and(|rtp| rtp.ip() == to.ip() && rtp.port() + 1 == to.port());
                assert!(owner == Some(stream) || (owner.is_none() && above), "feedback would go to {to}");
            }
        }
    }
}
