//! RTP packets as views: one constructor validates, accessors cannot fail (RFC 3550 §5.1).

use std::ops::Range;

use bytes::Bytes;

use super::id::{SeqNo, Ssrc};

/// Length of the fixed header in bytes.
pub const FIXED_HEADER_LEN: usize = 12;

/// What a datagram on a port that takes RTP and RTCP is, by its first two bytes (RFC 5761 §4, RFC 7983).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// An RTP packet.
    Rtp,
    /// An RTCP packet (payload types 192–223).
    Rtcp,
    /// Neither.
    Other,
}

/// Sorts a datagram without parsing it.
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match datagram {
        [first, second, ..] if first >> 6 == 2 => match second {
            192..=223 => DatagramKind::Rtcp,
            _ => DatagramKind::Rtp,
        },
        _ => DatagramKind::Other,
    }
}

/// Why bytes are not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtpError {
    /// Shorter than the header that its first byte announces.
    #[error("shorter than its RTP header")]
    TooShort,
    /// Not version 2.
    #[error("RTP version is not 2")]
    Version,
    /// The header extension does not fit into the packet.
    #[error("RTP header extension exceeds the packet")]
    Extension,
    /// The padding count is zero or exceeds the payload.
    #[error("RTP padding exceeds the packet")]
    Padding,
}

/// A validated RTP packet that owns (a share of) its bytes.
#[derive(Debug, Clone)]
pub struct RtpPacket {
    bytes: Bytes,
    payload: Range<u16>,
}

impl RtpPacket {
    /// Validates a datagram of at most 65,535 bytes.
    ///
    /// # Errors
    ///
    /// [`RtpError`] names the first rule of RFC 3550 §5.1 that the bytes break.
    pub fn parse(bytes: Bytes) -> Result<Self, RtpError> {
        let payload = payload_range(&bytes)?;
        Ok(Self { bytes, payload })
    }

    /// Seven-bit payload type.
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    /// The marker bit; for video the last packet of an access unit.
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// Sequence number.
    pub fn seq(&self) -> SeqNo {
        SeqNo(u16::from_be_bytes([self.bytes[2], self.bytes[3]]))
    }

    /// Timestamp in units of the payload's clock rate.
    pub fn timestamp(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// Synchronisation source.
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]]))
    }

    /// Payload without padding. May be empty.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(usize::from(self.payload.start)..usize::from(self.payload.end))
    }

    /// The whole packet as received.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn payload_range(bytes: &[u8]) -> Result<Range<u16>, RtpError> {
    if bytes.len() < FIXED_HEADER_LEN || bytes.len() > usize::from(u16::MAX) {
        return Err(RtpError::TooShort);
    }
    if bytes[0] >> 6 != 2 {
        return Err(RtpError::Version);
    }
    let (has_padding, has_extension) = (bytes[0] & 0x20 != 0, bytes[0] & 0x10 != 0);
    let mut start = FIXED_HEADER_LEN + 4 * usize::from(bytes[0] & 0x0f);
    if start > bytes.len() {
        return Err(RtpError::TooShort);
    }
    if has_extension {
        // Four bytes (profile, length in 32-bit words), then the words (RFC 3550 §5.3.1).
        let header = bytes.get(start..start + 4).ok_or(RtpError::Extension)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
        if start > bytes.len() {
            return Err(RtpError::Extension);
        }
    }
    let mut end = bytes.len();
    if has_padding {
        let padding = usize::from(bytes[end - 1]);
        if padding == 0 || padding > end - start {
            return Err(RtpError::Padding);
        }
        end -= padding;
    }
    // Both fit: the length was bounded by u16::MAX above.
    Ok(start as u16..end as u16)
}

/// The fields of a header to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Seven-bit payload type.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub seq: SeqNo,
    /// Timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: Ssrc,
}

impl RtpHeader {
    /// The fixed header without CSRCs, padding or extension.
    pub fn to_bytes(self) -> [u8; FIXED_HEADER_LEN] {
        let mut out = [0; FIXED_HEADER_LEN];
        out[0] = 0x80;
        out[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        out[2..4].copy_from_slice(&self.seq.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
        out
    }
}

/// Length of what [`two_byte_extension`] writes.
pub const EXTENSION_LEN: usize = 8;

/// A header extension block with one element of two bytes in the one-byte form (RFC 8285 §4.2); `id` is 1 to 14.
/// It follows the fixed header, whose extension bit ([`EXTENSION_BIT`]) is to be set.
pub fn two_byte_extension(id: u8, value: u16) -> [u8; EXTENSION_LEN] {
    let [high, low] = value.to_be_bytes();
    [0xbe, 0xde, 0, 1, id << 4 | 1, high, low, 0]
}

/// In the first byte of a packet that has an extension.
pub const EXTENSION_BIT: u8 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Bytes {
        let mut bytes = vec![first, 0x80 | 103, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7];
        bytes.extend_from_slice(rest);
        Bytes::from(bytes)
    }

    #[test]
    fn header_fields_and_payload_are_read() {
        let p = RtpPacket::parse(packet(0x80, b"abc")).unwrap();
        assert_eq!((p.payload_type(), p.marker()), (103, true));
        assert_eq!((p.seq(), p.timestamp(), p.ssrc()), (SeqNo(0x1234), 9, Ssrc(7)));
        assert_eq!(&p.payload()[..], b"abc");
    }

    #[test]
    fn csrcs_extension_and_padding_are_skipped() {
        let rest = [&[1, 1, 1, 1][..], &[0xbe, 0xde, 0, 1, 9, 9, 9, 9], b"abc", &[0, 0, 3]].concat();
        let p = RtpPacket::parse(packet(0xb1, &rest)).unwrap();
        assert_eq!(&p.payload()[..], b"abc");
    }

    #[test]
    fn lying_lengths_are_refused() {
        assert_eq!(RtpPacket::parse(packet(0x8f, &[0; 8])).unwrap_err(), RtpError::TooShort);
        assert_eq!(RtpPacket::parse(packet(0x90, &[0, 0, 0, 2, 1, 2, 3, 4])).unwrap_err(), RtpError::Extension);
        assert_eq!(RtpPacket::parse(packet(0xa0, &[1, 2, 9])).unwrap_err(), RtpError::Padding);
        assert_eq!(RtpPacket::parse(packet(0xa0, &[1, 2, 0])).unwrap_err(), RtpError::Padding);
        assert_eq!(RtpPacket::parse(packet(0x40, b"abc")).unwrap_err(), RtpError::Version);
    }

    #[test]
    fn no_truncation_of_a_valid_packet_panics() {
        let rest = [&[1, 1, 1, 1][..], &[0xbe, 0xde, 0, 1, 9, 9, 9, 9], b"abc", &[0, 0, 3]].concat();
        let full = packet(0xb1, &rest);
        for len in 0..full.len() {
            let _ = RtpPacket::parse(full.slice(..len));
        }
    }

    #[test]
    fn a_written_header_reads_back() {
        let header =
            RtpHeader { payload_type: 96, marker: false, seq: SeqNo(65_535), timestamp: 1 << 31, ssrc: Ssrc(42) };
        let p = RtpPacket::parse(Bytes::copy_from_slice(&header.to_bytes())).unwrap();
        assert_eq!(
            (p.payload_type(), p.marker(), p.seq(), p.timestamp(), p.ssrc()),
            (96, false, SeqNo(65_535), 1 << 31, Ssrc(42))
        );
    }

    #[test]
    fn a_written_extension_is_skipped_by_readers() {
        let mut bytes = packet(0x80 | EXTENSION_BIT, &two_byte_extension(5, 0x1234)).to_vec();
        bytes.extend_from_slice(b"abc");
        let p = RtpPacket::parse(bytes.into()).unwrap();
        assert_eq!(&p.payload()[..], b"abc");
        assert_eq!(p.as_bytes()[16..20], [0x51, 0x12, 0x34, 0]);
    }

    #[test]
    fn stun_http_and_dtls_are_neither_rtp_nor_rtcp() {
        assert_eq!(classify(&[0, 1, 0, 0]), DatagramKind::Other);
        assert_eq!(classify(b"GET / HTTP/1.1"), DatagramKind::Other);
        assert_eq!(classify(&[22, 254, 253]), DatagramKind::Other);
        assert_eq!(classify(&[0x80, 200]), DatagramKind::Rtcp);
        assert_eq!(classify(&[0x80, 0xe7]), DatagramKind::Rtp);
        assert_eq!(classify(&[0x80]), DatagramKind::Other);
    }
}
