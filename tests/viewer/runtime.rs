//! Tokio for the crate, but one datagram at a time.
//!
//! The crate takes all waiting datagrams before it looks at what the first of them has led to, so that media right
//! behind the end of the DTLS handshake finds no keys yet and is dropped. Browsers keep the order.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::ReadBuf;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, Transmit,
    default_runtime,
};

type Pinned<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[derive(Debug)]
pub(crate) struct OneByOne(Arc<dyn Runtime>);

impl OneByOne {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(default_runtime().unwrap()))
    }
}

impl Runtime for OneByOne {
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Socket(tokio::net::UdpSocket::from_std(socket)?)))
    }

    fn spawn(&self, future: Pinned<'static, ()>) -> Box<dyn JoinHandle> {
        self.0.spawn(future)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.0.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Pinned<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.0.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Pinned<'a, io::Result<Vec<SocketAddr>>> {
        self.0.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pinned<'static, ()> {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.0.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.0.block_on(future);
    }
}

#[derive(Debug)]
struct Socket(tokio::net::UdpSocket);

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_send_to(cx, transmit.contents, transmit.destination)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // How the crate looks for more after a first datagram.
        if cx.waker().will_wake(Waker::noop()) {
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(&mut buffers[0]);
        self.0.poll_recv_from(cx, &mut buffer).map_ok(|from| {
            let length = buffer.filled().len();
            meta[0] = RecvMeta::default();
            (meta[0].addr, meta[0].len, meta[0].stride) = (from, length, length.max(1));
            1
        })
    }
}
