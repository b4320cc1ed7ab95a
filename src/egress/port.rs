//! The viewer port: one number for UDP and TCP, IPv4 and IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use super::tcp_connections::TcpCounters;
use crate::base::{net, udp};
use crate::webrtc::SessionCounters;

/// Keyframes to thousands of viewers at once must fit; the kernel may grant less.
const SEND_BUFFER: usize = 8 << 20;
/// Feedback and handshakes of all viewers.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A port that the system chose for one socket may be taken for another.
const ATTEMPTS: usize = 16;

/// What the port speaks besides UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortOptions {
    /// ICE-TCP (RFC 6544) on the same number.
    pub tcp: bool,
    /// IPv6 as well, where the machine has it and the address to bind is the unspecified one.
    pub ipv6: bool,
}

/// Datagrams on the viewer port that had no effect, by reason, and what became of TCP connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// From addresses that no session knows, and no check that names one.
    pub stranger: u64,
    /// What sessions had no use for.
    pub sessions: SessionCounters,
    /// TCP.
    pub tcp: TcpCounters,
}

/// The viewer port, bound but not yet served.
pub struct ViewerPort {
    /// One a family.
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

impl ViewerPort {
    /// Binds the port of all viewers; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// Names the address that cannot be bound.
    pub fn bind(address: SocketAddr, options: PortOptions) -> io::Result<Self> {
        let mut attempts = if address.port() == 0 { ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::try_bind(address, options) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                bound => return bound,
            }
        }
    }

    fn try_bind(address: SocketAddr, options: PortOptions) -> io::Result<Self> {
        let everywhere = address.ip().is_unspecified();
        let first = if everywhere { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { address.ip() };
        let first = udp::bind_one_family(SocketAddr::new(first, address.port()), RECEIVE_BUFFER, SEND_BUFFER)?;
        let port = first.local_addr()?.port();
        let mut bound = Self { udp: vec![first], tcp: Vec::new() };
        if everywhere && options.ipv6 {
            let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
            match udp::bind_one_family(address, RECEIVE_BUFFER, SEND_BUFFER) {
                Ok(socket) => bound.udp.push(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
                // A machine without IPv6.
                Err(error) => tracing::debug!(%error, "viewers are not served by IPv6"),
            }
        }
        if options.tcp {
            for socket in &bound.udp {
                bound.tcp.push(net::listen(socket.local_addr()?)?);
            }
        }
        Ok(bound)
    }

    /// The port really bound.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn port(&self) -> io::Result<u16> {
        self.udp.first().ok_or(io::ErrorKind::NotConnected)?.local_addr().map(|address| address.port())
    }

    /// Whether viewers can come to addresses of this kind.
    pub(super) fn serves(&self, ip: IpAddr) -> bool {
        self.udp.iter().any(|socket| socket.local_addr().is_ok_and(|local| local.is_ipv4() == ip.is_ipv4()))
    }
}
