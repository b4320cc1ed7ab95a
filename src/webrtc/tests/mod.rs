//! Whole sessions against a browser of webrtc-rs's parts, on virtual time.

mod browser;

use std::net::SocketAddr;
use std::time::Duration;

use browser::{Habits, World};

use super::ice::CONSENT_LIFETIME;
use super::verify::VERIFICATIONS;
use super::{
    Answer, CloseCause, Feedback, IceCredentials, OfferError, ParsedOffer, ReofferError, RunningCodecs,
    SessionCounters, SrtpProfile,
};
use crate::media::rtcp::{ReportBlock, RtcpWriter};
use crate::media::rtp::RtpHeader;
use crate::media::{ExtSeq, SeqNo, Ssrc};

const GCM: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const CM: SrtpProfile = SrtpProfile::Aes128CmHmacSha1_80;

fn offering(profiles: &[SrtpProfile]) -> Habits {
    Habits { profiles: profiles.to_vec(), ..Habits::default() }
}

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 50_000))
}

/// Sends one frame's packets around the roll-over and opens them as the browser does.
fn media_flows(world: &mut World) {
    let (_, mut receive) = world.browser_srtp();
    let track = world.session.tracks().video.clone().unwrap();
    let (sealer, _) = world.sealer.as_mut().unwrap();
    for seq in (0xfffd..0x1_0003).map(ExtSeq) {
        let header = RtpHeader {
            payload_type: track.formats[0].payload_type,
            marker: true,
            seq: seq.wire(),
            timestamp: 1,
            ssrc: track.ssrc,
        };
        let mut packet = [&header.to_bytes()[..], b"picture", &vec![0; sealer.overhead()]].concat();
        sealer.seal_rtp(&mut packet, 12, seq).unwrap();
        let opened = receive.decrypt_rtp(&packet).unwrap();
        assert_eq!(&opened[12..], b"picture");
    }
    let mut writer = RtcpWriter::new();
    writer.receiver_report(track.ssrc, &[]);
    let report = writer.finish();
    let sealed = sealer.seal_rtcp(&report).unwrap();
    assert_eq!(receive.decrypt_rtcp(&sealed).unwrap(), report);
}

#[test]
fn a_browser_that_prefers_cm_gets_gcm() {
    let mut world = World::connected(&offering(&[CM, GCM]));
    assert_eq!(world.sealer.as_ref().unwrap().1, GCM);
    assert_eq!(world.browser_keys.as_ref().unwrap().1, GCM);
    media_flows(&mut world);
    assert_eq!(world.session.counters(), &SessionCounters::default());
}

#[test]
fn a_browser_without_gcm_gets_cm() {
    let mut world = World::connected(&offering(&[CM]));
    assert_eq!(world.sealer.as_ref().unwrap().1, CM);
    media_flows(&mut world);
}

#[test]
fn an_offer_with_setup_passive_makes_us_the_client() {
    for profiles in [&[CM, GCM][..], &[CM][..]] {
        let mut world = World::connected(&Habits { setup: "passive", ..offering(profiles) });
        assert_eq!(world.answered("a=setup:"), "active");
        assert_eq!(world.sealer.as_ref().unwrap().1, *profiles.last().unwrap());
        media_flows(&mut world);
    }
}

#[test]
fn the_browsers_signature_is_verified_once() {
    for setup in ["actpass", "passive"] {
        let before = VERIFICATIONS.get();
        World::connected(&Habits { setup, ..Habits::default() });
        assert_eq!(VERIFICATIONS.get() - before, 1, "setup:{setup}");
    }
}

#[test]
fn a_client_hello_in_pieces_works_in_any_order() {
    for reversed in [false, true] {
        let mut world = World::new(&Habits { mtu: 60, ..Habits::default() });
        world.check(false);
        let mut hello = world.browser_datagrams();
        assert!((2..=6).contains(&hello.len()), "{} datagrams", hello.len());
        if reversed {
            hello.reverse();
        }
        hello.iter().for_each(|datagram| world.send(datagram));
        world.run(&mut |_| false);
        assert_eq!(world.connected, 1);
        media_flows(&mut world);
    }
}

#[test]
fn any_single_lost_datagram_is_made_up_for() {
    for setup in ["actpass", "passive"] {
        for lost in 0..14 {
            let mut world = World::new(&Habits { setup, ..Habits::default() });
            world.check(false);
            world.run(&mut |n| n == lost);
            assert_eq!(world.closed, [], "{setup}, datagram {lost} lost");
            assert!(world.connected == 1 && world.browser_keys.is_some(), "{setup}, datagram {lost} lost");
            media_flows(&mut world);
        }
    }
}

#[test]
fn a_handshake_survives_a_third_of_all_datagrams_lost() {
    for seed in 1..=20_u64 {
        let mut world = World::new(&Habits { mtu: 400, ..Habits::default() });
        world.check(false);
        // Numerical Recipes' generator: the same losses in every run.
        let mut state = seed;
        world.run(&mut |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 10 < 3
        });
        assert_eq!((world.connected, world.closed.len()), (1, 0), "seed {seed}");
    }
}

#[test]
fn a_lost_flight_is_sent_again_as_soon_as_the_browser_repeats_its_own() {
    // The library alone forgets its timer here and both sides wait for ever.
    let mut world = World::new(&Habits::default());
    world.check(false);
    let [hello] = &world.browser_datagrams()[..] else { panic!() };
    world.send(hello);
    world.flush_to_browser();
    let [second_hello] = &world.browser_datagrams()[..] else { panic!() };
    world.send(second_hello);
    let flight = world.lose_to_browser();
    assert!(flight > 0);
    for _ in 0..3 {
        world.browser_repeats();
        assert_eq!(world.lose_to_browser(), flight);
        assert!(world.session.poll_timeout().unwrap() < world.now + CONSENT_LIFETIME, "our own timer still runs");
    }
    world.browser_repeats();
    world.run(&mut |_| false);
    assert_eq!((world.connected, world.closed.len()), (1, 0));
    media_flows(&mut world);
}

#[test]
fn a_browser_that_falls_silent_in_the_handshake_is_given_up() {
    let mut world = World::new(&Habits::default());
    world.check(false);
    let mut delivered = 0;
    world.run(&mut |_| {
        delivered += 1;
        delivered > 4
    });
    assert_eq!(world.connected, 0);
    let [CloseCause::Failed(text)] = &world.closed[..] else { panic!("{:?}", world.closed) };
    assert!(text.contains("stopped answering"), "{text}");
    assert_eq!(world.session.poll_timeout(), None);
}

#[test]
fn a_wrong_certificate_ends_the_session() {
    for setup in ["actpass", "passive"] {
        let mut world = World::new(&Habits { wrong_fingerprint: true, setup, ..Habits::default() });
        world.check(false);
        world.run(&mut |_| false);
        assert_eq!(world.closed, [CloseCause::FingerprintMismatch], "{setup}");
        assert_eq!((world.connected, world.session.poll_timeout()), (0, None));
    }
}

#[test]
fn a_browser_without_a_certificate_is_refused() {
    let mut world = World::new(&Habits { without_certificate: true, ..Habits::default() });
    world.check(false);
    world.run(&mut |_| false);
    assert_eq!(world.connected, 0);
    assert!(matches!(&world.closed[..], [CloseCause::Failed(_)]), "{:?}", world.closed);
}

#[test]
fn a_browser_without_dtls_srtp_is_refused_in_words() {
    let mut world = World::new(&offering(&[]));
    world.check(false);
    world.run(&mut |_| false);
    let [CloseCause::Failed(text)] = &world.closed[..] else { panic!("{:?}", world.closed) };
    assert!(text.contains("SRTP_AEAD_AES_128_GCM"), "{text}");
}

#[test]
fn feedback_comes_out_once() {
    for profile in [GCM, CM] {
        let mut world = World::connected(&offering(&[profile]));
        let (mut send, _) = world.browser_srtp();
        let ssrc = world.session.tracks().video.as_ref().unwrap().ssrc;
        let report = ReportBlock { ssrc: ssrc.0, fraction_lost: 9, jitter: 4, last_sr: 77, ..ReportBlock::default() };
        let mut writer = RtcpWriter::new();
        writer.receiver_report(Ssrc(1), &[report]).pli(Ssrc(1), ssrc).nack(Ssrc(1), ssrc, &[SeqNo(3), SeqNo(5)]);
        let sealed = send.encrypt_rtcp(&writer.finish()).unwrap();
        world.send(&sealed);
        let expected =
            [Feedback::Report(report), Feedback::Pli { ssrc }, Feedback::Nack { ssrc, seqs: vec![SeqNo(3), SeqNo(5)] }];
        assert_eq!(world.feedback, expected);
        world.send(&sealed);
        assert_eq!(world.feedback.len(), 3, "a replay has no effect");
        assert_eq!(world.session.counters().srtcp_refused, 1);
        let truncated = send.encrypt_rtcp(&[0x81, 201, 0, 1, 0, 0, 0, 1]).unwrap();
        world.send(&truncated);
        assert_eq!(world.session.counters().rtcp_malformed, 1);
    }
}

#[test]
fn both_sides_can_close() {
    let mut world = World::connected(&Habits::default());
    world.browser_closes();
    assert_eq!(world.closed, [CloseCause::PeerClosed]);
    assert_eq!(world.session.poll_timeout(), None);
    world.check(true);
    assert_eq!((world.stun_answers, world.session.counters().after_close), (1, 1), "only the first check");

    let mut world = World::connected(&Habits::default());
    world.session.close(world.now);
    world.flush_to_browser();
    assert!(world.browser_closed && world.closed.is_empty());
    world.session.close(world.now);
    assert!(world.session.poll_output().is_none() && world.session.poll_timeout().is_none());
}

#[test]
fn consent_ends_after_30_s_without_an_authenticated_check() {
    let mut world = World::connected(&Habits::default());
    world.silence(CONSENT_LIFETIME - Duration::from_millis(1));
    assert_eq!(world.closed, []);
    world.check(false);
    world.silence(CONSENT_LIFETIME - Duration::from_millis(1));
    let forged = super::ice::tests::check("nobody:Gzmx", "wrong", &[]);
    world.send(&forged);
    assert_eq!(world.closed, []);
    world.silence(Duration::from_millis(1));
    assert_eq!(world.closed, [CloseCause::ConsentExpired]);
    world.flush_to_browser();
    assert!(world.browser_closed, "it is told, in case it still listens");
}

#[test]
fn a_session_that_nobody_comes_to_ends_by_itself() {
    let mut world = World::new(&Habits::default());
    assert_eq!(world.session.poll_timeout(), Some(world.now + CONSENT_LIFETIME));
    world.silence(CONSENT_LIFETIME);
    assert_eq!((world.closed, world.sent_to), (vec![CloseCause::ConsentExpired], vec![]));
}

#[test]
fn the_path_follows_a_nomination_and_dtls_goes_with_it() {
    let mut world = World::connected(&Habits::default());
    let first = world.address;
    assert_eq!(world.paths, [first]);
    world.address = elsewhere();
    world.check(false);
    assert_eq!(world.paths, [first], "a check alone does not move it");
    world.check(true);
    assert_eq!(world.paths, [first, elsewhere()]);
    world.sent_to.clear();
    world.session.close(world.now);
    world.take_outputs();
    assert_eq!(world.sent_to, [elsewhere()]);
}

/// The browser restarts ICE: a new offer, and checks with what it and the answer to it say.
fn restart(world: &mut World) {
    let offer = world.offer.replace("a=ice-ufrag:Gzmx", "a=ice-ufrag:Hnew");
    assert_ne!(offer, world.offer);
    let parsed = ParsedOffer::parse(&offer).unwrap();
    world.answer = world.session.reoffer(&parsed, &world.config.clone(), RunningCodecs::default()).unwrap();
    world.offer = offer;
}

#[test]
fn an_ice_restart_moves_the_path_and_dtls_and_srtp_go_on() {
    for setup in ["actpass", "passive"] {
        let mut world = World::connected(&Habits { setup, ..Habits::default() });
        let before = world.answer.clone();
        let (mut send, _) = world.browser_srtp();
        let (home, old_check) = (world.address, world.stun(true));
        restart(&mut world);
        let line =
            |answer: &Answer, start: &str| answer.sdp.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        for start in ["a=ice-ufrag:", "a=ice-pwd:"] {
            assert_ne!(line(&before, start), line(&world.answer, start));
        }
        for start in ["a=fingerprint:", "a=setup:", "a=ssrc-group:", "a=group:", "m=video", "m=audio"] {
            assert_eq!(line(&before, start), line(&world.answer, start));
        }
        let version = |answer: &Answer| {
            let words: Vec<u64> = line(answer, "o=").split(' ').filter_map(|word| word.parse().ok()).collect();
            (words[0], words[1])
        };
        assert_eq!(version(&world.answer), (version(&before).0, version(&before).1 + 1));
        // Nothing has moved: the browser is still at home, and its old checks keep the consent.
        media_flows(&mut world);
        world.send(&old_check);
        assert_eq!(world.paths, [home]);
        world.address = elsewhere();
        world.check(true);
        assert_eq!(world.paths, [home, elsewhere()]);
        media_flows(&mut world);
        let ssrc = world.session.tracks().video.as_ref().unwrap().ssrc;
        let mut writer = RtcpWriter::new();
        writer.receiver_report(Ssrc(1), &[]).pli(Ssrc(1), ssrc);
        world.send(&send.encrypt_rtcp(&writer.finish()).unwrap());
        assert_eq!(world.feedback, [Feedback::Pli { ssrc }]);
        assert_eq!((world.connected, world.closed.len()), (1, 0), "one handshake, one session");
        // The old password is worth nothing now.
        world.address = SocketAddr::from(([127, 0, 0, 1], 50_001));
        world.send(&old_check);
        assert_eq!(world.session.counters().stun_unauthenticated, 1);
        assert_eq!(world.paths, [home, elsewhere()]);
    }
}

#[test]
fn an_ice_restart_in_the_middle_of_the_handshake_does_not_disturb_it() {
    let mut world = World::new(&Habits::default());
    world.check(true);
    let hello = world.browser_datagrams();
    restart(&mut world);
    hello.iter().for_each(|datagram| world.send(datagram));
    world.address = elsewhere();
    world.check(true);
    world.run(&mut |_| false);
    assert_eq!((world.connected, world.closed.len()), (1, 0));
    media_flows(&mut world);
}

#[test]
fn an_offer_of_another_peer_or_with_other_media_is_no_restart_and_changes_nothing() {
    let mut world = World::connected(&Habits::default());
    let ufrag = world.session.local_ufrag().to_owned();
    let old = world.offer.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).unwrap();
    let stranger = world.offer.replace(old, &vec!["AB"; 32].join(":"));
    let without_sound = world.offer.replace("opus/48000/2", "opus/48000/1");
    let other_numbers = world.offer.replace("108", "118");
    let (start, end) = world.offer.split_once("o=- ").unwrap();
    let newcomer = format!("{start}o=- 1{end}");
    for (offer, expected) in [
        (newcomer, ReofferError::OtherPeer),
        (stranger, ReofferError::OtherPeer),
        (without_sound, ReofferError::Changed("the media")),
        (other_numbers, ReofferError::Changed("the media")),
    ] {
        let offer = ParsedOffer::parse(&offer.replace("a=ice-ufrag:Gzmx", "a=ice-ufrag:Hnew")).unwrap();
        assert_eq!(world.session.reoffer(&offer, &world.config.clone(), RunningCodecs::default()), Err(expected));
    }
    assert_eq!(world.session.local_ufrag(), ufrag);
}

#[test]
fn a_fragment_alone_restarts_ice_too() {
    let mut world = World::connected(&Habits::default());
    let before = world.session.local_ufrag().to_owned();
    for bad in ["", "abc", "has space", "crlf\r\n", &"x".repeat(257)] {
        assert_eq!(world.session.restart_ice(bad), Err(OfferError::Ice), "{bad:?}");
    }
    assert_eq!(world.session.restart_ice("Gzmx").unwrap().ufrag, before, "the fragment in use restarts nothing");
    let IceCredentials { ufrag, pwd } = world.session.restart_ice("Hnew").unwrap();
    assert_ne!(ufrag, before);
    world.address = elsewhere();
    let request = super::ice::tests::check(&format!("{ufrag}:Hnew"), &pwd, &[stun::attributes::ATTR_USE_CANDIDATE]);
    world.send(&request);
    assert_eq!(world.paths.last(), Some(&elsewhere()));
    media_flows(&mut world);
}

#[test]
fn garbage_from_the_browsers_own_address_is_counted_and_the_session_goes_on() {
    let mut world = World::connected(&Habits::default());
    let (mut send, _) = world.browser_srtp();
    let hello = World::new(&Habits::default()).browser_datagrams().remove(0);
    for n in 0..1_000_u32 {
        let noise: Vec<u8> = (0..40_u32).map(|i| (n.wrapping_mul(2_654_435_761) >> (i % 24)) as u8).collect();
        world.send(&[&[21, 254, 253][..], &noise].concat());
        world.send(&[&[23, 254, 253, 0, 1][..], &noise].concat());
        world.send(&[&[0x80, 206][..], &noise].concat());
        world.send(&[&[0x80, 108][..], &noise].concat());
        world.send(&[&[1, 1][..], &noise].concat());
        world.send(&[&[70][..], &noise].concat());
        if n < 100 {
            world.send(&hello);
        }
    }
    assert_eq!(world.closed, []);
    let counted = *world.session.counters();
    assert_eq!((counted.rtp_ignored, counted.stun_ignored, counted.unknown), (1_000, 1_000, 1_000));
    assert_eq!(counted.srtcp_refused, 1_000);
    assert!(counted.dtls_discarded >= 2_000, "{counted:?}");
    let ssrc = world.session.tracks().video.as_ref().unwrap().ssrc;
    let mut writer = RtcpWriter::new();
    writer.receiver_report(Ssrc(1), &[]).pli(Ssrc(1), ssrc);
    world.send(&send.encrypt_rtcp(&writer.finish()).unwrap());
    assert_eq!(world.feedback, [Feedback::Pli { ssrc }]);
    media_flows(&mut world);
}

#[test]
fn an_unproven_address_gets_no_answer_and_changes_nothing() {
    let mut world = World::connected(&Habits::default());
    let (mut send, _) = world.browser_srtp();
    let ssrc = world.session.tracks().video.as_ref().unwrap().ssrc;
    let mut writer = RtcpWriter::new();
    writer.receiver_report(Ssrc(1), &[]).pli(Ssrc(1), ssrc);
    let srtcp = send.encrypt_rtcp(&writer.finish()).unwrap();
    let client_hello = World::new(&Habits::default()).browser_datagrams().remove(0);
    let close_notify = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 1, 0];
    let forged = super::ice::tests::check("nobody:Gzmx", "wrong", &[stun::attributes::ATTR_USE_CANDIDATE]);
    let before = (world.sent_to.len(), world.paths.len());
    world.address = elsewhere();
    for datagram in [&srtcp[..], &client_hello, &close_notify, &[0x80, 108, 0, 1], &forged, &[], &[64; 9], &[255; 9]] {
        world.send(datagram);
    }
    assert_eq!((world.sent_to.len(), world.paths.len()), before);
    assert!(world.feedback.is_empty() && world.closed.is_empty());
    let expected = SessionCounters { unproven_source: 4, stun_unauthenticated: 1, unknown: 3, ..Default::default() };
    assert_eq!(world.session.counters(), &expected);
    // The same SRTCP is good from where the browser is.
    world.address = world.paths[0];
    world.send(&srtcp);
    assert_eq!(world.feedback, [Feedback::Pli { ssrc }]);
}

#[test]
fn plaintext_alerts_do_not_end_a_connected_session() {
    let mut world = World::connected(&Habits::default());
    for alert in [[1, 0], [2, 40], [2, 80]] {
        let record = [&[21, 254, 253, 0, 0, 0, 0, 0, 0, 9, 9, 0, 2][..], &alert].concat();
        world.send(&record);
    }
    assert_eq!((world.closed.len(), world.session.counters().dtls_discarded), (0, 3));
    media_flows(&mut world);
}

#[test]
fn no_cut_or_flipped_client_hello_panics_and_garbage_does_not_stop_a_handshake() {
    let hello = World::new(&Habits::default()).browser_datagrams().remove(0);
    let mut world = World::new(&Habits::default());
    world.check(false);
    for len in 0..hello.len() {
        world.send(&hello[..len]);
    }
    assert_eq!(world.closed, []);
    world.run(&mut |_| false);
    assert_eq!(world.connected, 1);
    let mut world = World::new(&Habits::default());
    world.check(false);
    for bit in 0..hello.len() * 8 {
        let mut flipped = hello.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if !world.closed.is_empty() {
            world = World::new(&Habits::default());
            world.check(false);
        }
        world.send(&flipped);
        assert_eq!(world.connected, 0);
    }
}

#[test]
fn no_flipped_handshake_datagram_panics_or_connects_with_other_keys() {
    // Flips one bit in each datagram of the exchange in turn, a different one in every run.
    for run in 0..400_usize {
        let mut world = World::new(&Habits::default());
        world.check(false);
        for turn in 0..8 {
            for mut datagram in world.browser_datagrams() {
                if turn == run % 4 {
                    let bit = (run * 7919) % (datagram.len() * 8);
                    datagram[bit / 8] ^= 1 << (bit % 8);
                }
                world.send(&datagram);
            }
            world.flush_to_browser();
        }
        assert!(world.connected == 0 || world.closed.is_empty());
        if world.connected == 1 && world.browser_keys.is_some() {
            media_flows(&mut world);
        }
    }
}
