//! A camera that obeys REMB behind a path that is too narrow, on virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CameraFeedback, FeedbackSettings, FeedbackWarning};
use crate::media::rtcp::{RtcpBlock, blocks};
use crate::media::rtp::{RtpHeader, RtpPacket};
use crate::media::{Codec, SeqNo, Ssrc};

/// Whoever receives the camera's packets and answers with REMB.
pub(super) trait Receiver {
    fn on_packet(&mut self, seq: u16, timestamp: u32, payload: usize, now: Instant);
    fn poll_timeout(&mut self) -> Option<Instant>;
    /// Does what is due and returns the REMB sent with it, if any.
    fn remb(&mut self, now: Instant) -> Option<u64>;
}

/// A small generator, so that a seed means the same scene for ever (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.roll()
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[((self.roll() * from.len() as f64) as usize).min(from.len() - 1)]
    }
}

/// Everything about a scene that a seed does not choose.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    /// What the path carries in bit/s of IP packets during `limited`.
    pub(super) limit: f64,
    /// When the limit is there, in seconds.
    pub(super) limited: (f64, f64),
    /// Most that may wait before the bottleneck.
    pub(super) queue: f64,
    /// What the camera would send if it were let, in bit/s, from a time in seconds on; in ascending order.
    pub(super) wishes: &'static [(f64, f64)],
    /// Seconds until the camera does what a REMB says.
    pub(super) lag: (f64, f64),
    /// Share of packets lost at random.
    pub(super) loss: f64,
    /// The longest random delay of a packet in seconds.
    pub(super) jitter: f64,
    /// The bitrates of the camera's two pictures, if it has but two.
    pub(super) pictures: Option<(f64, f64)>,
    /// Whether the camera looks at REMB at all.
    pub(super) obeys: bool,
    /// Error of the camera's clock in ppm; chosen by the seed within ± this.
    pub(super) drift: f64,
}

pub(super) const SCENE: Scene = Scene {
    limit: 1e6,
    limited: (0.0, f64::MAX),
    queue: 0.2,
    wishes: &[(0.0, 3e6)],
    lag: (0.2, 2.0),
    loss: 0.0,
    jitter: 0.01,
    pictures: None,
    obeys: true,
    drift: 200.0,
};

/// What happened, per 250 ms.
pub(super) struct Outcome {
    /// Bits of IP packets that the camera sent.
    pub(super) sent: Vec<f64>,
    pub(super) arrived: Vec<f64>,
    /// The last REMB.
    pub(super) remb: Vec<u64>,
}

pub(super) const SLOT: f64 = 0.25;
/// RTP, UDP and IPv4 headers.
const HEADERS: usize = 40;
const PAYLOAD: f64 = 1_188.0;

impl Outcome {
    /// Bit/s that the camera sent from `from` to `to` seconds.
    pub(super) fn sent(&self, from: f64, to: f64) -> f64 {
        mean(&self.sent, from, to)
    }

    pub(super) fn arrived(&self, from: f64, to: f64) -> f64 {
        mean(&self.arrived, from, to)
    }

    pub(super) fn remb(&self, at: f64) -> f64 {
        self.remb[(at / SLOT) as usize] as f64
    }
}

fn mean(slots: &[f64], from: f64, to: f64) -> f64 {
    slots[(from / SLOT) as usize..(to / SLOT) as usize].iter().sum::<f64>() / (to - from)
}

/// Plays `scene` for `seconds`.
pub(super) fn play(scene: Scene, seconds: f64, seed: u64, receiver: &mut impl Receiver) -> Outcome {
    let mut dice = Dice(seed);
    let fps = dice.pick(&[15.0, 20.0, 25.0, 30.0]);
    let (lag, drift) = (dice.between(scene.lag.0, scene.lag.1), dice.between(-scene.drift, scene.drift));
    // Depth of the token bucket in seconds at its rate: from two packets to 16 KiB.
    let burst = dice.between(24e3, 131e3) / scene.limit;
    let first_timestamp = (dice.roll() * f64::from(u32::MAX)) as u32;
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let slots = (seconds / SLOT) as usize + 1;
    let mut outcome = Outcome { sent: vec![0.0; slots], arrived: vec![0.0; slots], remb: vec![0; slots] };
    // Arrivals: nanoseconds, sequence number, timestamp, payload.
    let mut flying: BinaryHeap<Reverse<(u64, u16, u32, usize)>> = BinaryHeap::new();
    let mut orders: VecDeque<(f64, f64)> = VecDeque::new();
    let (mut allowed, mut free_at, mut seq) = (f64::MAX, -burst, (dice.roll() * 65_535.0) as u16);
    let gop = (fps * 4.0) as usize;
    let mut remb = 0;
    for n in 0.. {
        let time = n as f64 / fps * (1.0 + drift / 1e6);
        if time >= seconds - 1.0 {
            break;
        }
        // What arrives before this frame is sent, and what the receiver says to it.
        loop {
            let arrival = flying.peek().map(|Reverse((nanos, ..))| start + Duration::from_nanos(*nanos));
            let due = receiver.poll_timeout();
            let Some(next) = arrival.into_iter().chain(due).min().filter(|next| *next <= at(time)) else { break };
            let slot = ((next - start).as_secs_f64() / SLOT) as usize;
            if arrival == Some(next)
                && let Some(Reverse((_, seq, timestamp, payload))) = flying.pop()
            {
                outcome.arrived[slot] += ((payload + HEADERS) * 8) as f64;
                receiver.on_packet(seq, timestamp, payload, next);
            }
            if let Some(value) = receiver.remb(next) {
                remb = value;
                orders.push_back(((next - start).as_secs_f64() + lag, value as f64));
            }
        }
        outcome.remb[(time / SLOT) as usize] = remb;
        while let Some((_, value)) = orders.pop_front_if(|(when, _)| *when <= time) {
            allowed = if scene.obeys { value } else { f64::MAX };
        }
        let wish = scene.wishes.iter().rev().find(|(from, _)| *from <= time).map_or(0.0, |(_, rate)| *rate);
        let rate = match scene.pictures {
            Some((small, large)) => {
                if allowed < large {
                    small
                } else {
                    large
                }
            }
            None => wish.min(allowed),
        };
        let unit = rate / fps * gop as f64 / (gop as f64 + 7.0);
        let bits = unit * if n % gop == 0 { 8.0 } else { dice.between(0.8, 1.2) };
        let packets = (bits / 8.0 / PAYLOAD).ceil().max(1.0) as usize;
        let payload = ((bits / 8.0) as usize / packets).max(1);
        let timestamp = first_timestamp.wrapping_add((n as f64 / fps * 90_000.0) as u32);
        for packet in 0..packets {
            seq = seq.wrapping_add(1);
            // The camera's own uplink: 20 Mbit/s.
            let leaves = time + packet as f64 * 1_200.0 * 8.0 / 20e6;
            let size = ((payload + HEADERS) * 8) as f64;
            outcome.sent[(leaves / SLOT) as usize] += size;
            let mut arrives = leaves;
            if (scene.limited.0..scene.limited.1).contains(&leaves) {
                let full = free_at.max(leaves - burst) + size / scene.limit;
                if full - leaves > scene.queue {
                    continue;
                }
                free_at = full;
                arrives = arrives.max(full);
            }
            if dice.roll() < scene.loss {
                continue;
            }
            arrives += 0.005 + dice.between(0.0, scene.jitter);
            flying.push(Reverse(((arrives * 1e9) as u64, seq, timestamp, payload)));
        }
    }
    outcome
}

/// The whole feedback of a camera, as the ingest uses it.
struct Whole {
    feedback: CameraFeedback,
    warnings: Vec<FeedbackWarning>,
    last: Option<Instant>,
    longest_silence: Duration,
}

impl Whole {
    fn new() -> Self {
        let settings =
            FeedbackSettings { ssrc: Ssrc(1), cname: "honeycast".into(), bitrate_range: (500_000, 5_000_000) };
        let feedback = CameraFeedback::new(settings);
        Self { feedback, warnings: Vec::new(), last: None, longest_silence: Duration::ZERO }
    }
}

impl Receiver for Whole {
    fn on_packet(&mut self, seq: u16, timestamp: u32, payload: usize, now: Instant) {
        let header = RtpHeader { payload_type: 103, marker: false, seq: SeqNo(seq), timestamp, ssrc: Ssrc(7) };
        let bytes = [&header.to_bytes()[..], &vec![0x41; payload]].concat();
        let packet = RtpPacket::parse(Bytes::from(bytes)).unwrap();
        self.feedback.on_rtp(Codec::H264, &packet, false, now);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.feedback.poll_timeout()
    }

    fn remb(&mut self, now: Instant) -> Option<u64> {
        let mut remb = None;
        while let Some(compound) = self.feedback.poll_datagram(now) {
            for block in blocks(&compound).map(Result::unwrap) {
                if let RtcpBlock::Remb { bitrate, .. } = block {
                    let silence = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
                    self.longest_silence = self.longest_silence.max(silence);
                    remb = Some(bitrate);
                }
            }
        }
        self.warnings.extend(self.feedback.health(now).warning);
        remb
    }
}

/// Acceptance of a rate-limited path: 1 Mbit/s for 90 s, a camera that starts at 3 Mbit/s.
#[test]
fn behind_a_path_of_1_mbit_the_camera_is_under_it_within_10_s_uses_80_to_100_percent_and_is_back_up_in_30_s() {
    for seed in 0..30 {
        let mut whole = Whole::new();
        let outcome = play(Scene { limited: (0.0, 90.0), ..SCENE }, 126.0, seed, &mut whole);
        let under = (0..10).find(|second| outcome.sent(f64::from(*second), f64::from(*second) + 1.0) < 1e6);
        assert!(under.is_some(), "seed {seed}: over the limit after 10 s");
        let mean = outcome.sent(10.0, 90.0);
        assert!((0.85e6..1e6).contains(&mean), "seed {seed}: {mean} over all");
        // Five keyframe intervals, so that one keyframe more or less does not matter. A probe that went through
        // slowly may show in one of them.
        for from in (10..=70).map(f64::from) {
            let sent = outcome.sent(from, from + 20.0);
            assert!((0.8e6..=1.02e6).contains(&sent), "seed {seed}: {sent} from {from} s");
        }
        let back = outcome.sent(118.0, 122.0);
        assert!(back > 2.7e6, "seed {seed}: {back} 30 s after the limit");
        assert!(whole.longest_silence <= Duration::from_secs(1), "seed {seed}: {:?}", whole.longest_silence);
        assert_eq!(whole.warnings, [], "seed {seed}");
        assert_eq!(whole.feedback.health(whole.last.unwrap()).follows_remb, Some(true), "seed {seed}");
    }
}

#[test]
fn a_camera_that_ignores_remb_is_reported_after_10_s() {
    for (seconds, warned) in [(10.0, false), (16.0, true)] {
        let mut whole = Whole::new();
        play(Scene { obeys: false, ..SCENE }, seconds, 1, &mut whole);
        assert_eq!(whole.warnings.contains(&FeedbackWarning::RembIgnored), warned, "within {seconds} s");
        assert!(whole.warnings.iter().all(|warning| *warning == FeedbackWarning::RembIgnored));
        assert_eq!(whole.feedback.health(whole.last.unwrap()).follows_remb, warned.then_some(false));
    }
}

#[test]
fn a_falling_estimate_does_not_wait_for_the_next_report() {
    let mut whole = Whole::new();
    let outcome = play(Scene { lag: (0.2, 0.2), ..SCENE }, 8.0, 1, &mut whole);
    assert!(outcome.remb(2.5) < 1.2e6, "{}", outcome.remb(2.5));
}
