//! The embedded clip (see `clip/README.md`), taken apart once and shared by all cameras of the process.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use super::packetize::payloads;
use super::pcmu;
use crate::media::Codec;
use crate::media::rtp::FIXED_HEADER_LEN;

/// Time from one picture to the next.
pub(super) const FRAME_INTERVAL: Duration = Duration::from_millis(40);
/// Time from one audio packet to the next.
pub(super) const TONE_INTERVAL: Duration = Duration::from_millis(20);
/// Audio packets in the loop; the file has one more, which only flushes the encoder.
const TONE_PACKETS: usize = 400;

/// Which of the two versions of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    /// 640x360.
    Sd,
    /// 1280x720.
    Hd,
}

impl Quality {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sd => "sd",
            Self::Hd => "hd",
        }
    }

    pub(super) fn clip(self) -> &'static VideoClip {
        match self {
            Self::Sd => &SD,
            Self::Hd => &HD,
        }
    }
}

/// One picture.
#[derive(Debug)]
pub(super) struct AccessUnit {
    /// RTP payloads in their order; the last one gets the marker.
    pub(super) payloads: Vec<Bytes>,
    /// Decoding can start here.
    pub(super) keyframe: bool,
}

/// A video in a loop.
#[derive(Debug)]
pub(super) struct VideoClip {
    /// The pictures. Never empty: the file is part of the source, and a test reads it.
    units: Vec<AccessUnit>,
    bitrate: u64,
}

impl VideoClip {
    fn parse(file: &'static [u8]) -> Self {
        let units: Vec<AccessUnit> = access_units(file)
            .iter()
            .map(|nals| AccessUnit {
                payloads: payloads(nals),
                keyframe: nals.iter().any(|nal| nal_type(nal) == NAL_IDR),
            })
            .collect();
        let bytes: usize = units.iter().flat_map(|unit| &unit.payloads).map(|p| p.len() + FIXED_HEADER_LEN).sum();
        let millis = FRAME_INTERVAL.as_millis() as u64 * units.len().max(1) as u64;
        Self { units, bitrate: bytes as u64 * 8 * 1000 / millis }
    }

    /// How many pictures the loop has.
    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// Bits per second with RTP headers, on average over the loop.
    pub(super) fn bitrate(&self) -> u64 {
        self.bitrate
    }

    /// The picture of this number, across the end of the loop.
    pub(super) fn unit(&self, number: usize) -> &AccessUnit {
        &self.units[number % self.units.len()]
    }

    /// The number of the first keyframe from `number` on.
    pub(super) fn next_keyframe(&self, number: usize) -> usize {
        (number..number + self.len()).find(|n| self.unit(*n).keyframe).unwrap_or(number) % self.len()
    }
}

static HD: LazyLock<VideoClip> = LazyLock::new(|| VideoClip::parse(include_bytes!("clip/hd.h264")));
static SD: LazyLock<VideoClip> = LazyLock::new(|| VideoClip::parse(include_bytes!("clip/sd.h264")));
static TONE: LazyLock<Vec<&'static [u8]>> = LazyLock::new(|| {
    let mut packets = ogg_packets(include_bytes!("clip/tone.opus"));
    // The two first are headers (RFC 7845 §3).
    packets.drain(..packets.len().min(2));
    packets.truncate(TONE_PACKETS);
    packets
});

/// The sound packet of this number, 20 ms each, across the end of the loop.
pub(super) fn sound(codec: Codec, number: u32) -> &'static [u8] {
    let nth = |len: usize| number as usize % len.max(1);
    match codec {
        Codec::Pcmu => pcmu::tone().get(nth(pcmu::tone().len())).map_or(&[], |packet| &packet[..]),
        _ => tone().get(nth(tone().len())).copied().unwrap_or(&[]),
    }
}

/// The Opus packets of the loop.
pub(super) fn tone() -> &'static [&'static [u8]] {
    &TONE
}

const NAL_SLICE: u8 = 1;
const NAL_IDR: u8 = 5;

fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

/// The units of an Annex B stream (ITU-T H.264 §B.1), grouped by picture: a slice ends one, as every
/// picture of the clip has a single slice.
fn access_units(file: &'static [u8]) -> Vec<Vec<&'static [u8]>> {
    let (mut units, mut current) = (Vec::new(), Vec::new());
    for nal in annex_b(file) {
        current.push(nal);
        if matches!(nal_type(nal), NAL_SLICE | NAL_IDR) {
            units.push(std::mem::take(&mut current));
        }
    }
    units
}

fn annex_b(file: &'static [u8]) -> Vec<&'static [u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(window) = file.get(at..at + 3) {
        if window == [0, 0, 1] {
            starts.push(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([file.len()]);
    let nals = starts.iter().zip(ends).map(|(start, end)| {
        let nal = &file[*start..end];
        // A unit never ends in zero; what stands there belongs to the next start code.
        &nal[..nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
    });
    nals.filter(|nal| !nal.is_empty()).collect()
}

/// The packets of an Ogg file whose packets do not cross pages, which is how ffmpeg writes short ones
/// (RFC 3533 §6). What breaks the rule ends the walk.
fn ogg_packets(file: &'static [u8]) -> Vec<&'static [u8]> {
    const HEADER_LEN: usize = 27;
    let mut packets = Vec::new();
    let mut rest = file;
    while rest.starts_with(b"OggS") {
        let Some(segments) = rest.get(HEADER_LEN - 1).map(|count| usize::from(*count)) else { break };
        let Some(table) = rest.get(HEADER_LEN..HEADER_LEN + segments) else { break };
        let (mut start, mut end) = (HEADER_LEN + segments, HEADER_LEN + segments);
        for lacing in table {
            end += usize::from(*lacing);
            if *lacing < 255 {
                packets.extend(rest.get(start..end));
                start = end;
            }
        }
        let Some(next) = rest.get(end..) else { break };
        rest = next;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::h264;

    #[test]
    fn the_videos_are_what_their_readme_says() {
        for quality in [Quality::Hd, Quality::Sd] {
            let clip = quality.clip();
            assert_eq!(clip.len(), 200, "{quality:?}");
            let keyframes: Vec<_> = (0..200).filter(|n| clip.unit(*n).keyframe).collect();
            assert_eq!(keyframes, [0, 100], "{quality:?}");
            for number in 0..200 {
                let unit = clip.unit(number);
                let first = h264::scan(&unit.payloads[0]);
                assert_eq!(first.begins_keyframe, unit.keyframe, "{quality:?} {number}");
                // Baseline with constraint_set1 is what browsers call constrained baseline.
                let profile = first.profile.map(|profile| profile.0);
                assert!(profile.is_none_or(|[p, c, l]| p == 0x42 && c & 0x40 != 0 && l == 31), "{profile:x?}");
                assert_eq!(profile.is_some(), unit.keyframe);
            }
        }
    }

    #[test]
    fn the_bitrates_are_apart() {
        let (hd, sd) = (Quality::Hd.clip().bitrate(), Quality::Sd.clip().bitrate());
        assert!((500_000..1_100_000).contains(&hd), "{hd}");
        assert!((100_000..300_000).contains(&sd), "{sd}");
    }

    #[test]
    fn the_next_keyframe_is_found_across_the_end() {
        let clip = Quality::Hd.clip();
        assert_eq!([0, 1, 100, 101, 199].map(|n| clip.next_keyframe(n)), [0, 100, 100, 0, 0]);
    }

    #[test]
    fn the_tone_is_400_packets_of_20_ms() {
        assert_eq!(tone().len(), 400);
        for packet in tone() {
            // TOC byte (RFC 6716 §3.1): one frame a packet, of 20 ms in any of the modes.
            let (config, code) = (packet[0] >> 3, packet[0] & 3);
            let is_20_ms = matches!(config, 1 | 5 | 9 | 13 | 15 | 19 | 23 | 27 | 31);
            assert!(is_20_ms && code == 0, "{:x}", packet[0]);
        }
    }

    #[test]
    fn the_clip_stays_small() {
        let bytes = include_bytes!("clip/hd.h264").len()
            + include_bytes!("clip/sd.h264").len()
            + include_bytes!("clip/tone.opus").len();
        assert!(bytes <= 1_500_000, "{bytes}");
    }
}
