//! What cameras have said about themselves over MQTT: in memory, bounded, told the time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::camera::{CameraContent, CameraMessage, Device};
use crate::base::CameraId;

/// Cameras remembered. Topics are not authenticated by us, so a broker can name any number of them.
pub const MAX_CAMERAS: usize = 10_000;

/// What is known of a camera; `None` for what it never said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CameraFacts {
    /// Connected to the broker.
    pub online: Option<bool>,
    /// When any message arrived last, by the server's clock.
    pub last_seen: Option<SystemTime>,
    /// The address that it believes to have.
    pub ip: Option<IpAddr>,
    /// Versions and serial number.
    pub device: Device,
    /// Battery charge, 0–100 %.
    pub battery_percent: Option<f64>,
    /// Radio signal strength in the camera's own unit.
    pub signal: Option<f64>,
    /// MAC address as text.
    pub mac: Option<String>,
    /// State of its network interface in its own words.
    pub link_status: Option<String>,
    /// Temperature in °C.
    pub temperature: Option<f64>,
    /// Seconds since it booted.
    pub uptime: Option<f64>,
    /// Its last motion or sound event, with the server's time.
    pub last_activity: Option<(String, SystemTime)>,
}

/// What a message means for a running stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// The camera has just connected to the broker, perhaps after a reboot.
    pub connected: bool,
    /// Its address, where the message named a new one.
    pub new_ip: Option<IpAddr>,
}

/// All cameras heard of.
#[derive(Debug, Default)]
pub struct Registry {
    cameras: HashMap<CameraId, CameraFacts>,
    forgotten: u64,
}

impl Registry {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a message that arrived at `now`.
    ///
    /// When the registry is full, the camera that was silent for longest is forgotten and counted.
    pub fn note(&mut self, message: CameraMessage, now: SystemTime) -> Change {
        if self.cameras.len() >= MAX_CAMERAS && !self.cameras.contains_key(&message.camera) {
            self.forget_the_most_silent();
        }
        let facts = self.cameras.entry(message.camera).or_default();
        facts.last_seen = Some(now);
        let mut change = Change::default();
        let mut told_ip = None;
        match message.content {
            CameraContent::Connection { online, ip, device, .. } => {
                change.connected = online;
                facts.online = Some(online);
                told_ip = ip;
                let known = &mut facts.device;
                known.software_version = device.software_version.or(known.software_version.take());
                known.hardware_version = device.hardware_version.or(known.hardware_version.take());
                known.serial_number = device.serial_number.or(known.serial_number.take());
            }
            CameraContent::Status { battery_percent, signal, ip, mac, link_status, temperature, uptime } => {
                told_ip = ip;
                facts.battery_percent = battery_percent.or(facts.battery_percent);
                facts.signal = signal.or(facts.signal);
                facts.mac = mac.or(facts.mac.take());
                facts.link_status = link_status.or(facts.link_status.take());
                facts.temperature = temperature.or(facts.temperature);
                facts.uptime = uptime.or(facts.uptime);
            }
            CameraContent::Activity { activity_type, .. } => {
                facts.last_activity = Some((activity_type.unwrap_or_else(|| "unknown".into()), now));
            }
        }
        if told_ip.is_some() && told_ip != facts.ip {
            facts.ip = told_ip;
            change.new_ip = told_ip;
        }
        change
    }

    /// What is known of `camera`.
    pub fn get(&self, camera: CameraId) -> Option<&CameraFacts> {
        self.cameras.get(&camera)
    }

    /// Cameras known.
    pub fn len(&self) -> usize {
        self.cameras.len()
    }

    /// Whether no camera is known.
    pub fn is_empty(&self) -> bool {
        self.cameras.is_empty()
    }

    /// Cameras that are connected to the broker as far as they said.
    pub fn online(&self) -> usize {
        self.cameras.values().filter(|facts| facts.online == Some(true)).count()
    }

    /// Cameras forgotten for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn forget_the_most_silent(&mut self) {
        let oldest = self.cameras.iter().min_by_key(|(camera, facts)| (facts.last_seen, **camera));
        if let Some(camera) = oldest.map(|(camera, _)| *camera) {
            self.cameras.remove(&camera);
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn camera(n: usize) -> CameraId {
        format!("{n:032X}").parse().unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn connection(online: bool, ip: Option<&str>) -> CameraContent {
        let ip = ip.map(|ip| ip.parse().unwrap());
        CameraContent::Connection { online, at: None, ip, device: Device::default() }
    }

    fn note(registry: &mut Registry, n: usize, content: CameraContent, seconds: u64) -> Change {
        registry.note(CameraMessage { camera: camera(n), content }, at(seconds))
    }

    #[test]
    fn a_connection_tells_address_and_presence() {
        let mut registry = Registry::new();
        let change = note(&mut registry, 1, connection(true, Some("10.0.0.5")), 1);
        assert_eq!(change, Change { connected: true, new_ip: Some("10.0.0.5".parse().unwrap()) });
        assert_eq!(registry.online(), 1);
        let change = note(&mut registry, 1, connection(false, None), 2);
        assert_eq!(change, Change::default());
        let facts = registry.get(camera(1)).unwrap();
        assert_eq!((facts.online, facts.ip), (Some(false), Some("10.0.0.5".parse().unwrap())));
    }

    #[test]
    fn the_same_address_again_is_no_change() {
        let mut registry = Registry::new();
        note(&mut registry, 1, connection(true, Some("10.0.0.5")), 1);
        assert_eq!(note(&mut registry, 1, connection(true, Some("10.0.0.5")), 2).new_ip, None);
    }

    #[test]
    fn a_status_with_holes_keeps_what_was_known() {
        let status = |battery_percent, temperature| CameraContent::Status {
            battery_percent,
            signal: None,
            ip: None,
            mac: None,
            link_status: None,
            temperature,
            uptime: None,
        };
        let mut registry = Registry::new();
        note(&mut registry, 1, status(Some(80.0), None), 1);
        note(&mut registry, 1, status(None, Some(41.5)), 2);
        let facts = registry.get(camera(1)).unwrap();
        assert_eq!((facts.battery_percent, facts.temperature), (Some(80.0), Some(41.5)));
        assert_eq!(facts.last_seen, Some(at(2)));
    }

    #[test]
    fn the_most_silent_camera_makes_room_for_the_ten_thousand_and_first() {
        let mut registry = Registry::new();
        for n in 0..MAX_CAMERAS {
            note(&mut registry, n, connection(true, None), n as u64);
        }
        note(&mut registry, 0, connection(true, None), 1_000_000);
        note(&mut registry, MAX_CAMERAS, connection(true, None), 1_000_001);
        assert_eq!((registry.len(), registry.forgotten()), (MAX_CAMERAS, 1));
        assert!(registry.get(camera(0)).is_some(), "heard of since");
        assert!(registry.get(camera(1)).is_none());
        assert!(registry.get(camera(MAX_CAMERAS)).is_some());
    }
}
