//! The JSON of the API: keys, types and texts of contract §5. Seconds are whole numbers, because old scripts
//! print them with `%d`.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::base::time::iso8601;
use crate::base::{StreamId, ViewerId};
use crate::control::registry::CameraFacts;
use crate::control::{
    CodecReport, IngestStats, KeepaliveInfo, ManagerInfo, MediaInfo, ReorderCounters, Started, StreamInfo, TrackStats,
    ViewerInfo, ViewerStats, sound_advice,
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

fn viewer_endpoint_id(viewer: ViewerId) -> String {
    format!("{viewer}_honeycast.WebRtcEndpoint")
}

/// An entry of `GET /streams`.
pub(super) fn stream_summary(info: &StreamInfo) -> Value {
    json!({
        "camera_id": info.camera_id,
        "session_id": info.session_id,
        "stream_id": info.stream_id,
        "state": info.state,
        "started_at": iso8601(info.started_at),
        "duration_seconds": info.duration.as_secs(),
        "viewer_count": info.viewer_count,
        "webrtc_endpoint_id": webrtc_endpoint_id(info.stream_id),
        "media": {
            "state": info.media.state,
            "reason": info.media.reason,
            "bitrate": info.media.stats.as_ref().map(|stats| stats.video.bitrate + stats.audio.bitrate),
            "last_keyframe_at": info.media.stats.as_ref().and_then(|stats| time(stats.last_keyframe)),
        },
        "why_no_picture": info.picture,
    })
}

/// `GET /streams/{id}`.
pub(super) fn stream_detail(info: &StreamInfo, viewers: &[ViewerInfo]) -> Value {
    json!({
        "stream": {
            "session_id": info.session_id,
            "stream_id": info.stream_id,
            "camera_id": info.camera_id,
            "state": info.state,
            "started_at": iso8601(info.started_at),
            "stopped_at": time(info.stopped_at),
            "duration_seconds": info.duration.as_secs(),
            "error_message": info.error,
            "pipeline_id": pipeline_id(info.stream_id),
            "rtp_endpoint_id": rtp_endpoint_id(info.stream_id),
            "webrtc_endpoint_id": webrtc_endpoint_id(info.stream_id),
            "keepalive_stats": keepalive_stats(info, &info.keepalive),
            "manager_stats": manager_stats(&info.manager),
            "media": media(&info.media),
            "why_no_picture": info.picture,
            "camera": info.camera.as_ref().map(camera),
        },
        "viewers": self::viewers(viewers),
        "viewer_count": info.viewer_count,
        "duration_seconds": info.duration.as_secs(),
        "keepalive_count": info.keepalive.count,
        "error_count": info.keepalive.errors,
    })
}

/// The body of a successful start. A shell client greps it for `error`, so that word must not occur.
pub(super) fn started(started: &Started) -> Value {
    json!({
        "session_id": started.session_id,
        "stream_id": started.stream_id,
        "camera_id": started.camera_id,
        "state": started.state,
        "pipeline_id": pipeline_id(started.stream_id),
        "rtp_endpoint_id": rtp_endpoint_id(started.stream_id),
        "webrtc_endpoint_id": webrtc_endpoint_id(started.stream_id),
        "started_at": iso8601(started.started_at),
    })
}

/// The body of a successful stop.
pub(super) fn stopped(info: &StreamInfo) -> Value {
    json!({
        "success": true,
        "message": format!("Stream stopped for camera {}", info.camera_id),
        "session_id": info.session_id,
        "stream_id": info.stream_id,
        "camera_id": info.camera_id,
        "state": info.state,
        "started_at": iso8601(info.started_at),
        "stopped_at": time(info.stopped_at),
        "duration_seconds": info.duration.as_secs(),
        "keepalive_stats": keepalive_stats(info, &info.keepalive),
        "stats": { "manager_stats": manager_stats(&info.manager), "media": media(&info.media) },
    })
}

/// `viewers` of every call that has them.
pub(super) fn viewers(viewers: &[ViewerInfo]) -> Vec<Value> {
    let viewer = |viewer: &ViewerInfo| {
        json!({
            "viewer_id": viewer.viewer_id,
            "camera_id": viewer.camera_id,
            "stream_id": viewer.stream_id,
            "created_at": iso8601(viewer.created_at),
            "webrtc_endpoint_id": viewer_endpoint_id(viewer.viewer_id),
            "connected": viewer.connected,
            "stats": viewer.stats.as_ref().map(viewer_stats),
        })
    };
    viewers.iter().map(viewer).collect()
}

fn keepalive_stats(info: &StreamInfo, keepalive: &KeepaliveInfo) -> Value {
    json!({
        "running": keepalive.running,
        "camera_id": info.camera_id,
        "stream_id": info.stream_id,
        "interval": seconds(keepalive.interval.as_secs_f64()),
        "keepalive_count": keepalive.count,
        "error_count": keepalive.errors,
        "last_success": time(keepalive.last_success),
        "last_error": keepalive.last_error,
        "elapsed_seconds": keepalive.elapsed.as_secs(),
    })
}

fn manager_stats(manager: &ManagerInfo) -> Value {
    json!({
        "start_attempts": manager.start_attempts,
        "stop_attempts": manager.stop_attempts,
        "errors": manager.errors,
        "last_error": manager.last_error,
        "plays": manager.plays,
    })
}

fn media(media: &MediaInfo) -> Value {
    let mut body = json!({
        "state": media.state,
        "reason": media.reason,
        "active_reason": media.active_reason,
    });
    if let (Some(stats), Some(body)) = (&media.stats, body.as_object_mut()) {
        let Value::Object(figures) = ingest(stats) else { return Value::Object(std::mem::take(body)) };
        body.extend(figures);
    }
    body
}

fn ingest(stats: &IngestStats) -> Value {
    let (video, audio) = (&stats.video, &stats.audio);
    let codec = stats.codec.as_deref();
    let mut video_track = track(video);
    video_track["codec"] = json!(codec.filter(|report| report.pictures > 0).map(self::codec));
    video_track["repair"] = json!(codec.map(|report| repair(report, &stats.reordering)));
    let mut audio_track = track(audio);
    audio_track["codec"] =
        json!(audio.codec.map(|codec| json!({ "name": codec.name(), "clock_rate": codec.clock_rate() })));
    let mut advice = codec.map(CodecReport::advice).unwrap_or_default();
    advice.extend(audio.codec.and_then(sound_advice));
    json!({
        "packets": video.packets + audio.packets,
        "loss": video.lost + audio.lost,
        "jitter_ms": hundredths(video.jitter_ms),
        "bitrate": video.bitrate + audio.bitrate,
        "last_packet_at": time(stats.last_packet),
        "last_keyframe_at": time(stats.last_keyframe),
        "profile_level_id": stats.profile_level_id,
        "feedback": {
            "sent": stats.feedback_sent,
            "last_at": time(stats.last_feedback),
            "remb_kbps": stats.remb / 1000,
            "plis_sent": stats.plis_sent,
            "nacks_sent": stats.nacks_sent,
            "follows_remb": stats.feedback_health.follows_remb,
            "answers_pli": stats.feedback_health.answers_pli,
            "warning": stats.feedback_health.warning.map(|warning| warning.to_string()),
        },
        "sources": {
            "video": address(stats.video_source),
            "audio": address(stats.audio_source),
            "rtcp": address(stats.rtcp_source),
        },
        "video": video_track,
        "audio": audio_track,
        "advice": advice.iter().map(|advice| json!({ "code": advice.code, "text": advice.text })).collect::<Vec<_>>(),
    })
}

/// What the camera's encoder makes.
fn codec(report: &CodecReport) -> Value {
    let (sps, gop) = (report.sps.as_ref(), report.gop.as_ref());
    json!({
        "profile": report.profile_name(),
        "level": report.level_name(),
        "profile_level_id": report.profile_level_id.map(|profile| profile.to_string()),
        "width": sps.map(|sps| sps.width),
        "height": sps.map(|sps| sps.height),
        "interlaced": sps.map(|sps| !sps.progressive),
        "announced_frame_rate": sps.and_then(|sps| sps.frame_rate).map(hundredths),
        "frame_rate": report.frame_rate.map(hundredths),
        "frame_rate_steady": report.steady,
        "gop_frames": gop.map(|gop| gop.frames),
        "gop_seconds": gop.map(|gop| hundredths(gop.duration.as_secs_f64())),
        "b_frames": report.b_frames,
        "max_reorder_frames": sps.and_then(|sps| sps.max_reorder),
        "pictures": report.pictures,
        "undecodable_keyframes": report.undecodable_keyframes,
        "oversize_packets": report.repaired.oversize,
    })
}

/// What was mended on the way to viewers.
fn repair(report: &CodecReport, reordering: &ReorderCounters) -> Value {
    let repaired = &report.repaired;
    json!({
        "reordered": reordering.reordered,
        "late": reordering.late,
        "late_dropped": repaired.late_dropped,
        "given_up": reordering.given_up,
        "completed_keyframes": repaired.completed_keyframes,
        "repeated_sets": repaired.repeated_sets,
        "early_markers": repaired.early_markers,
        "missing_markers": repaired.missing_markers,
        "faults": repaired.named_faults().map(|(name, count)| (name.to_owned(), json!(count))).collect::<Map<_, _>>(),
    })
}

fn track(track: &TrackStats) -> Value {
    json!({
        "packets": track.packets,
        "bytes": track.bytes,
        "lost": track.lost,
        "duplicates": track.duplicates,
        "jitter_ms": hundredths(track.jitter_ms),
        "bitrate": track.bitrate,
    })
}

fn viewer_stats(stats: &ViewerStats) -> Value {
    json!({
        "remote": address(stats.remote),
        "packets": stats.packets,
        "bytes": stats.bytes,
        "retransmissions": stats.retransmissions,
        "nacks": stats.nacks,
        "plis": stats.plis,
        "fraction_lost": stats.fraction_lost,
        "rtt_ms": stats.rtt_ms.map(hundredths),
        "remb_kbps": stats.remb.map(|remb| remb / 1000),
        "audio_codecs": stats.audio_codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>(),
        "audio_unplayable": stats.audio_unplayable,
    })
}

/// What a camera said about itself.
pub(super) fn camera(facts: &CameraFacts) -> Value {
    json!({
        "online": facts.online,
        "last_seen": time(facts.last_seen),
        "ip": facts.ip,
        "software_version": facts.device.software_version,
        "hardware_version": facts.device.hardware_version,
        "serial_number": facts.device.serial_number,
        "battery_percent": facts.battery_percent,
        "signal": facts.signal,
        "temperature": facts.temperature,
        "uptime": facts.uptime,
    })
}

fn time(time: Option<SystemTime>) -> Option<String> {
    time.map(iso8601)
}

fn address(address: Option<SocketAddr>) -> Option<String> {
    address.map(|address| address.to_string())
}

/// A whole number where it is one: `4`, not `4.0`.
fn seconds(seconds: f64) -> Value {
    if seconds.fract() == 0.0 { json!(seconds as u64) } else { json!(seconds) }
}

pub(super) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
