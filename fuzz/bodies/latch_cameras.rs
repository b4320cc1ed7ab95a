//! Cameras behind mixed addresses that start, stop, reboot, move and are rebound, and do what they are told late or never:
//! every packet knows its camera, and none is ever given to the stream of another. Opens do not wait here: ambiguity has
//! to be survived without.
//!
//! A byte that says which ports are used again, one for each camera, then three a step: what, who, and where or how long.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use honeycast::media::Ssrc;
use honeycast::media::latch::{AFTERLIFE, Arrival, Clue, Entrance, Expect, Latch, RtcpClue, RtpClue, Slot};

/// All cameras send with the same ones (contract §1).
const SSRC: Ssrc = Ssrc(1_607_797_317);
/// A camera that gets no feedback stops after this time (contract §1).
const STARVED: Duration = Duration::from_secs(30);
/// Ports that cameras had are given to others after this time.
const PORT_RESTS: Duration = Duration::from_secs(1);
/// Between two packets of a medium.
const STEP: Duration = Duration::from_millis(50);
const CAMERAS: usize = 5;
const STEPS: usize = 40;

/// A camera as the latch sees it: where it sends from, and since when it does.
#[derive(Debug, Clone)]
struct Sender {
    ip: u8,
    announced: bool,
    sound: bool,
    port: u16,
    sending: bool,
    open: bool,
    /// It has not heard `stop`: it ends when it does, or without feedback.
    stray: Option<Instant>,
    /// When it has heard `play`.
    plays: Instant,
    /// When it has got feedback, because its stream had a packet of it.
    fed: Instant,
    /// Added to its media clock: another one after each reboot.
    clock: u32,
    /// Its address is another one than at its start.
    moved: bool,
    /// It has restarted since then.
    rebooted: bool,
}

struct World {
    latch: Latch<u8>,
    start: Instant,
    now: Instant,
    senders: Vec<Sender>,
    /// The last port that nobody had before.
    fresh: u16,
    /// Ports that cameras had, and until when.
    freed: Vec<(u16, Instant)>,
    /// From a port that was freed to one that is used instead: 1 and 2 make it that of another medium.
    offset: u16,
    accepted: bool,
}

/// Whether at least one packet was accepted.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((setup, steps)) = data.split_at_checked(1 + CAMERAS) else { return false };
    let start = Instant::now();
    let mut fresh = 4_000;
    let senders = setup[1..].iter().map(|place| {
        fresh += 10;
        Sender {
            ip: place % 3,
            announced: place & 0x40 != 0,
            sound: place & 0x80 != 0,
            port: fresh,
            sending: false,
            open: false,
            stray: None,
            plays: start,
            fed: start,
            clock: 0,
            moved: false,
            rebooted: false,
        }
    });
    let (senders, offset) = (senders.collect(), u16::from(setup[0] % 3));
    let latch = Latch::default();
    let mut world = World { latch, start, now: start, senders, fresh, freed: Vec::new(), offset, accepted: false };
    // MQTT tells one step later that a camera has moved.
    let mut moved = None;
    for step in steps.chunks_exact(3).take(STEPS) {
        let told = std::mem::replace(&mut moved, world.step([step[0], step[1], step[2]]));
        world.round(Duration::from_millis(100));
        if let Some(n) = told {
            world.announce(n);
        }
        let now = world.now;
        for sender in &mut world.senders {
            sender.sending = sender.open || sender.stray.is_some_and(|until| now < until);
        }
    }
    world.accepted
}

impl World {
    /// Gives the camera that has moved so that MQTT has to tell it.
    fn step(&mut self, [what, who, how]: [u8; 3]) -> Option<usize> {
        let n = usize::from(who) % CAMERAS;
        let (open, sending) = (self.senders[n].open, self.senders[n].sending);
        // Up to 12 s, often none.
        let late = Duration::from_millis(u64::from(how.saturating_sub(64)) * 63);
        match what % 8 {
            // The camera hears `play` so much later.
            0 if !open => self.start(n, late),
            1 if open => self.stop(n, None),
            // Its camera hears of the end so much later.
            2 if open => self.stop(n, Some(late)),
            // It does not hear of it.
            3 if open => self.stop(n, Some(STARVED)),
            4 if sending => self.reboot(n),
            5 => self.change_port(n),
            6 => return self.move_to(n, how % 3),
            7 => self.round(Duration::from_millis(100 + u64::from(how) * 23)),
            _ => {}
        }
        None
    }

    fn start(&mut self, n: usize, late: Duration) {
        let (announced, now) = (self.senders[n].announced.then(|| self.ip(n)), self.now);
        let camera = format!("{n:032X}").parse().expect("32 hex digits");
        let expect = Expect { camera, announced, cname: format!("user{n}@host"), entrance: Entrance::Shared };
        self.latch.open(n as u8, expect, now);
        let sender = &mut self.senders[n];
        (sender.moved, sender.rebooted) = (false, false);
        // What still sends goes on.
        let sends = sender.sends(now);
        sender.stray = None;
        sender.plays = if sends { now } else { now + late };
        (sender.open, sender.sending) = (true, true);
        self.now += STEP;
    }

    /// The message takes its time: one more round of packets, or longer.
    fn stop(&mut self, n: usize, heard_after: Option<Duration>) {
        self.latch.close(n as u8, self.now);
        self.senders[n].open = false;
        if let Some(after) = heard_after {
            self.senders[n].hear_stop(self.now + after, self.now);
        }
    }

    fn reboot(&mut self, n: usize) {
        self.senders[n].stray = None;
        self.senders[n].sending = false;
        self.round(Duration::from_secs(4));
        self.change_port(n);
        let sender = &mut self.senders[n];
        // It tells where it is before it hears of `play`. One that has moved and cannot tell is beyond the rules.
        if sender.announced || !sender.moved {
            sender.clock = sender.clock.wrapping_add(123_456_789);
            sender.fed = self.now;
        }
        (sender.sending, sender.rebooted) = (sender.open, true);
        if sender.open {
            self.announce(n);
        }
    }

    fn move_to(&mut self, n: usize, ip: u8) -> Option<usize> {
        let sender = &self.senders[n];
        // One that moves between `play` and its late answer, or before its new media clock is known, is beyond the rules.
        let is_settled = !sender.rebooted || self.is_latched(n);
        if sender.plays + Duration::from_millis(100) > self.now || !is_settled {
            return None;
        }
        let sender = &mut self.senders[n];
        sender.moved |= sender.ip != ip;
        sender.ip = ip;
        self.change_port(n);
        if self.latch.source(n as u8, Slot::Video).is_some() {
            return Some(n);
        }
        // What MQTT says of a camera that was never heard is believed.
        self.announce(n);
        None
    }

    fn announce(&mut self, n: usize) {
        if self.senders[n].announced {
            self.latch.expect(n as u8, self.ip(n), self.now);
        }
    }

    fn ip(&self, n: usize) -> IpAddr {
        IpAddr::from([10, 0, 0, self.senders[n].ip])
    }

    /// Another port: one that was another's, or next to it so that it is for another medium, or a new one.
    fn change_port(&mut self, n: usize) {
        self.freed.push((self.senders[n].port, self.now));
        let clear = |port: u16| {
            self.senders.iter().all(|sender| port.abs_diff(sender.port) > 2)
                && !self.freed.iter().any(|(old, at)| *at + PORT_RESTS > self.now && port.abs_diff(*old) <= 2)
        };
        let found = self.freed.iter().map(|(port, _)| *port + self.offset).find(|port| clear(*port));
        self.senders[n].port = found.unwrap_or_else(|| {
            self.fresh += 10;
            self.fresh
        });
    }

    /// All media of a camera are, where it sends from now.
    fn is_latched(&self, n: usize) -> bool {
        let sender = &self.senders[n];
        let is_known = |slot, port| self.latch.source(n as u8, slot).is_none_or(|at| at.port() == port);
        let knows = |slot, port| self.latch.source(n as u8, slot).is_some_and(|at| at.port() == port);
        is_known(Slot::Video, sender.port) && (!sender.sound || knows(Slot::Audio, sender.port + 2))
    }

    /// Every camera sends its media for so long.
    fn round(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            for n in (0..CAMERAS).filter(|n| self.senders[*n].sends(self.now)).collect::<Vec<_>>() {
                self.send(n);
            }
            self.now += STEP;
        }
    }

    fn send(&mut self, n: usize) {
        let Sender { ip, sound, port: first, clock, .. } = self.senders[n];
        let elapsed = (self.now - self.start).as_millis() as u32;
        for (slot, offset, rate) in [(Slot::Video, 0, 90), (Slot::Rtcp, 1, 90), (Slot::Audio, 2, 48)] {
            if slot == Slot::Audio && !sound {
                continue;
            }
            let base = (n as u32).wrapping_mul(700_000_000).wrapping_add(clock);
            let clue = RtpClue { ssrc: SSRC, timestamp: base.wrapping_add(elapsed.wrapping_mul(rate)) };
            let clue = match slot {
                Slot::Rtcp => Clue::Rtcp(RtcpClue { cname: None, report: Some(clue) }),
                _ => Clue::Rtp(clue),
            };
            // Reports come from ports that nobody had: they are no pictures, and the rules for them are weaker.
            let reports = 20_000 + 5 * first + n as u16;
            let port = if slot == Slot::Rtcp { reports } else { first + offset };
            let source = SocketAddr::new(IpAddr::from([10, 0, 0, ip]), port);
            let arrival = Arrival { source, entrance: Entrance::Shared, slot, clue };
            if let Ok(latched) = self.latch.accept(&arrival, self.now) {
                assert_eq!(usize::from(latched.stream), n, "{slot:?} of camera {n} from {source}");
                self.accepted = true;
                self.senders[n].fed = self.now;
            }
        }
    }
}

impl Sender {
    fn sends(&self, now: Instant) -> bool {
        let is_fed = now < self.plays.max(self.fed) + STARVED;
        self.sending && self.plays <= now && is_fed && self.stray.is_none_or(|until| now < until)
    }

    /// Messages come in their order, `play` within the time for which the latch counts with it.
    fn hear_stop(&mut self, at: Instant, now: Instant) {
        let is_too_late = self.plays > now && self.plays > now + AFTERLIFE - Duration::from_millis(200);
        self.stray = (!is_too_late).then_some(at.max(self.plays));
    }
}
