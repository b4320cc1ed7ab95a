//! Who watches a stream on which shard: where its next viewer goes, and which shards a frame has to wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A stream's viewers share a shard up to here: each shard that has one of them is woken for every frame. So many are sent
/// a frame of eight packets within half a millisecond, also by a slow core with cold caches.
const COMPANY: usize = 16;

/// Viewers of one stream, and other readers of its frames, by shard; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Audience(Arc<[AtomicUsize]>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Watching {
    audience: Audience,
    shard: usize,
}

impl Audience {
    /// Nobody yet.
    pub(super) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| AtomicUsize::new(0)).collect())
    }

    /// One more on this shard.
    pub(super) fn join(&self, shard: usize) -> Watching {
        // Before the command that lets it in: a frame that does not see it yet comes before that.
        self.0[shard].fetch_add(1, Ordering::SeqCst);
        Watching { audience: self.clone(), shard }
    }

    /// How many there are on this shard.
    pub(super) fn on(&self, shard: usize) -> usize {
        self.0[shard].load(Ordering::SeqCst)
    }

    /// The shard for the next viewer; `load` is all viewers of each shard.
    pub(super) fn place(&self, load: &[usize]) -> usize {
        let emptiest = (0..load.len()).min_by_key(|shard| load[*shard]).unwrap_or(0);
        let company = (0..load.len()).max_by_key(|shard| (self.on(*shard), std::cmp::Reverse(*shard))).unwrap_or(0);
        let has_room = (1..COMPANY).contains(&self.on(company)) && load[company] < load[emptiest] + COMPANY;
        if has_room { company } else { emptiest }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.audience.0[self.shard].fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Viewers of streams in turn; returns all viewers of each shard and, by stream, its viewers there.
    fn fill(shards: usize, streams: usize, viewers: usize) -> (Vec<usize>, Vec<Vec<usize>>) {
        let audiences: Vec<_> = (0..streams).map(|_| Audience::new(shards)).collect();
        let mut load = vec![0; shards];
        let mut watching = Vec::new();
        for n in 0..viewers {
            let audience = &audiences[n % streams];
            let shard = audience.place(&load);
            load[shard] += 1;
            watching.push(audience.join(shard));
        }
        let on = audiences.iter().map(|audience| (0..shards).map(|shard| audience.on(shard)).collect()).collect();
        (load, on)
    }

    #[test]
    fn few_viewers_of_a_stream_share_a_shard_and_many_spread() {
        assert_eq!(fill(4, 1, COMPANY).0, [COMPANY, 0, 0, 0]);
        let (load, _) = fill(4, 1, 500);
        assert_eq!(load, [125, 125, 125, 125]);
    }

    #[test]
    fn many_streams_spread_evenly_and_each_has_one_shard() {
        let (load, on) = fill(4, 40, 400);
        assert_eq!(load, [100, 100, 100, 100]);
        assert!(on.iter().all(|stream| stream.iter().filter(|viewers| **viewers > 0).count() == 1), "{on:?}");
    }

    #[test]
    fn company_is_no_reason_to_overload_a_shard() {
        let audience = Audience::new(2);
        let _one = audience.join(0);
        assert_eq!(audience.place(&[COMPANY, 1]), 0);
        assert_eq!(audience.place(&[COMPANY + 1, 1]), 1);
    }

    #[test]
    fn who_has_left_is_no_company() {
        let audience = Audience::new(2);
        drop(audience.join(1));
        assert_eq!((audience.on(1), audience.place(&[0, 0])), (0, 0));
    }
}
