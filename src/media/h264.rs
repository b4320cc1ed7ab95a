//! Just enough H.264 over RTP to find where decoding can start (RFC 6184, ITU-T H.264 §7.3.1).

use std::fmt;

const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;
const FU_START: u8 = 0x80;

/// `profile-level-id`: profile_idc, constraint flags, level_idc as they stand in an SPS (RFC 6184 §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevelId(pub [u8; 3]);

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [profile, constraints, level] = self.0;
        write!(f, "{profile:02x}{constraints:02x}{level:02x}")
    }
}

/// What one RTP payload contributes to finding a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadScan {
    /// It holds an SPS or the beginning of an IDR slice.
    pub begins_keyframe: bool,
    /// The profile of an SPS in it.
    pub profile: Option<ProfileLevelId>,
}

/// Looks at an RTP payload of packetization-mode 0 or 1. Never fails: what is odd contributes nothing.
pub fn scan(payload: &[u8]) -> PayloadScan {
    let mut found = PayloadScan::default();
    match payload {
        [indicator, rest @ ..] if indicator & 0x1f == NAL_STAP_A => {
            let mut rest = rest;
            while let [high, low, tail @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((nal, after)) = tail.split_at_checked(size) else { break };
                found.add(nal);
                rest = after;
            }
        }
        [indicator, header, ..] if indicator & 0x1f == NAL_FU_A => {
            found.begins_keyframe = header & FU_START != 0 && matches!(header & 0x1f, NAL_IDR | NAL_SPS);
        }
        nal => found.add(nal),
    }
    found
}

impl PayloadScan {
    fn add(&mut self, nal: &[u8]) {
        match nal.first().map(|header| header & 0x1f) {
            Some(NAL_IDR) => self.begins_keyframe = true,
            Some(NAL_SPS) => {
                self.begins_keyframe = true;
                if let Some(&[a, b, c]) = nal.get(1..4) {
                    self.profile = Some(ProfileLevelId([a, b, c]));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: [u8; 5] = [0x67, 0x42, 0xe0, 0x1f, 0xaa];

    #[test]
    fn sps_idr_and_their_aggregates_and_first_fragments_begin_a_keyframe() {
        let stap = [&[24, 0, 5][..], &SPS, &[0, 2, 0x68, 1]].concat();
        for payload in [&SPS[..], &[0x65, 1, 2], &stap, &[0x7c, 0x85, 0]] {
            assert!(scan(payload).begins_keyframe, "{payload:x?}");
        }
        assert_eq!(scan(&stap).profile.unwrap().to_string(), "42e01f");
    }

    #[test]
    fn other_slices_later_fragments_and_rubbish_do_not() {
        for payload in
            [&[][..], &[0x41, 1], &[0x7c], &[0x7c, 0x05, 0], &[0x7c, 0x81], &[24], &[24, 0, 0], &[24, 0xff, 0xff, 0x67]]
        {
            assert_eq!(scan(payload), PayloadScan::default(), "{payload:x?}");
        }
    }

    #[test]
    fn a_short_sps_has_no_profile() {
        assert_eq!(scan(&SPS[..3]), PayloadScan { begins_keyframe: true, profile: None });
    }
}
