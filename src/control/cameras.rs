//! Cameras as the edges see them, and the store in which the control task keeps them.

use std::sync::Arc;

use super::handle::{Control, Request, Unavailable};
use super::label::LabelChange;
use super::picture::PictureStatus;
use super::registry::{Camera, Full};
use super::session::State;
use crate::base::{CameraId, StreamId};
use crate::store::{Contents, OpenError, Store, StoreError};

/// A camera that is known, or that streams without ever having been heard of over MQTT.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraInfo {
    /// The camera.
    pub camera_id: CameraId,
    /// What is known of it.
    pub camera: Camera,
    /// Its stream, where one starts, runs or stops.
    pub stream: Option<(StreamId, State)>,
    /// The one thing to look at first when there is no picture.
    pub picture: PictureStatus,
}

/// Why name and notes were not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No room for another camera.
    #[error(transparent)]
    Full(#[from] Full),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// How the store does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreInfo {
    /// Something is known that is not in the store yet.
    pub unsaved: bool,
    /// Batches that could not be written; each was tried again.
    pub failed_writes: u64,
    /// Why the last attempt failed; `None` when it succeeded.
    pub last_failure: Option<String>,
}

/// A store that is open, and what it held.
#[derive(Debug)]
pub struct CameraStore {
    pub(super) store: Arc<Store>,
    pub(super) contents: Contents,
}

impl CameraStore {
    /// Opens the file and reads it. Blocks.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the file.
    pub fn open(path: &std::path::Path) -> Result<Self, OpenError> {
        Self::of(Store::open(path)?).map_err(|error| OpenError::new(path, error.to_string()))
    }

    pub(super) fn of(store: Store) -> Result<Self, StoreError> {
        let contents = store.load()?;
        Ok(Self { store: Arc::new(store), contents })
    }
}

impl Control {
    /// All cameras, by id.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn cameras(&self) -> Result<Vec<CameraInfo>, Unavailable> {
        self.ask(|reply| Request::Cameras { reply }).await
    }

    /// One camera; `None` if nothing is known of it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn camera(&self, camera: CameraId) -> Result<Option<CameraInfo>, Unavailable> {
        self.ask(|reply| Request::Camera { camera, reply }).await
    }

    /// Writes name and notes of a camera, also of one that was never heard of, and gives the camera as it is then.
    /// It goes to the store at once, but the answer does not wait for that.
    ///
    /// # Errors
    ///
    /// [`LabelError`].
    pub async fn label_camera(&self, camera: CameraId, change: LabelChange) -> Result<CameraInfo, LabelError> {
        self.ask(|reply| Request::Label { camera, change, reply }).await?
    }
}
