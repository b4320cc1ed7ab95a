use std::time::UNIX_EPOCH;

use super::*;

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";

fn camera() -> CameraId {
    CAMERA.parse().unwrap()
}

fn other(number: u32) -> CameraId {
    format!("{number:032X}").parse().unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn picture(code: PictureCode) -> PictureStatus {
    PictureStatus { code, text: "words".into() }
}

fn idle() -> Status {
    Status {
        state: None,
        picture: picture(PictureCode::NoStream),
        online: None,
        viewers: 0,
        feedback: None,
        doctor: None,
    }
}

fn active() -> Status {
    Status { state: Some((State::Active, None)), picture: picture(PictureCode::Ok), ..idle() }
}

fn names(changes: &[Change]) -> Vec<(&'static str, &str)> {
    changes.iter().map(|change| (change.what.name(), change.value.as_str())).collect()
}

fn reading(stream: StreamId, packets: u64, lost: u64) -> Reading {
    Reading { stream, bitrate: 1_000_000, packets, lost, jitter_ms: 2.5, remb_kbps: 4_000, viewers: 1 }
}

#[test]
fn a_look_that_finds_nothing_new_is_no_change() {
    let mut histories = Histories::new(10);
    assert_eq!(histories.observe(camera(), at(0), idle()), []);
    assert_eq!(names(&histories.observe(camera(), at(1), active())), [("state", "active"), ("picture", "ok")]);
    assert_eq!(histories.observe(camera(), at(2), active()), []);
    // Other words for the same code are no news: they count seconds.
    let same = Status { picture: PictureStatus { code: PictureCode::Ok, text: "other words".into() }, ..active() };
    assert_eq!(histories.observe(camera(), at(3), same), []);
}

#[test]
fn every_aspect_is_told_with_its_reason_and_kept_where_it_is_history() {
    let mut histories = Histories::new(10);
    histories.observe(camera(), at(0), active());
    let changed = Status {
        state: Some((State::Error, Some("silent for 60 s".into()))),
        picture: picture(PictureCode::CameraOffline),
        online: Some(false),
        viewers: 3,
        feedback: Some("no feedback".into()),
        doctor: Some(("b_frames".into(), Some("Switch them off.".into()))),
    };
    let told = histories.observe(camera(), at(5), changed.clone());
    let expected = [
        ("online", "offline"),
        ("state", "error"),
        ("picture", "camera_offline"),
        ("feedback", "warning"),
        ("doctor", "b_frames"),
        ("viewers", "3"),
    ];
    assert_eq!(names(&told), expected);
    assert_eq!(told[1].text.as_deref(), Some("silent for 60 s"));
    let (_, kept) = histories.of(camera(), at(6));
    assert_eq!(names(&kept)[2..], expected[..5], "viewers are in the points");
    let healed = Status { feedback: None, doctor: Some((String::new(), None)), ..changed };
    assert_eq!(names(&histories.observe(camera(), at(7), healed)), [("feedback", "ok"), ("doctor", "ok")]);
}

#[test]
fn a_stream_that_is_gone_has_stopped_but_a_failed_one_has_failed() {
    let mut histories = Histories::new(10);
    histories.observe(camera(), at(0), active());
    let told = histories.observe(camera(), at(1), idle());
    assert_eq!(names(&told), [("state", "stopped"), ("picture", "no_stream")]);
    let failed = Status { state: Some((State::Error, None)), ..active() };
    histories.observe(camera(), at(2), failed);
    assert_eq!(names(&histories.observe(camera(), at(600), idle())), [("picture", "no_stream")]);
}

#[test]
fn loss_is_that_of_the_interval_and_of_one_stream() {
    let (mut histories, stream) = (Histories::new(10), StreamId::random());
    histories.sample(camera(), at(0), &reading(stream, 90, 10));
    histories.sample(camera(), at(10), &reading(stream, 190, 10));
    // Late packets: fewer are lost than before.
    histories.sample(camera(), at(20), &reading(stream, 290, 4));
    histories.sample(camera(), at(30), &reading(StreamId::random(), 50, 50));
    let (points, _) = histories.of(camera(), at(31));
    assert_eq!(points.iter().map(|point| point.loss).collect::<Vec<_>>(), [0.1, 0.0, 0.0, 0.5]);
    assert_eq!((points[3].bitrate, points[3].viewers), (1_000_000, 1));
}

#[test]
fn points_and_changes_are_bounded_and_points_grow_old() {
    let (mut histories, stream) = (Histories::new(10), StreamId::random());
    for turn in 0..1_000 {
        let status = if turn % 2 == 0 { active() } else { idle() };
        histories.observe(camera(), at(turn * 10), status);
        histories.sample(camera(), at(turn * 10), &reading(stream, turn, 0));
    }
    let (points, changes) = histories.of(camera(), at(9_990));
    assert_eq!((points.len(), changes.len()), (MAX_POINTS, MAX_CHANGES));
    assert_eq!((points[359].at, changes[99].at), (at(9_990), at(9_990)));
    let (points, _) = histories.of(camera(), at(9_990 + 3_600));
    assert_eq!(points.len(), 1, "only the last is not older than an hour");
}

#[test]
fn the_quietest_camera_makes_room() {
    let mut histories = Histories::new(3);
    for number in 1..=3 {
        histories.observe(other(number), at(0), active());
    }
    histories.observe(other(1), at(1), active());
    histories.observe(other(4), at(2), active());
    let known = |number| !histories.of(other(number), at(3)).1.is_empty();
    assert_eq!([known(1), known(2), known(3), known(4)], [true, false, true, true]);
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let mut histories = Histories::new(1);
    let long = Status { state: Some((State::Error, Some("ü".repeat(10_000)))), ..active() };
    let told = histories.observe(camera(), at(0), long);
    assert_eq!(told[0].text.as_ref().unwrap().chars().count(), MAX_TEXT);
}
