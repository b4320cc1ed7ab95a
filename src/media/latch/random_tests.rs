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
    /// It has not heard `stop`: without feedback it ends then.
    stray: Option<Instant>,
}

#[derive(Debug, Clone)]
enum Event {
    Start(usize),
    Stop(usize),
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
        who.clone().prop_map(Event::Start),
        who.clone().prop_map(Event::Stop),
        who.clone().prop_map(Event::Miss),
        who.clone().prop_map(Event::Reboot),
        who.clone().prop_map(Event::Rebind),
        (who, 0..3u8).prop_map(|(n, ip)| Event::Move(n, ip)),
        (100..6_000u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Every packet knows its camera. Opens do not wait here: ambiguity has to be survived without.
    #[test]
    fn no_packet_of_one_camera_is_ever_given_to_the_stream_of_another(
        places in proptest::collection::vec((0..3u8, any::<bool>(), any::<bool>()), 5),
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut s = Scene::new();
        let start = s.now;
        let mut ports = 4_000u16;
        let mut next_port = || { ports += 10; ports };
        let mut senders: Vec<Sender> = places
            .into_iter()
            .map(|(ip, announced, sound)| {
                let port = next_port();
                Sender { ip, announced, sound, port, sending: false, open: false, stray: None }
            })
            .collect();
        let mut moved = None;
        for event in events {
            let told = moved.take();
            match event {
                Event::Start(n) if !senders[n].open => {
                    let ip = format!("10.0.0.{}", senders[n].ip);
                    s.open(n as u8, senders[n].announced.then_some(&ip));
                    (senders[n].open, senders[n].sending, senders[n].stray) = (true, true, None);
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
                    senders[n].stray = Some(s.now + STARVED);
                }
                Event::Reboot(n) if senders[n].sending => {
                    senders[n].stray = None;
                    senders[n].sending = false;
                    let others = senders.clone();
                    round(&mut s, &others, start, 4_000)?;
                    senders[n].port = next_port();
                    senders[n].sending = senders[n].open;
                }
                Event::Rebind(n) => senders[n].port = next_port(),
                Event::Move(n, ip) => {
                    senders[n].ip = ip;
                    senders[n].port = next_port();
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

/// Every camera sends its media for so long.
fn round(s: &mut Scene, senders: &[Sender], start: Instant, millis: u64) -> Result<(), TestCaseError> {
    for _ in 0..millis.div_ceil(50) {
        for (n, sender) in senders.iter().enumerate().filter(|(_, sender)| sender.sending) {
            let elapsed = (s.now - start).as_millis() as u32;
            for (slot, offset, rate) in [(Slot::Video, 0, 90), (Slot::Rtcp, 1, 90), (Slot::Audio, 2, 48)] {
                if slot == Slot::Audio && !sender.sound {
                    continue;
                }
                let timestamp = (n as u32).wrapping_mul(700_000_000).wrapping_add(elapsed * rate);
                let clue = RtpClue { ssrc: SSRC, timestamp };
                let clue = match slot {
                    Slot::Rtcp => Clue::Rtcp(RtcpClue { cname: None, report: Some(clue) }),
                    _ => Clue::Rtp(clue),
                };
                let from = SocketAddr::from(([10, 0, 0, sender.ip], sender.port + offset));
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
