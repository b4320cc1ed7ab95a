//! The viewer: the `webrtc` crate, which shares no decision with the server, as the browser behind a page.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{Buf, Bytes};
use rtc::interceptor::{Interceptor, Packet as Carried, Slot, StreamInfo, TaggedPacket};
use rtc::media_stream::{MediaStreamId, MediaStreamTrackId};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::source_description::SourceDescription;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::{rtcp, rtp};
use tokio::sync::{mpsc, watch};
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder,
    register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use crate::page::Answer;
use crate::runtime::OneByOne;
use crate::within;

/// What it offers to send.
const MICROPHONE_SSRC: u32 = 0x1234_5678;

pub(crate) struct Viewer {
    peer: Box<dyn PeerConnection>,
    state: watch::Receiver<RTCPeerConnectionState>,
    candidates: mpsc::UnboundedReceiver<RTCIceCandidateInit>,
    tracks: mpsc::UnboundedReceiver<Arc<dyn TrackRemote>>,
    wire: Arc<Wire>,
    /// Its dummy microphone, if it has one.
    pub(crate) microphone: Option<Arc<TrackLocalStaticRTP>>,
}

impl Viewer {
    /// Receives sound and picture, as Chromium does.
    pub(crate) async fn recvonly() -> Self {
        let viewer = Self::new().await;
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            viewer.peer.add_transceiver_from_kind(kind, Some(init)).await.unwrap();
        }
        viewer
    }

    /// Offers to send as well, from dummies, as Safari and Firefox do.
    pub(crate) async fn sendrecv() -> Self {
        let mut viewer = Self::new().await;
        let microphone = dummy(RtpCodecKind::Audio, "audio/opus", 48_000, 2, MICROPHONE_SSRC);
        let camera = dummy(RtpCodecKind::Video, "video/H264", 90_000, 0, MICROPHONE_SSRC + 1);
        viewer.peer.add_track(microphone.clone()).await.unwrap();
        viewer.peer.add_track(camera).await.unwrap();
        viewer.microphone = Some(microphone);
        viewer
    }

    async fn new() -> Self {
        let (state_out, state) = watch::channel(RTCPeerConnectionState::New);
        let (candidates_out, candidates) = mpsc::unbounded_channel();
        let (tracks_out, tracks) = mpsc::unbounded_channel();
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let wire = Arc::new(Wire::default());
        // Next to the wire, so that to all others what is lost here has never come.
        let registry = registry.with(Slot::from(1), Tap { wire: wire.clone(), ..Tap::default() });
        let settings = SettingEngineBuilder::new().with_include_loopback_candidate(true).build();
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler { state: state_out, candidates: candidates_out, tracks: tracks_out }))
            .with_runtime(OneByOne::new())
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        Self { peer: Box::new(peer), state, candidates, tracks, wire, microphone: None }
    }

    pub(crate) async fn offer(&self) -> String {
        let offer = self.peer.create_offer(None).await.unwrap();
        self.peer.set_local_description(offer.clone()).await.unwrap();
        offer.sdp
    }

    /// Takes the answer; picture and sound, which may come from now on.
    pub(crate) async fn accept(&self, answer: &Answer) -> (Incoming, Incoming) {
        let video = Incoming::expect(&self.wire, answer, "video");
        let audio = Incoming::expect(&self.wire, answer, "audio");
        let answer = RTCSessionDescription::answer(answer.0.clone()).unwrap();
        self.peer.set_remote_description(answer).await.unwrap();
        (video, audio)
    }

    pub(crate) async fn candidate(&mut self) -> RTCIceCandidateInit {
        within("a candidate is found", self.candidates.recv()).await.unwrap()
    }

    pub(crate) async fn connected(&mut self) {
        let connected = self.state.wait_for(|state| *state == RTCPeerConnectionState::Connected);
        within("the viewer connects", connected).await.unwrap();
    }

    /// The two tracks as the page gets them, picture first.
    pub(crate) async fn tracks(&mut self) -> [Arc<dyn TrackRemote>; 2] {
        let first = within("a track comes", self.tracks.recv()).await.unwrap();
        let second = within("the other track comes", self.tracks.recv()).await.unwrap();
        match (first.kind().await, second.kind().await) {
            (RtpCodecKind::Video, RtpCodecKind::Audio) => [first, second],
            (RtpCodecKind::Audio, RtpCodecKind::Video) => [second, first],
            kinds => panic!("{kinds:?}"),
        }
    }

    /// From now on every tenth video packet gets lost on the way.
    pub(crate) fn lose_packets(&self) {
        self.wire.lossy.store(true, Ordering::Relaxed);
    }

    /// RTP packets that have gone out.
    pub(crate) fn sent(&self) -> u64 {
        self.wire.sent.load(Ordering::Relaxed)
    }

    /// How DTLS is. The crate has no event for it.
    pub(crate) async fn dtls(&self) -> RTCDtlsTransportState {
        let receivers = self.peer.get_receivers().await;
        receivers[0].transport().await.unwrap().unwrap().state().await.unwrap()
    }
}

struct Handler {
    state: watch::Sender<RTCPeerConnectionState>,
    candidates: mpsc::UnboundedSender<RTCIceCandidateInit>,
    tracks: mpsc::UnboundedSender<Arc<dyn TrackRemote>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let _ = self.candidates.send(event.candidate.to_json().unwrap());
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.tracks.send(track);
    }
}

/// Says that the picture is lost.
pub(crate) async fn lose_picture(track: &Arc<dyn TrackRemote>) {
    let media_ssrc = track.ssrcs().await[0];
    track.write_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })]).await.unwrap();
}

fn dummy(kind: RtpCodecKind, mime: &str, clock_rate: u32, channels: u16, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    let codec = RTCRtpCodec { mime_type: mime.to_owned(), clock_rate, channels, ..Default::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() };
    let (stream, track) = (MediaStreamId::new(), MediaStreamTrackId::new());
    let track = MediaStreamTrack::new(stream, track, "dummy".to_owned(), kind, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

type Rtcp = Vec<Box<dyn rtcp::Packet>>;

/// What comes in of one medium, in the order of its sequence numbers.
pub(crate) struct Incoming {
    media: &'static str,
    /// Of its packets, by the answer; the preferred one first.
    payload_types: Vec<u8>,
    rtp: mpsc::UnboundedReceiver<rtp::Packet>,
    again: mpsc::UnboundedReceiver<rtp::Packet>,
    rtcp: mpsc::UnboundedReceiver<Rtcp>,
    next: Option<u16>,
    early: BTreeMap<u16, rtp::Packet>,
    /// Packets that were missing until they were sent again.
    pub(crate) recovered: usize,
}

impl Incoming {
    fn expect(wire: &Wire, answer: &Answer, media: &'static str) -> Self {
        let (rtp_out, rtp) = mpsc::unbounded_channel();
        let (again_out, again) = mpsc::unbounded_channel();
        let (rtcp_out, rtcp) = mpsc::unbounded_channel();
        let lossy = media == "video";
        let mut sources = wire.sources.lock().unwrap();
        sources.insert(answer.ssrc(media), Source { rtp: rtp_out, rtcp: Some(rtcp_out), lossy });
        if let Some(ssrc) = answer.rtx_ssrc(media) {
            sources.insert(ssrc, Source { rtp: again_out, rtcp: None, lossy: false });
        }
        let (next, early) = (None, BTreeMap::new());
        let payload_types = answer.payload_types(media);
        Self { media, payload_types, rtp, again, rtcp, next, early, recovered: 0 }
    }

    /// The packet with the next sequence number. Those that come before their turn wait; a hole that is never
    /// filled fails the test.
    pub(crate) async fn packet(&mut self) -> rtp::Packet {
        let what = format!("{} packet {:?} comes", self.media, self.next);
        let waiting = async {
            loop {
                if let Some(packet) = self.next.and_then(|next| self.early.remove(&next)) {
                    return packet;
                }
                let packet = tokio::select! {
                    biased;
                    Some(packet) = self.rtp.recv() => packet,
                    // RFC 4588 §4: the payload begins with the original sequence number.
                    Some(mut packet) = self.again.recv(), if self.next.is_some() => {
                        packet.header.sequence_number = packet.payload.get_u16();
                        packet.header.payload_type = self.payload_types[0];
                        self.recovered += usize::from(self.next == Some(packet.header.sequence_number));
                        packet
                    }
                    else => panic!("the viewer is gone"),
                };
                let seq = packet.header.sequence_number;
                // Behind is what was sent again once too often.
                if seq.wrapping_sub(*self.next.get_or_insert(seq)) < 0x8000 {
                    self.early.insert(seq, packet);
                }
            }
        };
        let packet = within(&what, waiting).await;
        assert!(self.payload_types.contains(&packet.header.payload_type));
        self.next = Some(packet.header.sequence_number.wrapping_add(1));
        packet
    }

    /// The packets up to the next marker: a whole picture.
    pub(crate) async fn picture(&mut self) -> Picture {
        let first = self.packet().await;
        let mut picture = Picture { timestamp: first.header.timestamp, packets: vec![first] };
        while !picture.packets.last().unwrap().header.marker {
            let packet = self.packet().await;
            assert_eq!(packet.header.timestamp, picture.timestamp, "a picture without its end");
            picture.packets.push(packet);
        }
        picture
    }

    /// The next sender report and the canonical name that comes with it.
    pub(crate) async fn report(&mut self) -> (SenderReport, String) {
        let packets = within(&format!("a report on {} comes", self.media), self.rtcp.recv()).await.unwrap();
        let report = packets.iter().find_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
        let sdes = packets.iter().find_map(|packet| packet.as_any().downcast_ref::<SourceDescription>());
        let cname = sdes.expect("a report comes with its SDES").chunks[0].items[0].text.to_vec();
        (report.unwrap().clone(), String::from_utf8(cname).unwrap())
    }
}

pub(crate) struct Picture {
    pub(crate) timestamp: u32,
    packets: Vec<rtp::Packet>,
}

impl Picture {
    /// The types of its NAL units (RFC 6184 §5.2).
    pub(crate) fn nal_types(&self) -> Vec<u8> {
        let mut types = Vec::new();
        for packet in &self.packets {
            let payload = &packet.payload;
            match payload[0] & 0x1f {
                // STAP-A.
                24 => {
                    let mut rest = &payload[1..];
                    while let [high, low, nal, ..] = rest {
                        types.push(nal & 0x1f);
                        rest = &rest[2 + usize::from(u16::from_be_bytes([*high, *low]))..];
                    }
                }
                // FU-A: counts where it starts.
                28 => types.extend(Some(payload[1] & 0x1f).filter(|_| payload[1] & 0x80 != 0)),
                single => types.push(single),
            }
        }
        types
    }

    pub(crate) fn is_keyframe(&self) -> bool {
        self.nal_types().contains(&5)
    }

    pub(crate) fn payloads(&self) -> Vec<Bytes> {
        self.packets.iter().map(|packet| packet.payload.clone()).collect()
    }
}

/// A sound of the dummy microphone.
pub(crate) async fn speak(microphone: &TrackLocalStaticRTP, payload_type: u8, number: u16) {
    let header = rtp::Header {
        version: 2,
        payload_type,
        sequence_number: number,
        timestamp: u32::from(number) * 960,
        ssrc: MICROPHONE_SSRC,
        ..Default::default()
    };
    let payload = Bytes::from_static(&[0xf8, 0xff, 0xfe]);
    microphone.write_rtp(rtp::Packet { header, payload }).await.unwrap();
}

/// The way between the server and the crate. The test listens here: before it has announced a track, the crate
/// drops the track's packets, the first keyframe among them.
#[derive(Default)]
struct Wire {
    sources: Mutex<HashMap<u32, Source>>,
    lossy: AtomicBool,
    sent: AtomicU64,
}

/// Where the packets of a source go.
struct Source {
    rtp: mpsc::UnboundedSender<rtp::Packet>,
    /// Sender reports; a source of what is sent again has none.
    rtcp: Option<mpsc::UnboundedSender<Rtcp>>,
    /// Some of its packets may get lost.
    lossy: bool,
}

impl Wire {
    /// Whether the packet arrives.
    fn hear(&self, packet: &Carried) -> bool {
        let sources = self.sources.lock().unwrap();
        match packet {
            Carried::Rtp(packet) => {
                let header = &packet.header;
                let source = sources.get(&header.ssrc).unwrap_or_else(|| panic!("unknown source {}", header.ssrc));
                let lost =
                    source.lossy && header.sequence_number.is_multiple_of(10) && self.lossy.load(Ordering::Relaxed);
                if !lost {
                    let _ = source.rtp.send(packet.clone());
                }
                !lost
            }
            Carried::Rtcp(packets) => {
                let report = packets.first().and_then(|first| first.as_any().downcast_ref::<SenderReport>());
                if let Some(rtcp) = report.and_then(|report| sources.get(&report.ssrc)?.rtcp.as_ref()) {
                    let _ = rtcp.send(packets.clone());
                }
                true
            }
            _ => true,
        }
    }
}

/// Leads all that the crate receives and sends past the [`Wire`].
#[derive(Default)]
struct Tap {
    wire: Arc<Wire>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if self.wire.hear(&packet.message.packet) {
            self.reads.push_back(packet);
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        let is_rtp = matches!(packet.message.packet, Carried::Rtp(_));
        self.wire.sent.fetch_add(u64::from(is_rtp), Ordering::Relaxed);
        self.writes.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
