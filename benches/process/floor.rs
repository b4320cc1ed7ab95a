//! The floor as a process: AES-128-GCM seal of a ready buffer and one segmented send per viewer and frame, at the
//! camera's rate, to sockets that are read as those of the viewers are. Nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use honeycast::base::udp::{RunSender, bind};
use honeycast::media::rtp::{FIXED_HEADER_LEN, RtpHeader};
use honeycast::media::{ExtSeq, SeqNo, Ssrc};
use honeycast::webrtc::{Sealer, SrtpProfile};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::camera::TWO_MBIT;

/// The argument that makes this program the floor.
pub(crate) const ARGUMENT: &str = "--be-the-floor";
const SEND_BUFFER: usize = 8 << 20;
const RECEIVE_BUFFER: usize = 1 << 19;

/// Reads viewers' addresses from standard input, one a line, and sends until it is killed.
pub(crate) fn be() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let viewers: Vec<SocketAddr> = text.lines().map(|line| line.parse().unwrap()).collect();
    let mut sealers: Vec<Sealer> = (0..viewers.len() as u64)
        .map(|n| {
            let mut key = [0x5a; 16];
            key[..8].copy_from_slice(&n.to_be_bytes());
            Sealer::from_master(SrtpProfile::AeadAes128Gcm, &key, &[3; 12]).unwrap()
        })
        .collect();
    let socket = RunSender::new(bind(([127, 0, 0, 1], 0).into(), 4 << 10, SEND_BUFFER).unwrap()).unwrap();
    let segment = FIXED_HEADER_LEN + TWO_MBIT.payload + sealers[0].overhead();
    let mut buffer = vec![0u8; segment * TWO_MBIT.packets_per_frame as usize];
    let interval = Duration::from_secs(1) / TWO_MBIT.frames_per_second;
    let (mut seq, mut next) = (1u64, Instant::now());
    println!("floor");
    std::io::stdout().flush().unwrap();
    loop {
        for (sealer, to) in sealers.iter_mut().zip(&viewers) {
            for (n, packet) in (seq..).zip(buffer.chunks_exact_mut(segment)) {
                let (wire, timestamp) = (SeqNo(n as u16), seq as u32);
                let header = RtpHeader { payload_type: 96, marker: false, seq: wire, timestamp, ssrc: Ssrc(1) };
                packet[..FIXED_HEADER_LEN].copy_from_slice(&header.to_bytes());
                sealer.seal_rtp(packet, FIXED_HEADER_LEN, ExtSeq(n)).unwrap();
            }
            let _ = socket.send_run(*to, None, &buffer, segment);
        }
        seq += TWO_MBIT.packets_per_frame;
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
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
