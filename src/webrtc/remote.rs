//! Where a peer's datagrams come from and go to.

use std::net::SocketAddr;

/// A TCP connection of the viewer port (RFC 6544); numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// An address of a peer by UDP, or one TCP connection with it. The same address and port by UDP and by TCP are
/// two: ICE proves each for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The peer's address.
    pub address: SocketAddr,
    /// The connection; `None` is UDP.
    pub connection: Option<ConnectionId>,
}

impl Remote {
    /// The peer's port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// An address alone means UDP.
impl<A: Into<SocketAddr>> From<A> for Remote {
    fn from(address: A) -> Self {
        Self { address: address.into(), connection: None }
    }
}
