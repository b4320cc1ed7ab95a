//! Combinations that cannot work, and files that cannot be read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::load::{Loaded, Problem};
use super::setting::PortRange;
use super::tree::EventConfig;
use crate::access::{Access, ApiKey, MIN_SECRET, TokenSettings};
use crate::mqtt::EventTopic;
use crate::mqtt::topics::{InvalidTopic, check_filter, check_template};
use crate::webhook;

/// Each may take some KiB of memory, and `GET /cameras` answers with all of them.
const MAX_KNOWN_CAMERAS: u32 = 100_000;

pub(super) fn check(loaded: &mut Loaded, problems: &mut Vec<Problem>) {
    let mut checker = Checker { loaded, problems };
    checker.ports();
    checker.ranges();
    checker.files();
    checker.port_range();
    checker.addresses();
    checker.access();
}

/// Why the camera store could not be opened, as far as it can be told without making the file or locking it: a service
/// may be running with it.
pub fn store_problem(loaded: &Loaded) -> Option<Problem> {
    let file = loaded.config.cameras.store.file()?;
    let found = match std::fs::OpenOptions::new().read(true).write(true).open(file) {
        Ok(_) if !file.is_file() => Err("is no file".to_owned()),
        Ok(mut open) => {
            let mut start = [0; STORE_MAGIC.len()];
            match std::io::Read::read_exact(&mut open, &mut start) {
                Ok(()) if start == *STORE_MAGIC => Ok(()),
                // An empty file is one that is still to be filled.
                Err(_) if open.metadata().is_ok_and(|file| file.len() == 0) => Ok(()),
                _ => Err("is no camera store, or damaged".to_owned()),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match std::fs::metadata(folder) {
                Ok(folder) if folder.is_dir() && !folder.permissions().readonly() => Ok(()),
                Ok(_) => Err("its folder cannot be written to".to_owned()),
                Err(error) => Err(format!("its folder: {error}")),
            }
        }
        Err(error) => Err(error.to_string()),
    };
    let key = "cameras.store";
    let text = format!("{}: {}", file.display(), found.err()?);
    Some(Problem { key: key.to_owned(), origin: Some(loaded.origin(key).clone()), text })
}

/// How files of redb begin.
const STORE_MAGIC: &[u8; 4] = b"redb";

struct Checker<'a> {
    loaded: &'a mut Loaded,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn wrong(&mut self, key: &str, text: String) {
        let origin = Some(self.loaded.origin(key).clone());
        self.problems.push(Problem { key: key.to_owned(), origin, text });
    }

    /// Two services cannot share a port of one protocol on overlapping addresses; port 0 never collides.
    fn ports(&mut self) {
        let c = &self.loaded.config;
        let mut tcp = vec![
            ("api.port", c.api.host, c.api.port),
            ("signaling.port", c.signaling.host, c.signaling.port),
            ("dashboard.port", c.dashboard.host, c.dashboard.port),
        ];
        if c.mqtt.embedded {
            tcp.push(("mqtt.embedded_bind", c.mqtt.embedded_bind.ip(), c.mqtt.embedded_bind.port()));
        }
        if c.viewers.ice_tcp {
            tcp.push(("viewers.udp_port", c.viewers.host, c.viewers.udp_port));
        }
        let udp = vec![
            ("media.video_port", c.media.host, c.media.video_port),
            ("media.rtcp_port", c.media.host, c.media.rtcp_port),
            ("media.audio_port", c.media.host, c.media.audio_port),
            ("viewers.udp_port", c.viewers.host, c.viewers.udp_port),
        ];
        for services in [tcp, udp] {
            for (index, (key, host, port)) in services.iter().enumerate() {
                let overlaps = |other: &IpAddr| other == host || other.is_unspecified() || host.is_unspecified();
                let taken = services[..index].iter().find(|(_, h, p)| *port != 0 && p == port && overlaps(h));
                if let Some((other, ..)) = taken {
                    let from = self.loaded.origin(other).to_string();
                    self.wrong(key, format!("port {port} is also that of {other} ({from})"));
                }
            }
        }
    }

    fn ranges(&mut self) {
        let c = self.loaded.config.clone();
        let (low, high) = (c.media.min_bandwidth, c.media.max_bandwidth);
        if low > high {
            let from = self.loaded.origin("media.max_bandwidth").to_string();
            self.wrong(
                "media.min_bandwidth",
                format!("{low} kbit/s is more than media.max_bandwidth, {high} ({from})"),
            );
        }
        if low == 0 {
            self.wrong("media.min_bandwidth", "must be at least 1 kbit/s".into());
        }
        if c.streams.keepalive_interval < Duration::from_millis(100) {
            self.wrong("streams.keepalive_interval", "must be at least 0.1 s".into());
        }
        if c.viewers.connect_timeout.is_zero() {
            self.wrong("viewers.connect_timeout", "must be more than 0".into());
        }
        if c.streams.start_timeout.is_zero() {
            self.wrong("streams.start_timeout", "must be more than 0".into());
        }
        for (key, url) in [("viewers.stun_server", &c.viewers.stun_server), ("viewers.turn_url", &c.viewers.turn_url)] {
            if url.as_ref().is_some_and(|url| url.contains("//") || url.contains(char::is_whitespace)) {
                self.wrong(key, "must look like stun:host:3478 or turn:host:3478".into());
            }
        }
        if c.viewers.turn_url.is_some()
            && (c.viewers.turn_username.is_none() || c.viewers.turn_password.reveal().is_none())
        {
            self.wrong("viewers.turn_url", "needs viewers.turn_username and viewers.turn_password".into());
        }
        if !(1..=MAX_KNOWN_CAMERAS).contains(&c.cameras.max_known) {
            self.wrong("cameras.max_known", format!("must be 1 to {MAX_KNOWN_CAMERAS}"));
        }
        let topics = &c.mqtt.topics;
        for (key, text) in [
            ("mqtt.topics.play", &topics.play),
            ("mqtt.topics.keepalive", &topics.keepalive),
            ("mqtt.topics.stop", &topics.stop),
        ] {
            self.topic(key, check_template(text));
        }
        for (key, text) in [
            ("mqtt.topics.connection", &topics.connection),
            ("mqtt.topics.status", &topics.status),
            ("mqtt.topics.state", &topics.state),
            ("mqtt.topics.activity", &topics.activity),
        ] {
            self.topic(key, check_filter(text));
        }
        let service = &topics.service;
        if service.is_empty() || service.contains(['+', '#']) {
            self.wrong("mqtt.topics.service", "must be a topic without + and #".into());
        }
        self.events(&c.events);
        if cfg!(not(feature = "embedded-broker")) && c.mqtt.embedded {
            self.wrong("mqtt.embedded", "this binary was built without the embedded broker".into());
        }
    }

    fn events(&mut self, events: &EventConfig) {
        if let Some(topic) = &events.mqtt_topic
            && let Err(error) = EventTopic::new(topic, &events.node())
        {
            self.wrong("events.mqtt_topic", error.to_string());
        }
        if let Some(url) = &events.webhook_url {
            if let Err(error) = url.parse::<webhook::Target>() {
                self.wrong("events.webhook_url", error.to_string());
            }
            match events.webhook_secret.reveal().map(webhook::Secret::new) {
                Some(Ok(_)) => {}
                Some(Err(error)) => self.wrong("events.webhook_secret", error.to_string()),
                None => self.wrong("events.webhook_url", "needs events.webhook_secret".into()),
            }
        }
    }

    fn topic(&mut self, key: &str, checked: Result<(), InvalidTopic>) {
        if let Err(error) = checked {
            self.wrong(key, error.to_string());
        }
    }

    fn files(&mut self) {
        let c = self.loaded.config.clone();
        self.pair(("tls.certificate", &c.tls.certificate), ("tls.key", &c.tls.key));
        self.pair(("mqtt.client_cert", &c.mqtt.client_cert), ("mqtt.client_key", &c.mqtt.client_key));
        if let Some(path) = &c.mqtt.ca_cert {
            self.certificates("mqtt.ca_cert", path);
        }
    }

    /// A certificate and its key: both or none, and both readable.
    fn pair(&mut self, certificate: (&str, &Option<PathBuf>), key: (&str, &Option<PathBuf>)) {
        match (certificate.1, key.1) {
            (Some(_), None) => self.wrong(certificate.0, format!("needs {}", key.0)),
            (None, Some(_)) => self.wrong(key.0, format!("needs {}", certificate.0)),
            _ => {}
        }
        if let Some(path) = certificate.1 {
            self.certificates(certificate.0, path);
        }
        if let Some(path) = key.1
            && let Err(error) = PrivateKeyDer::from_pem_file(path)
        {
            let why = match error {
                pem::Error::NoItemsFound => "holds no unencrypted PEM private key (PKCS#8, PKCS#1 or SEC1)".into(),
                other => other.to_string(),
            };
            self.wrong(key.0, format!("{}: {why}", path.display()));
        }
    }

    fn certificates(&mut self, key: &str, path: &Path) {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(found) if found.is_empty() => self.wrong(key, format!("{}: holds no certificate", path.display())),
            Ok(_) => {}
            Err(error) => self.wrong(key, format!("{}: {error}", path.display())),
        }
    }

    /// Names and addresses that nobody could be told.
    fn addresses(&mut self) {
        let c = self.loaded.config.clone();
        for (key, ip) in [("network.external_ip", c.network.external_ip), ("network.local_ip", c.network.local_ip)] {
            if ip.is_some_and(|ip| {
                ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
            }) {
                self.wrong(key, "must be the address of one machine: cameras and viewers send to it".into());
            }
        }
        if c.mqtt.host.contains(['/', ' ', '@']) || c.mqtt.host.matches(':').count() == 1 {
            self.wrong("mqtt.host", "must be a host name or address alone; the port is mqtt.port".into());
        }
        if c.mqtt.port == 0 && !c.mqtt.embedded {
            self.wrong("mqtt.port", "must be the broker's: only a port to listen on can be left to the system".into());
        }
        for (key, url, schemes) in [
            ("api.public_url", &c.api.public_url, ["http://", "https://"]),
            ("signaling.public_url", &c.signaling.public_url, ["ws://", "wss://"]),
        ] {
            let usable = |url: &String| {
                schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
                    && !url.contains([' ', '?', '#'])
            };
            if url.as_ref().is_some_and(|url| !usable(url)) {
                self.wrong(key, format!("must begin with {} and have no query", schemes.join(" or ")));
            }
        }
        for (key, value) in [
            ("limits.connections", c.limits.connections),
            ("limits.connections_per_client", c.limits.connections_per_client),
        ] {
            if value == 0 {
                self.wrong(key, "must be at least 1".into());
            }
        }
    }

    /// Access control is never on without anything that could be let in, and never half on.
    fn access(&mut self) {
        let auth = self.loaded.config.auth.clone();
        for entry in &auth.api_keys {
            if let Err(error) = entry.parse::<ApiKey>() {
                self.wrong("auth.api_keys", error.to_string());
            }
        }
        let secret = auth.jwt_secret.reveal();
        if auth.enabled && secret.is_some_and(|secret| secret.len() < MIN_SECRET) {
            self.wrong("auth.jwt_secret", format!("must have at least {MIN_SECRET} bytes (RFC 7518)"));
        }
        if let Some(path) = &auth.jwt_key_set {
            match std::fs::read_to_string(path) {
                Err(error) => self.wrong("auth.jwt_key_set", format!("{}: {error}", path.display())),
                Ok(text) => {
                    let tokens = TokenSettings { key_set: Some(text), ..TokenSettings::default() };
                    if let Err(error) = Access::new(Vec::new(), &tokens) {
                        self.wrong("auth.jwt_key_set", format!("{}: {error}", path.display()));
                    }
                }
            }
        }
        if auth.enabled && secret.is_none() && auth.jwt_key_set.is_none() && auth.api_keys.is_empty() {
            self.wrong(
                "auth.enabled",
                "needs auth.jwt_secret, auth.jwt_key_set or auth.api_keys, or nobody could do anything".into(),
            );
        }
    }

    /// The pool holds at least three ports, and none that another part binds.
    fn port_range(&mut self) {
        let (media, viewers) = (&self.loaded.config.media, &self.loaded.config.viewers);
        let Some(PortRange { first, last }) = media.port_range else { return };
        let taken = [
            ("media.video_port", media.video_port),
            ("media.rtcp_port", media.rtcp_port),
            ("media.audio_port", media.audio_port),
            ("viewers.udp_port", viewers.udp_port),
        ];
        if u32::from(first).next_multiple_of(2) + 2 > u32::from(last) {
            self.wrong("media.port_range", "must hold an even port and the two above it".into());
        } else if let Some((key, port)) = taken.into_iter().find(|(_, port)| (first..=last).contains(port)) {
            self.wrong("media.port_range", format!("must not hold port {port}, which is that of {key}"));
        }
    }
}
