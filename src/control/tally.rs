//! What the control task counts for as long as the process runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::handle::AddViewerError;
use crate::egress::CloseReason;
use crate::telemetry::metrics::{Collect, Histogram, Page, catalog};

/// Upper bounds in milliseconds: a viewer on the same network needs some ten, one far away some hundred.
const CONNECT_BOUNDS_MS: [u64; 10] = [10, 25, 50, 100, 200, 300, 500, 1_000, 2_500, 10_000];

/// Counted since the start; shared by the control task and its handles.
#[derive(Debug)]
pub(super) struct Tally {
    connect: Histogram<10>,
    ended: [AtomicU64; ENDED.len()],
    refused: [AtomicU64; REFUSED.len()],
    live_bytes: Arc<AtomicU64>,
}

const ENDED: [&str; 7] =
    ["left", "stream_stopped", "shutdown", "connect_timeout", "consent_expired", "peer_closed", "failed"];
const REFUSED: [&str; 7] = ["no_stream", "other_stream", "too_many", "offer", "media", "start", "unavailable"];

impl Default for Tally {
    fn default() -> Self {
        Self {
            connect: Histogram::with_bounds_ms(CONNECT_BOUNDS_MS),
            ended: Default::default(),
            refused: Default::default(),
            live_bytes: Default::default(),
        }
    }
}

impl Tally {
    /// Media can flow to a viewer, `after` its offer.
    pub(super) fn connected(&self, after: Duration) {
        self.connect.record(after);
    }

    /// An accepted viewer has ended.
    pub(super) fn ended(&self, reason: &CloseReason) {
        let index = match reason {
            // Whoever's time is over is let go by its edge, as one that leaves.
            CloseReason::Left | CloseReason::AccessEnded => 0,
            CloseReason::StreamStopped => 1,
            CloseReason::Shutdown => 2,
            CloseReason::ConnectTimeout => 3,
            CloseReason::ConsentExpired => 4,
            CloseReason::PeerClosed => 5,
            CloseReason::Failed(_) => 6,
        };
        self.ended[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Where what viewers without WebRTC are sent is counted.
    pub(super) fn live_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.live_bytes)
    }

    /// A viewer was not accepted.
    pub(super) fn refused(&self, error: &AddViewerError) {
        let index = match error {
            AddViewerError::NoStream(_) => 0,
            AddViewerError::OtherStream { .. } => 1,
            AddViewerError::TooMany(_) => 2,
            AddViewerError::Offer(_) => 3,
            AddViewerError::Media(_) => 4,
            AddViewerError::Start(_) => 5,
            AddViewerError::Unavailable(_) => 6,
        };
        self.refused[index].fetch_add(1, Ordering::Relaxed);
    }
}

impl Collect for Tally {
    fn collect(&self, page: &mut Page) {
        page.distribution(&catalog::VIEWER_CONNECT, &[], &self.connect.snapshot());
        for (reason, count) in ENDED.iter().zip(&self.ended) {
            page.count(&catalog::VIEWERS_ENDED, &[reason], count.load(Ordering::Relaxed));
        }
        for (reason, count) in REFUSED.iter().zip(&self.refused) {
            page.count(&catalog::VIEWERS_REFUSED, &[reason], count.load(Ordering::Relaxed));
        }
        page.count(&catalog::LIVE_BYTES, &[], self.live_bytes.load(Ordering::Relaxed));
    }
}
