//! The way to the broker: the embedded one if configured, the link, and what crosses it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::StartError;
use crate::base::{Shutdown, time::iso8601};
use crate::config::{Config, EventConfig, MqttConfig};
use crate::control::{BrokerStatus, CameraCommand, CameraMessage, Control};
use crate::mqtt::{
    CameraLinkCounters, EventCounters, EventTopic, Link, LinkSettings, LinkStatus, Message, TlsSettings, TopicSettings,
    Topics, camera_link, events, fill_node,
};
use crate::telemetry::metrics::Collect;

/// The broker is asked this often whether it lives. A half-open connection shows within one and a half of it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The last word; a broker that does not take it in time learns it from the will.
const GOODBYE: Duration = Duration::from_millis(200);

/// What the rest of the process has of the broker.
pub(super) struct Broker {
    link: Link,
    service_topic: String,
    events: Arc<EventCounters>,
    /// Stops the link and the embedded broker.
    stage: Shutdown,
    embedded_stage: Shutdown,
    pub(super) embedded: Option<SocketAddr>,
    pub(super) status: watch::Receiver<BrokerStatus>,
    counters: Arc<CameraLinkCounters>,
}

impl Broker {
    /// Starts the embedded broker where configured, and the link. A broker that cannot be reached is no error.
    pub(super) async fn start(
        config: &Config,
        commands: mpsc::Receiver<CameraCommand>,
        messages: mpsc::Sender<CameraMessage>,
    ) -> Result<Self, StartError> {
        let (stage, embedded_stage) = (Shutdown::new(), Shutdown::new());
        let mqtt = &config.mqtt;
        let topics = Topics::new(&topic_settings(mqtt)).map_err(|error| StartError::Broker(error.to_string()))?;
        let embedded = if mqtt.embedded { Some(embedded(mqtt, &embedded_stage).await?) } else { None };
        let settings = link_settings(config, embedded, &topics);
        let (link, inbound) = Link::start(settings, &stage).map_err(|error| StartError::Broker(error.to_string()))?;
        let status = forward_status(&link, &stage);
        let counters = Arc::new(CameraLinkCounters::default());
        stage.spawn(camera_link::run(
            link.clone(),
            topics,
            commands,
            inbound,
            messages,
            stage.clone(),
            counters.clone(),
        ));
        let service_topic = service_topic(config);
        Ok(Self { link, service_topic, events: Arc::default(), stage, embedded_stage, embedded, status, counters })
    }

    /// Publishes what happens to cameras, where configured.
    ///
    /// # Errors
    ///
    /// The topic cannot be used.
    pub(super) fn tell_events(&self, config: &EventConfig, control: Control) -> Result<(), StartError> {
        let Some(template) = &config.mqtt_topic else { return Ok(()) };
        let topic = EventTopic::new(template, &config.node()).map_err(|error| StartError::Broker(error.to_string()))?;
        let (link, counters, stage) = (self.link.clone(), self.events.clone(), self.stage.clone());
        self.stage.spawn(async move { events::run(link, topic, control, &counters, stage).await });
        Ok(())
    }

    /// What crossed the link, for metrics.
    pub(super) fn metrics(&self) -> [Arc<dyn Collect>; 3] {
        [Arc::new(self.link.clone()), self.counters.clone(), self.events.clone()]
    }

    /// Says goodbye and ends the link, then the embedded broker.
    pub(super) async fn stop(&self) {
        // An orderly DISCONNECT makes the broker forget the will, so it is said here.
        let goodbye = self.link.publish(service_status(&self.service_topic, "offline"));
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        for stage in [&self.stage, &self.embedded_stage] {
            stage.request();
            stage.drained().await;
        }
    }
}

#[cfg(feature = "embedded-broker")]
async fn embedded(mqtt: &MqttConfig, shutdown: &Shutdown) -> Result<SocketAddr, StartError> {
    use crate::mqtt::{BrokerSettings, EmbeddedBroker};
    let users: Vec<_> = credentials(mqtt).into_iter().collect();
    let settings = BrokerSettings { bind: mqtt.embedded_bind, anonymous: users.is_empty(), users };
    let broker = EmbeddedBroker::start(settings, shutdown).await;
    broker.map(|broker| broker.local_addr()).map_err(|error| StartError::Broker(error.to_string()))
}

#[cfg(not(feature = "embedded-broker"))]
async fn embedded(_: &MqttConfig, _: &Shutdown) -> Result<SocketAddr, StartError> {
    Err(StartError::Broker("this binary was built without the embedded broker".into()))
}

pub(super) fn credentials(mqtt: &MqttConfig) -> Option<(String, String)> {
    let password = mqtt.password.reveal().unwrap_or_default().to_owned();
    mqtt.username.clone().map(|user| (user, password))
}

pub(super) fn topic_settings(mqtt: &MqttConfig) -> TopicSettings {
    let topics = mqtt.topics.clone();
    TopicSettings {
        play: topics.play,
        keepalive: topics.keepalive,
        stop: topics.stop,
        connection: topics.connection,
        status: topics.status,
        state: topics.state,
        activity: topics.activity,
    }
}

fn link_settings(config: &Config, embedded: Option<SocketAddr>, topics: &Topics) -> LinkSettings {
    let mqtt = &config.mqtt;
    let status = service_topic(config);
    let (host, port, tls) = match embedded {
        Some(address) => (reachable(address.ip()).to_string(), address.port(), None),
        None => (mqtt.host.clone(), mqtt.port, link_tls(mqtt)),
    };
    LinkSettings {
        host,
        port,
        client_id_prefix: mqtt.client_id.clone(),
        credentials: credentials(mqtt),
        tls,
        keep_alive: KEEP_ALIVE,
        subscriptions: topics.subscriptions(),
        last_will: Some(service_status(&status, "offline")),
        birth: Some(service_status(&status, "online")),
    }
}

/// Where a listener on `ip` is reached from this machine.
pub(super) fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip }
}

/// How the link is secured, where it is.
pub(super) fn link_tls(mqtt: &MqttConfig) -> Option<TlsSettings> {
    mqtt.uses_tls().then(|| TlsSettings {
        ca: mqtt.ca_cert.clone(),
        client_cert: mqtt.client_cert.clone(),
        client_key: mqtt.client_key.clone(),
        server_name: mqtt.tls_server_name.clone(),
        verify_hostname: mqtt.tls_verify_hostname,
    })
}

/// Where this process says whether it is there.
fn service_topic(config: &Config) -> String {
    fill_node(&config.mqtt.topics.service, &config.events.node())
}

fn service_status(topic: &str, status: &str) -> Message {
    let payload = json!({
        "status": status,
        "timestamp": iso8601(SystemTime::now()),
        "version": env!("CARGO_PKG_VERSION"),
    });
    Message { topic: topic.to_owned(), payload: payload.to_string().into(), retain: true }
}

/// The link's status in the words of the control plane.
fn forward_status(link: &Link, stage: &Shutdown) -> watch::Receiver<BrokerStatus> {
    let mut from = link.status();
    let translate = |status: &LinkStatus| match status {
        LinkStatus::Connected => BrokerStatus::Connected,
        LinkStatus::Disconnected { reason, .. } => BrokerStatus::Disconnected { reason: reason.clone() },
    };
    let first = translate(&from.borrow_and_update());
    let (to, status) = watch::channel(first);
    let stopping = stage.clone();
    stage.spawn(async move {
        loop {
            tokio::select! {
                changed = from.changed() => if changed.is_err() { return },
                () = stopping.requested() => return,
            }
            to.send_replace(translate(&from.borrow_and_update()));
        }
    });
    status
}
