//! Long streams: what a viewer receives across the ends of its 16-bit sequence numbers (the roll-over counter of
//! RFC 3711 §3.3.1) and 32-bit timestamps. The receiving end is webrtc-rs's own SRTP context.

use bytes::Bytes;

use super::*;
use crate::egress::viewer::ViewerCounters;
use crate::media::rtcp::{RtcpBlock, blocks};
use crate::media::rtp::RtpPacket;
use crate::media::{Codec, ExtSeq, FramePacket, RtpTime};
use crate::webrtc::testing::Decrypter;
use crate::webrtc::{Format, NegotiatedTracks, Sealer, SrtpProfile, Track};

const VIDEO: Ssrc = Ssrc(100);
const PACKETS_A_FRAME: u64 = 8;
/// More than twice around the sequence numbers, wherever they begin.
const FRAMES: u64 = 18_000;
/// In ticks: with as many frames, more than once around the timestamps.
const STEP: u64 = 300_000;

/// Datagrams to the only viewer.
#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl RunSink for Wire {
    fn send_run(&mut self, _: Path, contents: &[u8], segment: usize) -> std::io::Result<()> {
        self.0.extend(contents.chunks(segment).map(<[u8]>::to_vec));
        Ok(())
    }
}

fn payload(number: u64) -> Bytes {
    Bytes::copy_from_slice(&[&[0x41][..], &number.to_be_bytes()].concat())
}

fn a_long_stream(profile: SrtpProfile, salt: &[u8]) {
    const KEY: [u8; 16] = [7; 16];
    let (mut fanout, stream, mut wire) = (Fanout::new(), StreamId::random(), Wire::default());
    fanout.open_stream(stream);
    let viewer = ViewerId::random();
    let format = Format { codec: Codec::H264, payload_type: 108 };
    let video = Track { mid: "0".into(), ssrc: VIDEO, formats: vec![format], rtx: None, transport_cc: None };
    let new = NewViewer {
        viewer,
        stream,
        tracks: NegotiatedTracks { video: Some(video), audio: None, cname: "c".into() },
        sealer: Sealer::from_master(profile, &KEY, salt).unwrap(),
        path: Path { remote: ([127, 0, 0, 1], 9).into(), local: None },
        counters: Arc::<ViewerCounters>::default(),
        offered: Instant::now(),
    };
    let mut now = Instant::now();
    fanout.add_viewer(new, now, &mut wire);
    let mut decrypter = Decrypter::new(profile, &KEY, salt);
    let mut open = |datagram: &[u8]| RtpPacket::parse(decrypter.rtp(datagram).unwrap().into()).unwrap();

    let mut reports = Decrypter::new(profile, &KEY, salt);
    let (mut number, mut last): (u64, Option<RtpPacket>) = (0, None);
    let (mut seq_wraps, mut time_wraps) = (0, 0);
    for frame in 0..FRAMES {
        now += Duration::from_nanos(STEP * 1_000_000_000 / 90_000);
        let numbers = frame * PACKETS_A_FRAME..(frame + 1) * PACKETS_A_FRAME;
        let packets = numbers.clone().map(|n| FramePacket {
            seq: ExtSeq(0x1_0000 + n),
            marker: n + 1 == numbers.end,
            payload: payload(n),
        });
        let time = RtpTime((1 << 32) + frame * STEP);
        let frame = Frame {
            codec: Codec::H264,
            time,
            starts_keyframe: frame % 50 == 0,
            packets: packets.collect(),
            arrived: now,
            clock: ClockPoint { at: now, rtp: time, rate: 90_000 },
        };
        fanout.on_frame(stream, &Arc::new(frame), now, &mut wire);
        for datagram in std::mem::take(&mut wire.0) {
            let packet = open(&datagram);
            assert_eq!((packet.ssrc(), packet.payload()), (VIDEO, payload(number)), "packet {number}");
            if let Some(last) = last.replace(packet.clone()) {
                assert_eq!(packet.seq().0, last.seq().0.wrapping_add(1), "packet {number}");
                let step = if number.is_multiple_of(PACKETS_A_FRAME) { STEP as u32 } else { 0 };
                assert_eq!(packet.timestamp(), last.timestamp().wrapping_add(step), "packet {number}");
                time_wraps += u32::from(packet.timestamp() < last.timestamp());
                if packet.seq().0 == 0 {
                    seq_wraps += 1;
                    // What was lost just before the wrap is sealed with the counter of then.
                    let lost = SeqNo(u16::MAX - 3);
                    fanout.retransmit(viewer, VIDEO, &[lost], now, &mut wire);
                }
            }
            number += 1;
        }
        // The retransmissions of this frame.
        for datagram in std::mem::take(&mut wire.0) {
            let again = open(&datagram);
            let at = last.as_ref().map(|last| last.seq().0.wrapping_sub(again.seq().0)).unwrap();
            assert_eq!((again.seq(), again.payload()), (SeqNo(u16::MAX - 3), payload(number - 1 - u64::from(at))));
        }
        fanout.tick(now, SystemTime::now(), &mut wire);
        for datagram in std::mem::take(&mut wire.0) {
            let plain = reports.rtcp(&datagram).unwrap();
            let report = blocks(&plain).find_map(|block| match block.unwrap() {
                RtcpBlock::SenderReport(info, _) => Some(info),
                _ => None,
            });
            let report = report.unwrap();
            assert_eq!(report.rtp_time, last.as_ref().unwrap().timestamp(), "sent with the frame of now");
            assert_eq!(u64::from(report.packets), number);
        }
    }
    assert_eq!(number, FRAMES * PACKETS_A_FRAME);
    assert!(number > 2 * 70_000 && seq_wraps == 2 && time_wraps >= 1, "{number} {seq_wraps} {time_wraps}");
}

#[test]
fn a_stream_goes_on_across_the_ends_of_its_numbers_with_gcm() {
    a_long_stream(SrtpProfile::AeadAes128Gcm, &[9; 12]);
}

#[test]
fn a_stream_goes_on_across_the_ends_of_its_numbers_with_cm() {
    a_long_stream(SrtpProfile::Aes128CmHmacSha1_80, &[9; 14]);
}
