//! NACKs for gaps in the video, within limits (RFC 4585 §6.2.1).
//!
//! The library's generator knows neither age nor budget, and wakes up 20 times a second for every camera
//! whether something is missing or not.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use interceptor::{Packet, StreamInfo, TaggedPacket};
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::passing::{Observer, Outbox};
use super::window::{Arrival, SeqWindow};
use crate::media::{ExtSeq, SeqNo, Ssrc};

/// A packet that is missing may merely have been overtaken; jitter of 30 ms is common.
const FIRST_AFTER: Duration = Duration::from_millis(30);
/// Between two requests for one packet: the way to the camera and back.
const RETRY_AFTER: Duration = Duration::from_millis(80);
/// A packet is asked for this often and no more.
pub(super) const MAX_REQUESTS: u8 = 3;
/// Later than this viewers' jitter buffers have gone on, and a keyframe serves them better.
const MAX_AGE: Duration = Duration::from_millis(300);
/// Packets missed at a time. A longer gap is an outage, which repetitions would only prolong.
const MAX_MISSING: usize = 128;
/// Packets asked for per packet that arrives: what the camera sends on top must not fill a path that is full already.
const BUDGET: f64 = 0.25;
/// What the budget saves up for a burst.
const BUDGET_BURST: f64 = 32.0;
/// Between two NACKs; what is due in between shares one.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// Asks for what is missing of the video source.
pub(super) struct Nacks {
    ssrc: Ssrc,
    video: Option<Source>,
    budget: f64,
}

#[derive(Default)]
struct Source {
    ssrc: u32,
    window: SeqWindow,
    /// In ascending order of sequence numbers.
    missing: VecDeque<Missing>,
    /// Not after the earliest `next` of `missing`, unless a NACK has just left.
    next: Option<Instant>,
}

struct Missing {
    seq: ExtSeq,
    since: Instant,
    requests: u8,
    next: Instant,
}

impl Nacks {
    pub(super) fn new(ssrc: Ssrc) -> Self {
        Self { ssrc, video: None, budget: BUDGET_BURST }
    }
}

impl Observer for Nacks {
    fn observe(&mut self, tagged: &TaggedPacket) {
        let Packet::Rtp(packet) = &tagged.message.packet else { return };
        if let Some(video) = self.video.as_mut().filter(|video| video.ssrc == packet.header.ssrc) {
            self.budget = (self.budget + BUDGET).min(BUDGET_BURST);
            video.on_packet(SeqNo(packet.header.sequence_number), tagged.now);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let Some(video) = self.video.as_mut().filter(|video| video.next.is_some_and(|next| now >= next)) else {
            return;
        };
        let asked = video.due(now, self.budget as usize);
        self.budget -= asked.len() as f64;
        if !asked.is_empty() {
            let nacks = nack_pairs_from_sequence_numbers(&asked);
            let nack = TransportLayerNack { sender_ssrc: self.ssrc.0, media_ssrc: video.ssrc, nacks };
            out.send(now, Box::new(nack));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.video.as_ref()?.next
    }

    fn bind(&mut self, info: &StreamInfo) {
        // Sound is not asked for again: it would come too late.
        if info.mime_type.starts_with("video/") {
            self.video = Some(Source { ssrc: info.ssrc, ..Default::default() });
        }
    }

    fn unbind(&mut self, info: &StreamInfo) {
        self.video.take_if(|video| video.ssrc == info.ssrc);
    }
}

impl Source {
    fn on_packet(&mut self, seq: SeqNo, now: Instant) {
        match self.window.place(seq) {
            (seq, Arrival::Ahead(by)) => {
                let gap = usize::try_from(by - 1).unwrap_or(usize::MAX);
                if gap > MAX_MISSING {
                    self.missing.clear();
                    return;
                }
                let next = now + FIRST_AFTER;
                for seq in seq.0 - by + 1..seq.0 {
                    self.missing.push_back(Missing { seq: ExtSeq(seq), since: now, requests: 0, next });
                    self.next.get_or_insert(next);
                }
                let surplus = self.missing.len().saturating_sub(MAX_MISSING);
                self.missing.drain(..surplus);
            }
            (seq, Arrival::Late) => {
                if let Ok(place) = self.missing.binary_search_by_key(&seq, |missing| missing.seq) {
                    self.missing.remove(place);
                }
            }
            (_, Arrival::Duplicate) => {}
        }
    }

    /// What to ask for now, at most `budget` packets; what is too old or was asked often enough is given up.
    fn due(&mut self, now: Instant, budget: usize) -> Vec<u16> {
        self.missing.retain(|missing| {
            missing.requests < MAX_REQUESTS && now.saturating_duration_since(missing.since) < MAX_AGE
        });
        let mut asked = Vec::new();
        // The newest are of most use: the oldest go without when the budget is spent.
        for missing in self.missing.iter_mut().rev().filter(|missing| now >= missing.next) {
            missing.next = now + RETRY_AFTER;
            if asked.len() < budget {
                missing.requests += 1;
                asked.push(missing.seq.wire().0);
            }
        }
        self.next = self.missing.iter().map(|missing| missing.next.max(now + MIN_INTERVAL)).min();
        asked.reverse();
        asked
    }
}

#[cfg(test)]
#[path = "nack_tests.rs"]
mod tests;
