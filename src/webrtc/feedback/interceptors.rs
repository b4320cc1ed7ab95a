//! Our own interceptors: receiver reports that start early, and REMB.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc_shared::TransportContext;
use rtc_shared::error::Error;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use sansio::Protocol;

use crate::media::{ExtSeq, SeqNo, Ssrc};

/// Fires once shortly after the first packet, then at a fixed interval.
#[derive(Debug)]
struct Schedule {
    first_after: Duration,
    interval: Duration,
    next: Option<Instant>,
}

impl Schedule {
    fn new(first_after: Duration, interval: Duration) -> Self {
        Self { first_after, interval, next: None }
    }

    fn arm(&mut self, now: Instant) {
        self.next.get_or_insert(now + self.first_after);
    }

    fn fires(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| now >= next);
        if due {
            self.next = Some(now + self.interval);
        }
        due
    }
}

/// The queues that every interceptor has.
#[derive(Default)]
struct Queues {
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Queues {
    fn send(&mut self, now: Instant, packet: Box<dyn rtcp::Packet>) {
        let message = AttributedPacket::new(Packet::Rtcp(vec![packet]));
        self.write.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
    }
}

/// Passes packets through; `$read` looks at each on its way in, `$timeout` runs the schedule.
macro_rules! passing_protocol {
    ($name:ty, $read:ident, $timeout:ident) => {
        impl Protocol<TaggedPacket, TaggedPacket, ()> for $name {
            type Rout = TaggedPacket;
            type Wout = TaggedPacket;
            type Eout = ();
            type Error = Error;
            type Time = Instant;

            fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
                self.$read(&packet);
                self.queues.read.push_back(packet);
                Ok(())
            }

            fn poll_read(&mut self) -> Option<TaggedPacket> {
                self.queues.read.pop_front()
            }

            fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
                self.queues.write.push_back(packet);
                Ok(())
            }

            fn poll_write(&mut self) -> Option<TaggedPacket> {
                self.queues.write.pop_front()
            }

            fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
                if self.schedule.fires(now) {
                    self.$timeout(now);
                }
                Ok(())
            }

            fn poll_timeout(&mut self) -> Option<Instant> {
                self.schedule.next
            }
        }
    };
}

/// Receiver reports with one block per source (RFC 3550 §6.4.2).
///
/// The library's own interceptor sends its first report a whole interval after the first packet and
/// one packet per source; a camera wants to hear from us at once.
pub(super) struct ReceiverReports {
    ssrc: Ssrc,
    schedule: Schedule,
    sources: BTreeMap<u32, Reception>,
    queues: Queues,
}

/// Reception of one source since it was bound.
#[derive(Debug, Default)]
struct Reception {
    clock_rate: u32,
    first: Option<ExtSeq>,
    highest: u64,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    last_packet: Option<(Instant, u32)>,
    jitter: f64,
    /// Middle 32 bits of the last SR's NTP time, and when it came.
    last_sender_report: Option<(u32, Instant)>,
}

impl ReceiverReports {
    pub(super) fn new(ssrc: Ssrc, first_after: Duration, interval: Duration) -> Self {
        let schedule = Schedule::new(first_after, interval);
        Self { ssrc, schedule, sources: BTreeMap::new(), queues: Queues::default() }
    }

    fn look(&mut self, tagged: &TaggedPacket) {
        match &tagged.message.packet {
            Packet::Rtp(packet) => {
                if let Some(source) = self.sources.get_mut(&packet.header.ssrc) {
                    source.on_packet(SeqNo(packet.header.sequence_number), packet.header.timestamp, tagged.now);
                    self.schedule.arm(tagged.now);
                }
            }
            Packet::Rtcp(packets) => {
                for report in packets.iter().filter_map(|p| p.as_any().downcast_ref::<SenderReport>()) {
                    if let Some(source) = self.sources.get_mut(&report.ssrc) {
                        source.last_sender_report = Some(((report.ntp_time >> 16) as u32, tagged.now));
                    }
                }
            }
            _ => {}
        }
    }

    fn report(&mut self, now: Instant) {
        let reports = self.sources.iter_mut().filter_map(|(ssrc, source)| source.block(*ssrc, now)).collect();
        let report = ReceiverReport { ssrc: self.ssrc.0, reports, ..Default::default() };
        self.queues.send(now, Box::new(report));
    }
}

passing_protocol!(ReceiverReports, look, report);

impl Interceptor for ReceiverReports {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.sources.insert(info.ssrc, Reception { clock_rate: info.clock_rate, ..Default::default() });
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.sources.remove(&info.ssrc);
    }
}

impl Reception {
    fn on_packet(&mut self, seq: SeqNo, timestamp: u32, now: Instant) {
        let seq = match self.first {
            // Room below for packets that were overtaken by the first one.
            None => ExtSeq(0x1_0000 + u64::from(seq.0)),
            Some(_) => ExtSeq(self.highest).extend(seq),
        };
        self.first = Some(self.first.map_or(seq, |first| first.min(seq)));
        self.highest = self.highest.max(seq.0);
        self.received += 1;
        if let Some((last, last_timestamp)) = self.last_packet {
            let arrived = now.saturating_duration_since(last).as_secs_f64() * f64::from(self.clock_rate);
            let sent = f64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            self.jitter += ((arrived - sent).abs() - self.jitter) / 16.0;
        }
        self.last_packet = Some((now, timestamp));
    }

    /// RFC 3550 A.3. `None` before the first packet.
    fn block(&mut self, ssrc: u32, now: Instant) -> Option<ReceptionReport> {
        let expected = self.highest - self.first?.0 + 1;
        let (expected_now, received_now) = (expected - self.expected_prior, self.received - self.received_prior);
        (self.expected_prior, self.received_prior) = (expected, self.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let (last_sender_report, delay) = match self.last_sender_report {
            Some((middle, at)) => (middle, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32),
            None => (0, 0),
        };
        Some(ReceptionReport {
            ssrc,
            fraction_lost,
            // Duplicates make the count negative (RFC 3550 §6.4.1); this library's field is unsigned.
            total_lost: expected.saturating_sub(self.received).min(0x7f_ffff) as u32,
            // Cycles start at zero for the peer.
            last_sequence_number: (self.highest - 0x1_0000) as u32,
            jitter: self.jitter as u32,
            last_sender_report,
            delay,
        })
    }
}

/// A bitrate in bit/s that the chain's owner sets and the interceptor reads.
#[derive(Clone)]
pub(super) struct SharedBitrate(Arc<AtomicU64>);

impl SharedBitrate {
    pub(super) fn new(bits_per_second: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bits_per_second)))
    }

    pub(super) fn set(&self, bits_per_second: u64) {
        self.0.store(bits_per_second, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// REMB for the video source (draft-alvestrand-rmcat-remb): media SSRC 0, one entry.
pub(super) struct Remb {
    ssrc: Ssrc,
    bitrate: SharedBitrate,
    schedule: Schedule,
    video: Option<u32>,
    queues: Queues,
}

impl Remb {
    pub(super) fn new(ssrc: Ssrc, bitrate: SharedBitrate, first_after: Duration, interval: Duration) -> Self {
        Self { ssrc, bitrate, schedule: Schedule::new(first_after, interval), video: None, queues: Queues::default() }
    }

    fn look(&mut self, tagged: &TaggedPacket) {
        if matches!(&tagged.message.packet, Packet::Rtp(packet) if Some(packet.header.ssrc) == self.video) {
            self.schedule.arm(tagged.now);
        }
    }

    fn report(&mut self, now: Instant) {
        let Some(video) = self.video else { return };
        let remb = ReceiverEstimatedMaximumBitrate {
            sender_ssrc: self.ssrc.0,
            bitrate: self.bitrate.get() as f32,
            ssrcs: vec![video],
        };
        self.queues.send(now, Box::new(remb));
    }
}

passing_protocol!(Remb, look, report);

impl Interceptor for Remb {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if info.mime_type.starts_with("video/") {
            self.video = Some(info.ssrc);
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        if self.video == Some(info.ssrc) {
            self.video = None;
        }
    }
}
