//! What the viewers of a stream can take, by their own REMB.
//!
//! A browser's REMB is bounded by what it receives, so a camera that sends little makes it small: alone it
//! says nothing. It counts only while the same viewer also reports loss.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::{StreamId, ViewerId};

/// Loss in a report from which on a viewer's path is too narrow for what it gets; ordinary paths lose less.
const TROUBLE: f64 = 0.02;
/// It stays so for this long after the last such report.
const TROUBLE_LASTS: Duration = Duration::from_secs(10);
/// A limit that moves by less than this share is not worth a message.
const SIGNIFICANT: f64 = 0.05;

/// REMB and loss of one viewer.
#[derive(Debug, Clone, Copy)]
struct Viewer {
    stream: StreamId,
    remb: Option<u64>,
    trouble_until: Option<Instant>,
}

/// The viewers that have reported, and the limits that were announced.
#[derive(Debug, Default)]
pub(super) struct ViewerLimits {
    viewers: HashMap<ViewerId, Viewer>,
    announced: HashMap<StreamId, u64>,
}

impl ViewerLimits {
    /// A viewer's REMB in bit/s. Returns the stream's limit if it has changed.
    pub(super) fn on_remb(
        &mut self,
        stream: StreamId,
        viewer: ViewerId,
        remb: u64,
        now: Instant,
    ) -> Option<Option<u64>> {
        self.viewer(stream, viewer).remb = Some(remb);
        self.changed(stream, viewer, now)
    }

    /// A viewer's report of loss, 0 to 1. Returns the stream's limit if it has changed.
    pub(super) fn on_loss(
        &mut self,
        stream: StreamId,
        viewer: ViewerId,
        loss: f64,
        now: Instant,
    ) -> Option<Option<u64>> {
        let entry = self.viewer(stream, viewer);
        if loss >= TROUBLE {
            entry.trouble_until = Some(now + TROUBLE_LASTS);
        }
        self.changed(stream, viewer, now)
    }

    /// A viewer is gone. Returns the stream's limit if it has changed.
    pub(super) fn remove(&mut self, viewer: ViewerId, now: Instant) -> Option<(StreamId, Option<u64>)> {
        let stream = self.viewers.remove(&viewer)?.stream;
        Some((stream, self.changed(stream, viewer, now)?))
    }

    /// A stream is gone.
    pub(super) fn close_stream(&mut self, stream: StreamId) {
        self.announced.remove(&stream);
    }

    fn viewer(&mut self, stream: StreamId, viewer: ViewerId) -> &mut Viewer {
        self.viewers.entry(viewer).or_insert(Viewer { stream, remb: None, trouble_until: None })
    }

    fn changed(&mut self, stream: StreamId, viewer: ViewerId, now: Instant) -> Option<Option<u64>> {
        let announced = self.announced.get(&stream).copied();
        // The common case, once a second for every viewer: no trouble before, none now.
        if announced.is_none() && self.viewers.get(&viewer).is_none_or(|viewer| viewer.trouble_until.is_none()) {
            return None;
        }
        let mut limit = None;
        for viewer in self.viewers.values_mut().filter(|viewer| viewer.stream == stream) {
            viewer.trouble_until.take_if(|until| now >= *until);
            if viewer.trouble_until.is_some() {
                limit = limit.into_iter().chain(viewer.remb).min();
            }
        }
        let same = match (announced, limit) {
            (Some(old), Some(new)) => (old.abs_diff(new) as f64) < old as f64 * SIGNIFICANT,
            (old, new) => old == new,
        };
        if same {
            return None;
        }
        match limit {
            Some(limit) => self.announced.insert(stream, limit),
            None => self.announced.remove(&stream),
        };
        Some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_lowest_remb_of_viewers_that_lose_packets_counts_and_no_other() {
        let (mut limits, now, stream) = (ViewerLimits::default(), Instant::now(), StreamId::random());
        let [good, bad, worse] = [(); 3].map(|()| ViewerId::random());
        assert_eq!(limits.on_remb(stream, good, 300_000, now), None);
        assert_eq!(limits.on_loss(stream, good, 0.0, now), None);
        assert_eq!(limits.on_remb(stream, bad, 1_000_000, now), None);
        assert_eq!(limits.on_loss(stream, bad, 0.1, now), Some(Some(1_000_000)));
        assert_eq!(limits.on_loss(stream, worse, 0.1, now), None, "it has not said what it can take");
        assert_eq!(limits.on_remb(stream, worse, 700_000, now), Some(Some(700_000)));
        assert_eq!(limits.on_remb(stream, worse, 710_000, now), None);
        assert_eq!(limits.remove(worse, now), Some((stream, Some(1_000_000))));
        // Another stream's viewers are another matter.
        assert_eq!(limits.on_loss(StreamId::random(), ViewerId::random(), 0.5, now), None);
    }

    #[test]
    fn a_limit_ends_10_s_after_the_last_loss_and_with_the_last_viewer() {
        let (mut limits, now, stream, viewer) =
            (ViewerLimits::default(), Instant::now(), StreamId::random(), ViewerId::random());
        limits.on_remb(stream, viewer, 1_000_000, now);
        assert_eq!(limits.on_loss(stream, viewer, 0.02, now), Some(Some(1_000_000)));
        assert_eq!(limits.on_loss(stream, viewer, 0.0, now + 9 * SECOND), None);
        assert_eq!(limits.on_loss(stream, viewer, 0.0, now + 10 * SECOND), Some(None));
        assert_eq!(limits.on_loss(stream, viewer, 0.02, now + 20 * SECOND), Some(Some(1_000_000)));
        assert_eq!(limits.remove(viewer, now + 20 * SECOND), Some((stream, None)));
        assert!(limits.viewers.is_empty() && limits.announced.is_empty());
    }
}
