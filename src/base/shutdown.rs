//! Shutdown as a value that is handed down: everyone holds a [`Shutdown`], and the process has
//! drained when every guard is gone.

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

    /// Resolves when every task spawned here has ended.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
