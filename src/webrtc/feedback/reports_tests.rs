use proptest::prelude::*;

use super::super::path_tests::Dice;
use super::*;

const MS: Duration = Duration::from_millis(1);

fn reception(clock_rate: u32) -> (Reception, Instant) {
    (Reception { clock_rate, ..Default::default() }, Instant::now())
}

/// The sum of lost packets as a peer reads it from 24 bits.
fn signed(report: &ReceptionReport) -> i32 {
    ((report.total_lost << 8) as i32) >> 8
}

#[test]
fn fraction_and_sum_are_those_of_rfc_3550_a_3_over_two_intervals() {
    let (mut source, now) = reception(90_000);
    for seq in (65_530..=65_535).chain([0, 1, 4]) {
        source.on_packet(SeqNo(seq), 0, now);
    }
    // 65530 to 4 are 11, two are missing: 2 * 256 / 11.
    let first = source.block(7, now).unwrap();
    assert_eq!((first.fraction_lost, signed(&first), first.last_sequence_number), (46, 2, 0x1_0004));
    for seq in [5, 6, 2, 8] {
        source.on_packet(SeqNo(seq), 0, now);
    }
    // Four more expected, four came, one of them late: nothing lost in the interval.
    let second = source.block(7, now).unwrap();
    assert_eq!((second.fraction_lost, signed(&second), second.last_sequence_number), (0, 2, 0x1_0008));
    // An interval without packets has no fraction.
    let third = source.block(7, now).unwrap();
    assert_eq!((third.fraction_lost, signed(&third)), (0, 2));
}

#[test]
fn copies_make_the_sum_negative_but_do_not_hide_loss_in_the_fraction() {
    let (mut source, now) = reception(90_000);
    for seq in [1, 2, 2, 2, 3, 3, 5] {
        source.on_packet(SeqNo(seq), 0, now);
    }
    let report = source.block(7, now).unwrap();
    assert_eq!((report.fraction_lost, signed(&report)), (51, -2));
}

#[test]
fn the_sum_is_clamped_to_24_bits_with_sign() {
    let (mut source, now) = reception(90_000);
    source.on_packet(SeqNo(0), 0, now);
    source.arrived = 1 << 30;
    assert_eq!(signed(&source.block(7, now).unwrap()), -0x80_0000);
    // 400 cycles, all but a few packets of them lost.
    let mut source = Reception { clock_rate: 90_000, ..Default::default() };
    for seq in (0..2_000u64).map(|n| (n * 13_107) as u16) {
        source.on_packet(SeqNo(seq), 0, now);
    }
    assert_eq!(signed(&source.block(7, now).unwrap()), 0x7f_ffff);
}

#[test]
fn jitter_is_that_of_a_8_in_timestamp_units() {
    let (mut source, start) = reception(90_000);
    let mut at = |seq: u16, ms: u32| {
        source.on_packet(SeqNo(seq), u32::from(seq) * 3_600, start + ms * MS);
        source.jitter
    };
    assert_eq!([at(0, 0), at(1, 40), at(2, 80)], [0.0; 3]);
    // 16 ms late: |D| = 1440, a sixteenth of it. Then back in time: another 1440.
    assert_eq!(at(3, 136), 90.0);
    assert_eq!(at(4, 160), 90.0 + (1_440.0 - 90.0) / 16.0);
    // The camera sets its clock anew: that is no jitter.
    let before = source.jitter;
    source.on_packet(SeqNo(5), 2_000_000_000, start + 200 * MS);
    source.on_packet(SeqNo(6), 2_000_003_600, start + 240 * MS);
    assert!(source.jitter < before);
}

#[test]
fn sound_is_measured_in_its_own_clock() {
    let (mut source, start) = reception(48_000);
    source.on_packet(SeqNo(0), 0, start);
    source.on_packet(SeqNo(1), 960, start + 30 * MS);
    assert_eq!(source.jitter, 480.0 / 16.0);
}

#[test]
fn a_sender_report_before_the_first_packet_is_not_lost() {
    let mut reports = ReceiverReports::new(Ssrc(1), 100 * MS, 900 * MS);
    let now = Instant::now();
    let report = SenderReport { ssrc: 7, ntp_time: 0x1122_3344_5566_7788, ..Default::default() };
    let packet = Packet::Rtcp(vec![Box::new(report)]);
    let message = interceptor::AttributedPacket::new(packet);
    reports.observe(&TaggedPacket { now, transport: rtc_shared::TransportContext::default(), message });
    reports.bind(&StreamInfo { ssrc: 7, clock_rate: 90_000, ..Default::default() });
    let source = reports.sources.get_mut(&7).unwrap();
    source.on_packet(SeqNo(1), 0, now);
    let block = source.block(7, now + 500 * MS).unwrap();
    assert_eq!((block.last_sender_report, block.delay), (0x3344_5566, 32_768));
}

/// What a path does to packets.
#[derive(Debug, Clone, Copy)]
struct Path {
    loss: f64,
    /// Mean length of a burst of losses; 1 is random loss.
    burst: f64,
    reorder: f64,
    duplicates: f64,
}

fn path() -> impl Strategy<Value = Path> {
    let loss = prop::sample::select(vec![0.0, 0.01, 0.05, 0.2]);
    let reorder = prop::sample::select(vec![0.0, 0.05]);
    let duplicates = prop::sample::select(vec![0.0, 0.02]);
    (loss, 1.0..8.0, reorder, duplicates).prop_map(|(loss, burst, reorder, duplicates)| Path {
        loss,
        burst,
        reorder,
        duplicates,
    })
}

/// Sequence numbers as they arrive, with the time of arrival in microseconds, in order of time.
fn arrivals(path: Path, packets: u64, first: u64, dice: &mut Dice) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    // Gilbert: a burst ends with probability 1 / burst and begins so often that the loss comes out.
    let begin = path.loss / (path.burst * (1.0 - path.loss));
    let mut lossy = false;
    for n in 0..packets {
        lossy = if lossy { dice.roll() >= 1.0 / path.burst } else { dice.roll() < begin };
        if lossy {
            continue;
        }
        let late = if dice.roll() < path.reorder { 25_000.0 } else { 0.0 };
        let at = n * 5_000 + dice.between(0.0, 30_000.0) as u64 + late as u64;
        out.push((at, first + n));
        if dice.roll() < path.duplicates {
            out.push((at + dice.between(0.0, 20_000.0) as u64, first + n));
        }
    }
    out.sort_unstable();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..Default::default() })]

    #[test]
    fn reports_agree_with_a_model_that_remembers_every_packet(path in path(), seed: u64, first: u16) {
        let (mut source, start) = reception(90_000);
        let first = FIRST_CYCLE + u64::from(first);
        let (mut seen, mut copies) = (std::collections::BTreeSet::new(), 0);
        let (mut lost_sum, mut expected_sum, mut before) = (0.0, 0.0, None::<(u64, u64)>);
        let (mut jitter, mut last, mut origin) = (0.0f64, None::<i64>, None);
        let mut next_report = 900_000;
        for (at, seq) in arrivals(path, 12_000, first, &mut Dice(seed)) {
            if at >= next_report {
                next_report += 900_000;
                let block = source.block(7, start).unwrap();
                let (low, high) = (*seen.first().unwrap(), *seen.last().unwrap());
                let (expected, distinct) = (high - low + 1, seen.len() as u64);
                // The receiver counts cycles from its first packet, which need not be the lowest.
                prop_assert_eq!(block.last_sequence_number as u16, high as u16);
                prop_assert_eq!(i64::from(signed(&block)), expected as i64 - distinct as i64 - copies);
                let (expected_before, distinct_before) = before.replace((expected, distinct)).unwrap_or((0, 0));
                let interval = expected - expected_before;
                let lost = interval.saturating_sub(distinct - distinct_before);
                prop_assert_eq!(u64::from(block.fraction_lost), (lost * 256 / interval).min(255));
                prop_assert!((f64::from(block.jitter) - jitter).abs() <= 1.0);
                lost_sum += f64::from(block.fraction_lost) / 256.0 * interval as f64;
                expected_sum += interval as f64;
            }
            let timestamp = (seq - first) * 450;
            source.on_packet(SeqNo(seq as u16), timestamp as u32, start + Duration::from_micros(at));
            if !seen.insert(seq) {
                copies += 1;
                continue;
            }
            let transit = ((at - *origin.get_or_insert(at)) * 9 / 100) as i64 - timestamp as i64;
            if let Some(last) = last.replace(transit) {
                jitter += ((transit - last).abs() as f64 - jitter) / 16.0;
            }
        }
        let (low, high) = (*seen.first().unwrap(), *seen.last().unwrap());
        let truth = 1.0 - seen.len() as f64 / (high - low + 1) as f64;
        let reported = lost_sum / expected_sum;
        prop_assert!((reported - truth).abs() < 0.02, "{} instead of {}", reported, truth);
    }
}
