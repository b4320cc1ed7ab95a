//! The running service: its parts, built bottom-up and drained top-down.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::access::{self, AccessWatch, ReloadState};
use super::broker::Broker;
use super::listeners::Listeners;
use crate::access::{Access, ClientLimits, ConnectionLimits, Connections};
use crate::base::net::ipv6_addresses;
use crate::base::{AllowedOrigins, Shutdown, cores, files};
use crate::config::{Config, EventConfig, Loaded, NetworkConfig, RembPolicy, ViewerConfig};
use crate::control::{self, AddressRule, BrokerStatus, CameraStore, Control, Parts, Settings, Timing};
use crate::egress::{self, EgressHandle, EgressSettings};
use crate::http::{self, ApiSettings, IceServer, MetricsSources, PageSettings, Readiness, Transport};
use crate::ingest::{IngestHandle, IngestSettings};
use crate::signaling::{self, SignalingSettings};
use crate::telemetry::metrics::{Collect, Page, catalog, waiting};
use crate::webhook::{self, WebhookCounters, WebhookSettings};

/// Events and messages between two parts that may wait. What does not fit is dropped and counted by its
/// sender, or makes it wait.
const QUEUE: usize = 1_024;
/// From the request to stop to the end of the process (two seconds by contract with the operator).
const STOP_WITHIN: Duration = Duration::from_millis(1_850);
/// Pages that are told about the end get this long to take it.
const EDGES_WITHIN: Duration = Duration::from_millis(300);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be had.
    #[error("{key}: cannot listen on {address}")]
    Bind {
        /// The key that names it.
        key: &'static str,
        /// Address and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The listeners' certificate cannot be used.
    #[error("tls.certificate, tls.key: {0}")]
    Certificate(io::Error),
    /// Keys or the key set cannot be used.
    #[error("{0}")]
    Access(String),
    /// The camera store cannot be used.
    #[error("cameras.store: {0}")]
    Store(String),
    /// The broker's settings cannot be used, or the embedded broker cannot run.
    #[error("mqtt: {0}")]
    Broker(String),
    /// A socket or thread of the media engine cannot be set up.
    #[error("media engine: {0}")]
    Media(io::Error),
    /// The webhook cannot be used.
    #[error("events.webhook_url: {0}")]
    Webhook(String),
    /// The demo has no camera.
    #[error("demo: {0}")]
    Demo(String),
}

/// Where the service listens, with real ports.
#[derive(Debug, Clone, Serialize)]
pub struct Addresses {
    /// REST API.
    pub api: SocketAddr,
    /// Signaling socket.
    pub signaling: SocketAddr,
    /// Pages.
    pub dashboard: SocketAddr,
    /// UDP port of all viewers.
    pub viewer_udp: u16,
    /// UDP port for cameras' video.
    pub camera_video_udp: u16,
    /// UDP port for cameras' RTCP.
    pub camera_rtcp_udp: u16,
    /// UDP port for cameras' audio.
    pub camera_audio_udp: u16,
    /// The embedded broker.
    pub mqtt: Option<SocketAddr>,
    /// Whether the TCP listeners speak TLS.
    pub tls: bool,
}

/// All parts, running.
pub struct Service {
    addresses: Addresses,
    control: Control,
    broker: Broker,
    /// HTTP and signaling.
    edges: Shutdown,
    /// Control, ingest, egress.
    core: Shutdown,
    failures: mpsc::Receiver<String>,
    ready: Readiness,
    access: Access,
    access_state: ReloadState,
}

impl Service {
    /// Binds every port, then starts every part. A broker that cannot be reached is no reason not to start.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let listeners = Listeners::bind(config)?;
        let store = open_store(config.cameras.store.file()).await?;
        let core = Shutdown::new();
        // Whatever was started before an error ends with it.
        let guard = StopOnDrop(core.clone());

        let (ingest_events, ingest_rx) = mpsc::channel(QUEUE);
        let (egress_events, egress_rx) = mpsc::channel(QUEUE);
        let (camera_messages, messages_rx) = mpsc::channel(QUEUE);
        let (commands, commands_rx) = mpsc::channel(QUEUE);
        let queues: [Arc<dyn Collect>; 4] = [
            Arc::new(waiting("ingest_events", &ingest_events)),
            Arc::new(waiting("egress_events", &egress_events)),
            Arc::new(waiting("camera_messages", &camera_messages)),
            Arc::new(waiting("camera_commands", &commands)),
        ];

        let camera_ports = listeners.cameras.plan().map_err(StartError::Media)?;
        let viewer_udp = listeners.viewers.port().map_err(StartError::Media)?;
        let ingest_settings = IngestSettings { feedback: config.media.feedback };
        let ingest = IngestHandle::start(listeners.cameras, &ingest_settings, ingest_events, &core)
            .map_err(StartError::Media)?;
        let egress = EgressHandle::start(listeners.viewers, &egress_settings(config), egress_events, &core)
            .map_err(StartError::Media)?;
        let egress_metrics = Arc::new(egress.clone());
        let broker = Broker::start(config, commands_rx, camera_messages).await?;
        let parts = Parts {
            ingest,
            egress,
            ingest_events: ingest_rx,
            egress_events: egress_rx,
            camera_messages: messages_rx,
            commands,
            broker: broker.status.clone(),
            store,
        };
        let control = control::start(control_settings(config), parts, &core);
        broker.tell_events(&config.events, control.clone())?;

        let local = |listener: &TcpListener| listener.local_addr().map_err(StartError::Media);
        let addresses = Addresses {
            api: local(&listeners.api)?,
            signaling: local(&listeners.signaling)?,
            dashboard: local(&listeners.dashboard)?,
            viewer_udp,
            camera_video_udp: camera_ports.video_rtp,
            camera_rtcp_udp: camera_ports.rtcp,
            camera_audio_udp: camera_ports.audio_rtp,
            mqtt: broker.embedded,
            tls: listeners.certificates.is_some(),
        };

        let edges = Shutdown::new();
        let (failed, failures) = mpsc::channel(4);
        let tls = listeners.certificates.as_ref().map(http::Certificates::server_config).transpose();
        let tls = tls.map_err(StartError::Certificate)?;
        let signaling_counters = Arc::new(signaling::Counters::default());
        let connections = Connections::new(connection_limits(config));
        let counted = connections.clone();
        let of_connections = move |page: &mut Page| {
            let (open, refused) = counted.counts();
            page.count(&catalog::CONNECTIONS, &[], open as u64);
            page.count(&catalog::CONNECTIONS_REFUSED, &[], refused);
            page.count(&catalog::HTTP_UNREADABLE, &[], counted.unreadable());
        };
        let mut metrics: Vec<Arc<dyn Collect>> =
            vec![signaling_counters.clone(), egress_metrics, Arc::new(of_connections)];
        metrics.extend(queues);
        metrics.extend(broker.metrics());
        metrics.extend(start_webhook(&config.events, &control, &edges)?);
        let (access, access_state) = (access::start(config)?, ReloadState::default());
        if access.is_on() {
            metrics.push(Arc::new(access_state.clone()));
        }
        let api = ApiSettings {
            access: access.clone(),
            certificates: listeners.certificates.clone(),
            metrics: MetricsSources(metrics),
            ..api_settings(config, &addresses)
        };
        let ready = api.ready.clone();
        let signaling = signaling::router(control.clone(), signaling_settings(&api), signaling_counters, edges.clone());
        let transport = |make: fn(_) -> Transport| tls.clone().map_or(Transport::Plain, make);
        let servers = [
            // Scripts know the API as plain HTTP; pages that came by HTTPS may not call that.
            ("API", listeners.api, http::api_router(control.clone(), api.clone()), transport(Transport::Either)),
            ("signaling", listeners.signaling, signaling, transport(Transport::Tls)),
            ("dashboard", listeners.dashboard, http::dashboard_router(api), transport(Transport::Tls)),
        ];
        for (name, listener, router, transport) in servers {
            let server = http::serve(listener, router, transport, connections.clone(), edges.clone());
            let failed = failed.clone();
            edges.spawn(async move {
                if let Err(error) = server.await {
                    let _ = failed.send(format!("the {name} server ended: {error}")).await;
                }
            });
        }
        if let Some(certificates) = listeners.certificates {
            edges.spawn(certificates.watch(edges.clone()));
        }
        guard.disarm();
        Ok(Self { addresses, control, broker, edges, core, failures, ready, access, access_state })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Takes over keys and tokens whenever the files change from which `loaded`, the service's configuration, was read.
    /// Access control is not switched on or off by that.
    pub fn watch_access(&self, loaded: &Loaded) {
        if self.access.is_on() {
            let watch = AccessWatch::new(self.access.clone(), loaded.clone(), self.access_state.clone());
            self.edges.spawn(files::watch(watch, AccessWatch::look, self.edges.clone()));
        }
    }

    /// The control plane.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Lets `/ready` say that calls make sense.
    pub fn tell_ready(&self) {
        self.ready.set();
    }

    /// Resolves when messages can be published.
    pub async fn broker_connected(&self) {
        let mut status = self.broker.status.clone();
        if status.wait_for(|status| *status == BrokerStatus::Connected).await.is_err() {
            std::future::pending().await
        }
    }

    /// Resolves when a part has ended that should not, and says which.
    pub async fn failed(&mut self) -> String {
        match self.failures.recv().await {
            Some(text) => text,
            None => std::future::pending().await,
        }
    }

    /// Tells cameras and viewers, then ends every part, within two seconds.
    pub async fn stop(self, reason: &str) {
        let deadline = Instant::now() + STOP_WITHIN;
        let stopping = async {
            // Streams first, while there is a broker to tell cameras and sockets to tell pages.
            self.control.stop_all(reason).await;
            self.edges.request();
            if timeout(EDGES_WITHIN, self.edges.drained()).await.is_err() {
                tracing::debug!("some clients did not close their connections in time");
            }
            self.core.request();
            tokio::join!(self.core.drained(), self.broker.stop());
        };
        if timeout_at(deadline, stopping).await.is_err() {
            tracing::warn!("not every part has ended in time");
        }
    }
}

/// Requests the stop of what was started, unless the start has succeeded.
struct StopOnDrop(Shutdown);

impl StopOnDrop {
    fn disarm(mut self) {
        self.0 = Shutdown::new();
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.request();
    }
}

async fn open_store(file: Option<&Path>) -> Result<Option<CameraStore>, StartError> {
    let Some(file) = file.map(Path::to_owned) else {
        tracing::info!("what is known of cameras is kept in memory only: cameras.store names no file");
        return Ok(None);
    };
    tracing::info!(file = %file.display(), "what is known of cameras is kept in a file");
    let opened = tokio::task::spawn_blocking(move || CameraStore::open(&file)).await;
    match opened {
        Ok(store) => store.map(Some).map_err(|error| StartError::Store(error.to_string())),
        Err(error) => Err(StartError::Store(error.to_string())),
    }
}

/// Posts what happens to cameras, where configured, and gives what it counts.
fn start_webhook(
    events: &EventConfig,
    control: &Control,
    edges: &Shutdown,
) -> Result<Option<Arc<dyn Collect>>, StartError> {
    let (Some(url), Some(secret)) = (&events.webhook_url, events.webhook_secret.reveal()) else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| StartError::Webhook(error.to_string());
    let settings = WebhookSettings {
        target: url.parse().map_err(|error| wrong(&error))?,
        secret: webhook::Secret::new(secret).map_err(|error| wrong(&error))?,
        node: events.node(),
    };
    let counters = Arc::new(WebhookCounters::default());
    webhook::start(settings, control.clone(), counters.clone(), edges).map_err(|error| wrong(&error))?;
    Ok(Some(counters))
}

fn egress_settings(config: &Config) -> EgressSettings {
    let shards = std::thread::available_parallelism().map_or(1, usize::from);
    // One for each core, unless a quota of time allows fewer than there are cores.
    let cores = Some(cores::allowed()).filter(|cores| cores.len() == shards).unwrap_or_default();
    EgressSettings {
        advertise: advertised(&config.network, &config.viewers, &ipv6_addresses()),
        connect_timeout: config.viewers.connect_timeout,
        remb_policy: match config.media.remb_policy {
            RembPolicy::Min => egress::RembPolicy::Min,
            RembPolicy::Percentile => egress::RembPolicy::Percentile,
            RembPolicy::Floor => egress::RembPolicy::Floor(u64::from(config.media.remb_floor) * 1_000),
            RembPolicy::IgnoreSlow => egress::RembPolicy::IgnoreSlow,
        },
        shards,
        cores,
    }
}

/// The addresses under which viewers may find the port, the nearest first; `ipv6` are those of the machine.
fn advertised(network: &NetworkConfig, viewers: &ViewerConfig, ipv6: &[Ipv6Addr]) -> Vec<IpAddr> {
    let local = if viewers.host.is_unspecified() { network.local_ip() } else { viewers.host };
    let mut addresses = vec![local];
    // Behind NAT the external address is that of the router, which forwards the port.
    if let Some(external) = network.external_ip.filter(|external| *external != local) {
        addresses.push(external);
    }
    if viewers.ipv6 && viewers.host.is_unspecified() {
        let more = ipv6.iter().map(|ip| IpAddr::V6(*ip)).filter(|ip| !addresses.contains(ip)).collect::<Vec<_>>();
        addresses.extend(more);
    }
    addresses
}

fn control_settings(config: &Config) -> Settings {
    let (streams, networks) = (&config.streams, config.network.local_networks.clone());
    Settings {
        timing: Timing {
            keepalive_interval: streams.keepalive_interval,
            start_timeout: streams.start_timeout,
            idle_timeout: streams.idle_timeout,
            give_up_after: streams.give_up_after,
        },
        max_viewers: config.viewers.max_per_stream as usize,
        max_streams: streams.max_streams as usize,
        max_cameras: config.cameras.max_known as usize,
        start_idempotent: streams.start_idempotent,
        start_on_demand: streams.start_on_demand,
        bandwidth_kbit: (config.media.min_bandwidth, config.media.max_bandwidth),
        address: AddressRule {
            local_ip: config.network.local_ip(),
            external_ip: config.network.external_ip(),
            is_local: Arc::new(move |ip| networks.contains(ip)),
        },
    }
}

fn api_settings(config: &Config, addresses: &Addresses) -> ApiSettings {
    let listed = &config.api.allowed_origins;
    let origins = match listed.is_empty() {
        true => AllowedOrigins::any(),
        false => AllowedOrigins::only(listed.clone()),
    };
    let limits = &config.limits;
    ApiSettings {
        allowed_origins: origins.with_own_ports([addresses.api.port(), addresses.dashboard.port()]),
        clients: Arc::new(ClientLimits::new(limits.requests_per_second, limits.trusted_proxies.clone())),
        pages: PageSettings {
            api_port: addresses.api.port(),
            signaling_port: addresses.signaling.port(),
            signaling_secure: addresses.tls,
            api_url: config.api.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
            signaling_url: config.signaling.public_url.clone(),
            ice_servers: ice_servers(&config.viewers),
        },
        ..ApiSettings::default()
    }
}

fn signaling_settings(api: &ApiSettings) -> SignalingSettings {
    SignalingSettings {
        allowed_origins: api.allowed_origins.clone(),
        access: api.access.clone(),
        clients: Arc::clone(&api.clients),
    }
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    let limits = &config.limits;
    ConnectionLimits {
        total: limits.connections as usize,
        per_client: limits.connections_per_client as usize,
        proxies: limits.trusted_proxies.clone(),
    }
}

fn ice_servers(viewers: &ViewerConfig) -> Vec<IceServer> {
    // `RTCPeerConnection` throws at a URL without its scheme.
    let with_scheme = |scheme: &str, url: &String| {
        let has_one = url.starts_with(&format!("{scheme}:")) || url.starts_with(&format!("{scheme}s:"));
        vec![if has_one { url.clone() } else { format!("{scheme}:{url}") }]
    };
    let stun = viewers.stun_server.as_ref().map(|url| IceServer {
        urls: with_scheme("stun", url),
        username: None,
        credential: None,
    });
    let turn = viewers.turn_url.as_ref().map(|url| IceServer {
        urls: with_scheme("turn", url),
        username: viewers.turn_username.clone(),
        credential: viewers.turn_password.reveal().map(str::to_owned),
    });
    stun.into_iter().chain(turn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn stun_and_turn_servers_have_their_scheme() {
        let viewers = ViewerConfig {
            stun_server: Some("stun.example:3478".into()),
            turn_url: Some("turns:turn.example".into()),
            ..Default::default()
        };
        let urls: Vec<_> = ice_servers(&viewers).into_iter().flat_map(|server| server.urls).collect();
        assert_eq!(urls, ["stun:stun.example:3478", "turns:turn.example"]);
    }

    #[test]
    fn viewers_get_the_local_address_and_the_external_one_where_it_is_another() {
        let network = |external: Option<&str>| NetworkConfig {
            local_ip: Some(ip("192.168.1.10")),
            external_ip: external.map(ip),
            ..Default::default()
        };
        let viewers = ViewerConfig::default();
        assert_eq!(advertised(&network(None), &viewers, &[]), [ip("192.168.1.10")]);
        assert_eq!(advertised(&network(Some("192.168.1.10")), &viewers, &[]), [ip("192.168.1.10")]);
        let both = [ip("192.168.1.10"), ip("203.0.113.7")];
        assert_eq!(advertised(&network(Some("203.0.113.7")), &viewers, &[]), both);
        let bound = ViewerConfig { host: ip("127.0.0.1"), ..viewers };
        assert_eq!(advertised(&network(None), &bound, &["fd00::2".parse().unwrap()]), [ip("127.0.0.1")]);
    }

    #[test]
    fn viewers_get_the_ipv6_addresses_too_and_an_external_one_may_be_one() {
        let network = NetworkConfig {
            local_ip: Some(ip("192.168.1.10")),
            external_ip: Some(ip("2001:db8::7")),
            ..Default::default()
        };
        let own: Vec<Ipv6Addr> = ["fd00::2", "2001:db8::7"].map(|text| text.parse().unwrap()).to_vec();
        let viewers = ViewerConfig::default();
        let all = ["192.168.1.10", "2001:db8::7", "fd00::2"].map(ip);
        assert_eq!(advertised(&network, &viewers, &own), all);
        let without = ViewerConfig { ipv6: false, ..viewers };
        assert_eq!(advertised(&network, &without, &own), all[..2]);
    }
}
