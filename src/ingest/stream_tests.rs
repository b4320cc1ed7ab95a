//! A camera behind a bad line, on virtual time: what the receiver reports say of it, and what is left for viewers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::media::rtp::RtpHeader;
use crate::media::{SeqNo, Ssrc};

const VIDEO: Ssrc = Ssrc(1_607_797_317);
const AUDIO: Ssrc = Ssrc(229_236_353);
const SECONDS: u32 = 60;
const FRAME: Duration = Duration::from_millis(40);
const SOUND: Duration = Duration::from_millis(20);
/// Packets of a picture, without the parameter sets that precede a keyframe.
const SLICES: u32 = 6;
/// Pictures from one keyframe to the next.
const GOP: u32 = 50;
/// From the camera to us.
const DELAY: Duration = Duration::from_millis(20);
/// A swapped packet is this late; enough to be overtaken by a few.
const SWAPPED: Duration = Duration::from_millis(8);
/// Points of a hundred, as a share.
const TOLERANCE: f64 = 0.02;

/// What befalls packets on their way, in shares of all.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    loss: f64,
    /// Packets that each loss takes in a row.
    burst: u32,
    reorder: f64,
    duplicates: f64,
    jitter: Duration,
    /// Jitter lets packets overtake each other, as paths do that have no single queue.
    overtaking: bool,
    /// The camera sends again what is asked for, over the same line.
    repeats: bool,
}

/// What a packet is for whoever decodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Sets,
    Slice { picture: u32, number: u32 },
    Sound(u32),
}

impl Part {
    fn payload(self) -> Bytes {
        let with = |head: &[u8], number: u32| [head, &number.to_be_bytes()].concat().into();
        match self {
            Self::Sets => Bytes::from_static(&[0x78, 0, 5, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0, 2, 0x68, 0xce]),
            Self::Slice { picture, number } => {
                let head: &[u8] = match (picture % GOP, number) {
                    (0, 0) => &[0x65, 0x88, 0x80, 1],
                    (0, _) => &[0x65, 0x22, 0x21, 1],
                    (_, 0) => &[0x41, 0x9a, 0x11, 1],
                    _ => &[0x41, 0x26, 0x11, 1],
                };
                with(head, picture * SLICES + number)
            }
            Self::Sound(number) => with(&[0xf8], number),
        }
    }

    fn of(codec: Codec, payload: &[u8]) -> Self {
        let number = || u32::from_be_bytes(payload[payload.len() - 4..].try_into().unwrap());
        match (codec, payload[0]) {
            (Codec::H264, 0x78) => Self::Sets,
            (Codec::H264, _) => Self::Slice { picture: number() / SLICES, number: number() % SLICES },
            _ => Self::Sound(number()),
        }
    }
}

/// Pictures that can be decoded: all slices there, sets known, and an unbroken chain from a keyframe on.
fn decodable(parts: &HashSet<Part>, first_sets: Option<u32>) -> BTreeSet<u32> {
    let mut whole = BTreeSet::new();
    for picture in 0..SECONDS * 25 {
        let complete = (0..SLICES).all(|number| parts.contains(&Part::Slice { picture, number }));
        let starts = picture % GOP == 0 && first_sets.is_some_and(|first| first <= picture);
        if complete && (starts || picture % GOP != 0 && whole.contains(&(picture - 1))) {
            whole.insert(picture);
        }
    }
    whole
}

#[derive(Default)]
struct Seen(Mutex<Vec<Arc<Frame>>>);

impl FrameSink for Seen {
    fn push(&self, frame: Arc<Frame>) {
        self.0.lock().unwrap().push(frame);
    }
}

/// The way of the packets, and the camera at its end.
struct Run {
    line: Line,
    rng: Xoshiro256PlusPlus,
    stream: Stream,
    seen: Arc<Seen>,
    now: Instant,
    /// On their way, in the order of arrival.
    coming: BTreeMap<(Instant, u64), (Codec, RtpPacket)>,
    count: u64,
    losing: u32,
    last: Instant,
    sent: HashMap<u16, RtpPacket>,
    /// What came at least once, and keyframes' pictures whose sets came.
    arrived: HashSet<u16>,
    survivors: HashSet<Part>,
    first_sets: Option<u32>,
    /// Of the last report: the highest number, and how many had been lost by then.
    reported: Option<u32>,
    first_video: u16,
    reports: Vec<Report>,
}

/// One receiver report against the truth, as shares of the packets between it and the one before.
#[derive(Debug)]
struct Report {
    packets: u32,
    told: f64,
    truth: f64,
}

impl Run {
    fn new(line: Line, seed: u64) -> Self {
        let now = Instant::now();
        let seen = Arc::new(Seen::default());
        let settings = FeedbackSettings { ssrc: Ssrc(1), cname: "c".into(), bitrate_range: (500_000, 5_000_000) };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // Wraps around within the run.
        let first_video = rng.random_range(60_000..=u16::MAX);
        Self {
            line,
            rng,
            stream: Stream::new(settings, true, seen.clone(), now),
            seen,
            now,
            coming: BTreeMap::new(),
            count: 0,
            losing: 0,
            last: now,
            sent: HashMap::new(),
            arrived: HashSet::new(),
            survivors: HashSet::new(),
            first_sets: None,
            reported: None,
            first_video,
            reports: Vec::new(),
        }
    }

    /// All that the camera sends, and what comes of it.
    fn run(mut self) -> Outcome {
        let start = self.now;
        let mut sends: BTreeMap<(Instant, u64), (Part, bool)> = BTreeMap::new();
        let mut order = 0;
        let mut add = |at: Instant, part: Part, marker: bool| {
            order += 1;
            sends.insert((at, order), (part, marker));
        };
        for picture in 0..SECONDS * 25 {
            let at = start + FRAME * picture;
            if picture % GOP == 0 {
                add(at, Part::Sets, false);
            }
            for number in 0..SLICES {
                // A camera's packets leave as its link lets them.
                let at = at + Duration::from_micros(500) * number;
                add(at, Part::Slice { picture, number }, number + 1 == SLICES);
            }
        }
        for number in 0..SECONDS * 50 {
            add(start + SOUND * number, Part::Sound(number), false);
        }
        let (mut video, mut audio) = (self.first_video, 7u16);
        for ((at, _), (part, marker)) in sends {
            self.advance(at);
            let elapsed = at - start;
            let (codec, ssrc, seq) = match part {
                Part::Sound(_) => (Codec::Opus, AUDIO, &mut audio),
                _ => (Codec::H264, VIDEO, &mut video),
            };
            let picture_time = FRAME * (elapsed.as_millis() / FRAME.as_millis()) as u32;
            let media_time = if codec == Codec::H264 { picture_time } else { elapsed };
            let timestamp = (media_time.as_micros() * u128::from(codec.clock_rate()) / 1_000_000) as u32;
            let header = RtpHeader { payload_type: 0, marker, seq: SeqNo(*seq), timestamp, ssrc };
            *seq = seq.wrapping_add(1);
            let packet = RtpPacket::parse([&header.to_bytes()[..], &part.payload()].concat().into()).unwrap();
            if codec == Codec::H264 {
                self.sent.insert(packet.seq().0, packet.clone());
            }
            // The first one sets where the numbering begins.
            let first = part == Part::Sets && elapsed.is_zero();
            self.pass(codec, packet, at, first);
        }
        self.advance(start + Duration::from_secs(u64::from(SECONDS) + 2));
        self.outcome()
    }

    fn pass(&mut self, codec: Codec, packet: RtpPacket, at: Instant, spared: bool) {
        let Line { loss, burst, reorder, duplicates, jitter, overtaking, .. } = self.line;
        let burst = burst.max(1);
        let begins = loss / (loss + f64::from(burst) * (1.0 - loss));
        let (lost, swapped) = (self.rng.random_bool(begins), self.rng.random_bool(reorder));
        let (twice, late) = (self.rng.random_bool(duplicates), self.rng.random_range(0.0..1.0));
        if spared {
            self.arrives(codec, packet, at + DELAY);
            return;
        }
        if lost && self.losing == 0 {
            self.losing = burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return;
        }
        let mut arrival = at + DELAY + jitter.mul_f64(late);
        if !overtaking {
            arrival = arrival.max(self.last);
            self.last = arrival;
        }
        if swapped {
            arrival += SWAPPED;
        }
        if twice {
            let again = arrival + SWAPPED.mul_f64(self.rng.random_range(0.0..2.0));
            self.arrives(codec, packet.clone(), again);
        }
        self.arrives(codec, packet, arrival);
    }

    fn arrives(&mut self, codec: Codec, packet: RtpPacket, at: Instant) {
        self.count += 1;
        self.coming.insert((at, self.count), (codec, packet));
    }

    /// Lets time pass: packets arrive, timers fire.
    fn advance(&mut self, until: Instant) {
        loop {
            let arrival = self.coming.first_key_value().map(|((at, _), _)| *at);
            let timer = self.stream.poll_timeout();
            let next = arrival.map_or(timer, |arrival| arrival.min(timer));
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if arrival.is_some_and(|arrival| arrival <= timer) {
                let (_, (codec, packet)) = self.coming.pop_first().unwrap();
                let part = Part::of(codec, &packet.payload());
                if codec == Codec::H264 {
                    self.arrived.insert(packet.seq().0);
                    if part == Part::Sets && self.first_sets.is_none() {
                        self.first_sets = Some(packet.timestamp() / 3_600);
                    }
                }
                self.survivors.insert(part);
                let _ = self.stream.on_rtp(codec, &packet, false, self.now);
            } else {
                self.stream.handle_timeout(self.now);
            }
            while let Some(output) = self.stream.poll_output() {
                if let StreamOutput::Feedback(compound) = output {
                    self.hear(&compound);
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn hear(&mut self, compound: &[u8]) {
        let mut lost_now = Vec::new();
        for block in blocks(compound).map(Result::unwrap) {
            match block {
                RtcpBlock::ReceiverReport(_, reports) => {
                    for report in reports.iter().filter(|report| report.ssrc == VIDEO.0) {
                        self.check(report.highest_seq, f64::from(report.fraction_lost) / 256.0);
                    }
                }
                RtcpBlock::Nack { media, lost } if media == VIDEO && self.line.repeats => lost_now.extend(lost.iter()),
                _ => {}
            }
        }
        for seq in lost_now {
            let packet = self.sent[&seq.0].clone();
            self.pass(Codec::H264, packet, self.now + DELAY, false);
        }
    }

    /// What the report says against what did not come of the numbers since the last one.
    fn check(&mut self, highest: u32, told: f64) {
        let before = self.reported.replace(highest);
        let first = before.map_or(u32::from(self.first_video), |before| before + 1);
        let lost = (first..=highest).filter(|seq| !self.arrived.contains(&(*seq as u16))).count() as f64;
        let packets = highest + 1 - first;
        if packets > 0 {
            self.reports.push(Report { packets, told, truth: lost / f64::from(packets) });
        }
    }

    fn outcome(mut self) -> Outcome {
        let frames = std::mem::take(&mut *self.seen.0.lock().unwrap());
        let (mut numbers, mut twice) = (HashSet::new(), 0);
        let (mut parts, mut first_sets) = (HashSet::new(), None);
        for frame in &frames {
            for packet in &frame.packets {
                twice += u32::from(!numbers.insert((frame.codec, packet.seq)));
                let part = Part::of(frame.codec, &packet.payload);
                let is_new = parts.insert(part);
                twice += u32::from(part != Part::Sets && !is_new);
                if part == Part::Sets && first_sets.is_none() {
                    first_sets = Some(0);
                }
            }
        }
        let figures = self.stream.figures(self.now);
        Outcome {
            reports: self.reports,
            twice,
            could: decodable(&self.survivors, self.first_sets),
            can: decodable(&parts, first_sets),
            sounds: [&self.survivors, &parts].map(|all| all.iter().filter(|p| matches!(p, Part::Sound(_))).count()),
            duplicates: figures.video.duplicates + figures.audio.duplicates,
        }
    }
}

/// What came of it.
struct Outcome {
    reports: Vec<Report>,
    /// Packets that were forwarded a second time.
    twice: u32,
    /// Pictures that the surviving packets allow, and those that viewers can decode.
    could: BTreeSet<u32>,
    can: BTreeSet<u32>,
    /// Sound packets that came, and that were forwarded.
    sounds: [usize; 2],
    duplicates: u64,
}

impl Outcome {
    fn of(line: Line) -> Self {
        let outcome = Run::new(line, 11).run();
        assert_eq!(outcome.twice, 0, "packets were forwarded twice");
        let missing: Vec<_> = outcome.could.difference(&outcome.can).collect();
        assert!(missing.is_empty(), "{} of {} pictures: {missing:?}", missing.len(), outcome.could.len());
        assert_eq!(outcome.sounds[0], outcome.sounds[1], "sounds that came and that were forwarded");
        outcome
    }

    /// Each report, and all of them together, tell the truth.
    fn tells_the_truth(self) -> Self {
        assert!(self.reports.len() > 60, "{}", self.reports.len());
        for report in self.reports.iter().filter(|report| report.packets > 100) {
            assert!((report.told - report.truth).abs() <= TOLERANCE, "{report:?}");
        }
        let (told, truth) = self.shares();
        assert!((told - truth).abs() <= TOLERANCE / 4.0, "told {told}, truth {truth}");
        self
    }

    fn shares(&self) -> (f64, f64) {
        let all: f64 = self.reports.iter().map(|report| f64::from(report.packets)).sum();
        let share = |of: fn(&Report) -> f64| {
            self.reports.iter().map(|report| of(report) * f64::from(report.packets)).sum::<f64>() / all
        };
        (share(|report| report.told), share(|report| report.truth))
    }

    /// The line really was as bad as that.
    fn lost(self, about: f64) -> Self {
        let (_, truth) = self.shares();
        assert!((truth - about).abs() <= about * 0.4, "{truth} were lost");
        self
    }
}

const JITTER: Duration = Duration::from_millis(30);

#[test]
fn with_one_percent_lost_reports_tell_it_and_all_that_can_be_decoded_is_forwarded() {
    let outcome = Outcome::of(Line { loss: 0.01, ..Line::default() }).tells_the_truth().lost(0.01);
    assert!(outcome.can.len() > 400, "{}", outcome.can.len());
}

#[test]
fn with_five_percent_lost_reports_tell_it_and_all_that_can_be_decoded_is_forwarded() {
    Outcome::of(Line { loss: 0.05, ..Line::default() }).tells_the_truth().lost(0.05);
}

#[test]
fn with_twenty_percent_lost_reports_tell_it_and_all_that_can_be_decoded_is_forwarded() {
    Outcome::of(Line { loss: 0.20, ..Line::default() }).tells_the_truth().lost(0.20);
}

#[test]
fn bursts_of_ten_lost_packets_are_reported_as_they_are() {
    let outcome = Outcome::of(Line { loss: 0.05, burst: 10, ..Line::default() }).tells_the_truth().lost(0.05);
    assert!(outcome.can.len() > 300, "{}", outcome.can.len());
}

#[test]
fn reordering_is_not_reported_as_loss_and_costs_no_picture() {
    let outcome = Outcome::of(Line { reorder: 0.05, ..Line::default() }).tells_the_truth();
    assert_eq!(outcome.can.len(), (SECONDS * 25) as usize);
}

#[test]
fn duplicates_are_dropped_and_hide_no_loss() {
    let outcome = Outcome::of(Line { loss: 0.05, duplicates: 0.02, ..Line::default() }).tells_the_truth().lost(0.05);
    assert!(outcome.duplicates > 150, "{}", outcome.duplicates);
}

#[test]
fn jitter_that_keeps_the_order_costs_nothing() {
    let outcome = Outcome::of(Line { jitter: JITTER, ..Line::default() }).tells_the_truth();
    assert_eq!(outcome.can.len(), (SECONDS * 25) as usize);
}

#[test]
fn jitter_that_lets_packets_overtake_each_other_costs_no_picture() {
    let outcome = Outcome::of(Line { jitter: JITTER, overtaking: true, ..Line::default() });
    assert_eq!(outcome.can.len(), (SECONDS * 25) as usize);
}

#[test]
fn everything_at_once_is_told_truly_and_all_that_can_be_decoded_is_forwarded() {
    let line = Line { loss: 0.05, burst: 3, reorder: 0.05, duplicates: 0.02, jitter: JITTER, ..Line::default() };
    Outcome::of(line).tells_the_truth().lost(0.05);
}

#[test]
fn a_camera_that_sends_again_what_is_asked_for_saves_most_pictures() {
    let line = Line { loss: 0.05, reorder: 0.05, duplicates: 0.02, jitter: JITTER, ..Line::default() };
    let without = Outcome::of(line).can.len();
    let with = Outcome::of(Line { repeats: true, ..line }).can.len();
    let all = (SECONDS * 25) as usize;
    assert!(without < all / 2 && with > all * 9 / 10, "{without} and {with} of {all}");
}
