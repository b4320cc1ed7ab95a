use bytes::Bytes;

use super::*;
use crate::media::rtcp::{ReportBlock, SenderInfo};
use crate::media::rtp::RtpHeader;
use crate::media::{SeqNo, Ssrc};

const VIDEO: Ssrc = Ssrc(1_607_797_317);
const AUDIO: Ssrc = Ssrc(229_236_353);

struct Scene {
    feedback: CameraFeedback,
    now: Instant,
    start: Instant,
    /// Each compound with the time since the start at which it was sent.
    sent: Vec<(Duration, Vec<u8>)>,
}

impl Scene {
    fn new() -> Self {
        let settings =
            FeedbackSettings { ssrc: Ssrc(1), cname: "honeycast".into(), bitrate_range: (500_000, 5_000_000) };
        let start = Instant::now();
        Self { feedback: CameraFeedback::new(settings), now: start, start, sent: Vec::new() }
    }

    fn rtp(&mut self, codec: Codec, seq: u16) {
        let ssrc = if codec == Codec::H264 { VIDEO } else { AUDIO };
        let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(seq), timestamp: 0, ssrc };
        let packet = RtpPacket::parse(Bytes::from([&header.to_bytes()[..], &[1]].concat())).unwrap();
        self.feedback.on_rtp(codec, &packet, false, self.now);
    }

    /// Lets time pass, sending what is due when it is due.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            while let Some(compound) = self.feedback.poll_datagram(self.now) {
                self.sent.push((self.now - self.start, compound));
            }
            match self.feedback.poll_timeout().filter(|due| *due <= end) {
                Some(due) => self.now = self.now.max(due),
                None => break self.now = end,
            }
        }
    }

    fn reports(&self) -> Vec<ReportBlock> {
        let all = self.sent.iter().flat_map(|(_, bytes)| blocks(bytes).map(Result::unwrap));
        all.filter_map(|block| match block {
            RtcpBlock::ReceiverReport(_, reports) => Some(reports.iter().collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect()
    }
}

#[test]
fn nothing_is_sent_before_the_first_packet() {
    let mut s = Scene::new();
    s.run(Duration::from_secs(5));
    assert!(s.sent.is_empty());
}

#[test]
fn the_first_feedback_leaves_within_200_ms_and_then_at_least_every_second() {
    let mut s = Scene::new();
    s.rtp(Codec::H264, 1);
    s.run(Duration::from_secs(10));
    assert!(s.sent[0].0 <= Duration::from_millis(200));
    assert!(s.sent.windows(2).all(|w| w[1].0 - w[0].0 <= Duration::from_secs(1)));
    assert!(s.sent.len() >= 10);
}

#[test]
fn a_compound_is_report_then_cname_then_remb_with_the_cameras_ssrc() {
    let mut s = Scene::new();
    s.rtp(Codec::H264, 1);
    s.run(Duration::from_millis(150));
    let all: Vec<_> = blocks(&s.sent[0].1).map(Result::unwrap).collect();
    assert!(
        matches!(all[0], RtcpBlock::ReceiverReport(Ssrc(1), reports) if reports.iter().next().unwrap().ssrc == VIDEO.0)
    );
    assert!(matches!(all[1], RtcpBlock::Other { packet_type: 202, .. }));
    let RtcpBlock::Remb { bitrate, sources } = all[2] else { panic!("{all:?}") };
    assert!(sources.iter().eq([VIDEO]));
    assert!((4_990_000..=5_000_000).contains(&bitrate), "{bitrate}");
    // Media SSRC of REMB is 0 (contract §4).
    let remb_at = s.sent[0].1.windows(4).position(|w| w == b"REMB").unwrap();
    assert_eq!(s.sent[0].1[remb_at - 4..remb_at], [0; 4]);
}

#[test]
fn both_media_are_reported_in_one_packet() {
    let mut s = Scene::new();
    s.rtp(Codec::H264, 1);
    s.rtp(Codec::Opus, 1);
    s.run(Duration::from_millis(150));
    let mut ssrcs: Vec<_> = s.reports().iter().map(|r| r.ssrc).collect();
    ssrcs.sort_unstable();
    assert_eq!(ssrcs, [AUDIO.0, VIDEO.0]);
    assert_eq!(s.sent.len(), 1);
}

#[test]
fn loss_is_reported_as_fraction_and_as_a_sum() {
    let mut s = Scene::new();
    for seq in (0..100).filter(|n| n % 4 != 3) {
        s.rtp(Codec::H264, seq);
    }
    s.run(Duration::from_millis(150));
    let report = s.reports()[0];
    // 98 is the highest: 24 of 99 are missing.
    assert_eq!((report.cumulative_lost, report.highest_seq), (24, 98));
    assert_eq!(report.fraction_lost, (24 * 256 / 99) as u8);
}

#[test]
fn the_cameras_sender_report_is_echoed_with_its_age() {
    let mut s = Scene::new();
    s.rtp(Codec::H264, 1);
    let mut sr = RtcpWriter::new();
    sr.sender_report(&SenderInfo { ssrc: VIDEO, ntp: 0x1122_3344_5566_7788, rtp_time: 0, packets: 1, octets: 1 });
    s.feedback.on_rtcp(&sr.finish(), s.now);
    s.run(Duration::from_millis(100));
    let report = s.reports()[0];
    assert_eq!((report.last_sr, report.delay_since_last_sr), (0x3344_5566, 6_553));
}

#[test]
fn a_gap_is_asked_for_a_bounded_number_of_times() {
    let mut s = Scene::new();
    for seq in [1, 2, 4, 5, 6, 7] {
        s.rtp(Codec::H264, seq);
    }
    s.run(Duration::from_secs(3));
    let asked: Vec<_> = s
        .sent
        .iter()
        .flat_map(|(_, bytes)| blocks(bytes).map(Result::unwrap))
        .filter_map(|block| match block {
            RtcpBlock::Nack { media, lost } => Some((media, lost.iter().collect::<Vec<_>>())),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), usize::from(nack::MAX_REQUESTS));
    assert!(asked.iter().all(|one| *one == (VIDEO, vec![SeqNo(3)])));
}

#[test]
fn a_keyframe_request_waits_for_the_first_packet_and_then_leaves_at_once() {
    let mut s = Scene::new();
    s.feedback.request_keyframe(s.now);
    s.run(Duration::from_secs(1));
    assert!(s.sent.is_empty());
    s.rtp(Codec::H264, 1);
    s.run(Duration::from_millis(1));
    let first: Vec<_> = blocks(&s.sent[0].1).map(Result::unwrap).collect();
    assert!(matches!(first[0], RtcpBlock::ReceiverReport(..)), "a compound begins with a report");
    assert!(first.contains(&RtcpBlock::Pli { media: VIDEO }));
}

#[test]
fn a_new_ssrc_takes_the_place_of_the_old_one() {
    let mut s = Scene::new();
    s.rtp(Codec::H264, 1);
    let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(9), timestamp: 0, ssrc: Ssrc(42) };
    let packet = RtpPacket::parse(Bytes::copy_from_slice(&header.to_bytes())).unwrap();
    s.feedback.on_rtp(Codec::H264, &packet, true, s.now);
    s.run(Duration::from_millis(150));
    assert_eq!(s.reports().iter().map(|r| r.ssrc).collect::<Vec<_>>(), [42]);
}

#[test]
fn viewers_lower_remb_at_once_but_not_below_its_range() {
    let mut s = Scene::new();
    s.rtp(Codec::H264, 1);
    s.run(Duration::from_millis(150));
    s.feedback.set_viewer_limit(Some(2_000_000));
    s.run(Duration::from_millis(300));
    assert_eq!(s.feedback.bitrate(), 2_000_000);
    s.feedback.set_viewer_limit(Some(1));
    s.run(Duration::from_millis(300));
    assert_eq!(s.feedback.bitrate(), 500_000);
    s.feedback.set_viewer_limit(None);
    s.run(Duration::from_secs(1));
    assert_eq!(s.feedback.bitrate(), 5_000_000);
}

#[test]
fn copies_are_counted_in_the_sum_and_do_not_restart_anything() {
    let mut s = Scene::new();
    for seq in [1, 2, 3] {
        s.rtp(Codec::H264, seq);
    }
    let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(2), timestamp: 0, ssrc: VIDEO };
    let packet = RtpPacket::parse(Bytes::copy_from_slice(&header.to_bytes())).unwrap();
    s.feedback.on_duplicate(&packet, s.now);
    s.run(Duration::from_millis(150));
    let report = s.reports()[0];
    assert_eq!((report.cumulative_lost, report.fraction_lost, report.highest_seq), (-1, 0, 3));
}

#[test]
fn a_reboot_with_the_same_ssrc_begins_a_new_report() {
    let mut s = Scene::new();
    for seq in [100, 200] {
        s.rtp(Codec::H264, seq);
    }
    let mut sr = RtcpWriter::new();
    sr.sender_report(&SenderInfo { ssrc: VIDEO, ntp: 1 << 40, rtp_time: 0, packets: 1, octets: 1 });
    s.feedback.on_rtcp(&sr.finish(), s.now);
    s.run(Duration::from_millis(150));
    assert_eq!(s.reports()[0].cumulative_lost, 99);
    let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(9_000), timestamp: 5, ssrc: VIDEO };
    let packet = RtpPacket::parse(Bytes::copy_from_slice(&header.to_bytes())).unwrap();
    s.feedback.on_rtp(Codec::H264, &packet, true, s.now);
    s.sent.clear();
    s.run(Duration::from_secs(1));
    let report = s.reports()[0];
    assert_eq!((report.cumulative_lost, report.highest_seq, report.jitter, report.last_sr), (0, 9_000, 0, 0));
}
