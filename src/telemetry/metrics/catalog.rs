//! Every metric: name, kind, help, labels. `docs/metrics.md` is this table for people, and a test holds them together.

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up, but begins anew with the stream or process that it counts for.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often a value was at most so much.
    Histogram,
}

/// A metric and the labels of its samples.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// `honeycast_…`, with its unit.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One line.
    pub help: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Family =
                Family { name: concat!("honeycast_", $name), kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )*
        /// All of them, in the order of their documentation.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    BUILD_INFO: Gauge "build_info" ["version"] "Always 1; the version is its label";
    MEDIA_UP: Gauge "media_up" [] "Whether the media engine runs";
    STREAMS: Gauge "streams" ["state"] "Streams by state";
    VIEWERS: Gauge "viewers" ["connected"] "Accepted viewers; connected: media can flow to them";
    CAMERAS_KNOWN: Gauge "cameras_known" [] "Cameras that are remembered";
    CAMERAS_ONLINE: Gauge "cameras_online" [] "Cameras that said last that they are connected";
    CERTIFICATE_EXPIRY: Gauge "certificate_expiry_time_seconds" [] "When the listeners' certificate expires, in seconds since 1970";
    CERTIFICATE_FAILURE: Gauge "certificate_reload_failed" [] "Whether the certificate's files, as they are now, cannot be used, so that the earlier one serves";
    ACCESS_RELOAD_FAILED: Gauge "access_reload_failed" [] "Whether the files with keys, as they are now, cannot be used, so that the earlier keys hold";
    STORE_UNSAVED: Gauge "camera_store_unsaved" [] "Whether something about cameras is not in the store yet";
    STORE_FAILURES: Counter "camera_store_failed_writes_total" [] "Writes to the camera store that failed";

    CAMERA_ONLINE: Gauge "camera_online" ["camera"] "Whether the camera is connected to the broker, as it said last";
    CAMERA_BATTERY: Gauge "camera_battery_percent" ["camera"] "Battery level";
    CAMERA_SIGNAL: Gauge "camera_signal" ["camera"] "Radio signal as the camera tells it, mostly in dBm";
    CAMERA_PICTURE: Gauge "camera_picture" ["camera", "code"] "1 for the code of why_no_picture that holds now";

    STREAM_MEDIA: Gauge "stream_media_flowing" ["camera"] "Whether packets arrive from the camera";
    STREAM_VIEWERS: Gauge "stream_viewers" ["camera"] "Accepted viewers of the stream";
    STREAM_STARTED: Gauge "stream_start_time_seconds" ["camera"] "When the stream was started, in seconds since 1970";
    STREAM_PLAYS: Counter "stream_plays_total" ["camera"] "play messages that the broker acknowledged; more than one after a reboot or silence";
    KEEPALIVES: Counter "stream_keepalives_total" ["camera"] "Keepalives that the broker acknowledged";
    KEEPALIVE_ERRORS: Counter "stream_keepalive_errors_total" ["camera"] "Keepalives that failed";

    INGEST_PACKETS: Counter "ingest_packets_total" ["camera", "medium"] "RTP packets received from the camera";
    INGEST_BYTES: Counter "ingest_bytes_total" ["camera", "medium"] "RTP bytes received from the camera";
    INGEST_LOST: Gauge "ingest_lost_packets" ["camera", "medium"] "Packets of the stream that are missing; a late one is taken off again";
    INGEST_DUPLICATES: Counter "ingest_duplicate_packets_total" ["camera", "medium"] "Packets that were received before";
    INGEST_JITTER: Gauge "ingest_jitter_seconds" ["camera", "medium"] "Interarrival jitter (RFC 3550)";
    INGEST_BITRATE: Gauge "ingest_rate_bytes_per_second" ["camera", "medium"] "Bytes of the last second";
    INGEST_LAST_PACKET: Gauge "ingest_last_packet_time_seconds" ["camera"] "When the last packet arrived, in seconds since 1970";
    INGEST_LAST_KEYFRAME: Gauge "ingest_last_keyframe_time_seconds" ["camera"] "When the last keyframe began, in seconds since 1970";
    INGEST_DROPPED: Counter "ingest_dropped_packets_total" ["reason"] "Datagrams dropped on the camera ports, by reason";
    INGEST_REFUSED_SOURCES: Gauge "ingest_refused_sources" ["reason"] "Addresses whose packets were dropped in the last ten minutes";

    FEEDBACK_SENT: Counter "feedback_sent_total" ["camera"] "RTCP packets sent to the camera";
    FEEDBACK_LAST: Gauge "feedback_last_time_seconds" ["camera"] "When RTCP was last sent to the camera, in seconds since 1970";
    FEEDBACK_REMB: Gauge "feedback_remb_bytes_per_second" ["camera"] "What the camera was last asked to send at most";
    FEEDBACK_KEYFRAMES: Counter "feedback_keyframe_requests_total" ["camera"] "PLIs and FIRs sent to the camera";
    FEEDBACK_NACKS: Counter "feedback_nacked_packets_total" ["camera"] "Packets that the camera was asked for again";
    FEEDBACK_FOLLOWS_REMB: Gauge "feedback_follows_remb" ["camera"] "Whether the bitrate came down when REMB last asked for less";
    FEEDBACK_ANSWERS_PLI: Gauge "feedback_answers_pli" ["camera"] "Whether a keyframe came when one was last asked for";
    FEEDBACK_WARNING: Gauge "feedback_warning" ["camera"] "Whether the camera does not seem to hear its feedback";

    VIEWER_CONNECT: Histogram "viewer_connect_seconds" [] "From a viewer's offer until media can flow to it";
    VIEWER_FIRST_PICTURE: Histogram "viewer_first_picture_seconds" [] "From a viewer's offer until the first keyframe left for it";
    VIEWERS_ENDED: Counter "viewers_ended_total" ["reason"] "Viewers that ended, by reason";
    VIEWERS_REFUSED: Counter "viewers_refused_total" ["reason"] "Viewers that were not accepted, by reason";
    VIEWERS_THINNED: Gauge "viewers_thinned" [] "Viewers that get keyframes only, because their path does not carry more";
    VIEWERS_BY_PROFILE: Gauge "viewers_by_srtp_profile" ["profile"] "Connected viewers by SRTP profile";
    VIEWERS_BY_PROTOCOL: Gauge "viewers_by_protocol" ["protocol"] "Connected viewers by transport: udp and tcp of WebRTC, http and websocket of live.mp4";
    VIEWER_WORST_LOSS: Gauge "stream_viewer_loss_max_ratio" ["camera"] "Highest fraction of packets lost that a viewer of the stream reports, 0 to 1";
    VIEWER_WORST_RTT: Gauge "stream_viewer_rtt_max_seconds" ["camera"] "Longest round trip of a viewer of the stream";

    EGRESS_PACKETS: Counter "egress_packets_total" [] "RTP packets sent to viewers, retransmissions included";
    EGRESS_BYTES: Counter "egress_bytes_total" [] "Bytes sent to WebRTC viewers, SRTP included";
    LIVE_BYTES: Counter "egress_mp4_bytes_total" [] "Bytes of MP4 sent to viewers without WebRTC";
    EGRESS_RUNS: Counter "egress_runs_total" [] "Runs of packets handed to the kernel; packets divided by runs is the run length";
    EGRESS_REFUSED_RUNS: Counter "egress_refused_runs_total" [] "Runs that the socket refused";
    EGRESS_RETRANSMISSIONS: Counter "egress_retransmissions_total" [] "Packets sent again";
    EGRESS_NACKED: Counter "egress_nacked_packets_total" [] "Packets that viewers asked for again";
    EGRESS_KEYFRAME_REQUESTS: Counter "egress_keyframe_requests_total" [] "PLIs and FIRs of viewers";
    EGRESS_UNPLAYABLE: Counter "egress_unplayable_audio_packets_total" [] "Sound packets that viewers did not get, because their offers lack the codec";
    EGRESS_DROPPED_FRAMES: Counter "egress_dropped_frames_total" [] "Frames that a sending thread was too slow for";
    EGRESS_MISSED_FRAMES: Counter "egress_missed_frames_total" [] "Frames that readers of the stream as MP4 were too slow for";
    EGRESS_UNKNOWN: Counter "egress_unknown_datagrams_total" [] "Datagrams on the viewer port that belong to no viewer";

    EGRESS_TCP_OPEN: Gauge "egress_tcp_connections" [] "ICE-TCP connections that are open";
    EGRESS_TCP_ENDED: Counter "egress_tcp_connections_cut_total" ["reason"] "ICE-TCP connections that were refused or cut, by reason";

    SIGNALING_OPEN: Gauge "signaling_sockets" [] "Open WebSockets";
    SIGNALING_SOCKETS: Counter "signaling_sockets_total" [] "WebSockets accepted";
    SIGNALING_REFUSED: Counter "signaling_refused_total" ["reason"] "Connections and messages that were refused, by reason";

    CONNECTIONS: Gauge "http_connections" [] "Open TCP connections of the API, signaling and dashboard ports";
    CONNECTIONS_REFUSED: Counter "http_connections_refused_total" [] "TCP connections refused because there were too many";
    HTTP_REQUESTS: Counter "http_requests_total" ["route", "method", "status"] "Requests answered";
    HTTP_UNREADABLE: Counter "http_unreadable_requests_total" [] "Requests refused before any route, because their header is too large or is no HTTP";
    HTTP_DURATION: Histogram "http_request_seconds" [] "From a request to the begin of its answer";

    EVENTS: Counter "events_total" ["via", "outcome"] "Changes told to others, over MQTT and by webhook";

    MQTT_CONNECTED: Gauge "mqtt_connected" [] "Whether messages reach the broker";
    MQTT_PUBLISHED: Counter "mqtt_published_total" [] "Messages that the broker acknowledged";
    MQTT_FAILED: Counter "mqtt_failed_total" [] "Messages that were not acknowledged";
    MQTT_RECEIVED: Counter "mqtt_received_total" [] "Messages from the broker";
    MQTT_DROPPED: Counter "mqtt_dropped_total" ["reason"] "Messages from the broker that were dropped, by reason";
    MQTT_RECONNECTS: Counter "mqtt_reconnects_total" [] "Connections to the broker after the first one";
    MQTT_REFUSED_SUBSCRIPTIONS: Counter "mqtt_refused_subscriptions_total" [] "Subscriptions that the broker refused";

    QUEUE_WAITING: Gauge "queue_waiting" ["queue"] "What waits between two parts of the service, by queue";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

    #[test]
    fn names_are_unique_and_follow_prometheus_customs() {
        let names: BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(!family.help.ends_with('.'), "{}", family.name);
        }
    }

    /// The table of `docs/metrics.md` as it has to be.
    fn table() -> String {
        let row = |family: &&Family| {
            let kind = format!("{:?}", family.kind).to_lowercase();
            let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
            format!("| `{}` | {kind} | {labels} | {} |\n", family.name, family.help)
        };
        ALL.iter().map(row).collect()
    }

    #[test]
    fn the_document_has_every_metric_as_it_is() {
        let rows: String =
            DOCUMENT.lines().filter(|line| line.starts_with("| `honeycast_")).flat_map(|line| [line, "\n"]).collect();
        assert!(rows == table(), "docs/metrics.md must have these rows:\n{}", table());
    }

    #[test]
    fn dashboard_and_alerts_name_only_metrics_that_exist() {
        let names: BTreeSet<_> = ALL.iter().map(|family| family.name).collect();
        for (file, text) in [
            ("grafana.json", include_str!("../../../config/grafana.json")),
            ("alerts.yml", include_str!("../../../config/alerts.yml")),
        ] {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let named = text.split(|c| !is_part(c)).filter(|word| word.starts_with("honeycast_"));
            let mut count = 0;
            for name in named {
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(names.contains(name) || base.is_some_and(|base| names.contains(base)), "{file}: {name}");
                count += 1;
            }
            assert!(count > 5, "{file} names {count} metrics");
        }
    }
}
