//! The viewers' TCP connections: how many there may be, what waits to be written to each.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::Notify;

use super::tcp_frames::{LENGTH, frame};
use crate::webrtc::{ConnectionId, Remote};

/// Connections at once; one more is closed as soon as it comes.
const MAX_CONNECTIONS: usize = 1_024;
/// Of those, without an authenticated ICE check so far. A new one drives out the oldest: a browser's first check
/// comes with the connection.
const MAX_UNPROVEN: usize = 128;
/// Bytes that may wait for one connection: 2 s at 2 Mbit/s. More is refused to the shard.
pub(super) const MAX_QUEUED: usize = 512 << 10;

/// What became of TCP connections, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct TcpCounters {
    /// Open now.
    pub open: u64,
    /// Taken.
    pub accepted: u64,
    /// Closed at once: there were too many.
    pub refused: u64,
    /// Cut: others came before it had proved anything.
    pub crowded_out: u64,
    /// Cut: no authenticated check within 10 s.
    pub unproven: u64,
    /// Cut: what came belongs to no viewer.
    pub strangers: u64,
    /// Cut: no RFC 4571 framing.
    pub malformed: u64,
    /// Cut: nothing came for 40 s.
    pub silent: u64,
    /// Cut: nothing could be written for 10 s.
    pub stalled: u64,
    /// Runs of packets that found the connection's queue full.
    pub refused_runs: u64,
}

/// Why a connection was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Refused,
    CrowdedOut,
    Unproven,
    Stranger,
    Malformed,
    Silent,
    Stalled,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    cuts: [AtomicU64; 7],
    refused_runs: AtomicU64,
}

/// All connections of the viewer port.
#[derive(Default)]
pub(super) struct Connections {
    open: RwLock<HashMap<ConnectionId, Arc<Connection>>>,
    admission: Mutex<Admission>,
    counts: Counts,
}

#[derive(Default)]
struct Admission {
    next: u64,
    /// The lowest number is the oldest.
    unproven: BTreeSet<ConnectionId>,
    /// The port is shut: nobody comes in any more.
    ended: bool,
}

impl Connections {
    /// Lets a new connection in, if there is room.
    pub(super) fn admit(&self, address: SocketAddr, local_ip: Option<IpAddr>) -> Option<Arc<Connection>> {
        let mut admission = lock(&self.admission);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if admission.ended || open.len() >= MAX_CONNECTIONS {
            drop((admission, open));
            self.count(Cut::Refused);
            return None;
        }
        if admission.unproven.len() >= MAX_UNPROVEN
            && let Some(oldest) = admission.unproven.pop_first()
            && let Some(connection) = open.get(&oldest)
        {
            connection.close();
            self.count(Cut::CrowdedOut);
        }
        let id = ConnectionId(admission.next);
        admission.next += 1;
        let connection = Arc::new(Connection::new(Remote { address, connection: Some(id) }, local_ip));
        open.insert(id, connection.clone());
        admission.unproven.insert(id);
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        Some(connection)
    }

    /// A connection has ended.
    pub(super) fn remove(&self, id: ConnectionId) {
        lock(&self.admission).unproven.remove(&id);
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(super) fn count(&self, cut: Cut) {
        self.counts.cuts[cut as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An authenticated check came through this connection.
    pub(super) fn prove(&self, id: ConnectionId) {
        if let Some(connection) = self.get(id)
            && !connection.proven.swap(true, Ordering::Relaxed)
        {
            lock(&self.admission).unproven.remove(&id);
        }
    }

    /// Closes a connection that sends what nobody wants.
    pub(super) fn cut(&self, id: ConnectionId, why: Cut) {
        if self.get(id).is_some_and(|connection| connection.close()) {
            self.count(why);
        }
    }

    /// Closes all for good, once what is queued has gone.
    pub(super) fn close_all(&self) {
        lock(&self.admission).ended = true;
        for connection in self.open.read().unwrap_or_else(PoisonError::into_inner).values() {
            connection.close();
        }
    }

    /// Queues datagrams of `segment` bytes each, the last one possibly shorter: all of them or none.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: the queue is full. `NotConnected`: the connection is gone.
    pub(super) fn send_run(&self, id: ConnectionId, contents: &[u8], segment: usize) -> io::Result<()> {
        let connection = self.get(id).ok_or(io::ErrorKind::NotConnected)?;
        let sent = connection.queue(contents, segment);
        if sent.is_err() {
            self.counts.refused_runs.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    pub(super) fn counters(&self) -> TcpCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [refused, crowded_out, unproven, strangers, malformed, silent, stalled] =
            self.counts.cuts.each_ref().map(read);
        TcpCounters {
            open: self.open.read().unwrap_or_else(PoisonError::into_inner).len() as u64,
            accepted: read(&self.counts.accepted),
            refused,
            crowded_out,
            unproven,
            strangers,
            malformed,
            silent,
            stalled,
            refused_runs: read(&self.counts.refused_runs),
        }
    }

    fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// One connection: what waits for its task.
pub(super) struct Connection {
    pub(super) remote: Remote,
    /// Our end.
    pub(super) local_ip: Option<IpAddr>,
    out: Mutex<Out>,
    /// There is something to write.
    queued: Notify,
    closed: Notify,
    proven: AtomicBool,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// What the task has taken and not yet written.
    in_flight: usize,
    closing: bool,
}

impl Connection {
    fn new(remote: Remote, local_ip: Option<IpAddr>) -> Self {
        Self {
            remote,
            local_ip,
            out: Mutex::default(),
            queued: Notify::new(),
            closed: Notify::new(),
            proven: AtomicBool::new(false),
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    fn queue(&self, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment = segment.max(1);
        let size = contents.len() + LENGTH * contents.len().div_ceil(segment);
        let mut out = lock(&self.out);
        if out.closing {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if out.bytes.len() + out.in_flight + size > MAX_QUEUED {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        contents.chunks(segment).for_each(|datagram| frame(datagram, &mut out.bytes));
        drop(out);
        self.queued.notify_one();
        Ok(())
    }

    /// Takes nothing more; what is queued still leaves. Returns whether it was open.
    fn close(&self) -> bool {
        let was_open = !std::mem::replace(&mut lock(&self.out).closing, true);
        self.queued.notify_one();
        self.closed.notify_one();
        was_open
    }

    /// Resolves when the connection is to end.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// The next bytes to write, at least one; `None` when the connection is closing and there are no more.
    pub(super) async fn next_bytes(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut out = lock(&self.out);
                if !out.bytes.is_empty() {
                    out.in_flight = out.bytes.len();
                    return Some(std::mem::take(&mut out.bytes));
                }
                if out.closing {
                    return None;
                }
            }
            self.queued.notified().await;
        }
    }

    /// Of the bytes taken last, `count` are written.
    pub(super) fn written(&self, count: usize) {
        let mut out = lock(&self.out);
        out.in_flight = out.in_flight.saturating_sub(count);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn id(connection: &Connection) -> ConnectionId {
        connection.remote.connection.unwrap()
    }

    #[tokio::test]
    async fn a_run_is_queued_whole_or_not_at_all_and_memory_has_an_end() {
        let connections = Connections::default();
        let connection = connections.admit(address(1), None).unwrap();
        let run = vec![7; 12_050];
        let taken = (0..1_000).take_while(|_| connections.send_run(id(&connection), &run, 1_000).is_ok()).count();
        assert_eq!(taken, MAX_QUEUED / (12_050 + 13 * LENGTH));
        assert_eq!(connections.counters().refused_runs, 1);
        let bytes = connection.next_bytes().await.unwrap();
        assert_eq!(bytes.len(), taken * (12_050 + 13 * LENGTH));
        let refused = connections.send_run(id(&connection), &run, 1_000).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "what is being written counts");
        connection.written(bytes.len());
        connections.send_run(id(&connection), &run, 1_000).unwrap();
        let mut deframer = super::super::tcp_frames::Deframer::default();
        deframer.push(&connection.next_bytes().await.unwrap());
        let lengths: Vec<usize> = std::iter::from_fn(|| deframer.next_frame().unwrap().map(<[u8]>::len)).collect();
        assert_eq!(lengths, [vec![1_000; 12], vec![50]].concat());
    }

    #[tokio::test]
    async fn a_closing_connection_says_its_last_word_and_takes_no_more() {
        let connections = Connections::default();
        let connection = connections.admit(address(1), None).unwrap();
        connections.send_run(id(&connection), b"close_notify", 12).unwrap();
        connections.cut(id(&connection), Cut::Stranger);
        connections.cut(id(&connection), Cut::Stranger);
        connection.closed().await;
        assert!(connection.next_bytes().await.is_some() && connection.next_bytes().await.is_none());
        assert!(connections.send_run(id(&connection), b"x", 1).is_err());
        assert_eq!(connections.counters().strangers, 1, "counted once");
        connections.remove(id(&connection));
        assert_eq!(connections.send_run(id(&connection), b"x", 1).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }

    #[tokio::test]
    async fn connections_that_prove_nothing_drive_out_their_like_but_none_that_is_proven() {
        let connections = Connections::default();
        let viewer = connections.admit(address(1), None).unwrap();
        connections.prove(id(&viewer));
        let first = connections.admit(address(2), None).unwrap();
        for port in 0..MAX_UNPROVEN as u16 {
            assert!(connections.admit(address(1_000 + port), None).is_some());
        }
        first.closed().await;
        assert_eq!(connections.counters().crowded_out, 1);
        connections.send_run(id(&viewer), b"x", 1).unwrap();
        let open = connections.counters().open;
        let proven: Vec<_> = (open..MAX_CONNECTIONS as u64)
            .map(|_| {
                let connection = connections.admit(address(3), None).unwrap();
                connections.prove(id(&connection));
                connection
            })
            .collect();
        assert!(connections.admit(address(4), None).is_none(), "there is an end to it");
        assert_eq!(connections.counters().refused, 1);
        connections.remove(id(&proven[0]));
        assert!(connections.admit(address(4), None).is_some());
    }
}
