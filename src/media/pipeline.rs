//! From received packets to frames: order, repair, grouping. Audio has nothing to repair.

use std::time::Instant;

use super::doctor::CodecReport;
use super::frame::{ClockPoint, Codec, Frame, MediaKind};
use super::framer::Framer;
use super::h264::{self, ProfileLevelId};
use super::receive::Placed;
use super::reorder::{Reorder, ReorderCounters, Turn};
use super::repair::{Part, VideoRepair};
use super::rtp::RtpPacket;

/// One track on its way from the receiver to the shards.
#[derive(Debug)]
pub struct Pipeline {
    reorder: Reorder<(Part, Origin)>,
    /// `None` for audio.
    repair: Option<VideoRepair>,
    framer: Framer,
    /// Scratch.
    parts: Vec<Part>,
}

/// What a packet brings along that is not in its parts.
#[derive(Debug, Clone, Copy)]
struct Origin {
    codec: Codec,
    clock: ClockPoint,
}

impl Pipeline {
    /// A pipeline that holds nothing.
    pub fn new(kind: MediaKind) -> Self {
        let repair = (kind == MediaKind::Video).then(VideoRepair::default);
        Self { reorder: Reorder::default(), repair, framer: Framer::default(), parts: Vec::new() }
    }

    /// A packet that the receiver placed at `at`; `clock` is where its track's clock stands. Appends the
    /// frames that are complete with it.
    pub fn push(&mut self, packet: &RtpPacket, at: Placed, clock: ClockPoint, now: Instant, out: &mut Vec<Frame>) {
        let origin = Origin { codec: at.codec, clock };
        if at.restarted {
            while let Some((part, origin)) = self.reorder.pop_anyway(now) {
                self.advance(part, origin, now, out);
            }
            if let Some(repair) = &mut self.repair {
                repair.on_restart(&mut self.parts);
            }
            self.group(origin, now, out);
        }
        let Placed { seq, time, .. } = at;
        let part = Part { seq, time, marker: packet.marker(), payload: packet.payload(), starts_keyframe: false };
        // Only a decoder misses what precedes its first packet.
        let leads = || self.repair.is_none() || h264::leads(&part.payload);
        match self.reorder.turn(seq, leads, now) {
            Turn::Next => self.advance(part, origin, now, out),
            Turn::Wait => self.reorder.hold(seq, (part, origin), now),
            Turn::Late => {
                match &mut self.repair {
                    Some(repair) => repair.push_late(part, &mut self.parts),
                    None => self.parts.extend(Some(part).filter(|part| !part.payload.is_empty())),
                }
                self.group(origin, now, out);
            }
        }
        self.release(now, out);
    }

    /// When [`Pipeline::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.framer.poll_timeout().into_iter().chain(self.reorder.poll_timeout()).min()
    }

    /// Appends what has waited long enough.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Frame>) {
        self.release(now, out);
        out.extend(self.framer.flush(now));
    }

    /// What was seen of reordering.
    pub fn reordering(&self) -> ReorderCounters {
        self.reorder.counters()
    }

    /// Findings of the codec doctor; `None` for audio.
    pub fn codec(&self) -> Option<CodecReport> {
        self.repair.as_ref().map(|repair| repair.doctor().report(repair.counters()))
    }

    /// Profile of the last SPS.
    pub fn profile(&self) -> Option<ProfileLevelId> {
        self.repair.as_ref()?.doctor().profile()
    }

    fn release(&mut self, now: Instant, out: &mut Vec<Frame>) {
        while let Some((part, origin)) = self.reorder.pop(now) {
            self.advance(part, origin, now, out);
        }
    }

    /// The next packet in order.
    fn advance(&mut self, part: Part, origin: Origin, now: Instant, out: &mut Vec<Frame>) {
        match &mut self.repair {
            Some(repair) => repair.push(part, &mut self.parts),
            None => self.parts.extend(Some(part).filter(|part| !part.payload.is_empty())),
        }
        self.group(origin, now, out);
    }

    fn group(&mut self, Origin { codec, clock }: Origin, now: Instant, out: &mut Vec<Frame>) {
        for part in self.parts.drain(..) {
            out.extend(self.framer.push(part, codec, clock, now).into_iter().flatten());
        }
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
