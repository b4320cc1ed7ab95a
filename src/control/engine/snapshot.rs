//! Copies of the control task's state for its callers.

use std::time::{Instant, SystemTime};

use super::Engine;
use super::evidence::Strangers;
use super::streams::Stream;
use crate::base::CameraId;
use crate::control::info::{
    Health, KeepaliveInfo, ManagerInfo, MediaInfo, MediaState, Sources, StreamInfo, ViewerInfo,
};
use crate::control::media_io::{Egress, Ingest};
use crate::control::session::{Media, State};

/// The wall-clock time of a past moment, by today's clock.
fn wall_clock(at: Instant) -> SystemTime {
    let ago = now().saturating_duration_since(at);
    SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<I: Ingest, E: Egress> Engine<I, E> {
    pub(super) fn stream_infos(&self) -> Vec<StreamInfo> {
        let mut cameras: Vec<CameraId> = self.cameras_of.values().copied().collect();
        cameras.sort_unstable();
        let strangers = self.strangers();
        cameras.into_iter().filter_map(|camera| self.stream_info(camera, &strangers)).collect()
    }

    pub(super) fn stream_detail(&self, camera: CameraId) -> Option<(StreamInfo, Vec<ViewerInfo>)> {
        self.stream_info(camera, &self.strangers()).map(|info| (info, self.viewer_infos(Some(camera))))
    }

    pub(super) fn stream_info(&self, camera: CameraId, strangers: &Strangers) -> Option<StreamInfo> {
        let stream = self.streams.get(&camera)?;
        let session = &stream.session;
        let end = session.ended().unwrap_or_else(now);
        let viewer_count = self.viewers.accepted_of(stream.id);
        let media = self.media_info(stream);
        let picture = match &stream.last_picture {
            Some(picture) => picture.clone(),
            None => self.why_no_picture(stream, media.stats.as_ref(), strangers, end),
        };
        Some(StreamInfo {
            camera_id: camera,
            session_id: stream.session_id(),
            stream_id: stream.id,
            state: session.state(),
            error: stream.error().map(str::to_owned),
            started_at: stream.started_at,
            stopped_at: stream.ended_at,
            duration: end.saturating_duration_since(session.started()),
            viewer_count,
            keepalive: keepalive_info(stream, end),
            manager: manager_info(stream),
            media,
            camera: self.registry.get(camera).cloned(),
            picture,
        })
    }

    pub(super) fn viewer_infos(&self, camera: Option<CameraId>) -> Vec<ViewerInfo> {
        let wanted = |of: CameraId| camera.is_none_or(|camera| camera == of);
        let mut viewers: Vec<ViewerInfo> = self
            .viewers
            .iter()
            .filter(|(_, viewer)| viewer.is_accepted() && wanted(viewer.camera))
            .map(|(id, viewer)| ViewerInfo {
                viewer_id: id,
                camera_id: viewer.camera,
                stream_id: viewer.stream,
                created_at: viewer.created,
                connected: viewer.connected,
                stats: self.viewer_stats(id, viewer),
            })
            .collect();
        viewers.sort_by_key(|viewer| (viewer.created_at, viewer.viewer_id));
        viewers
    }

    pub(super) fn health(&self) -> Health {
        let runs = |stream: &&Stream| matches!(stream.session.state(), State::Starting | State::Active);
        let mut failing = self.streams.values().map(|stream| stream.session.keepalive()).filter(|k| k.is_failing());
        let first = failing.next();
        let failing_keepalives = (
            usize::from(first.is_some()) + failing.count(),
            first.and_then(|keepalive| keepalive.last_error()).map(str::to_owned),
        );
        Health {
            failing_keepalives,
            media_up: self.media_up,
            broker: self.broker.borrow().clone(),
            active_streams: self.streams.values().filter(runs).count(),
            total_viewers: self.viewers.accepted(),
            cameras_known: self.registry.len(),
            cameras_online: self.registry.online(),
            camera_store: self.store_info(),
        }
    }

    pub(super) fn sources(&self) -> Sources {
        let camera = |stream| self.cameras_of.get(&stream).copied();
        let refused = self.ingest.refused_sources().into_iter();
        let refused = refused.map(|source| (source.nearest.and_then(camera), source)).collect();
        Sources { refused, dropped: self.ingest.dropped(), viewer_port: self.egress.drops() }
    }

    fn media_info(&self, stream: &Stream) -> MediaInfo {
        let session = &stream.session;
        MediaInfo {
            state: match session.media() {
                _ if matches!(session.state(), State::Stopping | State::Stopped) => MediaState::Stopped,
                Media::Waiting => MediaState::Waiting,
                Media::Flowing if stream.is_open() => MediaState::Flowing,
                Media::Flowing | Media::Stalled(_) => MediaState::Stalled,
            },
            reason: session.media_reason(now()),
            active_reason: session.active_reason(),
            stats: if stream.is_open() { self.ingest.stats(stream.id) } else { stream.last_stats.clone() },
        }
    }
}

fn keepalive_info(stream: &Stream, end: Instant) -> KeepaliveInfo {
    let keepalive = stream.session.keepalive();
    KeepaliveInfo {
        running: keepalive.is_running(),
        interval: keepalive.interval(),
        count: keepalive.count(),
        errors: keepalive.errors(),
        last_success: keepalive.last_success().map(wall_clock),
        last_error: keepalive.last_error().map(str::to_owned),
        elapsed: keepalive.started().map_or_else(Default::default, |at| end.saturating_duration_since(at)),
    }
}

fn manager_info(stream: &Stream) -> ManagerInfo {
    let (errors, last_error) = stream.session.publish_errors();
    ManagerInfo {
        start_attempts: stream.start_attempts,
        stop_attempts: stream.stop_attempts,
        errors,
        last_error: last_error.map(str::to_owned),
        plays: stream.session.plays(),
    }
}
