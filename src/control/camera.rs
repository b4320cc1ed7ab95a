//! What cameras say and what they are told, free of the broker: the vocabulary between the control
//! plane and the MQTT edge (contract §2).

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::base::CameraId;

/// One message from a camera, already parsed. Fields that were missing or of a wrong type are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraMessage {
    /// The camera that the topic names.
    pub camera: CameraId,
    /// What it said.
    pub content: CameraContent,
    /// The broker had kept it: it was said at some time before we subscribed.
    pub retained: bool,
}

/// The kinds of message that cameras send.
#[derive(Debug, Clone, PartialEq)]
pub enum CameraContent {
    /// The camera's connection to the broker came or went. Cameras send it after a reboot too, and a
    /// rebooted camera does not remember that it was streaming (contract §1).
    Connection {
        /// `true` for `"connected"`, `false` for anything else.
        online: bool,
        /// When, by the camera's clock.
        at: Option<SystemTime>,
        /// The address that the camera believes to have: the hint for telling cameras apart (contract §4).
        ip: Option<IpAddr>,
        /// Versions and serial number.
        device: Device,
    },
    /// Periodic health report, every 600 s.
    Status {
        /// Battery charge, 0–100 %.
        battery_percent: Option<f64>,
        /// Radio signal strength in the camera's own unit (dBm where it is negative).
        signal: Option<f64>,
        /// The address of its network interface.
        ip: Option<IpAddr>,
        /// The MAC address of its network interface, as text.
        mac: Option<String>,
        /// The state of its network interface, in its own words.
        link_status: Option<String>,
        /// Temperature in °C.
        temperature: Option<f64>,
        /// Seconds since the camera booted.
        uptime: Option<f64>,
    },
    /// Something moved or made a noise.
    Activity {
        /// The camera's own id of the event.
        event_id: Option<String>,
        /// For example `motion` or `sound`.
        activity_type: Option<String>,
        /// When, by the camera's clock.
        at: Option<SystemTime>,
        /// How sure the camera is, in its own scale.
        confidence: Option<f64>,
    },
}

impl CameraContent {
    /// The address that the camera names as its own.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Connection { ip, .. } | Self::Status { ip, .. } => *ip,
            Self::Activity { .. } => None,
        }
    }
}

/// What a camera says about itself when it connects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Version of its firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    /// Version of its board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_version: Option<String>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
}

/// One message to a camera, to be published once.
#[derive(Debug)]
pub struct CameraCommand {
    /// The camera that it is for.
    pub camera: CameraId,
    /// Which topic it goes to.
    pub kind: CommandKind,
    /// The JSON text.
    pub payload: String,
    /// Told `Ok` when the broker has acknowledged the message, else the reason in words. That the
    /// camera obeyed shows in its RTP only.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// The kinds of message that cameras understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// Start to send, with an SDP.
    Play,
    /// Go on sending.
    Keepalive,
    /// Stop sending.
    Stop,
}
