//! A viewer that weighs little, so that hundreds fit into a test: ICE checks, DTLS and SRTP from webrtc-rs's
//! protocol crates on one socket. It asks for nothing to be sent again: what does not come at once is missing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeycast::base::CameraId;
use honeycast::media::rtp::RtpPacket;
use honeycast::sim::Mark;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::page::{Answer, Page};
use crate::pictures::Pictures;
use crate::support::peer::{Peer, PeerIdentity};

/// A browser repeats its checks as often, first to be heard and then to keep its consent.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const RECEIVE_BUFFER: usize = 1 << 20;
/// Sequence numbers remembered, to tell what came twice from what came late.
const REMEMBERED: usize = 256;

/// What the viewers of one camera have received, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Packets by whatever name, and those that said whose they are.
    pub(crate) packets: u64,
    pub(crate) marked: u64,
    /// Pictures and sounds of the camera itself.
    pub(crate) pictures: u64,
    pub(crate) sounds: u64,
    /// The last picture's number.
    pub(crate) last: Option<u32>,
    /// Pictures whose number or timestamp is an earlier one than that of the packet before them.
    pub(crate) reversed: u64,
    pub(crate) backwards: u64,
    /// What somebody else has sent.
    pub(crate) foreign: Vec<Mark>,
    /// Video packets that did not come, came late or twice.
    pub(crate) missing: u64,
    pub(crate) late: u64,
    pub(crate) twice: u64,
    /// What can be made of the video packets.
    pub(crate) video: Pictures,
    /// What was not to be understood.
    pub(crate) undecryptable: u64,
}

/// A viewer that is connected, or about to be.
pub(crate) struct Viewer {
    /// The page stays open, and the media come.
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Viewer {
    /// Watches a stream and counts what comes. Returns with the server's answer.
    pub(crate) async fn watch(signaling: &str, camera: CameraId, stream: &str, tally: Arc<Mutex<Tally>>) -> Self {
        let identity = PeerIdentity::generate();
        let mut page = Page::open(signaling).await;
        let answer = page.watch(camera.as_str(), stream, &identity.offer).await;
        let watcher = Watcher::new(&answer, &identity, camera, tally);
        Self { tasks: [tokio::spawn(page.stay()), tokio::spawn(watcher.run())] }
    }
}

struct Watcher {
    socket: UdpSocket,
    peer: Peer,
    video: u32,
    audio: u32,
    expected: CameraId,
    tally: Arc<Mutex<Tally>>,
    next_seq: Option<u16>,
    recent: VecDeque<u16>,
    last_time: Option<u32>,
    last_mark: Option<u32>,
}

impl Watcher {
    fn new(answer: &Answer, identity: &PeerIdentity, expected: CameraId, tally: Arc<Mutex<Tally>>) -> Self {
        tally.lock().unwrap().video = Pictures::default();
        let local = honeycast::base::udp::bind(([127, 0, 0, 1], 0).into(), RECEIVE_BUFFER, RECEIVE_BUFFER).unwrap();
        Self {
            peer: Peer::new(&answer.0, identity, local.local_addr().unwrap()),
            socket: UdpSocket::from_std(local).unwrap(),
            video: answer.ssrc("video"),
            audio: answer.ssrc("audio"),
            expected,
            tally,
            next_seq: None,
            recent: VecDeque::new(),
            last_time: None,
            last_mark: None,
        }
    }

    async fn run(mut self) {
        let mut buffer = vec![0; 2048];
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let server = self.peer.server;
        loop {
            while let Some(datagram) = self.peer.poll_transmit() {
                let _ = self.socket.send_to(&datagram, server).await;
            }
            let due = self.peer.poll_timeout();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok((len, from)) = self.socket.recv_from(&mut buffer) => {
                    if from == server {
                        self.hear(&buffer[..len]);
                    }
                }
                _ = checks.tick() => {
                    let _ = self.socket.send_to(&self.peer.check(), server).await;
                }
                () = timer => self.peer.handle_timeout(),
            }
        }
    }

    /// By the first byte (RFC 7983 §7).
    fn hear(&mut self, datagram: &[u8]) {
        match datagram {
            [20..=63, ..] => self.peer.on_dtls(datagram),
            // RTCP (RFC 5761 §4) is another test's matter.
            [128..=191, 192..=223, ..] => {}
            [128..=191, ..] => self.media(datagram),
            _ => {}
        }
    }

    fn media(&mut self, datagram: &[u8]) {
        let mut tally = self.tally.lock().unwrap();
        tally.packets += 1;
        let plain = self.peer.keys.as_mut().and_then(|keys| keys.receive.decrypt_rtp(datagram).ok());
        let Some(packet) = plain.and_then(|plain| RtpPacket::parse(plain.to_vec().into()).ok()) else {
            tally.undecryptable += 1;
            return;
        };
        let ssrc = packet.ssrc().0;
        let mark = match ssrc {
            ssrc if ssrc == self.video => Mark::in_video(&packet.payload()),
            ssrc if ssrc == self.audio => Mark::in_audio(&packet.payload()),
            _ => return,
        };
        if let Some(mark) = mark {
            tally.marked += 1;
            if mark.camera != self.expected {
                tally.foreign.push(mark);
            } else if ssrc == self.audio {
                tally.sounds += 1;
            } else {
                tally.pictures += 1;
                tally.last = Some(mark.number);
            }
        }
        if ssrc != self.video {
            return;
        }
        tally.video.add(&packet);
        let seq = packet.seq().0;
        match seq.wrapping_sub(*self.next_seq.get_or_insert(seq)) {
            ahead @ 0..0x8000 => {
                tally.missing += u64::from(ahead);
                self.next_seq = Some(seq.wrapping_add(1));
                let time = packet.timestamp();
                let step = time.wrapping_sub(self.last_time.replace(time).unwrap_or(time));
                tally.backwards += u64::from(step >= 1 << 31);
                if let Some(mark) = mark {
                    let last = self.last_mark.replace(mark.number);
                    tally.reversed += u64::from(last.is_some_and(|last| mark.number < last));
                }
            }
            _ if self.recent.contains(&seq) => tally.twice += 1,
            _ => {
                tally.late += 1;
                tally.missing = tally.missing.saturating_sub(1);
            }
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(seq);
    }
}
