//! Which cameras the store does not know as they are: what to write next, and what a failed write leaves to do.
//!
//! Bounded by the cameras that are known, that are in the store, and that are being written, whatever comes in
//! between two writes.

use std::collections::BTreeSet;

use crate::base::CameraId;
use crate::store::Batch;

#[derive(Debug, Default)]
pub(super) struct Unsaved {
    changed: BTreeSet<CameraId>,
    /// Cameras with a record in the store.
    on_disk: BTreeSet<CameraId>,
    /// Of the batch that is being written: the camera, and whether it is kept.
    writing: Option<Vec<(CameraId, bool)>>,
}

impl Unsaved {
    /// The store has a record that is as it should be.
    pub(super) fn is_on_disk(&mut self, id: CameraId) {
        self.on_disk.insert(id);
    }

    /// The camera is known and has changed.
    pub(super) fn changed(&mut self, id: CameraId) {
        self.changed.insert(id);
    }

    /// The camera is not known any more.
    pub(super) fn forgotten(&mut self, id: CameraId) {
        let being_written = self.writing.iter().flatten().any(|(written, _)| *written == id);
        if being_written || self.on_disk.contains(&id) {
            self.changed.insert(id);
        } else {
            self.changed.remove(&id);
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.writing.is_none() && !self.changed.is_empty()
    }

    pub(super) fn is_being_written(&self) -> bool {
        self.writing.is_some()
    }

    /// What to write; `record` gives that of a camera that is known.
    pub(super) fn take(&mut self, record: impl Fn(CameraId) -> Option<Vec<u8>>) -> Batch {
        let changed = std::mem::take(&mut self.changed).into_iter().map(|id| (id, record(id)));
        let batch: Batch = changed.filter(|(id, record)| record.is_some() || self.on_disk.contains(id)).collect();
        self.writing = Some(batch.iter().map(|(id, record)| (*id, record.is_some())).collect());
        batch
    }

    /// What was taken has been written, or not.
    pub(super) fn done(&mut self, written: bool, is_known: impl Fn(CameraId) -> bool) {
        let batch = self.writing.take().unwrap_or_default();
        if written {
            for (id, kept) in batch {
                if kept {
                    self.on_disk.insert(id);
                } else {
                    self.on_disk.remove(&id);
                }
            }
            return;
        }
        self.changed.extend(batch.into_iter().map(|(id, _)| id));
        // Whoever was forgotten before the store ever knew it needs no word to it.
        let on_disk = &self.on_disk;
        self.changed.retain(|id| is_known(*id) || on_disk.contains(id));
    }
}
