//! Numbers that came off a wire, each with its wrap-around rules inside.

use std::fmt;

/// Synchronisation source of an RTP stream (RFC 3550 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 16-bit RTP sequence number as it stands in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

/// A sequence number extended by the count of wrap-arounds: comparable, never wraps in practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// The extended number of `seq` that lies nearest to `self`.
    pub fn extend(self, seq: SeqNo) -> Self {
        let delta = i64::from(seq.0.wrapping_sub(self.0 as u16) as i16);
        Self(self.0.saturating_add_signed(delta))
    }

    /// The lower 16 bits, as they go into a packet.
    pub fn wire(self) -> SeqNo {
        SeqNo(self.0 as u16)
    }
}

/// An RTP timestamp extended to 64 bits, in units of its track's clock rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RtpTime(pub u64);

impl RtpTime {
    /// The extended timestamp of `wire` that lies nearest to `self`.
    pub fn extend(self, wire: u32) -> Self {
        let delta = i64::from(wire.wrapping_sub(self.0 as u32) as i32);
        Self(self.0.saturating_add_signed(delta))
    }

    /// The lower 32 bits, as they go into a packet.
    pub fn wire(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_extends_to_the_nearest_both_ways() {
        let at = ExtSeq(0x1_fffe);
        assert_eq!(at.extend(SeqNo(1)), ExtSeq(0x2_0001));
        assert_eq!(at.extend(SeqNo(0xfff0)), ExtSeq(0x1_fff0));
        assert_eq!(ExtSeq(0x2_0001).extend(SeqNo(0xffff)), ExtSeq(0x1_ffff));
    }

    #[test]
    fn a_timestamp_extends_across_its_wrap() {
        let at = RtpTime(0x1_ffff_ff00);
        assert_eq!(at.extend(0x100), RtpTime(0x2_0000_0100));
        assert_eq!(RtpTime(0x2_0000_0100).extend(0xffff_ff00), RtpTime(0x1_ffff_ff00));
    }
}
