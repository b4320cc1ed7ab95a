//! A camera's video packets in order, with losses and late ones, through the repair.
//!
//! The input is a list of packets: a byte of flags, the length in two bytes, and the payload, which may be cut.

use std::collections::BTreeSet;

use bytes::Bytes;
use honeycast::media::h264::scan;
use honeycast::media::packetize::MAX_PAYLOAD;
use honeycast::media::repair::{Part, VideoRepair};
use honeycast::media::{ExtSeq, RtpTime};

/// Flags of a packet.
const LOST_BEFORE: u8 = 1;
const NEW_TIME: u8 = 2;
const MARKER: u8 = 4;
const IS_LATE: u8 = 8;
const RESTART: u8 = 16;

const MAX_PACKETS: usize = 300;
const FILLER: &[u8] = &[0x0c, 0xff, 0x80];

/// A NAL unit, or the part of one that was in one packet.
#[derive(Debug, Clone, PartialEq)]
struct Chunk {
    header: u8,
    start: bool,
    end: bool,
    body: Vec<u8>,
}

impl Chunk {
    fn kind(&self) -> u8 {
        self.header & 0x1f
    }

    fn is_whole(&self) -> bool {
        self.start && self.end
    }
}

/// Whether all packets are legal and something came out.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut scene = Scene::default();
    let (mut rest, mut seq, mut time) = (data, 1_000, 90_000);
    let mut lost = Vec::new();
    for _ in 0..MAX_PACKETS {
        let [flags, high, low, tail @ ..] = rest else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, after) = tail.split_at(length);
        rest = after;
        let packet = |seq: u64, time: u64| Part {
            seq: ExtSeq(seq),
            time: RtpTime(time),
            marker: flags & MARKER != 0,
            payload: Bytes::copy_from_slice(payload),
            starts_keyframe: false,
        };
        scan(payload);
        if flags & RESTART != 0 {
            scene.restarts();
        }
        if let (true, Some(lost)) = (flags & IS_LATE != 0, lost.pop()) {
            scene.late(packet(lost, time));
            continue;
        }
        seq += 1;
        if flags & LOST_BEFORE != 0 {
            lost.push(seq);
            seq += 1;
            scene.losses += 1;
        }
        if flags & NEW_TIME != 0 {
            time += 3_600;
        }
        scene.next(packet(seq, time));
    }
    scene.restarts();
    scene.ends()
}

#[derive(Default)]
struct Scene {
    repair: VideoRepair,
    /// What went in and has not come out: it precedes a picture.
    pending: Vec<Chunk>,
    known_sets: Vec<Chunk>,
    /// What stands in packets with sets: it goes with them when the same packet comes again.
    repeatable: Vec<Chunk>,
    numbers: BTreeSet<u64>,
    highest: Option<u64>,
    holes: u64,
    losses: u64,
    parts: u64,
}

impl Scene {
    fn next(&mut self, packet: Part) {
        let before = self.repair.counters();
        let mut out = Vec::new();
        let units = chunks(&packet.payload);
        self.repair.push(packet, &mut out);
        let after = self.repair.counters();
        self.known_sets.extend(units.iter().filter(|unit| matches!(unit.kind(), 7 | 8) && unit.is_whole()).cloned());
        if units.iter().any(|unit| matches!(unit.kind(), 7 | 8)) {
            self.repeatable.extend(units.iter().cloned());
        }
        let orphan = before
            .named_faults()
            .zip(after.named_faults())
            .any(|(before, after)| after.0 == "fragment_without_start" && after.1 > before.1);
        let units = if orphan { vec![] } else { units };
        self.check(&out, units, after.repeated_sets > before.repeated_sets);
    }

    fn late(&mut self, packet: Part) {
        let expected = chunks(&packet.payload);
        let before = self.repair.counters();
        let mut out = Vec::new();
        self.repair.push_late(packet, &mut out);
        let after = self.repair.counters();
        if after.late_dropped == before.late_dropped {
            let late = out.pop().expect("neither dropped nor forwarded");
            assert_eq!(chunks(&late.payload), expected);
            assert!(!late.starts_keyframe && late.payload.len() <= MAX_PAYLOAD);
            assert!(self.numbers.insert(late.seq.0), "a late packet takes the number of another");
        }
        self.check(&out, vec![], after.repeated_sets > before.repeated_sets);
    }

    fn restarts(&mut self) {
        let repeated = self.repair.counters().repeated_sets;
        let mut out = Vec::new();
        self.repair.on_restart(&mut out);
        self.check(&out, vec![], self.repair.counters().repeated_sets > repeated);
        assert!(self.pending.is_empty(), "lost: {:x?}", self.pending);
    }

    /// What came out is what was pending and then what is new, whole and in order, but for what was inserted.
    fn check(&mut self, out: &[Part], new: Vec<Chunk>, has_repeated: bool) {
        let is_new_from = self.pending.len();
        let expected: Vec<Chunk> = self.pending.drain(..).chain(new).collect();
        let mut at = 0;
        for chunk in joined(out) {
            let may_be_inserted = chunk.is_whole()
                && (self.known_sets.contains(&chunk) || [&[chunk.header], &chunk.body[..]].concat() == FILLER);
            // What was sent may be a known set too, behind a repeated one that was dropped: so the order is asked first.
            let next = (at..expected.len()).find(|next| expected[*next] == chunk);
            let next = next.filter(|next| {
                !may_be_inserted || expected[at..*next].iter().all(|old| self.may_be_dropped(old, has_repeated))
            });
            match next {
                Some(next) => {
                    expected[at..next].iter().for_each(|old| self.was_dropped(old, has_repeated));
                    at = next + 1;
                }
                None => assert!(may_be_inserted, "out of nothing, before {:x?}: {chunk:x?}", expected.get(at)),
            }
        }
        if !out.is_empty() {
            // Nothing that was held stays behind.
            (at..is_new_from).for_each(|old| self.was_dropped(&expected[old], has_repeated));
            at = at.max(is_new_from);
        }
        self.pending = expected[at..].to_vec();
        for part in out {
            assert!(part.payload.len() <= MAX_PAYLOAD, "{} bytes", part.payload.len());
            assert!(!chunks(&part.payload).is_empty(), "nothing legal in {:x?}", part.payload);
            assert!(self.numbers.insert(part.seq.0), "a number twice");
            if let Some(highest) = self.highest {
                assert!(part.seq.0 > highest);
                self.holes += part.seq.0 - highest - 1;
            }
            self.highest = Some(part.seq.0);
            self.parts += 1;
        }
    }

    fn was_dropped(&self, chunk: &Chunk, has_repeated: bool) {
        assert!(self.may_be_dropped(chunk, has_repeated), "{chunk:x?} is lost");
    }

    /// Only a repeated set, and what was in one packet with it. In what has just come nothing may, but that is not told apart:
    /// where a packet was repeated, its units may have been taken for those of the next one, which are the same.
    fn may_be_dropped(&self, chunk: &Chunk, has_repeated: bool) -> bool {
        has_repeated && self.repeatable.contains(chunk)
    }

    fn ends(self) -> bool {
        let counters = self.repair.counters();
        assert!(self.holes <= self.losses + counters.all_faults(), "{} holes", self.holes);
        counters.all_faults() == 0 && self.parts > 0
    }
}

/// The legal units in a payload, by a reading of RFC 6184 that shares nothing with the server's.
fn chunks(payload: &[u8]) -> Vec<Chunk> {
    let whole = |nal: &[u8]| Chunk { header: nal[0], start: true, end: true, body: nal[1..].to_vec() };
    let is_legal =
        |nal: &[u8]| nal.first().is_some_and(|header| header & 0x80 == 0 && (1..24).contains(&(header & 31)));
    match payload {
        [] => vec![],
        [first, ..] if first & 0x80 != 0 => vec![],
        nal if is_legal(nal) => vec![whole(nal)],
        [indicator, fu, body @ ..] if indicator & 31 == 28 && !body.is_empty() && (1..24).contains(&(fu & 31)) => {
            let header = indicator & 0xe0 | fu & 31;
            vec![Chunk { header, start: fu & 0x80 != 0, end: fu & 0x40 != 0, body: body.to_vec() }]
        }
        [indicator, rest @ ..] if indicator & 31 == 24 => {
            let (mut at, mut out) = (0, vec![]);
            while at + 2 <= rest.len() {
                let end = at + 2 + usize::from(rest[at]) * 256 + usize::from(rest[at + 1]);
                let Some(nal) = rest.get(at + 2..end) else { break };
                if is_legal(nal) {
                    out.push(whole(nal));
                }
                at = end;
            }
            out
        }
        _ => vec![],
    }
}

/// Fragments of what was divided, put together again.
fn joined(parts: &[Part]) -> Vec<Chunk> {
    let mut out: Vec<Chunk> = Vec::new();
    for chunk in parts.iter().flat_map(|part| chunks(&part.payload)) {
        match out.last_mut() {
            Some(open) if !open.end && !chunk.start => {
                assert_eq!(open.header, chunk.header, "pieces of one unit");
                open.body.extend(chunk.body);
                open.end = chunk.end;
            }
            _ => out.push(chunk),
        }
    }
    out
}
