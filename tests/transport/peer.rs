//! A browser without a network: checks, DTLS and SRTP; datagrams go in and come out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use dtls::config::{ClientAuthType, ConfigBuilder};
use dtls::crypto::Certificate;
use dtls::endpoint::{Endpoint, EndpointEvent};
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use honeycast::media::rtp::RtpPacket;
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
const FIRST_UFRAG: &str = "Gzmx";
/// The endpoint keys its association by an address; this peer's moves, so it has a constant one.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4);

/// A candidate of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) transport: String,
    pub(crate) priority: u32,
    pub(crate) address: SocketAddr,
    pub(crate) line: String,
}

/// What came, in order.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Success responses to checks.
    pub(crate) answers: u64,
    /// First payload byte and marker of each video packet.
    pub(crate) video: Vec<(u8, bool)>,
    seqs: Vec<u16>,
    pub(crate) undecryptable: u64,
}

impl Received {
    /// Numbers that were left out or came out of order.
    pub(crate) fn gaps(&self) -> usize {
        self.seqs.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count()
    }
}

pub(crate) struct Peer {
    provider: Arc<dyn RTCCryptoProvider>,
    endpoint: Endpoint,
    offer: String,
    own_ufrag: String,
    ufrag: String,
    pwd: String,
    srtp: Option<Context>,
    pub(crate) closed: bool,
    pub(crate) received: Received,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let certificate = Certificate::generate_self_signed(vec!["viewer".to_owned()], provider.crypto()).unwrap();
        let hash = provider.crypto().hash(HashAlgorithm::Sha256, &certificate.certificate[0]).unwrap();
        let pairs: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let old = OFFER.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).unwrap();
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(true, Some(SERVER))
            .unwrap();
        let mut endpoint = Endpoint::new(SERVER, TransportProtocol::UDP, None);
        endpoint.connect(Instant::now(), SERVER, Arc::new(config), None).unwrap();
        Self {
            provider,
            endpoint,
            offer: OFFER.replace(old, &pairs.join(":")),
            own_ufrag: FIRST_UFRAG.to_owned(),
            ufrag: String::new(),
            pwd: String::new(),
            srtp: None,
            closed: false,
            received: Received::default(),
        }
    }

    pub(crate) fn offer(&self) -> String {
        self.offer.replace(&format!("a=ice-ufrag:{FIRST_UFRAG}"), &format!("a=ice-ufrag:{}", self.own_ufrag))
    }

    /// The next offer and all checks have another user fragment (RFC 8839 §4.4.1.1.1).
    pub(crate) fn restart(&mut self, ufrag: &str) {
        self.own_ufrag = ufrag.to_owned();
    }

    /// Takes the answer; its candidates.
    pub(crate) fn answered(&mut self, sdp: &str) -> Vec<Candidate> {
        let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
        self.credentials(&line("a=ice-ufrag:"), &line("a=ice-pwd:"));
        let video = sdp.split("m=").find(|section| section.starts_with("video")).unwrap();
        video
            .lines()
            .filter(|line| line.starts_with("a=candidate:"))
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                Candidate {
                    transport: words[2].to_owned(),
                    priority: words[3].parse().unwrap(),
                    address: SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap()),
                    line: line.to_owned(),
                }
            })
            .collect()
    }

    pub(crate) fn credentials(&mut self, ufrag: &str, pwd: &str) {
        (self.ufrag, self.pwd) = (ufrag.to_owned(), pwd.to_owned());
    }

    pub(crate) fn check(&self, nominate: bool) -> Vec<u8> {
        self.check_with(&self.pwd, nominate)
    }

    /// A check as browsers send it (RFC 8445 §7.1).
    pub(crate) fn check_with(&self, pwd: &str, nominate: bool) -> Vec<u8> {
        let raw = |typ: AttrType, value: &[u8]| RawAttribute { typ, length: 0, value: value.to_vec() };
        let username = format!("{}:{}", self.ufrag, self.own_ufrag);
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, username)),
            Box::new(raw(ATTR_PRIORITY, &[110, 0, 30, 255])),
            Box::new(raw(ATTR_ICE_CONTROLLING, &[1; 8])),
        ];
        if nominate {
            setters.push(Box::new(raw(ATTR_USE_CANDIDATE, &[])));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            pwd.to_owned(),
            self.provider.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// DTLS that wants to be sent.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message.to_vec())
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&SERVER).filter(|_| self.srtp.is_none())
    }

    pub(crate) fn handle_timeout(&mut self) {
        let _ = self.endpoint.handle_timeout(SERVER, Instant::now());
    }

    /// By the first byte (RFC 7983 §7).
    pub(crate) fn hear(&mut self, datagram: &[u8]) {
        match datagram {
            [0..=3, ..] => self.received.answers += u64::from(datagram[..2] == [1, 1]),
            [20..=63, ..] => {
                let events = self.endpoint.read(Instant::now(), SERVER, None, BytesMut::from(datagram));
                for event in events.unwrap_or_default() {
                    match event {
                        EndpointEvent::HandshakeComplete => self.srtp = Some(self.keys()),
                        EndpointEvent::PeerClosed => self.closed = true,
                        _ => {}
                    }
                }
            }
            // RTCP (RFC 5761 §4).
            [128..=191, 192..=223, ..] => {}
            [128..=191, ..] => {
                let plain = self.srtp.as_mut().and_then(|srtp| srtp.decrypt_rtp(datagram).ok());
                match plain.and_then(|plain| RtpPacket::parse(plain.to_vec().into()).ok()) {
                    Some(packet) => {
                        let first = packet.payload().first().copied().unwrap_or(0);
                        self.received.seqs.push(packet.seq().0);
                        self.received.video.push((first, packet.marker()));
                    }
                    None => self.received.undecryptable += 1,
                }
            }
            _ => {}
        }
    }

    /// The server's key and salt: client key, server key, client salt, server salt (RFC 5764 §4.2).
    fn keys(&self) -> Context {
        let profile = ProtectionProfile::AeadAes128Gcm;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt)).unwrap();
        let material = material.as_ref();
        let (server_key, server_salt) = (&material[key..2 * key], &material[2 * key + salt..]);
        Context::new(server_key, server_salt, profile, None, None, self.provider.crypto()).unwrap()
    }
}
