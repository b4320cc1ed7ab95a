//! The cameras' side of `tests/browser/measure-glass.mjs`, which starts it as `glass BROKER_PORT CAMERA_ID SOUND`, where
//! SOUND is `sound` or `silence`.
//!
//! Two simulated cameras that send the same clip at the same pace. One is the service's. The
//! other one sends, also by UDP, to a bare sender: a peer connection of the `webrtc` crate that passes packets on as
//! they come. Whoever opens the address in the line `ready {…}` watches that one; `/sent` there tells when either
//! camera sent which picture.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::response::Html;
use axum::routing::{get, post};
use bytes::Bytes;
use honeycast::base::Shutdown;
use honeycast::sim::{Codec, Imitated, RtcpSending, Sim, SimSettings};
use rtc::rtp::Packet;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::shared::marshal::Unmarshal;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const MAX_DATAGRAM: usize = 2048;
/// What makes the browser of `/` play.
const PAGE: &str = r#"<!doctype html>
<title>Bare sender</title>
<video id="video" autoplay muted playsinline></video>
<script type="module">
  const peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  peer.ontrack = (event) => { document.getElementById('video').srcObject = event.streams[0]; };
  for (const kind of ['audio', 'video']) peer.addTransceiver(kind, { direction: 'recvonly' });
  await peer.setLocalDescription();
  const answer = await fetch('/', { method: 'POST', body: peer.localDescription.sdp });
  await peer.setRemoteDescription({ type: 'answer', sdp: await answer.text() });
</script>
"#;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("usage: glass BROKER_PORT CAMERA_ID SOUND");
    let (port, id, sound) = (next().parse().expect("a port"), next(), next() == "sound");
    let mut settings = SimSettings::new(id.parse().expect("a camera id"), Ipv4Addr::LOCALHOST.to_string(), port);
    settings.bind = Ipv4Addr::LOCALHOST.into();
    // The picture stays the large one, so that both have the same.
    settings.behaviour.follow_remb = false;
    settings.behaviour.audio = sound.then_some(Codec::Opus);
    let shutdown = Shutdown::new();
    let camera = Sim::start(settings.clone(), &shutdown).unwrap();

    let [video, audio] = [UdpSocket::bind(LOOPBACK).await.unwrap(), UdpSocket::bind(LOOPBACK).await.unwrap()];
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    settings.behaviour.rtcp = RtcpSending::None;
    settings.faults.imitate = Some(Imitated { video: at(&video), rtcp: at(&video), audio: at(&audio) });
    let twin = Sim::start(settings, &shutdown).unwrap();
    let watched = Arc::new(Mutex::new(None));
    for (socket, kind) in [(video, RtpCodecKind::Video), (audio, RtpCodecKind::Audio)] {
        tokio::spawn(pass_on(socket, kind, watched.clone()));
    }

    let sent = move || async move { axum::Json(serde_json::json!({ "service": sent(&camera), "bare": sent(&twin) })) };
    let answer = move |offer: String| async move {
        let (bare, answer) = Bare::answer(offer).await;
        *watched.lock().unwrap() = Some(Arc::new(bare));
        answer
    };
    let router = Router::new().route("/", get(Html(PAGE))).route("/", post(answer)).route("/sent", get(sent));
    let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    println!("ready {}", serde_json::json!({ "http": listener.local_addr().unwrap() }));
    std::io::stdout().flush().unwrap();
    axum::serve(listener, router).await.unwrap();
}

/// The last pictures: number in the clip, and milliseconds of the wall clock when the first packet left.
fn sent(camera: &Sim) -> Vec<(usize, f64)> {
    let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH.elapsed().unwrap());
    let at = |sent: Instant| (wall - (now - sent)).as_secs_f64() * 1e3;
    camera.pictures().iter().filter_map(|picture| Some((picture.frame, at(picture.sent?)))).collect()
}

/// From the camera to whoever watches, if somebody does.
async fn pass_on(socket: UdpSocket, kind: RtpCodecKind, watched: Arc<Mutex<Option<Arc<Bare>>>>) {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else { continue };
        let bare = watched.lock().unwrap().clone();
        if let Some(bare) = bare {
            let packet = Packet::unmarshal(&mut Bytes::copy_from_slice(&buffer[..length])).unwrap();
            bare.write(kind, packet).await;
        }
    }
}

/// The bare sender: one connection.
struct Bare {
    tracks: [Out; 2],
    _peer: Box<dyn PeerConnection>,
}

struct Out {
    kind: RtpCodecKind,
    track: Arc<TrackLocalStaticRTP>,
    payload_type: u8,
}

impl Bare {
    async fn answer(offer: String) -> (Self, String) {
        let codecs = [codec(RtpCodecKind::Audio), codec(RtpCodecKind::Video)];
        let mut engine = MediaEngine::default();
        for (kind, codec) in &codecs {
            engine.register_codec(codec.clone(), *kind).unwrap();
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let (gathered_out, mut gathered) = watch::channel(false);
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler { gathered: gathered_out }))
            .with_udp_addrs(vec![SocketAddr::from(LOOPBACK)])
            .build()
            .await
            .unwrap();
        let tracks = codecs.map(|(kind, codec)| (kind, track(kind, codec.rtp_codec)));
        for (_, track) in &tracks {
            peer.add_track(track.clone()).await.unwrap();
        }
        peer.set_remote_description(RTCSessionDescription::offer(offer).unwrap()).await.unwrap();
        let answer = peer.create_answer(None).await.unwrap();
        peer.set_local_description(answer).await.unwrap();
        gathered.wait_for(|complete| *complete).await.unwrap();
        let answer = peer.local_description().await.unwrap().sdp;
        let tracks = tracks.map(|(kind, track)| Out { kind, track, payload_type: payload_type(&answer, kind) });
        (Self { tracks, _peer: Box::new(peer) }, answer)
    }

    async fn write(&self, kind: RtpCodecKind, mut packet: Packet) {
        let out = self.tracks.iter().find(|out| out.kind == kind).unwrap();
        packet.header.ssrc = ssrc(kind);
        packet.header.payload_type = out.payload_type;
        // It is refused until the connection is up.
        let _ = out.track.write_rtp(packet).await;
    }
}

struct Handler {
    gathered: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }
}

fn ssrc(kind: RtpCodecKind) -> u32 {
    if kind == RtpCodecKind::Video { 2 } else { 1 }
}

fn codec(kind: RtpCodecKind) -> (RtpCodecKind, RTCRtpCodecParameters) {
    let (mime_type, clock_rate, channels, sdp_fmtp_line, payload_type) = match kind {
        RtpCodecKind::Video => {
            let format = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
            ("video/H264", 90_000, 0, format, 103)
        }
        _ => ("audio/opus", 48_000, 2, "minptime=10;useinbandfec=1", 96),
    };
    let rtp_codec = RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: sdp_fmtp_line.to_owned(),
        ..Default::default()
    };
    (kind, RTCRtpCodecParameters { rtp_codec, payload_type })
}

fn track(kind: RtpCodecKind, codec: RTCRtpCodec) -> Arc<TrackLocalStaticRTP> {
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc(kind)), ..Default::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() };
    // The same stream for both, so that the browser keeps them in sync, as it does with the service's.
    let (stream, id) = ("bare".to_owned(), format!("bare-{kind}"));
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(stream, id.clone(), id, kind, vec![encoding])))
}

/// The browser's number for the codec.
fn payload_type(answer: &str, kind: RtpCodecKind) -> u8 {
    let line = answer.lines().find(|line| line.starts_with(&format!("m={kind} "))).unwrap();
    line.split(' ').nth(3).unwrap().parse().unwrap()
}
