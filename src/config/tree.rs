//! The settings of every part, as plain typed values.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::setting::{LocalNetworks, PortRange, Secret, StorePlace};
use crate::base::net::{Networks, default_route_address};
use crate::telemetry::{LogConfig, LogFilter, LogFormat};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Addresses of this machine.
    pub network: NetworkConfig,
    /// REST API.
    pub api: ApiConfig,
    /// WebSocket signaling.
    pub signaling: SignalingConfig,
    /// Dashboard.
    pub dashboard: ListenConfig<5000>,
    /// How much clients may ask for.
    pub limits: LimitConfig,
    /// Broker and topics.
    pub mqtt: MqttConfig,
    /// Camera side.
    pub media: MediaConfig,
    /// Browser side.
    pub viewers: ViewerConfig,
    /// Life of a stream.
    pub streams: StreamConfig,
    /// What is remembered of cameras.
    pub cameras: CameraConfig,
    /// What is told to others.
    pub events: EventConfig,
    /// Certificate of the listeners.
    pub tls: TlsConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Log lines.
    pub log: LogSection,
}

/// Addresses of this machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetworkConfig {
    /// Address for cameras and viewers outside (`EXTERNAL_IP`).
    pub external_ip: Option<IpAddr>,
    /// Address for cameras and viewers inside (`LOCAL_IP`).
    pub local_ip: Option<IpAddr>,
    /// What counts as inside (`LOCAL_NETWORK_PREFIX`).
    pub local_networks: LocalNetworks,
}

impl NetworkConfig {
    /// The local address: as configured, else that of the default route, else loopback.
    pub fn local_ip(&self) -> IpAddr {
        self.local_ip.or_else(|| default_route_address().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The external address: as configured, else the local one.
    pub fn external_ip(&self) -> IpAddr {
        self.external_ip.unwrap_or_else(|| self.local_ip())
    }
}

/// REST API.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiConfig {
    /// Address to bind (`API_SERVER_HOST`).
    pub host: IpAddr,
    /// TCP port; 0 lets the system choose (`API_SERVER_PORT`).
    pub port: u16,
    /// Origins whose pages may call; empty for any.
    pub allowed_origins: Vec<String>,
    /// Where pages find it, behind a proxy (`PUBLIC_API_URL`).
    pub public_url: Option<String>,
}

/// WebSocket signaling.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalingConfig {
    /// Address to bind (`SIGNALING_SERVER_HOST`).
    pub host: IpAddr,
    /// TCP port; 0 lets the system choose (`SIGNALING_SERVER_PORT`).
    pub port: u16,
    /// Where pages find it, behind a proxy (`PUBLIC_SIGNALING_URL`).
    pub public_url: Option<String>,
}

/// How much clients may ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitConfig {
    /// Requests a second from one client, 0 for any (`LIMIT_REQUESTS_PER_SECOND`).
    pub requests_per_second: u32,
    /// TCP connections to all listeners together (`LIMIT_CONNECTIONS`).
    pub connections: u32,
    /// TCP connections from one client (`LIMIT_CONNECTIONS_PER_CLIENT`).
    pub connections_per_client: u32,
    /// Proxies that are believed what they say about their clients (`TRUSTED_PROXIES`).
    pub trusted_proxies: Networks,
}

/// A listener whose port is `PORT` unless configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenConfig<const PORT: u16> {
    /// Address to bind.
    pub host: IpAddr,
    /// TCP port; 0 lets the system choose.
    pub port: u16,
}

/// Broker and topics.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttConfig {
    /// Host name or address (`EMQX_BROKER_HOST`).
    pub host: String,
    /// TCP port (`EMQX_BROKER_PORT`).
    pub port: u16,
    /// Prefix of the client id; a random suffix makes it unique per process (`EMQX_CLIENT_ID`).
    pub client_id: String,
    /// User name, where the broker wants one.
    pub username: Option<String>,
    /// Its password.
    pub password: Secret,
    /// TLS towards the broker; unset: on port 8883 or when a CA is set (`EMQX_USE_TLS`).
    pub use_tls: Option<bool>,
    /// PEM file with the CA (`EMQX_CA_CERT`); unset: the system's.
    pub ca_cert: Option<PathBuf>,
    /// PEM file with the client certificate (`EMQX_CLIENT_CERT`).
    pub client_cert: Option<PathBuf>,
    /// PEM file with its key (`EMQX_CLIENT_KEY`).
    pub client_key: Option<PathBuf>,
    /// Name to expect in the broker's certificate; unset: `host` (`EMQX_TLS_SERVER_NAME`).
    pub tls_server_name: Option<String>,
    /// Whether that name is checked; the chain always is (`EMQX_TLS_VERIFY_HOSTNAME`).
    pub tls_verify_hostname: bool,
    /// Run a broker inside the process and use it.
    pub embedded: bool,
    /// Where the embedded broker listens.
    pub embedded_bind: SocketAddr,
    /// Topics.
    pub topics: TopicConfig,
}

impl MqttConfig {
    /// Whether the link uses TLS.
    pub fn uses_tls(&self) -> bool {
        self.use_tls.unwrap_or(self.port == 8883 || self.ca_cert.is_some())
    }
}

/// MQTT topics; `{camera_id}` stands for the camera.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// To the camera: begin.
    pub play: String,
    /// To the camera: go on.
    pub keepalive: String,
    /// To the camera: end.
    pub stop: String,
    /// From the camera: connected or not.
    pub connection: String,
    /// From the camera: every 600 s.
    pub status: String,
    /// From the camera: the same shape as status.
    pub state: String,
    /// From the camera: motion and sound.
    pub activity: String,
    /// From this service: online or offline, retained.
    pub service: String,
}

/// Camera side.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaConfig {
    /// Address to bind.
    pub host: IpAddr,
    /// UDP port of video RTP (`CAMERA_RTP_VIDEO_PORT`).
    pub video_port: u16,
    /// UDP port of RTCP (`CAMERA_RTCP_PORT`).
    pub rtcp_port: u16,
    /// UDP port of audio RTP (`CAMERA_RTP_AUDIO_PORT`).
    pub audio_port: u16,
    /// Further ports (`MEDIA_PORT_RANGE`).
    pub port_range: Option<PortRange>,
    /// Lowest REMB in kbit/s (`MIN_VIDEO_RECV_BANDWIDTH`).
    pub min_bandwidth: u32,
    /// Highest REMB in kbit/s (`MAX_VIDEO_RECV_BANDWIDTH`).
    pub max_bandwidth: u32,
    /// Whose bandwidth decides between the two (`REMB_POLICY`).
    pub remb_policy: RembPolicy,
    /// The least that [`RembPolicy::Floor`] asks for, in kbit/s (`REMB_FLOOR`).
    pub remb_floor: u32,
    /// RTCP to cameras; off only to test what a camera does without.
    pub feedback: bool,
}

/// What a camera's bitrate follows, besides the path from the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RembPolicy {
    /// The viewer on the worst path, down to the lowest bandwidth.
    Min,
    /// The viewers' paths without the worst fifth of them.
    Percentile,
    /// The viewer on the worst path, down to a floor of its own.
    #[default]
    Floor,
    /// Nothing else.
    IgnoreSlow,
}

/// Browser side.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewerConfig {
    /// Address to bind.
    pub host: IpAddr,
    /// UDP port of all viewers (`VIEWER_UDP_PORT`).
    pub udp_port: u16,
    /// ICE-TCP on the same port number (`VIEWER_ICE_TCP`).
    pub ice_tcp: bool,
    /// IPv6 as well, where the machine has it (`VIEWER_IPV6`).
    pub ipv6: bool,
    /// Viewers of one stream (`MAX_VIEWERS_PER_STREAM`).
    pub max_per_stream: u32,
    /// A viewer that is not connected by then is forgotten (`VIEWER_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// STUN server handed to pages (`STUN_SERVER`).
    pub stun_server: Option<String>,
    /// TURN server handed to pages (`TURN_SERVER_URL`).
    pub turn_url: Option<String>,
    /// Its user name (`TURN_SERVER_USERNAME`).
    pub turn_username: Option<String>,
    /// Its password (`TURN_SERVER_PASSWORD`).
    pub turn_password: Secret,
}

/// Life of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamConfig {
    /// Between keepalives (`KEEPALIVE_INTERVAL`).
    pub keepalive_interval: Duration,
    /// From play to the first packet (`STREAM_START_TIMEOUT`).
    pub start_timeout: Duration,
    /// Without viewers until it stops by itself; 0 never (`STREAM_IDLE_TIMEOUT`).
    pub idle_timeout: Duration,
    /// Silence of a camera until its stream is given up; 0 never (`STREAM_GIVE_UP_AFTER`).
    pub give_up_after: Duration,
    /// Whether viewers start streams (`START_ON_DEMAND`).
    pub start_on_demand: bool,
    /// Whether starting a running stream succeeds (`START_IDEMPOTENT`).
    pub start_idempotent: bool,
    /// Streams at once.
    pub max_streams: u32,
}

/// What is remembered of cameras.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// File that keeps it across restarts (`CAMERA_STORE`).
    pub store: StorePlace,
    /// Cameras remembered (`MAX_KNOWN_CAMERAS`).
    pub max_known: u32,
}

/// Certificate of the API, signaling and dashboard listeners.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsConfig {
    /// PEM file with the chain (`TLS_CERT_PATH`).
    pub certificate: Option<PathBuf>,
    /// PEM file with the key (`TLS_KEY_PATH`).
    pub key: Option<PathBuf>,
}

/// What is told to others.
#[derive(Debug, Clone, PartialEq)]
pub struct EventConfig {
    /// Name of this process where several speak to one broker (`NODE_NAME`); unset: the machine's name.
    pub node: Option<String>,
    /// Topic of changes, retained; unset: none are published (`EVENTS_MQTT_TOPIC`).
    pub mqtt_topic: Option<String>,
    /// URL to which changes are posted (`WEBHOOK_URL`).
    pub webhook_url: Option<String>,
    /// Key of their signature (`WEBHOOK_SECRET`).
    pub webhook_secret: Secret,
}

impl EventConfig {
    /// The name of this process.
    pub fn node(&self) -> String {
        let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        let named = self.node.clone().or_else(machine).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| "honeycast".to_owned())
    }
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthConfig {
    /// Whether requests need a token or key (`AUTH_ENABLED`).
    pub enabled: bool,
    /// HS256 secret (`JWT_SECRET_KEY`).
    pub jwt_secret: Secret,
    /// File with the key set for RS256 and ES256 (`JWT_KEY_SET_FILE`).
    pub jwt_key_set: Option<PathBuf>,
    /// What `iss` of a token must be (`JWT_ISSUER`).
    pub jwt_issuer: Option<String>,
    /// What `aud` of a token must hold (`JWT_AUDIENCE`).
    pub jwt_audience: Option<String>,
    /// Keys by their hashes (`AUTH_API_KEYS`).
    pub api_keys: Vec<String>,
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogSection {
    /// Which (`LOG_LEVEL`).
    pub level: LogFilter,
    /// In which form.
    pub format: LogFormat,
}

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Default for ApiConfig {
    fn default() -> Self {
        Self { host: ANY, port: 8080, allowed_origins: Vec::new(), public_url: None }
    }
}

impl Default for SignalingConfig {
    fn default() -> Self {
        Self { host: ANY, port: 8765, public_url: None }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            requests_per_second: 500,
            connections: 16_384,
            connections_per_client: 4_096,
            trusted_proxies: Networks::default(),
        }
    }
}

impl<const PORT: u16> Default for ListenConfig<PORT> {
    fn default() -> Self {
        Self { host: ANY, port: PORT }
    }
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8883,
            client_id: "honeycast".into(),
            username: None,
            password: Secret::default(),
            use_tls: None,
            ca_cert: None,
            client_cert: None,
            client_key: None,
            tls_server_name: None,
            tls_verify_hostname: true,
            embedded: false,
            embedded_bind: SocketAddr::new(ANY, 1883),
            topics: TopicConfig::default(),
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            play: "prod/honeycomb/{camera_id}/stream/play".into(),
            keepalive: "prod/honeycomb/{camera_id}/stream/keepalive".into(),
            stop: "prod/honeycomb/{camera_id}/stream/stop".into(),
            connection: "prod/device/connection/hive-cam/+".into(),
            status: "prod/device/status/hive-cam/+".into(),
            state: "prod/device/message/hive-cam/+/camera/state".into(),
            activity: "prod/device/message/hive-cam/+/activity/+".into(),
            service: "honeycast/{node}/status".into(),
        }
    }
}

impl Default for EventConfig {
    fn default() -> Self {
        Self {
            node: None,
            mqtt_topic: Some("honeycast/{node}/cameras/{camera_id}/{what}".into()),
            webhook_url: None,
            webhook_secret: Secret::default(),
        }
    }
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            host: ANY,
            video_port: 5006,
            rtcp_port: 5007,
            audio_port: 5008,
            port_range: None,
            min_bandwidth: 500,
            max_bandwidth: 5_000,
            remb_policy: RembPolicy::default(),
            remb_floor: 1_000,
            feedback: true,
        }
    }
}

impl Default for ViewerConfig {
    fn default() -> Self {
        Self {
            host: ANY,
            udp_port: 8189,
            ice_tcp: true,
            ipv6: true,
            max_per_stream: 10,
            connect_timeout: Duration::from_secs(20),
            stun_server: None,
            turn_url: None,
            turn_username: None,
            turn_password: Secret::default(),
        }
    }
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(4),
            start_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            give_up_after: Duration::from_secs(300),
            start_on_demand: false,
            start_idempotent: false,
            max_streams: 1_000,
        }
    }
}

impl Default for CameraConfig {
    fn default() -> Self {
        Self { store: StorePlace::Unset, max_known: 1_000 }
    }
}

impl Config {
    /// What the log is told.
    pub fn log_config(&self) -> LogConfig {
        LogConfig { level: self.log.level.clone(), format: self.log.format }
    }
}
