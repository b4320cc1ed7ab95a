use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::clock::StreamClock;
use crate::media::id::{RtpTime, SeqNo, Ssrc};
use crate::media::receive::{Placed, TrackReceiver};
use crate::media::rtp::RtpHeader;

/// A camera's line up to the frames: receiver, order, repair, grouping.
struct Line {
    receiver: TrackReceiver,
    clock: StreamClock,
    pipeline: Pipeline,
    now: Instant,
    frames: Vec<Frame>,
}

impl Line {
    fn new() -> Self {
        Self {
            receiver: TrackReceiver::new(),
            clock: StreamClock::default(),
            pipeline: Pipeline::new(MediaKind::Video),
            now: Instant::now(),
            frames: Vec::new(),
        }
    }

    fn arrives(&mut self, packet: &RtpPacket) {
        let Ok(mut placed) = self.receiver.place(packet, Codec::H264, false, &|| None, self.now) else { return };
        if let Some((first, placed_first)) = self.receiver.take_confirmed() {
            self.forward(&first, placed_first);
            placed.restarted = false;
        }
        self.forward(packet, placed);
    }

    fn forward(&mut self, packet: &RtpPacket, placed: Placed) {
        let clock = self.clock.on_packet(Codec::H264, placed.time, self.now);
        self.pipeline.push(packet, placed, clock, self.now, &mut self.frames);
    }

    fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.pipeline.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.pipeline.handle_timeout(self.now, &mut self.frames);
        }
        self.now = end;
    }

    /// Sequence number, timestamp and payload of everything that came out, in the order of leaving.
    fn out(&self) -> Vec<(u64, RtpTime, Bytes)> {
        let packets = self.frames.iter().flat_map(|frame| frame.packets.iter().map(|packet| (frame.time, packet)));
        packets.map(|(time, packet)| (packet.seq.0, time, packet.payload.clone())).collect()
    }
}

/// Packet `n` of a stream with five packets a picture and a keyframe every ten pictures. Each NAL unit
/// carries its number.
fn packet(n: u16) -> RtpPacket {
    packet_of(n, false)
}

/// The same; every other keyframe may be `bare` of parameter sets.
fn packet_of(n: u16, bare: bool) -> RtpPacket {
    let [high, low] = n.to_be_bytes();
    let (picture, place) = (n / 5, n % 5);
    let first = place == 0;
    let payload: &[u8] = match (picture % 10, place) {
        (0, 0) if bare && picture % 20 == 10 => &[0x65, 0x88, 0x80, 1, high, low],
        (0, 0) => &[0x78, 0, 5, 0x67, 0x42, 0xc0, 0x1f, 0xd9, 0, 2, 0x68, 0xce, 0, 6, 0x65, 0x88, 0x80, 1, high, low],
        (0, _) => &[0x65, 0x22, 0x21, 1, high, low],
        _ if first => &[0x41, 0x9a, 0x11, 1, high, low],
        _ => &[0x41, 0x26, 0x11, 1, high, low],
    };
    let timestamp = u32::from(picture) * 3_600;
    let header = RtpHeader { payload_type: 103, marker: place == 4, seq: SeqNo(n), timestamp, ssrc: Ssrc(1) };
    RtpPacket::parse(Bytes::from([&header.to_bytes()[..], payload].concat())).unwrap()
}

fn number(payload: &Bytes) -> u16 {
    u16::from_be_bytes([payload[payload.len() - 2], payload[payload.len() - 1]])
}

#[test]
fn a_clean_stream_passes_as_it_is_in_frames_of_one_picture() {
    let mut line = Line::new();
    let sent: Vec<RtpPacket> = (0..500).map(packet).collect();
    for (n, packet) in sent.iter().enumerate() {
        line.arrives(packet);
        assert_eq!(line.out().len(), (n + 1) / 5 * 5, "a picture leaves with its last packet");
        line.passes(Duration::from_micros(100));
    }
    let out = line.out();
    for (sent, (_, _, forwarded)) in sent.iter().zip(&out) {
        assert_eq!(*forwarded, sent.payload());
    }
    assert!(out.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
    let starts: Vec<_> = (0..100).filter(|n| line.frames[*n].starts_keyframe).collect();
    assert_eq!(starts, (0..100).step_by(10).collect::<Vec<_>>());
    let report = line.pipeline.codec().unwrap();
    assert_eq!((report.frame_rate, report.gop.unwrap().frames), (Some(25.0), 10));
}

#[test]
fn a_reordered_stream_leaves_in_order_from_its_first_packet_on() {
    let mut line = Line::new();
    for n in 0..400u16 {
        // Every tenth packet is overtaken by three.
        let sent = match n % 10 {
            3 => n + 3,
            4..=6 => n - 1,
            _ => n,
        };
        line.arrives(&packet(sent));
        line.passes(Duration::from_millis(2));
    }
    let out = line.out();
    assert_eq!(out.len(), 400);
    assert!(out.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1 && pair[1].1 >= pair[0].1));
    let seen = line.pipeline.reordering();
    assert_eq!((seen.reordered, seen.late), (120, 0));
}

#[test]
fn a_first_keyframe_whose_beginning_comes_last_is_whole_and_so_is_one_with_a_gap() {
    for order in [[1, 2, 3, 4, 0], [0, 2, 1, 4, 3], [4, 3, 2, 1, 0]] {
        let mut line = Line::new();
        for n in order {
            line.arrives(&packet(n));
            line.passes(Duration::from_millis(9));
        }
        line.passes(Duration::from_millis(14));
        assert_eq!(
            line.out().iter().map(|(_, _, payload)| number(payload)).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4],
            "{order:?}"
        );
        assert!(line.frames[0].starts_keyframe, "{order:?}");
    }
}

#[test]
fn a_lost_packet_leaves_its_number_free_and_delays_nothing() {
    let mut line = Line::new();
    for n in (0..100).filter(|n| *n != 42) {
        line.arrives(&packet(n));
        // The stream's beginning, when gaps are waited for, is over with its first picture.
        line.passes(Duration::from_millis(if n == 4 { 500 } else { 0 }));
    }
    let out = line.out();
    assert_eq!(out.len(), 99);
    assert_eq!(out.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step == 2).count(), 1);
    line.arrives(&packet(42));
    line.passes(Duration::from_millis(1));
    let out = line.out();
    let hole = out.iter().position(|(_, _, payload)| number(payload) == 43).unwrap();
    assert_eq!(out.last().map(|late| (late.0, number(&late.2))), Some((out[hole].0 - 1, 42)));
}

#[test]
fn a_rebooted_camera_goes_on_where_the_numbers_were_and_starts_with_its_keyframe() {
    let mut line = Line::new();
    (0..57).for_each(|n| line.arrives(&packet(n)));
    // The first packet of the new run is believed with the second, and not lost.
    line.passes(Duration::from_secs(2));
    (40_000..40_060).for_each(|n| line.arrives(&packet(n)));
    line.passes(Duration::from_millis(50));
    let out = line.out();
    assert!(out.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1 && pair[1].1 >= pair[0].1));
    assert_eq!(out.len(), 57 + 60);
}

proptest! {
    /// Loss, duplicates and reordering by up to `spread` packets, all at once.
    #[test]
    fn each_surviving_unit_leaves_once_and_in_its_place(
        fates in prop::collection::vec((0..20u8, 0..8u16), 300),
        gap_micros in 0..3_000u64,
        spread in 0..2u16,
    ) {
        let mut sent: Vec<(u16, u16)> = Vec::new();
        for (n, (fate, delay)) in (0u16..).zip(&fates) {
            let position = n + delay * spread;
            match fate {
                // The first one arrives: what is before it has no number.
                0 if n > 0 => {}
                1 => sent.extend([(position, n), (position + 3, n)]),
                _ => sent.push((if n == 0 { 0 } else { position }, n)),
            }
        }
        sent.sort_by_key(|(position, _)| *position);
        let mut line = Line::new();
        for (_, n) in &sent {
            line.arrives(&packet_of(*n, true));
            line.passes(Duration::from_micros(gap_micros));
        }
        line.passes(Duration::from_millis(100));

        let mut survivors: Vec<u16> = sent.iter().map(|(_, n)| *n).collect();
        survivors.sort_unstable();
        survivors.dedup();
        let mut out = line.out();
        out.sort_by_key(|(seq, ..)| *seq);
        // Sets that were put before a keyframe carry no number.
        let units: Vec<&(u64, RtpTime, Bytes)> = out.iter().filter(|(_, _, payload)| payload.len() != 12).collect();
        let numbers: Vec<u16> = units.iter().map(|(_, _, payload)| number(payload)).collect();
        prop_assert_eq!(&numbers, &survivors);
        for (_, _, payload) in &units {
            prop_assert_eq!(payload, &packet_of(number(payload), true).payload());
        }
        for pair in out.windows(2) {
            prop_assert!(pair[1].0 > pair[0].0, "one number, one packet");
            prop_assert!(pair[1].1 >= pair[0].1, "time goes on");
        }
        for pair in units.windows(2) {
            // Holes are lost packets and nothing else.
            let (lost, inserted) = (number(&pair[1].2) - number(&pair[0].2) - 1, out.len() - units.len());
            let step = pair[1].0 - pair[0].0 - 1;
            prop_assert!(step >= u64::from(lost) && step <= u64::from(lost) + inserted as u64);
        }
    }
}
