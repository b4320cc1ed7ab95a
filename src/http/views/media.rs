//! What arrives from a camera.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, address, hundredths, time};
use crate::control::{
    ActiveReason, CodecReport, IngestStats, MediaInfo, MediaState, ReorderCounters, TrackStats, sound_advice,
};

/// What is known of a stream's packets; without the figures before the first one is read.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Media {
    state: MediaState,
    /// In words what is wrong.
    #[schema(required)]
    reason: Option<String>,
    /// What `active` rests on.
    #[schema(required)]
    active_reason: Option<ActiveReason>,
    #[serde(flatten)]
    #[schema(value_type = Ingest)]
    figures: Option<Ingest>,
}

impl Media {
    pub(super) fn new(media: &MediaInfo) -> Self {
        Self {
            state: media.state,
            reason: media.reason.clone(),
            active_reason: media.active_reason,
            figures: media.stats.as_ref().map(Ingest::new),
        }
    }
}

/// The figures of all tracks; all are there, or none before the first reading.
#[derive(Debug, Serialize, ToSchema)]
struct Ingest {
    #[schema(required = false)]
    packets: u64,
    /// Packets lost.
    #[schema(required = false)]
    loss: u64,
    /// Of video.
    #[schema(required = false)]
    jitter_ms: f64,
    /// In bit/s.
    #[schema(required = false)]
    bitrate: u64,
    last_packet_at: Option<Time>,
    last_keyframe_at: Option<Time>,
    /// Of the camera's real SPS, six hex digits.
    profile_level_id: Option<String>,
    #[schema(required = false)]
    feedback: Feedback,
    #[schema(required = false)]
    sources: SourceAddresses,
    #[schema(required = false)]
    video: VideoTrack,
    #[schema(required = false)]
    audio: AudioTrack,
    /// What to change at the camera, the gravest first.
    #[schema(required = false)]
    advice: Vec<Advice>,
}

/// What the camera is told, and whether it listens.
#[derive(Debug, Serialize, ToSchema)]
struct Feedback {
    /// RTCP packets sent.
    sent: u64,
    #[schema(required)]
    last_at: Option<Time>,
    remb_kbps: u64,
    plis_sent: u64,
    nacks_sent: u64,
    /// `null`: not asked for less yet.
    #[schema(required)]
    follows_remb: Option<bool>,
    /// `null`: no keyframe asked for yet.
    #[schema(required)]
    answers_pli: Option<bool>,
    #[schema(required)]
    warning: Option<String>,
}

/// The addresses that packets are taken from.
#[derive(Debug, Serialize, ToSchema)]
struct SourceAddresses {
    #[schema(required)]
    video: Option<String>,
    #[schema(required)]
    audio: Option<String>,
    #[schema(required)]
    rtcp: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct VideoTrack {
    #[serde(flatten)]
    track: Track,
    #[schema(required)]
    codec: Option<VideoCodec>,
    #[schema(required)]
    repair: Option<Repair>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AudioTrack {
    #[serde(flatten)]
    track: Track,
    #[schema(required)]
    codec: Option<AudioCodec>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Track {
    packets: u64,
    bytes: u64,
    lost: u64,
    duplicates: u64,
    jitter_ms: f64,
    /// In bit/s.
    bitrate: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct AudioCodec {
    name: &'static str,
    /// In Hz.
    clock_rate: u32,
}

/// Something that an operator can change.
#[derive(Debug, Serialize, ToSchema)]
struct Advice {
    /// For programs; does not change.
    code: &'static str,
    /// For people.
    text: String,
}

/// What the camera's encoder makes.
#[derive(Debug, Serialize, ToSchema)]
struct VideoCodec {
    #[schema(required)]
    profile: Option<&'static str>,
    #[schema(required)]
    level: Option<String>,
    #[schema(required)]
    profile_level_id: Option<String>,
    #[schema(required)]
    width: Option<u32>,
    #[schema(required)]
    height: Option<u32>,
    #[schema(required)]
    interlaced: Option<bool>,
    #[schema(required)]
    announced_frame_rate: Option<f64>,
    #[schema(required)]
    frame_rate: Option<f64>,
    frame_rate_steady: bool,
    #[schema(required)]
    gop_frames: Option<u64>,
    #[schema(required)]
    gop_seconds: Option<f64>,
    b_frames: bool,
    #[schema(required)]
    max_reorder_frames: Option<u32>,
    pictures: u64,
    undecodable_keyframes: u64,
    /// Packets divided because they were too large for viewers.
    oversize_packets: u64,
}

/// What was mended on the way to viewers.
#[derive(Debug, Serialize, ToSchema)]
struct Repair {
    reordered: u64,
    late: u64,
    late_dropped: u64,
    given_up: u64,
    completed_keyframes: u64,
    repeated_sets: u64,
    early_markers: u64,
    missing_markers: u64,
    /// By name.
    faults: BTreeMap<&'static str, u64>,
}

impl Ingest {
    fn new(stats: &IngestStats) -> Self {
        let (video, audio) = (&stats.video, &stats.audio);
        let (codec, health) = (stats.codec.as_deref(), &stats.feedback_health);
        let mut advice = codec.map(CodecReport::advice).unwrap_or_default();
        advice.extend(audio.codec.and_then(sound_advice));
        Self {
            packets: video.packets + audio.packets,
            loss: video.lost + audio.lost,
            jitter_ms: hundredths(video.jitter_ms),
            bitrate: video.bitrate + audio.bitrate,
            last_packet_at: time(stats.last_packet),
            last_keyframe_at: time(stats.last_keyframe),
            profile_level_id: stats.profile_level_id.clone(),
            feedback: Feedback {
                sent: stats.feedback_sent,
                last_at: time(stats.last_feedback),
                remb_kbps: stats.remb / 1000,
                plis_sent: stats.plis_sent,
                nacks_sent: stats.nacks_sent,
                follows_remb: health.follows_remb,
                answers_pli: health.answers_pli,
                warning: health.warning.map(|warning| warning.to_string()),
            },
            sources: SourceAddresses {
                video: address(stats.video_source),
                audio: address(stats.audio_source),
                rtcp: address(stats.rtcp_source),
            },
            video: VideoTrack {
                track: Track::new(video),
                codec: codec.filter(|report| report.pictures > 0).map(VideoCodec::new),
                repair: codec.map(|report| Repair::new(report, &stats.reordering)),
            },
            audio: AudioTrack {
                track: Track::new(audio),
                codec: audio.codec.map(|codec| AudioCodec { name: codec.name(), clock_rate: codec.clock_rate() }),
            },
            advice: advice.into_iter().map(|advice| Advice { code: advice.code, text: advice.text }).collect(),
        }
    }
}

impl Track {
    fn new(track: &TrackStats) -> Self {
        Self {
            packets: track.packets,
            bytes: track.bytes,
            lost: track.lost,
            duplicates: track.duplicates,
            jitter_ms: hundredths(track.jitter_ms),
            bitrate: track.bitrate,
        }
    }
}

impl VideoCodec {
    fn new(report: &CodecReport) -> Self {
        let (sps, gop) = (report.sps.as_ref(), report.gop.as_ref());
        Self {
            profile: report.profile_name(),
            level: report.level_name(),
            profile_level_id: report.profile_level_id.map(|profile| profile.to_string()),
            width: sps.map(|sps| sps.width),
            height: sps.map(|sps| sps.height),
            interlaced: sps.map(|sps| !sps.progressive),
            announced_frame_rate: sps.and_then(|sps| sps.frame_rate).map(hundredths),
            frame_rate: report.frame_rate.map(hundredths),
            frame_rate_steady: report.steady,
            gop_frames: gop.map(|gop| gop.frames),
            gop_seconds: gop.map(|gop| hundredths(gop.duration.as_secs_f64())),
            b_frames: report.b_frames,
            max_reorder_frames: sps.and_then(|sps| sps.max_reorder),
            pictures: report.pictures,
            undecodable_keyframes: report.undecodable_keyframes,
            oversize_packets: report.repaired.oversize,
        }
    }
}

impl Repair {
    fn new(report: &CodecReport, reordering: &ReorderCounters) -> Self {
        let repaired = &report.repaired;
        Self {
            reordered: reordering.reordered,
            late: reordering.late,
            late_dropped: repaired.late_dropped,
            given_up: reordering.given_up,
            completed_keyframes: repaired.completed_keyframes,
            repeated_sets: repaired.repeated_sets,
            early_markers: repaired.early_markers,
            missing_markers: repaired.missing_markers,
            faults: repaired.named_faults().collect(),
        }
    }
}
