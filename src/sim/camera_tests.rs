//! Scenarios on virtual time.

use std::time::UNIX_EPOCH;

use super::super::clip::{Quality, tone};
use super::super::faults::Port;
use super::super::mark::Mark;
use super::super::play::Kind;
use super::super::settings::{RtcpSending, SimSettings};
use super::super::testing::{CAMERA, OTHER_STREAM, SDP, STREAM, keepalive, play, play_with, stop};
use super::*;
use crate::media::rtcp::{ReportBlock, RtcpBlock, RtcpWriter, blocks};
use crate::media::rtp::RtpPacket;
use crate::media::{Codec, SeqNo, Ssrc, h264};

const VIDEO: Ssrc = Ssrc(1_607_797_317);
const AUDIO: Ssrc = Ssrc(229_236_353);
const US: Ssrc = Ssrc(1);

/// A camera and the time that it lives in.
struct World {
    camera: Camera,
    start: Instant,
    now: Instant,
}

impl World {
    fn new(change: impl FnOnce(&mut SimSettings)) -> Self {
        let mut settings = SimSettings::new(CAMERA.parse().unwrap(), "127.0.0.1", 1883);
        change(&mut settings);
        let start = Instant::now();
        Self { camera: Camera::new(&settings, start, UNIX_EPOCH), start, now: start }
    }

    fn playing(change: impl FnOnce(&mut SimSettings)) -> Self {
        let mut world = Self::new(change);
        world.say(Kind::Play, &play(STREAM));
        world
    }

    fn say(&mut self, kind: Kind, text: &str) {
        self.camera.on_message(self.now, kind, text.as_bytes());
    }

    /// Lets `seconds` pass; what was sent, and when.
    fn pass(&mut self, seconds: f64) -> Vec<(Duration, Transmit)> {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut sent = Vec::new();
        loop {
            while self.camera.next_fault(self.now).is_some() {}
            self.camera.advance(self.now);
            while let Some(packet) = self.camera.transmit() {
                sent.push((self.now - self.start, packet));
            }
            match self.camera.deadline().filter(|at| *at <= end) {
                // Not later than now would be a busy loop.
                Some(at) => {
                    assert!(at > self.now, "the deadline does not move");
                    self.now = at;
                }
                None => break,
            }
        }
        self.now = end;
        sent
    }

    /// Lets seconds pass with a keepalive and this RTCP in each.
    fn pass_with(&mut self, seconds: u64, rtcp: &[u8]) -> Vec<(Duration, Transmit)> {
        let mut sent = Vec::new();
        for count in 0..seconds {
            self.say(Kind::Keepalive, &keepalive(STREAM, count));
            self.camera.on_rtcp(self.now, rtcp);
            sent.extend(self.pass(1.0));
        }
        sent
    }

    fn report(&self) -> SimReport {
        self.camera.report(self.now)
    }
}

fn rr() -> Vec<u8> {
    let mut writer = RtcpWriter::new();
    writer.receiver_report(US, &[ReportBlock { ssrc: VIDEO.0, fraction_lost: 128, ..ReportBlock::default() }]);
    writer.finish()
}

fn remb(bitrate: u64) -> Vec<u8> {
    let mut writer = RtcpWriter::new();
    writer.remb(US, bitrate, VIDEO);
    writer.finish()
}

fn rtp(sent: &[(Duration, Transmit)], from: Port) -> Vec<RtpPacket> {
    let of_port = sent.iter().filter(|(_, packet)| packet.from == from);
    of_port.map(|(_, packet)| RtpPacket::parse(packet.bytes.clone()).unwrap()).collect()
}

/// The video cut into pictures: timestamp, and payload bytes of all packets.
fn pictures(packets: &[RtpPacket]) -> Vec<Vec<&RtpPacket>> {
    packets.chunk_by(|a, b| a.timestamp() == b.timestamp()).map(|chunk| chunk.iter().collect()).collect()
}

#[test]
fn the_clip_comes_as_rtp_in_real_time() {
    let mut world = World::playing(|_| {});
    let sent = world.pass(8.0 - 0.001);
    let video = rtp(&sent, Port::Video);
    assert!(video.iter().all(|packet| packet.payload_type() == 103 && packet.ssrc() == VIDEO));
    assert!(video.windows(2).all(|pair| pair[1].seq().0 == pair[0].seq().0.wrapping_add(1)));
    let pictures = pictures(&video);
    assert_eq!(pictures.len(), 200);
    for (number, picture) in pictures.iter().enumerate() {
        let marks: Vec<_> = picture.iter().map(|packet| packet.marker()).collect();
        assert_eq!(marks.iter().position(|mark| *mark), Some(marks.len() - 1), "the last packet, and only that");
        let ticks = picture[0].timestamp().wrapping_sub(pictures[0][0].timestamp());
        assert_eq!(ticks, 3600 * number as u32);
        assert_eq!(h264::scan(&picture[0].payload()).begins_keyframe, number % 100 == 0);
        let payloads: Vec<_> = picture.iter().map(|packet| packet.payload()).collect();
        let mark = Mark { camera: CAMERA.parse().unwrap(), number: number as u32 };
        let unit = &Quality::Hd.clip().unit(number).payloads;
        assert_eq!(payloads, [&mark.before(&unit[0])[..], &unit[1..]].concat());
    }

    let audio = rtp(&sent, Port::Audio);
    assert_eq!(audio.len(), 400);
    assert!(audio.iter().all(|packet| packet.payload_type() == 96 && packet.ssrc() == AUDIO));
    assert!(audio.windows(2).all(|pair| pair[1].timestamp().wrapping_sub(pair[0].timestamp()) == 960));
    for (number, (packet, tone)) in (0..).zip(audio.iter().zip(tone())) {
        let mark = Mark { camera: CAMERA.parse().unwrap(), number };
        assert_eq!(packet.payload(), mark.on_sound(Codec::Opus, tone));
    }

    for (_, Transmit { from, to, .. }) in &sent {
        let port = match from {
            Port::Video => 5006,
            Port::Rtcp | Port::AudioRtcp => 5007,
            Port::Audio => 5008,
        };
        assert_eq!(to.to_string(), format!("192.0.2.10:{port}"));
    }
    let report = world.report();
    assert_eq!((report.packets_sent, report.audio_packets_sent), (video.len() as u64, 400));
    assert_eq!((report.frame, report.clip, report.streaming), (Some(199), "hd", true));
    assert!((300..1_200).contains(&report.video_kbps), "{}", report.video_kbps);
}

#[test]
fn a_keyframe_is_spread_over_milliseconds() {
    let mut world = World::playing(|_| {});
    let sent = world.pass(0.039);
    let times: Vec<_> = sent.iter().filter(|(_, p)| p.from == Port::Video).map(|(at, _)| at.as_millis()).collect();
    assert!(times.len() > 10);
    for (at, time) in times.iter().enumerate() {
        assert_eq!(*time, at as u128 / 10);
    }
}

#[test]
fn numbers_come_from_the_seed_and_differ_between_streams() {
    let first = |seed| {
        let mut world = World::playing(|settings| settings.seed = seed);
        let packets = rtp(&world.pass(0.0), Port::Video);
        (packets[0].seq(), packets[0].timestamp())
    };
    assert_eq!(first(7), first(7));
    assert_ne!(first(7), first(8));
}

#[test]
fn sender_reports_fit_the_media_and_come_from_where_they_should() {
    let ports = |rtcp: RtcpSending, received: bool| {
        let mut world = World::playing(|settings| settings.behaviour.rtcp = rtcp);
        let mut sent = world.pass(2.0);
        if received {
            world.camera.on_rtcp(world.now, &rr());
            sent = world.pass(2.0);
        }
        sent.retain(|(_, packet)| packet.bytes[1] == 200);
        sent
    };
    let sent = ports(RtcpSending::OwnPort, false);
    assert_eq!(sent.len(), 4, "at 0.5 s and at 1.5 s, for both media");
    assert!(sent.iter().all(|(_, packet)| packet.from == Port::Rtcp));
    let first: Vec<_> = blocks(&sent[0].1.bytes).collect::<Result<_, _>>().unwrap();
    let RtcpBlock::SenderReport(info, _) = first[0] else { panic!("{first:?}") };
    assert_eq!((info.ssrc, info.ntp), (VIDEO, ntp(0.5)));
    assert!(matches!(first[1], RtcpBlock::Other { packet_type: 202, format: 1 }));
    let mut world = World::playing(|_| {});
    let video = rtp(&world.pass(0.4), Port::Video);
    assert_eq!(info.rtp_time.wrapping_sub(video[0].timestamp()), 45_000);

    let from: Vec<_> = ports(RtcpSending::SameAsRtp, false).iter().map(|(_, packet)| packet.from).collect();
    assert_eq!(from, [Port::Video, Port::Audio, Port::Video, Port::Audio]);
    assert_eq!(ports(RtcpSending::AfterReceived, false), []);
    assert!(ports(RtcpSending::AfterReceived, true).iter().all(|(_, packet)| packet.from == Port::Rtcp));
    assert_eq!(ports(RtcpSending::AfterReceived, true).len(), 4);
    assert_eq!(ports(RtcpSending::None, true), []);
    let from: Vec<_> = ports(RtcpSending::OwnPortEach, false).iter().map(|(_, packet)| packet.from).collect();
    assert_eq!(from, [Port::Rtcp, Port::AudioRtcp, Port::Rtcp, Port::AudioRtcp]);
}

fn ntp(seconds: f64) -> u64 {
    crate::base::time::ntp64(UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

#[test]
fn without_feedback_it_stops_after_30_s() {
    let mut world = World::playing(|_| {});
    world.pass(29.9);
    assert!(world.report().streaming);
    world.pass(0.2);
    let report = world.report();
    assert_eq!((report.streaming, report.stopped_reason), (false, Some("no_feedback")));
    assert_eq!((report.streaming_seconds, report.feedback.count), (30.0, 0));
    assert!(report.packets_sent > 0);
    assert_eq!(world.pass(60.0), []);
    // The server asks again: the same stream begins anew.
    world.say(Kind::Play, &play(STREAM));
    assert!(!world.pass(1.0).is_empty());
    assert_eq!(world.report().stopped_reason, None);
}

#[test]
fn with_feedback_it_goes_on_and_the_gaps_are_known() {
    let mut world = World::playing(|_| {});
    world.pass(0.2);
    world.pass_with(60, &rr());
    world.pass(9.0);
    world.pass_with(1, &remb(2_000_000));
    let report = world.report();
    assert_eq!((report.streaming, report.stopped_reason), (true, None));
    assert_eq!((report.feedback.count, report.feedback.rr, report.feedback.remb), (61, 60, 1));
    assert_eq!((report.feedback.first_seconds, report.feedback.max_gap_seconds), (Some(0.2), 10.0));
    assert_eq!((report.loss_reported, report.streaming_seconds), (Some(0.5), 70.2));
}

#[test]
fn feedback_on_another_source_does_not_count() {
    let mut world = World::playing(|_| {});
    let mut writer = RtcpWriter::new();
    writer.receiver_report(US, &[ReportBlock { ssrc: AUDIO.0, ..ReportBlock::default() }]).remb(US, 1, AUDIO);
    world.pass_with(31, &writer.finish());
    assert_eq!(world.report().stopped_reason, Some("no_feedback"));
}

#[test]
fn without_keepalives_it_stops_after_120_s_and_lost_ones_are_counted() {
    let mut world = World::playing(|settings| settings.behaviour.stop_without_feedback = None);
    world.pass(100.0);
    for count in [0, 1, 4] {
        world.say(Kind::Keepalive, &keepalive(STREAM, count));
    }
    world.say(Kind::Keepalive, &keepalive(OTHER_STREAM, 5));
    world.pass(119.0);
    let report = world.report();
    assert_eq!((report.streaming, report.keepalives, report.keepalive_gaps), (true, 3, 2));
    world.pass(1.0);
    assert_eq!(world.report().stopped_reason, Some("no_keepalive"));
}

#[test]
fn stop_ends_its_own_stream_only() {
    let mut world = World::playing(|_| {});
    world.say(Kind::Stop, &stop(OTHER_STREAM));
    assert!(!world.pass(1.0).is_empty());
    world.say(Kind::Stop, &stop(STREAM));
    assert_eq!(world.pass(1.0), []);
    let report = world.report();
    assert_eq!((report.streaming, report.stopped_reason, report.stops), (false, Some("stop"), 1));
}

#[test]
fn a_second_play_goes_on_retargets_or_begins_anew() {
    let mut world = World::playing(|_| {});
    let before = rtp(&world.pass(1.0), Port::Video);
    world.say(Kind::Play, &play(STREAM));
    let same = rtp(&world.pass(1.0), Port::Video);
    assert_eq!(same[0].seq().0, before[before.len() - 1].seq().0.wrapping_add(1));

    world.say(Kind::Play, &play_with(STREAM, &SDP.replace("m=video 5006", "m=video 6006")));
    let moved = world.pass(1.0);
    assert!(moved.iter().filter(|(_, packet)| packet.from == Port::Video).all(|(_, packet)| packet.to.port() == 6006));
    assert_eq!(rtp(&moved, Port::Video)[0].seq().0, same[same.len() - 1].seq().0.wrapping_add(1));

    world.say(Kind::Play, &play(OTHER_STREAM));
    let anew = rtp(&world.pass(0.0), Port::Video);
    assert!(h264::scan(&anew[0].payload()).begins_keyframe);
    let report = world.report();
    assert_eq!((report.plays, report.stream_id.unwrap().to_string().as_str()), (4, OTHER_STREAM));
}

#[test]
fn a_refused_play_is_counted_and_explained() {
    let mut world = World::new(|_| {});
    world.say(Kind::Play, &play_with(STREAM, &SDP.replace("a=rtcp-fb:103 goog-remb\r\n", "")));
    let report = world.report();
    assert_eq!((report.streaming, report.plays, report.plays_refused), (false, 0, 1));
    assert!(report.last_refusal.unwrap().contains("goog-remb"));
    assert_eq!(world.pass(10.0), []);
}

#[test]
fn it_follows_remb_at_the_next_keyframe() {
    let mut world = World::playing(|_| {});
    let border = Quality::Hd.clip().bitrate();
    world.pass(0.0);
    world.pass_with(1, &remb(border - 1_000));
    assert_eq!(world.report().clip, "hd");
    let sent = world.pass_with(4, &rr());
    assert_eq!(world.report().clip, "sd");
    // The first picture of the other size is a keyframe, and the numbers go on.
    let video = rtp(&sent, Port::Video);
    assert!(video.windows(2).all(|pair| pair[1].seq().0 == pair[0].seq().0.wrapping_add(1)));
    let pictures = pictures(&video);
    let keyframe = pictures.iter().find(|picture| h264::scan(&picture[0].payload()).begins_keyframe);
    assert!(keyframe.unwrap()[0].payload().starts_with(&Quality::Sd.clip().unit(100).payloads[0]));
    assert!(world.report().video_kbps < 300, "{}", world.report().video_kbps);

    world.pass_with(5, &remb(border * 11 / 10));
    assert_eq!(world.report().clip, "sd", "not yet enough");
    world.pass_with(5, &remb(border * 12 / 10 + 10_000));
    assert_eq!(world.report().clip, "hd");
}

#[test]
fn remb_can_be_ignored() {
    let mut world = World::playing(|settings| settings.behaviour.follow_remb = false);
    world.pass_with(10, &remb(100_000));
    assert_eq!(world.report().clip, "hd");
    assert_eq!(world.report().feedback.remb_kbps, Some(100));
}

#[test]
fn pli_brings_a_keyframe_only_if_honoured() {
    let keyframes = |honour: bool| {
        let mut world = World::playing(|settings| settings.behaviour.honour_pli = honour);
        world.pass(1.0);
        let mut writer = RtcpWriter::new();
        writer.pli(US, VIDEO);
        world.camera.on_rtcp(world.now, &writer.finish());
        let video = rtp(&world.pass(0.1), Port::Video);
        video.iter().filter(|packet| h264::scan(&packet.payload()).profile.is_some()).count()
    };
    assert_eq!((keyframes(true), keyframes(false)), (1, 0));
}

#[test]
fn nacked_packets_are_sent_again_unless_ignored() {
    let resent = |answer: bool| {
        let mut world = World::playing(|settings| settings.behaviour.answer_nack = answer);
        let video = rtp(&world.pass(1.0), Port::Video);
        let (wanted, seq) = (&video[5], video[5].seq());
        let mut writer = RtcpWriter::new();
        writer.nack(US, VIDEO, &[seq, SeqNo(seq.0.wrapping_add(2_000))]);
        world.camera.on_rtcp(world.now, &writer.finish());
        let sent = std::iter::from_fn(|| world.camera.transmit()).collect::<Vec<_>>();
        assert!(sent.iter().all(|packet| packet.bytes == *wanted.as_bytes()));
        (sent.len(), world.report().packets_resent)
    };
    assert_eq!((resent(true), resent(false)), ((1, 1), (0, 0)));
}

#[test]
fn losses_and_swaps_are_those_of_the_seed() {
    let seqs = |seed: u64| {
        let mut world = World::playing(|settings| {
            settings.seed = seed;
            settings.faults.loss_percent = 5.0;
            settings.faults.reorder_percent = 5.0;
        });
        let sent = world.pass(8.0);
        let video: Vec<u16> = rtp(&sent, Port::Video).iter().map(|packet| packet.seq().0).collect();
        let counted = world.report().packets_sent as usize;
        assert!(video.len() < counted && video.len() > counted * 9 / 10, "{} of {counted}", video.len());
        video
    };
    assert_eq!(seqs(7), seqs(7));
    let swapped = seqs(7).windows(2).filter(|pair| pair[0].wrapping_sub(pair[1]) < 100).count();
    assert!(swapped > 5, "{swapped}");
}

#[test]
fn a_reboot_forgets_the_stream_and_happens_once() {
    let mut world = World::playing(|settings| settings.faults.schedule = vec![(Duration::from_secs(5), Fault::Reboot)]);
    let before = rtp(&world.pass(10.0), Port::Video);
    assert!(before.len() > 100);
    let report = world.report();
    assert_eq!((report.streaming, report.stopped_reason), (false, Some("reboot")));
    assert_eq!(report.streaming_seconds, 5.0);
    world.say(Kind::Keepalive, &keepalive(STREAM, 3));
    assert_eq!(world.pass(1.0), [], "it does not remember");
    world.say(Kind::Play, &play(STREAM));
    let after = rtp(&world.pass(10.0), Port::Video);
    assert!(h264::scan(&after[0].payload()).begins_keyframe);
    assert_ne!(after[0].seq().0, before[before.len() - 1].seq().0.wrapping_add(1));
    assert!(world.report().streaming);
}

#[test]
fn a_silent_camera_accepts_and_sends_nothing() {
    let mut world = World::playing(|settings| settings.faults.silent = true);
    assert_eq!(world.pass(29.0), []);
    assert!(world.report().streaming);
    world.pass(2.0);
    assert_eq!(world.report().stopped_reason, Some("no_feedback"));
}

#[test]
fn without_audio_there_is_no_sound_and_no_report_on_it() {
    let mut world = World::playing(|settings| settings.behaviour.audio = None);
    let sent = world.pass(2.0);
    assert!(sent.iter().all(|(_, packet)| packet.from != Port::Audio));
    assert_eq!(sent.iter().filter(|(_, packet)| packet.from == Port::Rtcp).count(), 2);
}

#[test]
fn after_a_long_pause_it_goes_on_from_now() {
    let mut world = World::playing(|settings| settings.behaviour.stop_without_feedback = None);
    world.pass(1.0);
    world.now += Duration::from_secs(60);
    let sent = world.pass(0.0);
    assert!(sent.len() < 200, "{}", sent.len());
    assert_eq!(rtp(&world.pass(1.0), Port::Audio).len(), 50);
}

#[path = "fault_tests.rs"]
mod fault_tests;

#[test]
fn a_slow_camera_does_what_it_is_told_later_in_its_order_and_a_reboot_makes_it_forget_that() {
    let mut world = World::playing(|settings| settings.behaviour.reaction = Duration::from_secs(4));
    world.pass(3.0);
    world.say(Kind::Stop, &stop(STREAM));
    assert_eq!(world.pass(0.9).len(), 0);
    let sent = world.pass(6.0);
    assert!(sent.first().unwrap().0 >= Duration::from_secs(4) && sent.last().unwrap().0 <= Duration::from_secs(7));
    assert_eq!((world.report().plays, world.report().stops), (1, 1));
    world.say(Kind::Play, &play(OTHER_STREAM));
    world.camera.ask(Fault::Reboot);
    world.pass(10.0);
    assert_eq!(world.report().plays, 1);
}
