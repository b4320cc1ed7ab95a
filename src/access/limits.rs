//! How often a client may ask, and who a client is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::net::Networks;

/// Clients remembered at once. Beyond that, unknown ones share one allowance.
const MAX_CLIENTS: usize = 10_000;
/// Between two attempts to forget clients that have been quiet.
const SWEEP: Duration = Duration::from_secs(1);
/// Seconds' worth of requests that may come at once.
const BURST_SECONDS: f64 = 4.0;

/// A token bucket (as RFC 2697 has it): so many a second in the long run, and so many at once.
#[derive(Debug, Clone)]
pub struct Allowance {
    rate: f64,
    burst: f64,
    bucket: Bucket,
}

impl Allowance {
    /// Both must be more than 0.
    pub fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, bucket: Bucket::default() }
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// There is none left; when there will be.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.bucket.take(self.rate, self.burst, now)
    }
}

/// Token buckets, one for each key, in bounded memory.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: f64,
    burst: f64,
    max: usize,
    buckets: HashMap<K, Bucket>,
    /// For everybody who has none.
    shared: Bucket,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// What is missing to a full one, at `at`.
    used: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn take(&mut self, rate: f64, burst: f64, now: Instant) -> Result<(), Duration> {
        self.used = self.used_at(rate, now);
        self.at = Some(now);
        if self.used + 1.0 > burst {
            return Err(Duration::from_secs_f64((self.used + 1.0 - burst) / rate));
        }
        self.used += 1.0;
        Ok(())
    }

    fn used_at(&self, rate: f64, now: Instant) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.used - passed.as_secs_f64() * rate).max(0.0)
    }
}

impl<K: Eq + std::hash::Hash> Buckets<K> {
    /// `rate` a second in the long run, `burst` at once, for `max` keys at a time. All must be more than 0.
    pub fn new(rate: f64, burst: f64, max: usize) -> Self {
        Self { rate, burst, max, buckets: HashMap::new(), shared: Bucket::default(), swept: None }
    }

    /// Takes one.
    ///
    /// # Errors
    ///
    /// There is none left; when there will be.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let (rate, burst) = (self.rate, self.burst);
        if !self.buckets.contains_key(&key) && self.buckets.len() >= self.max {
            if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP) {
                self.swept = Some(now);
                // A full bucket is as good as none.
                self.buckets.retain(|_, bucket| bucket.used_at(rate, now) > 0.0);
            }
            if self.buckets.len() >= self.max {
                return self.shared.take(rate, burst, now);
            }
        }
        self.buckets.entry(key).or_default().take(rate, burst, now)
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

/// Requests per client, behind whatever proxies there are.
#[derive(Debug, Default)]
pub struct ClientLimits {
    proxies: Networks,
    buckets: Option<Mutex<Buckets<IpAddr>>>,
}

impl ClientLimits {
    /// `requests_per_second` in the long run, 0 for any; four times as many at once. `proxies` are believed what
    /// they say about their clients.
    pub fn new(requests_per_second: u32, proxies: Networks) -> Self {
        let rate = f64::from(requests_per_second);
        let buckets = || Mutex::new(Buckets::new(rate, rate * BURST_SECONDS, MAX_CLIENTS));
        Self { proxies, buckets: (requests_per_second > 0).then(buckets) }
    }

    /// Whether `peer` is a proxy whose word counts.
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.contains(peer)
    }

    /// The client of a request that `peer` has sent: of what proxies have written into `X-Forwarded-For`, the
    /// last address that is not a proxy's. Anybody can write the ones before it, so they say nothing.
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl IntoIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.is_proxy(client) {
            return client;
        }
        let hops: Vec<&str> = forwarded.into_iter().flat_map(|header| header.split(',')).collect();
        for hop in hops.into_iter().rev() {
            let Some(ip) = address(hop.trim()) else { break };
            client = ip.to_canonical();
            if !self.is_proxy(client) {
                break;
            }
        }
        client
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// There were too many; when the next one may come.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        buckets.lock().unwrap_or_else(PoisonError::into_inner).take(prefix(client), now)
    }
}

/// With or without port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// Whom addresses stand for: a household has a /64 of IPv6 and one address of IPv4.
pub(super) fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
        ip => ip,
    }
}
