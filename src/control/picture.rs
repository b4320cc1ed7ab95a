//! Why there is no picture: one answer out of everything that is known of a stream. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::session::{Failure, State};
use super::watchdog::{Media, REPLAY_AFTER};
use crate::ingest::{DropReason, IngestStats};

/// A camera that accepts no feedback stops 30 s after it began (contract §1), give or take what it takes to notice.
const STARVED: std::ops::RangeInclusive<Duration> = Duration::from_secs(25)..=Duration::from_secs(35);

/// What keeps a picture from being seen. The names are stable; scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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
    NeverAnsweredPlay,
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
    /// The stream is being stopped.
    Stopping,
    /// No stream runs.
    NoStream,
    /// Honeycast itself could not do its part.
    Failed,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyNoPicture {
    /// For programs.
    pub code: PictureCode,
    /// For people: what is the matter, with figures.
    pub text: String,
}

impl WhyNoPicture {
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
    /// `play`s that the broker took.
    pub plays: u64,
    /// What the camera, or its last will, said over MQTT; `None` if it never did.
    pub online: Option<bool>,
    /// Why the broker cannot be reached; `None` if it can.
    pub broker_down: Option<&'a str>,
    /// A source that was refused lately and may be this camera.
    pub stranger: Option<(SocketAddr, DropReason)>,
    /// The ingest's figures.
    pub stats: Option<&'a IngestStats>,
}

/// The one thing to look at first.
pub fn why_no_picture(evidence: &Evidence<'_>) -> WhyNoPicture {
    use PictureCode as Code;
    match (evidence.state, evidence.failure) {
        (_, Some((Failure::Ports, reason))) => WhyNoPicture::new(Code::Failed, reason),
        (_, Some((Failure::NotPublished, reason))) => WhyNoPicture::new(Code::BrokerUnreachable, reason),
        (_, Some((failure @ (Failure::NeverAnswered | Failure::Silent), reason))) => {
            let fallback = match failure {
                Failure::NeverAnswered => Code::NeverAnsweredPlay,
                _ => Code::Stalled,
            };
            let cause =
                silent(evidence).map(|cause| WhyNoPicture { text: format!("{reason}; {}", cause.text), ..cause });
            cause.unwrap_or_else(|| WhyNoPicture::new(fallback, reason))
        }
        (State::Starting | State::Active, None) => running(evidence),
        _ => WhyNoPicture::new(Code::Stopping, "the stream has ended or is being stopped"),
    }
}

/// The same for a camera without a stream.
pub fn why_no_stream(online: Option<bool>, broker_down: Option<&str>) -> WhyNoPicture {
    match (broker_down, online) {
        (Some(reason), _) => {
            let text = format!("no stream runs, and none can be started: the MQTT broker is not connected: {reason}");
            WhyNoPicture::new(PictureCode::BrokerUnreachable, text)
        }
        (None, Some(false)) => {
            let text = "no stream runs, and the camera is not connected to the MQTT broker";
            WhyNoPicture::new(PictureCode::CameraOffline, text)
        }
        (None, _) => WhyNoPicture::new(PictureCode::NoStream, "no stream runs: nobody has started one"),
    }
}

fn running(evidence: &Evidence<'_>) -> WhyNoPicture {
    use PictureCode as Code;
    let seconds = evidence.silence.as_secs();
    match evidence.media {
        Media::Flowing => flowing(evidence.stats),
        Media::Waiting if evidence.state == State::Starting => {
            WhyNoPicture::new(Code::Starting, "play is on its way to the camera")
        }
        Media::Waiting => silent(evidence).unwrap_or_else(|| {
            if evidence.silence < REPLAY_AFTER {
                let text = format!("play was sent {seconds} s ago; the camera has not sent a packet yet");
                return WhyNoPicture::new(Code::WaitingForCamera, text);
            }
            let plays = evidence.plays;
            let text = format!("no packet from the camera {seconds} s after play, which was sent {plays} times");
            WhyNoPicture::new(Code::NeverAnsweredPlay, text)
        }),
        Media::Stalled(_) => silent(evidence).unwrap_or_else(|| {
            WhyNoPicture::new(Code::Stalled, format!("no packet from the camera for {seconds} s; before that it sent"))
        }),
    }
}

/// What explains a camera's silence, the surest cause first.
fn silent(evidence: &Evidence<'_>) -> Option<WhyNoPicture> {
    use PictureCode as Code;
    // Before the rest: with the broker away, what it said of the camera is old.
    if let Some(reason) = evidence.broker_down {
        let text = format!("play cannot be sent: the MQTT broker is not connected: {reason}");
        return Some(WhyNoPicture::new(Code::BrokerUnreachable, text));
    }
    if evidence.online == Some(false) {
        let text = "the camera is not connected to the MQTT broker: no power, or no network";
        return Some(WhyNoPicture::new(Code::CameraOffline, text));
    }
    if let Some((source, reason)) = evidence.stranger {
        let why = match reason {
            DropReason::Ambiguous => "more than one stream could be meant",
            DropReason::SlotTaken => "another source that still sends has its place",
            _ => "no stream expects that address",
        };
        let text = format!("packets arrive from {source} and are refused: {why}");
        return Some(WhyNoPicture::new(Code::UnexpectedAddress, text));
    }
    let run = evidence.last_run.filter(|run| matches!(evidence.media, Media::Stalled(_)) && STARVED.contains(run))?;
    let sent = evidence.stats.map_or(0, |stats| stats.feedback_sent);
    let feedback = match sent {
        0 => "no feedback could be sent to it".to_owned(),
        sent => format!("{sent} feedback packets were sent, but seem not to reach it"),
    };
    let text = format!("the camera stopped {} s after it began, as without feedback; {feedback}", run.as_secs());
    Some(WhyNoPicture::new(Code::FeedbackNotAccepted, text))
}

fn flowing(stats: Option<&IngestStats>) -> WhyNoPicture {
    use PictureCode as Code;
    let Some(stats) = stats else { return WhyNoPicture::new(Code::Ok, "packets arrive") };
    if stats.video.packets == 0 {
        return WhyNoPicture::new(Code::NoVideo, "the camera sends sound, but no video packet has arrived");
    }
    // Over the last second: sound alone would hide it from the watchdog.
    if stats.video.bitrate == 0 && stats.audio.bitrate > 0 {
        return WhyNoPicture::new(Code::NoVideo, "the camera sends sound, but its video has stopped");
    }
    if stats.last_keyframe.is_none() {
        let text = format!(
            "{} video packets have arrived, but no keyframe yet; {} were asked for",
            stats.video.packets, stats.plis_sent
        );
        return WhyNoPicture::new(Code::NoKeyframe, text);
    }
    if stats.profile_level_id.is_none() {
        let text = "keyframes arrive, but without a usable SPS: browsers cannot decode them";
        return WhyNoPicture::new(Code::NoSps, text);
    }
    WhyNoPicture::new(Code::Ok, "video with keyframes arrives; if a viewer sees nothing, look at that viewer")
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
