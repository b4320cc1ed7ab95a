//! The one list of all keys: path in the file, names in the environment, how to set and show each.

use toml::Value;

use super::setting::{Raw, Setting};
use super::tree::Config;

/// One key.
pub struct Key {
    /// `section.name` in the file.
    pub path: &'static str,
    /// Names in the environment, the preferred one first.
    pub env: &'static [&'static str],
    pub(super) set: fn(&mut Config, &Raw) -> Result<(), String>,
    pub(super) show: fn(&Config) -> Value,
}

macro_rules! key {
    ($path:literal, [$($env:literal),*], $($field:ident).+) => {
        Key {
            path: $path,
            env: &[$($env),*],
            set: |config, raw| Setting::read(raw).map(|value| config.$($field).+ = value),
            show: |config| config.$($field).+.show(),
        }
    };
}

/// All keys, in the order of the file.
pub static KEYS: &[Key] = &[
    key!("network.external_ip", ["EXTERNAL_IP"], network.external_ip),
    key!("network.local_ip", ["LOCAL_IP"], network.local_ip),
    key!("network.local_networks", ["LOCAL_NETWORK_PREFIX"], network.local_networks),
    key!("api.host", ["API_SERVER_HOST"], api.host),
    key!("api.port", ["API_SERVER_PORT"], api.port),
    key!("api.allowed_origins", ["API_ALLOWED_ORIGINS"], api.allowed_origins),
    key!("api.public_url", ["PUBLIC_API_URL"], api.public_url),
    key!("signaling.host", ["SIGNALING_SERVER_HOST"], signaling.host),
    key!("signaling.port", ["SIGNALING_SERVER_PORT"], signaling.port),
    key!("signaling.public_url", ["PUBLIC_SIGNALING_URL"], signaling.public_url),
    key!("dashboard.host", ["DASHBOARD_SERVER_HOST"], dashboard.host),
    key!("dashboard.port", ["DASHBOARD_SERVER_PORT"], dashboard.port),
    key!("tls.certificate", ["TLS_CERT_PATH", "DASHBOARD_SSL_CERT_FILE"], tls.certificate),
    key!("tls.key", ["TLS_KEY_PATH", "DASHBOARD_SSL_KEY_FILE"], tls.key),
    key!("mqtt.host", ["EMQX_BROKER_HOST"], mqtt.host),
    key!("mqtt.port", ["EMQX_BROKER_PORT"], mqtt.port),
    key!("mqtt.client_id", ["EMQX_CLIENT_ID", "EMQX_LIVESTREAM_CLIENT_ID"], mqtt.client_id),
    key!("mqtt.username", ["EMQX_USERNAME"], mqtt.username),
    key!("mqtt.password", ["EMQX_PASSWORD"], mqtt.password),
    key!("mqtt.use_tls", ["EMQX_USE_TLS"], mqtt.use_tls),
    key!("mqtt.ca_cert", ["EMQX_CA_CERT"], mqtt.ca_cert),
    key!("mqtt.client_cert", ["EMQX_CLIENT_CERT"], mqtt.client_cert),
    key!("mqtt.client_key", ["EMQX_CLIENT_KEY"], mqtt.client_key),
    key!("mqtt.tls_server_name", ["EMQX_TLS_SERVER_NAME"], mqtt.tls_server_name),
    key!("mqtt.tls_verify_hostname", ["EMQX_TLS_VERIFY_HOSTNAME"], mqtt.tls_verify_hostname),
    key!("mqtt.embedded", ["MQTT_EMBEDDED"], mqtt.embedded),
    key!("mqtt.embedded_bind", ["MQTT_EMBEDDED_BIND"], mqtt.embedded_bind),
    key!("mqtt.topics.play", ["MQTT_TOPIC_PLAY"], mqtt.topics.play),
    key!("mqtt.topics.keepalive", ["MQTT_TOPIC_KEEPALIVE"], mqtt.topics.keepalive),
    key!("mqtt.topics.stop", ["MQTT_TOPIC_STOP"], mqtt.topics.stop),
    key!("mqtt.topics.connection", ["MQTT_TOPIC_CONNECTION"], mqtt.topics.connection),
    key!("mqtt.topics.status", ["MQTT_TOPIC_STATUS"], mqtt.topics.status),
    key!("mqtt.topics.state", ["MQTT_TOPIC_STATE"], mqtt.topics.state),
    key!("mqtt.topics.activity", ["MQTT_TOPIC_ACTIVITY"], mqtt.topics.activity),
    key!("mqtt.topics.service", ["MQTT_TOPIC_SERVICE"], mqtt.topics.service),
    key!("media.host", ["MEDIA_HOST"], media.host),
    key!("media.video_port", ["CAMERA_RTP_VIDEO_PORT"], media.video_port),
    key!("media.rtcp_port", ["CAMERA_RTCP_PORT"], media.rtcp_port),
    key!("media.audio_port", ["CAMERA_RTP_AUDIO_PORT"], media.audio_port),
    key!("media.port_range", ["MEDIA_PORT_RANGE"], media.port_range),
    key!("media.min_bandwidth", ["MIN_VIDEO_RECV_BANDWIDTH"], media.min_bandwidth),
    key!("media.max_bandwidth", ["MAX_VIDEO_RECV_BANDWIDTH"], media.max_bandwidth),
    key!("media.remb_policy", ["REMB_POLICY"], media.remb_policy),
    key!("media.remb_floor", ["REMB_FLOOR"], media.remb_floor),
    key!("media.feedback", ["MEDIA_FEEDBACK"], media.feedback),
    key!("viewers.host", ["VIEWER_HOST"], viewers.host),
    key!("viewers.udp_port", ["VIEWER_UDP_PORT"], viewers.udp_port),
    key!("viewers.ice_tcp", ["VIEWER_ICE_TCP"], viewers.ice_tcp),
    key!("viewers.ipv6", ["VIEWER_IPV6"], viewers.ipv6),
    key!("viewers.max_per_stream", ["MAX_VIEWERS_PER_STREAM"], viewers.max_per_stream),
    key!("viewers.connect_timeout", ["VIEWER_CONNECT_TIMEOUT"], viewers.connect_timeout),
    key!("viewers.stun_server", ["STUN_SERVER"], viewers.stun_server),
    key!("viewers.turn_url", ["TURN_SERVER_URL"], viewers.turn_url),
    key!("viewers.turn_username", ["TURN_SERVER_USERNAME"], viewers.turn_username),
    key!("viewers.turn_password", ["TURN_SERVER_PASSWORD"], viewers.turn_password),
    key!("streams.keepalive_interval", ["KEEPALIVE_INTERVAL"], streams.keepalive_interval),
    key!("streams.start_timeout", ["STREAM_START_TIMEOUT"], streams.start_timeout),
    key!("streams.idle_timeout", ["STREAM_IDLE_TIMEOUT"], streams.idle_timeout),
    key!("streams.give_up_after", ["STREAM_GIVE_UP_AFTER"], streams.give_up_after),
    key!("streams.start_on_demand", ["START_ON_DEMAND"], streams.start_on_demand),
    key!("streams.start_idempotent", ["START_IDEMPOTENT"], streams.start_idempotent),
    key!("streams.max_streams", ["MAX_STREAMS"], streams.max_streams),
    key!("cameras.store", ["CAMERA_STORE"], cameras.store),
    key!("cameras.max_known", ["MAX_KNOWN_CAMERAS"], cameras.max_known),
    key!("events.node", ["NODE_NAME"], events.node),
    key!("events.mqtt_topic", ["EVENTS_MQTT_TOPIC"], events.mqtt_topic),
    key!("events.webhook_url", ["WEBHOOK_URL"], events.webhook_url),
    key!("events.webhook_secret", ["WEBHOOK_SECRET"], events.webhook_secret),
    key!("auth.enabled", ["AUTH_ENABLED"], auth.enabled),
    key!("auth.jwt_secret", ["JWT_SECRET_KEY"], auth.jwt_secret),
    key!("auth.jwt_key_set", ["JWT_KEY_SET_FILE"], auth.jwt_key_set),
    key!("auth.jwt_issuer", ["JWT_ISSUER"], auth.jwt_issuer),
    key!("auth.jwt_audience", ["JWT_AUDIENCE"], auth.jwt_audience),
    key!("auth.api_keys", ["AUTH_API_KEYS"], auth.api_keys),
    key!("limits.requests_per_second", ["LIMIT_REQUESTS_PER_SECOND"], limits.requests_per_second),
    key!("limits.connections", ["LIMIT_CONNECTIONS"], limits.connections),
    key!("limits.connections_per_client", ["LIMIT_CONNECTIONS_PER_CLIENT"], limits.connections_per_client),
    key!("limits.trusted_proxies", ["TRUSTED_PROXIES"], limits.trusted_proxies),
    key!("log.level", ["LOG_LEVEL"], log.level),
    key!("log.format", ["LOG_FORMAT"], log.format),
];

/// The key with this path.
pub fn by_path(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}
