//! What a camera tells about itself, for people and for tests.

use std::fmt;

use serde::Serialize;

use crate::base::{CameraId, StreamId};

/// A camera at one moment. Counters go on across streams; `feedback` belongs to the current or last stream.
#[derive(Debug, Clone, Serialize)]
pub struct SimReport {
    /// Which camera.
    pub camera_id: CameraId,
    /// Seconds since the camera was started.
    pub elapsed_seconds: f64,
    /// Whether the broker can be reached.
    pub mqtt_connected: bool,
    /// Whether it streams.
    pub streaming: bool,
    /// How long the current or last stream lasts or lasted.
    pub streaming_seconds: f64,
    /// The current or last stream.
    pub stream_id: Option<StreamId>,
    /// Why the last stream ended: `stop`, `no_feedback`, `no_keepalive` or `reboot`; none while it streams.
    pub stopped_reason: Option<&'static str>,
    /// Why the last message that was refused was refused, in words.
    pub last_refusal: Option<String>,
    /// Video packets sent, those that were lost on the way included.
    pub packets_sent: u64,
    /// Of these, those that the line lost.
    pub packets_lost: u64,
    /// Pictures that a viewer can decode, by what the line let through.
    pub pictures_decodable: u64,
    /// Bytes of RTP sent, audio and video.
    pub bytes_sent: u64,
    /// Audio packets sent.
    pub audio_packets_sent: u64,
    /// Video packets sent again because of NACK.
    pub packets_resent: u64,
    /// RTP packets that the server sent (talk-back).
    pub rtp_received: u64,
    /// Video bitrate of the last whole second, in kbit/s.
    pub video_kbps: u64,
    /// Which version of the clip is sent: `hd` or `sd`.
    pub clip: &'static str,
    /// Number of the last picture sent.
    pub frame: Option<usize>,
    /// Keepalives for the streams that were running.
    pub keepalives: u64,
    /// Keepalives that must have got lost, by their counts.
    pub keepalive_gaps: u64,
    /// Feedback on the video of the current or last stream.
    pub feedback: FeedbackReport,
    /// Share of the packets lost, 0 to 1, as the last receiver report says.
    pub loss_reported: Option<f64>,
    /// The same on average over the reports on the current or last stream, by the packets that each is about.
    pub mean_loss_reported: Option<f64>,
    /// Times that `play` was obeyed.
    pub plays: u64,
    /// Times that `play` was refused.
    pub plays_refused: u64,
    /// Times that `stop` was obeyed.
    pub stops: u64,
}

/// RTCP that came for the video.
#[derive(Debug, Clone, Serialize)]
pub struct FeedbackReport {
    /// Datagrams with a report or REMB: what keeps the camera sending.
    pub count: u64,
    /// Reports.
    pub rr: u64,
    /// REMB.
    pub remb: u64,
    /// NACK.
    pub nack: u64,
    /// PLI.
    pub pli: u64,
    /// FIR.
    pub fir: u64,
    /// Seconds from the first RTP packet sent to the first feedback.
    pub first_seconds: Option<f64>,
    /// Longest time between two feedbacks, in seconds.
    pub max_gap_seconds: f64,
    /// Seconds since the last feedback.
    pub seconds_since: Option<f64>,
    /// The last REMB, in kbit/s.
    pub remb_kbps: Option<u64>,
}

impl SimReport {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        // A struct of strings and finite numbers always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for SimReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:4.0} s: ", &self.camera_id.as_str()[..8], self.elapsed_seconds)?;
        if !self.mqtt_connected {
            f.write_str("no broker, ")?;
        }
        if self.streaming {
            let Self { clip, video_kbps, packets_sent, streaming_seconds, .. } = self;
            write!(f, "streaming for {streaming_seconds:.0} s, {clip}, {video_kbps} kbit/s, {packets_sent} packets")?;
            match (self.feedback.seconds_since, self.feedback.remb_kbps) {
                (Some(since), Some(remb)) => write!(f, ", feedback {since:.1} s ago, REMB {remb} kbit/s")?,
                (Some(since), None) => write!(f, ", feedback {since:.1} s ago")?,
                (None, _) => f.write_str(", no feedback yet")?,
            }
            if let Some(loss) = self.loss_reported {
                write!(f, ", loss {:.1} %", loss * 100.0)?;
            }
        } else {
            match self.stopped_reason {
                Some(reason) => write!(f, "stopped after {:.0} s ({reason})", self.streaming_seconds)?,
                None => f.write_str("waiting for play")?,
            }
        }
        match &self.last_refusal {
            Some(refusal) => write!(f, ", refused: {refusal}"),
            None => Ok(()),
        }
    }
}
