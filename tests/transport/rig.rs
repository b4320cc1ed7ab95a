//! The egress, a stream of frames made up here, and viewers with a network of their own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use honeycast::base::{Shutdown, StreamId, ViewerId};
use honeycast::egress::tcp_frames::{Deframer, frame};
use honeycast::egress::{AddViewer, EgressEvent, EgressHandle, EgressSettings, PortOptions, ViewerPort};
use honeycast::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, FrameSink, RtpTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;

use crate::peer::{Candidate, Peer};
use crate::within;

/// A datagram that a slow machine has lost is sent again after this.
const REPEAT: Duration = Duration::from_millis(200);
const LOCAL: &str = "127.0.0.1";

pub(crate) struct Rig {
    pub(crate) egress: EgressHandle,
    pub(crate) stream: StreamId,
    pub(crate) port: u16,
    pub(crate) events: mpsc::Receiver<EgressEvent>,
    sink: Arc<dyn FrameSink>,
    shutdown: Shutdown,
    next: u64,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(LOCAL, &[LOCAL])
    }

    pub(crate) fn with(host: &str, advertise: &[&str]) -> Self {
        let port =
            ViewerPort::bind(SocketAddr::new(host.parse().unwrap(), 0), PortOptions { tcp: true, ipv6: true }).unwrap();
        let number = port.port().unwrap();
        let settings = EgressSettings {
            advertise: advertise.iter().map(|ip| ip.parse().unwrap()).collect(),
            connect_timeout: Duration::from_secs(60),
            shards: 1,
            cores: Vec::new(),
            remb_policy: Default::default(),
        };
        let (sender, events) = mpsc::channel(1_024);
        let shutdown = Shutdown::new();
        let egress = EgressHandle::start(port, &settings, sender, &shutdown).unwrap();
        let stream = StreamId::random();
        let sink = egress.open_stream(stream);
        Self { egress, stream, port: number, events, sink, shutdown, next: 1_000 }
    }

    /// A frame of the stream: `packets` of 1,000 bytes, each of which begins with `label`.
    pub(crate) fn frame(&mut self, packets: u64, starts_keyframe: bool, label: u8) {
        let numbers = self.next..self.next + packets;
        self.next = numbers.end;
        let packets = numbers.clone().map(|seq| FramePacket {
            seq: ExtSeq(seq),
            marker: seq + 1 == numbers.end,
            payload: Bytes::from(vec![label; 1_000]),
        });
        let time = RtpTime(self.next * 90);
        let now = Instant::now();
        self.sink.push(Arc::new(Frame {
            codec: Codec::H264,
            time,
            starts_keyframe,
            packets: packets.collect(),
            arrived: now,
            clock: ClockPoint { at: now, rtp: time, rate: Codec::H264.clock_rate() },
        }));
    }

    /// A viewer that has its answer and no network yet.
    pub(crate) async fn viewer(&self) -> (ViewerId, Peer, Vec<Candidate>) {
        let (viewer, mut peer) = (ViewerId::random(), Peer::new());
        let add = AddViewer { viewer, stream: self.stream, offer: peer.offer(), profile_level_id: None, audio: None };
        let answer = self.egress.add_viewer(add).await.unwrap();
        let candidates = peer.answered(&answer.sdp);
        assert_eq!(answer.candidates.len(), candidates.len());
        (viewer, peer, candidates)
    }

    pub(crate) async fn end(self) {
        self.shutdown.request();
        within("the egress ends", self.shutdown.drained()).await;
    }
}

/// The first candidate of a transport.
pub(crate) fn candidate(candidates: &[Candidate], transport: &str) -> SocketAddr {
    candidates.iter().find(|candidate| candidate.transport == transport).unwrap().address
}

/// What a viewer's datagrams travel by.
pub(crate) enum Wire {
    Udp(UdpSocket, SocketAddr),
    /// With bytes written one by one, if so.
    Tcp {
        stream: TcpStream,
        deframer: Deframer,
        torn: bool,
    },
}

impl Wire {
    pub(crate) async fn udp(to: SocketAddr) -> Self {
        let own: IpAddr = if to.is_ipv4() { LOCAL.parse().unwrap() } else { "::1".parse().unwrap() };
        Self::Udp(UdpSocket::bind((own, 0)).await.unwrap(), to)
    }

    pub(crate) async fn tcp(to: SocketAddr, torn: bool) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::Tcp { stream, deframer: Deframer::default(), torn }
    }

    pub(crate) async fn send(&mut self, datagram: &[u8]) {
        match self {
            Self::Udp(socket, to) => drop(socket.send_to(datagram, *to).await),
            Self::Tcp { stream, torn, .. } => {
                let mut bytes = Vec::new();
                frame(datagram, &mut bytes);
                let step = if *torn { 1 } else { bytes.len() };
                for piece in bytes.chunks(step) {
                    let _ = stream.write_all(piece).await;
                }
            }
        }
    }

    /// The next datagram; `None` when the connection is closed. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2_048];
        match self {
            Self::Udp(socket, to) => loop {
                if let Ok((len, from)) = socket.recv_from(&mut buffer).await
                    && from == *to
                {
                    return Some(buffer[..len].to_vec());
                }
            },
            Self::Tcp { stream, deframer, .. } => loop {
                if let Some(datagram) = deframer.next_frame().unwrap() {
                    return Some(datagram.to_vec());
                }
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(len) => deframer.push(&buffer[..len]),
                }
            },
        }
    }
}

/// A viewer and its network.
pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) wire: Wire,
    nominates: bool,
}

impl Client {
    pub(crate) fn new(peer: Peer, wire: Wire) -> Self {
        Self { peer, wire, nominates: true }
    }

    /// Lives until it is so, and repeats its checks meanwhile.
    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&Peer) -> bool) {
        let living = async {
            let mut checks = tokio::time::interval(REPEAT);
            while !done(&self.peer) {
                // A browser begins DTLS on a pair that has been checked.
                while self.peer.received.answers > 0
                    && let Some(datagram) = self.peer.poll_transmit()
                {
                    self.wire.send(&datagram).await;
                }
                let due = self.peer.poll_timeout();
                let timer = async {
                    match due {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    datagram = self.wire.receive() => match datagram {
                        Some(datagram) => self.peer.hear(&datagram),
                        None => panic!("the connection was closed: {what}"),
                    },
                    _ = checks.tick() => {
                        let check = self.peer.check(self.nominates);
                        self.wire.send(&check).await;
                    }
                    () = timer => self.peer.handle_timeout(),
                }
            }
        };
        within(what, living).await;
    }

    pub(crate) async fn connects(&mut self) {
        self.until("DTLS is up", Peer::is_connected).await;
    }

    /// Waits for the last of the frames with this label, whole.
    pub(crate) async fn sees(&mut self, label: u8) {
        let what = format!("a picture with {label}");
        let whole = |peer: &Peer| peer.received.video.last() == Some(&(label, true));
        self.until(&what, whole).await;
    }
}
