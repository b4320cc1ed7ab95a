//! The sequence parameter set: what a camera really sends (ITU-T H.264 §7.3.2.1.1, Annex E).

use super::bits::BitReader;
use super::h264::ProfileLevelId;

/// Profiles whose SPS tells chroma format, bit depth and scaling lists.
const WITH_CHROMA: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
const EXTENDED_SAR: u32 = 255;
/// Larger than any level allows; keeps the arithmetic within 32 bits.
const MAX_MACROBLOCKS: u32 = 4_096;

/// What matters of an SPS.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sps {
    /// profile_idc, constraint flags, level_idc.
    pub profile: ProfileLevelId,
    /// seq_parameter_set_id, 0–31.
    pub id: u8,
    /// Width in luma samples, cropping applied.
    pub width: u32,
    /// Height in luma samples, cropping applied.
    pub height: u32,
    /// Pictures are frames; otherwise the stream may be interlaced.
    pub progressive: bool,
    /// Frames per second that the VUI announces.
    pub frame_rate: Option<f64>,
    /// Most pictures that may precede another one in decoding order and follow it in output order; `None`
    /// where the SPS leaves it open, and decoders assume the worst.
    pub max_reorder: Option<u32>,
}

impl Sps {
    /// Reads an SPS NAL unit, its header included. `None` for anything that breaks the syntax or is cut.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let profile = ProfileLevelId::of_sps(nal)?;
        let bits = &mut BitReader::new(nal.get(4..)?);
        let id = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
        let mut chroma_format = 1;
        let mut separate_planes = false;
        if WITH_CHROMA.contains(&profile.0[0]) {
            chroma_format = bits.ue().filter(|format| *format <= 3)?;
            separate_planes = chroma_format == 3 && bits.bit()?;
            // Bit depths; the transform bypass.
            bits.ue()?;
            bits.ue()?;
            bits.bit()?;
            if bits.bit()? {
                skip_scaling_matrix(bits, if chroma_format == 3 { 12 } else { 8 })?;
            }
        }
        bits.ue()?; // log2_max_frame_num_minus4
        let poc_type = bits.ue()?;
        skip_picture_order(bits, poc_type)?;
        bits.ue()?; // max_num_ref_frames
        bits.bit()?; // gaps_in_frame_num_value_allowed_flag
        let mut macroblocks = || bits.ue()?.checked_add(1).filter(|count| *count <= MAX_MACROBLOCKS);
        let (columns, rows) = (macroblocks()?, macroblocks()?);
        let progressive = bits.bit()?;
        if !progressive {
            bits.bit()?; // mb_adaptive_frame_field_flag
        }
        bits.bit()?; // direct_8x8_inference_flag
        let fields = if progressive { 1 } else { 2 };
        let (mut width, mut height) = (columns * 16, rows * 16 * fields);
        if bits.bit()? {
            let (horizontal, vertical) = match chroma_format {
                _ if separate_planes => (1, 1),
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            let mut crop = |unit: u32| bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit);
            width = width.checked_sub(crop(horizontal)?).filter(|width| *width > 0)?;
            height = height.checked_sub(crop(vertical * fields)?).filter(|height| *height > 0)?;
        }
        let mut sps = Self { profile, id, width, height, progressive, frame_rate: None, max_reorder: None };
        if bits.bit()? {
            // What stands before is of use even if the VUI is cut.
            let _ = sps.read_vui(bits);
        }
        // With this type output order is decoding order; so it is in the intra-only and baseline profiles.
        if poc_type == 2 || profile.0[0] == 66 {
            sps.max_reorder = Some(0);
        }
        Some(sps)
    }

    fn read_vui(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        if bits.bit()? && bits.bits(8)? == EXTENDED_SAR {
            bits.bits(32)?;
        }
        if bits.bit()? {
            bits.bit()?; // overscan
        }
        if bits.bit()? {
            bits.bits(4)?; // video_format, full range
            if bits.bit()? {
                bits.bits(24)?; // colour description
            }
        }
        if bits.bit()? {
            // Chroma location.
            bits.ue()?;
            bits.ue()?;
        }
        if bits.bit()? {
            let (tick, scale) = (bits.bits(32)?, bits.bits(32)?);
            bits.bit()?; // fixed_frame_rate_flag
            // A tick is the time of a field: two of them make a frame.
            let rate = f64::from(scale) / (2.0 * f64::from(tick));
            self.frame_rate = (tick != 0 && scale != 0 && rate <= 1_000.0).then_some(rate);
        }
        let nal_hrd = bits.bit()?;
        if nal_hrd {
            skip_hrd(bits)?;
        }
        let vcl_hrd = bits.bit()?;
        if vcl_hrd {
            skip_hrd(bits)?;
        }
        if nal_hrd || vcl_hrd {
            bits.bit()?; // low_delay_hrd_flag
        }
        bits.bit()?; // pic_struct_present_flag
        if bits.bit()? {
            bits.bit()?; // motion_vectors_over_pic_boundaries_flag
            for _ in 0..4 {
                bits.ue()?;
            }
            self.max_reorder = Some(bits.ue()?);
        }
        Some(())
    }
}

fn skip_scaling_matrix(bits: &mut BitReader<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !bits.bit()? {
            continue;
        }
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = last.wrapping_add(bits.se()?) & 0xff;
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut BitReader<'_>, kind: u32) -> Option<()> {
    match kind {
        0 => drop(bits.ue()?),
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            let count = bits.ue().filter(|count| *count <= 255)?;
            for _ in 0..count {
                bits.se()?;
            }
        }
        2 => {}
        _ => return None,
    }
    Some(())
}

fn skip_hrd(bits: &mut BitReader<'_>) -> Option<()> {
    let count = bits.ue().filter(|count| *count <= 31)? + 1;
    bits.bits(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
    }
    bits.bits(20)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// Written by x264 for pictures of the named sizes and rates.
    const HIGH_1080P30: &str = "67640028acd940780227e5c044000003000400000300f03c60c658";
    const MAIN_480P15: &str = "674d4016d900a03db0110000030001000003001e0f162e48";
    const BASELINE_720P25: &str = "6742c01fd9005005bb011000000300100000030320f1832480";
    const INTERLACED_1080: &str = "67640028acd94078044fde0220000003002000000643e2c5b2c0";
    const HIGH_422_WITH_MATRIX: &str = "677a001eb6cd940b4126c044000003000400000300c83c58b658";
    const HIGH_444_WITH_HRD: &str = "67f4002a919b280f2044f1f3e02200000300020000030028c08001e848003d09c96500f1831960";

    #[test]
    fn real_parameter_sets_of_each_profile_are_read() {
        for (text, profile, size, rate, reorder, progressive) in [
            (HIGH_1080P30, "640028", (1920, 1080), 30.0, Some(2), true),
            (MAIN_480P15, "4d4016", (640, 480), 15.0, Some(0), true),
            (BASELINE_720P25, "42c01f", (1280, 720), 25.0, Some(0), true),
            (INTERLACED_1080, "640028", (1920, 1080), 25.0, Some(2), false),
            (HIGH_422_WITH_MATRIX, "7a001e", (720, 576), 25.0, Some(2), true),
            (HIGH_444_WITH_HRD, "f4002a", (1922, 1082), 10.0, Some(2), true),
        ] {
            let sps = Sps::parse(&hex(text)).unwrap();
            assert_eq!((sps.profile.to_string().as_str(), sps.width, sps.height), (profile, size.0, size.1), "{text}");
            assert_eq!(
                (sps.frame_rate, sps.max_reorder, sps.progressive),
                (Some(rate), reorder, progressive),
                "{text}"
            );
        }
    }

    #[test]
    fn every_beginning_of_an_sps_is_read_or_refused_and_never_misread() {
        for text in [HIGH_1080P30, MAIN_480P15, BASELINE_720P25, INTERLACED_1080, HIGH_422_WITH_MATRIX] {
            let whole = hex(text);
            let expected = Sps::parse(&whole).unwrap();
            for length in 0..whole.len() {
                if let Some(sps) = Sps::parse(&whole[..length]) {
                    // Only the VUI may be missing.
                    assert_eq!(
                        (sps.profile, sps.width, sps.height),
                        (expected.profile, expected.width, expected.height)
                    );
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn rubbish_never_panics(profile: u8, tail in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            if let Some(sps) = Sps::parse(&[&[0x67, profile, 0, 31][..], &tail].concat()) {
                assert!((1..=65_536).contains(&sps.width) && (1..=131_072).contains(&sps.height));
            }
        }
    }
}
