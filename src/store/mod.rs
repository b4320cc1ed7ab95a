//! The one file that outlives the process: what is known of cameras, as records of bytes under the camera's id.
//!
//! A crash never costs more than the last batch: the database underneath writes each batch whole or not at all.
//! Everything here blocks; call it where that is allowed.

mod file;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use file::Store;

use crate::base::CameraId;

/// Changes to write at once: a record to keep, or `None` for a camera to forget.
pub type Batch = Vec<(CameraId, Option<Vec<u8>>)>;

/// What a file held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Records by camera, in the order of the ids.
    pub records: Vec<(CameraId, Vec<u8>)>,
    /// Entries whose key is no camera id. They are left where they are.
    pub foreign: usize,
}

/// A file that cannot be used. It is never overwritten or set aside: names and notes may be in it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct OpenError {
    path: PathBuf,
    reason: String,
}

impl OpenError {
    pub(crate) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// A batch that was not written, or a file that could not be read; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);
