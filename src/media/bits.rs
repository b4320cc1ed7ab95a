//! Bits of an H.264 RBSP: fixed-length and Exp-Golomb codes with emulation prevention taken out on the way
//! (ITU-T H.264 §7.2, §7.4.1, §9.1). Every read is bounded by the bytes that are there.

/// Reads the bits of a NAL unit's payload, the bytes behind its header.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    rest: &'a [u8],
    /// Bits of the current byte that were not read yet.
    current: u8,
    left: u8,
    /// Zero bytes directly before `rest`.
    zeros: u8,
}

impl<'a> BitReader<'a> {
    /// A reader of the bytes behind a NAL unit's header.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, current: 0, left: 0, zeros: 0 }
    }

    /// One bit, or `None` behind the end.
    pub fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// `u(n)` for `n` up to 32.
    pub fn bits(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0u32, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    /// `ue(v)`: at most 31 leading zeros, which is all that any syntax element may have.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `se(v)`.
    pub fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let magnitude = code.div_ceil(2) as i32;
        Some(if code % 2 == 1 { magnitude } else { -magnitude })
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (&first, tail) = self.rest.split_first()?;
        self.rest = tail;
        if self.zeros >= 2 && first == 3 {
            self.zeros = 0;
            return self.next_byte();
        }
        self.zeros = if first == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_read_as_the_standard_lists_them() {
        // 1 010 011 00100 00101, then se: 010 011 → 1, -1
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1010_0110]);
        assert_eq!([bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()], [0, 1, 2, 3, 4].map(Some));
        assert_eq!([bits.se(), bits.se()], [Some(1), Some(-1)]);
    }

    #[test]
    fn emulation_prevention_bytes_are_no_content() {
        let mut bits = BitReader::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!(bits.bits(24), Some(1));
        assert_eq!(bits.bits(16), Some(0));
        assert_eq!(bits.bit(), None);
    }

    #[test]
    fn a_code_without_end_is_none() {
        assert_eq!(BitReader::new(&[0; 64]).ue(), None);
        assert_eq!(BitReader::new(&[0, 0]).ue(), None);
        let longest = [0, 0, 3, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(BitReader::new(&longest).ue(), Some(u32::MAX - 1));
    }
}
