//! WebRTC sessions towards browsers, sans-IO: the one folder that names webrtc-rs types.
//!
//! A [`Session`] takes datagrams and time and gives datagrams and events. It speaks ICE-lite, DTLS and
//! inbound SRTCP; the keys to send with leave it once, inside a [`Sealer`]. Towards cameras, [`feedback`]
//! is the interceptor chain that keeps them sending.

mod answer;
mod certificate;
mod dtls;
pub mod feedback;
#[cfg(test)]
mod foreign_tests;
mod ice;
mod keys;
mod negotiate;
mod offer;
mod opener;
mod record;
mod remote;
mod sealer;
mod session;
#[cfg(test)]
pub(crate) mod testing;
mod verify;
mod viewer_rtcp;

#[cfg(test)]
mod tests;

pub use answer::{Answer, LocalCandidate, RejectedSection, Transport};
pub use certificate::{Fingerprint, Identity, IdentityError, InvalidFingerprint};
pub use ice::request_ufrag;
pub use keys::SrtpProfile;
pub use negotiate::RunningCodecs;
pub use offer::{MAX_ATTRIBUTES, MAX_FORMATS, MAX_OFFER_LEN, MAX_SECTIONS, MAX_TOKEN_LEN, OfferError, ParsedOffer};
pub use remote::{ConnectionId, Remote};
pub use sealer::{SealError, Sealer};
pub use session::{
    CloseCause, Format, IceCredentials, NegotiatedTracks, Output, ReofferError, Rtx, Session, SessionConfig,
    SessionCounters, Track,
};
pub use viewer_rtcp::Feedback;
