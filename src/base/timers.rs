//! Deadlines of many keyed things, the earliest first. Knows no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// One deadline per key. Setting is O(log n); moved deadlines are dropped lazily.
#[derive(Debug)]
pub struct Timers<K> {
    current: HashMap<K, Instant>,
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Copy + Eq + Hash + Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { current: HashMap::new(), heap: BinaryHeap::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Timers<K> {
    /// Sets, moves or (with `None`) clears the deadline of `key`.
    pub fn set(&mut self, key: K, deadline: Option<Instant>) {
        match deadline {
            None => {
                self.current.remove(&key);
            }
            Some(deadline) => {
                if self.current.insert(key, deadline) != Some(deadline) {
                    self.heap.push(Reverse((deadline, key)));
                }
            }
        }
    }

    /// The earliest deadline.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, key))) = self.heap.peek() {
            if self.current.get(key) == Some(deadline) {
                return Some(*deadline);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes a key whose deadline is not after `now`.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse((_, key)) = self.heap.pop()?;
        self.current.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moved_deadline_fires_once_at_its_new_time() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        timers.set('a', Some(at(1)));
        timers.set('b', Some(at(2)));
        timers.set('a', Some(at(3)));
        assert_eq!(timers.next_deadline(), Some(at(2)));
        assert_eq!(timers.expired(at(2)), Some('b'));
        assert_eq!(timers.expired(at(2)), None);
        assert_eq!(timers.expired(at(3)), Some('a'));
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn a_cleared_deadline_never_fires() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        timers.set(1, Some(start));
        timers.set(1, None);
        assert_eq!(timers.expired(start), None);
    }

    #[test]
    fn setting_the_same_deadline_again_does_not_grow_the_heap() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        for _ in 0..1_000 {
            timers.set(1, Some(start));
        }
        assert_eq!(timers.heap.len(), 1);
    }
}
