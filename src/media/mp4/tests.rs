use std::sync::Arc;

use mp4_atom::{Any, ReadFrom, TrunEntry};

use super::*;
use crate::media::FramePacket;
use crate::media::id::ExtSeq;

/// 320 × 240, Constrained Baseline 1.3.
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x0c, 0x83, 0xc5,
    0x0a, 0xa8,
];
const PPS: &[u8] = &[0x68, 0xce, 0x0f, 0xc8];
const VIDEO_START: u64 = 7_000_000;
const AUDIO_START: u64 = 1_000_000;

struct Camera {
    start: Instant,
    seq: u64,
}

impl Camera {
    fn new() -> Self {
        Self { start: Instant::now(), seq: 100 }
    }

    fn frame(&mut self, codec: Codec, ms: u64, key: bool, payloads: Vec<Vec<u8>>) -> Arc<Frame> {
        let zero = if codec == Codec::H264 { VIDEO_START } else { AUDIO_START };
        let time = RtpTime(zero + ms * u64::from(codec.clock_rate()) / 1_000);
        let last = payloads.len() - 1;
        let packets = payloads.into_iter().enumerate().map(|(index, payload)| {
            self.seq += 1;
            FramePacket { seq: ExtSeq(self.seq), marker: index == last, payload: payload.into() }
        });
        let packets = packets.collect();
        let clock = ClockPoint { at: self.start, rtp: RtpTime(zero), rate: codec.clock_rate() };
        let arrived = self.start + Duration::from_millis(ms);
        Arc::new(Frame { codec, time, starts_keyframe: key, packets, arrived, clock })
    }

    fn key(&mut self, ms: u64) -> Arc<Frame> {
        let sets = [&[0x78, 0, SPS.len() as u8][..], SPS, &[0, PPS.len() as u8], PPS].concat();
        // An IDR slice in two fragments.
        self.frame(Codec::H264, ms, true, vec![sets, vec![0x7c, 0x85, 0x88, 1], vec![0x7c, 0x45, 2, 3]])
    }

    fn delta(&mut self, ms: u64) -> Arc<Frame> {
        self.frame(Codec::H264, ms, false, vec![vec![0x41, 0x9a, ms as u8]])
    }
}

fn write(writer: &mut Mp4Writer, frames: &[Arc<Frame>]) -> Vec<Piece> {
    let mut out = Vec::new();
    for frame in frames {
        writer.push(frame, &mut out);
    }
    out
}

/// Track, decode time, entry and data of a fragment.
fn read(piece: &Piece) -> (u32, u64, TrunEntry, Vec<u8>) {
    let Piece::Fragment(bytes) = piece else { panic!("{piece:?} is no fragment") };
    let mut rest = &bytes[..];
    let (mut moof, mut mdat) = (None, None);
    while !rest.is_empty() {
        match Any::read_from(&mut rest).unwrap() {
            Any::Moof(atom) => moof = Some(atom),
            Any::Mdat(atom) => mdat = Some(atom),
            other => panic!("{other:?}"),
        }
    }
    let (moof, mdat) = (moof.unwrap(), mdat.unwrap());
    let traf = &moof.traf[0];
    let run = &traf.trun[0];
    assert_eq!(run.data_offset, Some((bytes.len() - mdat.data.len()) as i32));
    (traf.tfhd.track_id, traf.tfdt.as_ref().unwrap().base_media_decode_time, run.samples.get(0).unwrap(), mdat.data)
}

#[test]
fn a_stream_begins_with_a_head_and_each_picture_is_as_long_as_it_is_shown() {
    let mut camera = Camera::new();
    let frames = [camera.delta(0), camera.key(40), camera.delta(80), camera.delta(120)];
    let pieces = write(&mut Mp4Writer::new(false), &frames);
    let Piece::Head(head) = &pieces[0] else { panic!("{pieces:?}") };
    assert_eq!(head.codecs, "avc1.42C00D");
    let mut rest = &head.init[..];
    assert!(matches!(Any::read_from(&mut rest).unwrap(), Any::Ftyp(_)));
    let Any::Moov(moov) = Any::read_from(&mut rest).unwrap() else { panic!() };
    assert_eq!((moov.trak.len(), moov.trak[0].mdia.mdhd.timescale), (1, 90_000));

    assert_eq!(pieces.len(), 3, "the last picture waits for its successor");
    let (track, time, entry, data) = read(&pieces[1]);
    assert_eq!((track, time, entry.duration, entry.flags), (1, 0, Some(3_600), Some(0x0200_0000)));
    assert_eq!(
        data,
        [0, 0, 0, 4, 0x65, 0x88, 1, 2, 3][..]
            .iter()
            .copied()
            .enumerate()
            .map(|(i, b)| if i == 3 { 5 } else { b })
            .collect::<Vec<_>>()
    );
    let (_, time, entry, data) = read(&pieces[2]);
    assert_eq!((time, entry.duration, entry.flags), (3_600, Some(3_600), Some(0x0101_0000)));
    assert_eq!(data, [0, 0, 0, 3, 0x41, 0x9a, 80]);
}

#[test]
fn after_a_loss_nothing_comes_until_the_next_keyframe_and_time_goes_on() {
    let mut camera = Camera::new();
    let mut writer = Mp4Writer::new(false);
    let mut frames = vec![camera.key(0), camera.delta(40)];
    let lost = camera.delta(80);
    frames.push(camera.delta(120));
    let pieces = write(&mut writer, &frames);
    assert!(writer.wants_keyframe());
    assert_eq!(pieces.len(), 2);
    // Late, it is of no use any more.
    assert_eq!(write(&mut writer, &[lost]), []);
    let pieces = write(&mut writer, &[camera.key(1_000), camera.delta(1_040)]);
    let starts: Vec<_> = pieces.iter().map(|piece| (read(piece).1, read(piece).2.duration.unwrap())).collect();
    assert_eq!(starts, [(3_600, 86_400), (90_000, 3_600)]);
    assert!(!writer.wants_keyframe());
}

#[test]
fn sound_is_placed_by_the_servers_clock_and_follows_without_gaps() {
    let mut camera = Camera::new();
    let mut writer = Mp4Writer::new(true);
    // Opus, 20 ms, one frame (config 31).
    let sound = |camera: &mut Camera, ms| camera.frame(Codec::Opus, ms, false, vec![vec![0xf8, 1, 2]]);
    let frames = [
        sound(&mut camera, 0),
        camera.key(30),
        sound(&mut camera, 40),
        sound(&mut camera, 60),
        sound(&mut camera, 100),
    ];
    let pieces = write(&mut writer, &frames);
    let Piece::Head(head) = &pieces[0] else { panic!() };
    assert_eq!(head.codecs, "avc1.42C00D,opus");
    let heard: Vec<_> =
        pieces[1..].iter().map(|piece| (read(piece).0, read(piece).1, read(piece).2.duration.unwrap())).collect();
    // The picture of 30 ms is the timeline's zero.
    assert_eq!(heard, [(2, 480, 960), (2, 1_440, 960), (2, 3_360, 960)]);
}

#[test]
fn new_parameter_sets_bring_a_new_head() {
    let mut camera = Camera::new();
    let mut writer = Mp4Writer::new(false);
    assert_eq!(write(&mut writer, &[camera.key(0), camera.key(40)]).len(), 2);
    let other = [&[0x78, 0, SPS.len() as u8][..], SPS, &[0, 4, 0x68, 0xce, 0x0f, 0xc9]].concat();
    let changed = camera.frame(Codec::H264, 80, true, vec![other, vec![0x65, 0x88, 9]]);
    let pieces = write(&mut writer, &[changed]);
    assert!(matches!(&pieces[..], [Piece::Fragment(_), Piece::Head(_)]), "{pieces:?}");
}

#[test]
fn a_still_is_a_file_with_the_keyframe_alone() {
    let mut camera = Camera::new();
    let frames = [camera.key(0), camera.delta(40), camera.delta(80)];
    let (head, file) = Mp4Writer::still(frames.iter().map(|frame| &**frame)).unwrap();
    assert!(file.starts_with(&head.init));
    let (_, time, entry, _) = read(&Piece::Fragment(file.slice(head.init.len()..)));
    assert_eq!((time, entry.duration), (0, Some(90_000)));
    assert!(Mp4Writer::still(frames[1..].iter().map(|frame| &**frame)).is_none());
}

#[test]
fn opus_packets_tell_their_length() {
    for (packet, ticks) in [
        (&[0xf8, 0][..], Some(960)),
        (&[0x08][..], Some(960)),
        (&[0xfb, 3][..], Some(2_880)),
        (&[0x1b, 10][..], None),
        (&[][..], None),
        (&[0xff][..], None),
    ] {
        assert_eq!(samples::opus_ticks(packet), ticks, "{packet:?}");
    }
}
