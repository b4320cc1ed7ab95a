//! The service as a process, cameras on addresses of their own, and one viewer for each.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use honeycast::base::{CameraId, Shutdown};
use honeycast::sim::{Imitated, Sim, SimReport, SimSettings};
use serde_json::Value;

use crate::support::service::Service;
use crate::viewer::{Tally, Viewer};
use crate::{until, within};

/// Cameras have ids that count up in the first eight digits.
const FIRST: &str = "00000001F1FA4C6CAEBA3E2FD85EFEBF";
/// Cameras of one process wake up together.
const COALESCE: Duration = Duration::from_millis(5);

pub(crate) struct Site {
    service: Arc<Service>,
    shutdown: Shutdown,
    broker: (String, u16),
}

impl Site {
    /// With the embedded broker.
    pub(crate) fn new(env: &[(&str, &str)]) -> Self {
        let service = start(env);
        let (host, port) = service.address("mqtt").rsplit_once(':').unwrap();
        let broker = (host.to_owned(), port.parse().unwrap());
        Self { service: Arc::new(service), shutdown: Shutdown::new(), broker }
    }

    /// With a broker of its own.
    pub(crate) fn with_broker(port: u16) -> Self {
        let text = port.to_string();
        let service = start(&[
            ("MQTT_EMBEDDED", "false"),
            ("EMQX_BROKER_HOST", "127.0.0.1"),
            ("EMQX_BROKER_PORT", &text),
            ("EMQX_USE_TLS", "false"),
        ]);
        Self { service: Arc::new(service), shutdown: Shutdown::new(), broker: ("127.0.0.1".to_owned(), port) }
    }

    /// The `n`-th camera's settings: small pictures from an address of its own.
    pub(crate) fn settings(&self, n: u32) -> SimSettings {
        let first = SimSettings::new(FIRST.parse().unwrap(), self.broker.0.as_str(), self.broker.1);
        let mut settings = first.nth(n);
        settings.bind = address(n + 1);
        settings.behaviour.small_picture = true;
        settings.behaviour.frame_rate = 10;
        settings.coalesce = COALESCE;
        settings
    }

    /// Switches a camera on and waits until it has found the broker.
    pub(crate) async fn camera(&self, settings: SimSettings) -> Camera {
        let camera = self.switch_on(settings);
        until("the camera is connected", async || camera.report().mqtt_connected).await;
        camera
    }

    pub(crate) fn switch_on(&self, settings: SimSettings) -> Camera {
        let (id, ip) = (settings.camera, settings.bind);
        let sim = Sim::start(settings, &self.shutdown).unwrap();
        Camera { id, ip, sim, stream: None, viewer: None, tally: Arc::default() }
    }

    pub(crate) async fn broker_is_there(&self) {
        until("the service is connected", async || self.call("GET", "/health").await.1["status"] == "healthy").await;
    }

    /// One request that does not hold up the cameras and viewers of this process.
    pub(crate) async fn call(&self, method: &'static str, path: &str) -> (u16, Value) {
        let (service, path) = (Arc::clone(&self.service), path.to_owned());
        tokio::task::spawn_blocking(move || service.call(method, &path)).await.unwrap()
    }

    /// Starts a camera's stream and lets somebody watch it.
    pub(crate) async fn start(&self, camera: &mut Camera) {
        let (status, started) = self.call("POST", &format!("/streams/{}/start", camera.id)).await;
        assert_eq!(status, 201, "{started}");
        let stream = started["stream_id"].as_str().unwrap().to_owned();
        let watch = Viewer::watch(self.service().address("signaling"), camera.id, &stream, Arc::clone(&camera.tally));
        camera.viewer = Some(watch.await);
        camera.stream = Some(stream);
    }

    /// One more viewer of a stream that runs, and what it gets.
    pub(crate) async fn watch(&self, camera: &Camera) -> (Viewer, Arc<Mutex<Tally>>) {
        let (tally, stream) = (Arc::default(), camera.stream.as_deref().unwrap());
        let signaling = self.service.address("signaling");
        (Viewer::watch(signaling, camera.id, stream, Arc::clone(&tally)).await, tally)
    }

    /// Where all viewers are served.
    pub(crate) fn viewer_port(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.service.port("viewer_udp"))
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Stops it; the viewer goes as well.
    pub(crate) async fn stop(&self, camera: &mut Camera) {
        let (status, stopped) = self.call("POST", &format!("/streams/{}/stop", camera.id)).await;
        assert_eq!(status, 200, "{stopped}");
        (camera.stream, camera.viewer) = (None, None);
    }

    pub(crate) async fn detail(&self, camera: &Camera) -> Value {
        self.call("GET", &format!("/streams/{}", camera.id)).await.1
    }

    /// Where cameras send to.
    pub(crate) fn ports(&self) -> Imitated {
        let port = |name: &str| (Ipv4Addr::LOCALHOST, self.service.port(name)).into();
        Imitated { video: port("camera_video_udp"), rtcp: port("camera_rtcp_udp"), audio: port("camera_audio_udp") }
    }

    pub(crate) async fn end(self) {
        self.shutdown.request();
        within("the cameras end", self.shutdown.drained()).await;
    }
}

fn start(env: &[(&str, &str)]) -> Service {
    let ours =
        [("LOCAL_IP", "127.0.0.1"), ("EXTERNAL_IP", "127.0.0.1"), ("STREAM_IDLE_TIMEOUT", "0"), ("LOG_LEVEL", "info")];
    let all: Vec<_> = ours.iter().chain(env).copied().collect();
    Service::start(&all)
}

/// One of the addresses of this machine that nobody else uses.
pub(crate) fn address(n: u32) -> IpAddr {
    let [_, b, c, d] = n.to_be_bytes();
    Ipv4Addr::new(127, 77 + b, c, d).into()
}

/// A camera, and who watches it.
pub(crate) struct Camera {
    pub(crate) id: CameraId,
    pub(crate) ip: IpAddr,
    pub(crate) sim: Sim,
    /// The stream, while there is to be one.
    pub(crate) stream: Option<String>,
    viewer: Option<Viewer>,
    tally: Arc<Mutex<Tally>>,
}

impl Camera {
    pub(crate) fn report(&self) -> SimReport {
        self.sim.report()
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// Waits for pictures that the camera has not yet taken.
    pub(crate) async fn shows(&self, pictures: u32) {
        let (id, since) = (self.id, self.tally().last.unwrap_or(0));
        until(&format!("{id} shows picture {since} and {pictures} more"), async || {
            self.tally().last.is_some_and(|last| last >= since + pictures)
        })
        .await;
    }

    /// Nobody else was seen or heard.
    pub(crate) fn was_alone(&self) {
        let tally = self.tally();
        let (many, first) = (tally.foreign.len(), tally.foreign.iter().take(3).collect::<Vec<_>>());
        assert_eq!(many, 0, "{} showed others, first {first:?}", self.id);
        assert_eq!(tally.undecryptable, 0, "{}", self.id);
    }

    /// To the viewer it was one stream that goes forward, though perhaps with packets missing that the camera
    /// has sent in vain.
    pub(crate) fn went_forward(&self) {
        let tally = self.tally();
        let found = (tally.twice, tally.backwards, tally.reversed);
        assert_eq!(found, (0, 0, 0), "{}: twice, backwards, reversed: {tally:?}", self.id);
    }

    /// And nothing is missing.
    pub(crate) fn was_continuous(&self) {
        self.went_forward();
        let tally = self.tally();
        assert_eq!((tally.missing, tally.late), (0, 0), "{}: missing, late: {tally:?}", self.id);
    }
}
