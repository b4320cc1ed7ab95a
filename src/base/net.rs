//! Addresses of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The address of the interface that holds the IPv4 default route.
///
/// No packet is sent: connecting a UDP socket only makes the kernel choose a source address.
///
/// # Errors
///
/// There is no route out, for example on a machine with loopback only.
pub fn default_route_address() -> io::Result<IpAddr> {
    // TEST-NET-1 (RFC 5737): never assigned, so the default route decides.
    const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(ANYWHERE)?;
    Ok(socket.local_addr()?.ip())
}
