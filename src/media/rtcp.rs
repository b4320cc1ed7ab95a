//! RTCP compound packets: what cameras and browsers send, and what we send (RFC 3550 §6, RFC 4585,
//! RFC 5104, draft-alvestrand-rmcat-remb).
//!
//! Reading walks the compound without allocating; a block that is malformed ends the walk with an error.

use super::id::{SeqNo, Ssrc};
use super::transport_cc::TransportFeedback;

/// Why bytes are not RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtcpError {
    /// A header or body is cut short.
    #[error("RTCP packet is cut short")]
    TooShort,
    /// Not version 2.
    #[error("RTCP version is not 2")]
    Version,
    /// A count or length field contradicts the packet's length.
    #[error("RTCP count or length field contradicts the packet")]
    Length,
}

/// A report block of an SR or RR (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source that is reported on.
    pub ssrc: u32,
    /// Fraction lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, 24 bits, signed.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_seq: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last SR received, or 0.
    pub last_sr: u32,
    /// Delay since that SR in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// Sender information of an SR (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender's SSRC.
    pub ssrc: Ssrc,
    /// 64-bit NTP timestamp.
    pub ntp: u64,
    /// The same instant on the media clock.
    pub rtp_time: u32,
    /// Packets sent so far.
    pub packets: u32,
    /// Payload bytes sent so far.
    pub octets: u32,
}

/// One block of a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtcpBlock<'a> {
    /// Sender report.
    SenderReport(SenderInfo, ReportBlocks<'a>),
    /// Receiver report and who sent it.
    ReceiverReport(Ssrc, ReportBlocks<'a>),
    /// Goodbye of these sources.
    Bye(SsrcList<'a>),
    /// Picture loss indication for a media source.
    Pli {
        /// The source whose picture was lost.
        media: Ssrc,
    },
    /// Full intra request; one entry per media source.
    Fir(FirEntries<'a>),
    /// Generic NACK.
    Nack {
        /// The source that is incomplete.
        media: Ssrc,
        /// Which packets.
        lost: NackList<'a>,
    },
    /// Receiver estimated maximum bitrate.
    Remb {
        /// Bits per second for all named sources together.
        bitrate: u64,
        /// The sources.
        sources: SsrcList<'a>,
    },
    /// Arrival times of packets (transport-wide congestion control).
    Arrivals(TransportFeedback<'a>),
    /// Any well-formed block that honeycast has no use for (SDES, APP, XR, …): packet type and count/format.
    Other {
        /// RTCP packet type.
        packet_type: u8,
        /// Count or feedback message type.
        format: u8,
    },
}

const PT_SR: u8 = 200;
const PT_RR: u8 = 201;
const PT_SDES: u8 = 202;
const PT_BYE: u8 = 203;
const PT_RTPFB: u8 = 205;
const PT_PSFB: u8 = 206;
const FMT_NACK: u8 = 1;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const FMT_AFB: u8 = 15;
const FMT_TRANSPORT_CC: u8 = 15;
const REMB_ID: &[u8] = b"REMB";
const REPORT_BLOCK_LEN: usize = 24;

/// Walks the blocks of a compound (or reduced-size, RFC 5506) packet.
pub fn blocks(packet: &[u8]) -> Blocks<'_> {
    Blocks { rest: packet, failed: false }
}

/// Iterator of [`blocks`]. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Blocks<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<RtcpBlock<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let item = split_block(self.rest).and_then(|(header, body, rest)| {
            self.rest = rest;
            parse_block(header, body)
        });
        self.failed = item.is_err();
        Some(item)
    }
}

/// A block as (count or format and packet type, body without padding, what follows).
type SplitBlock<'a> = ([u8; 2], &'a [u8], &'a [u8]);

/// Cuts off the first block.
fn split_block(bytes: &[u8]) -> Result<SplitBlock<'_>, RtcpError> {
    let (header, _) = bytes.split_first_chunk::<4>().ok_or(RtcpError::TooShort)?;
    if header[0] >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    let len = 4 + 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
    if len > bytes.len() {
        return Err(RtcpError::TooShort);
    }
    let (block, rest) = bytes.split_at(len);
    let mut body = &block[4..];
    if header[0] & 0x20 != 0 {
        let padding = usize::from(*body.last().ok_or(RtcpError::Length)?);
        if padding == 0 || padding > body.len() {
            return Err(RtcpError::Length);
        }
        body = &body[..body.len() - padding];
    }
    Ok(([header[0] & 0x1f, header[1]], body, rest))
}

fn parse_block([count, packet_type]: [u8; 2], body: &[u8]) -> Result<RtcpBlock<'_>, RtcpError> {
    let media = || read_u32(body, 4).map(Ssrc);
    Ok(match (packet_type, count) {
        (PT_SR, _) => {
            let info = SenderInfo {
                ssrc: Ssrc(read_u32(body, 0)?),
                ntp: (u64::from(read_u32(body, 4)?) << 32) | u64::from(read_u32(body, 8)?),
                rtp_time: read_u32(body, 12)?,
                packets: read_u32(body, 16)?,
                octets: read_u32(body, 20)?,
            };
            RtcpBlock::SenderReport(info, ReportBlocks::new(count, &body[24..])?)
        }
        (PT_RR, _) => {
            let sender = Ssrc(read_u32(body, 0)?);
            RtcpBlock::ReceiverReport(sender, ReportBlocks::new(count, &body[4..])?)
        }
        (PT_BYE, _) => RtcpBlock::Bye(SsrcList::new(count, body)?),
        (PT_RTPFB, FMT_NACK) => RtcpBlock::Nack { media: media()?, lost: NackList(&body[8..]) },
        (PT_RTPFB, FMT_TRANSPORT_CC) => {
            media()?;
            RtcpBlock::Arrivals(TransportFeedback::new(&body[8..])?)
        }
        (PT_PSFB, FMT_PLI) => RtcpBlock::Pli { media: media()? },
        (PT_PSFB, FMT_FIR) => {
            media()?;
            RtcpBlock::Fir(FirEntries(&body[8..]))
        }
        (PT_PSFB, FMT_AFB) if body.get(8..12) == Some(REMB_ID) => {
            let word = read_u32(body, 12)?;
            let exponent = (word >> 18) & 0x3f;
            let mantissa = u64::from(word & 0x3_ffff);
            // An exponent beyond 46 cannot be held in 64 bits; nobody means that rate.
            let bitrate = if exponent > 46 { u64::MAX } else { mantissa << exponent };
            RtcpBlock::Remb { bitrate, sources: SsrcList::new((word >> 24) as u8, &body[16..])? }
        }
        _ => RtcpBlock::Other { packet_type, format: count },
    })
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, RtcpError> {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(RtcpError::Length),
    }
}

/// Report blocks of one SR or RR; the length was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl<'a> ReportBlocks<'a> {
    fn new(count: u8, body: &'a [u8]) -> Result<Self, RtcpError> {
        let len = usize::from(count) * REPORT_BLOCK_LEN;
        body.get(..len).map(Self).ok_or(RtcpError::Length)
    }

    /// The blocks in their order. Browsers put the RTX source first: match by SSRC, never by position.
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.0.chunks_exact(REPORT_BLOCK_LEN).map(|b| {
            let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            ReportBlock {
                ssrc: word(0),
                fraction_lost: b[4],
                // Sign-extends the 24-bit field.
                cumulative_lost: ((word(4) << 8) as i32) >> 8,
                highest_seq: word(8),
                jitter: word(12),
                last_sr: word(16),
                delay_since_last_sr: word(20),
            }
        })
    }
}

/// A list of SSRCs; the length was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SsrcList<'a>(&'a [u8]);

impl<'a> SsrcList<'a> {
    fn new(count: u8, body: &'a [u8]) -> Result<Self, RtcpError> {
        body.get(..usize::from(count) * 4).map(Self).ok_or(RtcpError::Length)
    }

    /// The sources in their order.
    pub fn iter(&self) -> impl Iterator<Item = Ssrc> + 'a {
        self.0.chunks_exact(4).map(|b| Ssrc(u32::from_be_bytes([b[0], b[1], b[2], b[3]])))
    }
}

/// Entries of a FIR (RFC 5104 §4.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntries<'a>(&'a [u8]);

impl<'a> FirEntries<'a> {
    /// Media source and command sequence number of each entry.
    pub fn iter(&self) -> impl Iterator<Item = (Ssrc, u8)> + 'a {
        self.0.chunks_exact(8).map(|b| (Ssrc(u32::from_be_bytes([b[0], b[1], b[2], b[3]])), b[4]))
    }
}

/// PID/BLP pairs of a generic NACK (RFC 4585 §6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NackList<'a>(&'a [u8]);

impl<'a> NackList<'a> {
    /// The missing sequence numbers; up to 17 per pair.
    pub fn iter(&self) -> impl Iterator<Item = SeqNo> + 'a {
        self.0.chunks_exact(4).flat_map(|b| {
            let (first, mask) = (u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]]));
            let following =
                (0..16).filter(move |bit| mask & (1 << bit) != 0).map(move |bit| first.wrapping_add(bit + 1));
            std::iter::once(first).chain(following).map(SeqNo)
        })
    }
}

/// Writes blocks one after the other into a compound packet.
#[derive(Debug, Default)]
pub struct RtcpWriter {
    bytes: Vec<u8>,
}

impl RtcpWriter {
    /// An empty compound.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sender report without report blocks.
    pub fn sender_report(&mut self, info: &SenderInfo) -> &mut Self {
        self.block(PT_SR, 0, |out| {
            out.extend_from_slice(&info.ssrc.0.to_be_bytes());
            out.extend_from_slice(&info.ntp.to_be_bytes());
            for word in [info.rtp_time, info.packets, info.octets] {
                out.extend_from_slice(&word.to_be_bytes());
            }
        })
    }

    /// A receiver report; at most 31 blocks are written.
    pub fn receiver_report(&mut self, sender: Ssrc, reports: &[ReportBlock]) -> &mut Self {
        let reports = &reports[..reports.len().min(31)];
        self.block(PT_RR, reports.len() as u8, |out| {
            out.extend_from_slice(&sender.0.to_be_bytes());
            for report in reports {
                let lost = (report.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32) & 0xff_ffff;
                out.extend_from_slice(&report.ssrc.to_be_bytes());
                out.extend_from_slice(&((u32::from(report.fraction_lost) << 24) | lost).to_be_bytes());
                for word in [report.highest_seq, report.jitter, report.last_sr, report.delay_since_last_sr] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
        })
    }

    /// Source description with a CNAME of at most 255 bytes (RFC 3550 §6.5.1).
    pub fn cname(&mut self, source: Ssrc, cname: &str) -> &mut Self {
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        self.block(PT_SDES, 1, |out| {
            out.extend_from_slice(&source.0.to_be_bytes());
            out.extend_from_slice(&[1, cname.len() as u8]);
            out.extend_from_slice(cname);
            // At least one zero ends the chunk, then up to the next 32-bit border.
            out.push(0);
            while out.len() % 4 != 0 {
                out.push(0);
            }
        })
    }

    /// Goodbye of one source.
    pub fn bye(&mut self, source: Ssrc) -> &mut Self {
        self.block(PT_BYE, 1, |out| out.extend_from_slice(&source.0.to_be_bytes()))
    }

    /// Picture loss indication (RFC 4585 §6.3.1).
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> &mut Self {
        self.block(PT_PSFB, FMT_PLI, |out| feedback_sources(out, sender, media))
    }

    /// Full intra request for one source; `command` grows with each new request (RFC 5104 §4.3.1).
    pub fn fir(&mut self, sender: Ssrc, media: Ssrc, command: u8) -> &mut Self {
        self.block(PT_PSFB, FMT_FIR, |out| {
            feedback_sources(out, sender, Ssrc(0));
            out.extend_from_slice(&media.0.to_be_bytes());
            out.extend_from_slice(&[command, 0, 0, 0]);
        })
    }

    /// Generic NACK of packets given in ascending order.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, lost: &[SeqNo]) -> &mut Self {
        self.block(PT_RTPFB, FMT_NACK, |out| {
            feedback_sources(out, sender, media);
            let mut lost = lost.iter().map(|s| s.0).peekable();
            while let Some(first) = lost.next() {
                let mut mask = 0u16;
                while let Some(distance) = lost.peek().map(|next| next.wrapping_sub(first)) {
                    if !(1..=16).contains(&distance) {
                        break;
                    }
                    mask |= 1 << (distance - 1);
                    lost.next();
                }
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&mask.to_be_bytes());
            }
        })
    }

    /// REMB for one source, rounded down to 18 significant bits.
    pub fn remb(&mut self, sender: Ssrc, bitrate: u64, source: Ssrc) -> &mut Self {
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let word = (1 << 24) | (exponent << 18) | (bitrate >> exponent) as u32;
        self.block(PT_PSFB, FMT_AFB, |out| {
            feedback_sources(out, sender, Ssrc(0));
            out.extend_from_slice(REMB_ID);
            out.extend_from_slice(&word.to_be_bytes());
            out.extend_from_slice(&source.0.to_be_bytes());
        })
    }

    /// The compound packet.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn block(&mut self, packet_type: u8, count: u8, body: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0x80 | count, packet_type, 0, 0]);
        body(&mut self.bytes);
        debug_assert_eq!(self.bytes.len() % 4, 0, "RTCP blocks are whole 32-bit words");
        let words = ((self.bytes.len() - start) / 4 - 1) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        self
    }
}

fn feedback_sources(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc) {
    out.extend_from_slice(&sender.0.to_be_bytes());
    out.extend_from_slice(&media.0.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Ssrc = Ssrc(1);
    const CAMERA: Ssrc = Ssrc(1_607_797_317);

    fn everything() -> Vec<u8> {
        let mut w = RtcpWriter::new();
        let report = ReportBlock {
            ssrc: CAMERA.0,
            fraction_lost: 12,
            cumulative_lost: -3,
            highest_seq: 0x1_0005,
            jitter: 77,
            last_sr: 5,
            delay_since_last_sr: 6,
        };
        w.sender_report(&SenderInfo { ssrc: US, ntp: 1 << 40, rtp_time: 9, packets: 10, octets: 11 })
            .receiver_report(US, &[report])
            .cname(US, "honeycast")
            .pli(US, CAMERA)
            .fir(US, CAMERA, 3)
            .nack(US, CAMERA, &[SeqNo(65_534), SeqNo(65_535), SeqNo(0), SeqNo(40)])
            .remb(US, 2_500_000, CAMERA)
            .bye(US);
        w.finish()
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = everything();
        let all: Vec<_> = blocks(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 8);
        assert!(matches!(all[0], RtcpBlock::SenderReport(info, _) if info.packets == 10 && info.ntp == 1 << 40));
        let RtcpBlock::ReceiverReport(US, reports) = all[1] else { panic!("{:?}", all[1]) };
        let report = reports.iter().next().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost, report.highest_seq), (12, -3, 0x1_0005));
        assert_eq!(all[2], RtcpBlock::Other { packet_type: 202, format: 1 });
        assert_eq!(all[3], RtcpBlock::Pli { media: CAMERA });
        let RtcpBlock::Fir(entries) = all[4] else { panic!("{:?}", all[4]) };
        assert_eq!(entries.iter().collect::<Vec<_>>(), [(CAMERA, 3)]);
        let RtcpBlock::Nack { media: CAMERA, lost } = all[5] else { panic!("{:?}", all[5]) };
        assert_eq!(lost.iter().map(|s| s.0).collect::<Vec<_>>(), [65_534, 65_535, 0, 40]);
        let RtcpBlock::Remb { bitrate, sources } = all[6] else { panic!("{:?}", all[6]) };
        assert_eq!((bitrate, sources.iter().next()), (2_500_000, Some(CAMERA)));
        assert!(matches!(all[7], RtcpBlock::Bye(sources) if sources.iter().eq([US])));
    }

    #[test]
    fn a_remb_keeps_18_significant_bits() {
        let mut w = RtcpWriter::new();
        w.remb(US, 5_000_001, CAMERA);
        let bytes = w.finish();
        let RtcpBlock::Remb { bitrate, .. } = blocks(&bytes).next().unwrap().unwrap() else { panic!() };
        assert!((4_999_900..=5_000_001).contains(&bitrate), "{bitrate}");
    }

    #[test]
    fn bad_counts_are_refused() {
        // RR that claims 31 blocks and carries none.
        assert_eq!(blocks(&[0x9f, 201, 0, 1, 0, 0, 0, 1]).next(), Some(Err(RtcpError::Length)));
        // Length field beyond the datagram.
        assert_eq!(blocks(&[0x80, 201, 0, 9, 0, 0, 0, 1]).next(), Some(Err(RtcpError::TooShort)));
        // Padding longer than the block.
        assert_eq!(blocks(&[0xa0, 201, 0, 1, 0, 0, 0, 9]).next(), Some(Err(RtcpError::Length)));
        assert_eq!(blocks(&[0x40, 201, 0, 0]).next(), Some(Err(RtcpError::Version)));
    }

    #[test]
    fn no_truncation_or_flip_panics() {
        let bytes = everything();
        for len in 0..bytes.len() {
            blocks(&bytes[..len]).for_each(|b| drop(format!("{b:?}")));
            let mut flipped = bytes.clone();
            flipped[len] ^= 0xff;
            for block in blocks(&flipped).flatten() {
                match block {
                    RtcpBlock::SenderReport(_, r) | RtcpBlock::ReceiverReport(_, r) => drop(r.iter().count()),
                    RtcpBlock::Nack { lost, .. } => drop(lost.iter().count()),
                    RtcpBlock::Fir(e) => drop(e.iter().count()),
                    RtcpBlock::Remb { sources, .. } | RtcpBlock::Bye(sources) => drop(sources.iter().count()),
                    _ => {}
                }
            }
        }
    }
}
