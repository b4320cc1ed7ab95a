//! Viewers of the control task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::viewer_table::Viewer;
use super::{AddViewerResult, Done, Engine};
use crate::base::{CameraId, StreamId, ViewerId};
use crate::control::handle::{AddViewerError, NewViewer, Reply, Unavailable, ViewerGuard, ViewerHandle};
use crate::control::live::{LiveClient, LiveCounters, LiveFrames, Seat};
use crate::control::media_io::{Egress, Ingest};
use crate::control::session::{Input, State};
use crate::egress::{AddViewer, CloseReason, EgressEvent, ViewerAnswer, ViewerError, ViewerStats};
use crate::media::Codec;

/// An answer is a matter of milliseconds; this is for an egress that hangs.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A page's own words, where they go into a message.
const ECHO_LIMIT: usize = 64;

impl<I: Ingest, E: Egress> Engine<I, E> {
    pub(super) fn add_viewer(&mut self, camera: CameraId, new: NewViewer, reply: Reply<AddViewerResult>) {
        let NewViewer { stream_id, offer, replaces } = new;
        let stream = match self.admit(camera, stream_id.as_deref(), replaces) {
            Ok(stream) => stream,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let viewer = ViewerId::random();
        self.viewers.insert(viewer, Viewer::asking(camera, stream));
        self.count_viewers(stream);
        let (profile_level_id, audio) =
            self.ingest.stats(stream).map_or((None, None), |stats| (stats.profile_level_id, stats.audio.codec));
        let add = AddViewer { viewer, stream, offer, profile_level_id, audio };
        let egress = self.egress.clone();
        self.jobs.spawn(async move {
            let result = match tokio::time::timeout(ANSWER_WAIT, egress.add_viewer(add)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(ViewerError::Offer(reason))) => Err(AddViewerError::Offer(reason)),
                Ok(Err(ViewerError::NoStream)) => Err(AddViewerError::NoStream(camera)),
                Ok(Err(error @ ViewerError::Unavailable)) => Err(AddViewerError::Media(error.to_string())),
                Err(_) => Err(AddViewerError::Media("the media engine did not answer in time".into())),
            };
            Done::Answered { viewer, replaces, result, reply }
        });
    }

    fn admit(
        &self,
        camera: CameraId,
        asked: Option<&str>,
        replaces: Option<ViewerId>,
    ) -> Result<StreamId, AddViewerError> {
        let stream = self.running_stream(camera)?;
        let other = asked.filter(|asked| !self.settings.start_on_demand && asked.parse() != Ok(stream));
        if let Some(asked) = other {
            let asked = asked.chars().take(ECHO_LIMIT).collect();
            return Err(AddViewerError::OtherStream { camera, asked });
        }
        let freed = replaces.and_then(|viewer| self.viewers.get(viewer)).filter(|viewer| viewer.stream == stream);
        self.has_room(stream, usize::from(freed.is_some()))?;
        Ok(stream)
    }

    fn running_stream(&self, camera: CameraId) -> Result<StreamId, AddViewerError> {
        if self.stopping {
            return Err(Unavailable::Stopped.into());
        }
        let running = self
            .streams
            .get(&camera)
            .filter(|stream| stream.is_open() && matches!(stream.session.state(), State::Starting | State::Active));
        running.map(|stream| stream.id).ok_or(AddViewerError::NoStream(camera))
    }

    fn has_room(&self, stream: StreamId, freed: usize) -> Result<(), AddViewerError> {
        let most = self.settings.max_viewers;
        if self.viewers.of(stream) - freed < most { Ok(()) } else { Err(AddViewerError::TooMany(most)) }
    }

    /// Lets somebody have the frames themselves, who counts as a viewer or, if there is no `client`, only looks.
    pub(super) fn open_frames(
        &mut self,
        camera: CameraId,
        client: Option<LiveClient>,
    ) -> Result<LiveFrames, AddViewerError> {
        let stream = self.running_stream(camera)?;
        let with_opus = self.ingest.stats(stream).is_some_and(|stats| stats.audio.codec == Some(Codec::Opus));
        let frames = self.egress.tap(stream);
        let mut live = LiveFrames { viewer_id: None, stream_id: stream, with_opus, frames, seat: None };
        if let Some(client) = client {
            self.has_room(stream, 0)?;
            let viewer = ViewerId::random();
            let counters = Arc::new(LiveCounters::new(client, with_opus, self.tally.live_bytes()));
            let (closed, closed_rx) = oneshot::channel();
            self.viewers.insert(viewer, Viewer::live(camera, stream, counters.clone(), closed));
            self.count_viewers(stream);
            tracing::info!(%camera, %stream, %viewer, "viewer without WebRTC accepted");
            live.viewer_id = Some(viewer);
            live.seat = Some(Seat { counters, closed: closed_rx, ended: false, _guard: self.guard(viewer) });
            self.ingest.request_keyframe(stream);
        }
        Ok(live)
    }

    /// What an edge holds of a viewer: dropping it ends the viewer.
    fn guard(&self, viewer: ViewerId) -> ViewerGuard {
        ViewerGuard { viewer, left: self.left.clone() }
    }

    pub(super) fn on_answered(
        &mut self,
        viewer: ViewerId,
        replaces: Option<ViewerId>,
        result: Result<ViewerAnswer, AddViewerError>,
        reply: Reply<AddViewerResult>,
    ) {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => {
                // In case that the egress was only slow.
                self.remove_viewer(viewer);
                return drop(reply.send(Err(error)));
            }
        };
        if self.viewers.get(viewer).is_none() {
            // Its stream ended, or its session did, while it was being accepted.
            self.egress.remove_viewer(viewer, CloseReason::StreamStopped);
            let gone = AddViewerError::Media("the stream or the session ended meanwhile".into());
            return drop(reply.send(Err(gone)));
        }
        if let Some(replaced) = replaces {
            self.remove_viewer(replaced);
        }
        let (closed, closed_rx) = oneshot::channel();
        let Some(entry) = self.viewers.accept(viewer, closed) else { return };
        let (camera, stream_id) = (entry.camera, entry.stream);
        self.observer.touch(camera);
        tracing::info!(%camera, stream = %stream_id, %viewer, "viewer accepted");
        let guard = self.guard(viewer);
        let ViewerAnswer { sdp: answer, candidates } = answer;
        let handle = ViewerHandle {
            viewer_id: viewer,
            stream_id,
            answer,
            candidates,
            closed: closed_rx,
            ended: None,
            access_ended: None,
            _guard: guard,
        };
        // If the caller has gone, the handle is dropped here and ends the viewer.
        drop(reply.send(Ok(handle)));
    }

    /// Ends a viewer that leaves. `false` if there is none.
    pub(super) fn remove_viewer(&mut self, viewer: ViewerId) -> bool {
        self.egress.remove_viewer(viewer, CloseReason::Left);
        self.forget_viewer(viewer, CloseReason::Left)
    }

    pub(super) fn on_egress(&mut self, event: EgressEvent) {
        match event {
            EgressEvent::Connected { viewer } => {
                if let Some(entry) = self.viewers.connected(viewer) {
                    self.tally.connected(entry.created.elapsed().unwrap_or_default());
                    let stream = entry.stream;
                    tracing::info!(camera = %entry.camera, %stream, %viewer, "viewer connected");
                    self.ingest.request_keyframe(stream);
                }
            }
            EgressEvent::Closed { viewer, reason } => {
                self.forget_viewer(viewer, reason);
            }
            EgressEvent::KeyframeWanted { stream } => self.ingest.request_keyframe(stream),
            EgressEvent::ViewerLimit { stream, bits_per_second } => {
                self.ingest.set_viewer_limit(stream, bits_per_second);
            }
        }
    }

    /// Tells the viewers of a stream that it is over. The egress reports the same a moment later.
    pub(super) fn close_viewers_of(&mut self, stream: StreamId, reason: &CloseReason) {
        let gone: Vec<ViewerId> =
            self.viewers.iter().filter(|(_, viewer)| viewer.stream == stream).map(|(id, _)| id).collect();
        for viewer in gone {
            self.forget_viewer(viewer, reason.clone());
        }
    }

    /// The figures of a viewer; `None` before it is accepted.
    pub(super) fn viewer_stats(&self, id: ViewerId, viewer: &Viewer) -> Option<ViewerStats> {
        match &viewer.live {
            Some(live) => Some(live.stats()),
            None => self.egress.viewer_stats(id),
        }
    }

    fn forget_viewer(&mut self, viewer: ViewerId, reason: CloseReason) -> bool {
        let Some(entry) = self.viewers.remove(viewer) else { return false };
        tracing::info!(camera = %entry.camera, stream = %entry.stream, %viewer, ?reason, "viewer gone");
        if entry.is_accepted() {
            self.tally.ended(&reason);
        }
        self.observer.touch(entry.camera);
        let stream = entry.stream;
        entry.close(reason);
        self.count_viewers(stream);
        true
    }

    fn count_viewers(&mut self, stream: StreamId) {
        let viewers = self.viewers.of(stream);
        self.input(stream, Input::Viewers(viewers));
    }
}
