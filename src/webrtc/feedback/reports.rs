//! Receiver reports: one block per source (RFC 3550 §6.4.2).
//!
//! The library's own interceptor sends its first report a whole interval after the first packet and one
//! packet per source; a camera wants to hear from us at once. It also cannot say a negative loss.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use interceptor::{Packet, StreamInfo, TaggedPacket};
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;

use super::passing::{Observer, Outbox, Schedule};
use super::window::{Arrival, FIRST_CYCLE, SeqWindow};
use crate::media::receive::ticks;
use crate::media::{ExtSeq, SeqNo, Ssrc};

/// Bounds of the 24-bit signed count of lost packets.
const LOST_RANGE: (i64, i64) = (-0x80_0000, 0x7f_ffff);
/// A transit time that changes by more is a media clock that was set anew, not jitter.
const MAX_JITTER: Duration = Duration::from_secs(5);

/// Reports on all sources that are bound.
pub(super) struct ReceiverReports {
    ssrc: Ssrc,
    schedule: Schedule,
    sources: BTreeMap<u32, Reception>,
    /// A sender report that came before the first packet of its source.
    early: Option<(u32, LastReport)>,
}

/// Middle 32 bits of a sender report's NTP time, and when it came.
type LastReport = (u32, Instant);

/// Reception of one source since it was bound.
#[derive(Debug, Default)]
struct Reception {
    clock_rate: u32,
    window: SeqWindow,
    lowest: Option<ExtSeq>,
    /// Packets that came, copies included.
    arrived: u64,
    /// Packets that came, each once.
    distinct: u64,
    expected_prior: u64,
    distinct_prior: u64,
    origin: Option<Instant>,
    transit: Option<u32>,
    jitter: f64,
    last_report: Option<LastReport>,
}

impl ReceiverReports {
    pub(super) fn new(ssrc: Ssrc, first_after: Duration, interval: Duration) -> Self {
        Self { ssrc, schedule: Schedule::new(first_after, interval), sources: BTreeMap::new(), early: None }
    }
}

impl Observer for ReceiverReports {
    fn observe(&mut self, tagged: &TaggedPacket) {
        match &tagged.message.packet {
            Packet::Rtp(packet) => {
                if let Some(source) = self.sources.get_mut(&packet.header.ssrc) {
                    source.on_packet(SeqNo(packet.header.sequence_number), packet.header.timestamp, tagged.now);
                    self.schedule.arm(tagged.now);
                }
            }
            Packet::Rtcp(packets) => {
                for report in packets.iter().filter_map(|p| p.as_any().downcast_ref::<SenderReport>()) {
                    let last = ((report.ntp_time >> 16) as u32, tagged.now);
                    match self.sources.get_mut(&report.ssrc) {
                        Some(source) => source.last_report = Some(last),
                        None => self.early = Some((report.ssrc, last)),
                    }
                }
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.schedule.fires(now) {
            let reports = self.sources.iter_mut().filter_map(|(ssrc, source)| source.block(*ssrc, now)).collect();
            out.send(now, Box::new(ReceiverReport { ssrc: self.ssrc.0, reports, ..Default::default() }));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.next()
    }

    fn bind(&mut self, info: &StreamInfo) {
        let last_report = self.early.take_if(|(ssrc, _)| *ssrc == info.ssrc).map(|(_, last)| last);
        let reception = Reception { clock_rate: info.clock_rate, last_report, ..Default::default() };
        self.sources.insert(info.ssrc, reception);
    }

    fn unbind(&mut self, info: &StreamInfo) {
        self.sources.remove(&info.ssrc);
    }
}

impl Reception {
    fn on_packet(&mut self, seq: SeqNo, timestamp: u32, now: Instant) {
        let (seq, arrival) = self.window.place(seq);
        self.arrived += 1;
        if arrival == Arrival::Duplicate {
            return;
        }
        self.distinct += 1;
        self.lowest = Some(self.lowest.map_or(seq, |lowest| lowest.min(seq)));
        self.update_jitter(timestamp, now);
    }

    /// RFC 3550 A.8, in the order of arrival.
    fn update_jitter(&mut self, timestamp: u32, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let arrival = ticks(now.saturating_duration_since(origin), self.clock_rate) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.transit.replace(transit) {
            let d = (transit.wrapping_sub(last) as i32).unsigned_abs();
            if u64::from(d) < ticks(MAX_JITTER, self.clock_rate) {
                self.jitter += (f64::from(d) - self.jitter) / 16.0;
            }
        }
    }

    /// RFC 3550 A.3. `None` before the first packet.
    ///
    /// Copies of a packet count as received in the sum, as §6.4.1 says, which so may become negative. They do
    /// not count in the fraction: there they would hide as much loss as there are copies, and the fraction is
    /// what a sender acts on.
    fn block(&mut self, ssrc: u32, now: Instant) -> Option<ReceptionReport> {
        let highest = self.window.highest()?;
        let expected = highest.0 - self.lowest?.0 + 1;
        let expected_now = expected - self.expected_prior;
        let lost_now = expected_now.saturating_sub(self.distinct - self.distinct_prior);
        (self.expected_prior, self.distinct_prior) = (expected, self.distinct);
        let fraction_lost = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let lost = (expected as i64 - self.arrived as i64).clamp(LOST_RANGE.0, LOST_RANGE.1);
        let (last_sender_report, delay) = match self.last_report {
            Some((middle, at)) => (middle, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32),
            None => (0, 0),
        };
        Some(ReceptionReport {
            ssrc,
            fraction_lost,
            // The library's field is unsigned and is written with its lower 24 bits.
            total_lost: lost as u32 & 0xff_ffff,
            // Cycles start at zero for the peer.
            last_sequence_number: (highest.0 - FIRST_CYCLE) as u32,
            jitter: self.jitter as u32,
            last_sender_report,
            delay,
        })
    }
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
