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

/// A packet that went in and has not come out: it precedes a picture.
#[derive(Debug)]
struct Held {
    time: u64,
    marker: bool,
    /// What repetitions are known by.
    payload: Vec<u8>,
    units: Vec<Chunk>,
}

#[derive(Default)]
struct Scene {
    repair: VideoRepair,
    held: Vec<Held>,
    known_sets: Vec<Chunk>,
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
        let new = Held {
            time: packet.time.0,
            marker: packet.marker,
            payload: repaired(&packet.payload),
            units: chunks(&packet.payload),
        };
        self.repair.push(packet, &mut out);
        let after = self.repair.counters();
        self.known_sets.extend(new.units.iter().filter(|unit| is_set(unit.kind()) && unit.is_whole()).cloned());
        let orphan = before
            .named_faults()
            .zip(after.named_faults())
            .any(|(before, after)| after.0 == "fragment_without_start" && after.1 > before.1);
        let is_refused = orphan || new.units.is_empty();
        self.numbers(&out);
        if out.is_empty() {
            self.held.extend((!is_refused).then_some(new));
        } else {
            let same_picture = self.held.first().is_some_and(|held| held.time == new.time);
            let repeated = after.repeated_sets - before.repeated_sets;
            let out = joined(&out);
            let rest = self.released(&out, same_picture, repeated);
            match rest.strip_suffix(&new.units[..]) {
                Some(inserted) if !is_refused && !rest.is_empty() => {
                    assert!(
                        inserted.iter().all(|unit| self.known_sets.contains(unit)),
                        "out of nothing: {inserted:x?}"
                    );
                }
                _ if rest.is_empty() => self.held.extend((!is_refused).then_some(new)),
                _ => assert!(is_refused && is_filler(rest), "{rest:x?} instead of {:x?}", new.units),
            }
        }
        for held in &self.held {
            assert!(held.units.iter().all(|unit| may_precede_picture(unit.kind())), "held: {held:x?}");
        }
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
        self.numbers(&out);
        let rest = self.released(&joined(&out), true, after.repeated_sets - before.repeated_sets).to_vec();
        assert!(rest.is_empty(), "out of nothing: {rest:x?}");
    }

    fn restarts(&mut self) {
        let before = self.repair.counters().repeated_sets;
        let mut out = Vec::new();
        self.repair.on_restart(&mut out);
        self.numbers(&out);
        let repeated = self.repair.counters().repeated_sets - before;
        let rest = self.released(&joined(&out), false, repeated).to_vec();
        assert!(rest.is_empty(), "out of nothing: {rest:x?}");
    }

    /// All that was held came out, whole and in order, but for `repeated` packets of sets that stood before it already. Gives
    /// what came behind it.
    fn released<'a>(&mut self, out: &'a [Chunk], same_picture: bool, repeated: u64) -> &'a [Chunk] {
        let held = std::mem::take(&mut self.held);
        let is_repeated = |at: usize| {
            let this = &held[at];
            // A marker bit that ends what was held must not be lost.
            (same_picture || !this.marker)
                && (is_set(this.payload[0] & 31) || this.payload[0] & 31 == 24)
                && held[..at].iter().any(|before| before.payload == this.payload)
        };
        let (dropped, kept): (Vec<usize>, Vec<usize>) = (0..held.len()).partition(|at| is_repeated(*at));
        assert_eq!(dropped.len() as u64, repeated, "repeated in {held:x?}");
        let expected: Vec<Chunk> = kept.iter().flat_map(|at| held[*at].units.clone()).collect();
        out.strip_prefix(&expected[..]).unwrap_or_else(|| panic!("{out:x?} instead of {held:x?}"))
    }

    /// Every number goes out once, and all that are skipped have a reason.
    fn numbers(&mut self, out: &[Part]) {
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

fn is_set(kind: u8) -> bool {
    matches!(kind, 7 | 8)
}

/// ITU-T H.264 §7.4.1.2.3.
fn may_precede_picture(kind: u8) -> bool {
    is_set(kind) || matches!(kind, 6 | 9 | 13..=18)
}

fn is_filler(units: &[Chunk]) -> bool {
    matches!(units, [unit] if [&[unit.header], &unit.body[..]].concat() == FILLER)
}

/// A payload without the illegal units of an aggregate.
fn repaired(payload: &[u8]) -> Vec<u8> {
    let units = chunks(payload);
    if payload.first().is_none_or(|indicator| indicator & 31 != 24) {
        return payload.to_vec();
    }
    let sized = |unit: &Chunk| {
        let size = (unit.body.len() as u16 + 1).to_be_bytes();
        [&size[..], &[unit.header], &unit.body].concat()
    };
    let legal: Vec<u8> = units.iter().flat_map(sized).collect();
    match &units[..] {
        _ if legal == payload[1..] => payload.to_vec(),
        [only] => [&[only.header], &only.body[..]].concat(),
        // RFC 6184 §5.7.1: as important as the most important one in it.
        several => {
            let importance = several.iter().map(|unit| unit.header & 0x60).max().unwrap_or(0);
            [&[importance | 24], &legal[..]].concat()
        }
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
