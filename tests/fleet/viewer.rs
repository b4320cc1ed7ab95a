//! A viewer that weighs little, so that hundreds fit into a test: ICE checks, DTLS and SRTP from webrtc-rs's
//! protocol crates on one socket. It asks for nothing to be sent again: what does not come at once is missing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dtls::config::ConfigBuilder;
use dtls::crypto::Certificate;
use dtls::endpoint::{Endpoint, EndpointEvent};
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use honeycast::base::CameraId;
use honeycast::media::rtp::RtpPacket;
use honeycast::sim::Mark;
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
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::page::{Answer, Page};
use crate::pictures::Pictures;

const OFFER: &str = include_str!("../data/offer-chromium.sdp");
/// User name fragment of the offer.
const OWN_UFRAG: &str = "Gzmx";
/// A browser repeats its checks as often, first to be heard and then to keep its consent.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const RECEIVE_BUFFER: usize = 1 << 20;
/// Sequence numbers remembered, to tell what came twice from what came late.
const REMEMBERED: usize = 256;

/// What the viewers of one camera have received, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Packets by whatever name, and those that said whose they are.
    pub(crate) packets: u64,
    pub(crate) marked: u64,
    /// Pictures and sounds of the camera itself.
    pub(crate) pictures: u64,
    pub(crate) sounds: u64,
    /// The last picture's number.
    pub(crate) last: Option<u32>,
    /// Pictures whose number or timestamp is an earlier one than that of the packet before them.
    pub(crate) reversed: u64,
    pub(crate) backwards: u64,
    /// What somebody else has sent.
    pub(crate) foreign: Vec<Mark>,
    /// Video packets that did not come, came late or twice.
    pub(crate) missing: u64,
    pub(crate) late: u64,
    pub(crate) twice: u64,
    /// What can be made of the video packets.
    pub(crate) video: Pictures,
    /// What was not to be understood.
    pub(crate) undecryptable: u64,
}

/// A viewer that is connected, or about to be.
pub(crate) struct Viewer {
    /// The page stays open, and the media come.
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Viewer {
    /// Watches a stream and counts what comes. Returns with the server's answer.
    pub(crate) async fn watch(signaling: &str, camera: CameraId, stream: &str, tally: Arc<Mutex<Tally>>) -> Self {
        let provider = rtc_crypto::default_provider().unwrap();
        let name = vec!["viewer".to_owned()];
        let certificate = Certificate::generate_self_signed(name, provider.crypto()).unwrap();
        let hash = provider.crypto().hash(HashAlgorithm::Sha256, &certificate.certificate[0]).unwrap();
        let pairs: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let old = OFFER.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 ")).unwrap();
        let offer = OFFER.replace(old, &pairs.join(":"));

        let mut page = Page::open(signaling).await;
        let answer = page.watch(camera.as_str(), stream, &offer).await;
        let peer = Peer::new(&answer, provider, certificate, camera, tally);
        Self { tasks: [tokio::spawn(page.stay()), tokio::spawn(peer.run())] }
    }
}

struct Peer {
    socket: UdpSocket,
    server: SocketAddr,
    provider: Arc<dyn RTCCryptoProvider>,
    username: String,
    password: String,
    endpoint: Endpoint,
    srtp: Option<Context>,
    video: u32,
    audio: u32,
    expected: CameraId,
    tally: Arc<Mutex<Tally>>,
    next_seq: Option<u16>,
    recent: VecDeque<u16>,
    last_time: Option<u32>,
    last_mark: Option<u32>,
}

impl Peer {
    fn new(
        answer: &Answer,
        provider: Arc<dyn RTCCryptoProvider>,
        certificate: Certificate,
        expected: CameraId,
        tally: Arc<Mutex<Tally>>,
    ) -> Self {
        let line = |start: &str| answer.0.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
        // a=candidate:foundation component protocol priority address port typ ...
        let candidate = line("a=candidate:");
        let words: Vec<&str> = candidate.split(' ').collect();
        let server = SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            // The service's certificate is its own; that the fingerprint is checked is another test's matter.
            .with_insecure_skip_verify(true)
            .build(true, Some(server))
            .unwrap();
        tally.lock().unwrap().video = Pictures::default();
        let local = honeycast::base::udp::bind(([127, 0, 0, 1], 0).into(), RECEIVE_BUFFER, RECEIVE_BUFFER).unwrap();
        let mut endpoint = Endpoint::new(local.local_addr().unwrap(), TransportProtocol::UDP, None);
        endpoint.connect(Instant::now(), server, Arc::new(config), None).unwrap();
        Self {
            socket: UdpSocket::from_std(local).unwrap(),
            server,
            provider,
            username: format!("{}:{OWN_UFRAG}", line("a=ice-ufrag:")),
            password: line("a=ice-pwd:"),
            endpoint,
            srtp: None,
            video: answer.ssrc("video"),
            audio: answer.ssrc("audio"),
            expected,
            tally,
            next_seq: None,
            recent: VecDeque::new(),
            last_time: None,
            last_mark: None,
        }
    }

    async fn run(mut self) {
        let mut buffer = vec![0; 2048];
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        loop {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                let _ = self.socket.send_to(&transmit.message, self.server).await;
            }
            let due = self.endpoint.poll_timeout(&self.server).filter(|_| self.srtp.is_none());
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok((len, from)) = self.socket.recv_from(&mut buffer) => {
                    if from == self.server {
                        self.hear(&buffer[..len]);
                    }
                }
                _ = checks.tick() => {
                    let _ = self.socket.send_to(&self.check(), self.server).await;
                }
                () = timer => {
                    let _ = self.endpoint.handle_timeout(self.server, Instant::now());
                }
            }
        }
    }

    /// A connectivity check with nomination (RFC 8445 §7.1).
    fn check(&self) -> Vec<u8> {
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

    /// By the first byte (RFC 7983 §7).
    fn hear(&mut self, datagram: &[u8]) {
        match datagram {
            [20..=63, ..] => {
                let events = self.endpoint.read(Instant::now(), self.server, None, BytesMut::from(datagram));
                if events.unwrap_or_default().iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                    self.srtp = Some(self.keys());
                }
            }
            // RTCP (RFC 5761 §4) is another test's matter.
            [128..=191, 192..=223, ..] => {}
            [128..=191, ..] => self.media(datagram),
            _ => {}
        }
    }

    /// The server's key and salt: client key, server key, client salt, server salt (RFC 5764 §4.2).
    fn keys(&self) -> Context {
        let profile = ProtectionProfile::AeadAes128Gcm;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let state = self.endpoint.get_connection_state(self.server).unwrap();
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt)).unwrap();
        let material = material.as_ref();
        let (server_key, server_salt) = (&material[key..2 * key], &material[2 * key + salt..]);
        Context::new(server_key, server_salt, profile, None, None, self.provider.crypto()).unwrap()
    }

    fn media(&mut self, datagram: &[u8]) {
        let mut tally = self.tally.lock().unwrap();
        tally.packets += 1;
        let plain = self.srtp.as_mut().and_then(|srtp| srtp.decrypt_rtp(datagram).ok());
        let Some(packet) = plain.and_then(|plain| RtpPacket::parse(plain.to_vec().into()).ok()) else {
            tally.undecryptable += 1;
            return;
        };
        let ssrc = packet.ssrc().0;
        let mark = match ssrc {
            ssrc if ssrc == self.video => Mark::in_video(&packet.payload()),
            ssrc if ssrc == self.audio => Mark::in_audio(&packet.payload()),
            _ => return,
        };
        if let Some(mark) = mark {
            tally.marked += 1;
            if mark.camera != self.expected {
                tally.foreign.push(mark);
            } else if ssrc == self.audio {
                tally.sounds += 1;
            } else {
                tally.pictures += 1;
                tally.last = Some(mark.number);
            }
        }
        if ssrc != self.video {
            return;
        }
        tally.video.add(&packet);
        let seq = packet.seq().0;
        match seq.wrapping_sub(*self.next_seq.get_or_insert(seq)) {
            ahead @ 0..0x8000 => {
                tally.missing += u64::from(ahead);
                self.next_seq = Some(seq.wrapping_add(1));
                let time = packet.timestamp();
                let step = time.wrapping_sub(self.last_time.replace(time).unwrap_or(time));
                tally.backwards += u64::from(step >= 1 << 31);
                if let Some(mark) = mark {
                    let last = self.last_mark.replace(mark.number);
                    tally.reversed += u64::from(last.is_some_and(|last| mark.number < last));
                }
            }
            _ if self.recent.contains(&seq) => tally.twice += 1,
            _ => {
                tally.late += 1;
                tally.missing = tally.missing.saturating_sub(1);
            }
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(seq);
    }
}
