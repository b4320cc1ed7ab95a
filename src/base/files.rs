//! Files that may be replaced while the process runs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Shutdown;

/// Between two looks at files. A failure is believed at the second: nobody replaces files that belong together at
/// once.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of a file from another; `None` if there is none.
type Version = Option<(u64, u64, i64, i64, i64, i64)>;

fn version(path: &Path) -> Version {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()))
}

/// How some files were when they were last read. The default: not read yet.
#[derive(Debug, Clone, Default)]
pub struct FileWatch {
    /// Nothing more is to be done about this state.
    settled: Option<Vec<Version>>,
    /// This one could not be used a moment ago.
    failed: Option<Vec<Version>>,
}

impl FileWatch {
    /// For files that are read right after this call.
    pub fn before_reading(paths: &[impl AsRef<Path>]) -> Self {
        Self { settled: Some(versions(paths)), failed: None }
    }

    /// Reads files that are not as they were, and gives what came of it. `None`: there is nothing new, or it could not
    /// be used at the first look.
    pub fn look<T, E>(
        &mut self,
        paths: &[impl AsRef<Path>],
        read: impl FnOnce() -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let found = versions(paths);
        if self.settled.as_ref() == Some(&found) {
            return None;
        }
        let read = read();
        if read.is_err() && self.failed.as_ref() != Some(&found) {
            self.failed = Some(found);
            return None;
        }
        self.settled = Some(found);
        Some(read)
    }
}

fn versions(paths: &[impl AsRef<Path>]) -> Vec<Version> {
    paths.iter().map(|path| version(path.as_ref())).collect()
}

/// Lets `look` look at files every second until the shutdown, where it may block.
pub async fn watch<W: Send + 'static>(mut watcher: W, look: fn(&mut W), shutdown: Shutdown) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = tick.tick() => {}
        }
        let looked = tokio::task::spawn_blocking(move || {
            look(&mut watcher);
            watcher
        });
        match looked.await {
            Ok(after) => watcher = after,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_file_is_read_once_and_a_failure_is_believed_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let write = |index: usize, text: &str| std::fs::write(&paths[index], text).unwrap();
        let read = || {
            let text: String = paths.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect();
            if text.contains('!') { Err(text) } else { Ok(text) }
        };
        let mut watch = FileWatch::default();
        assert_eq!(
            watch.look(&paths, read),
            Some(Ok(String::new())),
            "what was never read is new, even if it is not there"
        );
        assert_eq!(watch.look(&paths, read), None);
        write(0, "1");
        assert_eq!(watch.look(&paths, read), Some(Ok("1".into())));
        assert_eq!(watch.look(&paths, read), None);
        write(1, "half!");
        assert_eq!(watch.look(&paths, read), None);
        write(1, "whole");
        assert_eq!(watch.look(&paths, read), Some(Ok("1whole".into())));
        write(1, "bad!");
        assert_eq!(watch.look(&paths, read), None);
        assert_eq!(watch.look(&paths, read), Some(Err("1bad!".into())));
        assert_eq!(watch.look(&paths, read), None, "said once");
        std::fs::remove_file(&paths[1]).unwrap();
        assert_eq!(watch.look(&paths, read), Some(Ok("1".into())));
        let mut watch = FileWatch::before_reading(&paths);
        assert_eq!(watch.look(&paths, read), None);
        assert_eq!(watch.look(&paths[..1], read), Some(Ok("1".into())), "other files");
    }
}
