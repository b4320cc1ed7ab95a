//! What the viewers of a stream can take, and what of that the camera is to know.
//!
//! A browser's REMB is bounded by what it receives, so a camera that sends little makes it small: alone it
//! says nothing. It counts only while the same viewer also reports loss. A viewer that is thinned harms nobody, so
//! it counts only if all viewers of its stream are: then a camera that sends less serves everybody better.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::base::{StreamId, ViewerId};

/// Loss in a report from which on a viewer's path is too narrow for what it gets; ordinary paths lose less.
const TROUBLE: f64 = 0.02;
/// It stays so for this long after the last such report.
const TROUBLE_LASTS: Duration = Duration::from_secs(10);
/// What the path of a thinned viewer carried is held for so long after it got everything again, because it
/// got that for the sake of the lower rate.
const CARRIED_LASTS: Duration = Duration::from_secs(60);
/// Of what a path was seen to carry, this share is asked for.
const CARRIED_SHARE: f64 = 0.8;
/// A limit that moves by less than this share is not worth a message.
const SIGNIFICANT: f64 = 0.05;
/// The share of viewers that [`RembPolicy::Percentile`] leaves out of account, the worst ones.
const LEFT_OUT: f64 = 0.2;

/// Whose bandwidth limits what a camera is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RembPolicy {
    /// The viewer's on the worst path.
    #[default]
    Min,
    /// The worst one's of those that remain without the worst fifth.
    Percentile,
    /// Like [`Self::Min`], but no less than this, in bit/s.
    Floor(u64),
    /// No viewer's.
    IgnoreSlow,
}

/// What is known of one viewer; what is `None` stays as it was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// REMB in bit/s.
    pub(super) remb: Option<u64>,
    /// Fraction lost by a receiver report, 0 to 1.
    pub(super) loss: Option<f64>,
    /// Only keyframes are sent to it.
    pub(super) thinned: bool,
    /// What its path was last seen to carry, in bit/s, while it was thinned for its delay.
    pub(super) carries: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Viewer {
    remb: Option<u64>,
    trouble_until: Option<Instant>,
    thinned: bool,
    carries: Option<u64>,
    carries_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Stream {
    viewers: HashMap<ViewerId, Viewer>,
    /// Those that may be a reason for a limit: mostly nobody, however many watch.
    concerned: HashSet<ViewerId>,
    announced: Option<u64>,
}

/// The viewers of all streams, and the limits that were announced.
#[derive(Debug, Default)]
pub(super) struct ViewerLimits {
    policy: RembPolicy,
    streams: HashMap<StreamId, Stream>,
}

impl ViewerLimits {
    pub(super) fn new(policy: RembPolicy) -> Self {
        Self { policy, streams: HashMap::new() }
    }

    /// A viewer is connected.
    pub(super) fn add(&mut self, stream: StreamId, viewer: ViewerId) {
        self.streams.entry(stream).or_default().viewers.entry(viewer).or_default();
    }

    /// A viewer said something. Returns the stream's limit if it has changed.
    pub(super) fn on_said(
        &mut self,
        stream: StreamId,
        viewer: ViewerId,
        said: Said,
        now: Instant,
    ) -> Option<Option<u64>> {
        let Stream { viewers, concerned, .. } = self.streams.get_mut(&stream)?;
        let entry = viewers.get_mut(&viewer)?;
        entry.remb = said.remb.or(entry.remb);
        if said.loss.is_some_and(|loss| loss >= TROUBLE) {
            entry.trouble_until = Some(now + TROUBLE_LASTS);
        }
        entry.thinned = said.thinned;
        entry.carries = said.carries.map(|carries| (carries as f64 * CARRIED_SHARE) as u64);
        if entry.is_concerned() {
            concerned.insert(viewer);
        }
        self.changed(stream, now)
    }

    /// A viewer is gone. Returns its stream's limit if it has changed.
    pub(super) fn remove(&mut self, stream: StreamId, viewer: ViewerId, now: Instant) -> Option<Option<u64>> {
        let entry = self.streams.get_mut(&stream)?;
        entry.viewers.remove(&viewer)?;
        entry.concerned.remove(&viewer);
        let changed = self.changed(stream, now);
        if self.streams.get(&stream).is_some_and(|stream| stream.viewers.is_empty()) {
            self.streams.remove(&stream);
        }
        changed
    }

    /// A stream is gone.
    pub(super) fn close_stream(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    fn changed(&mut self, stream: StreamId, now: Instant) -> Option<Option<u64>> {
        let stream = self.streams.get_mut(&stream)?;
        let limit = stream.limit(self.policy, now);
        let same = match (stream.announced, limit) {
            (Some(old), Some(new)) => (old.abs_diff(new) as f64) < old as f64 * SIGNIFICANT,
            (old, new) => old == new,
        };
        if same {
            return None;
        }
        stream.announced = limit;
        Some(limit)
    }
}

impl Stream {
    fn limit(&mut self, policy: RembPolicy, now: Instant) -> Option<u64> {
        let Self { viewers, concerned, .. } = self;
        let is_thinned = |viewer| viewers.get(viewer).is_some_and(|viewer| viewer.thinned);
        let all_thinned = concerned.iter().filter(|viewer| is_thinned(viewer)).count() == viewers.len();
        let mut limits = Vec::new();
        concerned.retain(|viewer| {
            let Some(viewer) = viewers.get_mut(viewer) else { return false };
            limits.extend(viewer.limit(all_thinned, now));
            viewer.is_concerned()
        });
        limits.sort_unstable();
        match policy {
            RembPolicy::Min => limits.first().copied(),
            RembPolicy::Percentile => limits.get((self.viewers.len() as f64 * LEFT_OUT) as usize).copied(),
            RembPolicy::Floor(least) => limits.first().map(|limit| *limit.max(&least)),
            RembPolicy::IgnoreSlow => None,
        }
    }
}

impl Viewer {
    fn is_concerned(&self) -> bool {
        self.thinned || self.trouble_until.is_some() || self.carries_until.is_some()
    }

    /// `None`: it is no reason for a limit.
    fn limit(&mut self, all_thinned: bool, now: Instant) -> Option<u64> {
        self.trouble_until.take_if(|until| now >= *until);
        self.carries_until.take_if(|until| now >= *until);
        if self.thinned {
            if !all_thinned {
                return None;
            }
            self.carries_until = Some(now + CARRIED_LASTS);
            return self.carries.or(self.remb);
        }
        let troubled = self.remb.filter(|_| self.trouble_until.is_some());
        troubled.into_iter().chain(self.carries.filter(|_| self.carries_until.is_some())).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        limits: ViewerLimits,
        stream: StreamId,
        viewers: Vec<ViewerId>,
        now: Instant,
    }

    impl Scene {
        fn new(policy: RembPolicy, viewers: usize) -> Self {
            let (mut limits, stream) = (ViewerLimits::new(policy), StreamId::random());
            let viewers: Vec<_> = (0..viewers).map(|_| ViewerId::random()).collect();
            viewers.iter().for_each(|viewer| limits.add(stream, *viewer));
            Self { limits, stream, viewers, now: Instant::now() }
        }

        fn says(&mut self, viewer: usize, said: Said) -> Option<Option<u64>> {
            self.limits.on_said(self.stream, self.viewers[viewer], said, self.now)
        }

        fn remb(&mut self, viewer: usize, remb: u64) -> Option<Option<u64>> {
            self.says(viewer, Said { remb: Some(remb), ..Said::default() })
        }

        fn loss(&mut self, viewer: usize, loss: f64) -> Option<Option<u64>> {
            self.says(viewer, Said { loss: Some(loss), ..Said::default() })
        }

        fn thinned(&mut self, viewer: usize, carries: u64) -> Option<Option<u64>> {
            self.says(viewer, Said { thinned: true, carries: Some(carries), ..Said::default() })
        }

        fn announced(&self) -> Option<u64> {
            self.limits.streams[&self.stream].announced
        }
    }

    #[test]
    fn the_lowest_remb_of_viewers_that_lose_packets_counts_and_no_other() {
        let mut s = Scene::new(RembPolicy::Min, 3);
        let [good, bad, worse] = [0, 1, 2];
        assert_eq!(s.remb(good, 300_000), None);
        assert_eq!(s.loss(good, 0.0), None);
        assert_eq!(s.remb(bad, 1_000_000), None);
        assert_eq!(s.loss(bad, 0.1), Some(Some(1_000_000)));
        assert_eq!(s.loss(worse, 0.1), None, "it has not said what it can take");
        assert_eq!(s.remb(worse, 700_000), Some(Some(700_000)));
        assert_eq!(s.remb(worse, 710_000), None);
        assert_eq!(s.limits.remove(s.stream, s.viewers[worse], s.now), Some(Some(1_000_000)));
        // Another stream's viewers are another matter.
        let other = StreamId::random();
        s.limits.add(other, ViewerId::random());
        assert_eq!(s.announced(), Some(1_000_000));
    }

    #[test]
    fn a_limit_ends_10_s_after_the_last_loss_and_with_the_last_viewer() {
        let mut s = Scene::new(RembPolicy::Min, 1);
        s.remb(0, 1_000_000);
        assert_eq!(s.loss(0, 0.02), Some(Some(1_000_000)));
        s.now += 9 * SECOND;
        assert_eq!(s.loss(0, 0.0), None);
        s.now += SECOND;
        assert_eq!(s.loss(0, 0.0), Some(None));
        assert_eq!(s.loss(0, 0.02), Some(Some(1_000_000)));
        assert_eq!(s.limits.remove(s.stream, s.viewers[0], s.now), Some(None));
        assert!(s.limits.streams.is_empty());
    }

    #[test]
    fn a_thinned_viewer_lowers_nothing_while_others_get_everything() {
        let mut s = Scene::new(RembPolicy::Min, 2);
        s.remb(0, 300_000);
        assert_eq!(s.loss(0, 0.5), Some(Some(300_000)));
        assert_eq!(s.thinned(0, 1_000_000), Some(None), "it is thinned now");
        assert_eq!(s.thinned(1, 2_000_000), Some(Some(800_000)), "nobody is left to be harmed");
        // Both get everything for the sake of the lower rate, which is therefore kept.
        for viewer in [0, 1] {
            let carries = Some(1_000_000 * (viewer as u64 + 1));
            s.says(viewer, Said { carries, ..Said::default() });
        }
        assert!(s.announced().is_some_and(|limit| limit <= 800_000));
        s.now += CARRIED_LASTS;
        for viewer in [0, 1] {
            s.loss(viewer, 0.0);
        }
        assert_eq!(s.announced(), None);
    }

    #[test]
    fn a_percentile_leaves_the_worst_fifth_out() {
        let mut s = Scene::new(RembPolicy::Percentile, 10);
        for (viewer, remb) in [(0, 300_000), (1, 400_000)] {
            s.remb(viewer, remb);
            assert_eq!(s.loss(viewer, 0.1), None);
        }
        s.remb(2, 900_000);
        assert_eq!(s.loss(2, 0.1), Some(Some(900_000)));
        let mut alone = Scene::new(RembPolicy::Percentile, 1);
        alone.remb(0, 300_000);
        assert_eq!(alone.loss(0, 0.1), Some(Some(300_000)));
    }

    #[test]
    fn a_floor_is_as_far_as_one_viewer_lowers_it() {
        let mut s = Scene::new(RembPolicy::Floor(1_000_000), 2);
        s.remb(0, 300_000);
        assert_eq!(s.loss(0, 0.1), Some(Some(1_000_000)));
        s.remb(1, 1_500_000);
        assert_eq!(s.loss(1, 0.1), None);
        assert_eq!(s.limits.remove(s.stream, s.viewers[0], s.now), Some(Some(1_500_000)));
    }

    #[test]
    fn slow_viewers_are_ignored_where_that_is_wanted() {
        let mut s = Scene::new(RembPolicy::IgnoreSlow, 1);
        s.remb(0, 300_000);
        assert_eq!(s.loss(0, 0.5), None);
        assert_eq!(s.thinned(0, 300_000), None);
    }
}
