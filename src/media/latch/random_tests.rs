//! Cameras behind mixed addresses that start, stop, reboot and are rebound at random.

use proptest::prelude::*;

use super::tests::{SSRC, Scene};
use super::*;

/// A camera that gets no feedback stops after this time (contract §1).
const STARVED: Duration = Duration::from_secs(30);

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
    /// Added to its media clock: another one after each reboot.
    clock: u32,
    /// Its address is another one than at its start.
    moved: bool,
    /// It has restarted since then.
    rebooted: bool,
}

/// Ports that cameras had are given to others after this time.
const PORT_RESTS: Duration = Duration::from_secs(1);

/// Another port: one that was another's, or next to it so that it is for another medium, or a new one.
fn another_port(senders: &[Sender], freed: &mut [(u16, Instant)], fresh: &mut u16, offset: u16, now: Instant) -> u16 {
    let clear = |port: u16| {
        senders.iter().all(|sender| port.abs_diff(sender.port) > 2)
            && !freed.iter().any(|(old, at)| *at + PORT_RESTS > now && port.abs_diff(*old) <= 2)
    };
    let found = freed.iter().map(|(port, _)| *port + offset).find(|port| clear(*port));
    found.unwrap_or_else(|| {
        *fresh += 10;
        *fresh
    })
}

#[derive(Debug, Clone)]
enum Event {
    /// The camera hears `play` so many ms later.
    Start(usize, u64),
    Stop(usize),
    /// The stream ends, and its camera hears of it so many ms later.
    StopLate(usize, u64),
    /// The stream ends, and its camera does not hear of it.
    Miss(usize),
    Reboot(usize),
    Rebind(usize),
    /// To another address, of which MQTT tells one event later.
    Move(usize, u8),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..5usize;
    prop_oneof![
        (who.clone(), prop_oneof![Just(0u64), 0..12_000u64]).prop_map(|(n, late)| Event::Start(n, late)),
        (who.clone(), 0..12_000u64).prop_map(|(n, late)| Event::StopLate(n, late)),
        who.clone().prop_map(Event::Stop),
        who.clone().prop_map(Event::Miss),
        who.clone().prop_map(Event::Reboot),
        who.clone().prop_map(Event::Rebind),
        (who, 0..3u8).prop_map(|(n, ip)| Event::Move(n, ip)),
        (100..6_000u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    /// Every packet knows its camera. Opens do not wait here: ambiguity has to be survived without.
    #[test]
    fn no_packet_of_one_camera_is_ever_given_to_the_stream_of_another(
        places in proptest::collection::vec((0..3u8, any::<bool>(), any::<bool>()), 5),
        events in proptest::collection::vec(event(), 1..40),
        offset in 0..3u16,
    ) {
        let mut s = Scene::new();
        let start = s.now;
        let mut ports = 4_000u16;
        let mut next_port = || { ports += 10; ports };
        let mut freed: Vec<(u16, Instant)> = Vec::new();
        let mut senders: Vec<Sender> = places
            .into_iter()
            .map(|(ip, announced, sound)| {
                let port = next_port();
                Sender { ip, announced, sound, port, sending: false, open: false, stray: None, plays: start, clock: 0, moved: false, rebooted: false }
            })
            .collect();
        let mut moved = None;
        for event in events {
            let told = moved.take();
            match event {
                Event::Start(n, late) if !senders[n].open => {
                    let ip = format!("10.0.0.{}", senders[n].ip);
                    s.open(n as u8, senders[n].announced.then_some(&ip));
                    (senders[n].moved, senders[n].rebooted) = (false, false);
                    // What still sends goes on.
                    let sends = senders[n].sends(s.now);
                    senders[n].stray = None;
                    senders[n].plays = if sends { s.now } else { s.now + Duration::from_millis(late) };
                    (senders[n].open, senders[n].sending) = (true, true);
                    s.now += Duration::from_millis(50);
                }
                Event::Stop(n) if senders[n].open => {
                    s.close(n as u8);
                    // The message to stop takes its time: one more round of packets.
                    senders[n].open = false;
                }
                Event::Miss(n) if senders[n].open => {
                    s.close(n as u8);
                    senders[n].open = false;
                    senders[n].hear_stop(s.now + STARVED, s.now);
                }
                Event::StopLate(n, late) if senders[n].open => {
                    s.close(n as u8);
                    senders[n].open = false;
                    senders[n].hear_stop(s.now + Duration::from_millis(late), s.now);
                }
                Event::Reboot(n) if senders[n].sending => {
                    senders[n].stray = None;
                    senders[n].sending = false;
                    let others = senders.clone();
                    round(&mut s, &others, start, 4_000)?;
                    freed.push((senders[n].port, s.now));
                    senders[n].port = another_port(&senders, &mut freed, &mut ports, offset, s.now);
                    // It tells where it is before it hears of `play`. One that has moved and cannot tell is beyond the rules.
                    if senders[n].announced || !senders[n].moved {
                        senders[n].clock = senders[n].clock.wrapping_add(123_456_789);
                    }
                    if senders[n].announced && senders[n].open {
                        s.latch.expect(n as u8, IpAddr::from([10, 0, 0, senders[n].ip]), s.now);
                    }
                    (senders[n].sending, senders[n].rebooted) = (senders[n].open, true);
                }
                Event::Rebind(n) => {
                    freed.push((senders[n].port, s.now));
                    senders[n].port = another_port(&senders, &mut freed, &mut ports, offset, s.now);
                }
                // One that moves between `play` and its late answer, or before its new media clock is known, is beyond
                // the rules.
                Event::Move(n, ip)
                    if senders[n].plays + Duration::from_millis(100) <= s.now
                        && (!senders[n].rebooted || senders[n].is_latched(n as u8, &s.latch)) =>
                {
                    senders[n].moved |= senders[n].ip != ip;
                    senders[n].ip = ip;
                    freed.push((senders[n].port, s.now));
                    senders[n].port = another_port(&senders, &mut freed, &mut ports, offset, s.now);
                    // What MQTT says of a camera that was never heard is believed.
                    match s.latch.source(n as u8, Slot::Video) {
                        Some(_) => moved = Some(n),
                        None if senders[n].announced => s.latch.expect(n as u8, IpAddr::from([10, 0, 0, ip]), s.now),
                        None => {}
                    }
                }
                Event::Pass(millis) => round(&mut s, &senders, start, millis)?,
                _ => {}
            }
            round(&mut s, &senders, start, 100)?;
            if let Some(n) = told.filter(|n| senders[*n].announced) {
                s.latch.expect(n as u8, IpAddr::from([10, 0, 0, senders[n].ip]), s.now);
            }
            for sender in &mut senders {
                sender.sending = sender.open || sender.stray.is_some_and(|until| s.now < until);
            }
        }
    }
}

impl Sender {
    /// All its media are, where it sends from now.
    fn is_latched(&self, stream: u8, latch: &Latch<u8>) -> bool {
        let is_known = |slot, port| latch.source(stream, slot).is_none_or(|at| at.port() == port);
        let knows = |slot, port| latch.source(stream, slot).is_some_and(|at| at.port() == port);
        is_known(Slot::Video, self.port) && (!self.sound || knows(Slot::Audio, self.port + 2))
    }

    fn sends(&self, now: Instant) -> bool {
        self.sending && self.plays <= now && self.stray.is_none_or(|until| now < until)
    }

    /// Messages come in their order, `play` within the time for which the latch counts with it.
    fn hear_stop(&mut self, at: Instant, now: Instant) {
        let is_too_late = self.plays > now && self.plays > now + AFTERLIFE - Duration::from_millis(200);
        self.stray = (!is_too_late).then_some(at.max(self.plays));
    }
}

/// Every camera sends its media for so long.
fn round(s: &mut Scene, senders: &[Sender], start: Instant, millis: u64) -> Result<(), TestCaseError> {
    for _ in 0..millis.div_ceil(50) {
        for (n, sender) in senders.iter().enumerate().filter(|(_, sender)| sender.sends(s.now)) {
            let elapsed = (s.now - start).as_millis() as u32;
            for (slot, offset, rate) in [(Slot::Video, 0, 90), (Slot::Rtcp, 1, 90), (Slot::Audio, 2, 48)] {
                if slot == Slot::Audio && !sender.sound {
                    continue;
                }
                let timestamp = (n as u32)
                    .wrapping_mul(700_000_000)
                    .wrapping_add(sender.clock)
                    .wrapping_add(elapsed.wrapping_mul(rate));
                let clue = RtpClue { ssrc: SSRC, timestamp };
                let clue = match slot {
                    Slot::Rtcp => Clue::Rtcp(RtcpClue { cname: None, report: Some(clue) }),
                    _ => Clue::Rtp(clue),
                };
                // Reports come from ports that nobody had: they are no pictures, and the rules for them are weaker.
                let reports = 20_000 + 5 * sender.port + n as u16;
                let port = if slot == Slot::Rtcp { reports } else { sender.port + offset };
                let from = SocketAddr::from(([10, 0, 0, sender.ip], port));
                let arrival = Arrival { source: from, entrance: Entrance::Shared, slot, clue };
                if let Ok(latched) = s.latch.accept(&arrival, s.now) {
                    prop_assert_eq!(latched.stream, n as u8, "{:?} of camera {} from {}", slot, n, from);
                }
            }
        }
        s.now += Duration::from_millis(50);
    }
    Ok(())
}
