//! ICE-TCP (RFC 6544): viewers whose network has no UDP connect to the same port number by TCP.
//!
//! A task accepts, a task per connection reads and writes. What is read goes to the driver as if it were a
//! datagram; what is written was queued by the driver and the shards.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::tcp_connections::{Connection, Connections, Cut};
use super::tcp_frames::Deframer;
use crate::base::Shutdown;
use crate::webrtc::Remote;

/// From the connection to the first authenticated check.
const PROVE_WITHIN: Duration = Duration::from_secs(10);
/// Without a datagram; consent has long ended by then (RFC 7675).
const SILENCE: Duration = Duration::from_secs(40);
/// For a write to take at least one byte.
const STALL: Duration = Duration::from_secs(10);
/// For the last bytes of a connection that is closed.
const GOODBYE: Duration = Duration::from_millis(200);
/// The kernel's share of what waits: what it holds cannot be taken back when the viewer falls behind.
const KERNEL_BUFFER: usize = 128 << 10;
/// Bytes per read.
const READ: usize = 4_096;
/// The system has no more sockets: nobody says when it has again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection has to tell the driver.
pub(super) enum Incoming {
    /// It has sent a datagram.
    Datagram(Arc<Connection>, Bytes),
    /// It is gone.
    Closed(Remote),
}

/// Accepts connections until the shutdown.
pub(super) async fn accept(
    listener: std::net::TcpListener,
    connections: Arc<Connections>,
    incoming: mpsc::Sender<Incoming>,
    shutdown: Shutdown,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "ICE-TCP is not served"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                if let Some(connection) = admit(&connections, &stream, address) {
                    let task = serve(stream, connection, connections.clone(), incoming.clone());
                    shutdown.spawn(task);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a viewer's TCP connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(connections: &Connections, stream: &TcpStream, address: SocketAddr) -> Option<Arc<Connection>> {
    let local = stream.local_addr().ok().map(|local| local.ip());
    let connection = connections.admit(address, local)?;
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_send_buffer_size(KERNEL_BUFFER);
    Some(connection)
}

async fn serve(
    stream: TcpStream,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    incoming: mpsc::Sender<Incoming>,
) {
    let (reader, writer) = stream.into_split();
    let why = {
        let mut writing = std::pin::pin!(write(&connection, writer));
        tokio::select! {
            end = read(&connection, reader, &incoming) => end,
            end = &mut writing => end,
            () = connection.closed() => {
                let _ = timeout(GOODBYE, writing).await;
                End::Closed
            }
        }
    };
    if let End::Cut(cut) = why {
        connections.count(cut);
        tracing::debug!(remote = %connection.remote.address, ?cut, "a viewer's TCP connection was cut");
    }
    if let Some(id) = connection.remote.connection {
        connections.remove(id);
    }
    let _ = incoming.send(Incoming::Closed(connection.remote)).await;
}

enum End {
    /// By the peer, or by us in good order.
    Closed,
    Cut(Cut),
}

async fn read(connection: &Arc<Connection>, mut reader: OwnedReadHalf, incoming: &mpsc::Sender<Incoming>) -> End {
    let mut deframer = Deframer::default();
    let mut buffer = vec![0; READ];
    let prove_by = Instant::now() + PROVE_WITHIN;
    let mut heard = Instant::now();
    loop {
        let (by, cut) = if connection.is_proven() { (heard + SILENCE, Cut::Silent) } else { (prove_by, Cut::Unproven) };
        match timeout_at(by, reader.read(&mut buffer)).await {
            // The check may have been judged while we waited.
            Err(_) if cut == Cut::Unproven && connection.is_proven() => continue,
            Err(_) => return End::Cut(cut),
            Ok(Err(_) | Ok(0)) => return End::Closed,
            Ok(Ok(count)) => deframer.push(&buffer[..count]),
        }
        loop {
            match deframer.next_frame() {
                Ok(Some([])) => {}
                Ok(Some(frame)) => {
                    heard = Instant::now();
                    // A driver that is behind makes this connection wait, and by TCP its sender.
                    let datagram = Incoming::Datagram(connection.clone(), Bytes::copy_from_slice(frame));
                    if incoming.send(datagram).await.is_err() {
                        return End::Closed;
                    }
                }
                Ok(None) => break,
                Err(_) => return End::Cut(Cut::Malformed),
            }
        }
    }
}

async fn write(connection: &Connection, mut writer: OwnedWriteHalf) -> End {
    while let Some(bytes) = connection.next_bytes().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match timeout(STALL, writer.write(rest)).await {
                Err(_) => return End::Cut(Cut::Stalled),
                Ok(Err(_) | Ok(0)) => return End::Closed,
                Ok(Ok(count)) => {
                    connection.written(count);
                    rest = &rest[count..];
                }
            }
        }
    }
    let _: io::Result<()> = writer.shutdown().await;
    End::Closed
}
