//! Why there is no picture: one answer out of everything that is known of a stream. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::session::{Failure, State};
use super::watchdog::{Media, REPLAY_AFTER};
use crate::ingest::{DropReason, FeedbackWarning, IngestStats};

/// A camera that stopped so many times in a row about 30 s after it began is not reached by feedback: once is chance.
const STARVED_RUNS: u32 = 2;

/// What keeps a picture from being seen. The names are stable; scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PictureCode {
    /// Nothing on this side of the viewers: video with keyframes arrives.
    Ok,
    /// `play` is on its way to the broker.
    Starting,
    /// The broker has `play`; the camera still has time to answer.
    WaitingForCamera,
    /// The camera told the broker, or the broker noticed, that it is gone.
    CameraOffline,
    /// Nothing can be said to the camera.
    BrokerUnreachable,
    /// The camera is silent although it was told to send.
    NeverAnswered,
    /// Packets come, but from a source that is not known to be this camera.
    UnexpectedAddress,
    /// Sound arrives, but no video, or no more.
    NoVideo,
    /// Video arrives, but no keyframe has begun yet.
    NoKeyframe,
    /// Keyframes arrive without the parameters (SPS) that decoders need.
    NoSps,
    /// The camera stopped about 30 s after it began, as it does when no feedback reaches it.
    FeedbackNotAccepted,
    /// Packets arrived and no longer do.
    Stalled,
    /// The stream is being stopped, or has been.
    Stopped,
    /// No stream runs.
    NoStream,
    /// Honeycast itself could not do its part.
    Failed,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PictureStatus {
    /// For programs.
    pub code: PictureCode,
    /// For people: what is the matter, with figures.
    pub text: String,
}

impl PictureStatus {
    fn new(code: PictureCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Where the session is.
    pub state: State,
    /// Why it failed, if it did.
    pub failure: Option<(Failure, &'a str)>,
    /// Whether packets arrive.
    pub media: Media,
    /// The current silence; before the first packet the time since `play`.
    pub silence: Duration,
    /// How long packets arrived before that.
    pub last_run: Option<Duration>,
    /// How often in a row they did so for about 30 s, without a restart of the camera.
    pub starved_runs: u32,
    /// The camera was told to stop until its turn, because it cannot be told from others.
    pub parked: bool,
    /// `play`s that the broker took.
    pub plays: u64,
    /// What the camera, or its last will, said over MQTT; `None` if it never did.
    pub online: Option<bool>,
    /// Why the broker cannot be reached; `None` if it can.
    pub broker_down: Option<&'a str>,
    /// A source that was refused lately and may be this camera.
    pub stranger: Option<Stranger>,
    /// The ingest's figures.
    pub stats: Option<&'a IngestStats>,
}

/// A source whose packets were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranger {
    /// Its address.
    pub source: SocketAddr,
    /// Why the last one was.
    pub reason: DropReason,
    /// How many were.
    pub packets: u64,
}

/// The one thing to look at first.
pub fn why_no_picture(evidence: &Evidence<'_>) -> PictureStatus {
    use PictureCode as Code;
    match (evidence.state, evidence.failure) {
        (_, Some((Failure::Ports, reason))) => PictureStatus::new(Code::Failed, reason),
        (_, Some((Failure::NotPublished, reason))) => PictureStatus::new(Code::BrokerUnreachable, reason),
        (_, Some((failure @ (Failure::NeverAnswered | Failure::Silent), reason))) => {
            let fallback = match failure {
                Failure::NeverAnswered => Code::NeverAnswered,
                _ => Code::Stalled,
            };
            let cause = silent(evidence).map(|cause| match (cause.code, failure) {
                // That there was no packet is not true then.
                (Code::UnexpectedAddress, Failure::NeverAnswered) => {
                    let text = format!("no packet was known to be this camera's: {}", cause.text);
                    PictureStatus { text, ..cause }
                }
                (Code::UnexpectedAddress, _) => {
                    let text =
                        format!("camera fell silent, and no packet since was known to be its own: {}", cause.text);
                    PictureStatus { text, ..cause }
                }
                _ => PictureStatus { text: format!("{reason}; {}", cause.text), ..cause },
            });
            cause.unwrap_or_else(|| PictureStatus::new(fallback, reason))
        }
        (State::Starting | State::Active, None) => running(evidence),
        _ => PictureStatus::new(Code::Stopped, "the stream has ended or is being stopped"),
    }
}

/// The same for a camera without a stream.
pub fn why_no_stream(online: Option<bool>, broker_down: Option<&str>) -> PictureStatus {
    match (broker_down, online) {
        (Some(reason), _) => {
            let text = format!("no stream runs, and none can be started: the MQTT broker is not connected: {reason}");
            PictureStatus::new(PictureCode::BrokerUnreachable, text)
        }
        (None, Some(false)) => {
            let text = "no stream runs, and the camera is not connected to the MQTT broker";
            PictureStatus::new(PictureCode::CameraOffline, text)
        }
        (None, _) => PictureStatus::new(PictureCode::NoStream, "no stream runs: stopped, or not started yet"),
    }
}

fn running(evidence: &Evidence<'_>) -> PictureStatus {
    use PictureCode as Code;
    let seconds = evidence.silence.as_secs();
    match evidence.media {
        Media::Flowing => flowing(evidence.stats),
        Media::Waiting if evidence.state == State::Starting => {
            PictureStatus::new(Code::Starting, "play is on its way to the camera")
        }
        Media::Waiting => silent(evidence).unwrap_or_else(|| {
            if evidence.silence < REPLAY_AFTER {
                let text = format!("play was sent {seconds} s ago; the camera has not sent a packet yet");
                return PictureStatus::new(Code::WaitingForCamera, text);
            }
            let times = match evidence.plays {
                1 => "once".to_owned(),
                plays => format!("{plays} times"),
            };
            let text = format!("no packet from the camera {seconds} s after play, which was sent {times}");
            PictureStatus::new(Code::NeverAnswered, text)
        }),
        Media::Stalled(_) => silent(evidence).unwrap_or_else(|| {
            PictureStatus::new(Code::Stalled, format!("no packet from the camera for {seconds} s; before that it sent"))
        }),
    }
}

/// What explains the absence of video, the surest cause first.
fn silent(evidence: &Evidence<'_>) -> Option<PictureStatus> {
    use PictureCode as Code;
    // It is alive and has heard `play`.
    if evidence.stats.is_some_and(|stats| stats.audio.bitrate > 0) {
        return Some(no_video(evidence.stats));
    }
    // It sends.
    if let Some(refused) = refused(evidence) {
        return Some(PictureStatus::new(Code::UnexpectedAddress, refused));
    }
    // With the broker away, what it said of the camera is old.
    if let Some(reason) = evidence.broker_down {
        let text = format!("play cannot be sent: the MQTT broker is not connected: {reason}");
        return Some(PictureStatus::new(Code::BrokerUnreachable, text));
    }
    if evidence.online == Some(false) {
        let text = "the camera is not connected to the MQTT broker: no power, or no network";
        return Some(PictureStatus::new(Code::CameraOffline, text));
    }
    if !matches!(evidence.media, Media::Stalled(_)) {
        return None;
    }
    if evidence.stats.and_then(|stats| stats.feedback_health.warning) == Some(FeedbackWarning::NotAccepted) {
        return Some(PictureStatus::new(Code::FeedbackNotAccepted, FeedbackWarning::NotAccepted.to_string()));
    }
    let run = evidence.last_run.filter(|_| evidence.starved_runs >= STARVED_RUNS)?;
    let feedback = match evidence.stats.map_or(0, |stats| stats.feedback_sent) {
        0 => "no feedback could be sent to it".to_owned(),
        sent => format!("{sent} feedback packets were sent, but seem not to reach it"),
    };
    let (times, run) = (evidence.starved_runs, run.as_secs());
    let text = format!(
        "the camera stopped about 30 s after it began, {times} times in a row (the last time after {run} s), as without \
         feedback; {feedback}"
    );
    Some(PictureStatus::new(Code::FeedbackNotAccepted, text))
}

/// What is known of packets that came and were not taken for the camera's.
fn refused(evidence: &Evidence<'_>) -> Option<String> {
    if let Some(Stranger { source, reason, packets }) = evidence.stranger {
        let why = match reason {
            DropReason::Ambiguous => "more than one stream could be meant",
            DropReason::SlotTaken => "another source that still sends has its place",
            DropReason::Earlier => "it was sending before the camera was told to",
            _ => "it cannot be told to be this camera for certain",
        };
        return Some(format!("packets arrive from {source} and are refused ({packets} so far): {why}"));
    }
    if evidence.parked {
        let text =
            "this camera cannot be told from others; they are told to play one by one, and it waits for its turn";
        return Some(text.to_owned());
    }
    let packets = evidence.stats.map(|stats| stats.ambiguous_packets).filter(|packets| *packets > 0)?;
    Some(format!("{packets} packets that may be this camera's were refused: more than one stream could be meant"))
}

fn no_video(stats: Option<&IngestStats>) -> PictureStatus {
    let text = match stats {
        Some(stats) if stats.video.packets > 0 => "sound arrives, but the video has stopped",
        _ => "sound arrives, but no video packets",
    };
    PictureStatus::new(PictureCode::NoVideo, text)
}

fn flowing(stats: Option<&IngestStats>) -> PictureStatus {
    use PictureCode as Code;
    let Some(stats) = stats else { return PictureStatus::new(Code::Ok, "packets arrive") };
    if stats.video.packets == 0 {
        return no_video(Some(stats));
    }
    if stats.last_keyframe.is_some() {
        return PictureStatus::new(
            Code::Ok,
            "video with keyframes arrives; if a viewer sees nothing, look at that viewer",
        );
    }
    match &stats.codec {
        Some(codec) if codec.undecodable_keyframes > 0 => {
            PictureStatus::new(Code::NoSps, "keyframes arrive without SPS and PPS, so nobody can decode them")
        }
        _ => {
            let (packets, asked) = (stats.video.packets, stats.plis_sent);
            let arrived = if packets == 1 { "packet has" } else { "packets have" };
            let were = if asked == 1 { "was" } else { "were" };
            let text = format!("{packets} video {arrived} arrived, but no keyframe yet; {asked} {were} asked for");
            PictureStatus::new(Code::NoKeyframe, text)
        }
    }
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
