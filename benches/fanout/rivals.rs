//! The two ways that webrtc-rs itself offers, connected to sessions of ours so that they have real keys.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use honeycast::base::udp::{RunSender, bind};
use honeycast::webrtc::{Identity, LocalCandidate, Output, ParsedOffer, RunningCodecs, Session, SessionConfig};
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::{SettingEngine, SettingEngineBuilder};
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler};

const SSRC: u32 = 0x1234_5678;
/// Handshakes fit; media fill it up, as nobody reads.
const BUFFER: usize = 64 << 10;
/// Nobody answers checks while the time is taken.
const FOR_EVER: Option<Duration> = Some(Duration::from_secs(3_600));

/// What accepts: one identity for all.
pub(crate) struct Acceptor(Arc<Identity>);

impl Acceptor {
    pub(crate) fn new() -> Self {
        Self(Identity::generate().expect("a certificate"))
    }

    /// A session for the offer, and an answer that takes the picture instead of sending one; and the number under
    /// which H.264 is sent.
    fn accept(&self, offer: &str, at: SocketAddr, now: Instant) -> (Session, RTCSessionDescription, u8) {
        let candidates = vec![LocalCandidate::udp(at.ip(), at.port())];
        let config = SessionConfig { identity: self.0.clone(), candidates };
        let offer = ParsedOffer::parse(offer).expect("a valid offer");
        let (session, answer) =
            Session::accept(&offer, &config, RunningCodecs::default(), now).expect("an acceptable offer");
        let payload_type = session.tracks().video.as_ref().expect("a picture").formats[0].payload_type;
        let sdp = answer.sdp.replace("a=sendonly", "a=recvonly");
        (session, RTCSessionDescription::answer(sdp).expect("an answer"), payload_type)
    }
}

fn settings() -> SettingEngine {
    SettingEngineBuilder::new()
        .with_include_loopback_candidate(true)
        .with_ice_timeouts(FOR_EVER, FOR_EVER, FOR_EVER)
        .build()
}

fn engine() -> MediaEngine {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().expect("codecs");
    engine
}

fn track() -> MediaStreamTrack {
    let coding = RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() };
    let codec = RTCRtpCodec { mime_type: "video/H264".to_owned(), clock_rate: 90_000, ..Default::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() };
    MediaStreamTrack::new("s".to_owned(), "t".to_owned(), "bench".to_owned(), RtpCodecKind::Video, vec![encoding])
}

fn packet(payload_type: u8, seq: u64, last: bool, time: u32, payload: &Bytes) -> rtp::Packet {
    let header = rtp::Header {
        version: 2,
        marker: last,
        payload_type,
        sequence_number: seq as u16,
        timestamp: time,
        ssrc: SSRC,
        ..Default::default()
    };
    rtp::Packet { header, payload: payload.clone() }
}

/// A connected `RTCPeerConnection` of the sans-IO crate without interceptors, whose packets of a frame leave with
/// our socket as one run.
pub(crate) struct SansIo {
    connection: RTCPeerConnection,
    sender: RTCRtpSenderId,
    payload_type: u8,
    to: SocketAddr,
    now: Instant,
}

impl SansIo {
    /// `to` is where media will go; until then all datagrams pass in memory.
    pub(crate) fn connect(acceptor: &Acceptor, to: SocketAddr) -> Self {
        let local_addr = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut now = Instant::now();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine())
            .with_setting_engine(settings())
            .with_interceptor_registry(Registry::new())
            .build(now)
            .expect("a connection");
        let sender = connection.add_track(track()).expect("a track");
        let base_config = CandidateConfig {
            network: "udp".to_owned(),
            address: local_addr.ip().to_string(),
            port: local_addr.port(),
            component: 1,
            ..Default::default()
        };
        let candidate = CandidateHostConfig { base_config, ..Default::default() }.new_candidate_host().expect("valid");
        let candidate = RTCIceCandidate::from(&candidate).to_json().expect("valid");
        connection.add_local_candidate(candidate).expect("a candidate");
        let offer = connection.create_offer(None).expect("an offer");
        connection.set_local_description(now, offer.clone()).expect("ours");
        let (mut session, answer, payload_type) = acceptor.accept(&offer.sdp, to, now);
        connection.set_remote_description(now, answer).expect("theirs");
        let (mut ours, mut theirs) = (false, false);
        while !(ours && theirs) {
            while let Some(sent) = connection.poll_write() {
                session.handle_datagram(local_addr, &sent.message, now);
            }
            while let Some(output) = session.poll_output() {
                match output {
                    Output::Transmit { datagram, .. } => {
                        let transport = TransportContext {
                            local_addr,
                            peer_addr: to,
                            ecn: None,
                            transport_protocol: TransportProtocol::UDP,
                        };
                        let message = BytesMut::from(&datagram[..]);
                        connection.handle_read(TaggedBytesMut { now, transport, message }).expect("read");
                    }
                    Output::Connected { .. } => ours = true,
                    Output::Closed(cause) => panic!("{cause}"),
                    Output::Path(_) | Output::Feedback(_) => {}
                }
            }
            while let Some(event) = connection.poll_event() {
                theirs |= matches!(
                    event,
                    RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Connected)
                );
            }
            now += Duration::from_millis(10);
            connection.handle_timeout(now).expect("on time");
            session.handle_timeout(now);
        }
        while connection.poll_write().is_some() {}
        Self { connection, sender, payload_type, to, now }
    }

    pub(crate) fn send(&mut self, seq: u64, burst: u64, payload: &Bytes, run: &mut Vec<u8>, socket: &RunSender) {
        self.now += Duration::from_millis(40);
        let mut sender = self.connection.rtp_sender(self.sender).expect("the track's");
        for n in seq..seq + burst {
            let packet = packet(self.payload_type, n, n + 1 == seq + burst, seq as u32, payload);
            sender.write_rtp(self.now, packet).expect("written");
        }
        run.clear();
        let mut segment = 0;
        while let Some(sent) = self.connection.poll_write() {
            segment = sent.message.len();
            run.extend_from_slice(&sent.message);
        }
        assert_eq!(run.len(), segment * burst as usize, "packets of one size and nothing else");
        let _ = socket.send_run(self.to, None, run, segment);
    }
}

struct Silent;

impl PeerConnectionEventHandler for Silent {}

/// A connected peer connection of the async crate with its own socket and task.
pub(crate) struct Async {
    track: Arc<TrackLocalStaticRTP>,
    payload_type: u8,
    /// Where its media go, unread.
    socket: UdpSocket,
    _peer: Box<dyn PeerConnection>,
}

impl Async {
    pub(crate) async fn connect(acceptor: &Acceptor) -> Self {
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(engine())
            .with_setting_engine(settings())
            .with_interceptor_registry(Registry::new())
            .with_handler(Arc::new(Silent))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        let track = Arc::new(TrackLocalStaticRTP::new(track()));
        peer.add_track(track.clone()).await.expect("a track");
        let offer = peer.create_offer(None).await.expect("an offer");
        peer.set_local_description(offer.clone()).await.expect("ours");
        let socket = bind(([127, 0, 0, 1], 0).into(), BUFFER, BUFFER).expect("a socket");
        let at = socket.local_addr().expect("an address");
        let (session, answer, payload_type) = acceptor.accept(&offer.sdp, at, Instant::now());
        peer.set_remote_description(answer).await.expect("theirs");
        let socket = handshake(session, socket).await;
        let this = Self { track, payload_type, socket, _peer: Box::new(peer) };
        this.flows().await;
        this
    }

    /// The connection hears of the end of its handshake a moment after the other side.
    async fn flows(&self) {
        let (payload, mut buffer) = (Bytes::from_static(&[0x41; 100]), [0; 2048]);
        for seq in 1..1_000 {
            let _ = self.track.write_rtp(packet(self.payload_type, seq, true, 0, &payload)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            while let Ok(len) = self.socket.recv(&mut buffer) {
                if len > payload.len() && buffer[0] >> 6 == 2 {
                    return;
                }
            }
        }
        panic!("no media came");
    }

    pub(crate) async fn send(&self, seq: u64, burst: u64, payload: &Bytes) {
        for n in seq..seq + burst {
            let packet = packet(self.payload_type, n, n + 1 == seq + burst, seq as u32, payload);
            self.track.write_rtp(packet).await.expect("written");
        }
    }
}

async fn handshake(mut session: Session, socket: UdpSocket) -> UdpSocket {
    let socket = tokio::net::UdpSocket::from_std(socket).expect("registered");
    let mut buffer = [0; 2048];
    loop {
        while let Some(output) = session.poll_output() {
            match output {
                Output::Transmit { to, datagram } => drop(socket.send_to(&datagram, to.address).await),
                Output::Connected { .. } => {
                    while let Some(Output::Transmit { to, datagram }) = session.poll_output() {
                        let _ = socket.send_to(&datagram, to.address).await;
                    }
                    return socket.into_std().expect("ours again");
                }
                Output::Closed(cause) => panic!("{cause}"),
                Output::Path(_) | Output::Feedback(_) => {}
            }
        }
        tokio::select! {
            Ok((len, from)) = socket.recv_from(&mut buffer) => {
                session.handle_datagram(from, &buffer[..len], Instant::now());
            }
            () = tokio::time::sleep(Duration::from_millis(50)) => session.handle_timeout(Instant::now()),
        }
    }
}
