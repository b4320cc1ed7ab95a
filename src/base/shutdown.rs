//! Shutdown as a value that is handed down: everyone holds a [`Shutdown`], and the process has
//! drained when every guard is gone.

use std::io;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request to stop, and the set of tasks that still run.
#[derive(Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// Nothing requested, nothing running.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everyone to stop. Idempotent.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Resolves once a stop was requested.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A stage below this one: requested with it, and can be requested and drained on its own.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tracker: TaskTracker::new() }
    }

    /// Runs `task` and counts it until it ends.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Runs a task on a thread and runtime of its own, where no other task delays it and nothing wakes more than
    /// that one thread; counts it until it ends. `make` is called inside that runtime: sockets belong to it.
    ///
    /// # Errors
    ///
    /// Those of `make`, or the system gives no thread.
    pub fn spawn_thread<F>(&self, name: &str, make: impl FnOnce() -> io::Result<F>) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let made = {
            let _inside = runtime.enter();
            make()
        };
        let task = match made {
            Ok(task) => task,
            Err(error) => {
                // Dropping it would block, which a caller's runtime does not allow.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (ended, end) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(task);
            drop(ended);
        })?;
        self.spawn(async move {
            let _ = end.await;
        });
        Ok(())
    }

    /// Resolves when every task spawned here has ended.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_is_drained_like_a_task() {
        let shutdown = Shutdown::new();
        let (stop, (told, heard)) = (shutdown.clone(), oneshot::channel());
        let made = shutdown.spawn_thread("media", || {
            Ok(async move {
                stop.requested().await;
                let _ = told.send(std::thread::current().name().map(str::to_owned));
            })
        });
        made.unwrap();
        shutdown.request();
        shutdown.drained().await;
        assert_eq!(heard.await.unwrap().as_deref(), Some("media"));
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_an_error_and_leaves_nothing_behind() {
        let shutdown = Shutdown::new();
        let failed = shutdown.spawn_thread("media", || Err::<std::future::Ready<()>, _>(io::Error::other("no socket")));
        assert_eq!(failed.unwrap_err().to_string(), "no socket");
        shutdown.drained().await;
    }
}
