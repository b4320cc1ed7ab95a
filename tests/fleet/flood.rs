//! Floods from strangers: on the viewer port from addresses that ICE did not prove, while viewers come and others watch,
//! and on the camera ports while a camera streams.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::site::Site;
use crate::until;

/// Datagrams per second.
const RATE: u64 = 10_000;
/// Sent at once, then comes a pause: as fast as timers of this machine are.
const BURST: u64 = 50;
/// Addresses that the flood comes from.
const SOURCES: usize = 16;
/// Viewers that come at the same time.
const AT_ONCE: usize = 5;
/// Packets that show that a viewer is served.
const PACKETS: u64 = 20;

struct Flood {
    sockets: Vec<UdpSocket>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    since: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends the datagrams to the addresses, `rate` of them a second.
    fn begin(to: Vec<SocketAddr>, datagrams: Vec<Vec<u8>>, rate: u64) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let sockets: Vec<UdpSocket> = (0..SOURCES).map(|_| UdpSocket::bind(("127.0.0.1", 0)).unwrap()).collect();
        let senders: Vec<UdpSocket> = sockets.iter().map(|socket| socket.try_clone().unwrap()).collect();
        let since = Instant::now();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let sent = count.load(Ordering::Relaxed);
                let due = since + Duration::from_secs_f64(sent as f64 / rate as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                for n in sent..sent + BURST {
                    let n = n as usize;
                    let _ = senders[n % SOURCES].send_to(&datagrams[n / SOURCES % datagrams.len()], to[n % to.len()]);
                }
                count.fetch_add(BURST, Ordering::Relaxed);
            }
        });
        Self { sockets, stop, sent, since, thread: Some(thread) }
    }

    /// Datagrams sent, and per second. None was answered.
    fn end(mut self) -> (u64, f64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        for socket in &self.sockets {
            socket.set_nonblocking(true).unwrap();
            let answer = socket.recv(&mut [0; 1500]);
            assert!(
                answer.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
                "a stranger is answered"
            );
        }
        let sent = self.sent.load(Ordering::Relaxed);
        (sent, sent as f64 / self.since.elapsed().as_secs_f64())
    }
}

/// What strangers may send to camera ports: RTP as cameras send it, RTCP, both with lies in them, STUN, HTTP, noise.
fn for_cameras() -> Vec<Vec<u8>> {
    let picture = [&[0x80, 103, 0, 1, 0, 0, 0, 1, 0x5f, 0xd4, 0x57, 0xe5][..], &[0x65; 1_100]].concat();
    let sound = [&[0x80, 96, 0, 1, 0, 0, 0, 1, 0x0d, 0xa9, 0xd0, 0x21][..], &[5; 100]].concat();
    let report = [&[0x80, 200, 0, 6, 0x5f, 0xd4, 0x57, 0xe5][..], &[1; 20]].concat();
    vec![
        picture,
        sound,
        report,
        vec![0x90, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff],
        vec![0x9f, 201, 0, 1, 0, 0, 0, 9],
        vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n".to_vec(),
        vec![0xff; 1_400],
        vec![0x80],
    ]
}

/// For the viewer port, one of each kind: whole and cut ClientHellos, alerts, application data, SRTP, SRTCP, checks, noise.
fn for_viewers() -> Vec<Vec<u8>> {
    let record = |content: u8, epoch: u8, body: &[u8]| {
        let mut bytes = vec![content, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    let mut hello = vec![1, 0, 0, 120, 0, 0, 0, 0, 0, 0, 0, 120, 254, 253];
    hello.extend_from_slice(&[7; 118]);
    let mut check = vec![0, 1, 0, 28, 0x21, 0x12, 0xa4, 0x42];
    check.extend_from_slice(&[9; 12]);
    check.extend_from_slice(&[0, 6, 0, 24]);
    check.extend_from_slice(b"AAAAAAAAAAAAAAAAAAA:Gzmx");
    vec![
        record(22, 0, &hello),
        record(22, 0, &hello[..60]),
        record(21, 0, &[2, 40]),
        record(21, 0, &[1, 0]),
        record(21, 1, &[3; 26]),
        record(23, 1, &[4; 200]),
        [&[0x80, 108, 0, 1][..], &[5; 1_180]].concat(),
        [&[0x81, 206, 0, 2][..], &[6; 60]].concat(),
        check,
        vec![0xff; 1_200],
        vec![70; 100],
        vec![0],
    ]
}

async fn viewers_come_while_it_rains(viewers: usize) {
    let limit = (viewers + 1).to_string();
    let site = Site::new(&[("MAX_VIEWERS_PER_STREAM", &limit)]);
    site.broker_is_there().await;
    let mut camera = site.camera(site.settings(0)).await;
    site.start(&mut camera).await;
    camera.shows(5).await;
    let flood = Flood::begin(vec![site.viewer_port().into()], for_viewers(), RATE);
    let mut watching = Vec::new();
    while watching.len() < viewers {
        let next = AT_ONCE.min(viewers - watching.len());
        let come: Vec<_> = join_all((0..next).map(|_| site.watch(&camera))).await;
        for (_, tally) in &come {
            until("a viewer is served", async || tally.lock().unwrap().packets >= PACKETS).await;
        }
        watching.extend(come);
    }
    // All of them under the flood, for as long as it takes to show so many pictures.
    camera.shows(30).await;
    let (sent, rate) = flood.end();
    camera.was_alone();
    camera.was_continuous();
    let missing: u64 = watching.iter().map(|(_, tally)| tally.lock().unwrap().missing).sum();
    let drops = site.call("GET", "/sources").await.1["viewer_port"].clone();
    let count = |name: &str| drops[name].as_u64().unwrap();
    eprintln!(
        "{} viewers connected of {viewers}; {sent} datagrams of the flood, {rate:.0} a second, of which the service \
         took {}; missing to the viewers that came: {missing}, to the one that watched: {}; dropped: {drops}",
        watching.len(),
        count("stranger"),
        camera.tally().missing,
    );
    assert_eq!(missing, 0, "viewers that were served have lost packets");
    assert!(count("stranger") > 0);
    // Nothing of the flood has come near a session.
    assert_eq!((count("unproven"), count("srtcp_refused"), count("rtp_ignored")), (0, 0, 0), "{drops}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_viewers_connect_under_a_flood_and_nobody_loses_a_packet() {
    viewers_come_while_it_rains(20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of load: cargo test --test fleet a_hundred -- --ignored --nocapture"]
async fn a_hundred_viewers_connect_under_a_flood_and_nobody_loses_a_packet() {
    viewers_come_while_it_rains(100).await;
}

async fn a_camera_streams_while_it_rains(rate: u64, pictures: u32) {
    let site = Site::new(&[]);
    site.broker_is_there().await;
    let mut camera = site.camera(site.settings(0)).await;
    site.start(&mut camera).await;
    camera.shows(5).await;
    let dropped = async || {
        let dropped = site.call("GET", "/sources").await.1["dropped"].clone();
        dropped.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>()
    };
    let (before, ports) = (dropped().await, site.ports());
    let flood = Flood::begin(vec![ports.video, ports.rtcp, ports.audio], for_cameras(), rate);
    camera.shows(pictures).await;
    let (sent, rate) = flood.end();
    until("all of the flood is counted", async || dropped().await >= before + sent).await;
    assert_eq!(dropped().await, before + sent, "and nothing else");
    camera.shows(5).await;
    camera.was_alone();
    camera.was_continuous();
    eprintln!(
        "{sent} datagrams of the flood, {rate:.0} a second, all of them dropped; none of the camera's is missing"
    );
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_flood_the_camera_ports_get_no_answer_and_a_running_stream_loses_nothing() {
    a_camera_streams_while_it_rains(RATE, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "for a release build on a quiet machine: cargo test --release --test fleet a_hundred_thousand -- --ignored --nocapture"]
async fn a_hundred_thousand_strangers_packets_a_second_on_the_camera_ports_cost_a_running_stream_nothing() {
    a_camera_streams_while_it_rains(100_000, 100).await;
}
