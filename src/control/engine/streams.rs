//! Streams of the control task: start, stop, and doing what a session says.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Done, Engine, KEEP_FAILED, MAX_FAILED};
use crate::base::{CameraId, SessionId, StreamId};
use crate::control::camera::{CameraCommand, CommandKind};
use crate::control::handle::{Reply, StartError, StartOptions, Started, StopError, Unavailable};
use crate::control::info::StreamInfo;
use crate::control::media_io::{Egress, Ingest};
use crate::control::picture::{PictureCode, PictureStatus};
use crate::control::play::{Envelope, PlaySdp, random_cname};
use crate::control::session::{Action, Command, EndCause, Input, Session, State};
use crate::control::settings::BrokerStatus;
use crate::egress::CloseReason;
use crate::ingest::{IngestStats, OpenStream, PortPlan};

/// The ingest gives up by itself before; this is for the case that it does not.
const OPEN_WAIT: Duration = crate::ingest::OPEN_WAIT.saturating_add(Duration::from_millis(500));
/// The MQTT edge gives up after 5 s; this is for the case that it does not.
const PUBLISH_WAIT: Duration = Duration::from_millis(5_300);
/// Calls that may wait for one stream's start or stop.
const MAX_WAITERS: usize = 64;

pub(super) struct Stream {
    pub(super) camera: CameraId,
    pub(super) id: StreamId,
    pub(super) session: Session,
    /// Server time of the start and the end.
    pub(super) started_at: SystemTime,
    pub(super) ended_at: Option<SystemTime>,
    pub(super) start_attempts: u64,
    pub(super) stop_attempts: u64,
    /// Figures at the end, when the ingest has forgotten the stream.
    pub(super) last_stats: Option<IngestStats>,
    /// What was the matter when it failed; later the evidence is gone.
    pub(super) last_picture: Option<PictureStatus>,
    /// Why it ended, once it has been released.
    pub(super) end_cause: Option<EndCause>,
    /// When a failed stream stops being readable.
    pub(super) forget_at: Option<std::time::Instant>,
    bitrate_range: (u64, u64),
    client_ip: Option<IpAddr>,
    cname: String,
    ports: Option<PortPlan>,
    released: bool,
    start_waiters: Vec<StartWaiter>,
    stop_waiters: Vec<Reply<Result<StreamInfo, StopError>>>,
    /// A start that waits for the end of this stream: the camera must hear `stop` before `play`.
    next: Option<NextStart>,
}

struct NextStart {
    stream: StreamId,
    options: StartOptions,
    /// Who asked for it, and who joined.
    waiters: Vec<StartWaiter>,
}

/// Who waits for a start, and whether somebody else had asked for it before.
type StartWaiter = (Reply<Result<Started, StartError>>, bool);

impl Stream {
    /// Whether ingest and egress know it.
    pub(super) fn is_open(&self) -> bool {
        !self.released
    }

    /// Why it failed: what is known of the camera says more than the session, to which refused packets are none.
    pub(super) fn error(&self) -> Option<&str> {
        let refused = self.last_picture.as_ref().filter(|picture| picture.code == PictureCode::UnexpectedAddress);
        self.session.error().map(|error| refused.map_or(error, |picture| &picture.text))
    }

    pub(super) fn session_id(&self) -> SessionId {
        SessionId::new(self.camera, self.id)
    }

    pub(super) fn poll_at(&self) -> Option<std::time::Instant> {
        self.session.poll_at().into_iter().chain(self.forget_at).min()
    }

    fn already_active(&self) -> StartError {
        let stream_id = self.next.as_ref().map_or(self.id, |next| next.stream);
        StartError::AlreadyActive { camera: self.camera, session_id: SessionId::new(self.camera, stream_id), stream_id }
    }

    fn started(&self, already_running: bool) -> Started {
        Started {
            camera_id: self.camera,
            session_id: self.session_id(),
            stream_id: self.id,
            state: self.session.state(),
            started_at: self.started_at,
            already_running,
        }
    }
}

impl<I: Ingest, E: Egress> Engine<I, E> {
    /// With `join`, or where starts are idempotent, a stream that starts or runs is the answer.
    pub(super) fn start_stream(
        &mut self,
        camera: CameraId,
        options: StartOptions,
        join: bool,
        reply: Reply<Result<Started, StartError>>,
    ) {
        if self.stopping {
            return drop(reply.send(Err(Unavailable::Stopped.into())));
        }
        if let Err(error) = self.bitrate_range(&options) {
            return drop(reply.send(Err(error)));
        }
        if let Some(stream) = self.streams.get_mut(&camera) {
            // A viewer that finds its stream running asks for nothing.
            stream.start_attempts += u64::from(!join);
            let join = join || self.settings.start_idempotent;
            match (stream.session.state(), &mut stream.next) {
                (State::Starting, _) if join && stream.start_waiters.len() < MAX_WAITERS => {
                    return stream.start_waiters.push((reply, true));
                }
                (State::Active, _) if join => return drop(reply.send(Ok(stream.started(true)))),
                (State::Stopping, Some(next)) if join && next.waiters.len() < MAX_WAITERS => {
                    return next.waiters.push((reply, true));
                }
                (State::Stopping, next @ None) => {
                    *next = Some(NextStart { stream: StreamId::random(), options, waiters: vec![(reply, false)] });
                    return;
                }
                (State::Starting | State::Active | State::Stopping, _) => {
                    return drop(reply.send(Err(stream.already_active())));
                }
                (State::Idle | State::Error | State::Stopped, _) => {}
            }
        }
        self.begin(camera, StreamId::random(), options, vec![(reply, false)]);
    }

    fn begin(&mut self, camera: CameraId, id: StreamId, options: StartOptions, waiters: Vec<StartWaiter>) {
        if self.cameras_of.len() >= self.settings.max_streams {
            return answer_all(waiters, &StartError::TooMany(self.settings.max_streams));
        }
        let broker = self.broker.borrow().clone();
        if let BrokerStatus::Disconnected { reason } = broker {
            return answer_all(waiters, &StartError::Failed(format!("MQTT broker is not connected: {reason}")));
        }
        let bitrate_range = match self.bitrate_range(&options) {
            Ok(range) => range,
            Err(error) => return answer_all(waiters, &error),
        };
        let stream = Stream {
            camera,
            id,
            session: Session::new(self.settings.timing, Instant::now().into_std()),
            started_at: SystemTime::now(),
            ended_at: None,
            start_attempts: 1,
            stop_attempts: 0,
            last_stats: None,
            last_picture: None,
            end_cause: None,
            forget_at: None,
            bitrate_range,
            client_ip: options.client_ip,
            cname: random_cname(),
            ports: None,
            released: false,
            start_waiters: waiters,
            stop_waiters: Vec::new(),
            next: None,
        };
        tracing::info!(%camera, stream = %id, "stream starts");
        self.open(&stream);
        self.cameras_of.insert(id, camera);
        self.observer.touch(camera);
        self.streams.insert(camera, stream);
    }

    fn open(&mut self, stream: &Stream) {
        let id = stream.id;
        let open = OpenStream {
            stream: id,
            camera: stream.camera,
            bitrate_range: stream.bitrate_range,
            expected_ip: self.source_ip(self.registry.hint(stream.camera, SystemTime::now())),
            cname: stream.cname.clone(),
            sink: self.egress.open_stream(id),
        };
        let ingest = self.ingest.clone();
        self.jobs.spawn(async move {
            let result = match tokio::time::timeout(OPEN_WAIT, ingest.open(open)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err("the media engine did not open the camera ports in time".into()),
            };
            Done::Opened { stream: id, result }
        });
    }

    /// The address that a camera's packets come from, by the one that it believes to have.
    pub(super) fn source_ip(&self, camera: Option<IpAddr>) -> Option<IpAddr> {
        self.settings.address.source_of(camera?)
    }

    pub(super) fn on_opened(&mut self, stream: StreamId, result: Result<PortPlan, String>) {
        let open = self.camera_stream(stream).filter(|stream| stream.is_open());
        match (open, &result) {
            (Some(open), Ok(ports)) => open.ports = Some(*ports),
            // It was stopped while it opened.
            (None, Ok(_)) => self.ingest.close(stream),
            _ => {}
        }
        self.input(stream, Input::Opened(result));
    }

    pub(super) fn stop_stream(&mut self, camera: CameraId, reply: Reply<Result<StreamInfo, StopError>>) {
        let found = self.streams.get_mut(&camera).filter(|stream| {
            matches!(stream.session.state(), State::Starting | State::Active | State::Stopping)
                && stream.stop_waiters.len() < MAX_WAITERS
        });
        let Some(stream) = found else {
            return drop(reply.send(Err(StopError::NotFound(camera))));
        };
        stream.stop_attempts += 1;
        stream.stop_waiters.push(reply);
        if let Some(next) = stream.next.take() {
            answer_all(next.waiters, &StartError::StoppedMeanwhile);
        }
        let id = stream.id;
        self.input(id, Input::Stop(EndCause::Requested));
    }

    pub(super) fn stop_all(&mut self, reason: &str, reply: Reply<()>) {
        self.stopping = true;
        tracing::info!(streams = self.cameras_of.len(), reason, "stopping all streams");
        for stream in self.cameras_of.keys().copied().collect::<Vec<_>>() {
            self.input(stream, Input::Stop(EndCause::Shutdown));
        }
        self.drained.push(reply);
        self.reply_if_drained();
    }

    /// Feeds a stream's session. Streams that are over are ignored: their last messages may come late.
    pub(super) fn input(&mut self, stream: StreamId, input: Input) {
        let Some(stream) = self.camera_stream(stream) else { return };
        let camera = stream.camera;
        let actions = stream.session.handle(Instant::now().into_std(), input);
        self.perform(camera, actions);
    }

    pub(super) fn camera_stream(&mut self, stream: StreamId) -> Option<&mut Stream> {
        let camera = self.cameras_of.get(&stream)?;
        self.streams.get_mut(camera)
    }

    pub(super) fn perform(&mut self, camera: CameraId, actions: Vec<Action>) {
        self.observer.touch(camera);
        for action in actions {
            match action {
                Action::Publish(command) => self.publish(camera, command),
                Action::Started => self.on_started(camera),
                Action::StartFailed(reason) => self.on_start_failed(camera, &reason),
                Action::Park => self.park(camera),
                Action::Reopen => self.reopen(camera),
                Action::Release(cause) => self.release(camera, &cause),
                Action::Ended => self.on_ended(camera),
            }
        }
    }

    fn park(&mut self, camera: CameraId) {
        let Some(stream) = self.streams.get(&camera) else { return };
        let id = stream.id;
        if self.ingest.park(id) {
            tracing::info!(%camera, stream = %id, "cannot be told from other cameras; it stops until its turn comes");
            self.input(id, Input::Parked);
        }
    }

    fn reopen(&mut self, camera: CameraId) {
        let Some(stream) = self.streams.get(&camera) else { return };
        let (id, ingest) = (stream.id, self.ingest.clone());
        // Ends with the stream at the latest.
        self.jobs.spawn(async move {
            let result = ingest.reopen(id).await.map_err(|error| error.to_string());
            Done::Reopened { stream: id, result }
        });
    }

    pub(super) fn on_reopened(&mut self, stream: StreamId, result: Result<PortPlan, String>) {
        if let (Some(stream), Ok(ports)) = (self.camera_stream(stream), &result) {
            stream.ports = Some(*ports);
        }
        self.input(stream, Input::Reopened(result));
    }

    /// Queues a message in this very call, so that play, keepalive and stop keep their order.
    fn publish(&mut self, camera: CameraId, command: Command) {
        let Some(stream) = self.streams.get(&camera) else { return };
        let id = stream.id;
        let now = SystemTime::now();
        let envelope = Envelope::new(camera, id, now);
        let (kind, payload) = match (command, stream.ports) {
            (Command::Play, Some(ports)) => {
                let camera_ip = self.registry.get(camera).and_then(|facts| facts.ip);
                let ip = self.settings.address.for_camera(camera_ip, stream.client_ip);
                let sdp = PlaySdp::new(ip, ports, stream.cname.clone(), now);
                (CommandKind::Play, envelope.play(&sdp))
            }
            (Command::Play, None) => return,
            (Command::Keepalive(count), _) => (CommandKind::Keepalive, envelope.keepalive(count)),
            (Command::Stop, _) => (CommandKind::Stop, envelope.stop()),
        };
        let (done, acknowledged) = oneshot::channel();
        let queued =
            self.commands.try_send(CameraCommand { camera, kind, payload, done }).map_err(|error| match error {
                TrySendError::Full(_) => "too many messages wait for the broker",
                TrySendError::Closed(_) => "the MQTT link has stopped",
            });
        self.jobs.spawn(async move {
            let result = match queued {
                Ok(()) => match tokio::time::timeout(PUBLISH_WAIT, acknowledged).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(_)) => Err("the MQTT link has stopped".into()),
                    Err(_) => Err("the broker did not acknowledge in time".into()),
                },
                Err(reason) => Err(reason.into()),
            };
            Done::Published { stream: id, command, result }
        });
    }

    fn on_started(&mut self, camera: CameraId) {
        let Some(stream) = self.streams.get_mut(&camera) else { return };
        tracing::info!(%camera, stream = %stream.id, "play is published");
        for (reply, joined) in std::mem::take(&mut stream.start_waiters) {
            drop(reply.send(Ok(stream.started(joined))));
        }
    }

    fn on_start_failed(&mut self, camera: CameraId, reason: &str) {
        let Some(stream) = self.streams.get_mut(&camera) else { return };
        answer_all(std::mem::take(&mut stream.start_waiters), &StartError::Failed(reason.to_owned()));
    }

    pub(super) fn release(&mut self, camera: CameraId, cause: &EndCause) {
        let Some(stream) = self.streams.get(&camera) else { return };
        let id = stream.id;
        let stats = self.ingest.stats(id);
        let now = Instant::now().into_std();
        let failed = *cause == EndCause::Failed;
        let picture = failed.then(|| self.why_no_picture(stream, stats.as_ref(), &self.strangers(), now));
        let Some(stream) = self.streams.get_mut(&camera) else { return };
        stream.last_stats = stats;
        stream.last_picture = picture;
        stream.released = true;
        stream.end_cause = Some(cause.clone());
        let reason = match cause {
            EndCause::Shutdown => CloseReason::Shutdown,
            EndCause::Requested | EndCause::Idle | EndCause::Failed => CloseReason::StreamStopped,
        };
        self.ingest.close(id);
        self.egress.close_stream(id, reason.clone());
        self.close_viewers_of(id, &reason);
    }

    fn on_ended(&mut self, camera: CameraId) {
        if let Some(stream) = self.streams.get_mut(&camera) {
            stream.ended_at = Some(SystemTime::now());
        }
        let info = self.stream_info(camera, &self.strangers());
        let (Some(stream), Some(info)) = (self.streams.get_mut(&camera), info) else { return };
        self.cameras_of.remove(&stream.id);
        let state = stream.session.state();
        let error = stream.error();
        tracing::info!(%camera, stream = %stream.id, ?state, error, "stream has ended");
        for reply in std::mem::take(&mut stream.stop_waiters) {
            drop(reply.send(Ok(info.clone())));
        }
        answer_all(std::mem::take(&mut stream.start_waiters), &StartError::StoppedMeanwhile);
        let next = stream.next.take();
        if state == State::Error {
            stream.forget_at = stream.session.ended().map(|ended| ended + KEEP_FAILED);
            self.bound_failed();
        } else {
            self.streams.remove(&camera);
        }
        match next {
            Some(next) if self.stopping => answer_all(next.waiters, &Unavailable::Stopped.into()),
            Some(next) => self.begin(camera, next.stream, next.options, next.waiters),
            None => {}
        }
        self.reply_if_drained();
    }

    fn bound_failed(&mut self) {
        let failed = self.streams.len() - self.cameras_of.len().min(self.streams.len());
        if failed > MAX_FAILED {
            let oldest = self.streams.values().filter_map(|s| s.forget_at.map(|at| (at, s.camera))).min();
            if let Some((_, camera)) = oldest {
                self.streams.remove(&camera);
            }
        }
    }

    fn reply_if_drained(&mut self) {
        if self.stopping && self.cameras_of.is_empty() {
            for reply in self.drained.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    /// The REMB range in bit/s: what was asked for, within what is configured.
    fn bitrate_range(&self, options: &StartOptions) -> Result<(u64, u64), StartError> {
        let (lowest, highest) = self.settings.bandwidth_kbit;
        let (min, max) = (options.min_bandwidth, options.max_bandwidth);
        if min == Some(0) || max == Some(0) {
            return Err(StartError::Options("min_bandwidth and max_bandwidth must be above 0 kbit/s".into()));
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(StartError::Options(format!("min_bandwidth {min} is above max_bandwidth {max}")));
        }
        let max = max.unwrap_or(highest).clamp(lowest, highest);
        let min = min.unwrap_or(lowest).clamp(lowest, max);
        Ok((u64::from(min) * 1000, u64::from(max) * 1000))
    }
}

/// A caller that has gone away does not want the answer.
fn answer_all(waiters: Vec<StartWaiter>, error: &StartError) {
    for (reply, _) in waiters {
        drop(reply.send(Err(error.clone())));
    }
}
