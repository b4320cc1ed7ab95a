//! What the server tells about the media that it receives, and when: the camera lives on it (contract §1).

use std::time::{Duration, Instant};

use super::report::FeedbackReport;
use crate::media::rtcp::{ReportBlocks, RtcpBlock, blocks};
use crate::media::{SeqNo, Ssrc};

/// Most packets that one datagram may ask to be repeated.
const MAX_RESENT: usize = 128;

/// What a datagram asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// PLI or FIR.
    pub(super) keyframe: bool,
    /// NACK; at most [`MAX_RESENT`].
    pub(super) resend: Vec<SeqNo>,
    /// REMB, in bits per second.
    pub(super) bitrate: Option<u64>,
}

/// Feedback on one stream.
#[derive(Debug, Clone)]
pub(super) struct Feedback {
    /// When the first RTP packet was sent.
    first_sent: Option<Instant>,
    first_after: Option<Duration>,
    last: Option<Instant>,
    max_gap: Duration,
    bitrate: Option<u64>,
    loss: Option<u8>,
    /// Highest number of the last report; packets of the reports after the first, and their losses in 1/256.
    highest: Option<u32>,
    judged: (u64, u64),
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    datagrams: u64,
    rr: u64,
    remb: u64,
    nack: u64,
    pli: u64,
    fir: u64,
}

impl Feedback {
    pub(super) fn new() -> Self {
        Self {
            first_sent: None,
            first_after: None,
            last: None,
            max_gap: Duration::ZERO,
            bitrate: None,
            loss: None,
            highest: None,
            judged: (0, 0),
            counts: Counts::default(),
        }
    }

    /// An RTP packet was sent.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.first_sent.get_or_insert(now);
    }

    /// When the last report or REMB for the video came.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Share of the packets that the last report says were lost, 0 to 1.
    pub(super) fn loss(&self) -> Option<f64> {
        self.loss.map(|loss| f64::from(loss) / 256.0)
    }

    /// The same on average over all reports but the first, by the packets that each is about.
    pub(super) fn mean_loss(&self) -> Option<f64> {
        let (packets, lost) = self.judged;
        (packets > 0).then(|| lost as f64 / 256.0 / packets as f64)
    }

    /// Reads a datagram; what is malformed ends it. Blocks for other sources than `video` count for nothing.
    pub(super) fn on_rtcp(&mut self, now: Instant, datagram: &[u8], video: Ssrc) -> Wishes {
        let mut wishes = Wishes::default();
        let mut keeps_alive = false;
        for block in blocks(datagram).map_while(Result::ok) {
            match block {
                RtcpBlock::SenderReport(_, reports) | RtcpBlock::ReceiverReport(_, reports) => {
                    keeps_alive |= self.on_reports(reports, video);
                }
                RtcpBlock::Remb { bitrate, sources } if sources.iter().any(|source| source == video) => {
                    self.counts.remb += 1;
                    self.bitrate = Some(bitrate);
                    wishes.bitrate = Some(bitrate);
                    keeps_alive = true;
                }
                RtcpBlock::Nack { media, lost } if media == video => {
                    self.counts.nack += 1;
                    let room = MAX_RESENT - wishes.resend.len();
                    wishes.resend.extend(lost.iter().take(room));
                }
                RtcpBlock::Pli { media } if media == video => {
                    self.counts.pli += 1;
                    wishes.keyframe = true;
                }
                RtcpBlock::Fir(entries) if entries.iter().any(|(media, _)| media == video) => {
                    self.counts.fir += 1;
                    wishes.keyframe = true;
                }
                _ => {}
            }
        }
        if keeps_alive {
            self.counts.datagrams += 1;
            match self.last {
                Some(last) => self.max_gap = self.max_gap.max(now.saturating_duration_since(last)),
                None => self.first_after = self.first_sent.map(|first| now.saturating_duration_since(first)),
            }
            self.last = Some(now);
        }
        wishes
    }

    fn on_reports(&mut self, reports: ReportBlocks<'_>, video: Ssrc) -> bool {
        let Some(report) = reports.iter().find(|report| report.ssrc == video.0) else { return false };
        self.counts.rr += 1;
        self.loss = Some(report.fraction_lost);
        let packets = self.highest.replace(report.highest_seq).map_or(0, |last| report.highest_seq.wrapping_sub(last));
        // Another run of numbers begins anywhere.
        if packets < 1 << 16 {
            self.judged.0 += u64::from(packets);
            self.judged.1 += u64::from(packets) * u64::from(report.fraction_lost);
        }
        true
    }

    pub(super) fn report(&self, now: Instant) -> FeedbackReport {
        FeedbackReport {
            count: self.counts.datagrams,
            rr: self.counts.rr,
            remb: self.counts.remb,
            nack: self.counts.nack,
            pli: self.counts.pli,
            fir: self.counts.fir,
            first_seconds: self.first_after.map(|after| after.as_secs_f64()),
            max_gap_seconds: self.max_gap.as_secs_f64(),
            seconds_since: self.last.map(|last| now.saturating_duration_since(last).as_secs_f64()),
            remb_kbps: self.bitrate.map(|bitrate| bitrate / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtcp::{ReportBlock, RtcpWriter};

    const US: Ssrc = Ssrc(1);
    const VIDEO: Ssrc = Ssrc(1_607_797_317);

    fn compound(ssrc: Ssrc) -> Vec<u8> {
        let mut writer = RtcpWriter::new();
        let report = ReportBlock { ssrc: ssrc.0, fraction_lost: 64, ..ReportBlock::default() };
        writer.receiver_report(US, &[ReportBlock::default(), report]).remb(US, 2_500_000, ssrc);
        writer.pli(US, ssrc).fir(US, ssrc, 1).nack(US, ssrc, &[SeqNo(5), SeqNo(7)]);
        writer.finish()
    }

    #[test]
    fn feedback_on_the_video_is_counted_and_understood() {
        let (mut feedback, start) = (Feedback::new(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        feedback.on_sent(at(0));
        let wishes = feedback.on_rtcp(at(150), &compound(VIDEO), VIDEO);
        assert_eq!((wishes.keyframe, wishes.bitrate.map(|b| b / 1000)), (true, Some(2500)));
        assert_eq!(wishes.resend, [SeqNo(5), SeqNo(7)]);
        feedback.on_rtcp(at(1_150), &compound(VIDEO), VIDEO);
        feedback.on_rtcp(at(1_350), &compound(VIDEO), VIDEO);
        let report = feedback.report(at(2_350));
        assert_eq!((report.count, report.rr, report.remb, report.nack, report.pli, report.fir), (3, 3, 3, 3, 3, 3));
        assert_eq!((report.first_seconds, report.max_gap_seconds), (Some(0.15), 1.0));
        assert_eq!((report.seconds_since, feedback.loss()), (Some(1.0), Some(0.25)));
    }

    #[test]
    fn feedback_on_other_sources_and_rubbish_is_none() {
        let (mut feedback, now) = (Feedback::new(), Instant::now());
        assert_eq!(feedback.on_rtcp(now, &compound(Ssrc(229_236_353)), VIDEO), Wishes::default());
        let whole = compound(VIDEO);
        for end in 0..31 {
            feedback.on_rtcp(now, &whole[..end], VIDEO);
        }
        assert_eq!((feedback.report(now).count, feedback.last()), (0, None));
    }

    #[test]
    fn a_storm_of_nacks_is_bounded() {
        let lost: Vec<_> = (0..5_000).map(SeqNo).collect();
        let mut writer = RtcpWriter::new();
        writer.nack(US, VIDEO, &lost[..1_000]).nack(US, VIDEO, &lost[1_000..]);
        let wishes = Feedback::new().on_rtcp(Instant::now(), &writer.finish(), VIDEO);
        assert_eq!(wishes.resend.len(), MAX_RESENT);
    }
}
