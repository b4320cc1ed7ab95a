//! The control task on fakes: no sockets, no broker, every call recorded.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::address::AddressRule;
use super::camera::{CameraCommand, CameraContent, CameraMessage, CommandKind, Device};
use super::cameras::CameraStore;
use super::media_io::{Egress, Ingest};
use super::session::Timing;
use super::settings::{BrokerStatus, Settings};
use super::{AddViewerError, Control, NewViewer, Parts, ViewerHandle, start};
use crate::base::{CameraId, Shutdown, StreamId, ViewerId};
use crate::egress::{
    AddViewer, Candidate, CloseReason, Drops, EgressEvent, FrameTap, IceRestart, RestartError, ViewerAnswer,
    ViewerError, ViewerStats,
};
use crate::ingest::{DropReason, IngestEvent, IngestStats, OpenError, OpenStream, PortPlan, RefusedSource};
use crate::media::{Frame, FrameSink};

pub(crate) const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
pub(crate) const OTHER_CAMERA: &str = "00000000000000000000000000000002";

pub(crate) fn camera() -> CameraId {
    CAMERA.parse().unwrap()
}

/// What was asked of ingest, egress and broker, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Open { stream: StreamId, bitrate_range: (u64, u64), expected_ip: Option<IpAddr> },
    Close(StreamId),
    Park(StreamId),
    CameraRestarted(StreamId),
    Reopen(StreamId),
    Keyframe(StreamId),
    ViewerLimit(StreamId, Option<u64>),
    Expect(StreamId, IpAddr),
    OpenEgress(StreamId),
    CloseEgress(StreamId, CloseReason),
    AddViewer(ViewerId, String),
    RemoveViewer(ViewerId, CloseReason),
    RestartViewer(ViewerId, String),
    Publish(CameraId, CommandKind, serde_json::Value),
}

/// How a fake behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mood {
    Works,
    Fails(&'static str),
    Hangs,
}

/// Taps that nobody reads, so that they stay open.
type OpenTaps = Vec<Box<dyn std::any::Any + Send>>;

#[derive(Clone)]
pub(crate) struct World {
    calls: Arc<Mutex<Vec<Call>>>,
    pub(crate) broker: Arc<Mutex<Mood>>,
    pub(crate) ingest: Arc<Mutex<Mood>>,
    pub(crate) egress: Arc<Mutex<Mood>>,
    pub(crate) stats: Arc<Mutex<Option<IngestStats>>>,
    pub(crate) refused: Arc<Mutex<Vec<RefusedSource>>>,
    /// What a tap gives before it ends.
    pub(crate) frames: Arc<Mutex<Vec<Arc<Frame>>>>,
    /// Where there are some, taps do not end: as those of a camera that has gone silent.
    pub(crate) open_taps: Arc<Mutex<Option<OpenTaps>>>,
}

impl World {
    fn new() -> Self {
        let works = || Arc::new(Mutex::new(Mood::Works));
        let (broker, ingest, egress) = (works(), works(), works());
        Self {
            calls: Arc::default(),
            broker,
            ingest,
            egress,
            stats: Arc::default(),
            refused: Arc::default(),
            frames: Arc::default(),
            open_taps: Arc::default(),
        }
    }

    fn record(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The messages to cameras so far.
    pub(crate) fn published(&self) -> Vec<(CommandKind, serde_json::Value)> {
        let published = |call| match call {
            Call::Publish(_, kind, payload) => Some((kind, payload)),
            _ => None,
        };
        self.calls().into_iter().filter_map(published).collect()
    }

    pub(crate) fn count(&self, kind: CommandKind) -> usize {
        self.published().iter().filter(|(k, _)| *k == kind).count()
    }
}

fn mood(mood: &Mutex<Mood>) -> Mood {
    mood.lock().unwrap().clone()
}

struct NoSink;

impl FrameSink for NoSink {
    fn push(&self, _frame: Arc<Frame>) {}
}

#[derive(Clone)]
pub(crate) struct FakeIngest(World);

impl Ingest for FakeIngest {
    async fn open(&self, stream: OpenStream) -> Result<PortPlan, OpenError> {
        let OpenStream { stream, bitrate_range, expected_ip, .. } = stream;
        self.0.record(Call::Open { stream, bitrate_range, expected_ip });
        match mood(&self.0.ingest) {
            Mood::Works => Ok(PortPlan { video_rtp: 5006, rtcp: 5007, audio_rtp: 5008 }),
            Mood::Fails(_) => Err(OpenError::Stopped),
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn close(&self, stream: StreamId) {
        self.0.record(Call::Close(stream));
    }

    fn park(&self, stream: StreamId) -> bool {
        self.0.record(Call::Park(stream));
        true
    }

    async fn reopen(&self, stream: StreamId) -> Result<PortPlan, OpenError> {
        self.0.record(Call::Reopen(stream));
        match mood(&self.0.ingest) {
            Mood::Works => Ok(PortPlan { video_rtp: 5006, rtcp: 5007, audio_rtp: 5008 }),
            Mood::Fails(_) => Err(OpenError::Stopped),
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn request_keyframe(&self, stream: StreamId) {
        self.0.record(Call::Keyframe(stream));
    }

    fn expect_source(&self, stream: StreamId, ip: IpAddr) {
        self.0.record(Call::Expect(stream, ip));
    }

    fn camera_restarted(&self, stream: StreamId) {
        self.0.record(Call::CameraRestarted(stream));
    }

    fn set_viewer_limit(&self, stream: StreamId, bits_per_second: Option<u64>) {
        self.0.record(Call::ViewerLimit(stream, bits_per_second));
    }

    fn stats(&self, _stream: StreamId) -> Option<IngestStats> {
        self.0.stats.lock().unwrap().clone()
    }

    fn refused_sources(&self) -> Vec<RefusedSource> {
        self.0.refused.lock().unwrap().clone()
    }

    fn dropped(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.map(|reason| (reason, reason as u64)).to_vec()
    }
}

#[derive(Clone)]
pub(crate) struct FakeEgress(World);

impl Egress for FakeEgress {
    fn open_stream(&self, stream: StreamId) -> Arc<dyn FrameSink> {
        self.0.record(Call::OpenEgress(stream));
        Arc::new(NoSink)
    }

    fn close_stream(&self, stream: StreamId, reason: CloseReason) {
        self.0.record(Call::CloseEgress(stream, reason));
    }

    fn tap(&self, _stream: StreamId) -> FrameTap {
        let (reader, open) = FrameTap::of(self.0.frames.lock().unwrap().clone());
        if let Some(taps) = &mut *self.0.open_taps.lock().unwrap() {
            taps.push(Box::new(open));
        }
        reader
    }

    async fn add_viewer(&self, viewer: AddViewer) -> Result<ViewerAnswer, ViewerError> {
        self.0.record(Call::AddViewer(viewer.viewer, viewer.offer.clone()));
        match mood(&self.0.egress) {
            Mood::Works => Ok(ViewerAnswer {
                sdp: "v=0\r\n".into(),
                candidates: vec![Candidate {
                    candidate: "candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host".into(),
                    sdp_mid: "0".into(),
                    sdp_m_line_index: 0,
                }],
            }),
            Mood::Fails(reason) => Err(ViewerError::Offer(reason.into())),
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn remove_viewer(&self, viewer: ViewerId, reason: CloseReason) {
        self.0.record(Call::RemoveViewer(viewer, reason));
    }

    fn viewer_stats(&self, _viewer: ViewerId) -> Option<ViewerStats> {
        None
    }

    fn restart_viewer(&self, viewer: ViewerId, offer: &str) -> Result<ViewerAnswer, RestartError> {
        self.0.record(Call::RestartViewer(viewer, offer.to_owned()));
        match offer.contains("restart") {
            true => Ok(ViewerAnswer { sdp: "v=0 again\r\n".into(), candidates: Vec::new() }),
            false => Err(RestartError::NotARestart("another peer connection".into())),
        }
    }

    fn restart_ice(&self, _viewer: ViewerId, remote_ufrag: &str) -> Result<IceRestart, RestartError> {
        Ok(IceRestart { ufrag: format!("to-{remote_ufrag}"), pwd: "p".into(), candidates: Vec::new() })
    }

    fn drops(&self) -> Drops {
        Drops::default()
    }
}

/// A control task on fakes.
pub(crate) struct Rig {
    pub(crate) control: Control,
    pub(crate) world: World,
    pub(crate) shutdown: Shutdown,
    pub(crate) ingest_events: mpsc::Sender<IngestEvent>,
    pub(crate) egress_events: mpsc::Sender<EgressEvent>,
    pub(crate) camera_messages: mpsc::Sender<CameraMessage>,
    pub(crate) broker_status: watch::Sender<BrokerStatus>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        timing: Timing {
            keepalive_interval: Duration::from_secs(4),
            start_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            give_up_after: Duration::ZERO,
        },
        max_viewers: 10,
        max_streams: 100,
        max_cameras: 100,
        start_idempotent: false,
        start_on_demand: false,
        bandwidth_kbit: (500, 5000),
        address: AddressRule {
            local_ip: "192.168.1.10".parse().unwrap(),
            external_ip: "203.0.113.7".parse().unwrap(),
            is_local: Arc::new(|ip| matches!(ip, IpAddr::V4(ip) if ip.is_private())),
        },
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::with_store(settings, None)
    }

    pub(crate) fn with_store(settings: Settings, store: Option<CameraStore>) -> Self {
        Self::with_parts(settings, store, BrokerStatus::Connected)
    }

    pub(crate) fn with_broker(status: BrokerStatus) -> Self {
        Self::with_parts(settings(), None, status)
    }

    fn with_parts(settings: Settings, store: Option<CameraStore>, broker: BrokerStatus) -> Self {
        let world = World::new();
        let shutdown = Shutdown::new();
        let (ingest_events, ingest_rx) = mpsc::channel(64);
        let (egress_events, egress_rx) = mpsc::channel(64);
        let (camera_messages, cameras_rx) = mpsc::channel(64);
        let (broker_status, broker_rx) = watch::channel(broker);
        let (commands, commands_rx) = mpsc::channel(64);
        tokio::spawn(self::broker(world.clone(), commands_rx));
        let parts = Parts {
            ingest: FakeIngest(world.clone()),
            egress: FakeEgress(world.clone()),
            ingest_events: ingest_rx,
            egress_events: egress_rx,
            camera_messages: cameras_rx,
            commands,
            broker: broker_rx,
            store,
        };
        let control = start(settings, parts, &shutdown);
        Self { control, world, shutdown, ingest_events, egress_events, camera_messages, broker_status }
    }

    /// Starts the camera's stream and reports its first packet.
    pub(crate) async fn streaming(&self) -> StreamId {
        let started = self.control.start_stream(camera(), Default::default()).await.unwrap();
        let source = "10.0.0.5:40000".parse().unwrap();
        self.ingest(IngestEvent::MediaStarted { stream: started.stream_id, source }).await;
        started.stream_id
    }

    pub(crate) async fn add_viewer(&self, stream: impl ToString) -> Result<ViewerHandle, AddViewerError> {
        self.replace_viewer(stream, None).await
    }

    pub(crate) async fn replace_viewer(
        &self,
        stream: impl ToString,
        replaces: Option<ViewerId>,
    ) -> Result<ViewerHandle, AddViewerError> {
        let new = NewViewer { stream_id: Some(stream.to_string()), offer: "v=0 offer".into(), replaces };
        self.control.add_viewer(camera(), new).await
    }

    /// Reports an event and waits until the control task has taken it.
    pub(crate) async fn ingest(&self, event: IngestEvent) {
        self.ingest_events.send(event).await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn egress(&self, event: EgressEvent) {
        self.egress_events.send(event).await.unwrap();
        self.settle().await;
    }

    pub(crate) async fn camera_connects(&self, ip: Option<&str>) {
        let content = CameraContent::Connection {
            online: true,
            at: None,
            ip: ip.map(|ip| ip.parse().unwrap()),
            device: Device::default(),
        };
        self.camera_messages.send(CameraMessage { camera: camera(), content, retained: false }).await.unwrap();
        self.settle().await;
    }

    /// Waits until all events that were sent have been taken.
    pub(crate) async fn settle(&self) {
        while self.ingest_events.capacity() < 64
            || self.egress_events.capacity() < 64
            || self.camera_messages.capacity() < 64
        {
            tokio::task::yield_now().await;
        }
        // What the last event caused is in the answer of the next call.
        let _ = self.control.health().await;
    }
}

/// A broker that acknowledges by its mood.
async fn broker(world: World, mut commands: mpsc::Receiver<CameraCommand>) {
    let mut unanswered = Vec::new();
    while let Some(CameraCommand { camera, kind, payload, done }) = commands.recv().await {
        world.record(Call::Publish(camera, kind, serde_json::from_str(&payload).unwrap()));
        match mood(&world.broker) {
            Mood::Works => drop(done.send(Ok(()))),
            Mood::Fails(reason) => drop(done.send(Err(reason.into()))),
            Mood::Hangs => unanswered.push(done),
        }
    }
}
