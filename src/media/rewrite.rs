//! Per-viewer numbering of one track: sequence numbers without holes of our making, timestamps that never
//! step back, whatever is replayed to the viewer before it reaches the live edge.

use std::collections::VecDeque;

use super::id::{ExtSeq, RtpTime};

/// Timestamp step between replayed frames: 1 ms at 90 kHz. Decoders show them at once, one after the other.
const REPLAY_STEP: u64 = 90;
/// Mappings kept for retransmissions, beside the current one: those before the last restarts.
const MAX_EARLIER: usize = 3;
/// What was replayed is not sent again after so long: 10 s at 90 kHz, twice as long as packets are remembered.
const SETTLED: u64 = 900_000;
/// Pictures of a replay that are known by what they were sent as: a slow connection may never reach the live edge.
const MAX_REPLAYED: usize = 1_024;

/// Maps a stream's continuous numbers to a viewer's.
#[derive(Debug)]
pub struct Rewrite {
    /// Read for every packet, and so is nothing that it only points to once the replay is over.
    current: Option<Segment>,
    earlier: VecDeque<Segment>,
    /// A packet of a later time shows that nobody asks any more for what was replayed.
    settles: Option<RtpTime>,
    first_seq: ExtSeq,
    first_time: RtpTime,
    highest: Option<(ExtSeq, RtpTime)>,
}

/// From one (re)start to the next.
#[derive(Debug)]
struct Segment {
    /// First number of the stream in this segment; older ones are not sent any more.
    from: ExtSeq,
    seq_shift: i64,
    time_shift: i64,
    /// Times of the stream that were replayed, and what they were sent as; both ascend.
    replayed: Vec<(RtpTime, RtpTime)>,
    /// The last of them, which is not let go.
    edge: Option<(RtpTime, RtpTime)>,
}

impl Rewrite {
    /// A mapping that begins with these numbers. `first_seq` must be below 2¹⁵ (RFC 3711 §3.3.1: the
    /// receiver guesses a roll-over count of 0 from it).
    pub fn new(first_seq: ExtSeq, first_time: RtpTime) -> Self {
        Self { current: None, earlier: VecDeque::new(), settles: None, first_seq, first_time, highest: None }
    }

    /// Whether anything can be sent.
    pub fn is_started(&self) -> bool {
        self.current.is_some()
    }

    /// Starts, or starts anew, with the packet `from` of the stream. `live` is the timestamp of the newest frame,
    /// and `behind` so many are to be replayed before it.
    pub fn start(&mut self, from: ExtSeq, behind: usize, live: RtpTime) {
        let (seq, time) = match self.highest {
            None => (self.first_seq.0, self.first_time.0),
            Some((seq, time)) => (seq.0 + 1, time.0 + REPLAY_STEP),
        };
        let live_time = time + behind as u64 * REPLAY_STEP;
        let segment = Segment {
            from,
            seq_shift: seq as i64 - from.0 as i64,
            time_shift: live_time as i64 - live.0 as i64,
            replayed: Vec::new(),
            edge: None,
        };
        self.push(segment, live);
    }

    /// A frame of `time` is replayed now, while the newest one is of the time `live` and so many are behind it until
    /// then. Its timestamp is the one of now, as nearly as those of the others leave room: whoever receives it sees a
    /// stream that runs fast, and neither frames that are late nor, at the live edge, a step in time.
    pub fn replay(&mut self, time: RtpTime, behind: usize, live: RtpTime) {
        let Some(segment) = &mut self.current else { return };
        let last = segment.edge;
        // Known already: more of the same picture, or the same again for a socket that refused it.
        if last.is_some_and(|(known, _)| known >= time) {
            return;
        }
        // At the edge it is noted as well: the rest of the picture may leave after newer ones have come.
        let behind = if time < live { behind } else { 0 };
        let sent = segment.shifted(live.max(time)).saturating_sub(behind as u64 * REPLAY_STEP);
        let sent = last.map_or(sent, |(_, before)| sent.max(before.0 + 1));
        if segment.replayed.len() >= MAX_REPLAYED {
            segment.replayed.drain(..MAX_REPLAYED / 2);
        }
        segment.replayed.push((time, RtpTime(sent)));
        segment.edge = Some((time, RtpTime(sent)));
        // It may take long on a slow connection.
        self.settles = Some(RtpTime(live.max(time).0 + SETTLED));
    }

    /// `live`: the time of the newest frame.
    fn push(&mut self, segment: Segment, live: RtpTime) {
        self.earlier.extend(self.current.replace(segment));
        if self.earlier.len() > MAX_EARLIER {
            self.earlier.pop_front();
        }
        self.settles = Some(RtpTime(live.0 + SETTLED));
    }

    /// Viewers stay for hours: what told how they began is let go.
    fn settle(&mut self) {
        self.settles = None;
        self.earlier = VecDeque::new();
        if let Some(current) = &mut self.current {
            current.replayed = Vec::new();
        }
    }

    /// Goes on with the packet `from` of the stream; what is between it and the highest one sent is left out.
    /// Numbers have no hole, timestamps keep their distances. `time` is that of `from`.
    pub fn skip_to(&mut self, from: ExtSeq, time: RtpTime) {
        let (Some(segment), Some((highest, _))) = (&self.current, self.highest) else {
            return self.start(from, 0, time);
        };
        let segment = Segment {
            from,
            seq_shift: (highest.0 + 1) as i64 - from.0 as i64,
            time_shift: segment.time_shift,
            replayed: Vec::new(),
            edge: None,
        };
        self.push(segment, time);
    }

    /// The viewer's numbers for a packet of the stream. `None` before the start, and for packets that
    /// come from before it.
    pub fn map(&mut self, seq: ExtSeq, time: RtpTime) -> Option<(ExtSeq, RtpTime)> {
        if self.settles.is_some_and(|settles| time > settles) {
            self.settle();
        }
        let mapped = self.current.as_ref().filter(|segment| seq >= segment.from)?.map(seq, time);
        let (high_seq, high_time) = self.highest.unwrap_or(mapped);
        self.highest = Some((high_seq.max(mapped.0), high_time.max(mapped.1)));
        Some(mapped)
    }

    /// Finds what was sent under a viewer's sequence number: the stream's number.
    pub fn original(&self, sent: ExtSeq) -> Option<ExtSeq> {
        Some(self.segment_of(sent)?.original(sent))
    }

    /// The viewer's timestamp of a packet that was sent as `sent`; `time` is the stream's. `None` for what was never
    /// sent, and for what was replayed long ago.
    pub fn time_of(&self, sent: ExtSeq, time: RtpTime) -> Option<RtpTime> {
        let segment = self.segment_of(sent)?;
        // Under one number nothing else may be sealed than the first time (RFC 7714 §8.1).
        let is_known = segment.replayed.first().is_some_and(|(first, _)| time >= *first);
        let is_live = segment.edge.is_none_or(|(edge, _)| time > edge);
        (is_known || is_live).then(|| segment.map(segment.original(sent), time).1)
    }

    /// The viewer's timestamp for a moment on the stream's clock, at the live edge.
    pub fn live_time(&self, time: RtpTime) -> Option<RtpTime> {
        Some(RtpTime(self.current.as_ref()?.shifted(time)))
    }

    /// The highest numbers sent.
    pub fn highest(&self) -> Option<(ExtSeq, RtpTime)> {
        self.highest
    }

    fn segment_of(&self, sent: ExtSeq) -> Option<&Segment> {
        if sent > self.highest?.0 {
            return None;
        }
        self.current.iter().chain(self.earlier.iter().rev()).find(|segment| sent >= segment.first_sent())
    }
}

impl Segment {
    fn first_sent(&self) -> ExtSeq {
        ExtSeq(self.from.0.saturating_add_signed(self.seq_shift))
    }

    fn original(&self, sent: ExtSeq) -> ExtSeq {
        ExtSeq(sent.0.saturating_add_signed(-self.seq_shift))
    }

    fn map(&self, seq: ExtSeq, time: RtpTime) -> (ExtSeq, RtpTime) {
        let seq = ExtSeq(seq.0.saturating_add_signed(self.seq_shift));
        if self.edge.is_none_or(|(edge, _)| time > edge) {
            return (seq, RtpTime(self.shifted(time)));
        }
        let at = self.replayed.partition_point(|(replayed, _)| *replayed < time);
        let time = match self.replayed.get(at) {
            None => self.shifted(time),
            Some((replayed, sent)) if *replayed == time => sent.0,
            // A straggler from in between.
            Some((_, sent)) => sent.0.saturating_sub(1),
        };
        (seq, RtpTime(time))
    }

    fn shifted(&self, time: RtpTime) -> u64 {
        time.0.saturating_add_signed(self.time_shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(mapped: Option<(ExtSeq, RtpTime)>) -> (u64, u64) {
        let (seq, time) = mapped.unwrap();
        (seq.0, time.0)
    }

    #[test]
    fn nothing_maps_before_the_start_or_from_before_it() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        assert_eq!(r.map(ExtSeq(7), RtpTime(70)), None);
        r.start(ExtSeq(8), 0, RtpTime(80));
        assert_eq!(r.map(ExtSeq(7), RtpTime(70)), None);
        assert_eq!(wire(r.map(ExtSeq(8), RtpTime(80))), (100, 5_000));
    }

    #[test]
    fn live_packets_keep_their_distances() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        r.start(ExtSeq(8), 0, RtpTime(80));
        r.map(ExtSeq(8), RtpTime(80));
        assert_eq!(wire(r.map(ExtSeq(11), RtpTime(3_680))), (103, 8_600));
        // A late one still finds its place.
        assert_eq!(wire(r.map(ExtSeq(10), RtpTime(80))), (102, 5_000));
    }

    /// Replays frames of one packet each; nothing comes live meanwhile.
    fn replays(r: &mut Rewrite, first: u64, times: &[RtpTime]) -> Vec<(u64, u64)> {
        let live = *times.last().unwrap();
        let one = |(n, time): (usize, &RtpTime)| {
            r.replay(*time, times.len() - 1 - n, live);
            wire(r.map(ExtSeq(first + n as u64), *time))
        };
        times.iter().enumerate().map(one).collect()
    }

    #[test]
    fn a_replay_is_compressed_and_meets_the_live_edge() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        let times = [0, 3_600, 7_200, 10_800].map(RtpTime);
        r.start(ExtSeq(0), 3, times[3]);
        let sent = replays(&mut r, 0, &times);
        assert_eq!(sent, [(100, 5_000), (101, 5_090), (102, 5_180), (103, 5_270)]);
        assert_eq!(wire(r.map(ExtSeq(4), RtpTime(14_400))), (104, 5_270 + 3_600));
        assert_eq!(r.live_time(RtpTime(14_400)), Some(RtpTime(5_270 + 3_600)));
    }

    #[test]
    fn a_slow_replay_moves_on_with_the_live_edge_and_never_steps_back() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        let time = |n: u64| RtpTime(n * 3_600);
        // Every third one has a second half that waits beside it.
        let behind = |n: u64, live: u64| (n..=live).map(|m| 1 + usize::from(m % 3 == 0)).sum::<usize>() - 1;
        r.start(ExtSeq(0), 10, time(10));
        // For every four that are replayed, one comes live.
        let (mut live, mut sent) = (10, Vec::new());
        for n in 0.. {
            live += u64::from(n % 4 == 3);
            r.replay(time(n), behind(n, live), time(live));
            sent.push(wire(r.map(ExtSeq(n), time(n))).1);
            assert!(*sent.last().unwrap() <= 5_000 + 900 + (live - 10) * 3_600, "not ahead of the live edge: {sent:?}");
            r.replay(time(n), 0, time(live));
            assert_eq!(wire(r.map(ExtSeq(n), time(n))).1, *sent.last().unwrap(), "the same again is the same");
            if n == live {
                break;
            }
        }
        assert!(sent.is_sorted_by(|a, b| a < b), "{sent:?}");
        assert_eq!(*sent.last().unwrap(), 5_000 + 900 + (live - 10) * 3_600, "at the live edge it is the time of now");
        assert_eq!(r.time_of(ExtSeq(102), time(2)).unwrap().0, sent[2], "as a retransmission");
    }

    #[test]
    fn a_picture_keeps_its_time_though_newer_ones_come_while_it_is_sent() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        let time = |n: u64| RtpTime(n * 3_600);
        r.start(ExtSeq(0), 2, time(1));
        let mut send = |seq, n, behind, live| {
            r.replay(time(n), behind, time(live));
            wire(r.map(ExtSeq(seq), time(n))).1
        };
        let first = send(0, 0, 2, 1);
        // The newest one, in three parts. Another one comes after the first part, and a packet is late.
        let begun = send(1, 1, 1, 1);
        assert!(begun > first);
        assert_eq!(send(3, 1, 1, 2), begun);
        let next = send(4, 2, 0, 2);
        assert_eq!(next, 5_000 + 180 + 3_600);
        assert_eq!(send(2, 1, 0, 2), begun);
        assert_eq!(wire(r.map(ExtSeq(5), time(3))).1, next + 3_600);
    }

    #[test]
    fn a_restart_goes_on_above_everything_sent() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        r.start(ExtSeq(10), 0, RtpTime(36_000));
        for n in 0..5 {
            r.map(ExtSeq(10 + n), RtpTime(36_000 + n * 3_600));
        }
        let before = r.highest().unwrap();
        // The group began at 8, two frames before the viewer's own start.
        let times: Vec<_> = (0..7).map(|n| RtpTime(28_800 + n * 3_600)).collect();
        r.start(ExtSeq(8), 6, RtpTime(50_400));
        let replay = replays(&mut r, 8, &times);
        assert_eq!(replay[0], (before.0.0 + 1, before.1.0 + REPLAY_STEP));
        assert!(replay.windows(2).all(|w| w[1].0 == w[0].0 + 1 && w[1].1 == w[0].1 + REPLAY_STEP));
        let live = wire(r.map(ExtSeq(15), RtpTime(54_000)));
        assert_eq!((live.0 - replay[6].0, live.1 - replay[6].1), (1, 3_600));
    }

    #[test]
    fn what_is_left_out_makes_no_hole_in_the_numbers_and_no_step_in_time() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        r.skip_to(ExtSeq(10), RtpTime(36_000));
        assert_eq!(wire(r.map(ExtSeq(10), RtpTime(36_000))), (100, 5_000));
        r.skip_to(ExtSeq(50), RtpTime(180_000));
        assert_eq!(r.map(ExtSeq(49), RtpTime(180_000)), None, "it was left out");
        assert_eq!(wire(r.map(ExtSeq(50), RtpTime(180_000))), (101, 5_000 + 144_000));
        assert_eq!(r.original(ExtSeq(101)), Some(ExtSeq(50)));
        assert_eq!(r.original(ExtSeq(100)), Some(ExtSeq(10)));
    }

    #[test]
    fn a_replay_that_takes_minutes_never_steps_back_and_the_last_of_it_can_be_asked_for() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        let time = |n: u64| RtpTime(n * 3_600);
        r.start(ExtSeq(0), 99, time(99));
        // For 31 that are replayed, 30 come live.
        let (mut live, mut sent) = (99, Vec::new());
        for n in 0..3_000 {
            live += u64::from(n % 31 != 0);
            r.replay(time(n), (live - n) as usize, time(live));
            sent.push(wire(r.map(ExtSeq(n), time(n))).1);
        }
        assert!(sent.is_sorted_by(|a, b| a < b), "{sent:?}");
        for n in 2_500..3_000u64 {
            assert_eq!(r.time_of(ExtSeq(100 + n), time(n)), Some(RtpTime(sent[n as usize])));
        }
        assert_eq!(r.time_of(ExtSeq(100), time(0)), None, "forgotten");
        assert!(r.current.unwrap().replayed.capacity() <= 2 * MAX_REPLAYED);
    }

    #[test]
    fn how_it_began_is_let_go_when_nobody_can_ask_for_it_any_more() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        let time = |n: u64| RtpTime(n * 3_600);
        for _ in 0..2 {
            r.start(ExtSeq(0), 1, time(1));
            replays(&mut r, 0, &[time(0), time(1)]);
        }
        let restart = r.time_of(ExtSeq(102), time(0)).unwrap();
        let last = SETTLED / 3_600 + 1;
        for n in 2..=last {
            r.map(ExtSeq(n), time(n));
        }
        assert_eq!((r.original(ExtSeq(100)), r.time_of(ExtSeq(102), time(0))), (Some(ExtSeq(0)), Some(restart)));
        let live = wire(r.map(ExtSeq(last), time(last)));
        let next = wire(r.map(ExtSeq(last + 1), time(last + 1)));
        assert_eq!((next.0 - live.0, next.1 - live.1), (1, 3_600));
        assert_eq!(r.original(ExtSeq(100)), None);
        assert_eq!(r.time_of(ExtSeq(102), time(0)), None, "not under another time than before");
        assert!(r.earlier.capacity() == 0 && r.current.as_ref().unwrap().replayed.capacity() == 0);
        assert_eq!(r.time_of(ExtSeq(next.0), time(last + 1)), Some(RtpTime(next.1)));
    }

    #[test]
    fn a_retransmission_finds_the_original_in_every_segment() {
        let mut r = Rewrite::new(ExtSeq(100), RtpTime(5_000));
        for _ in 0..2 {
            r.start(ExtSeq(10), 1, RtpTime(3_600));
            replays(&mut r, 10, &[RtpTime(0), RtpTime(3_600)]);
        }
        assert_eq!(r.original(ExtSeq(100)), Some(ExtSeq(10)));
        assert_eq!(r.original(ExtSeq(103)), Some(ExtSeq(11)));
        assert_eq!(r.time_of(ExtSeq(100), RtpTime(0)), Some(RtpTime(5_000)));
        assert_eq!(r.time_of(ExtSeq(102), RtpTime(0)), Some(RtpTime(5_180)));
        assert_eq!(r.original(ExtSeq(104)), None, "never sent");
        assert_eq!(r.original(ExtSeq(99)), None, "before the start");
    }
}
