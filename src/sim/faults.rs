//! A bad line between camera and server: packets get lost and change places.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::net::SocketAddr;

/// Which of the camera's sockets a datagram leaves from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Video,
    Audio,
    Rtcp,
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
    loss: f64,
    reorder: f64,
    /// A packet that waits for the next one of its port to overtake it.
    held: Option<Transmit>,
}

impl Line {
    pub(super) fn new(seed: u64, loss_percent: f64, reorder_percent: f64) -> Self {
        let share = |percent: f64| (percent / 100.0).clamp(0.0, 1.0);
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            loss: share(loss_percent),
            reorder: share(reorder_percent),
            held: None,
        }
    }

    /// Passes a media packet on, or not, or behind the next one.
    pub(super) fn pass(&mut self, packet: Transmit, out: &mut VecDeque<Transmit>) {
        // Both are drawn for every packet, so that one fault does not change where the other strikes.
        let (lost, swapped) = (self.rng.random_bool(self.loss), self.rng.random_bool(self.reorder));
        if lost {
            return;
        }
        if self.held.as_ref().is_some_and(|held| held.from == packet.from) {
            out.push_back(packet);
            out.extend(self.held.take());
        } else if swapped && self.held.is_none() {
            self.held = Some(packet);
        } else {
            out.push_back(packet);
        }
    }

    /// Forgets a packet that waits.
    pub(super) fn clear(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(seed: u64, loss: f64, reorder: f64) -> Vec<u32> {
        let mut line = Line::new(seed, loss, reorder);
        let mut out = VecDeque::new();
        let to = "192.0.2.1:9".parse().unwrap();
        for number in 0..1_000u32 {
            let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
            line.pass(Transmit { from: Port::Video, to, bytes }, &mut out);
        }
        out.iter().map(|packet| u32::from_be_bytes(packet.bytes[..].try_into().unwrap())).collect()
    }

    #[test]
    fn a_good_line_changes_nothing() {
        assert_eq!(pass(1, 0.0, 0.0), (0..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn about_as_many_are_lost_as_asked_for_and_the_same_ones_each_time() {
        let left = pass(7, 5.0, 0.0);
        assert!((920..980).contains(&left.len()), "{}", left.len());
        assert!(left.is_sorted());
        assert_eq!(left, pass(7, 5.0, 0.0));
        assert_ne!(left, pass(8, 5.0, 0.0));
        assert_eq!(pass(1, 100.0, 0.0), [] as [u32; 0]);
    }

    #[test]
    fn a_swapped_packet_comes_right_behind_the_next_one() {
        let out = pass(7, 0.0, 10.0);
        let swaps = out.windows(2).filter(|pair| pair[0] == pair[1] + 1).count();
        assert!((60..140).contains(&swaps), "{swaps}");
        let mut sorted = out.clone();
        sorted.sort_unstable();
        assert!(out.len() >= 999 && sorted.iter().zip(0..).all(|(a, b)| *a == b));
        assert_eq!(out, pass(7, 0.0, 10.0));
    }
}
