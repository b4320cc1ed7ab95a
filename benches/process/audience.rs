//! Viewers with a page, a socket and keys of their own, that count what comes and open a sample of it.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeycast::base::CameraId;
use honeycast::media::rtcp::{ReportBlock, RtcpWriter};
use honeycast::media::rtp::{FIXED_HEADER_LEN, RtpPacket};
use honeycast::media::{ExtSeq, SeqNo, Ssrc};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::camera::{Rate, Times, now, number};
use crate::page::Page;
use crate::support::PATIENCE;
use crate::support::peer::{Peer, PeerIdentity};
use crate::until;

/// A receiver report with REMB each, and a check with every second one.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Holds two keyframes.
const RECEIVE_BUFFER: usize = 1 << 19;
/// One packet of so many is opened.
const SAMPLE: u64 = 64;
/// Our own source; nothing is sent with it but reports.
const OWN_SSRC: Ssrc = Ssrc(7);

/// A viewer that does not hurry looks this often.
const LOOK: Duration = Duration::from_millis(200);

/// The stream that is watched.
pub(crate) struct Show {
    pub(crate) signaling: String,
    pub(crate) camera: CameraId,
    pub(crate) stream: String,
    pub(crate) rate: Rate,
    pub(crate) times: Arc<Times>,
    /// Viewers that let packets wait in their sockets, stamped by the kernel, and are not woken by them: so neither takes
    /// the service's time, as little as that of viewers on other machines would.
    pub(crate) unhurried: bool,
}

/// What one viewer has seen.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) watching: AtomicBool,
    pub(crate) packets: AtomicU64,
    pub(crate) missing: AtomicU64,
    pub(crate) opened: AtomicU64,
    /// Not to be opened, or not what belongs at this place.
    pub(crate) wrong: AtomicU64,
}

/// A crowd before one camera.
pub(crate) struct Audience {
    show: Arc<Show>,
    identity: Arc<PeerIdentity>,
    pub(crate) counts: Vec<Arc<Count>>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Drop for Audience {
    fn drop(&mut self) {
        self.tasks.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}

impl Audience {
    pub(crate) fn new(show: Arc<Show>) -> Self {
        let identity = Arc::new(PeerIdentity::generate());
        Self { show, identity, counts: Vec::new(), tasks: Arc::default() }
    }

    /// Lets viewers come, so many a second, and waits until all of them receive.
    pub(crate) async fn join(&mut self, viewers: usize, per_second: u32) {
        let mut beat = tokio::time::interval(Duration::from_secs(1) / per_second);
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..viewers {
            beat.tick().await;
            let count = Arc::new(Count::default());
            self.counts.push(count.clone());
            let (show, identity, tasks) = (self.show.clone(), self.identity.clone(), self.tasks.clone());
            let come = tokio::spawn(async move {
                let mut page = Page::open(&show.signaling).await;
                let answer = page.watch(show.camera.as_str(), &show.stream, &identity.offer).await;
                let stay = tokio::spawn(page.stay());
                let (viewer, socket) = Viewer::new(&answer, &identity, show, count);
                tasks.lock().unwrap().push(stay);
                let (viewer, socket) = viewer.come(socket).await;
                viewer.stand_by(socket).await;
            });
            self.tasks.lock().unwrap().push(come);
        }
        until("all viewers receive", async || self.counts.iter().all(|count| count.watching.load(Ordering::Relaxed)))
            .await;
    }

    /// Packets, missing ones, opened ones, wrong ones.
    pub(crate) fn sums(&self) -> [u64; 4] {
        let sum = |of: fn(&Count) -> &AtomicU64| self.counts.iter().map(|c| of(c).load(Ordering::Relaxed)).sum();
        [sum(|c| &c.packets), sum(|c| &c.missing), sum(|c| &c.opened), sum(|c| &c.wrong)]
    }
}

struct Viewer {
    peer: Peer,
    show: Arc<Show>,
    count: Arc<Count>,
    video: u32,
    highest: Option<ExtSeq>,
    /// The viewer's number of the camera's first packet, as learnt from an opened one.
    offset: Option<u64>,
    even: bool,
}

impl Viewer {
    fn new(
        answer: &crate::page::Answer,
        identity: &PeerIdentity,
        show: Arc<Show>,
        count: Arc<Count>,
    ) -> (Self, UdpSocket) {
        let local = honeycast::base::udp::bind(([127, 0, 0, 1], 0).into(), RECEIVE_BUFFER, RECEIVE_BUFFER).unwrap();
        if show.unhurried {
            setsockopt(&local, ReceiveTimestampns, &true).unwrap();
        }
        let peer = Peer::new(&answer.0, identity, local.local_addr().unwrap());
        let video = answer.ssrc("video");
        let viewer = Self { peer, video, show, count, highest: None, offset: None, even: true };
        (viewer, UdpSocket::from_std(local).unwrap())
    }

    /// Watches for ever; one that does not hurry only until it watches.
    async fn come(mut self, socket: UdpSocket) -> (Self, std::net::UdpSocket) {
        let mut buffer = [0; 2048];
        let mut beat = tokio::time::interval(REPORT_INTERVAL);
        let server = self.peer.server;
        while !(self.show.unhurried && self.offset.is_some()) {
            while let Some(datagram) = self.peer.poll_transmit() {
                let _ = socket.send_to(&datagram, server).await;
            }
            let due = self.peer.poll_timeout().unwrap_or_else(|| (Instant::now() + PATIENCE).into_std());
            tokio::select! {
                biased;
                _ = socket.readable() => {
                    while let Ok((len, from)) = socket.try_recv_from(&mut buffer) {
                        if from == server {
                            self.hear(&buffer[..len], None);
                        }
                    }
                }
                _ = beat.tick() => {
                    for datagram in self.words() {
                        let _ = socket.send_to(&datagram, server).await;
                    }
                }
                () = tokio::time::sleep_until(due.into()), if self.peer.keys.is_none() => self.peer.handle_timeout(),
            }
        }
        (self, socket.into_std().unwrap())
    }

    /// Looks now and then what has come.
    async fn stand_by(mut self, socket: std::net::UdpSocket) {
        let mut buffer = [0; 2048];
        let (mut look, mut beat) = (tokio::time::interval(LOOK), tokio::time::interval(REPORT_INTERVAL));
        loop {
            tokio::select! {
                _ = look.tick() => {
                    while let Ok((len, at)) = read_stamped(&socket, &mut buffer) {
                        self.hear(&buffer[..len], at);
                    }
                }
                _ = beat.tick() => {
                    for datagram in self.words() {
                        let _ = socket.send_to(&datagram, self.peer.server);
                    }
                }
            }
        }
    }

    /// A report, and a check every second time.
    fn words(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let check = self.even.then(|| self.peer.check());
        self.even = !self.even;
        self.report().into_iter().chain(check)
    }

    /// By the first byte (RFC 7983 §7).
    fn hear(&mut self, datagram: &[u8], at: Option<u64>) {
        match datagram {
            [20..=63, ..] => self.peer.on_dtls(datagram),
            [128..=191, 192..=223, ..] => {}
            [128..=191, ..] => self.media(datagram, at),
            _ => {}
        }
    }

    fn media(&mut self, datagram: &[u8], at: Option<u64>) {
        let Some(header) = datagram.get(..FIXED_HEADER_LEN) else { return };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if word(8) != self.video {
            return;
        }
        let wire = SeqNo(word(0) as u16);
        let seq = self.highest.map_or(ExtSeq(u64::from(wire.0)), |highest| highest.extend(wire));
        let ahead = self.highest.map_or(1, |highest| seq.0.saturating_sub(highest.0));
        let packets = self.count.packets.fetch_add(1, Ordering::Relaxed);
        if ahead == 0 {
            // Late or twice: on loopback neither happens.
            self.count.wrong.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.highest = Some(seq);
        self.count.missing.fetch_add(ahead - 1, Ordering::Relaxed);
        self.count.watching.store(true, Ordering::Relaxed);
        if let Some(offset) = self.offset
            && datagram[1] & 0x80 != 0
        {
            let frame = seq.0.wrapping_sub(offset) / self.show.rate.packets_per_frame;
            self.show.times.on_arrived(frame, at.unwrap_or_else(now));
        }
        if self.offset.is_none() || packets.is_multiple_of(SAMPLE) {
            self.open(datagram, seq);
        }
    }

    fn open(&mut self, datagram: &[u8], seq: ExtSeq) {
        let plain = self.peer.keys.as_mut().and_then(|keys| keys.receive.decrypt_rtp(datagram).ok());
        let packet = plain.and_then(|plain| RtpPacket::parse(plain.to_vec().into()).ok());
        let count = if packet.is_some() { &self.count.opened } else { &self.count.wrong };
        count.fetch_add(1, Ordering::Relaxed);
        let Some(number) = packet.and_then(|packet| number(&packet.payload())) else { return };
        // Numbering is the camera's, moved by as much as at the first.
        let offset = seq.0.wrapping_sub(number);
        if *self.offset.get_or_insert(offset) != offset {
            self.count.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn report(&mut self) -> Option<Vec<u8>> {
        let highest = self.highest?;
        let block = ReportBlock {
            ssrc: self.video,
            fraction_lost: 0,
            cumulative_lost: 0,
            highest_seq: highest.0 as u32,
            jitter: 0,
            last_sr: 0,
            delay_since_last_sr: 0,
        };
        let mut writer = RtcpWriter::new();
        writer.receiver_report(OWN_SSRC, &[block]).cname(OWN_SSRC, "load").remb(OWN_SSRC, 5_000_000, Ssrc(self.video));
        let keys = self.peer.keys.as_mut()?;
        keys.send.encrypt_rtcp(&writer.finish()).ok().map(|sealed| sealed.to_vec())
    }
}

/// A datagram and the time at which the kernel received it.
pub(crate) fn read_stamped(socket: &std::net::UdpSocket, buffer: &mut [u8]) -> nix::Result<(usize, Option<u64>)> {
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let at = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(at) => Some(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64),
        _ => None,
    });
    Ok((message.bytes, at))
}
