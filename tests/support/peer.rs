//! The browser's side of one session without its media stack: ICE checks, DTLS and SRTP from webrtc-rs's protocol
//! crates. Weighs little, so that a thousand fit into one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use dtls::config::ConfigBuilder;
use dtls::crypto::Certificate;
use dtls::endpoint::{Endpoint, EndpointEvent};
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_crypto::{HashAlgorithm, RTCCryptoProvider};
use rtc_shared::TransportProtocol;
use srtp::context::Context;
use srtp::protection_profile::ProtectionProfile;
use stun::attributes::{
    ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType, RawAttribute,
};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use stun::textattrs::TextAttribute;

const OFFER: &str = include_str!("../data/offer-chromium.sdp");
/// User name fragment of the offer.
const OWN_UFRAG: &str = "Gzmx";

/// A certificate and the offer that names it; one does for many peers.
pub struct PeerIdentity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    /// The offer of a real browser with this certificate's fingerprint.
    pub offer: String,
}

impl PeerIdentity {
    pub fn generate() -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let name = vec!["viewer".to_owned()];
        let certificate = Certificate::generate_self_signed(name, provider.crypto()).unwrap();
        let hash = provider.crypto().hash(HashAlgorithm::Sha256, &certificate.certificate[0]).unwrap();
        let pairs: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let old = OFFER.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).unwrap();
        Self { provider, certificate, offer: OFFER.replace(old, &pairs.join(":")) }
    }
}

/// SRTP contexts of both directions.
pub struct PeerKeys {
    pub receive: Context,
    pub send: Context,
}

/// Sans-IO: datagrams and time in, datagrams out.
pub struct Peer {
    /// The candidate in the answer.
    pub server: SocketAddr,
    provider: Arc<dyn RTCCryptoProvider>,
    username: String,
    password: String,
    endpoint: Endpoint,
    /// Once DTLS is done.
    pub keys: Option<PeerKeys>,
}

impl Peer {
    /// `local` is the address of the socket that the peer's datagrams leave from.
    pub fn new(answer: &str, identity: &PeerIdentity, local: SocketAddr) -> Self {
        let line = |start: &str| answer.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
        // a=candidate:foundation component protocol priority address port typ ...
        let candidate = line("a=candidate:");
        let words: Vec<&str> = candidate.split(' ').collect();
        let server = SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            // The service's certificate is its own; that the fingerprint is checked is another test's matter.
            .with_insecure_skip_verify(true)
            .build(true, Some(server))
            .unwrap();
        let mut endpoint = Endpoint::new(local, TransportProtocol::UDP, None);
        endpoint.connect(Instant::now(), server, Arc::new(config), None).unwrap();
        Self {
            server,
            provider: identity.provider.clone(),
            username: format!("{}:{OWN_UFRAG}", line("a=ice-ufrag:")),
            password: line("a=ice-pwd:"),
            endpoint,
            keys: None,
        }
    }

    /// A connectivity check with nomination (RFC 8445 §7.1), first to be heard and then to keep consent.
    pub fn check(&self) -> Vec<u8> {
        let raw = |typ: AttrType, value: &[u8]| RawAttribute { typ, length: 0, value: value.to_vec() };
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(self.password.clone(), self.provider.crypto());
        let setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, self.username.clone())),
            Box::new(raw(ATTR_PRIORITY, &[110, 0, 30, 255])),
            Box::new(raw(ATTR_ICE_CONTROLLING, &[1; 8])),
            Box::new(raw(ATTR_USE_CANDIDATE, &[])),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ];
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    /// A DTLS datagram for the server.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&self.server).filter(|_| self.keys.is_none())
    }

    pub fn handle_timeout(&mut self) {
        let _ = self.endpoint.handle_timeout(self.server, Instant::now());
    }

    /// A DTLS datagram of the server (RFC 7983 §7: the first byte is 20 to 63).
    pub fn on_dtls(&mut self, datagram: &[u8]) {
        let events = self.endpoint.read(Instant::now(), self.server, None, BytesMut::from(datagram));
        if events.unwrap_or_default().iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
            self.keys = Some(self.export());
        }
    }

    /// Client key, server key, client salt, server salt (RFC 5764 §4.2).
    fn export(&self) -> PeerKeys {
        let profile = ProtectionProfile::AeadAes128Gcm;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let state = self.endpoint.get_connection_state(self.server).unwrap();
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt)).unwrap();
        let (keys, salts) = material.as_ref().split_at(2 * key);
        let context = |key, salt| Context::new(key, salt, profile, None, None, self.provider.crypto()).unwrap();
        PeerKeys { receive: context(&keys[key..], &salts[salt..]), send: context(&keys[..key], &salts[..salt]) }
    }
}
