//! Combinations that cannot work, and files that cannot be read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::load::{Loaded, Problem};
use super::setting::PortRange;
use super::tree::EventConfig;
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
    checker.not_built_yet();
}

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
            self.wrong(key.0, format!("{}: {error}", path.display()));
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

    /// What the old service had and this version has not. Access control is never silently left out.
    fn not_built_yet(&mut self) {
        if self.loaded.config.auth.enabled {
            self.wrong(
                "auth.enabled",
                "this version has no access control yet and will not start pretending it has".into(),
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
