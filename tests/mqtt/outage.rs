//! The control plane on a real broker that goes away, comes back, freezes and is flooded. Media is left out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeycast::base::{CameraId, Shutdown, StreamId, ViewerId};
use honeycast::control::media_io::{Egress, Ingest};
use honeycast::control::{self, AddressRule, BrokerStatus, Control, Parts, Settings, StartOptions, Timing};
use honeycast::egress::{
    AddViewer, CloseReason, Drops, FrameTap, IceRestart, RestartError, ViewerAnswer, ViewerError, ViewerStats,
};
use honeycast::ingest::{DropReason, IngestStats, OpenError, OpenStream, PortPlan, RefusedSource};
use honeycast::media::{Frame, FrameSink};
use honeycast::mqtt::{CameraLinkCounters, Link, LinkStatus, TopicSettings, Topics, camera_link};
use tokio::sync::{mpsc, watch};

use crate::support::mosquitto::{Mosquitto, Options};
use crate::{Client, in_time, message, retained, settings};

const STREAMS: u32 = 20;
/// A broker that is back must be used again within this time.
const RESUME: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct NoMedia;

impl FrameSink for NoMedia {
    fn push(&self, _: Arc<Frame>) {}
}

impl Ingest for NoMedia {
    async fn open(&self, _: OpenStream) -> Result<PortPlan, OpenError> {
        Ok(PortPlan { video_rtp: 5006, rtcp: 5007, audio_rtp: 5008 })
    }
    fn close(&self, _: StreamId) {}
    fn park(&self, _: StreamId) -> bool {
        false
    }
    async fn reopen(&self, _: StreamId) -> Result<PortPlan, OpenError> {
        Err(OpenError::NotParked)
    }
    fn request_keyframe(&self, _: StreamId) {}
    fn expect_source(&self, _: StreamId, _: IpAddr) {}
    fn stats(&self, _: StreamId) -> Option<IngestStats> {
        None
    }
    fn camera_restarted(&self, _: StreamId) {}
    fn set_viewer_limit(&self, _: StreamId, _: Option<u64>) {}
    fn dropped(&self) -> Vec<(DropReason, u64)> {
        Vec::new()
    }
    fn refused_sources(&self) -> Vec<RefusedSource> {
        Vec::new()
    }
}

impl Egress for NoMedia {
    fn open_stream(&self, _: StreamId) -> Arc<dyn FrameSink> {
        Arc::new(Self)
    }
    fn close_stream(&self, _: StreamId, _: CloseReason) {}
    async fn add_viewer(&self, _: AddViewer) -> Result<ViewerAnswer, ViewerError> {
        Err(ViewerError::Unavailable)
    }
    fn remove_viewer(&self, _: ViewerId, _: CloseReason) {}
    fn tap(&self, _: StreamId) -> FrameTap {
        FrameTap::of(Vec::new()).0
    }
    fn viewer_stats(&self, _: ViewerId) -> Option<ViewerStats> {
        None
    }

    fn restart_viewer(&self, _: ViewerId, _: &str) -> Result<ViewerAnswer, RestartError> {
        Err(RestartError::NoViewer)
    }

    fn restart_ice(&self, _: ViewerId, _: &str) -> Result<IceRestart, RestartError> {
        Err(RestartError::NoViewer)
    }

    fn drops(&self) -> Drops {
        Drops::default()
    }
}

/// Control plane and MQTT link as the service puts them together.
struct Plane {
    control: Control,
    link: Link,
    counters: Arc<CameraLinkCounters>,
    shutdown: Shutdown,
    /// Their receivers are part of the control task.
    _events: (mpsc::Sender<honeycast::ingest::IngestEvent>, mpsc::Sender<honeycast::egress::EgressEvent>),
}

impl Plane {
    fn start(port: u16) -> Self {
        let topics = Topics::new(&TopicSettings::default()).unwrap();
        let mut settings = settings(port, &[]);
        settings.subscriptions = topics.subscriptions();
        let Client { link, incoming, shutdown } = Client::start(settings);
        let (commands, receiver) = mpsc::channel(1024);
        let (messages, camera_messages) = mpsc::channel(1024);
        let (ingest, ingest_events) = mpsc::channel(1);
        let (egress, egress_events) = mpsc::channel(1);
        let counters = Arc::new(CameraLinkCounters::default());
        let run =
            camera_link::run(link.clone(), topics, receiver, incoming, messages, shutdown.clone(), counters.clone());
        shutdown.spawn(run);
        let parts = Parts {
            ingest: NoMedia,
            egress: NoMedia,
            ingest_events,
            egress_events,
            camera_messages,
            commands,
            broker: broker_status(&link),
            store: None,
        };
        let control = control::start(control_settings(), parts, &shutdown);
        Self { control, link, counters, shutdown, _events: (ingest, egress) }
    }

    async fn start_streams(&self) -> Vec<CameraId> {
        let cameras: Vec<CameraId> = (1..=STREAMS).map(|n| format!("{n:032X}").parse().unwrap()).collect();
        for camera in &cameras {
            self.control.start_stream(*camera, StartOptions::default()).await.unwrap();
        }
        cameras
    }

    async fn wait_broker(&self, fits: impl Fn(&LinkStatus) -> bool) {
        let mut status = self.link.status();
        in_time(status.wait_for(fits)).await.unwrap();
    }

    /// Keepalives acknowledged and failed, by camera.
    async fn keepalives(&self) -> HashMap<CameraId, (u64, u64)> {
        let streams = self.control.streams().await.unwrap();
        streams.into_iter().map(|info| (info.camera_id, (info.keepalive.count, info.keepalive.errors))).collect()
    }

    /// Waits until each stream has more acknowledged keepalives than in `before`.
    async fn wait_keepalives(&self, before: &HashMap<CameraId, (u64, u64)>) {
        let all_grown = async {
            loop {
                let now = self.keepalives().await;
                if before.iter().all(|(camera, (count, _))| now[camera].0 > *count) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        in_time(all_grown).await;
    }

    async fn end(self) {
        self.control.stop_all("the test is over").await;
        self.shutdown.request();
        in_time(self.shutdown.drained()).await;
    }
}

fn broker_status(link: &Link) -> watch::Receiver<BrokerStatus> {
    let translate = |status: &LinkStatus| match status {
        LinkStatus::Connected => BrokerStatus::Connected,
        LinkStatus::Disconnected { reason, .. } => BrokerStatus::Disconnected { reason: reason.clone() },
    };
    let mut status = link.status();
    let (to, translated) = watch::channel(translate(&status.borrow_and_update()));
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            to.send_replace(translate(&status.borrow_and_update()));
        }
    });
    translated
}

fn control_settings() -> Settings {
    let minutes = Duration::from_secs(600);
    Settings {
        timing: Timing {
            keepalive_interval: Duration::from_secs(4),
            start_timeout: minutes,
            idle_timeout: minutes,
            give_up_after: minutes,
        },
        max_viewers: 10,
        max_streams: 100,
        max_cameras: 100,
        start_idempotent: false,
        start_on_demand: false,
        bandwidth_kbit: (500, 5000),
        address: AddressRule {
            local_ip: "127.0.0.1".parse().unwrap(),
            external_ip: "127.0.0.1".parse().unwrap(),
            is_local: Arc::new(|_| true),
        },
    }
}

#[tokio::test]
async fn twenty_streams_send_keepalives_within_two_seconds_after_a_broker_restart_and_count_on() {
    let mut broker = Mosquitto::start(Options::plain());
    let plane = Plane::start(broker.port());
    plane.wait_broker(LinkStatus::is_connected).await;
    let cameras = plane.start_streams().await;
    let none = cameras.iter().map(|camera| (*camera, (0, 0))).collect();
    plane.wait_keepalives(&none).await;

    broker.kill();
    plane.wait_broker(|status| !status.is_connected()).await;
    assert!(matches!(plane.control.health().await.unwrap().broker, BrokerStatus::Disconnected { .. }));
    // Long enough for the link to be at its longest pauses, and for every stream to miss a keepalive.
    let all_fail = async {
        while plane.keepalives().await.values().any(|(_, errors)| *errors < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(all_fail).await;
    let before = plane.keepalives().await;
    assert_eq!(plane.control.health().await.unwrap().active_streams, STREAMS as usize);

    broker.restart();
    let back = Instant::now();
    plane.wait_keepalives(&before).await;
    assert!(back.elapsed() <= RESUME, "{:?}", back.elapsed());
    for (camera, (count, _)) in plane.keepalives().await {
        // The regular one may have come right after the one that was made up for.
        assert!((1..=2).contains(&(count - before[&camera].0)), "{camera}: {count}");
    }
    assert_eq!(plane.control.health().await.unwrap().broker, BrokerStatus::Connected);
    plane.end().await;
}

#[tokio::test]
async fn a_broker_that_is_absent_at_the_start_is_found_within_two_seconds_of_its_start() {
    let mut broker = Mosquitto::start(Options::plain());
    broker.kill();
    let plane = Plane::start(broker.port());
    plane
        .wait_broker(|status| matches!(status, LinkStatus::Disconnected { reason, .. } if reason.contains("refused")))
        .await;
    let camera: CameraId = format!("{:032X}", 1).parse().unwrap();
    let error = plane.control.start_stream(camera, StartOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("MQTT broker is not connected"), "{error}");
    broker.restart();
    let back = Instant::now();
    plane.wait_broker(LinkStatus::is_connected).await;
    assert!(back.elapsed() <= RESUME, "{:?}", back.elapsed());
    plane.control.start_stream(camera, StartOptions::default()).await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn keepalives_go_on_after_a_broker_was_frozen() {
    let broker = Mosquitto::start(Options::plain());
    let plane = Plane::start(broker.port());
    plane.wait_broker(LinkStatus::is_connected).await;
    let cameras = plane.start_streams().await;
    plane.wait_keepalives(&cameras.iter().map(|camera| (*camera, (0, 0))).collect()).await;
    broker.freeze();
    plane.wait_broker(|status| !status.is_connected()).await;
    let before = plane.keepalives().await;
    broker.thaw();
    let back = Instant::now();
    plane.wait_keepalives(&before).await;
    assert!(back.elapsed() <= RESUME, "{:?}", back.elapsed());
    plane.end().await;
}

#[tokio::test]
async fn a_flood_of_junk_and_kept_messages_delays_no_keepalive_and_starts_no_play() {
    const FLOOD: u64 = 4_000;
    let broker = Mosquitto::start(Options::plain());
    let flooder = Client::connected(settings(broker.port(), &[])).await;
    let camera = format!("{:032X}", 1);
    let connected = retained(&format!("prod/device/connection/hive-cam/{camera}"), r#"{"status":"connected"}"#);
    flooder.link.publish(connected).await.unwrap();
    for n in 100..600 {
        let topic = format!("prod/device/status/hive-cam/{n:032X}");
        flooder.link.publish(retained(&topic, r#"{"temperature":20}"#)).await.unwrap();
    }
    let plane = Plane::start(broker.port());
    plane.wait_broker(LinkStatus::is_connected).await;
    let cameras = plane.start_streams().await;
    plane.wait_keepalives(&cameras.iter().map(|camera| (*camera, (0, 0))).collect()).await;

    let before = plane.keepalives().await;
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..FLOOD {
        let topic = match n % 4 {
            0 => "prod/device/status/hive-cam/not-a-camera".to_owned(),
            1 => format!("prod/device/connection/hive-cam/{camera}"),
            2 => format!("prod/device/message/hive-cam/{camera}/activity/x"),
            _ => format!("prod/device/status/hive-cam/{:032X}", n + 1_000),
        };
        let link = flooder.link.clone();
        // As fast as the flooder's own link lets it.
        let junk = message(&topic, if n % 8 < 4 { "\u{0}{[" } else { "[]" });
        flood.spawn(async move { while link.publish(junk.clone()).await.is_err() {} });
        if flood.len() >= 200 {
            flood.join_next().await;
        }
    }
    flood.join_all().await;
    plane.wait_keepalives(&before).await;
    for (camera, (_, errors)) in plane.keepalives().await {
        assert_eq!(errors, 0, "{camera}");
    }
    for info in plane.control.streams().await.unwrap() {
        assert_eq!(info.manager.plays, 1, "{}", info.camera_id);
    }
    assert!(plane.control.health().await.unwrap().cameras_known <= 100);
    let all_counted = async {
        loop {
            let stats = plane.counters.snapshot();
            let counted = stats.not_a_camera + stats.not_json + stats.not_an_object;
            if counted + plane.link.counters().dropped == FLOOD {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(all_counted).await;
    assert_eq!(plane.link.counters().reconnects, 0);
    plane.end().await;
}
