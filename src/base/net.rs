//! Addresses of this machine, and lists of networks.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::str::FromStr;

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
