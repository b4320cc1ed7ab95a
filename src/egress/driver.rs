//! The task that owns the viewer port: datagrams to sessions, their answers back, bounded work per turn.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc};

use super::handle::EgressEvent;
use super::sessions::{Action, Sessions, Standing};
use super::shard::{Command, ShardInbox};
use super::tcp::Incoming;
use super::tcp_connections::{Connections, Cut};
use super::viewer::Path;
use crate::base::Shutdown;
use crate::base::time::ntp64;
use crate::base::udp::{BatchReceiver, BatchSocket, Datagram};
use crate::webrtc::Remote;

/// State shared by the driver and its handles.
pub(super) struct Shared {
    sessions: Mutex<Sessions>,
    /// A handle left actions or changed a deadline.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self { sessions: Mutex::new(sessions), wake: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Sessions hold no invariant across calls that a panic in between could break.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    /// One a family.
    sockets: Vec<BatchSocket>,
    connections: Arc<Connections>,
    incoming: mpsc::Receiver<Incoming>,
    /// From connections, since the last turn.
    arrived: Vec<Incoming>,
    /// There are connections, or may be some.
    listens: bool,
    shards: Arc<[ShardInbox]>,
    receiver: BatchReceiver,
    received: Vec<Datagram>,
    events: mpsc::Sender<EgressEvent>,
    /// Events that control has no room for yet; as many as there are viewers, plus their PLIs.
    pending: Vec<EgressEvent>,
    /// Commands that a shard has no room for yet, in their order: as many as there are viewers and streams.
    unsent: Vec<VecDeque<Command>>,
}

/// Datagrams from connections per turn.
const MAX_ARRIVED: usize = 128;
/// A shard whose queue was full is asked again after this time.
const RETRY: Duration = Duration::from_millis(5);
/// Wishes for keyframes are dropped beyond this many pending events; ends of viewers never are.
const MAX_PENDING_WISHES: usize = 1_024;

impl Driver {
    pub(super) fn new(
        sockets: Vec<std::net::UdpSocket>,
        (connections, incoming): (Arc<Connections>, mpsc::Receiver<Incoming>),
        shared: Arc<Shared>,
        shards: Arc<[ShardInbox]>,
        events: mpsc::Sender<EgressEvent>,
    ) -> io::Result<Self> {
        Ok(Self {
            shared,
            sockets: sockets.into_iter().map(BatchSocket::new).collect::<io::Result<_>>()?,
            connections,
            incoming,
            arrived: Vec::new(),
            listens: true,
            unsent: shards.iter().map(|_| VecDeque::new()).collect(),
            shards,
            receiver: BatchReceiver::default(),
            received: Vec::new(),
            events,
            pending: Vec::new(),
        })
    }

    pub(super) async fn run(mut self, shutdown: Shutdown) {
        loop {
            let retry = self.unsent.iter().any(|queue| !queue.is_empty()).then(|| Instant::now() + RETRY);
            let deadline = self.shared.lock().poll_timeout().into_iter().chain(retry).min();
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let stalled = !self.pending.is_empty();
            tokio::select! {
                () = shutdown.requested() => break,
                () = readable(&self.sockets) => {
                    for socket in &self.sockets {
                        self.receiver.receive(socket, &mut self.received);
                    }
                }
                count = self.incoming.recv_many(&mut self.arrived, MAX_ARRIVED), if self.listens => {
                    self.listens = count > 0;
                }
                () = timer => {}
                () = self.shared.wake.notified() => {}
                _ = self.events.reserve(), if stalled => {}
            }
            self.turn();
        }
        // What handles left behind: goodbyes of the last viewers.
        self.turn();
        self.connections.close_all();
        for shard in self.shards.iter() {
            let mut stop = shard.command(Command::Stop);
            // The shard empties its queue all the time.
            while let Err(command) = stop {
                tokio::task::yield_now().await;
                stop = shard.command(command);
            }
        }
    }

    /// A full socket buffer or connection loses the datagram; STUN and DTLS repeat theirs.
    fn send(&self, path: Path, datagram: &[u8]) {
        let Remote { address, connection } = path.remote;
        if let Some(id) = connection {
            return drop(self.connections.send_run(id, datagram, datagram.len()));
        }
        if let Some(socket) = self.sockets.iter().find(|socket| socket.is_ipv4() == address.is_ipv4()) {
            drop(socket.try_send(address, path.local, datagram));
        }
    }

    /// Hands a command to a shard, or keeps it until there is room. Feedback, which is repeated, is dropped then.
    fn command(&mut self, index: usize, command: Command) {
        let queue = &mut self.unsent[index];
        let refused = if queue.is_empty() { self.shards[index].command(command) } else { Err(command) };
        if let Err(command) = refused
            && !matches!(command, Command::Retransmit(..) | Command::Restart(_) | Command::Heard(..))
        {
            queue.push_back(command);
        }
    }

    fn retry_commands(&mut self) {
        for (shard, queue) in self.shards.iter().zip(&mut self.unsent) {
            while let Some(command) = queue.pop_front() {
                if let Err(command) = shard.command(command) {
                    queue.push_front(command);
                    break;
                }
            }
        }
    }

    fn turn(&mut self) {
        let (now, ntp_short) = (Instant::now(), (ntp64(SystemTime::now()) >> 16) as u32);
        self.retry_commands();
        let mut actions = Vec::new();
        {
            let mut sessions = self.shared.lock();
            for Datagram { source, local_ip, bytes } in self.received.drain(..) {
                sessions.on_datagram(source.into(), local_ip, &bytes, now, ntp_short);
            }
            for incoming in self.arrived.drain(..) {
                match incoming {
                    Incoming::Datagram(connection, bytes) => {
                        let (remote, local) = (connection.remote, connection.local_ip);
                        let standing = sessions.on_datagram(remote, local, &bytes, now, ntp_short);
                        match (remote.connection, standing) {
                            (Some(id), Standing::Stranger) => self.connections.cut(id, Cut::Stranger),
                            (Some(id), Standing::Proven) => self.connections.prove(id),
                            _ => {}
                        }
                    }
                    Incoming::Closed(remote) => sessions.on_disconnected(remote),
                }
            }
            sessions.handle_timeout(now, ntp_short);
            actions.extend(std::iter::from_fn(|| sessions.poll_action()));
            self.pending.extend(std::iter::from_fn(|| sessions.poll_event()));
        }
        for action in actions {
            match action {
                Action::Send { path, datagram } => self.send(path, &datagram),
                Action::Shard(index, command) => self.command(index, command),
            }
        }
        let sent = self.pending.iter().take_while(|event| self.events.try_send((*event).clone()).is_ok()).count();
        self.pending.drain(..sent);
        if self.pending.len() > MAX_PENDING_WISHES {
            self.pending.retain(|event| !matches!(event, EgressEvent::KeyframeWanted { .. }));
        }
    }
}

/// Resolves when there is something to read on one of the sockets.
async fn readable(sockets: &[BatchSocket]) {
    std::future::poll_fn(|cx| {
        // All are asked, so that each wakes us.
        let ready = sockets.iter().filter(|socket| socket.poll_readable(cx).is_ready()).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
