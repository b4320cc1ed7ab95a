//! What a viewer's RTCP asks for and reports, as owned events (RFC 4585, RFC 5104).

use crate::media::rtcp::{self, ReportBlock, RtcpBlock, RtcpError};
use crate::media::{SeqNo, Ssrc};

/// Sequence numbers taken from one packet of NACKs; more than a viewer can lose between two of them.
const MAX_NACKED: usize = 1024;

/// One thing that a viewer says about what we send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// Picture lost; a keyframe is wanted.
    Pli {
        /// The source.
        ssrc: Ssrc,
    },
    /// Full intra request; to be treated like a PLI.
    Fir {
        /// The source.
        ssrc: Ssrc,
    },
    /// Packets are missing.
    Nack {
        /// The source.
        ssrc: Ssrc,
        /// Which ones, in the order of the packet; at most 1024.
        seqs: Vec<SeqNo>,
    },
    /// Receiver's estimate of what fits, in bit/s. Bounded by what it receives: a hint, not a measurement.
    Remb {
        /// Bits per second.
        bitrate: u64,
    },
    /// Arrival times of marked packets: transport-wide number, and microseconds of the viewer's clock; see
    /// [`elapsed_us`](crate::media::transport_cc::elapsed_us).
    Arrivals(Vec<(SeqNo, i64)>),
    /// A report block on one of our sources; `last_sr` and `delay_since_last_sr` give the round trip
    /// (RFC 3550 §6.4.1).
    Report(ReportBlock),
    /// The viewer's own sources leave. Not the end of the session.
    Bye,
}

/// The feedback in a decrypted compound that concerns `ours`. Sender SSRCs mean nothing here (Chromium
/// writes 1), and blocks about other sources are skipped.
///
/// # Errors
///
/// [`RtcpError`] for a malformed compound: nothing of it is used.
pub(super) fn read(compound: &[u8], ours: &[Ssrc]) -> Result<Vec<Feedback>, RtcpError> {
    let mut out = Vec::new();
    for block in rtcp::blocks(compound) {
        match block? {
            RtcpBlock::Pli { media } => out.push(Feedback::Pli { ssrc: media }),
            RtcpBlock::Fir(entries) => out.extend(entries.iter().map(|(ssrc, _)| Feedback::Fir { ssrc })),
            RtcpBlock::Nack { media, lost } => {
                out.push(Feedback::Nack { ssrc: media, seqs: lost.iter().take(MAX_NACKED).collect() });
            }
            RtcpBlock::Arrivals(feedback) => out.push(Feedback::Arrivals(feedback.arrivals().collect())),
            RtcpBlock::Remb { bitrate, .. } => out.push(Feedback::Remb { bitrate }),
            RtcpBlock::SenderReport(_, reports) | RtcpBlock::ReceiverReport(_, reports) => {
                out.extend(reports.iter().map(Feedback::Report));
            }
            RtcpBlock::Bye(_) => out.push(Feedback::Bye),
            _ => {}
        }
    }
    out.retain(|feedback| feedback.source().is_none_or(|ssrc| ours.contains(&ssrc)));
    Ok(out)
}

impl Feedback {
    /// The source that it is about, where it is about one.
    pub fn source(&self) -> Option<Ssrc> {
        match self {
            Self::Pli { ssrc } | Self::Fir { ssrc } | Self::Nack { ssrc, .. } => Some(*ssrc),
            Self::Report(block) => Some(Ssrc(block.ssrc)),
            Self::Remb { .. } | Self::Arrivals(_) | Self::Bye => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtcp::RtcpWriter;

    const BROWSER: Ssrc = Ssrc(1);
    const VIDEO: Ssrc = Ssrc(7);
    const RTX: Ssrc = Ssrc(8);

    #[test]
    fn only_what_is_about_our_sources_comes_out() {
        let report = |ssrc: Ssrc| ReportBlock { ssrc: ssrc.0, fraction_lost: 3, last_sr: 5, ..ReportBlock::default() };
        let mut writer = RtcpWriter::new();
        writer
            .receiver_report(BROWSER, &[report(Ssrc(99)), report(RTX), report(VIDEO)])
            .pli(BROWSER, VIDEO)
            .pli(BROWSER, Ssrc(99))
            .fir(BROWSER, VIDEO, 4)
            .nack(BROWSER, VIDEO, &[SeqNo(65_535), SeqNo(0)])
            .remb(BROWSER, 1 << 20, VIDEO)
            .bye(BROWSER);
        assert_eq!(
            read(&writer.finish(), &[VIDEO, RTX]).unwrap(),
            [
                Feedback::Report(report(RTX)),
                Feedback::Report(report(VIDEO)),
                Feedback::Pli { ssrc: VIDEO },
                Feedback::Fir { ssrc: VIDEO },
                Feedback::Nack { ssrc: VIDEO, seqs: vec![SeqNo(65_535), SeqNo(0)] },
                Feedback::Remb { bitrate: 1 << 20 },
                Feedback::Bye,
            ]
        );
    }

    #[test]
    fn a_malformed_compound_has_no_effect() {
        let mut writer = RtcpWriter::new();
        writer.pli(BROWSER, VIDEO);
        let mut bytes = writer.finish();
        bytes.extend_from_slice(&[0x80, 201, 0, 9]);
        assert!(read(&bytes, &[VIDEO]).is_err());
    }

    #[test]
    fn a_nack_of_everything_is_cut() {
        let all: Vec<SeqNo> = (0..5000).map(SeqNo).collect();
        let mut writer = RtcpWriter::new();
        writer.nack(BROWSER, VIDEO, &all);
        let Feedback::Nack { seqs, .. } = &read(&writer.finish(), &[VIDEO]).unwrap()[0] else { panic!() };
        assert_eq!(seqs[..], all[..MAX_NACKED]);
    }
}
