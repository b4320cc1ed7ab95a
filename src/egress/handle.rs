//! What control can ask of the egress, and what the egress tells it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{StreamId, ViewerId};
use crate::media::FrameSink;

/// A viewer who wants in.
#[derive(Debug, Clone)]
pub struct AddViewer {
    /// Key of all later calls and events.
    pub viewer: ViewerId,
    /// The stream to watch; it must be open.
    pub stream: StreamId,
    /// The browser's SDP offer.
    pub offer: String,
    /// `profile-level-id` of the camera's real SPS where it is known.
    pub profile_level_id: Option<String>,
}

/// A host candidate in the form browsers take (`RTCIceCandidateInit`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// `candidate:…` line.
    pub candidate: String,
    /// Media section by name.
    pub sdp_mid: String,
    /// Media section by place.
    pub sdp_m_line_index: u16,
}

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerAnswer {
    /// SDP answer; it carries the candidates as well.
    pub sdp: String,
    /// The same candidates for pages that wait for `iceCandidate` messages.
    pub candidates: Vec<Candidate>,
}

/// Why a viewer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewerError {
    /// The offer cannot be used; the text says why in words.
    #[error("{0}")]
    Offer(String),
    /// The stream is not open.
    #[error("the stream is not running")]
    NoStream,
    /// Egress has stopped or is overloaded.
    #[error("the media engine cannot take another viewer now")]
    Unavailable,
}

/// Why a viewer's session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The page said so: `stop`, socket closed, replaced.
    Left,
    /// The stream was stopped.
    StreamStopped,
    /// Honeycast shuts down.
    Shutdown,
    /// No ICE and DTLS within `VIEWER_CONNECT_TIMEOUT`.
    ConnectTimeout,
    /// No authenticated ICE check for 30 s (RFC 7675).
    ConsentExpired,
    /// The peer closed DTLS.
    PeerClosed,
    /// DTLS or SRTP failed; the text says how.
    Failed(String),
}

/// What the egress reports on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressEvent {
    /// ICE and DTLS are up; media flows.
    Connected {
        /// Which viewer.
        viewer: ViewerId,
    },
    /// The session is gone. Sent exactly once per accepted viewer, whatever ended it.
    Closed {
        /// Which viewer.
        viewer: ViewerId,
        /// Why.
        reason: CloseReason,
    },
    /// A viewer cannot go on without a keyframe.
    KeyframeWanted {
        /// The stream it watches.
        stream: StreamId,
    },
}

/// What the egress knows of a viewer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ViewerStats {
    /// ICE and DTLS are up.
    pub connected: bool,
    /// The browser's address.
    pub remote: Option<SocketAddr>,
    /// RTP packets sent.
    pub packets: u64,
    /// Bytes sent, SRTP included.
    pub bytes: u64,
    /// Retransmissions sent.
    pub retransmissions: u64,
    /// NACKed packets asked for.
    pub nacks: u64,
    /// PLIs and FIRs received.
    pub plis: u64,
    /// Fraction of video packets lost by the last receiver report, 0–1.
    pub fraction_lost: f64,
    /// Round-trip time by the last receiver report, in milliseconds.
    pub rtt_ms: Option<f64>,
}

/// Handle of the egress; cheap to clone.
#[derive(Clone)]
pub struct EgressHandle {}

impl EgressHandle {
    /// Opens a stream and returns where its frames go.
    pub fn open_stream(&self, _stream: StreamId) -> Arc<dyn FrameSink> {
        todo!()
    }

    /// Closes a stream and all its viewers; each yields [`EgressEvent::Closed`] with `reason`.
    pub fn close_stream(&self, _stream: StreamId, _reason: CloseReason) {}

    /// Accepts a viewer: parses the offer and makes the answer.
    ///
    /// # Errors
    ///
    /// [`ViewerError`].
    pub async fn add_viewer(&self, _viewer: AddViewer) -> Result<ViewerAnswer, ViewerError> {
        Err(ViewerError::Unavailable)
    }

    /// Ends a viewer's session; unknown ids are ignored.
    pub fn remove_viewer(&self, _viewer: ViewerId, _reason: CloseReason) {}

    /// Current figures, or `None` for a viewer that is not there.
    pub fn viewer_stats(&self, _viewer: ViewerId) -> Option<ViewerStats> {
        None
    }
}
