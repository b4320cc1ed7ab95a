//! What a camera says on MQTT: that it came, that it went, how it is (contract §2).

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::play::Kind;
use super::settings::SimSettings;
use crate::base::CameraId;
use crate::base::time::iso8601;
use crate::mqtt::topics::PLACEHOLDER;
use crate::mqtt::{Link, LinkSettings, LinkStatus, Message};

/// Time between two status messages.
const STATUS_INTERVAL: Duration = Duration::from_secs(600);
/// Wait before a message that was not acknowledged is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a camera may take to say good-bye.
const GOODBYE: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The camera's topics and what it tells of itself.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    camera: CameraId,
    commands: [(Kind, String); 3],
    connection: String,
    status: String,
    ip: Option<IpAddr>,
    started: Instant,
}

impl Presence {
    pub(super) fn new(settings: &SimSettings) -> Self {
        let (camera, topics) = (settings.camera, &settings.link.topics);
        Self {
            camera,
            commands: [
                (Kind::Play, fill(&topics.play, camera)),
                (Kind::Keepalive, fill(&topics.keepalive, camera)),
                (Kind::Stop, fill(&topics.stop, camera)),
            ],
            connection: fill(&topics.connection, camera),
            status: fill(&topics.status, camera),
            ip: own_address(settings),
            started: Instant::now(),
        }
    }

    pub(super) fn link_settings(&self, settings: &SimSettings) -> LinkSettings {
        LinkSettings {
            host: settings.link.host.clone(),
            port: settings.link.port,
            client_id_prefix: format!("sim-{}", &self.camera.as_str()[..8]),
            credentials: settings.link.credentials.clone(),
            tls: settings.link.tls.clone(),
            keep_alive: KEEP_ALIVE,
            subscriptions: self.commands.iter().map(|(_, topic)| topic.clone()).collect(),
            last_will: Some(self.message(&self.connection, &self.connection_payload("disconnected"))),
            birth: None,
        }
    }

    /// Which of the camera's topics this is.
    pub(super) fn kind(&self, topic: &str) -> Option<Kind> {
        self.commands.iter().find(|(_, own)| own == topic).map(|(kind, _)| *kind)
    }

    /// Says on every connection that the camera is there, and its status from time to time, while there is a link.
    pub(super) async fn run(self, link: Link) {
        let mut status = link.status();
        loop {
            if status.wait_for(LinkStatus::is_connected).await.is_err() {
                return;
            }
            self.publish(&link, &self.connection, || self.connection_payload("connected")).await;
            let mut next = Instant::now();
            while status.borrow().is_connected() {
                tokio::select! {
                    _ = status.wait_for(|status| !status.is_connected()) => break,
                    () = tokio::time::sleep_until(next) => {}
                }
                self.publish(&link, &self.status, || self.status_payload()).await;
                next += STATUS_INTERVAL;
            }
        }
    }

    /// What the broker says of a camera that vanished: an orderly end makes it forget the last will.
    pub(super) async fn goodbye(&self, link: &Link) {
        let message = self.message(&self.connection, &self.connection_payload("disconnected"));
        // The broker may be going down as well; nobody waits for it.
        let _ = tokio::time::timeout(GOODBYE, link.publish(message)).await;
    }

    /// Tries until the broker has it or the connection is gone.
    async fn publish(&self, link: &Link, topic: &str, payload: impl Fn() -> Value) {
        while let Err(error) = link.publish(self.message(topic, &payload())).await {
            tracing::debug!(camera = %self.camera, topic, %error, "not published");
            if !link.status().borrow().is_connected() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn message(&self, topic: &str, payload: &Value) -> Message {
        Message { topic: topic.to_owned(), payload: payload.to_string().into(), retain: false }
    }

    fn connection_payload(&self, status: &str) -> Value {
        let mut payload = json!({
            "status": status,
            "timestamp": iso8601(SystemTime::now()),
            "device": {
                "softwareVersion": env!("CARGO_PKG_VERSION"),
                "hardwareVersion": "simulated",
                "serialNumber": format!("SIM-{}", &self.camera.as_str()[..8]),
            },
        });
        if let Some(ip) = self.ip {
            payload["ipAddress"] = json!(ip);
        }
        payload
    }

    fn status_payload(&self) -> Value {
        let id = self.camera.as_str();
        // Locally administered, made of the id: several cameras have several.
        let mac = format!("02:00:{}:{}:{}:{}", &id[0..2], &id[2..4], &id[4..6], &id[6..8]);
        let mut ethernet = json!({"macAddress": mac, "linkStatus": "up"});
        if let Some(ip) = self.ip {
            ethernet["ipAddress"] = json!(ip);
        }
        json!({
            "status": "ok",
            "timestamp": iso8601(SystemTime::now()),
            "battery": {"level": 100, "charging": true},
            "radio": {"signalStrength": -55},
            "ethernet": ethernet,
            "temperature": 38.5,
            "uptime": self.started.elapsed().as_secs(),
        })
    }
}

/// The topic of one camera: the placeholder, or else the first `+`, is its id.
fn fill(text: &str, camera: CameraId) -> String {
    match text.contains(PLACEHOLDER) {
        true => text.replace(PLACEHOLDER, camera.as_str()),
        false => text.replacen('+', camera.as_str(), 1),
    }
}

/// The address that the media will come from, as far as that is certain: the server takes it for a promise.
///
/// With no address to bind to it is the one that leads to the broker, but not if that is on this machine:
/// the server may be addressed from outside all the same.
fn own_address(settings: &SimSettings) -> Option<IpAddr> {
    if !settings.bind.is_unspecified() {
        return Some(settings.bind);
    }
    // A name would have to be looked up, which takes its time: only addresses are tried.
    let host: IpAddr = settings.link.host.parse().ok()?;
    let socket = UdpSocket::bind((settings.bind, 0)).ok()?;
    socket.connect((host, settings.link.port)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::testing::CAMERA;
    use super::*;

    fn settings(bind: &str) -> SimSettings {
        let mut settings = SimSettings::new(CAMERA.parse().unwrap(), "127.0.0.1", 1883);
        settings.bind = bind.parse().unwrap();
        settings
    }

    #[tokio::test]
    async fn the_topics_are_those_of_the_contract() {
        let presence = Presence::new(&settings("192.0.2.7"));
        let kinds = [Kind::Play, Kind::Keepalive, Kind::Stop];
        for kind in kinds {
            let topic = format!("prod/honeycomb/{CAMERA}/stream/{}", kind.name());
            assert_eq!(presence.kind(&topic), Some(kind));
        }
        assert_eq!(presence.kind("prod/honeycomb/x/stream/play"), None);
        let link = presence.link_settings(&settings("192.0.2.7"));
        let will = link.last_will.unwrap();
        assert_eq!((will.topic, will.retain), (format!("prod/device/connection/hive-cam/{CAMERA}"), false));
        let payload: Value = serde_json::from_slice(&will.payload).unwrap();
        assert_eq!((&payload["status"], &payload["ipAddress"]), (&json!("disconnected"), &json!("192.0.2.7")));
        assert_eq!(presence.status, format!("prod/device/status/hive-cam/{CAMERA}"));
    }

    #[tokio::test]
    async fn an_address_that_is_not_certain_is_not_told() {
        let payload = Presence::new(&settings("0.0.0.0")).connection_payload("connected");
        assert_eq!(payload.get("ipAddress"), None);
        assert_eq!(payload["device"]["softwareVersion"], env!("CARGO_PKG_VERSION"));
    }
}
