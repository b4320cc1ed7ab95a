use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::media::rtcp::{RtcpBlock, RtcpWriter, SenderInfo};
use crate::media::rtp::RtpHeader;
use crate::media::{Frame, FrameSink, SeqNo};

const VIDEO: Ssrc = Ssrc(1_607_797_317);
const SPS: &[u8] = &[0x67, 0x42, 0xe0, 0x1f];
const SLICE: &[u8] = &[0x41, 0];

#[derive(Default)]
struct Recorder(Mutex<Vec<Arc<Frame>>>);

impl FrameSink for Recorder {
    fn push(&self, frame: Arc<Frame>) {
        self.0.lock().unwrap().push(frame);
    }
}

struct Scene {
    intake: Intake,
    now: Instant,
    seq: u16,
}

impl Scene {
    fn new() -> Self {
        Self { intake: Intake::new(Ssrc(1), true), now: Instant::now(), seq: 0 }
    }

    fn open(&mut self) -> (StreamId, Arc<Recorder>) {
        let (stream, sink) = (StreamId::random(), Arc::new(Recorder::default()));
        let camera = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap();
        let open =
            OpenStream { stream, camera, bitrate_range: (500_000, 5_000_000), expected_ip: None, sink: sink.clone() };
        self.intake.open(open, self.now).unwrap();
        (stream, sink)
    }

    fn datagram(&mut self, from: &str, bytes: impl Into<Bytes>) -> Result<(), DropReason> {
        self.intake.on_datagram(from.parse().unwrap(), bytes.into(), self.now)
    }

    fn video(&mut self, from: &str, payload: &[u8]) -> Result<(), DropReason> {
        self.seq += 1;
        let timestamp = u32::from(self.seq) * 3_600;
        let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(self.seq), timestamp, ssrc: VIDEO };
        self.datagram(from, [&header.to_bytes()[..], payload].concat())
    }

    /// Lets time pass and returns what was sent, with its destination.
    fn run(&mut self, duration: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        let end = self.now + duration;
        let mut sent = Vec::new();
        while let Some(due) = self.intake.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.intake.handle_timeout(self.now);
            sent.extend(std::iter::from_fn(|| self.intake.poll_datagram()));
        }
        self.now = end;
        sent
    }

    fn events(&mut self) -> Vec<IngestEvent> {
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
    s.intake.close(stream);
    assert_eq!(s.video("10.0.0.5:4000", SLICE), Err(DropReason::Unexpected));
    assert!(s.run(Duration::from_secs(3)).is_empty());
    assert_eq!(sink.0.lock().unwrap().len(), 1);
}

#[test]
fn sources_that_belong_to_no_stream_are_remembered_the_last_heard_one_first_and_rubbish_is_not() {
    let mut s = Scene::new();
    let wall = SystemTime::now();
    assert_eq!(s.datagram("10.0.0.66:1", Bytes::from_static(b"GET / HTTP/1.1")), Err(DropReason::NotRtp));
    for port in 1..=100 {
        assert_eq!(s.video(&format!("10.0.0.5:{port}"), SLICE), Err(DropReason::Unexpected));
    }
    s.now += Duration::from_secs(1);
    assert_eq!(s.video("10.0.0.5:90", SLICE), Err(DropReason::Unexpected));
    let refused = s.intake.refused(s.now, wall);
    let ports: Vec<u16> = refused.iter().map(|refused| refused.source.port()).collect();
    assert_eq!((ports.len(), &ports[..4]), (MAX_REFUSED, &[90, 100, 99, 98][..]));
    assert_eq!((refused[0].last_seen, refused[0].reason), (wall, DropReason::Unexpected));
    assert_eq!(refused[1].last_seen, wall - Duration::from_secs(1));
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
    ] {
        assert_eq!(s.datagram("10.0.0.66:1", Bytes::from_static(bytes)), Err(reason));
        assert!(s.intake.drops().get(reason) >= 1);
    }
    assert!(s.run(Duration::from_secs(5)).is_empty());
    assert!(s.events().is_empty());
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
    assert!(stats.feedback_sent >= 1 && stats.last_feedback.is_some());
    assert_eq!(s.intake.stats(StreamId::random(), s.now, SystemTime::now()), None);
}

#[test]
fn without_feedback_a_camera_hears_nothing() {
    let mut s = Scene { intake: Intake::new(Ssrc(1), false), now: Instant::now(), seq: 0 };
    s.open();
    s.video("10.0.0.5:4000", SLICE).unwrap();
    assert!(s.run(Duration::from_secs(5)).is_empty());
}
