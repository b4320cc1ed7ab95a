//! From RTP payloads to samples: pictures with lengths before their NAL units (ISO/IEC 14496-15 §5.3).

use bytes::Bytes;

use crate::media::frame::Frame;
use crate::media::h264::{NAL_AUD, NAL_IDR, NAL_PPS, NAL_SPS, Payload, nal_type};
use crate::media::id::ExtSeq;

/// A larger picture is damage; level 5.2 allows less at camera bitrates.
const MAX_PICTURE: usize = 8 << 20;

/// An access unit that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    /// On the stream's continuous timestamps.
    pub(super) time: u64,
    pub(super) is_key: bool,
    /// The last sets in it, which are taken out of the data.
    pub(super) sps: Option<Bytes>,
    pub(super) pps: Option<Bytes>,
    /// NAL units, each behind its length in four bytes.
    pub(super) data: Vec<u8>,
}

/// Collects packets to pictures. A picture that lacks something is left out, and all that may depend on it.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    next: Option<ExtSeq>,
    open: Option<Picture>,
    /// The unit whose fragments are coming in: where its length stands.
    fragment: Option<usize>,
    /// Pictures refer to one that is missing. True from the start.
    complete: bool,
}

impl Pictures {
    pub(super) fn wants_keyframe(&self) -> bool {
        !self.complete
    }

    pub(super) fn push(&mut self, frame: &Frame, out: &mut Vec<Picture>) {
        for (index, packet) in frame.packets.iter().enumerate() {
            match self.next {
                // Too late: what it belongs to was left out.
                Some(next) if packet.seq < next => continue,
                Some(next) if packet.seq > next => self.lose(),
                _ => {}
            }
            self.next = Some(ExtSeq(packet.seq.0 + 1));
            if self.open.as_ref().is_some_and(|open| open.time != frame.time.0) {
                self.close(out);
            }
            if index == 0 && frame.starts_keyframe && !self.complete {
                // Whatever came before in this unit is not needed to start.
                self.complete = true;
                (self.open, self.fragment) = (None, None);
            }
            if self.complete && self.add(frame.time.0, &packet.payload).is_none() {
                self.lose();
            }
            if packet.marker {
                self.close(out);
            }
        }
    }

    /// Something is missing: nothing comes before the next keyframe.
    fn lose(&mut self) {
        (self.open, self.fragment, self.complete) = (None, None, false);
    }

    fn close(&mut self, out: &mut Vec<Picture>) {
        if self.fragment.is_some() {
            self.lose();
        }
        out.extend(self.open.take().filter(|picture| !picture.data.is_empty()));
    }

    /// `None` when the payload fits nowhere.
    fn add(&mut self, time: u64, payload: &[u8]) -> Option<()> {
        let open =
            self.open.get_or_insert_with(|| Picture { time, is_key: false, sps: None, pps: None, data: Vec::new() });
        if open.data.len() + payload.len() > MAX_PICTURE {
            return None;
        }
        match Payload::parse(payload).ok()? {
            Payload::Fragment(part) => {
                if part.start {
                    if self.fragment.is_some() {
                        return None;
                    }
                    self.fragment = Some(open.data.len());
                    open.data.extend_from_slice(&[0; 4]);
                    open.data.push(part.header);
                }
                let begin = self.fragment?;
                open.data.extend_from_slice(part.body);
                if part.end {
                    self.fragment = None;
                    let length = u32::try_from(open.data.len() - begin - 4).ok()?;
                    open.data[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
                    open.is_key |= nal_type(&[part.header]) == NAL_IDR;
                }
            }
            Payload::Single(unit) => {
                if self.fragment.is_some() {
                    return None;
                }
                open.add_unit(unit);
            }
            Payload::Aggregate(units) => {
                if self.fragment.is_some() {
                    return None;
                }
                for unit in units {
                    open.add_unit(unit.ok()?);
                }
            }
        }
        Some(())
    }
}

impl Picture {
    fn add_unit(&mut self, unit: &[u8]) {
        match nal_type(unit) {
            // Stand in the head; delimiters are for byte streams.
            NAL_SPS => self.sps = Some(Bytes::copy_from_slice(unit)),
            NAL_PPS => self.pps = Some(Bytes::copy_from_slice(unit)),
            NAL_AUD => {}
            kind => {
                self.is_key |= kind == NAL_IDR;
                self.data.extend_from_slice(&(unit.len() as u32).to_be_bytes());
                self.data.extend_from_slice(unit);
            }
        }
    }
}

/// Length of an Opus packet in ticks of 48 kHz (RFC 6716 §3.1); `None` for an empty or illegal one.
pub(super) fn opus_ticks(packet: &[u8]) -> Option<u64> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    // No packet is longer than 120 ms.
    Some(frames * frame).filter(|ticks| (1..=5_760).contains(ticks))
}
