//! The task that owns the camera sockets: batches in, feedback out, bounded work per turn.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::DropReason;
use super::handle::{IngestEvent, PortPlan};
use super::intake::Intake;
use crate::base::Shutdown;
use crate::base::udp::{self, BatchReceiver, BatchSocket, Datagram};

/// A keyframe of every camera at once must fit; the kernel may grant less.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Feedback is little.
const SEND_BUFFER: usize = 256 << 10;
/// Events kept while control is busy; beyond that the oldest are dropped (control reads the state anyway).
const MAX_PENDING_EVENTS: usize = 4_096;
/// One log line about strangers in this time.
const STRANGER_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The camera ports, bound but not yet served: video RTP, RTCP, audio RTP.
pub struct CameraPorts([std::net::UdpSocket; 3]);

/// Index of the port that RTCP is sent from.
const RTCP: usize = 1;

impl CameraPorts {
    /// Binds the three ports on `ip`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be bound.
    pub fn bind(ip: IpAddr, ports: PortPlan) -> io::Result<Self> {
        let bind = |port| udp::bind(SocketAddr::new(ip, port), RECEIVE_BUFFER, SEND_BUFFER);
        Ok(Self([bind(ports.video_rtp)?, bind(ports.rtcp)?, bind(ports.audio_rtp)?]))
    }

    /// The ports really bound.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn plan(&self) -> io::Result<PortPlan> {
        let port = |index: usize| Ok::<_, io::Error>(self.0[index].local_addr()?.port());
        Ok(PortPlan { video_rtp: port(0)?, rtcp: port(RTCP)?, audio_rtp: port(2)? })
    }
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

pub(super) struct Driver {
    shared: Arc<Shared>,
    ports: [BatchSocket; 3],
    receiver: BatchReceiver,
    received: Vec<Datagram>,
    events: mpsc::Sender<IngestEvent>,
    pending: Vec<IngestEvent>,
    strangers: StrangerLog,
}

impl Driver {
    pub(super) fn new(ports: CameraPorts, shared: Arc<Shared>, events: mpsc::Sender<IngestEvent>) -> io::Result<Self> {
        let [video, rtcp, audio] = ports.0;
        Ok(Self {
            shared,
            ports: [BatchSocket::new(video)?, BatchSocket::new(rtcp)?, BatchSocket::new(audio)?],
            receiver: BatchReceiver::default(),
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
            for (port, _) in self.ports.iter().zip(ready).filter(|(_, ready)| *ready) {
                self.receiver.receive(port, &mut self.received);
            }
            self.turn();
        }
    }

    /// Works off what was received and what is due, then sends.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut outgoing = Vec::new();
        {
            let mut intake = self.shared.lock();
            for Datagram { source, bytes, .. } in self.received.drain(..) {
                if let Err(reason) = intake.on_datagram(source, bytes, now) {
                    self.strangers.add(source, reason, now);
                }
            }
            intake.handle_timeout(now);
            outgoing.extend(std::iter::from_fn(|| intake.poll_datagram()));
            self.pending.extend(std::iter::from_fn(|| intake.poll_event()));
        }
        for (to, datagram) in outgoing {
            // A full socket buffer or no route loses this report; the next one follows within a second.
            if self.ports[RTCP].try_send(to, None, &datagram).is_err() {
                self.shared.lock().on_send_failed(to);
            }
        }
        if self.pending.len() > MAX_PENDING_EVENTS {
            self.pending.drain(..self.pending.len() - MAX_PENDING_EVENTS);
        }
        let sent = self.pending.iter().take_while(|event| self.events.try_send((*event).clone()).is_ok()).count();
        self.pending.drain(..sent);
    }
}

/// Resolves when at least one port has something to read.
async fn readable(ports: &[BatchSocket; 3]) -> [bool; 3] {
    poll_fn(|cx| {
        let ready = [0, 1, 2].map(|index: usize| ports[index].poll_readable(cx).is_ready());
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
    fn add(&mut self, source: SocketAddr, reason: DropReason, now: Instant) {
        self.dropped += 1;
        if self.last.is_none_or(|last| now >= last + STRANGER_LOG_INTERVAL) {
            tracing::warn!(%source, ?reason, dropped = self.dropped, "dropped packets on the camera ports");
            self.last = Some(now);
            self.dropped = 0;
        }
    }
}
