//! H.264 over RTP as views: which NAL units a payload holds, and where decoding can start (RFC 6184,
//! ITU-T H.264 §7.3.1).

use std::fmt;

use super::bits::BitReader;

/// A picture's slice that needs pictures before it.
pub(super) const NAL_SLICE: u8 = 1;
/// The first part of a slice whose data is partitioned.
pub(super) const NAL_PARTITION_A: u8 = 2;
/// A slice of an IDR picture: decoding can start here.
pub(super) const NAL_IDR: u8 = 5;
/// Supplemental information.
pub(super) const NAL_SEI: u8 = 6;
/// Sequence parameter set.
pub(super) const NAL_SPS: u8 = 7;
/// Picture parameter set.
pub(super) const NAL_PPS: u8 = 8;
/// Access unit delimiter.
pub(super) const NAL_AUD: u8 = 9;
/// Aggregate of NAL units of one time.
pub(super) const NAL_STAP_A: u8 = 24;
/// Fragment of a NAL unit.
pub(super) const NAL_FU_A: u8 = 28;
/// First fragment.
pub(super) const FU_START: u8 = 0x80;
/// Last fragment.
pub(super) const FU_END: u8 = 0x40;
const FORBIDDEN_BIT: u8 = 0x80;
const TYPE: u8 = 0x1f;

/// `profile-level-id`: profile_idc, constraint flags, level_idc as they stand in an SPS (RFC 6184 §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevelId(pub [u8; 3]);

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [profile, constraints, level] = self.0;
        write!(f, "{profile:02x}{constraints:02x}{level:02x}")
    }
}

impl ProfileLevelId {
    /// The three bytes behind the header of an SPS NAL unit.
    pub fn of_sps(nal: &[u8]) -> Option<Self> {
        Some(Self(*nal.get(1..4)?.first_chunk()?))
    }
}

/// The type of a NAL unit by its first byte; 0 for none.
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & TYPE)
}

/// How a payload, or a unit in it, breaks RFC 6184 with packetization-mode 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No byte at all.
    Empty,
    /// The forbidden bit is set: somebody before us saw damage (§1.3).
    ForbiddenBit,
    /// Types 0, 30 and 31, which nobody has defined.
    ReservedType,
    /// STAP-B, MTAP and FU-B: only for the interleaved mode.
    Interleaved,
    /// A fragment without content.
    EmptyFragment,
    /// A fragment that continues nothing.
    FragmentWithoutStart,
    /// A fragmented unit that was never finished, although nothing was lost.
    FragmentWithoutEnd,
    /// A unit of size zero in an aggregate, or an aggregate of nothing.
    EmptyUnit,
    /// A unit in an aggregate that exceeds it.
    TruncatedUnit,
    /// An aggregate or fragment inside an aggregate or fragment.
    Nested,
}

impl Fault {
    /// Every fault, in the order of its counter.
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::ForbiddenBit,
        Self::ReservedType,
        Self::Interleaved,
        Self::EmptyFragment,
        Self::FragmentWithoutStart,
        Self::FragmentWithoutEnd,
        Self::EmptyUnit,
        Self::TruncatedUnit,
        Self::Nested,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ForbiddenBit => "forbidden_bit",
            Self::ReservedType => "reserved_type",
            Self::Interleaved => "interleaved",
            Self::EmptyFragment => "empty_fragment",
            Self::FragmentWithoutStart => "fragment_without_start",
            Self::FragmentWithoutEnd => "fragment_without_end",
            Self::EmptyUnit => "empty_unit",
            Self::TruncatedUnit => "truncated_unit",
            Self::Nested => "nested",
        }
    }
}

/// An RTP payload of packetization-mode 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// One NAL unit (§5.6).
    Single(&'a [u8]),
    /// STAP-A (§5.7.1); its units may still have faults.
    Aggregate(Units<'a>),
    /// FU-A (§5.8).
    Fragment(Fragment<'a>),
}

/// A fragment of a NAL unit; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The header of the whole unit.
    pub header: u8,
    /// The first one.
    pub start: bool,
    /// The last one.
    pub end: bool,
    /// Bytes of the unit behind its header.
    pub body: &'a [u8],
}

impl<'a> Payload<'a> {
    /// Looks at a payload.
    ///
    /// # Errors
    ///
    /// [`Fault`]: it is not what RFC 6184 allows, and must not be forwarded.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Fault> {
        let (&indicator, rest) = payload.split_first().ok_or(Fault::Empty)?;
        if indicator & FORBIDDEN_BIT != 0 {
            return Err(Fault::ForbiddenBit);
        }
        match indicator & TYPE {
            1..=23 => Ok(Self::Single(payload)),
            NAL_STAP_A if rest.is_empty() => Err(Fault::EmptyUnit),
            NAL_STAP_A => Ok(Self::Aggregate(Units { rest })),
            NAL_FU_A => {
                let (&fu, body) = rest.split_first().ok_or(Fault::EmptyFragment)?;
                if body.is_empty() {
                    return Err(Fault::EmptyFragment);
                }
                check_inner(fu & TYPE)?;
                let (start, end) = (fu & FU_START != 0, fu & FU_END != 0);
                Ok(Self::Fragment(Fragment { header: indicator & !TYPE | fu & TYPE, start, end, body }))
            }
            25..=27 | 29 => Err(Fault::Interleaved),
            _ => Err(Fault::ReservedType),
        }
    }
}

fn check_inner(kind: u8) -> Result<(), Fault> {
    match kind {
        1..=23 => Ok(()),
        24..=29 => Err(Fault::Nested),
        _ => Err(Fault::ReservedType),
    }
}

/// The NAL units of an aggregate, one after the other; after a truncated one there is nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Units<'a> {
    type Item = Result<&'a [u8], Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((size, tail)) = rest.split_first_chunk::<2>() else { return Some(Err(Fault::TruncatedUnit)) };
        let Some((nal, after)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*size))) else {
            return Some(Err(Fault::TruncatedUnit));
        };
        self.rest = after;
        Some(match nal.first() {
            None => Err(Fault::EmptyUnit),
            Some(header) if header & FORBIDDEN_BIT != 0 => Err(Fault::ForbiddenBit),
            Some(header) => check_inner(header & TYPE).map(|()| nal),
        })
    }
}

/// What the beginning of a slice says (§7.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceStart {
    /// It is the first slice of its picture: it begins with macroblock 0.
    pub first: bool,
    /// It may refer to pictures that are shown later.
    pub bidirectional: bool,
}

impl SliceStart {
    /// Reads the bytes behind the header of a slice. `None` if they are no slice header.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(body);
        let first = bits.ue()? == 0;
        let kind = bits.ue().filter(|kind| *kind <= 9)?;
        Some(Self { first, bidirectional: kind % 5 == 1 })
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

/// Looks at one payload on its own. Never fails: what is odd contributes nothing.
pub fn scan(payload: &[u8]) -> PayloadScan {
    let mut found = PayloadScan::default();
    match Payload::parse(payload) {
        Ok(Payload::Single(nal)) => found.add(nal),
        Ok(Payload::Aggregate(units)) => units.flatten().for_each(|nal| found.add(nal)),
        Ok(Payload::Fragment(Fragment { header, start, .. })) => {
            found.begins_keyframe = start && matches!(header & TYPE, NAL_IDR | NAL_SPS);
        }
        Err(_) => {}
    }
    found
}

/// Whether a keyframe that begins with this payload lacks nothing: it holds an SPS, or announces a picture (H.264
/// §7.4.1.2.3).
pub fn leads(payload: &[u8]) -> bool {
    let leads = |nal: &[u8]| matches!(nal_type(nal), NAL_SPS | NAL_AUD);
    match Payload::parse(payload) {
        Ok(Payload::Single(nal)) => leads(nal),
        Ok(Payload::Aggregate(units)) => units.flatten().any(leads),
        _ => false,
    }
}

impl PayloadScan {
    fn add(&mut self, nal: &[u8]) {
        match nal_type(nal) {
            NAL_IDR => self.begins_keyframe = true,
            NAL_SPS => {
                self.begins_keyframe = true;
                self.profile = ProfileLevelId::of_sps(nal).or(self.profile);
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
    fn a_keyframe_lacks_nothing_from_its_parameters_or_its_delimiter_on() {
        let stap = [&[24, 0, 5][..], &SPS, &[0, 2, 0x68, 1]].concat();
        for (payload, expected) in [
            (&SPS[..], true),
            (&stap, true),
            (&[9, 0x10], true),
            (&[0x68, 1], false),
            (&[0x65, 1, 2], false),
            (&[], false),
        ] {
            assert_eq!(leads(payload), expected, "{payload:x?}");
        }
    }

    #[test]
    fn other_slices_later_fragments_and_rubbish_do_not() {
        for payload in
            [&[][..], &[0x41, 1], &[0x7c], &[0x7c, 0x05, 0], &[0x7c, 0x85], &[24], &[24, 0, 0], &[24, 0xff, 0xff, 0x67]]
        {
            assert_eq!(scan(payload), PayloadScan::default(), "{payload:x?}");
        }
    }

    #[test]
    fn a_short_sps_has_no_profile() {
        assert_eq!(scan(&SPS[..3]), PayloadScan { begins_keyframe: true, profile: None });
    }

    #[test]
    fn each_illegal_payload_has_its_fault() {
        for (payload, fault) in [
            (&[][..], Fault::Empty),
            (&[0xe5, 1], Fault::ForbiddenBit),
            (&[0x60], Fault::ReservedType),
            (&[0x7e, 1], Fault::ReservedType),
            (&[0x7f, 1], Fault::ReservedType),
            (&[0x79, 0, 0, 0, 1, 0x65], Fault::Interleaved),
            (&[0x7a, 0], Fault::Interleaved),
            (&[0x7b, 0], Fault::Interleaved),
            (&[0x7d, 0x85, 0, 1, 2], Fault::Interleaved),
            (&[0x7c], Fault::EmptyFragment),
            (&[0x7c, 0x85], Fault::EmptyFragment),
            (&[0x7c, 0x80, 1], Fault::ReservedType),
            (&[0x7c, 0x9c, 1], Fault::Nested),
            (&[0x78], Fault::EmptyUnit),
        ] {
            assert_eq!(Payload::parse(payload), Err(fault), "{payload:x?}");
        }
    }

    #[test]
    fn an_aggregate_gives_its_good_units_and_names_the_others() {
        let payload = [0x78, 0, 0, 0, 2, 0x65, 1, 0, 1, 0x78, 0, 1, 0xe5, 0, 1, 0x41, 0, 9, 0x41];
        let Ok(Payload::Aggregate(units)) = Payload::parse(&payload) else { panic!() };
        let expected = [
            Err(Fault::EmptyUnit),
            Ok(&[0x65, 1][..]),
            Err(Fault::Nested),
            Err(Fault::ForbiddenBit),
            Ok(&[0x41]),
            Err(Fault::TruncatedUnit),
        ];
        assert_eq!(units.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_slice_tells_its_place_and_kind() {
        // ue(0) ue(5): P; ue(0) ue(6): B; ue(3) ue(7): I.
        let start = |body: &[u8]| SliceStart::parse(body).map(|slice| (slice.first, slice.bidirectional));
        assert_eq!(start(&[0b1001_1000]), Some((true, false)));
        assert_eq!(start(&[0b1001_1100]), Some((true, true)));
        assert_eq!(start(&[0b0010_0000, 0b1000_0000]), Some((false, false)));
        assert_eq!(start(&[]), None);
        assert_eq!(start(&[0, 0, 0, 0, 0]), None);
    }
}
