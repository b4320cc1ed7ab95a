//! The boxes, by the crate that knows their layout.

use bytes::Bytes;
use mp4_atom::{
    Audio, Avc1, Avcc, AvccExt, Dinf, Dops, Dref, Encode, Ftyp, Hdlr, Mdat, Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mvex,
    Mvhd, Opus, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, Url, Visual, Vmhd,
};

use crate::media::frame::Codec;
use crate::media::sps::Sps;

/// Profiles whose `avcC` has the four bytes behind the parameter sets (ISO/IEC 14496-15 §5.3.3.1).
const HIGH_PROFILES: [u8; 4] = [100, 110, 122, 144];
/// `sample_depends_on` 2 (on nothing): a decoder can start here.
const KEY: u32 = 0x0200_0000;
/// `sample_depends_on` 1 and `sample_is_non_sync_sample`.
const NOT_KEY: u32 = 0x0101_0000;
/// RFC 7845 §4.2: what decoders need to settle, at 48 kHz.
const OPUS_PRE_SKIP: u16 = 312;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Track {
    Video = 1,
    Audio = 2,
}

impl Track {
    fn timescale(self) -> u32 {
        match self {
            Self::Video => Codec::H264.clock_rate(),
            Self::Audio => Codec::Opus.clock_rate(),
        }
    }
}

/// One picture, or one packet of sound.
pub(super) struct Sample<'a> {
    pub(super) track: Track,
    /// When it is decoded, in ticks since the timeline's zero.
    pub(super) time: u64,
    /// In ticks.
    pub(super) length: u32,
    /// From decoding to showing.
    pub(super) shown_later: i64,
    pub(super) is_key: bool,
    pub(super) data: &'a [u8],
}

/// `ftyp` and `moov`. `None` for parameter sets that do not fit their fields.
pub(super) fn init(sps: &[u8], pps: &[u8], parsed: &Sps, with_sound: bool) -> Option<Bytes> {
    let brands = [b"iso5", b"iso6", b"mp41", b"avc1"].map(|brand| brand.into());
    let ftyp = Ftyp { major_brand: b"iso5".into(), minor_version: 512, compatible_brands: brands.to_vec() };
    let (width, height) = (u16::try_from(parsed.width).ok()?, u16::try_from(parsed.height).ok()?);
    let mut avcc = Avcc::new(sps, pps).ok()?;
    if HIGH_PROFILES.contains(&avcc.avc_profile_indication) {
        avcc.ext = Some(AvccExt::default());
    }
    let visual = Visual {
        data_reference_index: 1,
        width,
        height,
        horizresolution: 72.into(),
        vertresolution: 72.into(),
        frame_count: 1,
        compressor: String::new().into(),
        depth: 24,
    };
    let video = Avc1 { visual, avcc, ..Default::default() };
    let minf = Minf { vmhd: Some(Vmhd::default()), ..Default::default() };
    let tkhd = Tkhd { width: width.into(), height: height.into(), ..Default::default() };
    let mut tracks = vec![track(Track::Video, *b"vide", tkhd, minf, video.into())];
    if with_sound {
        let audio = Audio { data_reference_index: 1, channel_count: 2, sample_size: 16, sample_rate: 48_000.into() };
        let dops = Dops {
            output_channel_count: 2,
            pre_skip: OPUS_PRE_SKIP,
            input_sample_rate: Codec::Opus.clock_rate(),
            output_gain: 0,
            channel_mapping: None,
        };
        let minf = Minf { smhd: Some(Smhd::default()), ..Default::default() };
        let tkhd = Tkhd { volume: 1.into(), ..Default::default() };
        tracks.push(track(Track::Audio, *b"soun", tkhd, minf, Opus { audio, dops, btrt: None }.into()));
    }
    let trex = |trak: &Trak| Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        default_sample_duration: 0,
        default_sample_size: 0,
        default_sample_flags: 0,
    };
    let moov = Moov {
        mvhd: Mvhd { timescale: 1_000, next_track_id: 3, ..Default::default() },
        mvex: Some(Mvex { mehd: None, trex: tracks.iter().map(trex).collect() }),
        trak: tracks,
        ..Default::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out).and_then(|()| moov.encode(&mut out)).ok()?;
    Some(out.into())
}

fn track(track: Track, handler: [u8; 4], tkhd: Tkhd, minf: Minf, codec: mp4_atom::Codec) -> Trak {
    let stbl = Stbl { stsd: Stsd { codecs: vec![codec] }, stco: Some(Stco::default()), ..Default::default() };
    let dinf = Dinf { dref: Dref { entries: vec![Url::default().into()] } };
    Trak {
        tkhd: Tkhd { track_id: track as u32, enabled: true, in_movie: true, ..tkhd },
        mdia: Mdia {
            mdhd: Mdhd { timescale: track.timescale(), language: "und".into(), ..Default::default() },
            hdlr: Hdlr { handler: handler.into(), name: String::new() },
            minf: Minf { dinf, stbl, ..minf },
        },
        ..Default::default()
    }
}

/// `moof` and `mdat` with one sample.
pub(super) fn fragment(sequence: u32, sample: &Sample<'_>) -> Bytes {
    let entry = TrunEntry {
        duration: Some(sample.length),
        size: Some(sample.data.len() as u32),
        flags: Some(if sample.is_key { KEY } else { NOT_KEY }),
        cts: (sample.shown_later != 0).then_some(sample.shown_later),
    };
    let moof = |data_offset| Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf {
            tfhd: Tfhd { track_id: sample.track as u32, default_base_is_moof: true, ..Default::default() },
            tfdt: Some(Tfdt { base_media_decode_time: sample.time }),
            trun: vec![Trun { data_offset: Some(data_offset), samples: vec![entry].into() }],
            ..Default::default()
        }],
    };
    let mut out = Vec::with_capacity(128 + sample.data.len());
    // The offset counts from the begin of `moof`, whose length does not depend on it.
    let encoded = moof(0).encode(&mut out).and_then(|()| {
        let data_offset = out.len() as i32 + 8;
        out.clear();
        moof(data_offset).encode(&mut out)
    });
    let encoded = encoded.and_then(|()| Mdat { data: sample.data.to_vec() }.encode(&mut out));
    // Everything fits its field, or the sample would not fit into memory.
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    out.into()
}
