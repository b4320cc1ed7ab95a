//! What befalls a camera, on virtual time.

use super::*;
use crate::media::{Codec, Ssrc};
use crate::sim::settings::{Fault, Imitated};

fn marks(packets: &[RtpPacket], read: impl Fn(&[u8]) -> Option<Mark>) -> Vec<u32> {
    packets.iter().filter_map(|packet| read(&packet.payload())).map(|mark| mark.number).collect()
}

#[test]
fn marks_count_on_through_all_streams_of_a_camera() {
    let mut world = World::playing(|settings| settings.faults.schedule = vec![(Duration::from_secs(2), Fault::Reboot)]);
    let mut sent = world.pass(3.0);
    world.say(Kind::Play, &play(STREAM));
    sent.extend(world.pass(1.0));
    world.say(Kind::Play, &play(OTHER_STREAM));
    sent.extend(world.pass(1.0));
    let pictures = marks(&rtp(&sent, Port::Video), Mark::in_video);
    let sounds = marks(&rtp(&sent, Port::Audio), Mark::in_audio);
    assert!(pictures.len() > 90 && sounds.len() > 190, "{} {}", pictures.len(), sounds.len());
    for counted in [pictures, sounds] {
        assert!(counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counted:?}");
    }
}

#[test]
fn a_changed_source_has_other_ssrcs_and_numbers_and_counts_feedback_on_them_only() {
    let schedule = vec![(Duration::from_secs(1), Fault::ChangeSource)];
    let mut world = World::playing(|settings| settings.faults.schedule = schedule);
    let sent = world.pass(2.0);
    let (video, audio) = (rtp(&sent, Port::Video), rtp(&sent, Port::Audio));
    for (packets, ssrc) in [(&video, VIDEO), (&audio, AUDIO)] {
        let runs: Vec<_> = packets.chunk_by(|a, b| a.ssrc() == b.ssrc()).collect();
        assert_eq!((runs.len(), runs[0][0].ssrc()), (2, ssrc));
        let (last, first) = (&runs[0][runs[0].len() - 1], &runs[1][0]);
        assert_ne!(first.seq().0, last.seq().0.wrapping_add(1));
    }
    // Pictures go on.
    assert_eq!(marks(&video, Mark::in_video), (0..=50).collect::<Vec<_>>());
    world.camera.on_rtcp(world.now, &rr());
    assert_eq!(world.report().feedback.count, 0);
    let mut writer = RtcpWriter::new();
    let Ssrc(ssrc) = video[video.len() - 1].ssrc();
    writer.receiver_report(US, &[ReportBlock { ssrc, ..ReportBlock::default() }]);
    world.camera.on_rtcp(world.now, &writer.finish());
    assert_eq!(world.report().feedback.count, 1);
}

#[test]
fn pcmu_is_sent_as_payload_type_0_and_its_clock_counts_8000_a_second() {
    let mut world = World::playing(|settings| settings.behaviour.audio = Some(Codec::Pcmu));
    let sent = world.pass(2.0);
    let sound = rtp(&sent, Port::Audio);
    assert!(sound.len() > 99 && sound.iter().all(|packet| packet.payload_type() == 0 && packet.payload().len() == 160));
    assert!(sound.windows(2).all(|pair| pair[1].timestamp().wrapping_sub(pair[0].timestamp()) == 160));
    assert_eq!(marks(&sound, Mark::in_audio), (0..sound.len() as u32).collect::<Vec<_>>());
}

#[test]
fn sound_that_switches_its_codec_goes_on_in_the_same_numbering() {
    let schedule = vec![(Duration::from_secs(1), Fault::SwitchSound)];
    let mut world = World::playing(|settings| settings.faults.schedule = schedule);
    let sound = rtp(&world.pass(2.0), Port::Audio);
    let runs: Vec<_> = sound.chunk_by(|a, b| a.payload_type() == b.payload_type()).collect();
    assert_eq!(runs.iter().map(|run| run[0].payload_type()).collect::<Vec<_>>(), [96, 0]);
    assert!(sound.windows(2).all(|pair| pair[1].seq().0 == pair[0].seq().0.wrapping_add(1)));
    assert_eq!(marks(&sound, Mark::in_audio), (0..sound.len() as u32).collect::<Vec<_>>());
}

#[test]
fn numbers_near_their_end_wrap_around_within_seconds() {
    let mut world = World::playing(|settings| settings.faults.near_wrap = true);
    let sent = world.pass(4.0);
    for port in [Port::Video, Port::Audio] {
        let packets = rtp(&sent, port);
        let seqs = packets.windows(2).filter(|pair| pair[1].seq().0 < pair[0].seq().0).count();
        let times = packets.windows(2).filter(|pair| pair[1].timestamp() < pair[0].timestamp()).count();
        assert_eq!((seqs, times), (1, 1), "{port:?}");
    }
}

#[test]
fn sound_can_begin_later_and_is_in_step_all_the_same() {
    let mut world = World::playing(|settings| settings.faults.audio_after = Duration::from_secs(5));
    assert_eq!(rtp(&world.pass(4.999), Port::Audio).len(), 0);
    assert_eq!(rtp(&world.pass(1.0), Port::Audio).len(), 50);
}

#[test]
fn an_imitator_sends_unasked_and_for_ever_as_the_sources_of_a_real_camera() {
    let to = |port| ([192, 0, 2, 10], port).into();
    let imitated = Imitated { video: to(5006), rtcp: to(5007), audio: to(5008) };
    let mut world = World::new(|settings| settings.faults.imitate = Some(imitated));
    world.camera.imitate(world.now, imitated);
    let sent = world.pass(1.0);
    let video = rtp(&sent, Port::Video);
    assert!(video.iter().all(|packet| packet.ssrc() == VIDEO && packet.payload_type() == 103));
    assert_eq!(marks(&video, Mark::in_video).len(), 26);
    assert!(sent.iter().all(|(_, packet)| packet.to.ip() == imitated.video.ip()));
    world.now += Duration::from_secs(3_600);
    assert!(!world.pass(1.0).is_empty());
}

#[test]
fn jitter_delays_packets_and_nothing_else() {
    let with = |millis| {
        let mut world = World::playing(|settings| settings.faults.jitter = Duration::from_millis(millis));
        let sent = world.pass(4.0);
        let video = rtp(&sent, Port::Video);
        (sent, video)
    };
    let ((steady, _), (late, video)) = (with(0), with(30));
    assert!(video.windows(2).all(|pair| pair[1].seq().0 == pair[0].seq().0.wrapping_add(1)));
    let at = |sent: &[(Duration, Transmit)]| -> Vec<Duration> {
        sent.iter().filter(|(_, packet)| packet.from == Port::Video).map(|(at, _)| *at).collect()
    };
    let delays: Vec<_> = at(&late).iter().zip(at(&steady)).map(|(late, steady)| *late - steady).collect();
    assert!(delays.iter().any(|delay| *delay > Duration::from_millis(20)));
    // A packet behind a late one of the other port waits for it.
    assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(30)), "{:?}", delays.iter().max());
}

#[test]
fn a_small_picture_stays_small_and_another_frame_rate_changes_the_times() {
    let mut world = World::playing(|settings| {
        settings.behaviour.small_picture = true;
        settings.behaviour.frame_rate = 10;
    });
    world.pass(0.0);
    let sent = world.pass_with(4, &remb(5_000_000));
    let video = rtp(&sent, Port::Video);
    assert_eq!((marks(&video, Mark::in_video).len(), world.report().clip), (40, "sd"));
    let pictures = pictures(&video);
    assert_eq!(pictures[1][0].timestamp().wrapping_sub(pictures[0][0].timestamp()), 9_000);
}
