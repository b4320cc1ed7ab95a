//! The tone as PCMU, calculated: a fifth like that of the Opus file, in G.711 µ-law.

use std::f64::consts::TAU;
use std::sync::LazyLock;

/// Samples in a packet: 20 ms at 8 kHz.
pub(super) const PACKET_LEN: usize = 160;
const SAMPLE_RATE: f64 = 8_000.0;
/// Hz; whole numbers, so that a loop of seconds has no seam.
const FIFTH: [f64; 2] = [440.0, 660.0];
/// Of each, against the full scale of 16 bits.
const AMPLITUDE: f64 = 2_000.0;
/// A second.
const PACKETS: usize = 50;

static TONE: LazyLock<Vec<[u8; PACKET_LEN]>> = LazyLock::new(|| {
    let sample = |n: usize| {
        let time = n as f64 / SAMPLE_RATE;
        mu_law(FIFTH.iter().map(|pitch| AMPLITUDE * (TAU * pitch * time).sin()).sum::<f64>() as i16)
    };
    (0..PACKETS).map(|packet| std::array::from_fn(|n| sample(packet * PACKET_LEN + n))).collect()
});

/// The packets of the loop.
pub(super) fn tone() -> &'static [[u8; PACKET_LEN]] {
    &TONE
}

/// A sample as ITU-T G.711 table 2 has it.
fn mu_law(sample: i16) -> u8 {
    /// Lifts the smallest values into the first segment.
    const BIAS: u32 = 0x84;
    const CLIP: u32 = 32_635;
    let magnitude = u32::from(sample.unsigned_abs()).min(CLIP) + BIAS;
    // The highest bit is one of 7 to 14.
    let segment = magnitude.ilog2() - 7;
    let mantissa = (magnitude >> (segment + 3)) & 0xf;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (segment << 4) as u8 | mantissa as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decoder of ITU-T G.711.
    fn linear(byte: u8) -> i32 {
        let byte = !byte;
        let magnitude = ((i32::from(byte & 0xf) << 3) + 0x84) << ((byte >> 4) & 7);
        if byte & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }
    }

    #[test]
    fn samples_are_those_of_the_recommendation() {
        for (sample, byte) in [(0, 0xff), (-1, 0x7f), (i16::MAX, 0x80), (i16::MIN, 0x00), (8_031, 0xa0), (-8_031, 0x20)]
        {
            assert_eq!(mu_law(sample), byte, "{sample}");
        }
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            let off = (linear(mu_law(sample)) - i32::from(sample)).abs();
            // Half a step, and what is clipped.
            assert!(off <= 16 + i32::from(sample).abs() / 24, "{sample} became {off} off");
        }
    }

    #[test]
    fn the_loop_is_a_second_without_a_seam() {
        let samples: Vec<i32> = tone().iter().flatten().map(|byte| linear(*byte)).collect();
        assert_eq!(samples.len(), 8_000);
        let loudest = samples.iter().map(|sample| sample.abs()).max().unwrap();
        assert!((3_000..4_200).contains(&loudest), "{loudest}");
        let steps = samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max().unwrap();
        assert!((samples[0] - samples[7_999]).abs() <= steps);
    }
}
