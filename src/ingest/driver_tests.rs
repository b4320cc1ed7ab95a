//! The pool over real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{IngestHandle, IngestSettings, OpenError, OpenStream};
use super::*;
use crate::base::StreamId;
use crate::media::rtp::RtpHeader;
use crate::media::{Frame, FrameSink, SeqNo, Ssrc};

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ANY: PortPlan = PortPlan { video_rtp: 0, rtcp: 0, audio_rtp: 0 };

#[derive(Default)]
struct Count(AtomicUsize);

impl FrameSink for Count {
    fn push(&self, _: Arc<Frame>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Rig {
    ingest: IngestHandle,
    events: mpsc::Receiver<IngestEvent>,
    shutdown: Shutdown,
}

/// A range of one triple whose ports are free.
fn with_one_triple() -> (CameraPorts, u16) {
    let tried = (20_000..60_000u16).step_by(4).skip(usize::from(rand::random::<u8>()) * 20);
    let bound = tried.map(|port| (CameraPorts::bind(IP, ANY).unwrap().with_pool(IP, port..=port + 2), port));
    bound.filter_map(|(ports, port)| Some((ports.ok()?, port))).next().unwrap()
}

fn serve(ports: CameraPorts) -> Rig {
    let (sender, events) = mpsc::channel(16);
    let shutdown = Shutdown::new();
    let ingest = IngestHandle::start(ports, &IngestSettings { feedback: true }, sender, &shutdown).unwrap();
    Rig { ingest, events, shutdown }
}

fn opening(camera: u8, sink: Arc<Count>) -> OpenStream {
    OpenStream {
        stream: StreamId::random(),
        camera: format!("{camera:032X}").parse().unwrap(),
        bitrate_range: (500_000, 5_000_000),
        expected_ip: Some(IP),
        cname: format!("user{camera}@host"),
        sink,
    }
}

async fn camera() -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind((IP, 0)).await.unwrap()
}

fn video(seq: u16) -> Vec<u8> {
    let header = RtpHeader {
        payload_type: 103,
        marker: true,
        seq: SeqNo(seq),
        timestamp: u32::from(seq) * 3_600,
        ssrc: Ssrc(1_607_797_317),
    };
    // A delimiter and a slice: nothing that could precede it is waited for.
    [&header.to_bytes()[..], &[0x78, 0, 2, 9, 0x10, 0, 2, 0x41, 0]].concat()
}

#[tokio::test]
async fn two_cameras_of_one_address_start_at_once_and_each_is_answered_from_its_own_ports() {
    let (ports, first_of_pool) = with_one_triple();
    let shared = ports.plan().unwrap();
    let mut rig = serve(ports);
    let sinks = [Arc::new(Count::default()), Arc::new(Count::default())];
    let opens = [opening(1, sinks[0].clone()), opening(2, sinks[1].clone())];
    let ids = [opens[0].stream, opens[1].stream];
    let [one, two] = opens;
    let (one, two) = tokio::join!(rig.ingest.open(one), rig.ingest.open(two));
    let own = PortPlan { video_rtp: first_of_pool, rtcp: first_of_pool + 1, audio_rtp: first_of_pool + 2 };
    assert_eq!((one, two), (Ok(shared), Ok(own)));

    for ((plan, id), sink) in [shared, own].into_iter().zip(ids).zip(sinks) {
        let socket = camera().await;
        socket.send_to(&video(1), (IP, plan.video_rtp)).await.unwrap();
        let source = socket.local_addr().unwrap();
        assert_eq!(rig.events.recv().await, Some(IngestEvent::MediaStarted { stream: id, source }));
        assert_eq!(sink.0.load(Ordering::Relaxed), 1);
        let mut buffer = [0; 1500];
        let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(from.port(), plan.rtcp, "feedback comes from the stream's own RTCP port");
    }
    rig.shutdown.request();
}

#[tokio::test]
async fn an_open_that_is_dropped_leaves_nothing_and_one_that_waits_ends_with_the_service() {
    let rig = serve(CameraPorts::bind(IP, ANY).unwrap());
    let first = opening(1, Arc::default());
    rig.ingest.open(first).await.unwrap();
    let second = opening(2, Arc::default());
    let id = second.stream;
    let dropped = tokio::time::timeout(Duration::from_millis(20), rig.ingest.open(second)).await;
    assert!(dropped.is_err(), "it waits");
    let again = OpenStream { stream: id, ..opening(2, Arc::default()) };
    let waiting = rig.ingest.open(again);
    let (ended, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        rig.shutdown.request();
    });
    assert_eq!(ended, Err(OpenError::Stopped));
}

#[test]
fn a_taken_port_of_the_pool_is_named() {
    let (ports, port) = with_one_triple();
    let error = CameraPorts::bind(IP, ANY).unwrap().with_pool(IP, port..=port + 2).err().unwrap();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    drop(ports);
}

#[test]
fn triples_begin_at_even_ports_and_fit_into_the_range() {
    let starts = |range| pool_plans(range).map(|plan| (plan.video_rtp, plan.audio_rtp)).collect::<Vec<_>>();
    assert_eq!(starts(5010..=5020), [(5010, 5012), (5014, 5016), (5018, 5020)]);
    assert_eq!(starts(5011..=5015), [(5012, 5014)]);
    assert_eq!(starts(5011..=5013), []);
    assert_eq!(starts(65_533..=65_535), []);
    assert_eq!(starts(65_535..=65_535), []);
    assert_eq!(pool_plans(5010..=5050).count(), 10);
}

#[test]
fn a_flood_of_strangers_gets_one_line_of_log_in_ten_seconds_that_counts_the_others() {
    let (mut log, start) = (StrangerLog::default(), Instant::now());
    let lines: Vec<u64> = (0..25_000).filter_map(|n| log.count(start + Duration::from_millis(n))).collect();
    assert_eq!(lines, [1, 10_000, 10_000]);
}
