//! Changes as they happen, for whoever listens.

use tokio::sync::broadcast;

use super::handle::{Control, Request, Unavailable};
use super::history::{Change, Point};
use crate::base::CameraId;

/// Changes that a reader may be behind; one that is further behind is let go.
pub(super) const EVENT_QUEUE: usize = 256;
/// Readers at once: each is a connection of a page that is open.
pub(super) const MAX_READERS: usize = 512;

/// Why nobody can listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    /// The limit of readers is reached.
    #[error("Maximum readers of events ({0}) reached")]
    TooMany(usize),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Changes from now on.
#[derive(Debug)]
pub struct Events {
    camera: Option<CameraId>,
    changes: broadcast::Receiver<Change>,
}

impl Events {
    /// The next change; `None` when the service stops, or when this reader was too slow to hear all. Cancel-safe.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            let change = self.changes.recv().await.ok()?;
            if self.camera.is_none_or(|camera| camera == change.camera) {
                return Some(change);
            }
        }
    }
}

impl Control {
    /// Changes of one camera, or of all.
    ///
    /// # Errors
    ///
    /// [`EventsError`].
    pub async fn events(&self, camera: Option<CameraId>) -> Result<Events, EventsError> {
        let changes = self.ask(|reply| Request::Events { reply }).await??;
        Ok(Events { camera, changes })
    }

    /// The last hour of a camera's streams, one point each ten seconds of a running one, and its last changes; both
    /// oldest first, and empty for a camera of which nothing is known.
    ///
    /// # Errors
    ///
    /// [`Unavailable`].
    pub async fn history(&self, camera: CameraId) -> Result<(Vec<Point>, Vec<Change>), Unavailable> {
        self.ask(|reply| Request::History { camera, reply }).await
    }
}
