//! Sound in the codecs that a viewer takes, and in others.

use bytes::Bytes;

use super::*;
use crate::egress::viewer::ViewerCounters;
use crate::media::rtcp::{RtcpBlock, blocks};
use crate::media::rtp::RtpPacket;
use crate::media::{Codec, ExtSeq, FramePacket, RtpTime};
use crate::webrtc::testing::Decrypter;
use crate::webrtc::{Format, NegotiatedTracks, Sealer, SrtpProfile, Track};

const AUDIO: Ssrc = Ssrc(200);
const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 12] = [9; 12];
const OPUS: Format = Format { codec: Codec::Opus, payload_type: 111 };
const PCMU: Format = Format { codec: Codec::Pcmu, payload_type: 0 };

#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl RunSink for Wire {
    fn send_run(&mut self, _: Path, contents: &[u8], segment: usize) -> std::io::Result<()> {
        self.0.extend(contents.chunks(segment).map(<[u8]>::to_vec));
        Ok(())
    }
}

struct Listener {
    fanout: Fanout,
    stream: StreamId,
    viewer: ViewerId,
    counters: Arc<ViewerCounters>,
    wire: Wire,
    decrypter: Decrypter,
    now: Instant,
    seq: u64,
    time: u64,
}

impl Listener {
    fn taking(formats: &[Format]) -> Self {
        let (mut fanout, stream, viewer, mut wire) =
            (Fanout::new(), StreamId::random(), ViewerId::random(), Wire::default());
        let (counters, now) = (Arc::<ViewerCounters>::default(), Instant::now());
        fanout.open_stream(stream);
        let audio = Track { mid: "1".into(), ssrc: AUDIO, formats: formats.to_vec(), rtx: None, transport_cc: None };
        let new = NewViewer {
            viewer,
            stream,
            tracks: NegotiatedTracks { video: None, audio: Some(audio), cname: "c".into() },
            sealer: Sealer::from_master(SrtpProfile::AeadAes128Gcm, &KEY, &SALT).unwrap(),
            path: Path { remote: ([127, 0, 0, 1], 9).into(), local: None },
            counters: counters.clone(),
            offered: Instant::now(),
        };
        fanout.add_viewer(new, now, &mut wire);
        let decrypter = Decrypter::new(SrtpProfile::AeadAes128Gcm, &KEY, &SALT);
        Self { fanout, stream, viewer, counters, wire, decrypter, now, seq: 0x1_0000, time: 1 << 32 }
    }

    /// 20 ms of sound each; what the viewer gets of it.
    fn hears(&mut self, codec: Codec, packets: usize) -> Vec<RtpPacket> {
        for _ in 0..packets {
            self.now += Duration::from_millis(20);
            self.seq += 1;
            self.time += u64::from(codec.clock_rate()) / 50;
            let time = RtpTime(self.time);
            let payload = Bytes::copy_from_slice(&self.seq.to_be_bytes());
            let frame = Frame {
                codec,
                time,
                starts_keyframe: false,
                packets: vec![FramePacket { seq: ExtSeq(self.seq), marker: false, payload }],
                arrived: self.now,
                clock: ClockPoint { at: self.now, rtp: time, rate: codec.clock_rate() },
            };
            self.fanout.on_frame(self.stream, &Arc::new(frame), self.now, &mut self.wire);
        }
        self.received()
    }

    fn received(&mut self) -> Vec<RtpPacket> {
        let open = |datagram: Vec<u8>| RtpPacket::parse(self.decrypter.rtp(&datagram).unwrap().into()).unwrap();
        self.wire.0.drain(..).map(open).collect()
    }
}

#[test]
fn whichever_of_two_codecs_comes_is_sent_with_its_own_payload_type_in_one_numbering() {
    let mut listener = Listener::taking(&[OPUS, PCMU]);
    let heard =
        [listener.hears(Codec::Opus, 3), listener.hears(Codec::Pcmu, 3), listener.hears(Codec::Opus, 2)].concat();
    let types: Vec<_> = heard.iter().map(RtpPacket::payload_type).collect();
    assert_eq!(types, [111, 111, 111, 0, 0, 0, 111, 111]);
    assert!(heard.windows(2).all(|pair| pair[1].seq().0 == pair[0].seq().0.wrapping_add(1)));
    let steps: Vec<_> = heard.windows(2).map(|pair| pair[1].timestamp().wrapping_sub(pair[0].timestamp())).collect();
    assert_eq!(steps, [960, 960, 160, 160, 160, 960, 960]);
}

#[test]
fn reports_count_in_the_rate_of_the_codec() {
    let mut listener = Listener::taking(&[PCMU]);
    let last = listener.hears(Codec::Pcmu, 60).pop().unwrap();
    let now = listener.now + Duration::from_millis(500);
    listener.fanout.tick(now, SystemTime::now(), &mut listener.wire);
    let plain = listener.decrypter.rtcp(&listener.wire.0.remove(0)).unwrap();
    let report = blocks(&plain).find_map(|block| match block.unwrap() {
        RtcpBlock::SenderReport(info, _) => Some(info),
        _ => None,
    });
    assert_eq!(report.unwrap().rtp_time.wrapping_sub(last.timestamp()), 4_000, "half a second");
}

#[test]
fn a_codec_that_the_viewer_does_not_take_is_not_sent_and_counted() {
    let mut listener = Listener::taking(&[OPUS]);
    let before = listener.hears(Codec::Opus, 2);
    assert_eq!(listener.hears(Codec::Pcmu, 5).len(), 0);
    assert_eq!(listener.counters.audio_unplayable.load(Ordering::Relaxed), 5);
    let after = listener.hears(Codec::Opus, 1);
    assert!(before.iter().chain(&after).all(|packet| packet.payload_type() == 111));
}

#[test]
fn what_is_sent_again_has_the_payload_type_that_it_was_sent_with() {
    // Another one would seal other bytes with the nonce of the first time (RFC 7714 §8.1).
    let mut listener = Listener::taking(&[OPUS, PCMU]);
    let before = listener.hears(Codec::Opus, 2);
    listener.hears(Codec::Pcmu, 2);
    let Listener { fanout, viewer, now, wire, .. } = &mut listener;
    fanout.retransmit(*viewer, AUDIO, &[before[1].seq()], *now, wire);
    let again = listener.received();
    assert_eq!(again.iter().map(RtpPacket::as_bytes).collect::<Vec<_>>(), [before[1].as_bytes()]);
}
