//! The registry of the control task, and saving it: in batches, as a job, so that a slow or full disk delays nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::Strangers;
use super::{Done, Engine};
use crate::base::{CameraId, StreamId};
use crate::control::cameras::{CameraInfo, CameraStore, LabelError, StoreInfo};
use crate::control::label::LabelChange;
use crate::control::media_io::{Egress, Ingest};
use crate::control::registry::{Camera, Registry};
use crate::control::session::State;
use crate::store::Store;

/// Between two batches. What happens in between is written once.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Until a batch is tried again that could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Where the registry is saved, and when next.
#[derive(Default)]
pub(super) struct Saving {
    store: Option<Arc<Store>>,
    /// No batch before this moment, unless what there is to save is `urgent`.
    not_before: Option<Instant>,
    urgent: bool,
    info: StoreInfo,
}

impl Saving {
    /// What has changed is worth no delay.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }
}

/// What an earlier run knew, where there is a store.
pub(super) fn restore(limit: usize, store: Option<CameraStore>) -> (Registry, Saving) {
    let Some(CameraStore { store, contents }) = store else { return (Registry::new(limit), Saving::default()) };
    let (registry, unreadable, without_room) = Registry::restore(limit, contents.records);
    tracing::info!(cameras = registry.len(), "cameras are known from earlier runs");
    if unreadable + contents.foreign > 0 {
        let records = unreadable + contents.foreign;
        tracing::warn!(records, "records of the camera store cannot be read and are left out");
    }
    if without_room > 0 {
        tracing::warn!(cameras = without_room, limit, "cameras of the store are left out: cameras.max_known is lower");
    }
    (registry, Saving { store: Some(store), ..Saving::default() })
}

impl<I: Ingest, E: Egress> Engine<I, E> {
    pub(super) fn camera_infos(&self) -> Vec<CameraInfo> {
        let strangers = self.strangers();
        let known = self.registry.cameras().map(|(id, camera)| self.info_of(id, camera.clone(), &strangers));
        // Streams can be started by id alone.
        let streaming = self.cameras_of.values().filter(|id| self.registry.camera(**id).is_none());
        let mut infos: Vec<CameraInfo> =
            known.chain(streaming.map(|id| self.info_of(*id, Camera::default(), &strangers))).collect();
        infos.sort_by_key(|info| info.camera_id);
        infos
    }

    pub(super) fn camera_info(&self, id: CameraId) -> Option<CameraInfo> {
        let camera = self.registry.camera(id).cloned();
        if camera.is_none() && self.running(id).is_none() {
            return None;
        }
        Some(self.info_of(id, camera.unwrap_or_default(), &self.strangers()))
    }

    pub(super) fn label_camera(&mut self, id: CameraId, change: LabelChange) -> Result<CameraInfo, LabelError> {
        let camera = self.registry.label(id, change)?;
        // Somebody typed this; what cameras say they will say again.
        self.saving.hurry();
        Ok(self.info_of(id, camera, &self.strangers()))
    }

    fn info_of(&self, camera_id: CameraId, camera: Camera, strangers: &Strangers) -> CameraInfo {
        let picture = self.camera_picture(camera_id, camera.facts.online, strangers);
        CameraInfo { camera_id, camera, stream: self.running(camera_id), picture }
    }

    fn running(&self, camera: CameraId) -> Option<(StreamId, State)> {
        let stream = self.streams.get(&camera).filter(|stream| self.cameras_of.contains_key(&stream.id))?;
        Some((stream.id, stream.session.state()))
    }

    pub(super) fn store_info(&self) -> Option<StoreInfo> {
        self.saving.store.as_ref()?;
        let unsaved = self.registry.has_unsaved() || self.registry.is_being_written();
        Some(StoreInfo { unsaved, ..self.saving.info.clone() })
    }

    /// When the next batch is due, if any.
    pub(super) fn save_at(&self) -> Option<Instant> {
        let due = self.saving.store.is_some() && self.registry.has_unsaved();
        due.then(|| self.saving.not_before.filter(|_| !self.saving.urgent).unwrap_or_else(Instant::now))
    }

    pub(super) fn save_if_due(&mut self) {
        if self.save_at().is_some_and(|at| at <= Instant::now()) {
            self.save();
        }
    }

    fn save(&mut self) {
        let Some(store) = self.saving.store.clone() else { return };
        let batch = self.registry.take_unsaved();
        self.saving.urgent = false;
        self.jobs.spawn(async move {
            let written = tokio::task::spawn_blocking(move || store.write(&batch)).await;
            let result = match written {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            Done::Saved { result }
        });
    }

    pub(super) fn on_saved(&mut self, result: Result<(), String>) {
        self.registry.saved(result.is_ok());
        let info = &mut self.saving.info;
        let wait = match result {
            Ok(()) => {
                if info.last_failure.take().is_some() {
                    tracing::info!("cameras can be saved again; nothing is missing");
                }
                SAVE_EVERY
            }
            Err(error) => {
                info.failed_writes += 1;
                // Once, not at every attempt.
                if info.last_failure.is_none() {
                    tracing::warn!(error, "cameras cannot be saved (cameras.store); it is tried again");
                }
                info.last_failure = Some(error);
                RETRY_AFTER
            }
        };
        self.saving.not_before = Some(Instant::now() + wait);
    }

    /// Saves what is left at the end, and closes the store. Streams are over by now.
    pub(super) async fn save_the_rest(&mut self) {
        let Some(store) = self.saving.store.clone() else { return };
        // One more batch beside the one that may be under way: nothing changes any more.
        for _ in 0..2 {
            if self.registry.has_unsaved() {
                self.save();
            }
            while self.registry.is_being_written() {
                match self.jobs.join_next().await {
                    Some(Ok(Done::Saved { result })) => self.on_saved(result),
                    Some(_) => {}
                    None => return,
                }
            }
        }
        self.saving.store = None;
        // Closing a file may take its time as well.
        if tokio::task::spawn_blocking(move || drop(store)).await.is_err() {
            tracing::warn!("the camera store could not be closed");
        }
    }
}
