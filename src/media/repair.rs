//! Makes of a camera's packets what every browser can depacketise and decode from the next keyframe on.
//!
//! Packets come in order and on the stream's continuous numbers; parts leave on numbers of their own, which
//! viewers see (through their [`Rewrite`](super::rewrite::Rewrite)): a lost packet leaves a hole that a late one may
//! still fill, an inserted or divided one makes room, and one that is dropped for a fault closes up. A
//! well-formed packet costs no copy and no allocation.

use bytes::Bytes;

use super::doctor::CodecDoctor;
use super::h264::{
    FU_END, Fault, Fragment, NAL_AUD, NAL_IDR, NAL_PARTITION_A, NAL_PPS, NAL_SEI, NAL_SLICE, NAL_SPS, NAL_STAP_A,
    Payload, SliceStart, Units, nal_type,
};
use super::id::{ExtSeq, RtpTime};
use super::numbering::Numbering;
use super::packetize::{self, MAX_PAYLOAD};
use super::parameters::ParameterSets;

/// Packets held in front of a picture until it is known which kind it is.
const MAX_PREFIX: usize = 8;
/// A filler data unit (ITU-T H.264 §7.3.2.7): carries the marker bit of a dropped packet and nothing else.
const FILLER: &[u8] = &[0x0c, 0xff, 0x80];

/// A packet to be repaired, or one that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// In: the stream's number. Out: the number for viewers.
    pub seq: ExtSeq,
    /// Timestamp.
    pub time: RtpTime,
    /// The last packet of its access unit.
    pub marker: bool,
    /// RTP payload.
    pub payload: Bytes,
    /// Out: decoding can start with this part.
    pub starts_keyframe: bool,
}

/// What was repaired and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairCounters {
    /// Payloads larger than [`MAX_PAYLOAD`], which were divided.
    pub oversize: u64,
    /// Keyframes that got parameter sets inserted.
    pub completed_keyframes: u64,
    /// Parameter sets dropped because the same ones stood before them.
    pub repeated_sets: u64,
    /// Packets of a picture behind its marker bit.
    pub early_markers: u64,
    /// Pictures that ended without a marker bit, although nothing was lost.
    pub missing_markers: u64,
    /// Late packets that have no place any more.
    pub late_dropped: u64,
    faults: [u64; Fault::ALL.len()],
}

impl RepairCounters {
    /// How often `fault` was seen.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// Every kind of fault by its name, with how often it was seen.
    pub fn named_faults(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Fault::ALL.iter().map(|fault| (fault.name(), self.faults(*fault)))
    }

    /// Faults of all kinds.
    pub fn all_faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    fn count(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }
}

/// Repair of one video track.
#[derive(Debug)]
pub struct VideoRepair {
    numbering: Numbering,
    /// The number after the last packet; `None` when what was before is not known.
    expected: Option<ExtSeq>,
    unit: Option<Unit>,
    /// Packets of the unit that precede its picture.
    prefix: Vec<Part>,
    /// The fragmented unit that is not finished.
    fragmented: Option<OpenFragment>,
    sets: ParameterSets,
    doctor: CodecDoctor,
    counters: RepairCounters,
}

/// The access unit that is passing.
#[derive(Debug)]
struct Unit {
    time: RtpTime,
    /// A slice was seen.
    picture: bool,
    /// Sets in this unit before its picture.
    has_sps: bool,
    has_pps: bool,
    /// A marker bit went out.
    ended: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct OpenFragment {
    time: RtpTime,
    kind: u8,
}

/// What a packet holds that matters for keyframes.
#[derive(Debug, Default)]
struct Contents {
    picture: bool,
    idr: bool,
    first_slice: bool,
    sps: bool,
    pps: bool,
    /// Nothing that may not precede a picture.
    only_prefix: bool,
}

/// What matters of a fragment.
#[derive(Debug)]
struct Piece {
    kind: u8,
    start: bool,
    end: bool,
    /// What the beginning of a slice says.
    slice: Option<SliceStart>,
}

impl Default for VideoRepair {
    fn default() -> Self {
        Self {
            numbering: Numbering::default(),
            expected: None,
            unit: None,
            prefix: Vec::with_capacity(MAX_PREFIX),
            fragmented: None,
            sets: ParameterSets::default(),
            doctor: CodecDoctor::default(),
            counters: RepairCounters::default(),
        }
    }
}

impl VideoRepair {
    /// The next packet in order. Appends what is to be forwarded.
    pub fn push(&mut self, mut packet: Part, out: &mut Vec<Part>) {
        let nothing_lost = self.expected == Some(packet.seq);
        self.expected = Some(ExtSeq(packet.seq.0 + 1));
        if self.unit.as_ref().is_none_or(|unit| unit.time != packet.time) {
            let is_open = self.unit.as_ref().is_some_and(|unit| unit.picture && !unit.ended);
            self.counters.missing_markers += u64::from(is_open && nothing_lost);
            self.release_prefix(false, out);
            let time = packet.time;
            self.unit = Some(Unit { time, picture: false, has_sps: false, has_pps: false, ended: false });
        }
        match Payload::parse(&packet.payload) {
            Err(fault) => self.refuse(fault, &packet, out),
            Ok(Payload::Fragment(part)) => {
                let slice =
                    if part.start && is_slice(part.header & 0x1f) { SliceStart::parse(part.body) } else { None };
                let Fragment { header, start, end, .. } = part;
                self.on_fragment(Piece { kind: header & 0x1f, start, end, slice }, packet, nothing_lost, out);
            }
            Ok(Payload::Single(nal)) => {
                self.end_fragment(nothing_lost);
                let mut contents = Contents::nothing();
                self.look_at(nal, &mut contents);
                self.on_whole(&contents, packet, nothing_lost, out);
            }
            Ok(Payload::Aggregate(units)) => {
                self.end_fragment(nothing_lost);
                let mut contents = Contents::nothing();
                match self.look_at_all(units, &mut contents) {
                    Err(fault) => return self.refuse(fault, &packet, out),
                    Ok(Some(repaired)) => packet.payload = repaired,
                    Ok(None) => {}
                }
                self.on_whole(&contents, packet, nothing_lost, out);
            }
        }
    }

    /// A packet whose gap was given up. It goes out under its own number, if it has one and fits into it.
    pub fn push_late(&mut self, mut packet: Part, out: &mut Vec<Part>) {
        // What is held gets its numbers first: they may move the one that was left for this packet.
        self.release_prefix(true, out);
        let well_formed = match Payload::parse(&packet.payload) {
            Err(_) => false,
            Ok(Payload::Aggregate(mut units)) => units.all(|unit| unit.is_ok()),
            Ok(_) => true,
        };
        match self.numbering.late(packet.seq) {
            Some(seq) if well_formed && packet.payload.len() <= MAX_PAYLOAD => {
                packet.seq = seq;
                packet.starts_keyframe = false;
                out.push(packet);
            }
            _ => self.counters.late_dropped += 1,
        }
    }

    /// The camera restarted: what comes has nothing to do with what was before, but for its parameter sets.
    pub fn on_restart(&mut self, out: &mut Vec<Part>) {
        self.release_prefix(false, out);
        (self.expected, self.unit, self.fragmented) = (None, None, None);
        self.doctor.on_restart();
    }

    /// What was repaired and refused so far.
    pub fn counters(&self) -> RepairCounters {
        self.counters
    }

    /// What the stream is made of.
    pub fn doctor(&self) -> &CodecDoctor {
        &self.doctor
    }

    /// Looks at the units of an aggregate. Gives an aggregate of the good ones where some are not.
    fn look_at_all(&mut self, units: Units<'_>, contents: &mut Contents) -> Result<Option<Bytes>, Fault> {
        let mut fault = None;
        let mut is_good = false;
        for unit in units {
            match unit {
                Ok(nal) => {
                    is_good = true;
                    self.look_at(nal, contents);
                }
                // The last one is counted below, or where the packet is refused.
                Err(found) => fault.replace(found).into_iter().for_each(|before| self.counters.count(before)),
            }
        }
        match fault {
            None => Ok(None),
            Some(fault) if !is_good => Err(fault),
            Some(fault) => {
                let good: Vec<&[u8]> = units.flatten().collect();
                let repaired = packetize::aggregate(&good).ok_or(fault)?;
                self.counters.count(fault);
                Ok(Some(repaired))
            }
        }
    }

    /// Notes what a NAL unit contributes.
    fn look_at(&mut self, nal: &[u8], contents: &mut Contents) {
        match nal_type(nal) {
            NAL_SPS => {
                contents.sps = true;
                if self.sets.remember_sps(nal) || !self.doctor.has_sps() {
                    self.doctor.on_sps(nal);
                }
            }
            NAL_PPS => {
                contents.pps = true;
                self.sets.remember_pps(nal);
            }
            // What else may only precede a picture (ITU-T H.264 §7.4.1.2.3).
            NAL_SEI | NAL_AUD | 13..=18 => {}
            kind if is_slice(kind) => contents.add_slice(kind, SliceStart::parse(&nal[1..]), &mut self.doctor),
            _ => contents.only_prefix = false,
        }
    }

    /// A packet with whole units.
    fn on_whole(&mut self, contents: &Contents, packet: Part, nothing_lost: bool, out: &mut Vec<Part>) {
        if !contents.only_prefix || self.unit.as_ref().is_none_or(|unit| unit.picture) {
            return self.begin(contents, nothing_lost, packet, out);
        }
        if self.prefix.len() >= MAX_PREFIX {
            self.release_prefix(true, out);
        }
        if let Some(unit) = &mut self.unit {
            unit.has_sps |= contents.sps;
            unit.has_pps |= contents.pps;
        }
        self.prefix.push(packet);
    }

    fn on_fragment(&mut self, piece: Piece, packet: Part, nothing_lost: bool, out: &mut Vec<Part>) {
        let this = OpenFragment { time: packet.time, kind: piece.kind };
        if piece.start {
            self.end_fragment(nothing_lost);
            self.fragmented = (!piece.end).then_some(this);
            let mut contents = Contents::default();
            if is_slice(piece.kind) {
                contents.add_slice(piece.kind, piece.slice, &mut self.doctor);
            }
            return self.begin(&contents, nothing_lost, packet, out);
        }
        if self.fragmented.as_ref() != Some(&this) {
            self.end_fragment(nothing_lost);
            if nothing_lost {
                return self.refuse(Fault::FragmentWithoutStart, &packet, out);
            }
        }
        self.fragmented = (!piece.end).then_some(this);
        if let Some(unit) = self.unit.as_mut().filter(|unit| !unit.picture && is_slice(piece.kind)) {
            // Its beginning was lost.
            unit.picture = true;
            self.doctor.on_picture(packet.time, piece.kind == NAL_IDR);
        }
        self.release_prefix(true, out);
        self.forward(packet, &[], out);
    }

    /// Forwards a packet that is, or holds, the beginning of something that may not wait; a keyframe's
    /// first one with all that a decoder needs before it.
    fn begin(&mut self, contents: &Contents, nothing_lost: bool, packet: Part, out: &mut Vec<Part>) {
        let Some(unit) = &mut self.unit else { return };
        let first = contents.picture && !unit.picture;
        unit.picture |= contents.picture;
        let lacks_sps = !(unit.has_sps || contents.sps);
        let lacks_pps = !(unit.has_pps || contents.pps);
        if first {
            self.doctor.on_picture(packet.time, contents.idr);
        }
        // Behind a gap, a slice that is not the picture's first shows that the beginning is lost.
        let starts = first && contents.idr && (nothing_lost || contents.first_slice || !self.prefix.is_empty());
        let start = out.len();
        self.release_prefix(true, out);
        if !starts {
            return self.forward(packet, &[], out);
        }
        let decodable = (!lacks_sps || self.sets.has_sps()) && (!lacks_pps || self.sets.has_pps());
        if !decodable {
            self.doctor.on_undecodable();
        }
        if decodable && (lacks_sps || lacks_pps) {
            self.counters.completed_keyframes += 1;
            let sets = self.sets.payloads(lacks_sps, lacks_pps);
            self.forward(packet, &sets, out);
        } else {
            self.forward(packet, &[], out);
        }
        if let Some(part) = out.get_mut(start) {
            part.starts_keyframe = decodable;
        }
    }

    /// Forwards a packet as it is, or divided, with `sets` before it.
    fn forward(&mut self, packet: Part, sets: &[Bytes], out: &mut Vec<Part>) {
        if let Some(unit) = self.unit.as_mut().filter(|unit| unit.picture && unit.time == packet.time) {
            self.counters.early_markers += u64::from(unit.ended);
            unit.ended = packet.marker;
        }
        self.numbering.open(packet.seq);
        for set in sets {
            self.emit(packet.time, false, set.clone(), out);
        }
        if packet.payload.len() <= MAX_PAYLOAD {
            self.emit(packet.time, packet.marker, packet.payload, out);
        } else {
            self.counters.oversize += 1;
            let pieces = packetize::split(&packet.payload);
            let last = pieces.len().saturating_sub(1);
            for (n, piece) in pieces.into_iter().enumerate() {
                self.emit(packet.time, packet.marker && n == last, piece, out);
            }
        }
        self.numbering.close();
    }

    /// Lets go what precedes a picture. If more of the same unit follows (`joined`), a marker bit would cut
    /// them apart.
    fn release_prefix(&mut self, joined: bool, out: &mut Vec<Part>) {
        if self.prefix.is_empty() {
            return;
        }
        let mut prefix = std::mem::take(&mut self.prefix);
        for at in 0..prefix.len() {
            let (before, this) = (&prefix[..at], &prefix[at]);
            let is_set = matches!(nal_type(&this.payload), NAL_SPS | NAL_PPS | NAL_STAP_A);
            if is_set && (joined || !this.marker) && before.iter().any(|other| other.payload == this.payload) {
                // Opened and closed without a part: the numbering closes up.
                self.numbering.open(this.seq);
                self.numbering.close();
                self.counters.repeated_sets += 1;
                continue;
            }
            let mut packet = this.clone();
            packet.marker &= !joined;
            self.forward(packet, &[], out);
        }
        prefix.clear();
        // Its allocation serves the next one.
        self.prefix = prefix;
        if let Some(unit) = self.unit.as_mut().filter(|unit| !unit.picture) {
            // They may leave in another frame than the picture, which then needs its own.
            (unit.has_sps, unit.has_pps) = (false, false);
        }
    }

    /// Drops a packet. What is known to damage a picture leaves a hole, so that viewers ask for a keyframe
    /// rather than show it.
    fn refuse(&mut self, fault: Fault, packet: &Part, out: &mut Vec<Part>) {
        self.counters.count(fault);
        self.release_prefix(true, out);
        let is_empty = matches!(fault, Fault::Empty | Fault::EmptyFragment | Fault::EmptyUnit);
        self.numbering.open(packet.seq);
        if fault == Fault::ForbiddenBit || self.fragmented.is_some() && !is_empty {
            self.numbering.skip();
            self.expected = None;
        } else if let Some(unit) = self.unit.as_mut().filter(|unit| packet.marker && unit.picture && !unit.ended) {
            // Browsers find the end of a picture by its marker bit.
            unit.ended = true;
            self.emit(packet.time, true, Bytes::from_static(FILLER), out);
        }
        self.numbering.close();
        if fault == Fault::EmptyFragment && packet.payload.get(1).is_some_and(|fu| fu & FU_END != 0) {
            self.fragmented = None;
        }
    }

    /// Something else than a continuation arrived.
    fn end_fragment(&mut self, nothing_lost: bool) {
        if self.fragmented.take().is_some() && nothing_lost {
            self.counters.count(Fault::FragmentWithoutEnd);
        }
    }

    fn emit(&mut self, time: RtpTime, marker: bool, payload: Bytes, out: &mut Vec<Part>) {
        let seq = self.numbering.take();
        out.push(Part { seq, time, marker, payload, starts_keyframe: false });
    }
}

fn is_slice(kind: u8) -> bool {
    // Partition A of a partitioned slice begins like a slice.
    matches!(kind, NAL_SLICE | NAL_PARTITION_A | NAL_IDR)
}

impl Contents {
    fn nothing() -> Self {
        Self { only_prefix: true, ..Self::default() }
    }

    fn add_slice(&mut self, kind: u8, slice: Option<SliceStart>, doctor: &mut CodecDoctor) {
        doctor.on_slice(slice);
        if !self.picture {
            // What cannot be read counts as what it claims to be.
            self.first_slice = slice.is_none_or(|slice| slice.first);
        }
        (self.picture, self.only_prefix) = (true, false);
        self.idr |= kind == NAL_IDR;
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
