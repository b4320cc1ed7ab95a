//! The sources whose packets were dropped, for the operator: bounded in number and in work per second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::drops::DropReason;
use crate::base::StreamId;

/// Sources shown.
pub(super) const MAX_SOURCES: usize = 256;
/// New sources entered in a second. A flood from forged addresses is counted, not listed.
pub(super) const NEW_PER_SECOND: u32 = 64;
/// What was silent for this long is not shown any more.
pub(super) const SHOWN_FOR: Duration = Duration::from_secs(600);

/// A source whose packets were dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSource {
    /// Its address.
    pub source: SocketAddr,
    /// The UDP port of ours that it sent to.
    pub port: u16,
    /// When the first packet was dropped, and the last one.
    pub first_seen: SystemTime,
    /// See `first_seen`.
    pub last_seen: SystemTime,
    /// How many were dropped.
    pub packets: u64,
    /// Why the last one was.
    pub reason: DropReason,
    /// The open stream that the source comes nearest to, if any.
    pub nearest: Option<StreamId>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    first: Instant,
    last: Instant,
    packets: u64,
    reason: DropReason,
    nearest: Option<StreamId>,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    entries: HashMap<(SocketAddr, u16), Entry>,
    /// Second of the last new entry, and how many there were in it.
    budget: Option<(Instant, u32)>,
}

impl Refusals {
    /// A packet from `source` to our `port` was dropped.
    pub(super) fn add(&mut self, key: (SocketAddr, u16), reason: DropReason, nearest: Option<StreamId>, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            (entry.last, entry.reason, entry.nearest) = (now, reason, nearest);
            entry.packets += 1;
        } else if self.may_enter(now) {
            if self.entries.len() >= MAX_SOURCES
                && let Some(quietest) = self.entries.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| *key)
            {
                self.entries.remove(&quietest);
            }
            self.entries.insert(key, Entry { first: now, last: now, packets: 1, reason, nearest });
        }
    }

    /// It was accepted after all.
    pub(super) fn remove(&mut self, key: (SocketAddr, u16)) {
        self.entries.remove(&key);
    }

    /// The sources, the last heard one first; `wall` is the system time at `now`.
    pub(super) fn list(&mut self, now: Instant, wall: SystemTime) -> Vec<RefusedSource> {
        self.entries.retain(|_, entry| now < entry.last + SHOWN_FOR);
        let mut entries: Vec<_> = self.entries.iter().map(|(key, entry)| (*key, *entry)).collect();
        entries.sort_by_key(|(key, entry)| (std::cmp::Reverse(entry.last), *key));
        let wall_time =
            |at: Instant| wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(SystemTime::UNIX_EPOCH);
        let shown = |((source, port), entry): ((SocketAddr, u16), Entry)| RefusedSource {
            source,
            port,
            first_seen: wall_time(entry.first),
            last_seen: wall_time(entry.last),
            packets: entry.packets,
            reason: entry.reason,
            nearest: entry.nearest,
        };
        entries.into_iter().map(shown).collect()
    }

    fn may_enter(&mut self, now: Instant) -> bool {
        match &mut self.budget {
            Some((since, count)) if now < *since + Duration::from_secs(1) => {
                *count += 1;
                *count <= NEW_PER_SECOND
            }
            budget => {
                *budget = Some((now, 1));
                true
            }
        }
    }
}
