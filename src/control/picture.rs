//! Why a camera shows no picture, in one code and one sentence: for operators and for scripts.

use std::net::SocketAddr;

use serde::Serialize;

use super::info::MediaState;
use super::session::State;
use super::settings::BrokerStatus;
use crate::ingest::{FeedbackWarning, IngestStats};

/// The codes are stable; docs/operations.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureCode {
    /// There is one.
    Ok,
    /// `play` is on its way.
    Starting,
    /// The stream is being stopped or has been.
    Stopped,
    /// The stream has failed; the text says why.
    Failed,
    /// The camera said goodbye over MQTT.
    CameraOffline,
    /// Cameras cannot be told anything.
    BrokerUnreachable,
    /// The camera was told to play and nothing came.
    NeverAnswered,
    /// Packets come, but from an address that cannot be this camera's for certain.
    UnexpectedAddress,
    /// Sound arrives and no picture.
    NoVideo,
    /// Packets arrive and no keyframe yet.
    NoKeyframe,
    /// Keyframes arrive without the parameter sets that decoders need.
    NoSps,
    /// The camera stops about 30 s after each start: our feedback does not reach it.
    FeedbackNotAccepted,
    /// Packets came and do not any more.
    Stalled,
}

/// Whether there is a picture, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PictureStatus {
    /// For scripts.
    pub code: PictureCode,
    /// For people.
    pub text: String,
}

/// What is known about a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) state: State,
    pub(super) media: MediaState,
    /// The session's own words about its media.
    pub(super) reason: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    pub(super) broker: &'a BrokerStatus,
    /// What the camera said over MQTT.
    pub(super) online: Option<bool>,
    pub(super) stats: Option<&'a IngestStats>,
    /// A refused source that comes nearest to this stream.
    pub(super) refused: Option<SocketAddr>,
}

impl Evidence<'_> {
    /// The gravest thing that explains the absence of a picture.
    pub(super) fn judge(&self) -> PictureStatus {
        let code = self.code();
        PictureStatus { code, text: self.text(code) }
    }

    fn code(&self) -> PictureCode {
        match self.state {
            State::Error => return PictureCode::Failed,
            State::Idle | State::Stopping | State::Stopped => return PictureCode::Stopped,
            State::Starting | State::Active => {}
        }
        let starved = self.stats.is_some_and(|s| s.feedback_health.warning == Some(FeedbackWarning::NotAccepted));
        match self.media {
            MediaState::Flowing => self.of_packets(),
            MediaState::Waiting if self.state == State::Starting => PictureCode::Starting,
            _ if self.refused.is_some() => PictureCode::UnexpectedAddress,
            MediaState::Stalled if starved => PictureCode::FeedbackNotAccepted,
            _ if self.online == Some(false) => PictureCode::CameraOffline,
            _ if *self.broker != BrokerStatus::Connected => PictureCode::BrokerUnreachable,
            MediaState::Waiting => PictureCode::NeverAnswered,
            MediaState::Stalled => PictureCode::Stalled,
        }
    }

    fn of_packets(&self) -> PictureCode {
        let Some(stats) = self.stats else { return PictureCode::Ok };
        if stats.video.packets == 0 {
            return PictureCode::NoVideo;
        }
        if stats.last_keyframe.is_some() {
            return PictureCode::Ok;
        }
        match &stats.codec {
            Some(codec) if codec.undecodable_keyframes > 0 => PictureCode::NoSps,
            _ => PictureCode::NoKeyframe,
        }
    }

    fn text(&self, code: PictureCode) -> String {
        let reason = || self.reason.unwrap_or("no packets arrive").to_owned();
        match code {
            PictureCode::Ok => "the picture is there".into(),
            PictureCode::Starting => "play is on its way to the camera".into(),
            PictureCode::Stopped => "the stream is stopped".into(),
            PictureCode::Failed => self.error.unwrap_or("the stream has failed").to_owned(),
            PictureCode::CameraOffline => format!("the camera said over MQTT that it is offline; {}", reason()),
            PictureCode::BrokerUnreachable => match self.broker {
                BrokerStatus::Disconnected { reason: why } => {
                    format!("the camera cannot be told anything, the MQTT broker is not connected: {why}; {}", reason())
                }
                BrokerStatus::Connected => reason(),
            },
            PictureCode::NeverAnswered | PictureCode::Stalled => reason(),
            PictureCode::UnexpectedAddress => match self.refused {
                Some(source) => {
                    format!(
                        "packets come from {source}, which cannot be told to be this camera for certain; {}",
                        reason()
                    )
                }
                None => reason(),
            },
            PictureCode::NoVideo => "sound arrives, but no video packets".into(),
            PictureCode::NoKeyframe => "video arrives, but no keyframe yet".into(),
            PictureCode::NoSps => "keyframes arrive without SPS and PPS, so nobody can decode them".into(),
            PictureCode::FeedbackNotAccepted => FeedbackWarning::NotAccepted.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::ingest::{FeedbackHealth, TrackStats};
    use crate::media::doctor::CodecReport;

    fn evidence() -> Evidence<'static> {
        Evidence {
            state: State::Active,
            media: MediaState::Waiting,
            reason: Some("waiting"),
            error: None,
            broker: &BrokerStatus::Connected,
            online: Some(true),
            stats: None,
            refused: None,
        }
    }

    fn code(evidence: Evidence<'_>) -> PictureCode {
        let status = evidence.judge();
        assert!(!status.text.is_empty());
        status.code
    }

    fn video(packets: u64) -> IngestStats {
        IngestStats { video: TrackStats { packets, ..Default::default() }, ..Default::default() }
    }

    #[test]
    fn a_camera_that_sends_nothing_is_offline_unreachable_or_silent_in_this_order() {
        assert_eq!(code(evidence()), PictureCode::NeverAnswered);
        let down = BrokerStatus::Disconnected { reason: "refused".into() };
        assert_eq!(code(Evidence { broker: &down, ..evidence() }), PictureCode::BrokerUnreachable);
        assert_eq!(code(Evidence { broker: &down, online: Some(false), ..evidence() }), PictureCode::CameraOffline);
        assert_eq!(code(Evidence { state: State::Starting, ..evidence() }), PictureCode::Starting);
        assert_eq!(code(Evidence { media: MediaState::Stalled, ..evidence() }), PictureCode::Stalled);
    }

    #[test]
    fn packets_from_an_unexpected_address_are_named() {
        let refused = Some("10.0.0.9:4000".parse().unwrap());
        let status = Evidence { refused, ..evidence() }.judge();
        assert_eq!(status.code, PictureCode::UnexpectedAddress);
        assert!(status.text.contains("10.0.0.9:4000"), "{}", status.text);
    }

    #[test]
    fn packets_that_make_no_picture_say_what_is_missing() {
        fn flowing(stats: &IngestStats) -> Evidence<'_> {
            Evidence { media: MediaState::Flowing, stats: Some(stats), ..evidence() }
        }
        assert_eq!(code(flowing(&video(0))), PictureCode::NoVideo);
        assert_eq!(code(flowing(&video(9))), PictureCode::NoKeyframe);
        let blind = CodecReport { undecodable_keyframes: 1, ..Default::default() };
        let no_sps = IngestStats { codec: Some(Box::new(blind)), ..video(9) };
        assert_eq!(code(flowing(&no_sps)), PictureCode::NoSps);
        let good = IngestStats { last_keyframe: Some(SystemTime::now()), ..video(9) };
        assert_eq!(code(flowing(&good)), PictureCode::Ok);
    }

    #[test]
    fn a_camera_that_stops_every_30_s_does_not_hear_us() {
        let health = FeedbackHealth { warning: Some(FeedbackWarning::NotAccepted), ..Default::default() };
        let stats = IngestStats { feedback_health: health, ..video(9) };
        let stalled = Evidence { media: MediaState::Stalled, stats: Some(&stats), ..evidence() };
        assert_eq!(code(stalled), PictureCode::FeedbackNotAccepted);
    }

    #[test]
    fn a_failed_stream_says_why() {
        let failed = Evidence { state: State::Error, error: Some("camera never answered play"), ..evidence() };
        assert_eq!(
            failed.judge(),
            PictureStatus { code: PictureCode::Failed, text: "camera never answered play".into() }
        );
    }
}
