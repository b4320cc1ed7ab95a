//! How many TCP connections there may be, in all and from one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::prefix;
use crate::base::net::Networks;

/// The limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one IPv4 address or IPv6 /64.
    pub per_client: usize,
    /// Stand for many clients, so that only the first limit holds for them.
    pub proxies: Networks,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 4_096, per_client: 1_000, proxies: Networks::default() }
    }
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There are as many as there may be.
    #[error("Too many connections")]
    Total,
    /// This client has as many as it may have.
    #[error("Too many connections from one address")]
    PerClient,
}

/// The connections of all listeners. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    clients: HashMap<IpAddr, usize>,
    refused: u64,
    unreadable: u64,
}

/// A connection that was taken; gives its place back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    inner: Arc<Inner>,
    client: Option<IpAddr>,
}

impl Connections {
    /// None yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Inner { limits, open: Mutex::default() }))
    }

    /// Takes a connection from `peer`.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn admit(&self, peer: IpAddr) -> Result<Admitted, Refused> {
        let limits = &self.0.limits;
        let client = (!limits.proxies.contains(peer)).then(|| prefix(peer));
        let mut open = self.0.open();
        let refused = if open.total >= limits.total {
            Some(Refused::Total)
        } else if client.is_some_and(|c| open.clients.get(&c).is_some_and(|n| *n >= limits.per_client)) {
            Some(Refused::PerClient)
        } else {
            None
        };
        if let Some(refused) = refused {
            open.refused += 1;
            return Err(refused);
        }
        open.total += 1;
        if let Some(client) = client {
            *open.clients.entry(client).or_default() += 1;
        }
        Ok(Admitted { inner: Arc::clone(&self.0), client })
    }

    /// Open now, and refused since the start.
    pub fn counts(&self) -> (usize, u64) {
        let open = self.0.open();
        (open.total, open.refused)
    }

    /// Requests that could not be read since the start.
    pub fn unreadable(&self) -> u64 {
        self.0.open().unreadable
    }
}

impl Admitted {
    /// Counts a request on it that could not be read.
    pub fn unreadable(&self) {
        self.inner.open().unreadable += 1;
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.inner.open();
        open.total -= 1;
        if let Some(client) = self.client
            && let Some(count) = open.clients.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                open.clients.remove(&client);
            }
        }
    }
}
