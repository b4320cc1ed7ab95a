//! Feedback towards one camera, produced by an interceptor chain of webrtc-rs.
//!
//! RTP and sender reports of the camera go in, compound RTCP packets come out: receiver reports and REMB
//! from the first RTP packet on, NACKs for gaps, PLI and FIR when viewers need a keyframe.
//!
//! `reports`, `remb` and `nack` are the interceptors (`passing` is what they share); `bandwidth` estimates
//! what REMB says, `health` judges whether the camera listens.

mod bandwidth;
mod health;
mod keyframe;
mod nack;
mod passing;
mod remb;
mod reports;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use interceptor::{AttributedPacket, Interceptor, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc_shared::TransportContext;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use self::health::Health;
use self::keyframe::{KeyframeRequests, Request};
use self::nack::Nacks;
use self::passing::Passing;
use self::remb::{Rates, Remb};
use self::reports::ReceiverReports;
use crate::media::rtcp::{RtcpBlock, RtcpWriter, blocks};
use crate::media::rtp::RtpPacket;
use crate::media::{Codec, MediaKind, Ssrc};

pub use self::health::{FeedbackHealth, FeedbackWarning};

/// First report after the first RTP packet: enough packets to report on, well within the 200 ms of contract §4.
const FIRST_REPORT: Duration = Duration::from_millis(100);
/// Between reports: "at least every second" with room for timer slack.
const REPORT_INTERVAL: Duration = Duration::from_millis(800);

/// What the feedback of one camera needs to know.
#[derive(Debug, Clone)]
pub struct FeedbackSettings {
    /// Our SSRC in RTCP.
    pub ssrc: Ssrc,
    /// Our CNAME.
    pub cname: String,
    /// Lowest and highest REMB value in bit/s.
    pub bitrate_range: (u64, u64),
}

/// What was sent, for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedbackCounters {
    /// Compound packets.
    pub compounds: u64,
    /// PLIs.
    pub plis: u64,
    /// FIRs.
    pub firs: u64,
    /// NACKed sequence numbers.
    pub nacks: u64,
}

/// The feedback of one camera. Sans-IO.
pub struct CameraFeedback {
    settings: FeedbackSettings,
    chain: Box<dyn Interceptor>,
    bound: BTreeMap<u32, MediaKind>,
    rates: Arc<Rates>,
    keyframes: KeyframeRequests,
    health: Health,
    counters: FeedbackCounters,
}

impl CameraFeedback {
    /// Feedback for a camera that has sent nothing yet. REMB starts at the top of the range.
    pub fn new(settings: FeedbackSettings) -> Self {
        let remb = Remb::new(settings.ssrc, settings.bitrate_range, FIRST_REPORT, REPORT_INTERVAL);
        let rates = remb.rates();
        let reports = ReceiverReports::new(settings.ssrc, FIRST_REPORT, REPORT_INTERVAL);
        let chain = Registry::new()
            .with(Slot::NackGenerator, Passing::new(Nacks::new(settings.ssrc)))
            .with(Slot::ReceiverReport, Passing::new(reports))
            .with(REMB_SLOT, Passing::new(remb))
            .build();
        Self {
            settings,
            chain: Box::new(chain),
            bound: BTreeMap::new(),
            rates,
            keyframes: KeyframeRequests::default(),
            health: Health::default(),
            counters: FeedbackCounters::default(),
        }
    }

    /// An accepted RTP packet of the camera. `restarted`: it is the first one of a new run of its SSRC.
    pub fn on_rtp(&mut self, codec: Codec, packet: &RtpPacket, restarted: bool, now: Instant) {
        let ssrc = packet.ssrc().0;
        if restarted || !self.bound.contains_key(&ssrc) {
            self.bind(codec, ssrc);
        }
        self.health.on_packet(now);
        self.observe(packet, now);
    }

    /// A packet that was accepted before. It is no news, but RFC 3550 counts it.
    pub fn on_duplicate(&mut self, packet: &RtpPacket, now: Instant) {
        if self.bound.contains_key(&packet.ssrc().0) {
            self.observe(packet, now);
        }
    }

    fn observe(&mut self, packet: &RtpPacket, now: Instant) {
        let header = rtp::Header {
            version: 2,
            marker: packet.marker(),
            payload_type: packet.payload_type(),
            sequence_number: packet.seq().0,
            timestamp: packet.timestamp(),
            ssrc: packet.ssrc().0,
            ..Default::default()
        };
        self.read(Packet::Rtp(rtp::Packet { header, payload: packet.payload() }), now);
    }

    /// A datagram with the camera's own RTCP; what is malformed after the first good blocks is ignored.
    pub fn on_rtcp(&mut self, datagram: &[u8], now: Instant) {
        for block in blocks(datagram).map_while(Result::ok) {
            if let RtcpBlock::SenderReport(info, _) = block {
                let report = rtcp::sender_report::SenderReport {
                    ssrc: info.ssrc.0,
                    ntp_time: info.ntp,
                    rtp_time: info.rtp_time,
                    packet_count: info.packets,
                    octet_count: info.octets,
                    ..Default::default()
                };
                self.read(Packet::Rtcp(vec![Box::new(report)]), now);
            }
        }
    }

    /// Somebody needs a keyframe; sent at once or coalesced with the one before.
    pub fn request_keyframe(&mut self, now: Instant) {
        self.keyframes.want(now);
    }

    /// A keyframe began: nothing needs to be asked for.
    pub fn on_keyframe(&mut self, now: Instant) {
        self.keyframes.satisfied();
        self.health.on_keyframe(now);
    }

    /// More than this many bit/s is of no use to the viewers; `None`: they set no limit. REMB stays within its
    /// range all the same: one viewer on a bad path does not take the picture from all others.
    pub fn set_viewer_limit(&mut self, bits_per_second: Option<u64>) {
        self.rates.limit(bits_per_second);
    }

    /// The last REMB value that was sent, in bit/s; before the first one that which will be.
    pub fn bitrate(&self) -> u64 {
        self.rates.sent()
    }

    /// The last compound packet could not be sent after all.
    pub fn on_send_failed(&mut self) {
        self.health.on_send_failed();
    }

    /// When the last feedback was sent.
    pub fn last_sent(&self) -> Option<Instant> {
        self.health.last_sent()
    }

    /// The camera has restarted, or was told to stop: its silence says nothing about feedback.
    pub fn interrupted(&mut self) {
        self.health.interrupted();
    }

    /// Whether the camera listens to its feedback.
    pub fn health(&self, now: Instant) -> FeedbackHealth {
        self.health.state(now)
    }

    /// What was sent so far.
    pub fn counters(&self) -> FeedbackCounters {
        self.counters
    }

    /// When [`CameraFeedback::poll_datagram`] may have something new without further input.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let chain = self.chain.poll_timeout();
        chain.into_iter().chain(self.video().and(self.keyframes.poll_timeout())).min()
    }

    /// The compound packet that is due at `now`, if any (RFC 3550 §6.1: a report first, then SDES, then the rest).
    pub fn poll_datagram(&mut self, now: Instant) -> Option<Vec<u8>> {
        // The chain's errors concern packets that cannot be handled; ours are made of parsed parts.
        let _ = self.chain.handle_timeout(now);
        self.health.on_rates(self.rates.sent(), self.rates.received(), now);
        let (mut reports, mut others) = (Vec::new(), Vec::new());
        while let Some(tagged) = self.chain.poll_write() {
            let Packet::Rtcp(packets) = tagged.message.packet else { continue };
            for packet in packets {
                if let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() {
                    self.counters.nacks +=
                        nack.nacks.iter().map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum::<u64>();
                }
                let is_report = packet.as_any().is::<rtcp::receiver_report::ReceiverReport>();
                if is_report { reports.push(packet) } else { others.push(packet) }
            }
        }
        let keyframe = self.video().and_then(|ssrc| self.keyframe_request(ssrc, now));
        if reports.is_empty() && others.is_empty() && keyframe.is_none() {
            return None;
        }
        let mut head = RtcpWriter::new();
        if reports.is_empty() {
            head.receiver_report(self.settings.ssrc, &[]);
        }
        let mut sdes = RtcpWriter::new();
        sdes.cname(self.settings.ssrc, &self.settings.cname);
        let mut compound = head.finish();
        compound.extend(marshal(&reports)?);
        compound.extend(sdes.finish());
        compound.extend(marshal(&others)?);
        compound.extend(keyframe.unwrap_or_default());
        self.counters.compounds += 1;
        self.health.on_sent(now);
        Some(compound)
    }

    fn keyframe_request(&mut self, video: Ssrc, now: Instant) -> Option<Vec<u8>> {
        let mut writer = RtcpWriter::new();
        let request = self.keyframes.due(now)?;
        self.health.on_request(now);
        match request {
            Request::Pli => {
                self.counters.plis += 1;
                writer.pli(self.settings.ssrc, video);
            }
            Request::Fir(command) => {
                self.counters.firs += 1;
                writer.fir(self.settings.ssrc, video, command);
            }
        }
        Some(writer.finish())
    }

    fn video(&self) -> Option<Ssrc> {
        self.bound.iter().find(|(_, kind)| **kind == MediaKind::Video).map(|(ssrc, _)| Ssrc(*ssrc))
    }

    /// Binds `ssrc` as the one source of its medium, with fresh state.
    fn bind(&mut self, codec: Codec, ssrc: u32) {
        let kind = codec.kind();
        let old: Vec<u32> = self.bound.iter().filter(|(s, k)| **k == kind || **s == ssrc).map(|(s, _)| *s).collect();
        for old in old {
            self.bound.remove(&old);
            self.chain.unbind_remote_stream(&StreamInfo { ssrc: old, ..Default::default() });
        }
        self.bound.insert(ssrc, kind);
        let (clock_rate, mime_type) = (codec.clock_rate(), codec.mime_type().into());
        let info = StreamInfo { ssrc, clock_rate, mime_type, ..Default::default() };
        self.chain.bind_remote_stream(&info);
    }

    fn read(&mut self, packet: Packet, now: Instant) {
        let message = AttributedPacket::new(packet);
        let _ = self.chain.handle_read(TaggedPacket { now, transport: TransportContext::default(), message });
        while self.chain.poll_read().is_some() {}
    }
}

/// REMB sits next to the application: nothing after it needs to see it.
const REMB_SLOT: Slot = Slot::Custom(11_500);

fn marshal(packets: &[Box<dyn rtcp::Packet>]) -> Option<Vec<u8>> {
    rtcp::packet::marshal(packets).map(|bytes| bytes.to_vec()).ok()
}

#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod tests;
