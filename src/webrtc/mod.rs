//! WebRTC sessions towards browsers, sans-IO: the one folder that names webrtc-rs types.
//!
//! A [`Session`] takes datagrams and time and gives datagrams and events. It speaks ICE-lite, DTLS and
//! inbound SRTCP; the keys to send with leave it once, inside a [`Sealer`].

mod certificate;
mod keys;
mod opener;
mod sealer;

pub use certificate::{Fingerprint, Identity, IdentityError, InvalidFingerprint};
pub use keys::SrtpProfile;
pub use sealer::{SealError, Sealer};
