use super::*;

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xba];
const PPS: &[u8] = &[0x68, 0xce, 0x38, 0x80];
const SEI: &[u8] = &[0x06, 0x05, 0x01, 0x02, 0x80];
const AUD: &[u8] = &[0x09, 0xf0];
/// First slice of an IDR picture; its second slice; a P slice.
const IDR: &[u8] = &[0x65, 0x88, 0x84, 1];
const IDR_2: &[u8] = &[0x65, 0x22, 0x21, 2];
const P: &[u8] = &[0x41, 0x9a, 0x11, 3];
/// First, middle and last fragment of an IDR slice.
const FU_IDR: [&[u8]; 3] = [&[0x7c, 0x85, 0x88, 0x84], &[0x7c, 0x05, 7, 8], &[0x7c, 0x45, 9]];

fn stap(units: &[&[u8]]) -> Vec<u8> {
    let units = units.iter().flat_map(|unit| [&(unit.len() as u16).to_be_bytes()[..], unit].concat());
    std::iter::once(0x78).chain(units).collect()
}

#[derive(Default)]
struct Camera {
    repair: VideoRepair,
    seq: u64,
    time: u64,
    out: Vec<Part>,
}

impl Camera {
    fn new() -> Self {
        Self { seq: 1_000, time: 90_000, ..Self::default() }
    }

    /// Knows its parameter sets, and has sent a picture.
    fn running() -> Self {
        let mut camera = Self::new();
        camera.picture(&[&stap(&[SPS, PPS]), IDR]);
        camera.picture(&[P]);
        camera.out.clear();
        camera
    }

    fn packet(&mut self, payload: &[u8], marker: bool) {
        self.seq += 1;
        let packet = self.part(self.seq, payload, marker);
        self.repair.push(packet, &mut self.out);
    }

    fn part(&self, seq: u64, payload: &[u8], marker: bool) -> Part {
        let payload = Bytes::copy_from_slice(payload);
        Part { seq: ExtSeq(seq), time: RtpTime(self.time), marker, payload, starts_keyframe: false }
    }

    /// The packets of one access unit; the last one has the marker.
    fn picture(&mut self, payloads: &[&[u8]]) {
        self.time += 3_600;
        for (n, payload) in payloads.iter().enumerate() {
            self.packet(payload, n + 1 == payloads.len());
        }
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.out.iter().map(|part| part.payload.as_ref()).collect()
    }

    /// Which parts decoding can start with.
    fn starts(&self) -> Vec<bool> {
        self.out.iter().map(|part| part.starts_keyframe).collect()
    }

    fn markers(&self) -> Vec<bool> {
        self.out.iter().map(|part| part.marker).collect()
    }

    /// Distances between the outgoing numbers.
    fn steps(&self) -> Vec<u64> {
        self.out.windows(2).map(|pair| pair[1].seq.0 - pair[0].seq.0).collect()
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        self.repair.counters().named_faults().filter(|(_, count)| *count > 0).collect()
    }
}

// Where decoding starts.

#[test]
fn a_keyframe_with_its_sets_passes_as_it_is_and_starts_with_the_sps() {
    let mut camera = Camera::new();
    camera.picture(&[SPS, PPS, IDR]);
    camera.picture(&[P]);
    assert_eq!(camera.payloads(), [SPS, PPS, IDR, P]);
    assert_eq!(camera.starts(), [true, false, false, false]);
    assert_eq!(camera.steps(), [1, 1, 1]);
    assert_eq!(camera.out[0].seq, ExtSeq(1_001), "nothing moved");
    assert_eq!(camera.repair.counters(), RepairCounters::default());
}

#[test]
fn an_aggregate_with_sets_or_with_the_whole_keyframe_starts_one() {
    for picture in
        [vec![stap(&[SPS, PPS]), IDR.to_vec()], vec![stap(&[SPS, PPS, IDR])], vec![stap(&[AUD, SPS, PPS, SEI, IDR])]]
    {
        let mut camera = Camera::new();
        let payloads: Vec<&[u8]> = picture.iter().map(Vec::as_slice).collect();
        camera.picture(&payloads);
        assert_eq!(camera.payloads(), payloads);
        assert!(camera.starts()[0] && camera.starts()[1..].iter().all(|starts| !starts));
        assert_eq!(camera.repair.counters(), RepairCounters::default());
    }
}

#[test]
fn a_keyframe_without_sets_gets_them_in_front_within_its_own_access_unit() {
    let mut camera = Camera::running();
    camera.picture(&[IDR]);
    camera.picture(&[P]);
    assert_eq!(camera.payloads(), [&stap(&[SPS, PPS])[..], IDR, P]);
    assert_eq!(camera.starts(), [true, false, false]);
    assert_eq!(camera.markers(), [false, true, true]);
    assert_eq!(camera.out[0].time, camera.out[1].time);
    assert_eq!(camera.steps(), [1, 1], "viewers see no hole");
    assert_eq!(camera.repair.counters().completed_keyframes, 1);
}

#[test]
fn a_fragmented_keyframe_without_sets_gets_them_before_its_first_fragment() {
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0], FU_IDR[1], FU_IDR[2]]);
    assert_eq!(camera.payloads(), [&stap(&[SPS, PPS])[..], FU_IDR[0], FU_IDR[1], FU_IDR[2]]);
    assert_eq!(camera.starts(), [true, false, false, false]);
    assert_eq!(camera.steps(), [1, 1, 1]);
}

#[test]
fn a_keyframe_with_an_sps_only_gets_the_pps() {
    let mut camera = Camera::running();
    camera.picture(&[AUD, SPS, IDR]);
    assert_eq!(camera.payloads(), [AUD, SPS, PPS, IDR]);
    assert_eq!(camera.starts(), [true, false, false, false]);
}

#[test]
fn the_newest_sets_are_inserted() {
    let mut camera = Camera::running();
    let other = [PPS, &[1]].concat();
    camera.picture(&[&other, P]);
    camera.out.clear();
    camera.picture(&[IDR]);
    assert_eq!(camera.payloads()[0], stap(&[SPS, &other]));
}

#[test]
fn a_keyframe_whose_sets_nobody_knows_starts_nothing() {
    let mut camera = Camera::new();
    camera.picture(&[IDR]);
    camera.picture(&[FU_IDR[0], FU_IDR[2]]);
    assert_eq!(camera.payloads(), [IDR, FU_IDR[0], FU_IDR[2]]);
    assert_eq!(camera.starts(), [false; 3]);
    let report = camera.repair.doctor().report(camera.repair.counters());
    assert_eq!(report.undecodable_keyframes, 2);
    assert_eq!(report.advice()[0].code, "no_sps");
}

#[test]
fn a_keyframe_of_several_slices_starts_once() {
    let mut camera = Camera::running();
    camera.picture(&[IDR, IDR_2, IDR_2]);
    assert_eq!(camera.payloads(), [&stap(&[SPS, PPS])[..], IDR, IDR_2, IDR_2]);
    assert_eq!(camera.starts(), [true, false, false, false]);
}

#[test]
fn a_keyframe_whose_first_slice_was_lost_starts_nothing() {
    let mut camera = Camera::running();
    camera.time += 3_600;
    camera.seq += 1;
    camera.packet(IDR_2, true);
    assert_eq!((camera.payloads(), camera.starts()), (vec![IDR_2], vec![false]));
}

#[test]
fn a_keyframe_behind_a_loss_starts_if_it_is_whole() {
    let mut camera = Camera::running();
    camera.time += 3_600;
    camera.seq += 1;
    camera.packet(IDR, true);
    assert_eq!(camera.starts(), [true, false]);
    assert_eq!(camera.out[0].seq.0, camera.seq, "the hole of the lost packet stays");
}

#[test]
fn sets_without_a_keyframe_start_nothing() {
    let mut camera = Camera::running();
    camera.picture(&[SPS, PPS, P]);
    assert_eq!(camera.payloads(), [SPS, PPS, P]);
    assert_eq!(camera.starts(), [false; 3]);
}

#[test]
fn sets_with_a_time_of_their_own_do_not_make_the_keyframe_complete() {
    let mut camera = Camera::running();
    camera.picture(&[SPS, PPS]);
    camera.picture(&[IDR]);
    assert_eq!(camera.payloads(), [SPS, PPS, &stap(&[SPS, PPS]), IDR]);
    assert_eq!(camera.starts(), [false, false, true, false]);
}

#[test]
fn marker_bits_on_sets_and_sei_do_not_cut_the_picture() {
    let mut camera = Camera::new();
    for payload in [SPS, PPS, SEI, IDR] {
        camera.packet(payload, true);
    }
    assert_eq!(camera.markers(), [false, false, false, true]);
    assert_eq!(camera.starts(), [true, false, false, false]);
}

#[test]
fn repeated_sets_before_one_keyframe_are_dropped_without_a_hole() {
    let mut camera = Camera::new();
    camera.picture(&[SPS, PPS, SPS, PPS, IDR]);
    camera.picture(&[P]);
    assert_eq!(camera.payloads(), [SPS, PPS, IDR, P]);
    assert_eq!(camera.steps(), [1, 1, 1]);
    assert_eq!(camera.repair.counters().repeated_sets, 2);
}

#[test]
fn sets_far_ahead_of_their_keyframe_are_repeated_next_to_it() {
    let mut camera = Camera::new();
    let ahead = [[SPS, PPS].as_slice(), &[SEI; 10]].concat();
    camera.picture(&[ahead.as_slice(), &[IDR]].concat());
    assert_eq!(camera.payloads(), [ahead.as_slice(), &[&stap(&[SPS, PPS]), IDR]].concat());
    let starts: Vec<_> = (0..14).filter(|n| camera.starts()[*n]).collect();
    assert_eq!(starts, [MAX_PREFIX], "with what is known to leave together");
}

#[test]
fn sets_survive_a_restart_of_the_camera() {
    let mut camera = Camera::running();
    camera.repair.on_restart(&mut camera.out);
    camera.picture(&[IDR]);
    assert_eq!(camera.starts(), [true, false]);
}

// Odd packets: each is counted, the rest is forwarded as it is.

#[test]
fn illegal_packets_between_pictures_are_counted_and_leave_no_trace() {
    for (payload, fault) in [
        (&[][..], "empty"),
        (&[0x60, 1], "reserved_type"),
        (&[0x7e, 1], "reserved_type"),
        (&[0x7f, 1, 2, 3], "reserved_type"),
        (&[0x79, 0, 0, 0, 1, 0x65], "interleaved"),
        (&[0x7a, 0, 0, 0, 0], "interleaved"),
        (&[0x7b, 0, 0, 0, 0], "interleaved"),
        (&[0x7d, 0x85, 0, 1, 2], "interleaved"),
        (&[0x7c], "empty_fragment"),
        (&[0x7c, 0x85], "empty_fragment"),
        (&[0x7c, 0x98, 1], "nested"),
        (&[0x78], "empty_unit"),
        (&[0x78, 0, 0], "empty_unit"),
        (&[0x78, 0, 9, 0x65], "truncated_unit"),
        (&[0x78, 7], "truncated_unit"),
        (&[0x78, 0, 3, 0x78, 0, 0], "nested"),
        (&[0x7c, 0x05, 1], "fragment_without_start"),
        (&[0x7c, 0x45, 1], "fragment_without_start"),
    ] {
        let mut camera = Camera::running();
        camera.picture(&[P]);
        camera.picture(&[payload]);
        camera.picture(&[P]);
        assert_eq!(camera.payloads(), [P, P], "{payload:x?}");
        assert_eq!(camera.steps(), [1], "{payload:x?}");
        assert_eq!(camera.faults(), [(fault, 1)], "{payload:x?}");
    }
}

#[test]
fn a_forbidden_bit_leaves_a_hole_so_that_viewers_know_of_the_damage() {
    let mut camera = Camera::running();
    camera.picture(&[P]);
    camera.picture(&[&[0xc1, 0x9a]]);
    camera.picture(&[P]);
    assert_eq!((camera.payloads(), camera.steps()), (vec![P, P], vec![2]));
    assert_eq!(camera.faults(), [("forbidden_bit", 1)]);
}

#[test]
fn a_fragment_without_end_is_counted_and_the_next_unit_is_intact() {
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0], FU_IDR[1]]);
    camera.picture(&[P]);
    assert_eq!(camera.payloads()[1..], [FU_IDR[0], FU_IDR[1], P]);
    assert_eq!(camera.faults(), [("fragment_without_end", 1)]);
    // The next fragmented unit without the end of the one before.
    camera.picture(&[FU_IDR[0]]);
    camera.picture(&FU_IDR);
    assert_eq!(camera.faults(), [("fragment_without_end", 2)]);
}

#[test]
fn a_loss_is_no_fault_of_fragments() {
    for lost in 0..3 {
        let mut camera = Camera::running();
        camera.time += 3_600;
        for (n, payload) in FU_IDR.iter().enumerate() {
            if n == lost {
                camera.seq += 1;
            } else {
                camera.packet(payload, n == 2);
            }
        }
        camera.picture(&[P]);
        assert_eq!(camera.faults(), [], "fragment {lost} lost");
        let expected: Vec<_> = (0..3).filter(|n| *n != lost).map(|n| FU_IDR[n]).chain([P]).collect();
        let skip = usize::from(lost != 0);
        assert_eq!(camera.payloads()[skip..], expected, "fragment {lost} lost");
        assert_eq!(camera.steps().iter().sum::<u64>() as usize, 3 + skip - usize::from(lost == 0), "the hole stays");
    }
}

#[test]
fn an_empty_fragment_within_a_unit_is_left_out_without_a_hole() {
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0], &[0x7c, 0x05], FU_IDR[1], FU_IDR[2]]);
    assert_eq!(camera.payloads()[1..], FU_IDR);
    assert_eq!(camera.steps(), [1, 1, 1]);
    assert_eq!(camera.faults(), [("empty_fragment", 1)]);
}

#[test]
fn an_illegal_packet_within_a_fragmented_unit_leaves_a_hole() {
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0], &[0x7e, 1], FU_IDR[2]]);
    assert_eq!(camera.payloads()[1..], [FU_IDR[0], FU_IDR[2]]);
    assert_eq!(camera.steps(), [1, 2]);
    assert_eq!(camera.faults(), [("reserved_type", 1)]);
}

#[test]
fn what_follows_a_damaged_beginning_is_no_fault_of_its_own() {
    let mut camera = Camera::running();
    camera.picture(&[&[0xfc, 0x85, 0x88], FU_IDR[1], FU_IDR[2]]);
    assert_eq!(camera.payloads(), FU_IDR[1..]);
    assert_eq!(camera.faults(), [("forbidden_bit", 1)]);
}

#[test]
fn the_marker_of_a_dropped_packet_ends_the_picture_on_a_filler_unit() {
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0], FU_IDR[1], &[0x7c, 0x45]]);
    camera.picture(&[P]);
    assert_eq!(camera.payloads()[1..], [FU_IDR[0], FU_IDR[1], FILLER, P]);
    assert_eq!(camera.markers()[1..], [false, false, true, true]);
    assert_eq!(camera.faults(), [("empty_fragment", 1)]);
}

#[test]
fn a_whole_unit_in_one_fragment_passes() {
    let mut camera = Camera::running();
    camera.picture(&[&[0x5c, 0xc1, 0x9a, 1], P]);
    assert_eq!(camera.payloads(), [&[0x5c, 0xc1, 0x9a, 1], P]);
    assert_eq!(camera.faults(), []);
}

#[test]
fn a_fragment_of_another_kind_or_time_continues_nothing() {
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0], &[0x7c, 0x41, 1]]);
    assert_eq!(camera.faults(), [("fragment_without_start", 1), ("fragment_without_end", 1)]);
    let mut camera = Camera::running();
    camera.picture(&[FU_IDR[0]]);
    camera.picture(&[FU_IDR[2]]);
    assert_eq!(camera.faults(), [("fragment_without_start", 1), ("fragment_without_end", 1)]);
}

#[test]
fn an_aggregate_with_bad_units_keeps_the_good_ones() {
    let bad = [&stap(&[SPS, &[], PPS, &[0x78, 0], IDR])[..], &[0, 99, 0x41]].concat();
    let mut camera = Camera::new();
    camera.picture(&[&bad]);
    camera.picture(&[&stap(&[&[], P])]);
    assert_eq!(camera.payloads(), [&stap(&[SPS, PPS, IDR])[..], P]);
    assert_eq!(camera.starts(), [true, false]);
    assert_eq!(camera.faults(), [("empty_unit", 2), ("truncated_unit", 1), ("nested", 1)]);
}

#[test]
fn packets_behind_the_marker_are_counted() {
    let mut camera = Camera::running();
    for slice in [P, P, P] {
        camera.time = 200_000;
        camera.packet(slice, true);
    }
    assert_eq!(camera.repair.counters().early_markers, 2);
}

#[test]
fn a_picture_without_marker_is_counted_unless_its_end_may_be_lost() {
    let mut camera = Camera::running();
    for lost in [0, 1, 0] {
        camera.seq += lost;
        camera.time += 3_600;
        camera.packet(P, false);
    }
    assert_eq!(camera.repair.counters().missing_markers, 1);
}

// Oversize packets.

#[test]
fn oversize_packets_of_every_shape_are_divided_and_numbers_stay_continuous() {
    let long = |head: &[u8]| [head, &[0x55; 1_400]].concat();
    let single = long(&P[..2]);
    let fragments = [long(&[0x7c, 0x81, 0x9a]), long(&[0x7c, 0x01]), long(&[0x7c, 0x41])];
    let aggregate = stap(&[&[P, &[1; 700]].concat(), &[P, &[2; 700]].concat()]);
    let mut camera = Camera::running();
    camera.picture(&[&single]);
    camera.picture(&[&fragments[0], &fragments[1], &fragments[2]]);
    camera.picture(&[&aggregate]);
    camera.picture(&[P]);
    assert!(camera.out.iter().all(|part| part.payload.len() <= MAX_PAYLOAD));
    assert_eq!(camera.steps(), vec![1; camera.out.len() - 1]);
    assert_eq!(camera.out.len(), 2 + 6 + 2 + 1);
    let fu: Vec<u8> = camera.out[..8].iter().map(|part| part.payload[1]).collect();
    assert_eq!(fu, [0x81, 0x41, 0x81, 1, 1, 1, 1, 0x41]);
    let ends: Vec<usize> = (0..camera.out.len()).filter(|n| camera.out[*n].marker).collect();
    assert_eq!(ends, [1, 7, 9, 10]);
    let report = camera.repair.doctor().report(camera.repair.counters());
    assert_eq!(report.repaired.oversize, 5);
    assert!(report.advice().iter().any(|advice| advice.code == "oversize_packets"));
}

#[test]
fn an_oversize_keyframe_without_sets_starts_with_them() {
    let mut camera = Camera::running();
    camera.picture(&[&[IDR, &[7; 3_000]].concat()]);
    assert_eq!(camera.payloads()[0], stap(&[SPS, PPS]));
    assert_eq!(camera.starts(), [true, false, false, false]);
    assert_eq!(camera.steps(), [1, 1, 1]);
}

// Late packets.

#[test]
fn a_late_packet_finds_the_hole_that_was_left_for_it() {
    let mut camera = Camera::running();
    camera.picture(&[IDR]);
    let before = camera.out.last().unwrap().seq;
    camera.seq += 1;
    let lost = camera.seq;
    camera.picture(&[IDR]);
    let late = camera.part(lost, P, true);
    camera.repair.push_late(late, &mut camera.out);
    let part = camera.out.last().unwrap();
    assert_eq!((part.seq, part.payload.as_ref()), (ExtSeq(before.0 + 1), P));
    assert_eq!(camera.out[camera.out.len() - 3].seq, ExtSeq(before.0 + 2), "the sets behind the hole");
}

#[test]
fn late_packets_that_are_faulty_or_too_large_for_their_hole_are_dropped_and_counted() {
    let mut camera = Camera::running();
    let lost = camera.seq + 1;
    camera.seq += 1;
    camera.picture(&[P]);
    for payload in [&[0x41; MAX_PAYLOAD + 1][..], &[], &[0x7c], &stap(&[P, &[]])] {
        let late = camera.part(lost, payload, false);
        camera.repair.push_late(late, &mut camera.out);
    }
    assert_eq!(camera.payloads(), [P]);
    assert_eq!(camera.repair.counters().late_dropped, 4);
}

#[test]
fn a_late_packet_among_repeated_sets_takes_no_number_of_another() {
    let mut camera = Camera::running();
    camera.time += 3_600;
    camera.packet(SPS, false);
    camera.packet(SPS, false);
    camera.seq += 1;
    let lost = camera.seq;
    camera.packet(PPS, false);
    let late = camera.part(lost, SEI, false);
    camera.repair.push_late(late, &mut camera.out);
    camera.packet(IDR, true);
    camera.picture(&[P]);
    let mut numbers: Vec<u64> = camera.out.iter().map(|part| part.seq.0).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}
