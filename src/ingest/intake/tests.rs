use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::ingest::handle::OpenError;
use crate::media::rtcp::{RtcpBlock, RtcpWriter, SenderInfo};
use crate::media::rtp::RtpHeader;
use crate::media::{Frame, FrameSink, SeqNo};
use crate::webrtc::feedback::FeedbackWarning;

pub(super) const VIDEO: Ssrc = Ssrc(1_607_797_317);
/// SPS, PPS and the beginning of an IDR slice in one packet.
const SPS: &[u8] = &[0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 2, 0x68, 0x80, 0, 2, 0x65, 0x88];
pub(super) const SLICE: &[u8] = &[0x41, 0];

#[derive(Default)]
pub(super) struct Recorder(Mutex<Vec<Arc<Frame>>>);

impl FrameSink for Recorder {
    fn push(&self, frame: Arc<Frame>) {
        self.0.lock().unwrap().push(frame);
    }
}

pub(super) type Opened = tokio::sync::oneshot::Receiver<Result<Entrance, OpenError>>;

pub(super) struct Scene {
    pub(super) intake: Intake,
    pub(super) now: Instant,
    seq: u16,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self { intake: Intake::new(Ssrc(1), true, 0), now: Instant::now(), seq: 0 }
    }

    pub(super) fn open(&mut self) -> (StreamId, Arc<Recorder>) {
        let (stream, sink, mut opened) = self.request(1, None);
        assert_eq!(opened.try_recv(), Ok(Ok(Entrance::Shared)));
        (stream, sink)
    }

    /// Asks for a stream of the camera of this number.
    pub(super) fn request(&mut self, camera: u8, ip: Option<&str>) -> (StreamId, Arc<Recorder>, Opened) {
        let (stream, sink) = (StreamId::random(), Arc::new(Recorder::default()));
        let open = OpenStream {
            stream,
            camera: format!("{camera:032X}").parse().unwrap(),
            bitrate_range: (500_000, 5_000_000),
            expected_ip: ip.map(|ip| ip.parse().unwrap()),
            cname: format!("user{camera}@host"),
            sink: sink.clone(),
        };
        let opened = self.intake.open(open, self.now).unwrap();
        (stream, sink, opened)
    }

    pub(super) fn datagram(&mut self, from: &str, bytes: impl Into<Bytes>) -> Result<(), DropReason> {
        self.datagram_at(Entrance::Shared, from, bytes)
    }

    fn datagram_at(&mut self, entrance: Entrance, from: &str, bytes: impl Into<Bytes>) -> Result<(), DropReason> {
        self.intake.on_datagram(from.parse().unwrap(), Door { entrance, port: 5006 }, bytes.into(), self.now)
    }

    fn audio(&mut self, from: &str) -> Result<(), DropReason> {
        self.seq += 1;
        let header = RtpHeader { payload_type: 96, marker: true, seq: SeqNo(self.seq), timestamp: 960, ssrc: Ssrc(2) };
        self.datagram(from, header.to_bytes().to_vec())
    }

    pub(super) fn video(&mut self, from: &str, payload: &[u8]) -> Result<(), DropReason> {
        self.seq += 1;
        let timestamp = u32::from(self.seq) * 3_600;
        let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(self.seq), timestamp, ssrc: VIDEO };
        self.datagram(from, [&header.to_bytes()[..], payload].concat())
    }

    /// Lets time pass and returns what was sent, with its destination.
    pub(super) fn run(&mut self, duration: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        let end = self.now + duration;
        let mut sent = Vec::new();
        while let Some(due) = self.intake.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.intake.handle_timeout(self.now);
            sent.extend(std::iter::from_fn(|| self.intake.poll_datagram()).map(|out| (out.to, out.bytes)));
        }
        self.now = end;
        sent
    }

    pub(super) fn events(&mut self) -> Vec<IngestEvent> {
        std::iter::from_fn(|| self.intake.poll_event()).collect()
    }
}

#[test]
fn an_accepted_packet_becomes_a_frame_and_a_start_event() {
    let mut s = Scene::new();
    let (stream, sink) = s.open();
    s.video("10.0.0.5:4000", SPS).unwrap();
    assert_eq!(s.events(), [IngestEvent::MediaStarted { stream, source: "10.0.0.5:4000".parse().unwrap() }]);
    assert!(sink.0.lock().unwrap()[0].starts_keyframe);
}

#[test]
fn feedback_starts_by_itself_and_goes_to_latched_addresses_only() {
    let mut s = Scene::new();
    s.open();
    assert!(s.run(Duration::from_secs(2)).is_empty(), "nothing before the first packet");
    s.video("10.0.0.5:4000", SLICE).unwrap();
    let _ = s.video("10.0.0.9:4000", SLICE);
    let sent = s.run(Duration::from_millis(200));
    let mut targets: Vec<_> = sent.iter().map(|(to, _)| to.to_string()).collect();
    targets.sort();
    assert_eq!(targets, ["10.0.0.5:4000", "10.0.0.5:4001"]);
}

#[test]
fn the_cameras_own_rtcp_redirects_feedback() {
    let mut s = Scene::new();
    s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    let mut sr = RtcpWriter::new();
    sr.sender_report(&SenderInfo { ssrc: VIDEO, ntp: 1, rtp_time: 3_600, packets: 1, octets: 1 });
    s.datagram("10.0.0.5:9999", sr.finish()).unwrap();
    let sent = s.run(Duration::from_millis(200));
    assert_eq!(sent.iter().map(|(to, _)| to.to_string()).collect::<Vec<_>>(), ["10.0.0.5:9999"]);
}

#[test]
fn silence_is_a_stall_with_a_pli_and_the_next_packet_ends_it() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.events();
    let sent = s.run(Duration::from_secs(4));
    assert!(matches!(s.events()[..], [IngestEvent::MediaStalled { silence, .. }] if silence >= Duration::from_secs(3)));
    let plis =
        sent.iter().flat_map(|(_, bytes)| blocks(bytes).flatten()).filter(|b| matches!(b, RtcpBlock::Pli { .. }));
    assert!(plis.count() > 0);
    s.video("10.0.0.5:4000", SLICE).unwrap();
    assert_eq!(s.events(), [IngestEvent::MediaResumed { stream }]);
}

#[test]
fn sound_alone_is_a_stall_once_there_was_a_picture() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.audio("10.0.0.5:4002").unwrap();
    s.events();
    for _ in 0..8 {
        s.run(Duration::from_millis(500));
        s.audio("10.0.0.5:4002").unwrap();
    }
    assert!(matches!(s.events()[..], [IngestEvent::MediaStalled { .. }]));
    s.video("10.0.0.5:4000", SLICE).unwrap();
    assert_eq!(s.events(), [IngestEvent::MediaResumed { stream }]);
}

#[test]
fn a_keyframe_request_is_a_pli_to_the_camera() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.intake.request_keyframe(stream, s.now);
    let sent = s.run(Duration::from_millis(5));
    assert!(sent.iter().any(|(_, bytes)| blocks(bytes).flatten().any(|b| b == RtcpBlock::Pli { media: VIDEO })));
}

#[test]
fn a_closed_stream_is_deaf_and_mute() {
    let mut s = Scene::new();
    let (stream, sink) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.run(Duration::from_millis(50));
    s.intake.close(stream, s.now);
    assert_eq!(s.video("10.0.0.5:4000", SLICE), Err(DropReason::Unexpected));
    assert!(s.run(Duration::from_secs(3)).is_empty());
    assert_eq!(sink.0.lock().unwrap().len(), 1);
}

#[test]
fn rubbish_is_counted_by_reason_and_answered_with_nothing() {
    let mut s = Scene::new();
    s.open();
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1"[..], DropReason::NotRtp),
        (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], DropReason::NotRtp),
        (&[0x80, 103, 0], DropReason::MalformedRtp),
        (&[0x9f, 201, 0, 1, 0, 0, 0, 1], DropReason::MalformedRtcp),
        (&[0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], DropReason::PayloadType),
        (&[0x40, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], DropReason::NotRtp),
        (&[0x90, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff], DropReason::MalformedRtp),
        (&[0x81, 202, 0xff, 0xff, 0, 0, 0, 1], DropReason::MalformedRtcp),
        (&[0x80, 200, 0, 1, 0, 0, 0, 1], DropReason::MalformedRtcp),
        (&[0x8f; 65_507], DropReason::PayloadType),
    ] {
        assert_eq!(s.datagram("10.0.0.66:1", Bytes::from_static(bytes)), Err(reason));
        assert!(s.intake.drops().get(reason) >= 1);
    }
    assert!(s.run(Duration::from_secs(5)).is_empty());
    assert!(s.events().is_empty());
}

#[test]
fn garbage_and_strangers_stand_in_the_table_of_sources_with_port_reason_and_nearest_stream() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    let _ = s.datagram("10.0.0.66:1", Bytes::from_static(b"GET / HTTP/1.1"));
    s.run(Duration::from_secs(1));
    let _ = s.video("10.0.0.5:6000", SLICE);
    let _ = s.video("10.0.0.5:6000", SLICE);
    let wall = SystemTime::now();
    let found = s.intake.refused(s.now, wall);
    let shown: Vec<_> = found.iter().map(|f| (f.source.to_string(), f.packets, f.reason, f.nearest)).collect();
    assert_eq!(shown[0], ("10.0.0.5:6000".to_owned(), 2, DropReason::Unexpected, Some(stream)));
    assert_eq!(shown[1], ("10.0.0.66:1".to_owned(), 1, DropReason::NotRtp, None));
    assert_eq!((found[1].port, found[1].last_seen), (5006, wall - Duration::from_secs(1)));
    s.now += refused::SHOWN_FOR;
    assert_eq!(s.intake.refused(s.now, wall), []);
}

#[test]
fn a_flood_of_strangers_is_counted_and_neither_listed_nor_answered() {
    let mut s = Scene::new();
    for n in 0..100_000u32 {
        s.now += Duration::from_micros(10);
        let source = SocketAddr::from((n.to_be_bytes(), 9));
        let door = Door { entrance: Entrance::Shared, port: 5007 };
        let _ = s.intake.on_datagram(source, door, Bytes::from_static(&[0x80, 201, 0, 1, 0, 0, 0, 1]), s.now);
    }
    assert_eq!(s.intake.drops().get(DropReason::Unexpected), 100_000);
    assert!(s.intake.refused(s.now, SystemTime::now()).len() <= 2 * refused::NEW_PER_SECOND as usize);
    assert!(s.intake.latch.strangers() <= crate::media::latch::MAX_STRANGERS);
    assert!(s.intake.poll_datagram().is_none());
}

#[test]
fn the_second_play_waits_until_the_first_camera_is_latched() {
    let mut s = Scene::new();
    s.open();
    let (second, _, mut opened) = s.request(2, None);
    s.run(Duration::from_secs(1));
    assert!(opened.try_recv().is_err());
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.audio("10.0.0.5:4002").unwrap();
    s.run(Duration::from_millis(60));
    assert_eq!(opened.try_recv(), Ok(Ok(Entrance::Shared)));
    assert!(s.intake.streams.contains_key(&second));
}

#[test]
fn a_play_that_stays_ambiguous_goes_out_but_no_packet_is_taken_that_could_be_either_cameras() {
    let mut s = Scene::new();
    let (first, _) = s.open();
    let (second, _, mut opened) = s.request(2, None);
    s.run(OPEN_WAIT + Duration::from_millis(60));
    assert_eq!(opened.try_recv(), Ok(Ok(Entrance::Shared)));
    assert!(s.intake.streams.contains_key(&second) && s.intake.opening.is_empty());
    assert_eq!(s.intake.next_admission, None);
    for _ in 0..20 {
        assert_eq!(s.video("10.0.0.5:4000", SLICE), Err(DropReason::Ambiguous));
        s.run(Duration::from_millis(100));
    }
    let started = s.events().into_iter().any(|event| !matches!(event, IngestEvent::ShouldYield { .. }));
    assert!(!started, "neither camera has started");
    // The first one is given up, but may have been the one that sent: only a source that begins anew is the
    // second's.
    s.intake.close(first, s.now);
    s.run(Duration::from_secs(6));
    assert!(s.video("10.0.0.5:4000", SLICE).is_err());
    s.run(Duration::from_secs(11));
    let taken = (0..20).position(|_| {
        s.run(Duration::from_millis(100));
        s.video("10.0.0.5:4000", SLICE).is_ok()
    });
    assert!(taken.is_some());
    let is_start = |event: &IngestEvent| matches!(event, IngestEvent::MediaStarted { stream, .. } if *stream == second);
    assert!(s.events().last().is_some_and(is_start));
}

#[test]
fn opens_are_served_in_their_order_and_those_that_cannot_be_confused_do_not_wait() {
    let mut s = Scene::new();
    let (first, ..) = s.request(1, Some("10.0.0.5"));
    let (_, _, mut second) = s.request(2, Some("10.0.0.5"));
    let (_, _, mut third) = s.request(3, Some("10.0.0.5"));
    let (_, _, mut other) = s.request(4, Some("10.0.0.6"));
    assert_eq!(other.try_recv(), Ok(Ok(Entrance::Shared)));
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.audio("10.0.0.5:4002").unwrap();
    s.run(Duration::from_millis(60));
    assert_eq!(second.try_recv(), Ok(Ok(Entrance::Shared)));
    assert!(third.try_recv().is_err(), "it could be mistaken for the second");
    s.intake.close(first, s.now);
    assert!(third.try_recv().is_err());
}

#[test]
fn an_open_that_was_given_up_lets_the_next_one_in() {
    let mut s = Scene::new();
    let (first, _, _kept) = s.request(1, Some("10.0.0.5"));
    let (_, _, second) = s.request(2, Some("10.0.0.5"));
    let (_, _, mut third) = s.request(3, Some("10.0.0.5"));
    drop(second);
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.audio("10.0.0.5:4002").unwrap();
    s.intake.close(first, s.now);
    assert_eq!(third.try_recv(), Ok(Ok(Entrance::Shared)));
}

#[test]
fn an_ambiguous_play_takes_ports_of_its_own_and_its_feedback_leaves_from_them() {
    let mut s = Scene { intake: Intake::new(Ssrc(1), true, 1), now: Instant::now(), seq: 0 };
    s.open();
    let (second, _, mut opened) = s.request(2, None);
    assert_eq!(opened.try_recv(), Ok(Ok(Entrance::Own(0))));
    let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(1), timestamp: 1, ssrc: VIDEO };
    s.datagram_at(Entrance::Own(0), "10.0.0.5:4000", header.to_bytes().to_vec()).unwrap();
    s.now += Duration::from_millis(200);
    s.intake.handle_timeout(s.now);
    let sent: Vec<_> = std::iter::from_fn(|| s.intake.poll_datagram()).collect();
    assert!(!sent.is_empty() && sent.iter().all(|out| out.entrance == Entrance::Own(0)), "{sent:?}");
    s.intake.close(second, s.now);
    let late = s.datagram_at(Entrance::Own(0), "10.0.0.5:4000", header.to_bytes().to_vec());
    assert_eq!(late, Err(DropReason::Unexpected));
    let (_, _, mut third) = s.request(3, None);
    assert!(third.try_recv().is_err(), "the ports rest");
}

#[test]
fn stats_name_sources_and_figures() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    s.video("10.0.0.5:4000", SPS).unwrap();
    s.run(Duration::from_secs(1));
    let stats = s.intake.stats(stream, s.now, SystemTime::now()).unwrap();
    assert_eq!(stats.video.packets, 1);
    assert_eq!(stats.video_source, Some("10.0.0.5:4000".parse().unwrap()));
    assert_eq!(stats.profile_level_id.as_deref(), Some("42e01f"));
    assert_eq!(stats.codec.map(|report| report.pictures), Some(1));
    assert!(stats.feedback_sent >= 1 && stats.last_feedback.is_some());
    assert_eq!(s.intake.stats(StreamId::random(), s.now, SystemTime::now()), None);
}

#[test]
fn without_feedback_a_camera_hears_nothing() {
    let mut s = Scene { intake: Intake::new(Ssrc(1), false, 0), now: Instant::now(), seq: 0 };
    s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    assert!(s.run(Duration::from_secs(5)).is_empty());
}

#[test]
fn a_camera_that_gets_no_feedback_is_reported_after_5_s() {
    for enabled in [true, false] {
        let mut s = Scene { intake: Intake::new(Ssrc(1), enabled, 0), now: Instant::now(), seq: 0 };
        let (stream, _) = s.open();
        for _ in 0..60 {
            s.video("10.0.0.5:4000", SLICE).unwrap();
            s.run(Duration::from_millis(100));
        }
        let health = s.intake.stats(stream, s.now, SystemTime::now()).unwrap().feedback_health;
        let warning = if enabled { None } else { Some(FeedbackWarning::NotSent) };
        assert_eq!(health.warning, warning);
        let told = s.events().contains(&IngestEvent::FeedbackWarning { stream, warning });
        assert_eq!(told, !enabled);
    }
}

#[test]
fn feedback_that_the_system_refuses_to_send_is_none() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    for _ in 0..60 {
        s.video("10.0.0.5:4000", SLICE).unwrap();
        for (to, _) in s.run(Duration::from_millis(100)) {
            let failed = Outgoing { stream, entrance: Entrance::Shared, to, bytes: Vec::new() };
            s.intake.on_send_failed(&failed, s.now);
        }
    }
    let stats = s.intake.stats(stream, s.now, SystemTime::now()).unwrap();
    assert_eq!((stats.feedback_health.warning, stats.last_feedback), (Some(FeedbackWarning::NotSent), None));
}

#[test]
fn a_keyframe_answers_a_pli() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    let answers = |s: &mut Scene| s.intake.stats(stream, s.now, SystemTime::now()).unwrap().feedback_health.answers_pli;
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.intake.request_keyframe(stream, s.now);
    for _ in 0..25 {
        s.run(Duration::from_millis(100));
        s.video("10.0.0.5:4000", SLICE).unwrap();
    }
    assert_eq!(answers(&mut s), Some(false));
    s.video("10.0.0.5:4000", SPS).unwrap();
    s.intake.request_keyframe(stream, s.now);
    s.run(Duration::from_millis(600));
    s.video("10.0.0.5:4000", SPS).unwrap();
    assert_eq!(answers(&mut s), Some(true));
}

#[test]
fn duplicates_are_reported_to_the_camera_and_not_forwarded() {
    let mut s = Scene::new();
    let (_, sink) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.seq -= 1;
    assert_eq!(s.video("10.0.0.5:4000", SLICE), Err(DropReason::Duplicate));
    let sent = s.run(Duration::from_millis(200));
    let report = blocks(&sent[0].1).flatten().find_map(|block| match block {
        RtcpBlock::ReceiverReport(_, reports) => reports.iter().next(),
        _ => None,
    });
    assert_eq!(report.unwrap().cumulative_lost, -1);
    assert_eq!(sink.0.lock().unwrap().len(), 1);
}

#[test]
fn the_limit_of_viewers_lowers_remb() {
    let mut s = Scene::new();
    let (stream, _) = s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    s.intake.set_viewer_limit(stream, Some(1_500_000));
    s.run(Duration::from_millis(200));
    assert_eq!(s.intake.stats(stream, s.now, SystemTime::now()).unwrap().remb, 1_500_000);
}

#[test]
fn a_hundred_thousand_packets_of_garbage_in_a_second_cost_a_running_stream_nothing_and_get_no_answer() {
    const SSRC: [u8; 4] = [0, 0, 0, 9];
    let kinds: [(&[u8], DropReason); 10] = [
        (b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n", DropReason::NotRtp),
        // STUN binding request.
        (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], DropReason::NotRtp),
        // Nothing, one byte, versions 0, 1 and 3.
        (&[], DropReason::NotRtp),
        (&[0x80], DropReason::NotRtp),
        (&[0x40, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], DropReason::NotRtp),
        (&[0xc0, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], DropReason::NotRtp),
        // More CSRCs, extension words and padding than there are bytes.
        (&[0x8f, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], DropReason::MalformedRtp),
        (&[0x90, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff], DropReason::MalformedRtp),
        (&[0xa0, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff], DropReason::MalformedRtp),
        // A receiver report that claims 31 blocks.
        (&[0x9f, 201, 0, 1, SSRC[0], SSRC[1], SSRC[2], SSRC[3]], DropReason::MalformedRtcp),
    ];
    let mut s = Scene::new();
    let (stream, sink) = s.open();
    let (mut sent, mut forwarded) = (Vec::new(), 0);
    for n in 0..100_000u32 {
        let (bytes, reason) = kinds[n as usize % kinds.len()];
        let from = format!("10.{}.{}.{}:{}", n >> 16, (n >> 8) & 255, n & 255, 1024 + n % 60_000);
        assert_eq!(s.datagram(&from, Bytes::from_static(bytes)), Err(reason), "{bytes:?}");
        if n % 2_000 == 0 {
            s.video("10.200.0.5:4000", SPS).unwrap();
            forwarded += 1;
            sent.extend(s.run(Duration::from_millis(20)));
        }
    }
    assert_eq!(sink.0.lock().unwrap().iter().map(|frame| frame.packets.len()).sum::<usize>(), forwarded);
    assert!(!sent.is_empty() && sent.iter().all(|(to, _)| to.ip().to_string() == "10.200.0.5"));
    let [not_rtp, rtp, rtcp] = [DropReason::NotRtp, DropReason::MalformedRtp, DropReason::MalformedRtcp];
    let counted = [not_rtp, rtp, rtcp].map(|reason| s.intake.drops().get(reason));
    assert_eq!(counted, [60_000, 30_000, 10_000]);
    assert!(s.intake.refused(s.now, SystemTime::now()).len() <= 256);
    assert_eq!(s.intake.stats(stream, s.now, SystemTime::now()).unwrap().video.lost, 0);
}
