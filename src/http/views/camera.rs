//! Cameras.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, time};
use crate::base::{CameraId, StreamId};
use crate::control::registry::{ActivityEvent, CameraFacts};
use crate::control::{CameraInfo, PictureStatus, State};

/// Every camera that was heard of, named or streams.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CameraList {
    cameras: Vec<Camera>,
    count: usize,
}

impl CameraList {
    pub(in crate::http) fn new(cameras: &[CameraInfo]) -> Self {
        Self { count: cameras.len(), cameras: cameras.iter().map(Camera::new).collect() }
    }
}

/// A camera. What it never said is `null`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Camera {
    camera_id: CameraId,
    #[schema(required)]
    name: Option<String>,
    #[schema(required)]
    notes: Option<String>,
    #[serde(flatten)]
    report: CameraReport,
    #[schema(required)]
    online_changed_at: Option<Time>,
    #[schema(required)]
    mac: Option<String>,
    #[schema(required)]
    link_status: Option<String>,
    #[schema(required)]
    last_activity: Option<Activity>,
    /// Its stream, where one starts, runs or stops.
    #[schema(required)]
    stream: Option<CameraStream>,
    why_no_picture: PictureStatus,
}

impl Camera {
    pub(in crate::http) fn new(info: &CameraInfo) -> Self {
        let (camera, facts) = (&info.camera, &info.camera.facts);
        Self {
            camera_id: info.camera_id,
            name: camera.label.name.clone(),
            notes: camera.label.notes.clone(),
            report: CameraReport::new(facts),
            online_changed_at: time(facts.online_changed),
            mac: facts.mac.clone(),
            link_status: facts.link_status.clone(),
            last_activity: camera.events.front().map(Activity::new),
            stream: info.stream.map(|(stream_id, state)| CameraStream { stream_id, state }),
            why_no_picture: info.picture.clone(),
        }
    }
}

/// A camera with its history.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CameraDetail {
    #[serde(flatten)]
    camera: Camera,
    /// The last ones, the newest first.
    events: Vec<Activity>,
}

impl CameraDetail {
    pub(in crate::http) fn new(info: &CameraInfo) -> Self {
        Self { camera: Camera::new(info), events: info.camera.events.iter().map(Activity::new).collect() }
    }
}

/// What a camera said about itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CameraReport {
    #[schema(required)]
    online: Option<bool>,
    #[schema(required)]
    last_seen: Option<Time>,
    #[schema(required, value_type = Option<String>)]
    ip: Option<IpAddr>,
    #[schema(required)]
    software_version: Option<String>,
    #[schema(required)]
    hardware_version: Option<String>,
    #[schema(required)]
    serial_number: Option<String>,
    #[schema(required)]
    battery_percent: Option<f64>,
    /// In the camera's own unit.
    #[schema(required)]
    signal: Option<f64>,
    /// In °C.
    #[schema(required)]
    temperature: Option<f64>,
    /// Seconds since it booted, at its last status.
    #[schema(required)]
    uptime: Option<f64>,
}

impl CameraReport {
    pub(super) fn new(facts: &CameraFacts) -> Self {
        Self {
            online: facts.online,
            last_seen: time(facts.last_seen),
            ip: facts.ip,
            software_version: facts.device.software_version.clone(),
            hardware_version: facts.device.hardware_version.clone(),
            serial_number: facts.device.serial_number.clone(),
            battery_percent: facts.battery_percent,
            signal: facts.signal,
            temperature: facts.temperature,
            uptime: facts.uptime,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct CameraStream {
    stream_id: StreamId,
    state: State,
}

/// A motion or sound event.
#[derive(Debug, Serialize, ToSchema)]
struct Activity {
    #[schema(required)]
    event_id: Option<String>,
    /// For example `motion` or `sound`.
    activity_type: String,
    /// By the camera's clock.
    #[schema(required)]
    at: Option<Time>,
    /// By the server's clock.
    #[schema(required)]
    received_at: Option<Time>,
    /// In the camera's own scale.
    #[schema(required)]
    confidence: Option<f64>,
}

impl Activity {
    fn new(event: &ActivityEvent) -> Self {
        Self {
            event_id: event.event_id.clone(),
            activity_type: event.activity_type.clone(),
            at: time(event.at),
            received_at: time(event.received),
            confidence: event.confidence,
        }
    }
}
