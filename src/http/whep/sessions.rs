//! The WHEP sessions that live: one entry a viewer, gone when the viewer is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::base::{CameraId, ViewerId};
use crate::control::ViewerHandle;

/// The name of a session in its URL. Whoever knows it may end the session, so it is random and not the viewer's
/// id, which the API shows.
pub(super) type Key = Uuid;

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) camera: CameraId,
    pub(super) viewer: ViewerId,
    /// Entity tag of the ICE session, with its quotes.
    pub(super) etag: String,
    /// The user fragments of the viewer's side in this ICE session.
    pub(super) ufrags: Vec<String>,
}

/// All sessions. There are never more than control allows viewers.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<Key, Session>>>);

impl Sessions {
    /// Keeps `handle` until its viewer ends, and the session with it.
    pub(super) fn keep(&self, camera: CameraId, ufrags: Vec<String>, mut handle: ViewerHandle) -> (Key, String) {
        let (key, etag) = (Key::new_v4(), new_etag());
        let session = Session { camera, viewer: handle.viewer_id, etag: etag.clone(), ufrags };
        self.lock().insert(key, session);
        let sessions = self.clone();
        tokio::spawn(async move {
            let reason = handle.closed().await;
            sessions.remove(key);
            tracing::debug!(viewer = %handle.viewer_id, ?reason, "WHEP session ended");
        });
        (key, etag)
    }

    pub(super) fn get(&self, camera: CameraId, key: Key) -> Option<Session> {
        self.lock().get(&key).filter(|session| session.camera == camera).cloned()
    }

    /// The viewer has begun a new ICE session; gives its entity tag.
    pub(super) fn restarted(&self, key: Key, ufrag: &str) -> String {
        let etag = new_etag();
        if let Some(session) = self.lock().get_mut(&key) {
            session.etag.clone_from(&etag);
            session.ufrags = vec![ufrag.to_owned()];
        }
        etag
    }

    pub(super) fn remove(&self, key: Key) {
        self.lock().remove(&key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A strong entity tag that no other ICE session has (RFC 9110 §8.8.3).
fn new_etag() -> String {
    format!("\"{}\"", Uuid::new_v4().simple())
}
