//! What happened on the signaling port.

use std::sync::atomic::{AtomicU64, Ordering};

use super::protocol::Refusal;
use crate::telemetry::metrics::{Collect, Page, catalog};

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    sockets: AtomicU64,
    open: AtomicU64,
    foreign_origins: AtomicU64,
    not_websocket: AtomicU64,
    not_json: AtomicU64,
    unknown_types: AtomicU64,
    missing_fields: AtomicU64,
    refused_viewers: AtomicU64,
    unauthorized: AtomicU64,
    too_many_offers: AtomicU64,
    too_many_requests: AtomicU64,
    broken: AtomicU64,
}

/// A snapshot of [`Counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalingStats {
    /// Sockets accepted.
    pub sockets: u64,
    /// Sockets open now.
    pub open: u64,
    /// Refused: the page's origin is not allowed.
    pub foreign_origins: u64,
    /// Requests that were no WebSocket handshake.
    pub not_websocket: u64,
    /// Messages that were not JSON.
    pub not_json: u64,
    /// Messages of an unknown type.
    pub unknown_types: u64,
    /// `viewer` messages that lacked a field.
    pub missing_fields: u64,
    /// `viewer` messages that were understood and refused.
    pub refused_viewers: u64,
    /// Sockets without a credential that is good for anything.
    pub unauthorized: u64,
    /// Offers beyond what one socket may make.
    pub too_many_offers: u64,
    /// Handshakes beyond what one client may make.
    pub too_many_requests: u64,
    /// Sockets that broke the protocol, sent too much at once, took nothing, or fell silent.
    pub broken: u64,
}

/// Which number goes up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    ForeignOrigin,
    NotWebSocket,
    RefusedViewer,
    Unauthorized,
    TooManyOffers,
    TooManyRequests,
    Broken,
}

impl Collect for Counters {
    fn collect(&self, page: &mut Page) {
        let stats = self.snapshot();
        page.count(&catalog::SIGNALING_OPEN, &[], stats.open);
        page.count(&catalog::SIGNALING_SOCKETS, &[], stats.sockets);
        for (reason, count) in [
            ("foreign_origin", stats.foreign_origins),
            ("not_websocket", stats.not_websocket),
            ("not_json", stats.not_json),
            ("unknown_type", stats.unknown_types),
            ("missing_fields", stats.missing_fields),
            ("viewer", stats.refused_viewers),
            ("unauthorized", stats.unauthorized),
            ("too_many_offers", stats.too_many_offers),
            ("too_many_requests", stats.too_many_requests),
            ("broken", stats.broken),
        ] {
            page.count(&catalog::SIGNALING_REFUSED, &[reason], count);
        }
    }
}

impl Counters {
    /// The numbers now.
    pub fn snapshot(&self) -> SignalingStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SignalingStats {
            sockets: read(&self.sockets),
            open: read(&self.open),
            foreign_origins: read(&self.foreign_origins),
            not_websocket: read(&self.not_websocket),
            not_json: read(&self.not_json),
            unknown_types: read(&self.unknown_types),
            missing_fields: read(&self.missing_fields),
            refused_viewers: read(&self.refused_viewers),
            unauthorized: read(&self.unauthorized),
            too_many_offers: read(&self.too_many_offers),
            too_many_requests: read(&self.too_many_requests),
            broken: read(&self.broken),
        }
    }

    pub(super) fn count(&self, what: Count) {
        let counter = match what {
            Count::ForeignOrigin => &self.foreign_origins,
            Count::NotWebSocket => &self.not_websocket,
            Count::RefusedViewer => &self.refused_viewers,
            Count::Unauthorized => &self.unauthorized,
            Count::TooManyOffers => &self.too_many_offers,
            Count::TooManyRequests => &self.too_many_requests,
            Count::Broken => &self.broken,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::NotJson => &self.not_json,
            Refusal::UnknownType(_) => &self.unknown_types,
            Refusal::MissingFields => &self.missing_fields,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
