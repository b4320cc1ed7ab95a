//! Scenarios on virtual time.

use super::*;
use crate::media::Ssrc;

const SSRC: Ssrc = Ssrc(1_607_797_317);
const MS: u64 = 1;
const SECOND: u64 = 1_000;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn camera(number: u8) -> CameraId {
    format!("{number:032X}").parse().unwrap()
}

struct Scene {
    latch: Latch<u8>,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { latch: Latch::default(), now: Instant::now() }
    }

    /// Opens the stream of the camera of the same number.
    fn open(&mut self, stream: u8, announced: Option<&str>) {
        self.open_at(stream, announced, Entrance::Shared);
    }

    fn open_at(&mut self, stream: u8, announced: Option<&str>, entrance: Entrance) {
        self.latch.open(stream, self.expecting(stream, announced, entrance), self.now);
    }

    fn expecting(&self, stream: u8, announced: Option<&str>, entrance: Entrance) -> Expect {
        let announced = announced.map(|ip| ip.parse().unwrap());
        Expect { camera: camera(stream), announced, cname: format!("user{stream}@host"), entrance }
    }

    fn close(&mut self, stream: u8) {
        self.latch.close(stream, self.now);
    }

    fn arrive(&mut self, from: &str, entrance: Entrance, slot: Slot, clue: Clue<'_>) -> Result<u8, Unlatched> {
        let arrival = Arrival { source: addr(from), entrance, slot, clue };
        self.latch.accept(&arrival, self.now).map(|latched| latched.stream).map_err(|refusal| refusal.why)
    }

    fn packet(&mut self, from: &str, slot: Slot) -> Result<u8, Unlatched> {
        self.arrive(from, Entrance::Shared, slot, Clue::None)
    }

    fn video(&mut self, from: &str) -> Result<u8, Unlatched> {
        self.packet(from, Slot::Video)
    }

    /// A packet of a camera whose media clock showed `base` at the start of the scene.
    fn clocked(&mut self, from: &str, start: Instant, base: u32) -> Result<u8, Unlatched> {
        let timestamp = base.wrapping_add((self.now - start).as_millis() as u32 * 90);
        self.arrive(from, Entrance::Shared, Slot::Video, Clue::Rtp(RtpClue { ssrc: SSRC, timestamp }))
    }

    /// Time passes while these sources send video every 100 ms.
    fn run(&mut self, millis: u64, sources: &[&str]) -> &mut Self {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            for source in sources {
                let _ = self.video(source);
            }
            self.now = (self.now + Duration::from_millis(100)).min(end);
        }
        self
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.run(millis, &[])
    }

    fn destinations(&self, stream: u8) -> Vec<SocketAddr> {
        self.latch.rtcp_destinations(stream, self.now).collect()
    }
}

#[test]
fn a_lone_pending_stream_takes_the_first_source_from_anywhere_with_sound_and_reports() {
    let mut s = Scene::new();
    s.open(1, None);
    assert_eq!(s.packet("10.0.0.5:4001", Slot::Rtcp), Err(Unlatched::Unexpected), "reports alone say nothing");
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
    assert_eq!(s.packet("10.0.0.5:4002", Slot::Audio), Ok(1));
    assert_eq!(s.packet("10.0.0.5:4001", Slot::Rtcp), Ok(1));
}

#[test]
fn a_camera_behind_a_nat_that_it_does_not_know_of_is_taken_when_nobody_else_can_be_meant() {
    let mut s = Scene::new();
    s.open(1, Some("192.168.77.5"));
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Unconfirmed));
    s.run(1_100 * MS, &["10.0.0.5:4000"]);
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
    assert_eq!(s.packet("10.0.0.5:4002", Slot::Audio), Ok(1));
    assert_eq!(s.packet("10.0.0.5:4001", Slot::Rtcp), Ok(1));
    s.run(SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.video("192.168.77.5:4000"), Err(Unlatched::Unexpected), "the source that was taken lives");
}

#[test]
fn the_announced_address_wins_over_one_that_only_could_be() {
    let mut s = Scene::new();
    s.open(1, Some("192.168.77.5"));
    s.run(500 * MS, &["10.0.0.9:4000"]);
    assert_eq!(s.video("192.168.77.5:4000"), Ok(1));
    s.run(3 * SECOND, &["10.0.0.9:4000", "192.168.77.5:4000"]);
    assert_eq!(s.video("10.0.0.9:4000"), Err(Unlatched::Unexpected));
}

#[test]
fn of_two_cameras_that_were_announced_elsewhere_none_is_guessed_and_an_unknown_one_goes_first() {
    let mut s = Scene::new();
    s.open(1, Some("192.168.77.5"));
    s.open(2, Some("192.168.77.6"));
    s.run(3 * SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Ambiguous));
    let mut s = Scene::new();
    s.open(1, Some("192.168.77.5"));
    s.open(2, None);
    assert_eq!(s.video("10.0.0.5:4000"), Ok(2));
}

#[test]
fn nobody_expects_a_stranger() {
    let mut s = Scene::new();
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Unexpected));
    s.open(1, Some("10.0.0.5"));
    s.video("10.0.0.5:4000").unwrap();
    assert_eq!(s.video("10.0.0.9:4000"), Err(Unlatched::Unexpected));
    assert_eq!(s.packet("10.0.0.9:4001", Slot::Rtcp), Err(Unlatched::Unexpected));
}

#[test]
fn two_cameras_started_in_the_same_second_without_addresses_are_never_guessed() {
    let mut s = Scene::new();
    s.open(1, None);
    s.open(2, None);
    s.run(5 * SECOND, &["10.0.0.5:4000", "10.0.0.6:4000"]);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Ambiguous));
    assert_eq!(s.video("10.0.0.6:4000"), Err(Unlatched::Ambiguous));
}

#[test]
fn when_one_of_two_indistinguishable_streams_ends_its_camera_does_not_become_the_other() {
    let mut s = Scene::new();
    s.open(1, None);
    s.open(2, None);
    s.run(SECOND, &["10.0.0.5:4000", "10.0.0.6:4000"]);
    s.close(1);
    s.run(20 * SECOND, &["10.0.0.5:4000", "10.0.0.6:4000"]);
    assert_eq!(s.latch.source(2, Slot::Video), None);
    s.run(11 * SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.video("10.0.0.6:4000"), Ok(2), "it begins anew after a silence");
}

#[test]
fn the_address_from_mqtt_decides_between_two_pending_streams() {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    s.open(2, Some("10.0.0.6"));
    assert_eq!(s.video("10.0.0.6:4000"), Ok(2));
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
    assert_eq!(s.video("10.0.0.7:4000"), Err(Unlatched::Unexpected));
}

#[test]
fn an_ipv4_source_on_a_dual_stack_socket_has_the_announced_address() {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    assert_eq!(s.video("[::ffff:10.0.0.5]:4000"), Ok(1));
}

#[test]
fn a_second_camera_behind_the_same_address_waits_until_the_first_is_heard_beside_it() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    s.packet("10.0.0.5:4002", Slot::Audio).unwrap();
    s.open(2, None);
    assert_eq!(s.video("10.0.0.5:5000"), Err(Unlatched::Unconfirmed));
    s.run(600 * MS, &["10.0.0.5:4000"]);
    let arrival =
        Arrival { source: addr("10.0.0.5:5000"), entrance: Entrance::Shared, slot: Slot::Video, clue: Clue::None };
    let latched = s.latch.accept(&arrival, s.now).unwrap();
    assert_eq!((latched.stream, latched.new, latched.waited), (2, true, true));
    s.packet("10.0.0.5:4002", Slot::Audio).unwrap();
    assert_eq!(s.packet("10.0.0.5:5002", Slot::Audio), Err(Unlatched::Unconfirmed));
    s.after(600 * MS).packet("10.0.0.5:4002", Slot::Audio).unwrap();
    assert_eq!(s.packet("10.0.0.5:5002", Slot::Audio), Ok(2));
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
}

#[test]
fn a_nat_that_rebinds_a_running_camera_does_not_hand_it_to_the_one_that_starts() {
    let mut s = Scene::new();
    s.open(1, None);
    s.run(4 * SECOND, &["10.0.0.5:4000"]);
    s.open(2, None);
    // The first camera's packets come from a new port from one packet to the next.
    s.run(2_900 * MS, &["10.0.0.5:6000"]);
    assert_eq!(s.latch.source(2, Slot::Video), None);
    assert_eq!(s.after(SECOND).video("10.0.0.5:6000"), Err(Unlatched::Ambiguous), "it could be either's by now");
}

#[test]
fn the_media_clock_brings_a_rebound_camera_back_although_another_is_pending_behind_its_address() {
    let mut s = Scene::new();
    let start = s.now;
    s.open(1, None);
    s.clocked("10.0.0.5:4000", start, 7).unwrap();
    s.open(2, None);
    for _ in 0..35 {
        s.after(100 * MS);
        let _ = s.clocked("10.0.0.5:6000", start, 7);
    }
    assert_eq!(s.clocked("10.0.0.5:6000", start, 7), Ok(1));
}

#[test]
fn two_cameras_rebound_at_once_are_told_apart_by_their_media_clocks() {
    let mut s = Scene::new();
    let start = s.now;
    let (first, second) = (7, 1 << 31);
    for (stream, port, base) in [(1, 4000, first), (2, 5000, second)] {
        s.open(stream, Some("10.0.0.5"));
        for _ in 0..8 {
            let _ = s.clocked("10.0.0.5:4000", start, first);
            let _ = s.clocked(&format!("10.0.0.5:{port}"), start, base);
            s.after(100 * MS);
        }
        assert_eq!(s.clocked(&format!("10.0.0.5:{port}"), start, base), Ok(stream));
    }
    s.after(3_500 * MS);
    assert_eq!(s.video("10.0.0.5:6000"), Err(Unlatched::Ambiguous), "a clock that is nobody's decides nothing");
    assert_eq!(s.clocked("10.0.0.5:8000", start, second), Ok(2));
    assert_eq!(s.clocked("10.0.0.5:7000", start, first), Ok(1));
}

#[test]
fn a_camera_without_sound_does_not_claim_its_neighbours_for_ever() {
    let mut s = Scene::new();
    s.open(1, None);
    s.run(4 * SECOND, &["10.0.0.5:4000"]).open(2, None);
    s.run(SECOND, &["10.0.0.5:4000", "10.0.0.5:5000"]);
    assert_eq!(s.packet("10.0.0.5:5002", Slot::Audio), Ok(2));
}

#[test]
fn reports_of_two_cameras_behind_one_address_stay_unlatched_unless_a_clue_decides() {
    let mut s = Scene::new();
    let start = s.now;
    for (stream, source, base) in [(1, "10.0.0.5:4000", 7), (2, "10.0.0.5:5000", 1 << 31)] {
        s.open(stream, None);
        for _ in 0..40 {
            let _ = s.clocked("10.0.0.5:4000", start, 7);
            let _ = s.clocked(source, start, base);
            s.after(100 * MS);
        }
    }
    assert_eq!(s.packet("10.0.0.5:5001", Slot::Rtcp), Err(Unlatched::Ambiguous));
    let report =
        |base: u32| Some(RtpClue { ssrc: SSRC, timestamp: base.wrapping_add((s.now - start).as_millis() as u32 * 90) });
    let clue = |cname, report| Clue::Rtcp(RtcpClue { cname, report });
    let (same, named, clocked) = (
        clue(Some(&b"camera"[..]), report(99_000_000)),
        clue(Some(&b"user1@host"[..]), None),
        clue(None, report(1 << 31)),
    );
    assert_eq!(s.arrive("10.0.0.5:5001", Entrance::Shared, Slot::Rtcp, same), Err(Unlatched::Ambiguous));
    assert_eq!(s.arrive("10.0.0.5:5001", Entrance::Shared, Slot::Rtcp, clocked), Ok(2));
    assert_eq!(s.arrive("10.0.0.5:4001", Entrance::Shared, Slot::Rtcp, named), Ok(1));
}

#[test]
fn a_cname_that_names_another_stream_is_refused() {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    s.open(2, Some("10.0.0.6"));
    s.video("10.0.0.5:4000").unwrap();
    let clue = Clue::Rtcp(RtcpClue { cname: Some(b"user2@host"), report: None });
    assert_eq!(s.arrive("10.0.0.5:4001", Entrance::Shared, Slot::Rtcp, clue), Err(Unlatched::OtherCamera));
}

#[test]
fn an_imitator_never_gets_in_while_the_real_source_is_alive_nor_after_it() {
    for imitator in ["10.0.0.5:6000", "10.0.0.9:6000"] {
        let mut s = Scene::new();
        s.open(1, None);
        s.video("10.0.0.5:4000").unwrap();
        for _ in 0..50 {
            s.after(100 * MS).video("10.0.0.5:4000").unwrap();
            assert!(s.video(imitator).is_err());
        }
        s.run(10 * SECOND, &[imitator]);
        assert!(s.video(imitator).is_err(), "{imitator} was there before the silence");
        assert_eq!(s.latch.source(1, Slot::Video), Some(addr("10.0.0.5:4000")));
    }
}

#[test]
fn after_a_reboot_a_new_port_of_the_same_address_takes_over_and_another_address_does_not() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    s.packet("10.0.0.5:4001", Slot::Rtcp).unwrap();
    s.after(4 * SECOND);
    assert_eq!(s.video("10.0.0.9:6000"), Err(Unlatched::Unexpected));
    assert_eq!(s.video("10.0.0.5:6000"), Ok(1));
    assert_eq!(s.destinations(1), [addr("10.0.0.5:6000"), addr("10.0.0.5:6001")], "the old RTCP source is forgotten");
    assert!(s.video("10.0.0.5:4000").is_err());
}

#[test]
fn an_address_that_mqtt_announces_takes_over_after_a_short_silence() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    s.latch.expect(1, "10.0.0.77".parse().unwrap(), s.now);
    assert!(s.video("10.0.0.77:4000").is_err(), "the old source is alive");
    assert!(s.after(900 * MS).video("10.0.0.77:4000").is_err());
    assert_eq!(s.after(100 * MS).video("10.0.0.77:4000"), Ok(1));
}

#[test]
fn a_rebound_nat_port_takes_over_after_the_silence_of_the_old_one() {
    let mut s = Scene::new();
    s.open(1, None);
    s.run(5 * SECOND, &["10.0.0.5:4000"]);
    s.run(2_800 * MS, &["10.0.0.5:6000"]);
    assert_eq!(s.latch.source(1, Slot::Video), Some(addr("10.0.0.5:4000")));
    s.run(400 * MS, &["10.0.0.5:6000"]);
    assert_eq!(s.latch.source(1, Slot::Video), Some(addr("10.0.0.5:6000")));
}

#[test]
fn an_address_that_a_nat_gives_to_another_camera_after_a_long_silence_has_to_be_claimed_again() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    s.after(25 * SECOND).open(2, None);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Ambiguous));
    s.close(2);
    s.after(11 * SECOND);
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1), "alone behind the address it is the same camera again");
}

#[test]
fn a_source_that_was_sending_before_the_start_does_not_answer_it() {
    let mut s = Scene::new();
    s.run(SECOND, &["10.0.0.5:4000"]);
    s.open(1, None);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Earlier));
    assert_eq!(s.video("10.0.0.6:4000"), Ok(1));
}

#[test]
fn the_last_packets_of_a_stopped_camera_do_not_become_the_next_ones_picture() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    s.close(1);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Unexpected));
    assert!(s.destinations(1).is_empty());
    s.open(2, None);
    s.run(5 * SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::OtherCamera));
    assert_eq!(s.video("10.0.0.6:4000"), Ok(2));
}

#[test]
fn a_camera_that_is_started_again_is_known_by_its_address() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    s.close(1);
    s.video("10.0.0.5:4000").unwrap_err();
    s.latch.open(9, s.expecting(1, None, Entrance::Shared), s.now);
    assert_eq!(s.video("10.0.0.5:4000"), Ok(9));
}

#[test]
fn a_camera_that_answers_after_its_stop_is_not_taken_for_the_next_one() {
    let mut s = Scene::new();
    s.open(1, None);
    s.close(1);
    s.after(SECOND).open(2, None);
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Ambiguous));
    assert_eq!(s.after(5 * SECOND).video("10.0.0.6:4000"), Ok(2));
}

#[test]
fn feedback_goes_to_both_possible_ports_until_the_cameras_own_rtcp_shows_the_right_one() {
    let mut s = Scene::new();
    s.open(1, None);
    assert!(s.destinations(1).is_empty());
    s.video("10.0.0.5:4000").unwrap();
    assert_eq!(s.destinations(1), [addr("10.0.0.5:4000"), addr("10.0.0.5:4001")]);
    s.packet("10.0.0.5:7777", Slot::Rtcp).unwrap();
    assert_eq!(s.destinations(1), [addr("10.0.0.5:7777")]);
    s.run(9 * SECOND, &["10.0.0.5:4000"]);
    let all = ["10.0.0.5:7777", "10.0.0.5:4000", "10.0.0.5:4001"].map(addr);
    assert_eq!(s.destinations(1), all, "it has gone silent: perhaps it has moved");
}

#[test]
fn the_port_above_gets_no_feedback_when_it_is_another_streams() {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    s.run(4 * SECOND, &["10.0.0.5:4000"]);
    s.open(2, Some("10.0.0.5"));
    s.run(SECOND, &["10.0.0.5:4000", "10.0.0.5:4001"]);
    assert_eq!(s.latch.source(2, Slot::Video), Some(addr("10.0.0.5:4001")));
    assert_eq!(s.destinations(1), [addr("10.0.0.5:4000")]);
}

#[test]
fn one_socket_for_rtp_and_rtcp_is_one_source() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    assert_eq!(s.packet("10.0.0.5:4000", Slot::Rtcp), Ok(1));
    assert_eq!(s.packet("10.0.0.5:4000", Slot::Audio), Ok(1));
    assert_eq!(s.destinations(1), [addr("10.0.0.5:4000")]);
}

#[test]
fn ports_of_its_own_take_a_stream_out_of_every_ambiguity() {
    let mut s = Scene::new();
    s.open(1, None);
    s.open_at(2, None, Entrance::Own(0));
    assert_eq!(s.arrive("10.0.0.5:5000", Entrance::Own(0), Slot::Video, Clue::None), Ok(2));
    assert_eq!(s.arrive("10.0.0.6:5000", Entrance::Own(1), Slot::Video, Clue::None), Err(Unlatched::Unexpected));
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
    // A symmetric NAT may use one address for two cameras that send to different ports.
    assert!(s.video("10.0.0.5:5000").is_err());
    assert_eq!(s.latch.owner(Entrance::Own(0), addr("10.0.0.5:5000")), Some(2));
}

#[test]
fn a_new_stream_conflicts_with_one_that_is_not_fully_latched_behind_the_same_or_an_unknown_address() {
    let mut s = Scene::new();
    let conflict = |s: &Scene, ip: Option<&str>| s.latch.conflict(&s.expecting(9, ip, Entrance::Shared), s.now);
    assert_eq!(conflict(&s, None), None);
    s.open(1, Some("10.0.0.5"));
    assert_eq!(conflict(&s, Some("10.0.0.5")), Some(camera(1)));
    assert_eq!(conflict(&s, Some("10.0.0.6")), None);
    assert_eq!(conflict(&s, None), Some(camera(1)));
    assert_eq!(s.latch.conflict(&s.expecting(9, None, Entrance::Own(3)), s.now), None);
    s.video("10.0.0.5:4000").unwrap();
    assert_eq!(conflict(&s, None), Some(camera(1)), "its sound may come");
    s.packet("10.0.0.5:4002", Slot::Audio).unwrap();
    assert_eq!(conflict(&s, None), None);
    s.after(3 * SECOND);
    assert_eq!(conflict(&s, Some("10.0.0.5")), Some(camera(1)), "it may come back from another port");
    s.run(SECOND, &["10.0.0.5:4000"]);
    s.close(1);
    s.open(2, None);
    assert_eq!(conflict(&s, Some("10.0.0.6")), Some(camera(2)));
    s.close(2);
    assert_eq!(conflict(&s, None), Some(camera(2)), "it may still answer");
    assert_eq!(conflict(s.after(5 * SECOND), None), None);
}

#[test]
fn a_hundred_thousand_strangers_do_not_grow_the_table_nor_touch_a_stream() {
    let mut s = Scene::new();
    s.open(1, None);
    s.video("10.0.0.5:4000").unwrap();
    for n in 0..100_000u32 {
        s.now += Duration::from_micros(10);
        let source = SocketAddr::from((n.to_be_bytes(), 4000));
        let arrival = Arrival { source, entrance: Entrance::Shared, slot: Slot::Video, clue: Clue::None };
        assert!(s.latch.accept(&arrival, s.now).is_err());
        if n % 100 == 0 {
            assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
        }
    }
    assert!(s.latch.strangers() <= MAX_STRANGERS, "{}", s.latch.strangers());
    assert_eq!(s.latch.pins().count(), 1);
}

#[test]
fn a_camera_that_was_announced_elsewhere_a_moment_ago_is_a_rival_there_before_its_old_source_counts_as_silent() {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    s.run(2 * SECOND, &["10.0.0.5:4000"]);
    s.latch.expect(1, "10.0.0.9".parse().unwrap(), s.now);
    s.run(600 * MS, &["10.0.0.9:4000"]);
    // Its neighbour there is started before that: what comes may be either's.
    s.open(2, Some("10.0.0.9"));
    assert_eq!(s.video("10.0.0.9:4000"), Err(Unlatched::Earlier));
    assert_eq!(s.video("10.0.0.9:5000"), Err(Unlatched::Unconfirmed));
    s.run(2 * SECOND, &["10.0.0.9:4000", "10.0.0.9:5000"]);
    assert_ne!(s.video("10.0.0.9:4000"), Ok(2));
    assert_ne!(s.video("10.0.0.9:5000"), Ok(1));
}

#[test]
fn a_camera_that_missed_its_stop_and_sends_on_from_an_address_that_was_not_latched_is_taken_for_its_own_next_stream_only()
 {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    s.run(SECOND, &["10.0.0.5:4000"]);
    s.latch.expect(1, "10.0.0.9".parse().unwrap(), s.now);
    s.run(500 * MS, &["10.0.0.9:4000"]);
    s.close(1);
    s.run(7 * SECOND, &["10.0.0.9:4000"]);
    s.open(2, Some("10.0.0.9"));
    assert_eq!(s.video("10.0.0.9:4000"), Err(Unlatched::Earlier), "it may be the first camera's");
    s.close(2);
    s.run(12 * SECOND, &[]);
    s.open(1, Some("10.0.0.5"));
    s.run(SECOND, &["10.0.0.5:4000"]);
    s.latch.expect(1, "10.0.0.9".parse().unwrap(), s.now);
    s.run(500 * MS, &["10.0.0.9:4000"]);
    s.close(1);
    s.run(SECOND, &["10.0.0.9:4000"]).open(1, Some("10.0.0.9"));
    assert_eq!(s.video("10.0.0.9:4000"), Ok(1));
}

#[test]
fn a_camera_that_was_on_its_way_when_it_was_stopped_does_not_become_the_next_ones_picture() {
    let mut s = Scene::new();
    s.open(1, None);
    s.run(SECOND, &["10.0.0.5:4000"]).after(2 * SECOND);
    s.close(1);
    s.open(2, None);
    s.run(6 * SECOND, &["10.0.0.6:4000"]);
    assert_eq!(s.latch.source(2, Slot::Video), None, "it may be the first camera at a new address");
    s.after(11 * SECOND);
    assert_eq!(s.video("10.0.0.6:4000"), Ok(2), "it begins anew");
}

#[test]
fn a_late_answer_to_a_stream_that_has_ended_is_not_taken_when_it_goes_on_for_long() {
    let mut s = Scene::new();
    s.open(1, None);
    s.close(1);
    s.after(SECOND).open(2, None);
    s.run(8 * SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.latch.source(2, Slot::Video), None);
}

#[test]
fn sound_may_come_at_any_time_where_nobody_else_could_be_meant() {
    let mut s = Scene::new();
    s.open(1, None);
    s.run(60 * SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.packet("10.0.0.6:4002", Slot::Audio), Err(Unlatched::Unexpected));
    assert_eq!(s.packet("10.0.0.5:4002", Slot::Audio), Ok(1));
}

#[test]
fn late_sound_is_nobodys_where_another_camera_is_expected_or_has_none_either() {
    let mut s = Scene::new();
    s.open(1, None);
    s.run(10 * SECOND, &["10.0.0.5:4000"]).open(2, None);
    assert_eq!(s.packet("10.0.0.5:4002", Slot::Audio), Err(Unlatched::Ambiguous), "the second may begin with sound");
    s.close(2);
    s.run(6 * SECOND, &["10.0.0.5:4000"]).open(3, Some("10.0.0.5"));
    s.run(10 * SECOND, &["10.0.0.5:4000", "10.0.0.5:5000"]);
    assert_eq!(s.latch.source(3, Slot::Video), Some(addr("10.0.0.5:5000")));
    assert_eq!(s.packet("10.0.0.5:6002", Slot::Audio), Err(Unlatched::Ambiguous), "both are without sound");
}

#[test]
fn packets_that_may_be_either_of_two_streams_are_a_dispute_of_both_until_one_shows_video() {
    let mut s = Scene::new();
    s.open(1, None);
    s.open(2, None);
    s.open(3, Some("10.0.0.77"));
    s.run(3 * SECOND, &["10.0.0.5:4000"]);
    for stream in [1, 2] {
        let dispute = s.latch.dispute(stream, s.now).unwrap();
        assert_eq!((s.now - dispute.since, dispute.packets), (Duration::from_secs(3), 30));
    }
    assert_eq!(s.latch.dispute(3, s.now), None, "it is elsewhere");
    s.close(2);
    assert_eq!(s.latch.dispute(1, s.now + Duration::from_secs(1)), None, "it is over when nothing more is refused");
    s.after(11 * SECOND).run(SECOND, &["10.0.0.5:4000"]);
    assert_eq!((s.video("10.0.0.5:4000"), s.latch.dispute(1, s.now)), (Ok(1), None));
}

#[test]
fn a_camera_that_missed_its_stop_and_has_moved_to_an_announced_address_does_not_become_the_picture_of_the_one_there() {
    for told in [false, true] {
        let mut s = Scene::new();
        let start = s.now;
        s.open(1, Some("10.0.0.5"));
        s.clocked("10.0.0.5:4000", start, 7).unwrap();
        // It sends from its new address, and MQTT does not tell before the stream is stopped.
        for _ in 0..40 {
            s.after(100 * MS);
            let _ = s.clocked("10.0.0.9:4000", start, 7);
        }
        if told {
            s.open(2, Some("10.0.0.9"));
        }
        s.close(1);
        s.open(2, Some("10.0.0.9"));
        for _ in 0..60 {
            s.after(100 * MS);
            assert!(s.clocked("10.0.0.9:4000", start, 7).is_err());
        }
        assert_eq!(s.after(11 * SECOND).video("10.0.0.9:5000"), Ok(2));
    }
}

#[test]
fn what_was_sending_from_an_announced_address_before_the_start_does_not_answer_it() {
    let mut s = Scene::new();
    s.run(SECOND, &["10.0.0.5:4000"]);
    s.open(1, Some("10.0.0.5"));
    assert_eq!(s.video("10.0.0.5:4000"), Err(Unlatched::Earlier));
    assert!(s.latch.dispute(1, s.now).is_some(), "it is told to stop and to play again");
    assert_eq!(s.video("10.0.0.5:5000"), Ok(1));
}

/// A packet of a camera whose media clock shows `timestamp`.
fn rtp(s: &mut Scene, from: &str, slot: Slot, timestamp: u32) -> Result<u8, Unlatched> {
    s.arrive(from, Entrance::Shared, slot, Clue::Rtp(RtpClue { ssrc: SSRC, timestamp }))
}

/// Two cameras behind one address, all of whose media are latched.
fn neighbours() -> Scene {
    let mut s = Scene::new();
    for (stream, port) in [(1, 4_000), (2, 5_000)] {
        s.open(stream, Some("10.0.0.5"));
        for _ in 0..2 {
            for (slot, offset) in [(Slot::Video, 0), (Slot::Audio, 2)] {
                for port in [4_000, 5_000].into_iter().filter(|other| *other <= port) {
                    let _ = rtp(&mut s, &format!("10.0.0.5:{}", port + offset), slot, port * 100_000);
                }
            }
            s.after(400);
        }
    }
    for (slot, offset) in [(Slot::Video, 0), (Slot::Audio, 2)] {
        for (stream, port) in [(1, 4_000), (2, 5_000)] {
            assert_eq!(rtp(&mut s, &format!("10.0.0.5:{}", port + offset), slot, port * 100_000), Ok(stream));
        }
    }
    s
}

#[test]
fn after_a_power_cut_a_port_that_was_another_cameras_is_not_its_any_more_for_whichever_medium() {
    // The first camera comes back with the ports that were the second's, one for the other medium.
    for (slot, port) in [(Slot::Audio, 5_000), (Slot::Video, 5_002), (Slot::Video, 5_000), (Slot::Audio, 5_002)] {
        let mut s = neighbours();
        s.after(2 * SECOND);
        for n in 0..80 {
            let result = rtp(&mut s, &format!("10.0.0.5:{port}"), slot, 3_000_000_000 + n * 9_000);
            assert!(result.is_err(), "{slot:?} at {port} went to {result:?}");
            s.after(100);
        }
    }
}

#[test]
fn a_camera_that_reboots_and_keeps_its_ports_is_taken_at_once_where_nobody_else_could_be_meant() {
    let mut s = neighbours();
    s.close(1);
    s.after(2 * SECOND);
    assert_eq!(rtp(&mut s, "10.0.0.5:5000", Slot::Video, 3_000_000_000), Ok(2));
    let mut s = Scene::new();
    s.open(1, None);
    assert_eq!(rtp(&mut s, "10.0.0.5:4000", Slot::Video, 7), Ok(1));
    s.after(2 * SECOND);
    assert_eq!(rtp(&mut s, "10.0.0.5:4000", Slot::Video, 3_000_000_000), Ok(1));
    assert_eq!(rtp(&mut s, "10.0.0.5:4002", Slot::Audio, 3_000_000_000), Ok(1));
}

#[test]
fn packets_that_were_held_up_for_seconds_are_still_their_streams() {
    let mut s = neighbours();
    s.after(5 * SECOND);
    assert_eq!(rtp(&mut s, "10.0.0.5:5000", Slot::Video, 500_000_000 + 9_000), Ok(2));
    assert_eq!(rtp(&mut s, "10.0.0.5:4002", Slot::Audio, 400_000_000 + 960), Ok(1));
}

#[test]
fn a_stream_that_is_started_again_takes_its_cameras_old_port_with_a_new_clock_and_no_other_stream_does() {
    for announced in [None, Some("10.0.0.5")] {
        let mut s = Scene::new();
        s.open(1, announced);
        assert_eq!(rtp(&mut s, "10.0.0.5:4000", Slot::Video, 7), Ok(1));
        s.close(1);
        s.after(2 * SECOND);
        let mut other = Scene { latch: std::mem::take(&mut s.latch), now: s.now };
        other.open(2, announced);
        assert!(rtp(&mut other, "10.0.0.5:4000", Slot::Video, 3_000_000_000).is_err());
        other.close(2);
        other.after(16 * SECOND);
        other.open(1, announced);
        assert_eq!(rtp(&mut other, "10.0.0.5:4000", Slot::Video, 7), Ok(1));
        other.close(1);
        other.after(2 * SECOND);
        other.open(1, announced);
        assert_eq!(rtp(&mut other, "10.0.0.5:4000", Slot::Video, 3_000_000_000), Ok(1));
    }
}

#[test]
fn a_camera_whose_old_address_is_anothers_by_now_does_not_become_the_picture_of_one_that_was_never_heard() {
    let mut scene = Scene::new();
    let start = scene.now;
    scene.open(1, Some("10.0.0.1"));
    scene.after(100);
    assert_eq!(scene.clocked("10.0.0.1:4032", start, 0), Ok(1));
    scene.open(2, None);
    // Nobody has told yet that it has moved: only its clock says whose this is.
    scene.after(100);
    assert_eq!(scene.clocked("10.0.0.9:4052", start, 0), Err(Unlatched::Ambiguous));
    scene.after(4 * SECOND);
    assert!(scene.clocked("10.0.0.1:4032", start, 700_000_000).is_err());
    scene.after(100);
    assert_eq!(scene.clocked("10.0.0.9:4052", start, 0), Err(Unlatched::Ambiguous));
    scene.latch.expect(1, "10.0.0.9".parse().unwrap(), scene.now);
    assert_eq!(scene.clocked("10.0.0.9:4052", start, 0), Ok(1));
}

#[test]
fn a_port_that_a_nat_gives_twice_was_not_heard_beside_the_one_between() {
    let mut s = Scene::new();
    s.open(1, Some("10.0.0.5"));
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
    s.open(2, Some("10.0.0.5"));
    // The first camera, for a moment, and once more later.
    assert_eq!(s.video("10.0.0.5:5000"), Err(Unlatched::Unconfirmed));
    s.after(100).run(SECOND, &["10.0.0.5:4000"]);
    assert_eq!(s.video("10.0.0.5:5000"), Err(Unlatched::Unconfirmed));
    s.run(2_500, &["10.0.0.5:5000"]);
    assert_eq!(s.video("10.0.0.5:5000"), Err(Unlatched::Unconfirmed));
    // The second camera, which sends beside it.
    s.run(600, &["10.0.0.5:6000", "10.0.0.5:4000"]);
    assert_eq!(s.video("10.0.0.5:6000"), Ok(2));
}

#[test]
fn sound_that_was_there_before_the_start_does_not_become_that_of_the_picture_that_answers_it() {
    let mut s = Scene::new();
    s.run(100, &["10.0.0.5:7000"]);
    for _ in 0..10 {
        assert!(s.packet("10.0.0.5:7002", Slot::Audio).is_err());
        s.after(100);
    }
    s.open(1, Some("10.0.0.5"));
    assert_eq!(s.video("10.0.0.5:4000"), Ok(1));
    for _ in 0..60 {
        assert!(s.packet("10.0.0.5:7002", Slot::Audio).is_err());
        s.run(100, &["10.0.0.5:4000"]);
    }
    // After a while nobody remembers it; what begins with the picture is its own.
    s.close(1);
    s.after(2 * SECOND);
    s.open(1, Some("10.0.0.5"));
    assert_eq!((s.video("10.0.0.5:4000"), s.packet("10.0.0.5:4002", Slot::Audio)), (Ok(1), Ok(1)));
}

#[test]
fn what_was_heard_beside_a_source_that_was_given_up_does_not_succeed_it() {
    let mut s = neighbours();
    // A third camera, of which nothing is expected.
    for n in 0..10 {
        for (port, base) in [(4_000, 400_000_000), (4_002, 400_000_000), (5_000, 500_000_000), (5_002, 500_000_000)] {
            let slot = if port % 10 == 0 { Slot::Video } else { Slot::Audio };
            rtp(&mut s, &format!("10.0.0.5:{port}"), slot, base + n * 4_800).unwrap();
        }
        assert!(rtp(&mut s, "10.0.0.5:7002", Slot::Audio, 7 + n * 4_800).is_err());
        s.after(100);
    }
    // The first one restarts: its old port may be anybody's now, but for the third one, which was there beside it.
    s.after(500);
    assert_eq!(rtp(&mut s, "10.0.0.5:4002", Slot::Audio, 3_000_000_000), Err(Unlatched::Unconfirmed));
    for n in 10..20 {
        let third = rtp(&mut s, "10.0.0.5:7002", Slot::Audio, 7 + n * 4_800);
        assert!(third.is_err(), "{third:?}");
        s.after(100);
    }
}
