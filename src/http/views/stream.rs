//! Streams: in the list, alone, started, stopped, and their last hour.

use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

use super::camera::CameraReport;
use super::media::Media;
use super::viewer::Viewer;
use super::{Time, hundredths, time, whole_if_whole};
use crate::base::{CameraId, SessionId, StreamId};
use crate::control::history::POINT_EVERY;
use crate::control::{
    self, Aspect, Change, ManagerInfo, MediaState, PictureStatus, Point, State, StreamInfo, ViewerInfo,
};

// There is no media server with pipelines and endpoints any more, but scripts print these ids and some keep them.

fn pipeline_id(stream: StreamId) -> String {
    format!("{stream}_honeycast.MediaPipeline")
}

fn rtp_endpoint_id(stream: StreamId) -> String {
    format!("{stream}_honeycast.RtpEndpoint")
}

fn webrtc_endpoint_id(stream: StreamId) -> String {
    format!("{stream}_honeycast.WebRtcEndpoint")
}

/// The streams that start, run or stop.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct StreamList {
    streams: Vec<StreamSummary>,
    count: usize,
}

impl StreamList {
    pub(in crate::http) fn new(streams: &[StreamInfo]) -> Self {
        Self { count: streams.len(), streams: streams.iter().map(StreamSummary::new).collect() }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct StreamSummary {
    camera_id: CameraId,
    session_id: SessionId,
    stream_id: StreamId,
    state: State,
    started_at: Time,
    duration_seconds: u64,
    viewer_count: usize,
    /// A name of the old system, for scripts that print it.
    webrtc_endpoint_id: String,
    media: MediaSummary,
    why_no_picture: PictureStatus,
}

/// What is known of the packets, in short.
#[derive(Debug, Serialize, ToSchema)]
struct MediaSummary {
    state: MediaState,
    /// In words what is wrong.
    #[schema(required)]
    reason: Option<String>,
    /// Of all tracks, in bit/s.
    #[schema(required)]
    bitrate: Option<u64>,
    #[schema(required)]
    last_keyframe_at: Option<Time>,
}

impl StreamSummary {
    fn new(info: &StreamInfo) -> Self {
        let stats = info.media.stats.as_ref();
        Self {
            camera_id: info.camera_id,
            session_id: info.session_id.clone(),
            stream_id: info.stream_id,
            state: info.state,
            started_at: info.started_at.into(),
            duration_seconds: info.duration.as_secs(),
            viewer_count: info.viewer_count,
            webrtc_endpoint_id: webrtc_endpoint_id(info.stream_id),
            media: MediaSummary {
                state: info.media.state,
                reason: info.media.reason.clone(),
                bitrate: stats.map(|stats| stats.video.bitrate + stats.audio.bitrate),
                last_keyframe_at: stats.and_then(|stats| time(stats.last_keyframe)),
            },
            why_no_picture: info.picture.clone(),
        }
    }
}

/// A stream with its viewers. The figures at the top are those of the stream, for scripts of an older manual.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct StreamDetail {
    stream: Stream,
    viewers: Vec<Viewer>,
    viewer_count: usize,
    duration_seconds: u64,
    keepalive_count: u64,
    error_count: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Stream {
    session_id: SessionId,
    stream_id: StreamId,
    camera_id: CameraId,
    state: State,
    started_at: Time,
    #[schema(required)]
    stopped_at: Option<Time>,
    duration_seconds: u64,
    /// Why it failed.
    #[schema(required)]
    error_message: Option<String>,
    /// A name of the old system, for scripts that print it.
    pipeline_id: String,
    /// A name of the old system, for scripts that print it.
    rtp_endpoint_id: String,
    /// A name of the old system, for scripts that print it.
    webrtc_endpoint_id: String,
    keepalive_stats: KeepaliveStats,
    manager_stats: ManagerStats,
    media: Media,
    why_no_picture: PictureStatus,
    /// What the camera said over MQTT.
    #[schema(required)]
    camera: Option<CameraReport>,
}

impl StreamDetail {
    pub(in crate::http) fn new(info: &StreamInfo, viewers: &[ViewerInfo]) -> Self {
        Self {
            stream: Stream {
                session_id: info.session_id.clone(),
                stream_id: info.stream_id,
                camera_id: info.camera_id,
                state: info.state,
                started_at: info.started_at.into(),
                stopped_at: time(info.stopped_at),
                duration_seconds: info.duration.as_secs(),
                error_message: info.error.clone(),
                pipeline_id: pipeline_id(info.stream_id),
                rtp_endpoint_id: rtp_endpoint_id(info.stream_id),
                webrtc_endpoint_id: webrtc_endpoint_id(info.stream_id),
                keepalive_stats: KeepaliveStats::new(info),
                manager_stats: ManagerStats::new(&info.manager),
                media: Media::new(&info.media),
                why_no_picture: info.picture.clone(),
                camera: info.camera.as_ref().map(CameraReport::new),
            },
            viewers: viewers.iter().map(Viewer::new).collect(),
            viewer_count: info.viewer_count,
            duration_seconds: info.duration.as_secs(),
            keepalive_count: info.keepalive.count,
            error_count: info.keepalive.errors,
        }
    }
}

/// A stream whose `play` the broker has acknowledged. A shell client greps this body for `error`, so that word must
/// not occur in it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Started {
    session_id: SessionId,
    stream_id: StreamId,
    camera_id: CameraId,
    state: State,
    /// A name of the old system, for scripts that print it.
    pipeline_id: String,
    /// A name of the old system, for scripts that print it.
    rtp_endpoint_id: String,
    /// A name of the old system, for scripts that print it.
    webrtc_endpoint_id: String,
    started_at: Time,
}

impl Started {
    pub(in crate::http) fn new(started: &control::Started) -> Self {
        Self {
            session_id: started.session_id.clone(),
            stream_id: started.stream_id,
            camera_id: started.camera_id,
            state: started.state,
            pipeline_id: pipeline_id(started.stream_id),
            rtp_endpoint_id: rtp_endpoint_id(started.stream_id),
            webrtc_endpoint_id: webrtc_endpoint_id(started.stream_id),
            started_at: started.started_at.into(),
        }
    }
}

/// A stream that was stopped.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Stopped {
    /// Always true.
    success: bool,
    message: String,
    session_id: SessionId,
    stream_id: StreamId,
    camera_id: CameraId,
    state: State,
    started_at: Time,
    #[schema(required)]
    stopped_at: Option<Time>,
    duration_seconds: u64,
    keepalive_stats: KeepaliveStats,
    stats: LastStats,
}

/// The last figures of a stream.
#[derive(Debug, Serialize, ToSchema)]
struct LastStats {
    manager_stats: ManagerStats,
    media: Media,
}

impl Stopped {
    pub(in crate::http) fn new(info: &StreamInfo) -> Self {
        Self {
            success: true,
            message: format!("Stream stopped for camera {}", info.camera_id),
            session_id: info.session_id.clone(),
            stream_id: info.stream_id,
            camera_id: info.camera_id,
            state: info.state,
            started_at: info.started_at.into(),
            stopped_at: time(info.stopped_at),
            duration_seconds: info.duration.as_secs(),
            keepalive_stats: KeepaliveStats::new(info),
            stats: LastStats { manager_stats: ManagerStats::new(&info.manager), media: Media::new(&info.media) },
        }
    }
}

/// The keepalives that keep the camera sending.
#[derive(Debug, Serialize, ToSchema)]
struct KeepaliveStats {
    running: bool,
    camera_id: CameraId,
    stream_id: StreamId,
    /// Seconds between two.
    #[schema(value_type = f64)]
    interval: serde_json::Number,
    /// Acknowledged by the broker.
    keepalive_count: u64,
    error_count: u64,
    #[schema(required)]
    last_success: Option<Time>,
    #[schema(required)]
    last_error: Option<String>,
    elapsed_seconds: u64,
}

impl KeepaliveStats {
    fn new(info: &StreamInfo) -> Self {
        let keepalive = &info.keepalive;
        Self {
            running: keepalive.running,
            camera_id: info.camera_id,
            stream_id: info.stream_id,
            interval: whole_if_whole(keepalive.interval.as_secs_f64()),
            keepalive_count: keepalive.count,
            error_count: keepalive.errors,
            last_success: time(keepalive.last_success),
            last_error: keepalive.last_error.clone(),
            elapsed_seconds: keepalive.elapsed.as_secs(),
        }
    }
}

/// Attempts and failures.
#[derive(Debug, Serialize, ToSchema)]
struct ManagerStats {
    /// Refused ones included.
    start_attempts: u64,
    stop_attempts: u64,
    /// Messages to the camera that could not be published.
    errors: u64,
    #[schema(required)]
    last_error: Option<String>,
    /// `play`s that the broker took: more than one after a reboot of the camera or a silence.
    plays: u64,
}

impl ManagerStats {
    fn new(manager: &ManagerInfo) -> Self {
        Self {
            start_attempts: manager.start_attempts,
            stop_attempts: manager.stop_attempts,
            errors: manager.errors,
            last_error: manager.last_error.clone(),
            plays: manager.plays,
        }
    }
}

/// The last hour of a camera.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct History {
    camera_id: CameraId,
    /// Between two points of a running stream.
    interval_seconds: u64,
    points: Vec<PointView>,
    changes: Vec<ChangeView>,
    now: Time,
}

impl History {
    pub(in crate::http) fn new(camera_id: CameraId, points: &[Point], changes: &[Change]) -> Self {
        Self {
            camera_id,
            interval_seconds: POINT_EVERY.as_secs(),
            points: points.iter().map(PointView::new).collect(),
            changes: changes.iter().map(ChangeView::new).collect(),
            now: SystemTime::now().into(),
        }
    }
}

/// Figures of a running stream at one moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Point)]
pub(in crate::http) struct PointView {
    at: Time,
    /// Of all tracks, in bit/s.
    bitrate: u64,
    /// Lost packets since the point before, as a fraction of those expected.
    #[schema(minimum = 0, maximum = 1)]
    loss: f64,
    jitter_ms: f64,
    remb_kbps: u64,
    viewers: usize,
}

impl PointView {
    fn new(point: &Point) -> Self {
        Self {
            at: point.at.into(),
            bitrate: point.bitrate,
            loss: (point.loss * 10_000.0).round() / 10_000.0,
            jitter_ms: hundredths(point.jitter_ms),
            remb_kbps: point.remb_kbps,
            viewers: point.viewers,
        }
    }
}

/// Something that is not as it was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(in crate::http) struct ChangeView {
    camera_id: CameraId,
    at: Time,
    what: Aspect,
    /// How it is now, for programs.
    value: String,
    /// Why, for people.
    #[schema(required)]
    text: Option<String>,
}

impl ChangeView {
    pub(in crate::http) fn new(change: &Change) -> Self {
        Self {
            camera_id: change.camera,
            at: change.at.into(),
            what: change.what,
            value: change.value.clone(),
            text: change.text.clone(),
        }
    }
}
