//! UDP sockets with large buffers, batched receive and segmented send (GRO, GSO where the kernel has them).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Messages per receive call and bytes each can hold (a GRO train of up to 64 KiB).
const BATCH: usize = 16;
const MESSAGE_SIZE: usize = 65_536;
/// Receive calls per turn: other sockets and timers wait meanwhile.
const CALLS_PER_TURN: usize = 8;
/// Datagrams are copied out of the receive buffers into chunks of this size that packets share.
const CHUNK: usize = 64 << 10;
/// What a segmented send may hold at most (the kernel refuses more than a UDP datagram's length).
pub const MAX_RUN_BYTES: usize = 60_000;

/// Binds a non-blocking UDP socket. The kernel may clip the buffer sizes (bytes); that is no error.
///
/// # Errors
///
/// Names the address that cannot be bound.
pub fn bind(address: SocketAddr, receive_buffer: usize, send_buffer: usize) -> io::Result<std::net::UdpSocket> {
    bind_with(address, receive_buffer, send_buffer, |_| Ok(()))
}

/// The same for one family only: an IPv6 socket leaves IPv4 to another one on the same port.
///
/// # Errors
///
/// Names the address that cannot be bound.
pub fn bind_one_family(
    address: SocketAddr,
    receive_buffer: usize,
    send_buffer: usize,
) -> io::Result<std::net::UdpSocket> {
    bind_with(
        address,
        receive_buffer,
        send_buffer,
        |socket| {
            if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
        },
    )
}

fn bind_with(
    address: SocketAddr,
    receive_buffer: usize,
    send_buffer: usize,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<std::net::UdpSocket> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot bind UDP {address}: {e}"));
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(named)?;
    let _ = socket.set_recv_buffer_size(receive_buffer);
    let _ = socket.set_send_buffer_size(send_buffer);
    prepare(&socket).map_err(named)?;
    socket.bind(&address.into()).map_err(named)?;
    socket.set_nonblocking(true).map_err(named)?;
    Ok(socket.into())
}

/// A received datagram.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of ours that it was sent to, where the system tells.
    pub local_ip: Option<IpAddr>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A socket that tasks receive from. They wait for datagrams only: a socket that many frames leave by has room again after
/// each of them, and would wake its task as often.
pub struct BatchSocket {
    socket: AsyncFd<std::net::UdpSocket>,
    state: UdpSocketState,
    is_ipv4: bool,
}

impl BatchSocket {
    /// Takes over a non-blocking socket.
    ///
    /// # Errors
    ///
    /// The socket's options cannot be set, or there is no tokio runtime.
    #[expect(
        deprecated,
        reason = "what takes its place is unsafe, for descriptors that change; the standard library's stay"
    )]
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let is_ipv4 = socket.local_addr()?.is_ipv4();
        Ok(Self { socket: AsyncFd::with_interest(socket, Interest::READABLE)?, state, is_ipv4 })
    }

    /// Whether it is bound to an IPv4 address.
    pub fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    /// Whether there is something to read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_read_ready(cx).map(drop)
    }

    /// Resolves when there is something to read.
    pub async fn readable(&self) {
        std::future::poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Sends one datagram now or not at all.
    ///
    /// # Errors
    ///
    /// The socket's buffer is full, or an earlier send's ICMP error shows up.
    pub fn try_send(&self, to: SocketAddr, local_ip: Option<IpAddr>, bytes: &[u8]) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents: bytes, segment_size: None, src_ip: local_ip };
        self.state.try_send(self.socket.get_ref().into(), &transmit)
    }
}

/// Receive buffers, reused for every call.
pub struct BatchReceiver {
    buffers: Vec<u8>,
    chunk: BytesMut,
}

impl Default for BatchReceiver {
    fn default() -> Self {
        Self { buffers: vec![0; BATCH * MESSAGE_SIZE], chunk: BytesMut::new() }
    }
}

impl BatchReceiver {
    /// Appends what waits on `socket` to `received`, a bounded number of datagrams at a time.
    pub fn receive(&mut self, BatchSocket { socket, state, .. }: &BatchSocket, received: &mut Vec<Datagram>) {
        for _ in 0..CALLS_PER_TURN {
            let mut slices = self.buffers.chunks_exact_mut(MESSAGE_SIZE).map(IoSliceMut::new).collect::<Vec<_>>();
            let mut metas = [RecvMeta::default(); BATCH];
            let count =
                match socket.try_io(Interest::READABLE, |socket| state.recv(socket.into(), &mut slices, &mut metas)) {
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
                    let bytes = self.chunk.split().freeze();
                    received.push(Datagram { source: meta.addr, local_ip: meta.dst_ip, bytes });
                }
            }
        }
    }
}

/// The sending side of a socket, for threads; cheap to clone.
#[derive(Clone)]
pub struct RunSender(Arc<(std::net::UdpSocket, UdpSocketState)>);

impl RunSender {
    /// Takes over a non-blocking socket.
    ///
    /// # Errors
    ///
    /// The socket's options cannot be set.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self(Arc::new((socket, state))))
    }

    /// Sends `contents` as datagrams of `segment` bytes each, the last one possibly shorter. One system
    /// call where the kernel segments, else one per datagram.
    ///
    /// # Errors
    ///
    /// The socket's buffer is full (`WouldBlock`) or the network refuses; what was not sent is lost.
    pub fn send_run(
        &self,
        to: SocketAddr,
        local_ip: Option<IpAddr>,
        contents: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let (socket, state) = &*self.0;
        send_parts(
            contents,
            segment,
            || state.max_gso_segments(),
            |part, segment_size| {
                let transmit = Transmit { destination: to, ecn: None, contents: part, segment_size, src_ip: local_ip };
                state.try_send(socket.into(), &transmit)
            },
        )
    }
}

/// Hands a run to `send` in parts of at most as many datagrams as `most` says, which may change its mind after a refusal:
/// whether a kernel or a network card segments shows only when it is asked to.
fn send_parts(
    mut rest: &[u8],
    segment: usize,
    most: impl Fn() -> usize,
    mut send: impl FnMut(&[u8], Option<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let segment = segment.max(1);
    while !rest.is_empty() {
        let datagrams = most().min(MAX_RUN_BYTES / segment).max(1);
        let (part, after) = rest.split_at(rest.len().min(datagrams * segment));
        let segment_size = (part.len() > segment).then_some(segment);
        match send(part, segment_size) {
            Ok(()) => rest = after,
            Err(_) if segment_size.is_some() && most() < datagrams => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn local() -> std::net::UdpSocket {
        bind(SocketAddr::from(([127, 0, 0, 1], 0)), 256 * KIB, 256 * KIB).unwrap()
    }

    #[tokio::test]
    async fn a_run_arrives_as_single_datagrams_in_order() {
        let receiver = local();
        let to = receiver.local_addr().unwrap();
        let receiver = BatchSocket::new(receiver).unwrap();
        let contents: Vec<u8> = (0..1_250u32).map(|n| (n / 100) as u8).collect();
        RunSender::new(local()).unwrap().send_run(to, None, &contents, 100).unwrap();
        let (mut buffers, mut received) = (BatchReceiver::default(), Vec::new());
        while received.len() < 13 {
            receiver.readable().await;
            buffers.receive(&receiver, &mut received);
        }
        let sizes: Vec<_> = received.iter().map(|d| (d.bytes[0], d.bytes.len())).collect();
        let expected: Vec<_> = (0..13).map(|n| (n, if n < 12 { 100 } else { 50 })).collect();
        assert_eq!(sizes, expected);
    }

    #[test]
    fn what_the_kernel_does_not_segment_is_sent_one_by_one_and_nothing_twice() {
        let most = std::cell::Cell::new(64);
        let mut sent = Vec::new();
        let send = |part: &[u8], segment_size: Option<usize>| {
            if segment_size.is_some() {
                most.set(1);
                return Err(io::Error::from_raw_os_error(5));
            }
            sent.push(part.to_vec());
            Ok(())
        };
        let contents: Vec<u8> = (0..250u8).collect();
        send_parts(&contents, 100, || most.get(), send).unwrap();
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(sent.concat(), contents);
        // What is refused for another reason is not tried again.
        let mut calls = 0;
        let full = send_parts(
            &contents,
            100,
            || 64,
            |_, _| {
                calls += 1;
                Err(io::ErrorKind::WouldBlock.into())
            },
        );
        assert_eq!((full.unwrap_err().kind(), calls), (io::ErrorKind::WouldBlock, 1));
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = local();
        let error = bind(first.local_addr().unwrap(), KIB, KIB).unwrap_err().to_string();
        assert!(error.contains(&first.local_addr().unwrap().to_string()), "{error}");
    }
}
