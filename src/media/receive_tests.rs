use bytes::Bytes;

use super::*;
use crate::media::rtp::RtpHeader;

struct Camera {
    track: TrackReceiver,
    codec: Codec,
    expected: Option<RtpTime>,
    now: Instant,
    moved: bool,
}

impl Camera {
    fn new() -> Self {
        Self { track: TrackReceiver::new(), codec: Codec::H264, expected: None, now: Instant::now(), moved: false }
    }

    fn sends(&mut self, ssrc: u32, seq: u16, timestamp: u32) -> Result<Placed, Refused> {
        let header = RtpHeader { payload_type: 103, marker: true, seq: SeqNo(seq), timestamp, ssrc: Ssrc(ssrc) };
        let bytes = [&header.to_bytes()[..], &[0x41; 100]].concat();
        let moved = std::mem::take(&mut self.moved);
        let packet = RtpPacket::parse(Bytes::from(bytes)).unwrap();
        self.track.place(&packet, self.codec, moved, &|| self.expected, self.now)
    }

    /// The next packet comes from another address.
    fn moves(&mut self) -> &mut Self {
        self.moved = true;
        self
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }
}

#[test]
fn numbers_stay_continuous_across_both_wraps() {
    let mut camera = Camera::new();
    let first = camera.sends(7, 65_534, u32::MAX - 1_000).unwrap();
    let second = camera.after(40).sends(7, 65_535, (u32::MAX - 1_000).wrapping_add(3_600)).unwrap();
    let third = camera.after(40).sends(7, 0, (u32::MAX - 1_000).wrapping_add(7_200)).unwrap();
    assert_eq!((second.seq.0 - first.seq.0, third.seq.0 - first.seq.0), (1, 2));
    assert_eq!((second.time.0 - first.time.0, third.time.0 - first.time.0), (3_600, 7_200));
    assert!(first.restarted && !third.restarted);
}

#[test]
fn loss_leaves_a_gap_and_reordering_fills_it() {
    let mut camera = Camera::new();
    let first = camera.sends(7, 10, 0).unwrap();
    assert_eq!(camera.sends(7, 12, 0).unwrap().seq.0, first.seq.0 + 2);
    assert_eq!(camera.track.figures(camera.now).lost, 1);
    assert_eq!(camera.sends(7, 11, 0).unwrap().seq.0, first.seq.0 + 1);
    assert_eq!(camera.track.figures(camera.now).lost, 0);
}

#[test]
fn a_duplicate_is_refused() {
    let mut camera = Camera::new();
    camera.sends(7, 10, 0).unwrap();
    camera.sends(7, 11, 0).unwrap();
    assert_eq!(camera.sends(7, 10, 0), Err(Refused::Duplicate));
    assert_eq!(camera.sends(7, 11, 0), Err(Refused::Duplicate));
}

#[test]
fn a_reboot_continues_above_the_highest_number_and_by_the_wall_clock() {
    let mut camera = Camera::new();
    let before = camera.sends(7, 10, 1_000).unwrap();
    assert_eq!(camera.after(2_000).sends(7, 40_000, 77), Err(Refused::Probation));
    let after = camera.sends(7, 40_001, 77).unwrap();
    let (first, placed) = camera.track.take_confirmed().unwrap();
    assert_eq!(first.seq(), SeqNo(40_000));
    assert_eq!((placed.seq.0, after.seq.0), (before.seq.0 + 1, before.seq.0 + 2));
    assert_eq!(placed.time.0, before.time.0 + 2 * 90_000);
    assert!(placed.restarted && after.restarted);
    assert_eq!(camera.track.figures(camera.now).packets, 3);
    assert!(camera.track.take_confirmed().is_none());
}

#[test]
fn a_reboot_seen_by_its_new_address_needs_no_proof() {
    let mut camera = Camera::new();
    let before = camera.sends(7, 10, 1_000).unwrap();
    let after = camera.after(2_000).moves().sends(7, 40_000, 77).unwrap();
    assert_eq!((after.seq.0, after.restarted), (before.seq.0 + 1, true));
    // Numbers that are near by chance, but a clock that is not.
    let again = camera.after(2_000).moves().sends(7, 40_002, 900_000_000).unwrap();
    assert_eq!((again.seq.0, again.restarted), (after.seq.0 + 1, true));
}

#[test]
fn a_rebound_address_goes_on_with_its_numbers() {
    let mut camera = Camera::new();
    let before = camera.sends(7, 10, 1_000).unwrap();
    let after = camera.after(4_000).moves().sends(7, 111, 1_000 + 4 * 90_000).unwrap();
    assert_eq!((after.seq.0 - before.seq.0, after.restarted), (101, false));
    assert_eq!(after.time.0 - before.time.0, 4 * 90_000);
}

#[test]
fn retransmissions_that_come_hundreds_of_packets_late_are_late_and_no_reboot() {
    let mut camera = Camera::new();
    let first = camera.sends(7, 0, 0).unwrap();
    for seq in (1..900).filter(|seq| !(100..102).contains(seq)) {
        camera.sends(7, seq, 0).unwrap();
    }
    assert_eq!(camera.track.figures(camera.now).lost, 2);
    for seq in 100..102 {
        assert_eq!(camera.sends(7, seq, 0).unwrap().seq.0, first.seq.0 + u64::from(seq));
        assert_eq!(camera.sends(7, seq, 0), Err(Refused::Duplicate));
    }
    let next = camera.sends(7, 900, 0).unwrap();
    assert_eq!((next.seq.0 - first.seq.0, next.restarted), (900, false));
    assert_eq!(camera.track.figures(camera.now).lost, 0);
}

#[test]
fn a_jump_within_reason_forgets_what_it_leaves_behind() {
    let mut camera = Camera::new();
    camera.sends(7, 0, 0).unwrap();
    camera.sends(7, 2_000, 0).unwrap();
    assert!(camera.sends(7, 1_024, 0).is_ok(), "the same place as 0, but another number");
    assert_eq!(camera.sends(7, 1_024, 0), Err(Refused::Duplicate));
}

#[test]
fn an_ssrc_change_restarts_at_once() {
    let mut camera = Camera::new();
    let before = camera.sends(7, 10, 1_000).unwrap();
    let after = camera.after(40).sends(8, 500, 9).unwrap();
    assert_eq!((after.seq.0, after.restarted), (before.seq.0 + 1, true));
}

#[test]
fn another_codec_goes_on_in_the_numbering_and_counts_in_its_own_rate() {
    let mut camera = Camera::new();
    camera.codec = Codec::Opus;
    let before = camera.sends(7, 10, 1_000).unwrap();
    camera.codec = Codec::Pcmu;
    let after = camera.after(20).sends(7, 11, 77).unwrap();
    assert_eq!((after.seq.0, after.restarted, after.codec), (before.seq.0 + 1, true, Codec::Pcmu));
    assert_eq!(after.time.0 - before.time.0, 960, "the way to it is the old clock's");
    let next = camera.after(20).sends(7, 12, 237).unwrap();
    assert_eq!((next.time.0 - after.time.0, next.restarted), (160, false));
    assert_eq!(camera.track.figures(camera.now).codec, Some(Codec::Pcmu));
}

#[test]
fn a_restart_goes_on_where_the_clock_is_expected_to_be_unless_that_leaves_the_wall_clock() {
    for (expected, step) in [(None, 36_000), (Some(30_000), 30_000), (Some(90_000 * 60), 36_000), (Some(0), 1)] {
        let mut camera = Camera::new();
        let before = camera.sends(7, 10, 1_000).unwrap();
        camera.expected = expected.map(|ahead| RtpTime(before.time.0 + ahead));
        let after = camera.after(400).sends(8, 99, 5).unwrap();
        assert_eq!(after.time.0 - before.time.0, step, "{expected:?}");
    }
}

#[test]
fn a_leaping_timestamp_is_brought_back_to_the_wall_clock() {
    let mut camera = Camera::new();
    let before = camera.sends(7, 10, 1_000).unwrap();
    let after = camera.after(40).sends(7, 11, 1_000 + 90_000 * 3_600).unwrap();
    assert_eq!(after.time.0 - before.time.0, 3_600);
    assert_eq!(camera.after(40).sends(7, 12, 4_600 + 90_000 * 3_600).unwrap().time.0 - after.time.0, 3_600);
}

#[test]
fn jitter_of_a_steady_stream_is_zero_and_of_a_late_packet_is_not() {
    let mut camera = Camera::new();
    for n in 0..50u16 {
        camera.after(40).sends(7, n, u32::from(n) * 3_600).unwrap();
    }
    assert_eq!(camera.track.figures(camera.now).jitter, Duration::ZERO);
    camera.after(80).sends(7, 50, 50 * 3_600).unwrap();
    assert!(camera.track.figures(camera.now).jitter >= Duration::from_millis(2));
}

#[test]
fn bitrate_is_that_of_the_last_second() {
    let mut camera = Camera::new();
    for n in 0..100u16 {
        camera.after(20).sends(7, n, u32::from(n) * 1_800).unwrap();
    }
    let bitrate = camera.track.figures(camera.now).bitrate;
    assert!((36_000..=41_000).contains(&bitrate), "{bitrate}");
    let later = camera.now + Duration::from_secs(2);
    assert_eq!(camera.track.figures(later).bitrate, 0);
}
