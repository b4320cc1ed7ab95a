//! The floor as a process: AES-128-GCM seal of a ready buffer and one segmented send per viewer and frame, at the
//! camera's rate, to sockets that are read as those of the viewers are. Nothing else.
//! And how long a frame takes to all of them, if every core sends its share.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use honeycast::base::cores;
use honeycast::base::udp::{RunSender, bind};
use honeycast::media::rtp::{FIXED_HEADER_LEN, RtpHeader};
use honeycast::media::{ExtSeq, SeqNo, Ssrc};
use honeycast::webrtc::{Sealer, SrtpProfile};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::audience::read_stamped;
use crate::camera::{TWO_MBIT, now};

/// The argument that makes this program the floor.
pub(crate) const ARGUMENT: &str = "--be-the-floor";
const SEND_BUFFER: usize = 8 << 20;
const RECEIVE_BUFFER: usize = 1 << 19;
/// Sockets of the floor's delay are read every so many frames, about as often as a viewer looks that does not hurry.
const LOOK_FRAMES: usize = 5;

/// What seals and sends one frame after the other.
struct Sender {
    viewers: Vec<(SocketAddr, Sealer)>,
    socket: RunSender,
    frame: Vec<u8>,
    seq: u64,
}

impl Sender {
    fn new(viewers: &[SocketAddr]) -> Self {
        let sealer = |n: u64| {
            let mut key = [0x5a; 16];
            key[..8].copy_from_slice(&n.to_be_bytes());
            Sealer::from_master(SrtpProfile::AeadAes128Gcm, &key, &[3; 12]).unwrap()
        };
        let viewers: Vec<_> = viewers.iter().copied().zip((0..).map(sealer)).collect();
        let socket = RunSender::new(bind(([127, 0, 0, 1], 0).into(), 4 << 10, SEND_BUFFER).unwrap()).unwrap();
        let len = Self::segment(&viewers[0].1) * TWO_MBIT.packets_per_frame as usize;
        Self { viewers, socket, frame: vec![0; len - (TWO_MBIT.payload - TWO_MBIT.rest)], seq: 1 }
    }

    fn segment(sealer: &Sealer) -> usize {
        FIXED_HEADER_LEN + TWO_MBIT.payload + sealer.overhead()
    }

    fn send(&mut self) {
        for (to, sealer) in &mut self.viewers {
            let segment = Self::segment(sealer);
            for (n, packet) in (self.seq..).zip(self.frame.chunks_mut(segment)) {
                let (wire, timestamp) = (SeqNo(n as u16), self.seq as u32);
                let header = RtpHeader { payload_type: 96, marker: false, seq: wire, timestamp, ssrc: Ssrc(1) };
                packet[..FIXED_HEADER_LEN].copy_from_slice(&header.to_bytes());
                sealer.seal_rtp(packet, FIXED_HEADER_LEN, ExtSeq(n)).unwrap();
            }
            let _ = self.socket.send_run(*to, None, &self.frame, segment);
        }
        self.seq += TWO_MBIT.packets_per_frame;
    }
}

/// Reads viewers' addresses from standard input, one a line, and sends until it is killed.
pub(crate) fn be() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let viewers: Vec<SocketAddr> = text.lines().map(|line| line.parse().unwrap()).collect();
    let mut sender = Sender::new(&viewers);
    let interval = Duration::from_secs(1) / TWO_MBIT.frames_per_second;
    let mut next = Instant::now();
    println!("floor");
    std::io::stdout().flush().unwrap();
    loop {
        sender.send();
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// From the moment at which the frame is there to the kernel's receive timestamp at the last viewer, of every frame in
/// `time`: one thread on each core is woken, and seals and sends to its share of the viewers. Nothing else.
pub(crate) fn delays(viewers: usize, time: Duration) -> Vec<Duration> {
    let sockets: Vec<_> = (0..viewers)
        .map(|_| {
            let socket = bind(([127, 0, 0, 1], 0).into(), RECEIVE_BUFFER, RECEIVE_BUFFER).unwrap();
            setsockopt(&socket, ReceiveTimestampns, &true).unwrap();
            socket
        })
        .collect();
    let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let cores = cores::allowed();
    let senders: Vec<_> = addresses
        .chunks(viewers.div_ceil(cores.len()))
        .zip(cores)
        .map(|(share, core)| {
            let (wake, woken) = mpsc::channel::<()>();
            let mut sender = Sender::new(share);
            let thread = std::thread::spawn(move || {
                cores::stay_on(core).unwrap();
                woken.iter().for_each(|()| sender.send());
            });
            (wake, thread)
        })
        .collect();
    let per_frame = TWO_MBIT.packets_per_frame as usize;
    let (mut buffer, mut begun) = ([0; 2048], Vec::new());
    let mut arrived: Vec<Vec<u64>> = vec![Vec::new(); viewers];
    let mut read = |arrived: &mut Vec<Vec<u64>>| {
        for (socket, arrived) in sockets.iter().zip(arrived) {
            arrived.extend(std::iter::from_fn(|| read_stamped(socket, &mut buffer).ok()).filter_map(|(_, at)| at));
        }
    };
    let interval = Duration::from_secs(1) / TWO_MBIT.frames_per_second;
    let (begin, mut next) = (Instant::now(), Instant::now());
    while begin.elapsed() < time {
        begun.push(now());
        senders.iter().for_each(|(wake, _)| wake.send(()).unwrap());
        next += interval;
        // As seldom as the viewers look, between two frames.
        std::thread::sleep((next - interval / 2).saturating_duration_since(Instant::now()));
        if begun.len().is_multiple_of(LOOK_FRAMES) {
            read(&mut arrived);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    for (wake, thread) in senders {
        drop(wake);
        thread.join().unwrap();
    }
    read(&mut arrived);
    assert!(arrived.iter().all(|arrived| arrived.len() == begun.len() * per_frame), "the floor has lost packets");
    let last = |frame: usize| arrived.iter().map(|arrived| arrived[(frame + 1) * per_frame - 1]).max().unwrap_or(0);
    let mut delays: Vec<_> = begun
        .iter()
        .enumerate()
        .map(|(frame, begun)| Duration::from_nanos(last(frame).saturating_sub(*begun)))
        .collect();
    delays.sort_unstable();
    delays
}

/// The running floor, and who listens to it.
pub(crate) struct Floor {
    child: Child,
    pub(crate) packets: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Floor {
    pub(crate) fn start(viewers: usize) -> Self {
        let packets = Arc::new(AtomicU64::new(0));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut tasks = Vec::new();
        for _ in 0..viewers {
            let socket = bind(([127, 0, 0, 1], 0).into(), RECEIVE_BUFFER, RECEIVE_BUFFER).unwrap();
            writeln!(stdin, "{}", socket.local_addr().unwrap()).unwrap();
            let (socket, packets) = (UdpSocket::from_std(socket).unwrap(), packets.clone());
            tasks.push(tokio::spawn(async move {
                let mut buffer = [0; 2048];
                while socket.readable().await.is_ok() {
                    while socket.try_recv_from(&mut buffer).is_ok() {
                        packets.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        drop(stdin);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "floor");
        Self { child, packets, tasks }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
