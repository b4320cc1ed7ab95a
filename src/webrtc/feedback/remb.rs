//! REMB for the video source (draft-alvestrand-rmcat-remb): media SSRC 0, one entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use interceptor::{Packet, StreamInfo, TaggedPacket};
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;

use super::bandwidth::Bandwidth;
use super::passing::{Observer, Outbox, Schedule};
use super::window::{Arrival, SeqWindow};
use crate::media::{SeqNo, Ssrc};

/// Between two values that fall: a camera need not follow every step of a collapse.
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// A value that falls by less than this share waits for its turn.
const SIGNIFICANT: f64 = 0.97;
/// RTP header that is counted with the payload.
const RTP_HEADER: usize = 12;

/// Figures in bit/s that the chain's owner and the interceptor share.
#[derive(Debug)]
pub(super) struct Rates {
    sent: AtomicU64,
    received: AtomicU64,
    viewer_limit: AtomicU64,
}

impl Rates {
    /// The last value that was sent; before that the one that will be.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What arrived of the video over the last seconds.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Nothing above this is of use to viewers.
    pub(super) fn limit(&self, viewers: Option<u64>) {
        self.viewer_limit.store(viewers.unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Measures the video and sends the estimate.
pub(super) struct Remb {
    ssrc: Ssrc,
    range: (u64, u64),
    rates: Arc<Rates>,
    schedule: Schedule,
    bandwidth: Bandwidth,
    video: Option<Video>,
    last_sent: Option<Instant>,
}

struct Video {
    ssrc: u32,
    clock_rate: u32,
    window: SeqWindow,
}

impl Remb {
    pub(super) fn new(ssrc: Ssrc, range: (u64, u64), first_after: Duration, interval: Duration) -> Self {
        let bandwidth = Bandwidth::new(range);
        let rates = Rates {
            sent: AtomicU64::new(bandwidth.estimate()),
            received: AtomicU64::new(0),
            viewer_limit: AtomicU64::new(u64::MAX),
        };
        let schedule = Schedule::new(first_after, interval);
        Self { ssrc, range, rates: Arc::new(rates), schedule, bandwidth, video: None, last_sent: None }
    }

    pub(super) fn rates(&self) -> Arc<Rates> {
        self.rates.clone()
    }

    /// The estimate, lowered to what viewers can use, but never below the range for the sake of a viewer.
    fn value(&self) -> u64 {
        self.bandwidth.estimate().min(self.rates.viewer_limit.load(Ordering::Relaxed)).max(self.range.0)
    }

    /// When a value that has fallen may leave.
    fn fall_due(&self) -> Option<Instant> {
        let last = self.last_sent?;
        let fallen = (self.value() as f64) < self.rates.sent() as f64 * SIGNIFICANT;
        fallen.then_some(last + MIN_INTERVAL)
    }
}

impl Observer for Remb {
    fn observe(&mut self, tagged: &TaggedPacket) {
        let Packet::Rtp(packet) = &tagged.message.packet else { return };
        let Some(video) = self.video.as_mut().filter(|video| video.ssrc == packet.header.ssrc) else { return };
        let ahead = match video.window.place(SeqNo(packet.header.sequence_number)).1 {
            Arrival::Ahead(by) => by,
            Arrival::Late => 0,
            Arrival::Duplicate => return,
        };
        self.schedule.arm(tagged.now);
        let bytes = RTP_HEADER + packet.payload.len();
        self.bandwidth.on_packet(bytes, ahead, packet.header.timestamp, video.clock_rate, tagged.now);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.bandwidth.advance(now);
        self.rates.received.store(self.bandwidth.received(), Ordering::Relaxed);
        let falls = self.fall_due().is_some_and(|due| now >= due);
        let scheduled = self.schedule.fires(now);
        let Some(video) = self.video.as_ref().filter(|_| falls || scheduled) else { return };
        let (ssrc, value) = (video.ssrc, self.value());
        self.last_sent = Some(now);
        self.rates.sent.store(value, Ordering::Relaxed);
        let remb =
            ReceiverEstimatedMaximumBitrate { sender_ssrc: self.ssrc.0, bitrate: value as f32, ssrcs: vec![ssrc] };
        out.send(now, Box::new(remb));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let video = self.video.as_ref();
        let falls = video.and_then(|_| self.fall_due());
        self.schedule.next().into_iter().chain(self.bandwidth.poll_timeout()).chain(falls).min()
    }

    fn bind(&mut self, info: &StreamInfo) {
        if info.mime_type.starts_with("video/") {
            self.bandwidth.restart();
            self.video = Some(Video { ssrc: info.ssrc, clock_rate: info.clock_rate, window: SeqWindow::default() });
        }
    }

    fn unbind(&mut self, info: &StreamInfo) {
        self.video.take_if(|video| video.ssrc == info.ssrc);
    }
}
