//! What the control task notes down and tells: the last hour of every camera.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;
use tokio::time::Instant;

use super::Engine;
use super::evidence::Strangers;
use super::streams::Stream;
use crate::base::CameraId;
use crate::control::events::{EVENT_QUEUE, EventsError, MAX_READERS};
use crate::control::history::{Aspect, Change, Histories, POINT_EVERY, Reading, Status};
use crate::control::media_io::{Egress, Ingest};
use crate::control::session::EndCause;

/// What changes by time alone (a silence, the doctor's findings) is seen this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Observer {
    histories: Histories,
    /// To be looked at before the task sleeps again.
    touched: BTreeSet<CameraId>,
    /// `None` once the service stops: readers are told by the end.
    events: Option<broadcast::Sender<Change>>,
    next_look: Instant,
    next_point: Instant,
}

impl Observer {
    pub(super) fn new(limit: usize) -> Self {
        let now = Instant::now();
        Self {
            histories: Histories::new(limit),
            touched: BTreeSet::new(),
            events: Some(broadcast::channel(EVENT_QUEUE).0),
            next_look: now + LOOK_EVERY,
            next_point: now + POINT_EVERY,
        }
    }

    pub(super) fn touch(&mut self, camera: CameraId) {
        self.touched.insert(camera);
    }

    pub(super) fn history(&self, camera: CameraId) -> (Vec<crate::control::history::Point>, Vec<Change>) {
        self.histories.of(camera, SystemTime::now())
    }

    pub(super) fn subscribe(&self) -> Result<broadcast::Receiver<Change>, EventsError> {
        let events = self.events.as_ref().ok_or(crate::control::handle::Unavailable::Stopped)?;
        if events.receiver_count() >= MAX_READERS {
            return Err(EventsError::TooMany(MAX_READERS));
        }
        Ok(events.subscribe())
    }

    /// A motion or sound event.
    pub(super) fn tell_activity(&self, camera: CameraId, kind: &str) {
        let what = Aspect::Activity;
        self.tell(Change { camera, at: SystemTime::now(), what, value: kind.to_owned(), text: None });
    }

    /// Ends every reader's stream.
    pub(super) fn close(&mut self) {
        self.events = None;
    }

    fn tell(&self, change: Change) {
        if let Some(events) = &self.events {
            // An error only says that nobody listens.
            let _ = events.send(change);
        }
    }
}

impl<I: Ingest, E: Egress> Engine<I, E> {
    /// When the next look is due; never without a stream.
    pub(super) fn look_at(&self) -> Option<Instant> {
        (!self.cameras_of.is_empty()).then_some(self.observer.next_look)
    }

    pub(super) fn touch_all(&mut self) {
        self.observer.touched.extend(self.cameras_of.values());
    }

    /// Notes what has changed since the last turn of the task.
    pub(super) fn observe(&mut self) {
        let now = Instant::now();
        if now >= self.observer.next_look {
            self.observer.next_look = now + LOOK_EVERY;
            self.touch_all();
        }
        if now >= self.observer.next_point {
            self.observer.next_point = now + POINT_EVERY;
            self.note_points();
        }
        if self.observer.touched.is_empty() {
            return;
        }
        let strangers = self.strangers();
        for camera in std::mem::take(&mut self.observer.touched) {
            let status = self.status_of(camera, &strangers);
            for change in self.observer.histories.observe(camera, SystemTime::now(), status) {
                self.observer.tell(change);
            }
        }
    }

    fn note_points(&mut self) {
        let readings: Vec<(CameraId, Reading)> = self
            .streams
            .values()
            .filter(|stream| stream.is_open())
            .filter_map(|stream| {
                let stats = self.ingest.stats(stream.id)?;
                let reading = Reading {
                    stream: stream.id,
                    bitrate: stats.video.bitrate + stats.audio.bitrate,
                    packets: stats.video.packets + stats.audio.packets,
                    lost: stats.video.lost + stats.audio.lost,
                    jitter_ms: stats.video.jitter_ms,
                    remb_kbps: stats.remb / 1000,
                    viewers: self.viewers.accepted_of(stream.id),
                };
                Some((stream.camera, reading))
            })
            .collect();
        for (camera, reading) in readings {
            self.observer.histories.sample(camera, SystemTime::now(), &reading);
        }
    }

    fn status_of(&self, camera: CameraId, strangers: &Strangers) -> Status {
        let online = self.registry.get(camera).and_then(|facts| facts.online);
        let Some(info) = self.stream_info(camera, strangers) else {
            let picture = self.camera_picture(camera, online, strangers);
            return Status { state: None, picture, online, viewers: 0, feedback: None, doctor: None };
        };
        let why = info.error.clone().or_else(|| self.streams.get(&camera).and_then(end_in_words));
        let stats = info.media.stats.as_ref();
        Status {
            state: Some((info.state, why)),
            online,
            viewers: info.viewer_count,
            feedback: stats.and_then(|stats| stats.feedback_health.warning).map(|warning| warning.to_string()),
            doctor: stats.and_then(|stats| stats.codec.as_ref()).filter(|report| report.pictures > 0).map(|report| {
                let advice = report.advice();
                let codes = advice.iter().map(|advice| advice.code).collect::<Vec<_>>().join(",");
                (codes, advice.first().map(|advice| advice.text.clone()))
            }),
            picture: info.picture,
        }
    }
}

fn end_in_words(stream: &Stream) -> Option<String> {
    let words = match stream.end_cause.as_ref()? {
        EndCause::Requested => "somebody stopped it",
        EndCause::Idle => "nobody watched",
        EndCause::Shutdown => "the service stops",
        EndCause::Failed => return None,
    };
    Some(words.to_owned())
}
