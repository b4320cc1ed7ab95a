//! Who watches what. Counted as they come and go: thousands of viewers are not gone through for each of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::base::{CameraId, StreamId, ViewerId};
use crate::control::handle::Reply;
use crate::control::live::LiveCounters;
use crate::egress::CloseReason;

pub(super) struct Viewer {
    pub(super) camera: CameraId,
    pub(super) stream: StreamId,
    pub(super) created: SystemTime,
    pub(super) connected: bool,
    /// Told why it has ended; `Some` from when it is accepted: before that the viewer only holds its place.
    closed: Option<Reply<CloseReason>>,
    /// Of one without WebRTC, which the egress knows nothing of.
    pub(super) live: Option<Arc<LiveCounters>>,
}

impl Viewer {
    /// One whose offer the egress has yet to answer.
    pub(super) fn asking(camera: CameraId, stream: StreamId) -> Self {
        Self { camera, stream, created: SystemTime::now(), connected: false, closed: None, live: None }
    }

    /// One without WebRTC.
    pub(super) fn live(
        camera: CameraId,
        stream: StreamId,
        counters: Arc<LiveCounters>,
        closed: Reply<CloseReason>,
    ) -> Self {
        let (connected, closed, live) = (true, Some(closed), Some(counters));
        Self { camera, stream, created: SystemTime::now(), connected, closed, live }
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.closed.is_some()
    }

    /// Tells whoever holds the viewer.
    pub(super) fn close(self, reason: CloseReason) {
        if let Some(closed) = self.closed {
            drop(closed.send(reason));
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    all: usize,
    accepted: usize,
}

#[derive(Default)]
pub(super) struct ViewerTable {
    viewers: HashMap<ViewerId, Viewer>,
    /// Of streams that somebody watches.
    counts: HashMap<StreamId, Counts>,
}

impl ViewerTable {
    pub(super) fn insert(&mut self, id: ViewerId, viewer: Viewer) {
        let (stream, is_accepted) = (viewer.stream, viewer.is_accepted());
        if let Some(replaced) = self.viewers.insert(id, viewer) {
            self.uncount(&replaced);
        }
        let counts = self.counts.entry(stream).or_default();
        counts.all += 1;
        counts.accepted += usize::from(is_accepted);
    }

    /// The egress has answered; `closed` will be told of the end. `None` if the viewer is gone.
    pub(super) fn accept(&mut self, id: ViewerId, closed: Reply<CloseReason>) -> Option<&Viewer> {
        let viewer = self.viewers.get_mut(&id)?;
        if viewer.closed.replace(closed).is_none() {
            self.counts.entry(viewer.stream).or_default().accepted += 1;
        }
        Some(viewer)
    }

    pub(super) fn remove(&mut self, id: ViewerId) -> Option<Viewer> {
        let viewer = self.viewers.remove(&id)?;
        self.uncount(&viewer);
        Some(viewer)
    }

    fn uncount(&mut self, viewer: &Viewer) {
        if let Some(counts) = self.counts.get_mut(&viewer.stream) {
            counts.all -= 1;
            counts.accepted -= usize::from(viewer.is_accepted());
            if counts.all == 0 {
                self.counts.remove(&viewer.stream);
            }
        }
    }

    pub(super) fn get(&self, id: ViewerId) -> Option<&Viewer> {
        self.viewers.get(&id)
    }

    /// The first packets can go to it.
    pub(super) fn connected(&mut self, id: ViewerId) -> Option<&Viewer> {
        let viewer = self.viewers.get_mut(&id)?;
        viewer.connected = true;
        Some(viewer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ViewerId, &Viewer)> {
        self.viewers.iter().map(|(id, viewer)| (*id, viewer))
    }

    /// Viewers of a stream, those that are being accepted included.
    pub(super) fn of(&self, stream: StreamId) -> usize {
        self.counts.get(&stream).map_or(0, |counts| counts.all)
    }

    /// Accepted viewers of a stream.
    pub(super) fn accepted_of(&self, stream: StreamId) -> usize {
        self.counts.get(&stream).map_or(0, |counts| counts.accepted)
    }

    /// Accepted viewers of all streams.
    pub(super) fn accepted(&self) -> usize {
        self.counts.values().map(|counts| counts.accepted).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use tokio::sync::oneshot;

    use super::*;
    use crate::control::live::{LiveClient, LiveCounters};

    fn recount(table: &ViewerTable, streams: &[StreamId]) -> Vec<(usize, usize)> {
        let count = |stream: StreamId, accepted: bool| {
            table.iter().filter(|(_, v)| v.stream == stream && (!accepted || v.is_accepted())).count()
        };
        streams.iter().map(|stream| (count(*stream, false), count(*stream, true))).collect()
    }

    proptest! {
        /// Whatever comes and goes in whichever order, the counts are those of a look at everyone.
        #[test]
        fn counts_are_those_of_a_recount(steps in prop::collection::vec((0..4u8, 0..6usize, 0..3usize), 0..200)) {
            let camera: CameraId = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap();
            let ids: Vec<_> = (0..6).map(|_| ViewerId::random()).collect();
            let streams: Vec<_> = (0..3).map(|_| StreamId::random()).collect();
            let mut table = ViewerTable::default();
            for (step, viewer, stream) in steps {
                let (id, stream) = (ids[viewer], streams[stream]);
                match step {
                    0 => table.insert(id, Viewer::asking(camera, stream)),
                    1 => {
                        let counters = Arc::new(LiveCounters::new(LiveClient::default(), false, Arc::default()));
                        table.insert(id, Viewer::live(camera, stream, counters, oneshot::channel().0));
                    }
                    2 => drop(table.accept(id, oneshot::channel().0).map(|viewer| assert!(viewer.is_accepted()))),
                    _ => drop(table.remove(id).map(|viewer| viewer.close(CloseReason::Left))),
                }
                let counted: Vec<_> = streams.iter().map(|s| (table.of(*s), table.accepted_of(*s))).collect();
                prop_assert_eq!(&counted, &recount(&table, &streams));
                prop_assert_eq!(table.accepted(), counted.iter().map(|(_, accepted)| accepted).sum::<usize>());
                let watched: BTreeSet<_> = table.iter().map(|(_, v)| v.stream).collect();
                prop_assert_eq!(table.counts.len(), watched.len(), "streams that nobody watches are forgotten");
            }
        }
    }
}
