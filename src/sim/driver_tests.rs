//! The whole camera: a broker, real sockets.

use std::net::Ipv4Addr;

use serde_json::Value;
use tokio::time::timeout;

use super::super::testing::{CAMERA, SDP, STREAM, play_with, stop};
use super::*;
use crate::media::rtp::RtpPacket;
use crate::mqtt::{BrokerSettings, EmbeddedBroker, LinkSettings};

/// Nothing here takes a second; a test that hangs should not hang for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server's side: its link to the broker and the three ports that the camera sends to.
struct Server {
    link: Link,
    incoming: mpsc::Receiver<Message>,
    video: UdpSocket,
    audio: UdpSocket,
    rtcp: UdpSocket,
}

impl Server {
    async fn start(broker: u16, shutdown: &Shutdown) -> Self {
        let settings = LinkSettings {
            host: "127.0.0.1".to_owned(),
            port: broker,
            client_id_prefix: "server".to_owned(),
            credentials: None,
            tls: None,
            keep_alive: Duration::from_secs(30),
            subscriptions: vec!["prod/device/connection/hive-cam/+".to_owned()],
            last_will: None,
            birth: None,
        };
        let (link, incoming) = Link::start(settings, shutdown).unwrap();
        timeout(PATIENCE, link.status().wait_for(|status| status.is_connected())).await.unwrap().unwrap();
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (video, audio, rtcp) = (socket().await.unwrap(), socket().await.unwrap(), socket().await.unwrap());
        Self { link, incoming, video, audio, rtcp }
    }

    async fn say(&self, kind: &str, text: String) {
        let topic = format!("prod/honeycomb/{CAMERA}/stream/{kind}");
        let message = Message { topic, payload: text.into(), retain: false };
        timeout(PATIENCE, self.link.publish(message)).await.unwrap().unwrap();
    }

    async fn play(&self) {
        let port = |socket: &UdpSocket| socket.local_addr().unwrap().port().to_string();
        let sdp = SDP
            .replace("192.0.2.10", "127.0.0.1")
            .replace("5006", &port(&self.video))
            .replace("a=rtcp:5007", &format!("a=rtcp:{}", port(&self.rtcp)))
            .replace("5008", &port(&self.audio));
        self.say("play", play_with(STREAM, &sdp)).await;
    }

    /// The status that the camera tells next.
    async fn told(&mut self) -> String {
        let message = timeout(PATIENCE, self.incoming.recv()).await.unwrap().unwrap();
        assert_eq!(message.topic, format!("prod/device/connection/hive-cam/{CAMERA}"));
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(payload["ipAddress"], "127.0.0.1");
        payload["status"].as_str().unwrap().to_owned()
    }
}

async fn datagram(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 2048];
    let (len, from) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(len);
    (buffer, from)
}

fn settings(broker: u16) -> SimSettings {
    let mut settings = SimSettings::new(CAMERA.parse().unwrap(), "127.0.0.1", broker);
    settings.bind = Ipv4Addr::LOCALHOST.into();
    settings
}

async fn broker(shutdown: &Shutdown) -> u16 {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settings = BrokerSettings { bind, anonymous: true, users: Vec::new() };
    EmbeddedBroker::start(settings, shutdown).await.unwrap().local_addr().port()
}

#[tokio::test]
async fn plays_over_a_broker_and_stops() {
    let (shutdown, ours) = (Shutdown::new(), Shutdown::new());
    let port = broker(&shutdown).await;
    let mut server = Server::start(port, &shutdown).await;
    let sim = Sim::start(settings(port), &ours).unwrap();
    assert_eq!(server.told().await, "connected");

    server.play().await;
    let (video, video_from) = datagram(&server.video).await;
    assert_eq!(RtpPacket::parse(video.into()).unwrap().payload_type(), 103);
    let (audio, audio_from) = datagram(&server.audio).await;
    assert_eq!(RtpPacket::parse(audio.into()).unwrap().payload_type(), 96);
    let (rtcp, rtcp_from) = datagram(&server.rtcp).await;
    assert_eq!(rtcp[1], 200);
    assert!(video_from != audio_from && audio_from != rtcp_from && rtcp_from != video_from);
    let report = sim.report();
    assert!(report.mqtt_connected && report.streaming && report.packets_sent > 0, "{report:?}");

    server.say("stop", stop(STREAM)).await;
    // A last keyframe may still be in the kernel; then there is silence.
    while timeout(Duration::from_millis(300), datagram(&server.video)).await.is_ok() {}
    assert_eq!(sim.report().stopped_reason, Some("stop"));

    ours.request();
    timeout(PATIENCE, ours.drained()).await.unwrap();
    assert_eq!(server.told().await, "disconnected");
    shutdown.request();
}

#[tokio::test]
async fn comes_back_from_a_reboot_on_other_ports() {
    let (shutdown, ours) = (Shutdown::new(), Shutdown::new());
    let port = broker(&shutdown).await;
    let mut server = Server::start(port, &shutdown).await;
    let mut settings = settings(port);
    settings.faults.schedule = vec![(Duration::from_millis(200), Fault::Reboot)];
    let sim = Sim::start(settings, &ours).unwrap();
    assert_eq!(server.told().await, "connected");
    server.play().await;
    let (_, first) = datagram(&server.video).await;
    assert_eq!(server.told().await, "disconnected");
    assert_eq!(server.told().await, "connected");
    assert_eq!(sim.report().stopped_reason, Some("reboot"));
    server.play().await;
    // The old packets wait in front of the new ones.
    let mut from = first;
    while from == first {
        from = datagram(&server.video).await.1;
    }
    ours.request();
    timeout(PATIENCE, ours.drained()).await.unwrap();
    shutdown.request();
}

#[tokio::test]
async fn a_share_that_is_none_is_refused() {
    let mut settings = settings(1);
    settings.faults.loss_percent = f64::NAN;
    let error = Sim::start(settings, &Shutdown::new()).unwrap_err();
    assert!(error.to_string().contains("loss"), "{error}");
}
