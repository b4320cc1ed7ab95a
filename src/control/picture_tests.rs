use std::time::{Instant, SystemTime};

use super::*;
use crate::ingest::{FeedbackHealth, TrackStats};
use crate::media::doctor::CodecReport;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A stream that runs, of a camera that says it is online, with a broker that can be reached.
fn running(media: Media, silence: u64) -> Evidence<'static> {
    Evidence {
        state: State::Active,
        failure: None,
        media,
        silence: seconds(silence),
        last_run: None,
        starved_runs: 0,
        parked: false,
        plays: 1,
        online: Some(true),
        broker_down: None,
        stranger: None,
        stats: None,
    }
}

fn waiting(silence: u64) -> Evidence<'static> {
    running(Media::Waiting, silence)
}

fn stalled(silence: u64) -> Evidence<'static> {
    running(Media::Stalled(Instant::now()), silence)
}

fn code(evidence: Evidence<'_>) -> PictureCode {
    why_no_picture(&evidence).code
}

fn text(evidence: Evidence<'_>) -> String {
    why_no_picture(&evidence).text
}

/// Video with keyframes that browsers decode.
fn good() -> IngestStats {
    IngestStats {
        video: TrackStats { packets: 100, ..TrackStats::default() },
        last_keyframe: Some(SystemTime::UNIX_EPOCH),
        feedback_sent: 7,
        plis_sent: 3,
        ..IngestStats::default()
    }
}

fn stranger() -> Option<Stranger> {
    Some(Stranger { source: "198.51.100.7:4000".parse().unwrap(), reason: DropReason::Unexpected, packets: 12 })
}

#[test]
fn a_camera_has_ten_seconds_to_answer_and_then_has_never_answered() {
    assert_eq!(code(Evidence { state: State::Starting, ..waiting(0) }), PictureCode::Starting);
    assert_eq!(code(waiting(9)), PictureCode::WaitingForCamera);
    assert_eq!(code(waiting(10)), PictureCode::NeverAnswered);
    let text = text(Evidence { plays: 2, ..waiting(12) });
    assert_eq!(text, "no packet from the camera 12 s after play, which was sent 2 times");
    let once = why_no_picture(&Evidence { plays: 1, ..waiting(12) }).text;
    assert!(once.ends_with("which was sent once"), "{once}");
}

#[test]
fn the_surest_cause_of_a_silence_comes_first() {
    let sound = IngestStats { audio: TrackStats { bitrate: 32_000, ..TrackStats::default() }, ..good() };
    for silence in [waiting(20), stalled(20)] {
        let everything = Evidence {
            online: Some(false),
            broker_down: Some("connection refused"),
            stranger: stranger(),
            last_run: Some(seconds(30)),
            stats: Some(&sound),
            ..silence
        };
        assert_eq!(code(everything), PictureCode::NoVideo);
        let without_sound = Evidence { stats: None, ..everything };
        assert_eq!(code(without_sound), PictureCode::UnexpectedAddress);
        assert!(text(without_sound).contains("198.51.100.7:4000"));
        let without_stranger = Evidence { stranger: None, ..without_sound };
        assert_eq!(code(without_stranger), PictureCode::BrokerUnreachable);
        assert_eq!(code(Evidence { broker_down: None, ..without_stranger }), PictureCode::CameraOffline);
    }
    assert_eq!(code(stalled(20)), PictureCode::Stalled);
}

#[test]
fn a_picture_that_arrives_needs_neither_broker_nor_a_word_of_the_camera() {
    let stats = good();
    let evidence = Evidence {
        online: Some(false),
        broker_down: Some("connection refused"),
        stranger: stranger(),
        stats: Some(&stats),
        ..running(Media::Flowing, 0)
    };
    assert_eq!(code(evidence), PictureCode::Ok);
}

#[test]
fn packets_without_video_keyframe_or_parameters_are_no_picture() {
    let flowing = |stats: &IngestStats| code(Evidence { stats: Some(stats), ..running(Media::Flowing, 0) });
    assert_eq!(flowing(&IngestStats { video: TrackStats::default(), ..good() }), PictureCode::NoVideo);
    let blind = IngestStats { last_keyframe: None, ..good() };
    assert_eq!(flowing(&blind), PictureCode::NoKeyframe);
    let first =
        IngestStats { video: TrackStats { packets: 1, ..TrackStats::default() }, plis_sent: 1, ..blind.clone() };
    let told = text(Evidence { stats: Some(&first), ..running(Media::Flowing, 0) });
    assert_eq!(told, "1 video packet has arrived, but no keyframe yet; 1 was asked for");
    let report = CodecReport { undecodable_keyframes: 1, ..CodecReport::default() };
    assert_eq!(flowing(&IngestStats { codec: Some(Box::new(report)), ..blind }), PictureCode::NoSps);
    assert_eq!(flowing(&good()), PictureCode::Ok);
}

#[test]
fn a_camera_that_stops_thirty_seconds_after_it_began_twice_does_not_hear_its_feedback() {
    let stats = good();
    let times =
        |starved_runs| Evidence { last_run: Some(seconds(30)), starved_runs, stats: Some(&stats), ..stalled(5) };
    let after = |run| Evidence { last_run: Some(seconds(run)), ..times(2) };
    assert_eq!(code(times(2)), PictureCode::FeedbackNotAccepted);
    assert_eq!(code(times(1)), PictureCode::Stalled);
    assert!(text(after(30)).contains("7 feedback packets were sent"));
    let silent = IngestStats { feedback_sent: 0, ..good() };
    assert!(text(Evidence { stats: Some(&silent), ..after(30) }).contains("no feedback could be sent"));
    let health = FeedbackHealth { warning: Some(FeedbackWarning::NotAccepted), ..FeedbackHealth::default() };
    let twice = IngestStats { feedback_health: health, ..good() };
    assert_eq!(code(Evidence { stats: Some(&twice), ..times(0) }), PictureCode::FeedbackNotAccepted);
}

#[test]
fn packets_that_came_and_were_refused_are_the_reason_of_a_failed_stream_with_their_number() {
    let failed = |failure| Evidence { state: State::Error, failure: Some((failure, "no RTP packet")), ..waiting(30) };
    let never = Evidence { stranger: stranger(), ..failed(Failure::NeverAnswered) };
    assert_eq!(code(never), PictureCode::UnexpectedAddress);
    assert_eq!(
        text(never),
        "no packet was known to be this camera's: packets arrive from 198.51.100.7:4000 and are refused (12 so far): it \
         cannot be told to be this camera for certain"
    );
    let stats = IngestStats { ambiguous_packets: 7, ..IngestStats::default() };
    let silent = Evidence { stats: Some(&stats), ..failed(Failure::Silent) };
    assert_eq!(
        text(silent),
        "camera fell silent, and no packet since was known to be its own: 7 packets that may be this camera's were \
         refused: more than one stream could be meant"
    );
    assert!(text(Evidence { parked: true, ..stalled(20) }).contains("waits for its turn"));
}

#[test]
fn a_failed_stream_keeps_its_reason_and_names_the_cause_where_there_is_one() {
    let failed = |failure, reason| Evidence { state: State::Error, failure: Some((failure, reason)), ..waiting(30) };
    let never = failed(Failure::NeverAnswered, "camera never answered play");
    assert_eq!(why_no_picture(&never).code, PictureCode::NeverAnswered);
    assert_eq!(text(never), "camera never answered play");
    let offline = Evidence { online: Some(false), ..never };
    assert_eq!(code(offline), PictureCode::CameraOffline);
    assert!(text(offline).starts_with("camera never answered play; the camera is not connected"));
    assert_eq!(code(failed(Failure::Silent, "fell silent")), PictureCode::Stalled);
    assert_eq!(code(failed(Failure::NotPublished, "refused")), PictureCode::BrokerUnreachable);
    assert_eq!(code(failed(Failure::Ports, "no port")), PictureCode::Failed);
    assert_eq!(code(Evidence { state: State::Stopping, ..stalled(1) }), PictureCode::Stopped);
}

#[test]
fn without_a_stream_the_camera_or_the_broker_may_be_the_cause() {
    assert_eq!(why_no_stream(Some(true), None).code, PictureCode::NoStream);
    assert_eq!(why_no_stream(None, None).code, PictureCode::NoStream);
    assert_eq!(why_no_stream(Some(false), None).code, PictureCode::CameraOffline);
    assert_eq!(why_no_stream(Some(false), Some("refused")).code, PictureCode::BrokerUnreachable);
}

#[test]
fn the_codes_are_what_the_documentation_lists() {
    let listed = include_str!("../../docs/operations.md");
    for code in [
        PictureCode::Ok,
        PictureCode::Starting,
        PictureCode::WaitingForCamera,
        PictureCode::CameraOffline,
        PictureCode::BrokerUnreachable,
        PictureCode::NeverAnswered,
        PictureCode::UnexpectedAddress,
        PictureCode::NoVideo,
        PictureCode::NoKeyframe,
        PictureCode::NoSps,
        PictureCode::FeedbackNotAccepted,
        PictureCode::Stalled,
        PictureCode::Stopped,
        PictureCode::NoStream,
        PictureCode::Failed,
    ] {
        let name = serde_json::to_string(&code).unwrap().replace('"', "`");
        assert!(listed.contains(&name), "{name} is not in docs/operations.md");
    }
}
