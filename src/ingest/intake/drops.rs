//! Why datagrams on the camera ports are dropped, and how many were.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::media::latch::Unlatched;
use crate::media::receive::Refused;

/// Why a datagram on a camera port was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Neither RTP nor RTCP by its first bytes.
    NotRtp,
    /// RTP that breaks RFC 3550 §5.1.
    MalformedRtp,
    /// RTCP that breaks RFC 3550 §6.
    MalformedRtcp,
    /// A payload type that the SDP did not offer, or that is not forwarded.
    PayloadType,
    /// A source that no stream expects.
    Unexpected,
    /// A source that more than one camera could be.
    Ambiguous,
    /// A source that may be a stream's, as soon as another stream's camera is ruled out.
    Unconfirmed,
    /// A source that was sending before the stream was started that would take it.
    Earlier,
    /// Another live source holds the place.
    SlotTaken,
    /// A source that was another camera's until a moment ago.
    OtherCamera,
    /// A packet that was received before.
    Duplicate,
    /// A jump in the sequence that the next packet did not confirm.
    Probation,
}

impl DropReason {
    /// Every reason, in the order of its counter.
    pub const ALL: [Self; 12] = [
        Self::NotRtp,
        Self::MalformedRtp,
        Self::MalformedRtcp,
        Self::PayloadType,
        Self::Unexpected,
        Self::Ambiguous,
        Self::Unconfirmed,
        Self::Earlier,
        Self::SlotTaken,
        Self::OtherCamera,
        Self::Duplicate,
        Self::Probation,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRtp => "not_rtp",
            Self::MalformedRtp => "malformed_rtp",
            Self::MalformedRtcp => "malformed_rtcp",
            Self::PayloadType => "payload_type",
            Self::Unexpected => "unexpected",
            Self::Ambiguous => "ambiguous",
            Self::Unconfirmed => "unconfirmed",
            Self::Earlier => "earlier",
            Self::SlotTaken => "slot_taken",
            Self::OtherCamera => "other_camera",
            Self::Duplicate => "duplicate",
            Self::Probation => "probation",
        }
    }

    /// Whether it says something about the source, rather than about one packet of a camera.
    pub(super) fn concerns_source(self) -> bool {
        !matches!(self, Self::Duplicate | Self::Probation)
    }
}

impl From<Unlatched> for DropReason {
    fn from(reason: Unlatched) -> Self {
        match reason {
            Unlatched::Unexpected => Self::Unexpected,
            Unlatched::Ambiguous => Self::Ambiguous,
            Unlatched::Unconfirmed => Self::Unconfirmed,
            Unlatched::Earlier => Self::Earlier,
            Unlatched::SlotTaken => Self::SlotTaken,
            Unlatched::OtherCamera => Self::OtherCamera,
        }
    }
}

impl From<Refused> for DropReason {
    fn from(reason: Refused) -> Self {
        match reason {
            Refused::Duplicate => Self::Duplicate,
            Refused::Probation => Self::Probation,
        }
    }
}

/// Datagrams dropped so far, by reason.
#[derive(Debug, Default)]
pub struct DropCounters([AtomicU64; DropReason::ALL.len()]);

impl DropCounters {
    /// How many were dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, reason: DropReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}
