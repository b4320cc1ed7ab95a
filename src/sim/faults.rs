//! A bad line between camera and server: packets get lost, come twice, come late and change places.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::settings::FaultSettings;

/// Which of the camera's sockets a datagram leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Video,
    Audio,
    /// RTCP of both media, or of the video alone.
    Rtcp,
    /// RTCP of the audio, where it has a socket of its own.
    AudioRtcp,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transmit {
    pub(super) from: Port,
    pub(super) to: SocketAddr,
    pub(super) bytes: Bytes,
}

/// The line. The same seed loses the same packets.
#[derive(Debug)]
pub(super) struct Line {
    rng: Xoshiro256PlusPlus,
    /// Probability that a packet begins a loss, and packets that each loss takes.
    loss: f64,
    burst: u32,
    /// Packets that the present loss still takes.
    losing: u32,
    reorder: f64,
    duplicate: f64,
    jitter: Duration,
    /// A packet that waits for the next one of its port to overtake it.
    held: Option<Transmit>,
    /// On their way, in the order in which they arrive.
    late: VecDeque<(Instant, Transmit)>,
}

impl Line {
    pub(super) fn new(seed: u64, faults: &FaultSettings) -> Self {
        let share = |percent: f64| (percent / 100.0).clamp(0.0, 1.0);
        let (lost, burst) = (share(faults.loss_percent), faults.loss_burst.max(1));
        // As many packets as asked for are lost, however many at a time.
        let loss = if lost == 0.0 { 0.0 } else { lost / (lost + f64::from(burst) * (1.0 - lost)) };
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            loss,
            burst,
            losing: 0,
            reorder: share(faults.reorder_percent),
            duplicate: share(faults.duplicate_percent),
            jitter: faults.jitter,
            held: None,
            late: VecDeque::new(),
        }
    }

    /// Passes a media packet on: now, later, twice, behind the next one or not at all, and says whether it does.
    pub(super) fn pass(&mut self, now: Instant, packet: Transmit, out: &mut VecDeque<Transmit>) -> bool {
        // All is drawn for every packet, so that one fault does not change where the others strike.
        let (lost, swapped) = (self.rng.random_bool(self.loss), self.rng.random_bool(self.reorder));
        let (twice, delay) = (self.rng.random_bool(self.duplicate), self.rng.random_range(0.0..1.0));
        if lost && self.losing == 0 {
            self.losing = self.burst;
        }
        if self.losing > 0 {
            self.losing -= 1;
            return false;
        }
        let mut passed = Vec::with_capacity(3);
        if self.held.as_ref().is_some_and(|held| held.from == packet.from) {
            passed.push(packet);
            passed.extend(self.held.take());
        } else if swapped && self.held.is_none() {
            self.held = Some(packet);
        } else {
            passed.push(packet);
        }
        if twice {
            passed.extend(passed.last().cloned());
        }
        if self.jitter.is_zero() {
            out.extend(passed);
            return true;
        }
        // A queue on the way delays and keeps the order.
        let earliest = self.late.back().map_or(now, |(at, _)| *at);
        let at = (now + self.jitter.mul_f64(delay)).max(earliest);
        self.late.extend(passed.into_iter().map(|packet| (at, packet)));
        true
    }

    /// When [`Self::arrive`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.late.front().map(|(at, _)| *at)
    }

    /// Passes on what was late and is due.
    pub(super) fn arrive(&mut self, now: Instant, out: &mut VecDeque<Transmit>) {
        while self.deadline().is_some_and(|at| at <= now) {
            out.extend(self.late.pop_front().map(|(_, packet)| packet));
        }
    }

    /// Forgets the packets that wait.
    pub(super) fn clear(&mut self) {
        self.held = None;
        self.late.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(seed: u64, change: impl FnOnce(&mut FaultSettings)) -> Vec<u32> {
        let mut faults = FaultSettings::default();
        change(&mut faults);
        let mut line = Line::new(seed, &faults);
        let mut out = VecDeque::new();
        let to = "192.0.2.1:9".parse().unwrap();
        let start = Instant::now();
        for number in 0..1_000u32 {
            let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
            let now = start + Duration::from_millis(u64::from(number));
            line.arrive(now, &mut out);
            line.pass(now, Transmit { from: Port::Video, to, bytes }, &mut out);
        }
        out.iter().map(|packet| u32::from_be_bytes(packet.bytes[..].try_into().unwrap())).collect()
    }

    fn lossy(seed: u64, percent: f64, burst: u32) -> Vec<u32> {
        pass(seed, |faults| (faults.loss_percent, faults.loss_burst) = (percent, burst))
    }

    #[test]
    fn a_good_line_changes_nothing() {
        assert_eq!(pass(1, |_| {}), (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn about_as_many_are_lost_as_asked_for_and_the_same_ones_each_time() {
        let left = lossy(7, 5.0, 1);
        assert!((920..980).contains(&left.len()), "{}", left.len());
        assert!(left.is_sorted());
        assert_eq!(left, lossy(7, 5.0, 1));
        assert_ne!(left, lossy(8, 5.0, 1));
        assert_eq!(lossy(1, 100.0, 1), [] as [u32; 0]);
    }

    #[test]
    fn bursts_lose_as_many_packets_in_fewer_places() {
        let left = lossy(7, 10.0, 8);
        assert!((820..960).contains(&left.len()), "{}", left.len());
        let gaps: Vec<_> = left.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|gap| *gap > 0).collect();
        // Two bursts can touch.
        assert!(gaps.len() > 3 && gaps.iter().all(|gap| gap % 8 == 0), "{gaps:?}");
    }

    #[test]
    fn duplicates_come_right_behind_their_originals() {
        let out = pass(7, |faults| faults.duplicate_percent = 2.0);
        let twice = out.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((8..40).contains(&twice) && out.len() == 1_000 + twice, "{twice}");
    }

    #[test]
    fn jitter_delays_by_no_more_than_asked_for_and_keeps_the_order() {
        let out = pass(7, |faults| faults.jitter = Duration::from_millis(30));
        assert!(out.is_sorted());
        assert!((970..1_000).contains(&out.len()), "{}", out.len());
    }

    #[test]
    fn a_swapped_packet_comes_right_behind_the_next_one() {
        let out = pass(7, |faults| faults.reorder_percent = 10.0);
        let swaps = out.windows(2).filter(|pair| pair[0] == pair[1] + 1).count();
        assert!((60..140).contains(&swaps), "{swaps}");
        let mut sorted = out.clone();
        sorted.sort_unstable();
        assert!(out.len() >= 999 && sorted.iter().zip(0..).all(|(a, b)| *a == b));
        assert_eq!(out, pass(7, |faults| faults.reorder_percent = 10.0));
    }
}
