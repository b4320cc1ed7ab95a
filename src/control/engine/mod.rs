//! The control task: it alone owns streams and viewers, so two starts cannot race.
//!
//! It never waits for anything but its inputs. Whatever takes time (opening ports, a publish, an SDP answer)
//! runs as a job with a deadline and comes back as a [`Done`].

mod cameras;
mod evidence;
mod observe;
mod snapshot;
mod streams;
mod viewer_table;
mod viewers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::cameras::Saving;
use self::observe::Observer;
use self::streams::Stream;
use self::viewer_table::ViewerTable;
use super::camera::{CameraCommand, CameraContent, CameraMessage};
use super::cameras::CameraStore;
use super::handle::{AddViewerError, Control, REQUEST_QUEUE, Reply, Request, ViewerHandle};
use super::media_io::{Egress, Ingest};
use super::registry::Registry;
use super::session::{Command, EndCause, Input};
use super::settings::{BrokerStatus, Settings};
use super::tally::Tally;
use crate::base::{CameraId, Shutdown, StreamId, ViewerId};
use crate::egress::{EgressEvent, ViewerAnswer};
use crate::ingest::{IngestEvent, PortPlan};

/// How long a failed stream stays readable.
const KEEP_FAILED: Duration = Duration::from_secs(600);
/// Failed streams that stay readable; the oldest goes first.
const MAX_FAILED: usize = 1_000;
/// When the broker comes back, all cameras connect to it within this time, whether they rebooted or not.
const CAMERAS_RETURN: Duration = Duration::from_secs(30);
/// A camera whose last packet is not older has not just booted.
const FRESH: Duration = Duration::from_secs(1);

/// What the control task works with.
#[derive(Debug)]
pub struct Parts<I, E> {
    /// The camera side.
    pub ingest: I,
    /// The viewer side.
    pub egress: E,
    /// What the ingest reports.
    pub ingest_events: mpsc::Receiver<IngestEvent>,
    /// What the egress reports.
    pub egress_events: mpsc::Receiver<EgressEvent>,
    /// What cameras say over MQTT.
    pub camera_messages: mpsc::Receiver<CameraMessage>,
    /// What cameras are told over MQTT. When this queue is full a message fails, and the session counts and
    /// repeats it.
    pub commands: mpsc::Sender<CameraCommand>,
    /// The state of the link to the broker.
    pub broker: watch::Receiver<BrokerStatus>,
    /// What is known of cameras from earlier runs, and where it is kept; `None` keeps it in memory only.
    pub store: Option<CameraStore>,
}

/// Starts the control task. It ends when `shutdown` is requested or every [`Control`] is gone; call
/// [`Control::stop_all`] first, or the cameras are not told.
pub fn start<I: Ingest, E: Egress>(settings: Settings, parts: Parts<I, E>, shutdown: &Shutdown) -> Control {
    let (requests, incoming) = mpsc::channel(REQUEST_QUEUE);
    let start_on_demand = settings.start_on_demand;
    let (registry, saving) = cameras::restore(settings.max_cameras, parts.store);
    let tally = Arc::new(Tally::default());
    let broker = parts.broker.clone();
    let observer = Observer::new(settings.max_cameras);
    let (left, viewers_left) = mpsc::unbounded_channel();
    let engine = Engine {
        tally: tally.clone(),
        settings,
        ingest: parts.ingest,
        egress: parts.egress,
        commands: parts.commands,
        broker: parts.broker,
        streams: HashMap::new(),
        cameras_of: HashMap::new(),
        viewers: ViewerTable::default(),
        left,
        registry,
        saving,
        observer,
        jobs: JoinSet::new(),
        broker_returned: None,
        media_up: true,
        stopping: false,
        drained: Vec::new(),
    };
    let inputs = Inputs {
        requests: incoming,
        left: viewers_left,
        ingest: parts.ingest_events,
        egress: parts.egress_events,
        cameras: parts.camera_messages,
    };
    shutdown.spawn(engine.run(inputs, shutdown.clone()));
    Control { requests, start_on_demand, tally, broker }
}

struct Inputs {
    requests: mpsc::Receiver<Request>,
    left: mpsc::UnboundedReceiver<ViewerId>,
    ingest: mpsc::Receiver<IngestEvent>,
    egress: mpsc::Receiver<EgressEvent>,
    cameras: mpsc::Receiver<CameraMessage>,
}

struct Engine<I, E> {
    settings: Settings,
    ingest: I,
    egress: E,
    commands: mpsc::Sender<CameraCommand>,
    broker: watch::Receiver<BrokerStatus>,
    /// At most one per camera.
    streams: HashMap<CameraId, Stream>,
    /// The camera of every stream that is not over.
    cameras_of: HashMap<StreamId, CameraId>,
    viewers: ViewerTable,
    /// What viewers' guards tell of their end: one message each, which is what bounds it.
    left: mpsc::UnboundedSender<ViewerId>,
    registry: Registry,
    saving: Saving,
    tally: Arc<Tally>,
    observer: Observer,
    /// When the broker could be reached again after an outage.
    broker_returned: Option<Instant>,
    /// Bounded by streams (three each) and viewers.
    jobs: JoinSet<Done>,
    media_up: bool,
    stopping: bool,
    /// Who waits for the end of all streams.
    drained: Vec<Reply<()>>,
}

/// The result of a job.
enum Done {
    Opened {
        stream: StreamId,
        result: Result<PortPlan, String>,
    },
    Reopened {
        stream: StreamId,
        result: Result<PortPlan, String>,
    },
    Published {
        stream: StreamId,
        command: Command,
        result: Result<(), String>,
    },
    Answered {
        viewer: ViewerId,
        replaces: Option<ViewerId>,
        result: Result<ViewerAnswer, AddViewerError>,
        reply: Reply<AddViewerResult>,
    },
    Saved {
        result: Result<(), String>,
    },
}

type AddViewerResult = Result<ViewerHandle, AddViewerError>;

impl<I: Ingest, E: Egress> Engine<I, E> {
    async fn run(mut self, mut inputs: Inputs, shutdown: Shutdown) {
        let (mut cameras_open, mut ingest_open, mut egress_open, mut broker_open) = (true, true, true, true);
        let mut broker = self.broker.clone();
        let mut was_connected = *broker.borrow_and_update() == BrokerStatus::Connected;
        loop {
            // Far away where nothing is due: the branch has to have some deadline.
            let deadline = self.next_deadline().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = shutdown.requested() => break,
                request = inputs.requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => break,
                },
                Some(viewer) = inputs.left.recv() => drop(self.remove_viewer(viewer)),
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.on_done(done),
                    // The session's own deadline takes over.
                    Err(error) => tracing::error!(%error, "a job of the control task failed"),
                },
                event = inputs.ingest.recv(), if ingest_open => match event {
                    Some(event) => self.on_ingest(event),
                    None => ingest_open = false,
                },
                event = inputs.egress.recv(), if egress_open => match event {
                    Some(event) => self.on_egress(event),
                    None => egress_open = false,
                },
                message = inputs.cameras.recv(), if cameras_open => match message {
                    Some(message) => self.on_camera_message(message),
                    None => cameras_open = false,
                },
                changed = broker.changed(), if broker_open => match changed {
                    Ok(()) if *broker.borrow_and_update() == BrokerStatus::Connected => {
                        self.on_broker_connected(was_connected);
                        was_connected = true;
                    }
                    Ok(()) => self.touch_all(),
                    Err(_) => broker_open = false,
                },
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.media_up = ingest_open && egress_open;
            self.run_timers();
            self.observe();
        }
        self.release_all();
        self.save_the_rest().await;
    }

    fn on_request(&mut self, request: Request) {
        // A caller that has gone away does not want the answer.
        match request {
            Request::Start { camera, options, join, reply } => self.start_stream(camera, options, join, reply),
            Request::Stop { camera, reply } => self.stop_stream(camera, reply),
            Request::StopAll { reason, reply } => {
                self.saving.hurry();
                self.observer.close();
                self.stop_all(&reason, reply);
            }
            Request::Streams { reply } => drop(reply.send(self.stream_infos())),
            Request::Stream { camera, reply } => drop(reply.send(self.stream_detail(camera))),
            Request::Viewers { camera, reply } => drop(reply.send(self.viewer_infos(camera))),
            Request::Sources { reply } => drop(reply.send(self.sources())),
            Request::Health { reply } => drop(reply.send(self.health())),
            Request::AddViewer { camera, viewer, reply } => self.add_viewer(camera, viewer, reply),
            Request::RestartViewer { viewer, offer, reply } => {
                drop(reply.send(self.egress.restart_viewer(viewer, &offer)));
            }
            Request::RestartIce { viewer, remote_ufrag, reply } => {
                drop(reply.send(self.egress.restart_ice(viewer, &remote_ufrag)));
            }
            Request::Frames { camera, client, reply } => drop(reply.send(self.open_frames(camera, client))),
            Request::Keyframe { stream, reply } => {
                self.ingest.request_keyframe(stream);
                let _ = reply.send(());
            }
            Request::RemoveViewer { viewer, reply } => {
                let _ = reply.send(self.remove_viewer(viewer));
            }
            Request::Cameras { reply } => drop(reply.send(self.camera_infos())),
            Request::Camera { camera, reply } => drop(reply.send(self.camera_info(camera))),
            Request::History { camera, reply } => drop(reply.send(self.observer.history(camera))),
            Request::Events { reply } => drop(reply.send(self.observer.subscribe())),
            Request::Label { camera, change, reply } => drop(reply.send(self.label_camera(camera, change))),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Opened { stream, result } => self.on_opened(stream, result),
            Done::Reopened { stream, result } => self.on_reopened(stream, result),
            Done::Published { stream, command, result } => {
                let input = match command {
                    Command::Play => Input::PlayDone(result),
                    Command::Keepalive(_) => Input::KeepaliveDone(result),
                    Command::Stop => Input::StopDone(result),
                };
                self.input(stream, input);
            }
            Done::Answered { viewer, replaces, result, reply } => self.on_answered(viewer, replaces, result, reply),
            Done::Saved { result } => self.on_saved(result),
        }
    }

    fn on_ingest(&mut self, event: IngestEvent) {
        match event {
            IngestEvent::MediaStarted { stream, source } => {
                if let Some(camera) = self.cameras_of.get(&stream) {
                    tracing::info!(%camera, %stream, %source, "media arrives");
                }
                self.input(stream, Input::MediaFlows);
            }
            IngestEvent::MediaStalled { stream, silence } => {
                if let Some(camera) = self.cameras_of.get(&stream) {
                    tracing::warn!(%camera, %stream, silence_s = silence.as_secs(), "media has stalled");
                }
                self.input(stream, Input::MediaStalled(silence));
            }
            IngestEvent::FeedbackWarning { stream, warning } => {
                let Some(camera) = self.cameras_of.get(&stream) else { return };
                match warning {
                    Some(warning) => tracing::warn!(%camera, %stream, "feedback: {warning}"),
                    None => tracing::info!(%camera, %stream, "feedback is in order again"),
                }
            }
            IngestEvent::ShouldYield { stream } => self.input(stream, Input::ShouldYield),
            IngestEvent::MediaResumed { stream } => {
                if let Some(camera) = self.cameras_of.get(&stream) {
                    tracing::info!(%camera, %stream, "media arrives again");
                }
                self.input(stream, Input::MediaFlows);
            }
        }
    }

    /// What could not be said meanwhile is said now, not at its next turn.
    fn on_broker_connected(&mut self, again: bool) {
        if again {
            self.broker_returned = Some(Instant::now());
        }
        for stream in self.cameras_of.keys().copied().collect::<Vec<_>>() {
            self.input(stream, Input::BrokerConnected);
        }
    }

    fn on_camera_message(&mut self, message: CameraMessage) {
        let camera = message.camera;
        self.observer.touch(camera);
        if let CameraContent::Activity { activity_type, .. } = &message.content
            && !message.retained
        {
            self.observer.tell_activity(camera, activity_type.as_deref().unwrap_or("unknown"));
        }
        let change = self.registry.note(message, SystemTime::now());
        let Some(stream) = self.streams.get(&camera).filter(|stream| stream.is_open()).map(|stream| stream.id) else {
            return;
        };
        if let Some(ip) = self.source_ip(change.new_ip) {
            self.ingest.expect_source(stream, ip);
        }
        if change.connected && self.only_reconnected(stream) {
            tracing::debug!(%camera, %stream, "camera has connected to the broker again and still sends");
        } else if change.connected {
            tracing::info!(%camera, %stream, "camera has connected to the broker; sending play again");
            self.ingest.camera_restarted(stream);
            self.input(stream, Input::CameraConnected);
        }
    }

    /// Whether a camera that reports itself only found its way back to a broker that had been away: `play` would
    /// interrupt a stream that runs.
    fn only_reconnected(&self, stream: StreamId) -> bool {
        self.broker_returned.is_some_and(|at| at.elapsed() <= CAMERAS_RETURN)
            && self
                .ingest
                .stats(stream)
                .and_then(|stats| SystemTime::now().duration_since(stats.last_packet?).ok())
                .is_some_and(|age| age <= FRESH)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let streams = self.streams.values().filter_map(Stream::poll_at).min().map(Instant::from_std);
        streams.into_iter().chain(self.save_at()).chain(self.look_at()).min()
    }

    fn run_timers(&mut self) {
        self.save_if_due();
        let now = Instant::now().into_std();
        let due: Vec<CameraId> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.poll_at().is_some_and(|at| at <= now))
            .map(|(camera, _)| *camera)
            .collect();
        for camera in due {
            let Some(stream) = self.streams.get_mut(&camera) else { continue };
            if stream.forget_at.is_some_and(|at| at <= now) {
                self.streams.remove(&camera);
                self.observer.touch(camera);
                continue;
            }
            let actions = stream.session.handle_timeout(now);
            self.perform(camera, actions);
        }
    }

    fn release_all(&mut self) {
        let open: Vec<CameraId> = self.streams.values().filter(|s| s.is_open()).map(|s| s.camera).collect();
        for camera in open {
            self.release(camera, &EndCause::Shutdown);
        }
    }
}

#[cfg(test)]
mod camera_tests;
#[cfg(test)]
mod demand_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
#[cfg(test)]
mod watchdog_tests;
