//! Repaired packets, with losses and late ones, packed as MP4.
//!
//! The input is a list of packets: a byte of flags, the length in two bytes, and the payload, which may be cut.

use std::time::Instant;

use bytes::Bytes;
use honeycast::media::mp4::{Mp4Writer, Piece};
use honeycast::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, RtpTime};

/// Flags of a packet.
const LOST_BEFORE: u8 = 1;
const NEW_TIME: u8 = 2;
const MARKER: u8 = 4;
const IS_LATE: u8 = 8;
const IS_SOUND: u8 = 16;
const STARTS_KEYFRAME: u8 = 32;
const TIME_GOES_BACK: u8 = 64;

const MAX_PACKETS: usize = 300;

/// Whether a picture came out.
pub(crate) fn run(data: &[u8]) -> bool {
    let start = Instant::now();
    let mut writer = Mp4Writer::new(true);
    let (mut rest, mut seq, mut time) = (data, 1_000, 900_000);
    let (mut frames, mut out) = (Vec::new(), Vec::new());
    for _ in 0..MAX_PACKETS {
        let [flags, high, low, tail @ ..] = rest else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, after) = tail.split_at(length);
        rest = after;
        seq += 1 + u64::from(flags & LOST_BEFORE);
        if flags & NEW_TIME != 0 {
            time = if flags & TIME_GOES_BACK == 0 { time + 3_600 } else { time - 1_800 };
        }
        let codec = if flags & IS_SOUND == 0 { Codec::H264 } else { Codec::Opus };
        let number = if flags & IS_LATE == 0 { seq } else { seq - 3 };
        let packet =
            FramePacket { seq: ExtSeq(number), marker: flags & MARKER != 0, payload: Bytes::copy_from_slice(payload) };
        let frame = Frame {
            codec,
            time: RtpTime(time),
            starts_keyframe: flags & STARTS_KEYFRAME != 0 && codec == Codec::H264,
            packets: vec![packet],
            arrived: start,
            clock: ClockPoint { at: start, rtp: RtpTime(900_000), rate: codec.clock_rate() },
        };
        writer.push(&frame, &mut out);
        frames.push(frame);
    }
    if let Some((head, file)) = Mp4Writer::still(&frames) {
        assert!(file.starts_with(&head.init));
        check(&file[head.init.len()..], &mut [None; 2]);
    }
    let mut times = [None, None];
    for (index, piece) in out.iter().enumerate() {
        match piece {
            Piece::Head(head) => assert!(head.init[4..8] == *b"ftyp" && head.codecs.starts_with("avc1.")),
            Piece::Fragment(_) if index == 0 => panic!("a fragment before the head"),
            Piece::Fragment(bytes) => check(bytes, &mut times),
        }
    }
    times[0].is_some()
}

/// Boxes fill the fragment, time goes forward in each track, and a picture is NAL units with their lengths.
fn check(bytes: &[u8], times: &mut [Option<u64>; 2]) {
    let (moof, mdat) = bytes.split_at(u32_at(bytes, 0) as usize);
    assert_eq!((&moof[4..8], &mdat[4..8]), (&b"moof"[..], &b"mdat"[..]));
    assert_eq!(u32_at(mdat, 0) as usize, mdat.len());
    // mfhd is 16 bytes, then come the headers of traf and tfhd.
    let track = u32_at(moof, 8 + 16 + 8 + 12) as usize;
    let tfdt = moof.windows(4).position(|kind| kind == b"tfdt").unwrap() + 4;
    let time = match moof[tfdt] {
        0 => u64::from(u32_at(moof, tfdt + 4)),
        _ => u64::from_be_bytes(moof[tfdt + 4..tfdt + 12].try_into().unwrap()),
    };
    let last = &mut times[track - 1];
    assert!(last.is_none_or(|last| time > last), "{last:?}, {time}");
    *last = Some(time);
    if track == 1 {
        let mut data = &mdat[8..];
        assert!(!data.is_empty());
        while !data.is_empty() {
            data = &data[4 + u32_at(data, 0) as usize..];
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
