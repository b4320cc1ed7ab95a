//! The DTLS side of one session: webrtc-rs's endpoint, tamed (RFC 6347, RFC 5764, RFC 8827 §6.5).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use dtls::cipher_suite::CipherSuiteId;
use dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use super::certificate::{Fingerprint, Identity};
use super::keys::{SessionKeys, SrtpProfile};
use super::record::{HelloBuffer, RecordError, RecordGuard, plain_messages};
use super::sealer::KeySetupError;
use super::verify::VerifyOnce;

/// The endpoint keys associations by remote address, a session follows its peer's: so every endpoint
/// has one peer at this address, which is never sent to (TEST-NET-1, RFC 5737).
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4);
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 4);
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";
/// Handshake messages are cut so that records fit into 1200 bytes with their headers.
const MTU: usize = 1150;
/// Browsers take the first; the others are for peers that lack it.
const CIPHER_SUITES: [CipherSuiteId; 3] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_256_Cbc_Sha,
];

/// Who sends the ClientHello (RFC 5763 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DtlsRole {
    /// `setup:active` in our answer; the offer said `passive`.
    Client,
    /// `setup:passive` in our answer.
    Server,
}

/// What happened inside DTLS.
pub(super) enum DtlsEvent {
    /// The handshake is done and the peer's certificate is the one that its SDP names.
    Connected(Box<SessionKeys>, SrtpProfile),
    /// The peer sent close_notify.
    PeerClosed,
    /// The peer's certificate is not the one that its SDP names.
    FingerprintMismatch,
    /// Anything else that ends the session; the text is for people.
    Failed(String),
}

/// A datagram was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Discarded;

/// One association.
pub(super) struct Dtls {
    identity: Arc<Identity>,
    peer: Arc<PeerCheck>,
    guard: RecordGuard,
    state: State,
    flights: Flights,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<DtlsEvent>,
}

enum State {
    /// Client role, before the first path is known.
    Idle,
    /// Server role, until the whole ClientHello is here: its `use_srtp` decides the configuration.
    AwaitHello(HelloBuffer),
    Handshake(Box<Endpoint>, DtlsRole),
    Connected(Box<Endpoint>),
    Over,
}

/// Which of the peer's messages our last flight has answered.
///
/// The library forgets its retransmission timer when it reads a message that it has answered already: if
/// our flight is lost and the peer repeats its own, both sides wait for ever. So repetitions are not given
/// to it, but answered here with the flight that was lost, as RFC 6347 §4.2.4 wants.
#[derive(Default)]
struct Flights {
    /// One above the highest message number read.
    read_below: u16,
    /// One above the highest message number answered.
    answered_below: u16,
    last: Vec<Vec<u8>>,
}

impl Flights {
    /// Whether a datagram only repeats what was answered; then also whether it starts a repetition.
    fn repeats(&self, datagram: &[u8]) -> Option<bool> {
        plain_messages(datagram).filter(|messages| messages.highest < self.answered_below).map(|m| m.begins)
    }

    fn on_read(&mut self, datagram: &[u8]) {
        if let Some(messages) = plain_messages(datagram) {
            self.read_below = self.read_below.max(messages.highest + 1);
        }
    }

    fn on_sent(&mut self, flight: &[Vec<u8>]) {
        let Some(first) = flight.first() else { return };
        // A HelloVerifyRequest answers the first ClientHello, and the library sends it once more when it has
        // read a part of the second. Every other flight is sent when the peer's is complete.
        let verifies_hello = plain_messages(first).is_some_and(|messages| messages.verifies_hello);
        self.answered_below = if verifies_hello { 1 } else { self.read_below };
        self.last = flight.to_vec();
    }
}

/// Shared with the library's certificate callback.
struct PeerCheck {
    fingerprints: Vec<Fingerprint>,
    identity: Arc<Identity>,
    matched: AtomicBool,
    mismatched: AtomicBool,
}

impl PeerCheck {
    /// Called by the library after the peer has proved that it holds the certificate's key.
    fn check(&self, chain: &[Vec<u8>]) -> Result<(), Error> {
        let matches = chain
            .first()
            .and_then(|der| Fingerprint::of(der, self.identity.crypto()).ok())
            .is_some_and(|fingerprint| self.fingerprints.contains(&fingerprint));
        let flag = if matches { &self.matched } else { &self.mismatched };
        flag.store(true, Ordering::Relaxed);
        if matches { Ok(()) } else { Err(Error::Other("certificate does not match the fingerprint".to_owned())) }
    }
}

impl Dtls {
    /// `fingerprints`: the certificates that the peer's SDP allows.
    pub(super) fn new(identity: Arc<Identity>, role: DtlsRole, fingerprints: Vec<Fingerprint>) -> Self {
        let peer = PeerCheck {
            fingerprints,
            identity: identity.clone(),
            matched: AtomicBool::new(false),
            mismatched: AtomicBool::new(false),
        };
        let state = match role {
            DtlsRole::Client => State::Idle,
            DtlsRole::Server => State::AwaitHello(HelloBuffer::default()),
        };
        Self {
            identity,
            peer: Arc::new(peer),
            guard: RecordGuard::default(),
            state,
            flights: Flights::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// A path to the peer exists: a client sends its hello now. Does nothing the second time.
    pub(super) fn path_known(&mut self, now: Instant) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        let profiles = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];
        let connected = self.config(&profiles, DtlsRole::Client).and_then(|config| {
            let mut endpoint = Endpoint::new(LOCAL, TransportProtocol::UDP, None);
            endpoint.connect(now, PEER, config, None)?;
            Ok(endpoint)
        });
        match connected {
            Ok(endpoint) => self.state = State::Handshake(Box::new(endpoint), DtlsRole::Client),
            Err(error) => self.fail(&error),
        }
        self.collect_transmits();
    }

    /// Takes a datagram from an address that passed an ICE check.
    pub(super) fn handle(&mut self, datagram: &[u8], now: Instant) -> Result<(), Discarded> {
        let done = matches!(self.state, State::Connected(_));
        match self.guard.check(datagram, done) {
            Ok(()) => {}
            Err(RecordError::TooMuch) if !done && !matches!(self.state, State::Over) => {
                self.end(DtlsEvent::Failed("the peer sent far more than a DTLS handshake takes".to_owned()));
                return Err(Discarded);
            }
            Err(_) => return Err(Discarded),
        }
        match &mut self.state {
            State::Idle | State::Over => return Err(Discarded),
            State::AwaitHello(buffer) => {
                if let Some(hello) = buffer.push(datagram) {
                    self.begin(hello.profile, &hello.datagrams, now);
                }
            }
            State::Handshake(..) => match self.flights.repeats(datagram) {
                Some(true) => self.transmits.extend(self.flights.last.iter().cloned()),
                Some(false) => {}
                None => self.read(datagram, now),
            },
            // Here the library does it itself: a repeated Finished makes it repeat its own.
            State::Connected(_) => self.read(datagram, now),
        }
        Ok(())
    }

    /// Retransmits what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let State::Handshake(endpoint, _) = &mut self.state
            && let Err(error) = endpoint.handle_timeout(PEER, now)
        {
            // The only error here is a spent retransmission budget, which the library names otherwise.
            let text = match error {
                Error::ErrInvalidFsmTransition => "the peer stopped answering in the DTLS handshake".to_owned(),
                other => other.to_string(),
            };
            self.end(DtlsEvent::Failed(text));
        }
        self.collect_transmits();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Handshake(endpoint, _) => endpoint.poll_timeout(&PEER),
            _ => None,
        }
    }

    /// The next datagram for the peer.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next event; nothing follows one that ends the session.
    pub(super) fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// Queues close_notify and ends.
    pub(super) fn close(&mut self, now: Instant) {
        if let State::Handshake(endpoint, _) | State::Connected(endpoint) = &mut self.state {
            endpoint.stop(now, PEER);
        }
        self.collect_transmits();
        self.state = State::Over;
    }

    /// Starts the server's handshake with one profile: left to itself the library would take the first
    /// of the *client's* list.
    fn begin(&mut self, profile: Option<SrtpProfile>, datagrams: &[Vec<u8>], now: Instant) {
        let Some(profile) = profile else {
            let text = "the peer offers neither SRTP_AEAD_AES_128_GCM nor SRTP_AES128_CM_HMAC_SHA1_80";
            return self.end(DtlsEvent::Failed(text.to_owned()));
        };
        match self.config(&[profile], DtlsRole::Server) {
            Ok(config) => {
                let endpoint = Endpoint::new(LOCAL, TransportProtocol::UDP, Some(config));
                self.state = State::Handshake(Box::new(endpoint), DtlsRole::Server);
            }
            Err(error) => return self.fail(&error),
        }
        for datagram in datagrams {
            self.read(datagram, now);
        }
    }

    fn config(&self, profiles: &[SrtpProfile], role: DtlsRole) -> Result<Arc<HandshakeConfig>, Error> {
        let peer = self.peer.clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::new(VerifyOnce::new(self.identity.provider())))
            .with_certificates(vec![self.identity.certificate()])
            .with_cipher_suites(CIPHER_SUITES.to_vec())
            .with_srtp_protection_profiles(profiles.iter().map(|p| p.dtls()).collect())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // No authority vouches for a browser's certificate; the fingerprint in the SDP does.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain, _| peer.check(chain))))
            .with_mtu(MTU)
            .build(role == DtlsRole::Client, Some(PEER))?;
        Ok(Arc::new(config))
    }

    fn read(&mut self, datagram: &[u8], now: Instant) {
        let (endpoint, connected) = match &mut self.state {
            State::Handshake(endpoint, _) => (endpoint, false),
            State::Connected(endpoint) => (endpoint, true),
            _ => return,
        };
        self.flights.on_read(datagram);
        let result = endpoint.read(now, PEER, None, BytesMut::from(datagram));
        self.collect_transmits();
        match result {
            Ok(events) => events.into_iter().for_each(|event| self.on_event(event)),
            // Once connected, only an authenticated fatal alert may end the session (RFC 6347 §4.1.2.7).
            Err(Error::ErrAlertFatalOrClose) if connected => {
                self.end(DtlsEvent::Failed("the peer sent a fatal DTLS alert".to_owned()));
            }
            Err(_) if connected => {}
            Err(_) if self.peer.mismatched.load(Ordering::Relaxed) => self.end(DtlsEvent::FingerprintMismatch),
            Err(error) => self.fail(&error),
        }
    }

    fn on_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::HandshakeComplete => match self.export_keys() {
                Ok((keys, profile)) => {
                    let State::Handshake(endpoint, _) = std::mem::replace(&mut self.state, State::Over) else {
                        return;
                    };
                    self.state = State::Connected(endpoint);
                    // From here on the library repeats what is lost.
                    self.flights = Flights::default();
                    self.events.push_back(DtlsEvent::Connected(Box::new(keys), profile));
                }
                Err(event) => self.end(event),
            },
            EndpointEvent::PeerClosed => self.end(DtlsEvent::PeerClosed),
            // Data channels are rejected in the answer.
            EndpointEvent::ApplicationData(_) => {}
            _ => {}
        }
    }

    fn export_keys(&self) -> Result<(SessionKeys, SrtpProfile), DtlsEvent> {
        if !self.peer.matched.load(Ordering::Relaxed) {
            return Err(DtlsEvent::FingerprintMismatch);
        }
        let State::Handshake(endpoint, role) = &self.state else {
            return Err(DtlsEvent::Failed("the DTLS handshake completed twice".to_owned()));
        };
        let failed = |text: &str| DtlsEvent::Failed(text.to_owned());
        let state = endpoint.get_connection_state(PEER).ok_or_else(|| failed("the DTLS association is gone"))?;
        let profile = SrtpProfile::from_dtls(state.srtp_protection_profile())
            .ok_or_else(|| failed("the peer chose no SRTP protection profile"))?;
        let material = state
            .export_keying_material(EXPORTER_LABEL, &[], profile.export_len())
            .map_err(|e| DtlsEvent::Failed(e.to_string()))?;
        let keys = SessionKeys::split(material.as_ref(), profile, *role == DtlsRole::Client)
            .map_err(|e: KeySetupError| DtlsEvent::Failed(e.to_string()))?;
        Ok((keys, profile))
    }

    fn fail(&mut self, error: &Error) {
        self.end(DtlsEvent::Failed(format!("DTLS handshake: {error}")));
    }

    /// The endpoint would keep retransmitting after a failure: let go of it.
    fn end(&mut self, event: DtlsEvent) {
        self.collect_transmits();
        self.state = State::Over;
        self.events.push_back(event);
    }

    fn collect_transmits(&mut self) {
        if let State::Handshake(endpoint, _) | State::Connected(endpoint) = &mut self.state {
            let flight: Vec<_> =
                std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message.to_vec()).collect();
            self.flights.on_sent(&flight);
            self.transmits.extend(flight);
        }
    }
}
