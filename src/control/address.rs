//! Which address goes into a camera's SDP (contract §3).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Decides whether an address is inside `LOCAL_NETWORK_PREFIX`.
pub type IsLocal = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The two addresses of this server and the rule that chooses between them.
#[derive(Clone)]
pub struct AddressRule {
    /// For cameras on the local network (`LOCAL_IP`).
    pub local_ip: IpAddr,
    /// For everybody else (`EXTERNAL_IP`).
    pub external_ip: IpAddr,
    /// What counts as local.
    pub is_local: IsLocal,
}

impl AddressRule {
    /// The address that a camera must send to.
    ///
    /// The camera's own address decides where it is known, else the address of the HTTP client that asked
    /// for the stream, as in the old service. Where neither is known the external address is the one that
    /// can be reached from anywhere.
    pub fn for_camera(&self, camera: Option<IpAddr>, client: Option<IpAddr>) -> IpAddr {
        // A dual-stack listener reports IPv4 peers as ::ffff:a.b.c.d.
        match camera.or(client).map(|ip| ip.to_canonical()) {
            Some(ip) if (self.is_local)(ip) => self.local_ip,
            _ => self.external_ip,
        }
    }

    /// The address that the packets of a camera come from that believes to have `camera`, or `None` where
    /// that says nothing: a private address outside the local network is behind a NAT.
    pub fn source_of(&self, camera: IpAddr) -> Option<IpAddr> {
        let ip = camera.to_canonical();
        let hidden = match ip {
            // Shared address space (RFC 6598) is that of providers' NATs.
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                ip.is_private() || ip.is_link_local() || (first == 100 && second & 0xc0 == 64)
            }
            IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
        };
        (!hidden || (self.is_local)(ip)).then_some(ip)
    }
}

impl fmt::Debug for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressRule")
            .field("local_ip", &self.local_ip)
            .field("external_ip", &self.external_ip)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> AddressRule {
        AddressRule {
            local_ip: "192.168.1.10".parse().unwrap(),
            external_ip: "203.0.113.7".parse().unwrap(),
            is_local: Arc::new(|ip| matches!(ip, IpAddr::V4(ip) if ip.octets()[..3] == [192, 168, 1])),
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_cameras_own_address_wins_over_the_clients() {
        assert_eq!(rule().for_camera(ip("192.168.1.50"), ip("198.51.100.1")), rule().local_ip);
        assert_eq!(rule().for_camera(ip("198.51.100.1"), ip("192.168.1.50")), rule().external_ip);
    }

    #[test]
    fn the_clients_address_decides_for_an_unknown_camera() {
        assert_eq!(rule().for_camera(None, ip("192.168.1.2")), rule().local_ip);
        assert_eq!(rule().for_camera(None, ip("198.51.100.1")), rule().external_ip);
    }

    #[test]
    fn a_private_address_outside_the_local_network_does_not_tell_where_packets_come_from() {
        for (camera, source) in [
            ("192.168.1.50", ip("192.168.1.50")),
            ("::ffff:192.168.1.50", ip("192.168.1.50")),
            ("192.168.7.50", None),
            ("10.0.0.3", None),
            ("100.64.0.3", None),
            ("fd00::3", None),
            ("198.51.100.1", ip("198.51.100.1")),
            ("2001:db8::3", ip("2001:db8::3")),
        ] {
            assert_eq!(rule().source_of(camera.parse().unwrap()), source, "{camera}");
        }
    }

    #[test]
    fn nothing_known_means_the_external_address() {
        assert_eq!(rule().for_camera(None, None), rule().external_ip);
    }

    #[test]
    fn an_ipv4_client_on_a_dual_stack_socket_counts_as_ipv4() {
        assert_eq!(rule().for_camera(None, ip("::ffff:192.168.1.2")), rule().local_ip);
    }
}
