//! Which pages may talk to us: one rule for the API (CORS) and the signaling socket.

use std::sync::Arc;

/// Origins whose pages may read answers and open sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    /// `None`: any; the origin is echoed, because credentials forbid `*`.
    listed: Option<Arc<[String]>>,
    /// Ports of this process that serve pages.
    own_ports: Arc<[u16]>,
}

impl AllowedOrigins {
    /// All.
    pub fn any() -> Self {
        Self::default()
    }

    /// These, like `https://dashboard.example`, without a trailing slash, and our own.
    pub fn only(origins: impl Into<Arc<[String]>>) -> Self {
        Self { listed: Some(origins.into()), own_ports: Arc::default() }
    }

    /// Pages of these ports are our own, whatever name this machine goes by.
    #[must_use]
    pub fn with_own_ports(self, ports: impl Into<Arc<[u16]>>) -> Self {
        Self { own_ports: ports.into(), ..self }
    }

    /// Whether pages of `origin` are welcome. `host` is the request's `Host` header. Listed origins compare as
    /// bytes (RFC 6454 §5).
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        self.listed.is_none() || self.trusts(origin, host)
    }

    /// Whether `origin` is one of ours or was named by the operator: the stricter question, for requests whose
    /// cookie the browser added by itself.
    pub fn trusts(&self, origin: &str, host: Option<&str>) -> bool {
        let listed = self.listed.iter().any(|list| list.iter().any(|allowed| allowed == origin));
        listed || host.is_some_and(|host| self.is_own(origin, host))
    }

    /// The same name as in `Host`, and the same port or one of ours.
    fn is_own(&self, origin: &str, host: &str) -> bool {
        let (scheme, authority) = match origin.split_once("://") {
            Some((scheme @ ("http" | "https"), authority)) => (scheme, authority),
            _ => return false,
        };
        if authority.eq_ignore_ascii_case(host) {
            return true;
        }
        let standard = if scheme == "https" { 443 } else { 80 };
        let (name, port) = name_and_port(authority);
        let (host, host_port) = name_and_port(host);
        let port = port.unwrap_or(standard);
        name.eq_ignore_ascii_case(host) && (port == host_port.unwrap_or(standard) || self.own_ports.contains(&port))
    }
}

/// The parts of `name:port`; an IPv6 address stands in brackets.
fn name_and_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_and_own_origins_are_trusted_and_no_other() {
        let listed = AllowedOrigins::only(["https://dash.example".to_owned()]).with_own_ports([5000, 8080]);
        for (origin, host, trusted) in [
            ("https://dash.example", Some("192.168.1.5:8080"), true),
            ("https://dash.example", None, true),
            ("https://dash.example:444", Some("192.168.1.5:8080"), false),
            // The dashboard calls the API at the same machine.
            ("http://192.168.1.5:5000", Some("192.168.1.5:8080"), true),
            ("https://Cam.example:5000", Some("cam.example:8765"), true),
            ("http://[fd00::1]:5000", Some("[fd00::1]:8080"), true),
            ("http://192.168.1.5:5001", Some("192.168.1.5:8080"), false),
            ("http://192.168.1.6:5000", Some("192.168.1.5:8080"), false),
            // Everything under one name of a proxy.
            ("https://cam.example", Some("cam.example"), true),
            ("https://cam.example", Some("cam.example:443"), true),
            ("http://192.168.1.5:5000", None, false),
            ("null", Some("null"), false),
            ("file://x", Some("x"), false),
        ] {
            assert_eq!(listed.allows(origin, host), trusted, "{origin} {host:?}");
            let any = AllowedOrigins::any().with_own_ports([5000, 8080]);
            assert!(any.allows(origin, host));
            assert_eq!(any.trusts(origin, host), trusted && !origin.contains("dash"), "{origin} {host:?}");
        }
    }
}
