//! The task that owns the camera sockets: batches in, feedback out, bounded work per turn.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use super::DropReason;
use super::handle::{IngestEvent, PortPlan};
use super::intake::{Door, Intake};
use crate::base::Shutdown;
use crate::base::udp::{self, BatchReceiver, BatchSocket, Datagram};
use crate::media::latch::Entrance;

/// A keyframe of every camera at once must fit; the kernel may grant less.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Feedback is little.
const SEND_BUFFER: usize = 256 << 10;
/// Events kept while control is busy; beyond that the oldest are dropped (control reads the state anyway).
const MAX_PENDING_EVENTS: usize = 4_096;
/// One log line about strangers in this time.
const STRANGER_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The receive buffer of a port that one camera has for itself.
const OWN_RECEIVE_BUFFER: usize = 1 << 20;
/// From one triple of the pool to the next: video and sound stay on even ports, as RFC 3550 §11 asks for.
const POOL_STRIDE: usize = 4;

/// The camera ports, bound but not yet served: video RTP, RTCP, audio RTP. First the shared ones, then the pool.
pub struct CameraPorts(Vec<[std::net::UdpSocket; 3]>);

/// Index of the port that RTCP is sent from.
const RTCP: usize = 1;

impl CameraPorts {
    /// Binds the three ports on `ip`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be bound.
    pub fn bind(ip: IpAddr, ports: PortPlan) -> io::Result<Self> {
        Ok(Self(vec![triple(ip, ports, RECEIVE_BUFFER)?]))
    }

    /// Binds a pool as well: triples for streams that could not be told apart on the shared ports. Each begins
    /// at an even port, four above the one before; what is left of the range is not used.
    ///
    /// # Errors
    ///
    /// Names the port that cannot be bound, or says that the range holds no triple.
    pub fn with_pool(mut self, ip: IpAddr, range: RangeInclusive<u16>) -> io::Result<Self> {
        let plans: Vec<PortPlan> = pool_plans(range).collect();
        if plans.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the port range holds no even port and two above"));
        }
        for plan in plans {
            self.0.push(triple(ip, plan, OWN_RECEIVE_BUFFER)?);
        }
        Ok(self)
    }

    /// The shared ports that are really bound.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn plan(&self) -> io::Result<PortPlan> {
        plan_of(&self.0[0])
    }

    /// The shared ports, then the pool's triples.
    pub(super) fn plans(&self) -> io::Result<Vec<PortPlan>> {
        self.0.iter().map(plan_of).collect()
    }
}

fn triple(ip: IpAddr, ports: PortPlan, receive_buffer: usize) -> io::Result<[std::net::UdpSocket; 3]> {
    let bind = |port| udp::bind(SocketAddr::new(ip, port), receive_buffer, SEND_BUFFER);
    Ok([bind(ports.video_rtp)?, bind(ports.rtcp)?, bind(ports.audio_rtp)?])
}

fn plan_of(sockets: &[std::net::UdpSocket; 3]) -> io::Result<PortPlan> {
    let port = |index: usize| Ok::<_, io::Error>(sockets[index].local_addr()?.port());
    Ok(PortPlan { video_rtp: port(0)?, rtcp: port(RTCP)?, audio_rtp: port(2)? })
}

/// The triples of a range.
pub fn pool_plans(range: RangeInclusive<u16>) -> impl Iterator<Item = PortPlan> {
    let last = *range.end();
    let first = range.start().checked_next_multiple_of(2).unwrap_or(last);
    let starts = (first..=last).step_by(POOL_STRIDE).filter(move |start| last - start >= 2);
    starts.map(|start| PortPlan { video_rtp: start, rtcp: start + 1, audio_rtp: start + 2 })
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
    sockets: Vec<[BatchSocket; 3]>,
    /// In the order of `sockets`.
    doors: Vec<[Door; 3]>,
    receiver: BatchReceiver,
    received: Vec<Datagram>,
    arrived: Vec<(Door, Datagram)>,
    events: mpsc::Sender<IngestEvent>,
    pending: Vec<IngestEvent>,
    strangers: StrangerLog,
}

impl Driver {
    /// `plans` are those of `ports`.
    pub(super) fn new(
        ports: CameraPorts,
        plans: &[PortPlan],
        shared: Arc<Shared>,
        events: mpsc::Sender<IngestEvent>,
    ) -> io::Result<Self> {
        let served = |[video, rtcp, audio]: [std::net::UdpSocket; 3]| {
            Ok::<_, io::Error>([BatchSocket::new(video)?, BatchSocket::new(rtcp)?, BatchSocket::new(audio)?])
        };
        let entrances = std::iter::once(Entrance::Shared).chain((0..).map(Entrance::Own));
        let doors = plans
            .iter()
            .zip(entrances)
            .map(|(plan, entrance)| [plan.video_rtp, plan.rtcp, plan.audio_rtp].map(|port| Door { entrance, port }));
        Ok(Self {
            shared,
            sockets: ports.0.into_iter().map(served).collect::<io::Result<_>>()?,
            doors: doors.collect(),
            receiver: BatchReceiver::default(),
            received: Vec::new(),
            arrived: Vec::new(),
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
                () = shutdown.requested() => break,
                ready = readable(&self.sockets) => ready,
                () = timer => Vec::new(),
                () = self.shared.wake.notified() => Vec::new(),
            };
            for (triple, port) in ready {
                self.receiver.receive(&self.sockets[triple][port], &mut self.received);
                let door = self.doors[triple][port];
                self.arrived.extend(self.received.drain(..).map(|datagram| (door, datagram)));
            }
            self.turn();
        }
        self.shared.lock().refuse_openings();
    }

    /// Works off what was received and what is due, then sends.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut outgoing = Vec::new();
        {
            let mut intake = self.shared.lock();
            for (door, Datagram { source, bytes, .. }) in self.arrived.drain(..) {
                if let Err(reason) = intake.on_datagram(source, door, bytes, now) {
                    self.strangers.add(source, door.port, reason, now);
                }
            }
            intake.handle_timeout(now);
            outgoing.extend(std::iter::from_fn(|| intake.poll_datagram()));
            self.pending.extend(std::iter::from_fn(|| intake.poll_event()));
        }
        for datagram in outgoing {
            let triple = match datagram.entrance {
                Entrance::Shared => 0,
                Entrance::Own(index) => 1 + usize::from(index),
            };
            // A full socket buffer or no route loses this report; the next one follows within a second.
            if self.sockets[triple][RTCP].try_send(datagram.to, None, &datagram.bytes).is_err() {
                self.shared.lock().on_send_failed(&datagram, now);
            }
        }
        if self.pending.len() > MAX_PENDING_EVENTS {
            self.pending.drain(..self.pending.len() - MAX_PENDING_EVENTS);
        }
        let sent = self.pending.iter().take_while(|event| self.events.try_send((*event).clone()).is_ok()).count();
        self.pending.drain(..sent);
    }
}

/// Resolves when at least one port has something to read, with all that have: triple and port in it.
async fn readable(sockets: &[[BatchSocket; 3]]) -> Vec<(usize, usize)> {
    poll_fn(|cx| {
        let mut ready = Vec::new();
        for (triple, ports) in sockets.iter().enumerate() {
            let of_triple = ports.iter().enumerate().filter(|(_, socket)| socket.poll_readable(cx).is_ready());
            ready.extend(of_triple.map(|(port, _)| (triple, port)));
        }
        if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
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
    fn add(&mut self, source: SocketAddr, port: u16, reason: DropReason, now: Instant) {
        if let Some(dropped) = self.count(now) {
            let reason = reason.name();
            tracing::warn!(%source, port, reason, dropped, "dropped packets on the camera ports");
        }
    }

    /// One more was dropped. Where that is worth a line: how many since the last one.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.dropped += 1;
        if self.last.is_some_and(|last| now < last + STRANGER_LOG_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
