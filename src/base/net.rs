//! Addresses of this machine, TCP listeners on them, and lists of networks.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
pub const BACKLOG: i32 = 1_024;

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

/// Where Linux lists the IPv6 addresses of all interfaces.
const IPV6_LIST: &str = "/proc/net/if_inet6";
/// More would make every answer longer, and every browser try them all.
const MAX_IPV6: usize = 4;

/// The machine's IPv6 addresses that others can reach: global and unique local ones (RFC 4193), never link-local or
/// loopback ones, nor those that are about to go. At most four, the stable ones first.
pub fn ipv6_addresses() -> Vec<Ipv6Addr> {
    match std::fs::read_to_string(IPV6_LIST) {
        Ok(list) => listed(&list),
        Err(_) => default_route_ipv6().into_iter().collect(),
    }
}

fn default_route_ipv6() -> Option<Ipv6Addr> {
    // The documentation prefix (RFC 3849): never assigned, so the default route decides.
    const ANYWHERE: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9);
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ANYWHERE).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(address) if is_reachable(&address) => Some(address),
        _ => None,
    }
}

/// `address interface prefix scope flags name`, all but the name in hex.
fn listed(list: &str) -> Vec<Ipv6Addr> {
    const TEMPORARY: u8 = 0x01;
    /// Failed duplicate detection, deprecated, tentative: not to be used, or not for long.
    const UNUSABLE: u8 = 0x08 | 0x20 | 0x40;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, _, flags, ..] = words[..] else { return None };
        let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (flags & UNUSABLE == 0 && is_reachable(&address)).then_some((flags & TEMPORARY != 0, address))
    };
    let mut found: Vec<(bool, Ipv6Addr)> = list.lines().filter_map(line).collect();
    found.sort_by_key(|(temporary, _)| *temporary);
    found.dedup();
    found.into_iter().map(|(_, address)| address).take(MAX_IPV6).collect()
}

/// Global unicast (2000::/3) or unique local (fc00::/7).
fn is_reachable(address: &Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000 || address.is_unique_local()
}

/// Listens on TCP, non-blocking; IPv6 for itself, so that IPv4 can have a listener on the same port.
///
/// # Errors
///
/// Names the address that cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on TCP {address}: {e}"));
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of a process before this one may linger in TIME-WAIT.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(named)
}

/// Whether `ip` is private, loopback or link-local (RFC 1918, RFC 3927, RFC 4193, RFC 4291).
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// A list of networks: CIDRs, addresses, or dotted prefixes such as `192.168.1.`, with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    networks: Vec<(IpAddr, u8)>,
    text: String,
}

impl Networks {
    /// Whether there is no network in it.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether `ip` is in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|(network, bits)| match (network, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(*bits);
                network.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(*bits);
                network.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            _ => false,
        })
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let networks = parts.map(network).collect::<Result<_, _>>()?;
        Ok(Self { networks, text: text.trim().to_owned() })
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("{text:?} is neither a CIDR like 192.168.0.0/16 nor a prefix like 192.168.1.");
    if let Some((ip, bits)) = text.split_once('/') {
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let widest = if ip.is_ipv4() { 32 } else { 128 };
        return if bits <= widest { Ok((ip, bits)) } else { Err(wrong()) };
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((ip, if ip.is_ipv4() { 32 } else { 128 }));
    }
    let octets: Vec<&str> = text.trim_end_matches('.').split('.').collect();
    let mut bytes = [0u8; 4];
    if octets.len() > 3 {
        return Err(wrong());
    }
    for (byte, octet) in bytes.iter_mut().zip(&octets) {
        *byte = octet.parse().map_err(|_| wrong())?;
    }
    Ok((IpAddr::from(bytes), 8 * octets.len() as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_reach_are_listed_the_stable_ones_first() {
        let list = "fd000000000000000000000000000002 04 40 00 82     eth0\n\
                    20010db8000000000000000000000001 02 40 00 01     eth1\n\
                    20010db8000000000000000000000002 02 40 00 80     eth1\n\
                    20010db8000000000000000000000003 02 40 00 20     eth1\n\
                    20010db8000000000000000000000004 02 40 00 c0     eth1\n\
                    fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n\
                    ff020000000000000000000000000001 01 80 10 80       lo\n\
                    garbage\n\nzz 1 2 3 4 5\n";
        let expected: Vec<Ipv6Addr> =
            ["fd00::2", "2001:db8::2", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(listed(list), expected);
        let many: String = (1..=9).map(|n| format!("20010db800000000000000000000000{n} 02 40 00 80 eth0\n")).collect();
        assert_eq!(listed(&many).len(), MAX_IPV6);
    }

    #[test]
    fn what_the_machine_says_of_itself_is_never_link_local_or_loopback() {
        assert!(ipv6_addresses().iter().all(is_reachable));
    }
}
