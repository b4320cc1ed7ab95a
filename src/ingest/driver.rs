//! The task that owns the camera sockets: batches in, feedback out, bounded work per turn.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};

use super::handle::{IngestEvent, PortPlan};
use super::intake::Intake;
use crate::base::Shutdown;

/// A keyframe of every camera at once must fit; the kernel may grant less.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Messages per receive call and bytes each can hold (a GRO train of up to 64 KiB).
const BATCH: usize = 16;
const MESSAGE_SIZE: usize = 65_536;
/// Receive calls per socket before the others and the timers get their turn.
const CALLS_PER_TURN: usize = 8;
/// Datagrams are copied out of the receive buffers into chunks of this size that packets share.
const CHUNK: usize = 64 << 10;
/// Events kept while control is busy; beyond that the oldest are dropped (control reads the state anyway).
const MAX_PENDING_EVENTS: usize = 4_096;
/// One log line about strangers in this time.
const STRANGER_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The camera ports, bound but not yet served.
pub struct CameraPorts {
    video_rtp: std::net::UdpSocket,
    rtcp: std::net::UdpSocket,
    audio_rtp: std::net::UdpSocket,
}

impl CameraPorts {
    /// Binds the three ports on `ip`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be bound.
    pub fn bind(ip: IpAddr, ports: PortPlan) -> io::Result<Self> {
        Ok(Self {
            video_rtp: bind(ip, ports.video_rtp)?,
            rtcp: bind(ip, ports.rtcp)?,
            audio_rtp: bind(ip, ports.audio_rtp)?,
        })
    }

    /// The ports really bound.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn plan(&self) -> io::Result<PortPlan> {
        let port = |socket: &std::net::UdpSocket| Ok::<_, io::Error>(socket.local_addr()?.port());
        Ok(PortPlan { video_rtp: port(&self.video_rtp)?, rtcp: port(&self.rtcp)?, audio_rtp: port(&self.audio_rtp)? })
    }
}

fn bind(ip: IpAddr, port: u16) -> io::Result<std::net::UdpSocket> {
    let address = SocketAddr::new(ip, port);
    let named = |e: io::Error| io::Error::new(e.kind(), format!("UDP {address}: {e}"));
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(named)?;
    // The kernel clips it to net.core.rmem_max; less is no reason not to start.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into()).map_err(named)?;
    socket.set_nonblocking(true).map_err(named)?;
    Ok(socket.into())
}

/// State shared by the driver and its handles.
pub(super) struct Shared {
    intake: Mutex<Intake>,
    /// A handle changed a deadline.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn new(intake: Intake) -> Self {
        Self { intake: Mutex::new(intake), wake: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Intake> {
        // The intake holds no invariant across calls that a panic in between could break.
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Port {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state })
    }
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    /// Video RTP, RTCP, audio RTP.
    ports: [Port; 3],
    buffers: Vec<u8>,
    chunk: BytesMut,
    received: Vec<(SocketAddr, Bytes)>,
    events: mpsc::Sender<IngestEvent>,
    pending: Vec<IngestEvent>,
    strangers: StrangerLog,
}

/// Index of the port that RTCP is sent from.
const RTCP_PORT: usize = 1;

impl Driver {
    pub(super) fn new(ports: CameraPorts, shared: Arc<Shared>, events: mpsc::Sender<IngestEvent>) -> io::Result<Self> {
        Ok(Self {
            shared,
            ports: [Port::new(ports.video_rtp)?, Port::new(ports.rtcp)?, Port::new(ports.audio_rtp)?],
            buffers: vec![0; BATCH * MESSAGE_SIZE],
            chunk: BytesMut::new(),
            received: Vec::new(),
            events,
            pending: Vec::new(),
            strangers: StrangerLog::default(),
        })
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        loop {
            let deadline = self.shared.lock().poll_timeout();
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let ready = tokio::select! {
                () = shutdown.requested() => return,
                ready = readable(&self.ports) => ready,
                () = timer => [false; 3],
                () = self.shared.wake.notified() => [false; 3],
            };
            for (index, ready) in ready.into_iter().enumerate() {
                if ready {
                    self.receive(index);
                }
            }
            self.turn();
        }
    }

    /// Reads what waits on a port into `received`.
    fn receive(&mut self, index: usize) {
        let Port { socket, state } = &self.ports[index];
        for _ in 0..CALLS_PER_TURN {
            let mut slices: Vec<_> = self.buffers.chunks_exact_mut(MESSAGE_SIZE).map(IoSliceMut::new).collect();
            let mut metas = [RecvMeta::default(); BATCH];
            let count = match socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut slices, &mut metas)) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // ICMP errors of earlier sends show up here; the next call goes on.
                Err(_) => continue,
            };
            for (meta, message) in metas[..count].iter().zip(self.buffers.chunks_exact(MESSAGE_SIZE)) {
                for datagram in message[..meta.len].chunks(meta.stride.max(1)) {
                    if self.chunk.capacity() < datagram.len() {
                        self.chunk = BytesMut::with_capacity(CHUNK.max(datagram.len()));
                    }
                    self.chunk.extend_from_slice(datagram);
                    self.received.push((meta.addr, self.chunk.split().freeze()));
                }
            }
        }
    }

    /// Works off what was received and what is due, then sends.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut outgoing = Vec::new();
        {
            let mut intake = self.shared.lock();
            for (source, datagram) in self.received.drain(..) {
                if let Err(reason) = intake.on_datagram(source, datagram, now) {
                    self.strangers.add(source, reason, now);
                }
            }
            intake.handle_timeout(now);
            while let Some(datagram) = intake.poll_datagram() {
                outgoing.push(datagram);
            }
            while let Some(event) = intake.poll_event() {
                self.pending.push(event);
            }
        }
        for (to, datagram) in outgoing {
            // A full socket buffer or an ICMP error loses this report; the next one follows within a second.
            let _ = self.ports[RTCP_PORT].socket.try_send_to(&datagram, to);
        }
        if self.pending.len() > MAX_PENDING_EVENTS {
            self.pending.drain(..self.pending.len() - MAX_PENDING_EVENTS);
        }
        let sent = self.pending.iter().take_while(|event| self.events.try_send((*event).clone()).is_ok()).count();
        self.pending.drain(..sent);
    }
}

/// Resolves when at least one port has something to read.
async fn readable(ports: &[Port; 3]) -> [bool; 3] {
    poll_fn(|cx| {
        let ready = [0, 1, 2].map(|i: usize| ports[i].socket.poll_recv_ready(cx).is_ready());
        if ready.contains(&true) { Poll::Ready(ready) } else { Poll::Pending }
    })
    .await
}

/// Tells the operator about dropped packets without letting a flood write the log.
#[derive(Default)]
struct StrangerLog {
    dropped: u64,
    last: Option<Instant>,
}

impl StrangerLog {
    fn add(&mut self, source: SocketAddr, reason: super::DropReason, now: Instant) {
        self.dropped += 1;
        if self.last.is_none_or(|last| now >= last + STRANGER_LOG_INTERVAL) {
            tracing::warn!(%source, ?reason, dropped = self.dropped, "dropped packets on the camera ports");
            self.last = Some(now);
            self.dropped = 0;
        }
    }
}
