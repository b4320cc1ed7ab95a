//! One viewer's session: datagrams and time in, datagrams and events out (RFC 7983, RFC 8827).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;

use super::answer::{self, Answer, Local, LocalCandidate};
use super::certificate::{Fingerprint, Identity};
use super::dtls::{Dtls, DtlsEvent, DtlsRole};
use super::ice::{IceLite, StunError, random_text};
use super::keys::{SessionKeys, SrtpProfile};
use super::negotiate::{Accepted, AcceptedFormat, Negotiated, RunningCodecs, Verdict, negotiate};
use super::offer::{MAX_TOKEN_LEN, OfferError, ParsedOffer};
use super::opener::Opener;
use super::remote::Remote;
use super::sealer::Sealer;
use super::viewer_rtcp::{self, Feedback};
use crate::media::rtp::{DatagramKind, classify};
use crate::media::{Codec, MediaKind, Ssrc};

/// RFC 8834 §4.9 asks for 96 random bits; these are 119.
const CNAME_LEN: usize = 20;

/// What all sessions of one viewer port have in common.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The process's certificate.
    pub identity: Arc<Identity>,
    /// Addresses to advertise, the best first.
    pub candidates: Vec<LocalCandidate>,
}

/// What is sent, by the numbers of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedTracks {
    /// H.264.
    pub video: Option<Track>,
    /// Opus, PCMU or both.
    pub audio: Option<Track>,
    /// CNAME of all our sources, for SDES (RFC 3550 §6.5.1).
    pub cname: String,
}

/// One outgoing track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Media section by name; empty if the offer names none.
    pub mid: String,
    /// Source that we send with.
    pub ssrc: Ssrc,
    /// What may be sent, the preferred one first; never empty.
    pub formats: Vec<Format>,
    /// Retransmissions (RFC 4588), where the offer has them.
    pub rtx: Option<Rtx>,
    /// Number of the header extension for transport-wide sequence numbers, where the offer has it and RTX.
    pub transport_cc: Option<u8>,
}

/// A payload format that the viewer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What it is.
    pub codec: Codec,
    /// Payload type, the offer's number.
    pub payload_type: u8,
}

impl Track {
    /// The payload type to send `codec` with; `None` if the viewer does not take it.
    pub fn payload_type(&self, codec: Codec) -> Option<u8> {
        self.formats.iter().find(|format| format.codec == codec).map(|format| format.payload_type)
    }
}

/// Source and payload type of a retransmission stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtx {
    /// Source that retransmissions are sent with.
    pub ssrc: Ssrc,
    /// Payload type, the offer's number.
    pub payload_type: u8,
}

/// What a session wants done or has to tell.
#[derive(Debug)]
pub enum Output {
    /// Send this, from the socket that the session's datagrams arrive on.
    Transmit {
        /// Where to.
        to: Remote,
        /// STUN or DTLS.
        datagram: Vec<u8>,
    },
    /// Media goes to this address from now on.
    Path(Remote),
    /// DTLS is done. Sent once: the sealer is the only object that writes with the session's keys.
    Connected {
        /// Seals RTP and RTCP for the viewer.
        sealer: Sealer,
        /// What was negotiated.
        profile: SrtpProfile,
    },
    /// The viewer's RTCP said something about what we send.
    Feedback(Feedback),
    /// The session is over; nothing but a last [`Transmit`](Self::Transmit) is sent any more. Sent at most
    /// once, and not after [`Session::close`].
    Closed(CloseCause),
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseCause {
    /// DTLS close_notify.
    #[error("the peer closed the session")]
    PeerClosed,
    /// The DTLS certificate is not the one in the offer.
    #[error("the peer's certificate does not match the fingerprint in its offer")]
    FingerprintMismatch,
    /// No authenticated ICE check for 30 s (RFC 7675).
    #[error("no authenticated ICE check for 30 s")]
    ConsentExpired,
    /// DTLS or SRTP failed; the text says how.
    #[error("{0}")]
    Failed(String),
}

/// Datagrams that had no effect, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounters {
    /// STUN that is malformed or not a request.
    pub stun_ignored: u64,
    /// STUN requests with a wrong user name or MESSAGE-INTEGRITY.
    pub stun_unauthenticated: u64,
    /// DTLS, SRTP or SRTCP from an address without a recent authenticated check.
    pub unproven_source: u64,
    /// DTLS that is malformed, unexpected or too much.
    pub dtls_discarded: u64,
    /// SRTCP before the keys are there, replayed, or with a wrong tag.
    pub srtcp_refused: u64,
    /// SRTCP that decrypts to no valid RTCP.
    pub rtcp_malformed: u64,
    /// SRTP; viewers' own media is not used.
    pub rtp_ignored: u64,
    /// First byte of no protocol in RFC 7983.
    pub unknown: u64,
    /// Anything that arrived after the end.
    pub after_close: u64,
}

impl std::ops::AddAssign for SessionCounters {
    fn add_assign(&mut self, other: Self) {
        self.stun_ignored += other.stun_ignored;
        self.stun_unauthenticated += other.stun_unauthenticated;
        self.unproven_source += other.unproven_source;
        self.dtls_discarded += other.dtls_discarded;
        self.srtcp_refused += other.srtcp_refused;
        self.rtcp_malformed += other.rtcp_malformed;
        self.rtp_ignored += other.rtp_ignored;
        self.unknown += other.unknown;
        self.after_close += other.after_close;
    }
}

/// What a peer's checks are authenticated by, for an SDP fragment (RFC 8840 §4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
}

/// Why an offer does not continue a running session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReofferError {
    /// It cannot be used at all.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// It is that of another peer connection: its session id or its certificate is another one.
    #[error("the offer is that of another peer connection")]
    OtherPeer,
    /// Its credentials are those of the running session: it is the same offer again.
    #[error("the offer does not restart ICE")]
    Again,
    /// Only ICE can be renegotiated; the text says what else was changed.
    #[error("the offer changes {0}, and only ICE can be restarted in a running session")]
    Changed(&'static str),
}

/// A viewer's session, from the accepted offer on.
pub struct Session {
    identity: Arc<Identity>,
    /// Of the answers (RFC 8866 §5.2), whose version grows.
    sdp_id: u64,
    sdp_version: u64,
    role: DtlsRole,
    /// Who the peer connection is by its offers.
    peer_sdp_id: u64,
    fingerprints: Vec<Fingerprint>,
    ice: IceLite,
    dtls: Dtls,
    tracks: NegotiatedTracks,
    sources: Vec<Ssrc>,
    opener: Option<Opener>,
    closed: bool,
    outputs: VecDeque<Output>,
    counters: SessionCounters,
}

impl Session {
    /// Accepts an offer and makes the answer; `running` is what is known of the camera's stream.
    ///
    /// # Errors
    ///
    /// [`OfferError`], with words for the person at the other end.
    pub fn accept(
        offer: &ParsedOffer,
        config: &SessionConfig,
        running: RunningCodecs<'_>,
        now: Instant,
    ) -> Result<(Self, Answer), OfferError> {
        let negotiated = negotiate(offer, running)?;
        let tracks = tracks(offer, &negotiated);
        let all = [&tracks.video, &tracks.audio].into_iter().flatten();
        let sources = all.flat_map(|t| std::iter::once(t.ssrc).chain(t.rtx.map(|rtx| rtx.ssrc))).collect();
        let mut session = Self {
            identity: config.identity.clone(),
            // RFC 8829 §5.2.1: 63 random bits.
            sdp_id: rand::rng().random::<u64>() >> 1,
            sdp_version: 1,
            role: negotiated.role,
            peer_sdp_id: offer.session_id,
            fingerprints: negotiated.fingerprints.clone(),
            dtls: Dtls::new(config.identity.clone(), negotiated.role, negotiated.fingerprints.clone()),
            ice: IceLite::new(config.identity.clone(), &negotiated.remote_ufrag, now),
            tracks,
            sources,
            opener: None,
            closed: false,
            outputs: VecDeque::new(),
            counters: SessionCounters::default(),
        };
        let answer = session.answer(offer, &negotiated, config);
        Ok((session, answer))
    }

    /// Takes the next offer of the same peer connection, which restarts ICE if its user fragment is a new one
    /// (RFC 8839 §4.4.1.1.1), and answers it. DTLS and SRTP go on, media too: on the old path until the peer
    /// nominates another.
    ///
    /// # Errors
    ///
    /// [`ReofferError`]; nothing is changed then.
    pub fn reoffer(
        &mut self,
        offer: &ParsedOffer,
        config: &SessionConfig,
        running: RunningCodecs<'_>,
    ) -> Result<Answer, ReofferError> {
        let mut negotiated = negotiate(offer, running)?;
        if offer.session_id != self.peer_sdp_id || negotiated.fingerprints != self.fingerprints {
            return Err(ReofferError::OtherPeer);
        }
        if self.ice.remote_ufrag() == negotiated.remote_ufrag {
            return Err(ReofferError::Again);
        }
        let same = |old: &Option<Track>, new: &Option<Track>| match (old, new) {
            (Some(old), Some(new)) => {
                let rtx = |track: &Track| track.rtx.map(|rtx| rtx.payload_type);
                (&old.mid, &old.formats, rtx(old)) == (&new.mid, &new.formats, rtx(new))
            }
            (None, None) => true,
            _ => false,
        };
        let new = tracks(offer, &negotiated);
        if !same(&self.tracks.video, &new.video) || !same(&self.tracks.audio, &new.audio) {
            return Err(ReofferError::Changed("the media"));
        }
        // A running association keeps its roles (RFC 8842 §5.3); later offers say actpass.
        negotiated.role = self.role;
        self.ice.restart(&negotiated.remote_ufrag);
        Ok(self.answer(offer, &negotiated, config))
    }

    /// Restarts ICE for a peer that has chosen a new user fragment, and gives ours. The old one is given again
    /// if the fragment is the one in use: nothing is restarted then.
    ///
    /// # Errors
    ///
    /// [`OfferError::Ice`]: the fragment is empty, too long, or has characters that none may have.
    pub fn restart_ice(&mut self, remote_ufrag: &str) -> Result<IceCredentials, OfferError> {
        // RFC 8839 §5.4: ice-char.
        let is_ice_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
        if !(4..=MAX_TOKEN_LEN).contains(&remote_ufrag.len()) || !remote_ufrag.bytes().all(is_ice_char) {
            return Err(OfferError::Ice);
        }
        self.ice.restart(remote_ufrag);
        Ok(IceCredentials { ufrag: self.ice.local_ufrag().to_owned(), pwd: self.ice.local_pwd().to_owned() })
    }

    fn answer(&mut self, offer: &ParsedOffer, negotiated: &Negotiated, config: &SessionConfig) -> Answer {
        self.sdp_version += 1;
        let local = Local {
            session_id: self.sdp_id,
            version: self.sdp_version,
            ufrag: self.ice.local_ufrag(),
            pwd: self.ice.local_pwd(),
            fingerprint: config.identity.fingerprint(),
            cname: &self.tracks.cname,
            candidates: &config.candidates,
            video: self.tracks.video.as_ref(),
            audio: self.tracks.audio.as_ref(),
        };
        answer::write(offer, negotiated, &local)
    }

    /// The user fragment by which the viewer's first STUN request finds this session; see
    /// [`request_ufrag`](super::request_ufrag).
    pub fn local_ufrag(&self) -> &str {
        self.ice.local_ufrag()
    }

    /// Whether checks that name this fragment of ours may be those of this session's peer.
    pub fn answers_to(&self, ufrag: &str) -> bool {
        self.ice.answers_to(ufrag)
    }

    /// Whether `source` has passed an authenticated check recently: its datagrams belong to this session.
    pub fn is_proven(&self, source: impl Into<Remote>, now: Instant) -> bool {
        self.ice.is_proven(source.into(), now)
    }

    /// A connection has ended: nothing goes there any more. The session lives on while its consent lasts.
    pub fn disconnected(&mut self, source: Remote) {
        self.ice.forget(source);
    }

    /// What is to be sent.
    pub fn tracks(&self) -> &NegotiatedTracks {
        &self.tracks
    }

    /// What arrived in vain so far.
    pub fn counters(&self) -> &SessionCounters {
        &self.counters
    }

    /// Takes one datagram from `source`. Never fails: what cannot be used is counted.
    pub fn handle_datagram(&mut self, source: impl Into<Remote>, datagram: &[u8], now: Instant) {
        let source = source.into();
        if self.closed {
            self.counters.after_close += 1;
            return;
        }
        // RFC 7983 §7, as far as this port speaks it.
        match datagram.first() {
            Some(0..=3) => self.on_stun(source, datagram, now),
            Some(20..=63 | 128..=191) if !self.ice.is_proven(source, now) => self.counters.unproven_source += 1,
            Some(20..=63) => self.on_dtls(datagram, now),
            Some(128..=191) => match classify(datagram) {
                DatagramKind::Rtcp => self.on_srtcp(datagram),
                DatagramKind::Rtp | DatagramKind::Other => self.counters.rtp_ignored += 1,
            },
            _ => self.counters.unknown += 1,
        }
    }

    /// Does what is due at `now`: DTLS retransmissions, the end of consent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if now >= self.ice.consent_ends() {
            self.dtls.close(now);
            self.forward_transmits();
            return self.end(CloseCause::ConsentExpired);
        }
        self.dtls.handle_timeout(now);
        self.drain_dtls();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` once the session is over. May move with
    /// every call of another method.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let consent = self.ice.consent_ends();
        Some(self.dtls.poll_timeout().map_or(consent, |dtls| dtls.min(consent)))
    }

    /// The next thing to do or to know; to be called until `None` after each of the other methods.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Ends the session: queues DTLS close_notify, and nothing happens after it.
    pub fn close(&mut self, now: Instant) {
        if !self.closed {
            self.dtls.close(now);
            self.forward_transmits();
            self.closed = true;
        }
    }

    fn on_stun(&mut self, source: Remote, datagram: &[u8], now: Instant) {
        match self.ice.handle(source, datagram, now) {
            Ok(answered) => {
                // The path first: who has the answer may rely on it.
                self.outputs.extend(answered.new_path.map(Output::Path));
                self.outputs.push_back(Output::Transmit { to: source, datagram: answered.response });
                if answered.new_path.is_some() {
                    self.dtls.path_known(now);
                    self.drain_dtls();
                }
            }
            Err(StunError::Unauthenticated) => self.counters.stun_unauthenticated += 1,
            Err(StunError::Malformed | StunError::NotARequest) => self.counters.stun_ignored += 1,
        }
    }

    fn on_dtls(&mut self, datagram: &[u8], now: Instant) {
        if self.dtls.handle(datagram, now).is_err() {
            self.counters.dtls_discarded += 1;
        }
        self.drain_dtls();
    }

    fn on_srtcp(&mut self, datagram: &[u8]) {
        let Some(Ok(compound)) = self.opener.as_mut().map(|opener| opener.open(datagram)) else {
            self.counters.srtcp_refused += 1;
            return;
        };
        match viewer_rtcp::read(&compound, &self.sources) {
            Ok(feedback) => self.outputs.extend(feedback.into_iter().map(Output::Feedback)),
            Err(_) => self.counters.rtcp_malformed += 1,
        }
    }

    fn drain_dtls(&mut self) {
        self.forward_transmits();
        while let Some(event) = self.dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys, profile) => self.on_connected(*keys, profile),
                DtlsEvent::PeerClosed => self.end(CloseCause::PeerClosed),
                DtlsEvent::FingerprintMismatch => self.end(CloseCause::FingerprintMismatch),
                DtlsEvent::Failed(text) => self.end(CloseCause::Failed(text)),
            }
        }
    }

    fn on_connected(&mut self, keys: SessionKeys, profile: SrtpProfile) {
        let sealer = Sealer::new(&keys.send, profile, self.identity.crypto());
        let opener = Opener::new(keys.receive, profile, self.identity.provider());
        match (sealer, opener) {
            (Ok(sealer), Ok(opener)) => {
                self.opener = Some(opener);
                self.outputs.push_back(Output::Connected { sealer, profile });
            }
            (Err(error), _) | (_, Err(error)) => self.end(CloseCause::Failed(format!("SRTP keys: {error}"))),
        }
    }

    fn forward_transmits(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            // Without a path nothing can have been received or started.
            if let Some(to) = self.ice.path() {
                self.outputs.push_back(Output::Transmit { to, datagram });
            }
        }
    }

    fn end(&mut self, cause: CloseCause) {
        if !self.closed {
            self.closed = true;
            self.opener = None;
            self.outputs.push_back(Output::Closed(cause));
        }
    }
}

/// Tracks with new random sources, all different.
fn tracks(offer: &ParsedOffer, negotiated: &Negotiated) -> NegotiatedTracks {
    let mut taken = Vec::new();
    let mut new_ssrc = || loop {
        // 0 is the unset value of some stacks and stands for "all" in REMB.
        let ssrc = Ssrc(rand::rng().random_range(1..=u32::MAX));
        if !taken.contains(&ssrc) {
            taken.push(ssrc);
            return ssrc;
        }
    };
    let mut track = |kind: MediaKind| {
        let (section, accepted) =
            offer.sections.iter().zip(&negotiated.sections).find_map(|(s, verdict)| match verdict {
                Verdict::Accepted(accepted) if accepted.kind == kind => Some((s, accepted)),
                _ => None,
            })?;
        let Accepted { formats, rtx, transport_cc, .. } = accepted;
        let format = |format: &AcceptedFormat| Format { codec: format.codec, payload_type: format.payload_type };
        Some(Track {
            mid: section.mid.clone().unwrap_or_default(),
            ssrc: new_ssrc(),
            formats: formats.iter().map(format).collect(),
            rtx: rtx.map(|payload_type| Rtx { ssrc: new_ssrc(), payload_type }),
            transport_cc: *transport_cc,
        })
    };
    NegotiatedTracks { video: track(MediaKind::Video), audio: track(MediaKind::Audio), cname: random_text(CNAME_LEN) }
}
