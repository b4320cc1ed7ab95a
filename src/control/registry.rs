//! What is known of cameras: what they said over MQTT and what people wrote about them. Bounded, told the time,
//! and kept across restarts by whoever writes [`Registry::take_unsaved`] to the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::camera::{CameraContent, CameraMessage, Device};
use super::label::{Label, LabelChange};
use super::record::{self, whole_micros};
use super::unsaved::Unsaved;
use crate::base::CameraId;
use crate::store::Batch;

/// Events remembered of each camera; the oldest goes first.
pub const MAX_EVENTS: usize = 20;
/// An address from an earlier run tells nothing any more when the camera has been silent for longer: what gives
/// addresses to cameras has had time to give it to another.
pub const HINT_WITHIN: Duration = Duration::from_secs(86_400);

/// What a camera said about itself; `None` for what it never said. Times are whole microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CameraFacts {
    /// Connected to the broker, as far as the camera and its last will said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// Since when, by the server's clock.
    #[serde(with = "record::time", skip_serializing_if = "Option::is_none")]
    pub online_changed: Option<SystemTime>,
    /// When any message arrived last, by the server's clock.
    #[serde(with = "record::time", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<SystemTime>,
    /// The address that it believes to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Versions and serial number.
    #[serde(flatten)]
    pub device: Device,
    /// Battery charge, 0–100 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<f64>,
    /// Radio signal strength in the camera's own unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<f64>,
    /// MAC address as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// State of its network interface in its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_status: Option<String>,
    /// Temperature in °C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Seconds since it booted, at the time of its last status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<f64>,
}

/// A motion or sound event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivityEvent {
    /// The camera's own id of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// For example `motion` or `sound`; `unknown` where the camera named none.
    pub activity_type: String,
    /// When it happened, by the camera's clock.
    #[serde(default, with = "record::time", skip_serializing_if = "Option::is_none")]
    pub at: Option<SystemTime>,
    /// When it was heard of, by the server's clock.
    #[serde(default, with = "record::time", skip_serializing_if = "Option::is_none")]
    pub received: Option<SystemTime>,
    /// How sure the camera was, in its own scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// A camera that is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Camera {
    /// What people wrote.
    #[serde(flatten)]
    pub label: Label,
    /// What it said.
    #[serde(flatten)]
    pub facts: CameraFacts,
    /// Its last events, the newest first; at most [`MAX_EVENTS`].
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub events: VecDeque<ActivityEvent>,
}

/// What a message means for a running stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// The camera has just connected to the broker, perhaps after a reboot.
    pub connected: bool,
    /// Its address, where the message named a new one.
    pub new_ip: Option<IpAddr>,
}

/// No room: as many cameras as may be known have a name or notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Maximum cameras ({0}) reached, all with a name or notes")]
pub struct Full(pub usize);

/// All cameras that are known.
#[derive(Debug)]
pub struct Registry {
    limit: usize,
    cameras: BTreeMap<CameraId, Camera>,
    /// Those that may be forgotten, because nobody has written anything about them; the most silent first.
    unlabelled: BTreeSet<(Option<SystemTime>, CameraId)>,
    /// Those that have named their address in this run.
    told_ip: BTreeSet<CameraId>,
    /// Those whose connection message named it, which is more than what they say of their interfaces.
    connected_from: BTreeSet<CameraId>,
    unsaved: Unsaved,
    forgotten: u64,
    refused: u64,
}

impl Registry {
    /// Nothing known, and room for `limit` cameras (at least one). Topics are not authenticated by us, so a
    /// broker can name any number of them.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            cameras: BTreeMap::new(),
            unlabelled: BTreeSet::new(),
            told_ip: BTreeSet::new(),
            connected_from: BTreeSet::new(),
            unsaved: Unsaved::default(),
            forgotten: 0,
            refused: 0,
        }
    }

    /// What an earlier run has saved. Gives the number of records that cannot be read, and of those for which
    /// there is no room; both stay in the store. Who has a name or notes comes first, then who was seen last.
    pub fn restore(limit: usize, records: Vec<(CameraId, Vec<u8>)>) -> (Self, usize, usize) {
        let mut registry = Self::new(limit);
        let all = records.len();
        let mut cameras: Vec<(CameraId, Camera)> =
            records.into_iter().filter_map(|(id, bytes)| Some((id, record::decode(&bytes)?))).collect();
        let unreadable = all - cameras.len();
        cameras.sort_by_key(|(id, camera)| std::cmp::Reverse((!camera.label.is_empty(), camera.facts.last_seen, *id)));
        let without_room = cameras.len().saturating_sub(registry.limit);
        cameras.truncate(registry.limit);
        for (id, camera) in cameras {
            registry.unsaved.is_on_disk(id);
            if camera.label.is_empty() {
                registry.unlabelled.insert((camera.facts.last_seen, id));
            }
            registry.cameras.insert(id, camera);
        }
        (registry, unreadable, without_room)
    }

    /// Takes a message that arrived at `now`.
    ///
    /// When the registry is full, the camera without name and notes that was silent for longest is forgotten and
    /// counted. Where all have them, the stranger is not remembered and counted.
    pub fn note(&mut self, mut message: CameraMessage, now: SystemTime) -> Change {
        let id = message.camera;
        if self.make_room(id).is_err() {
            self.refused += 1;
            return Camera::default().note(message, now);
        }
        let camera = self.cameras.entry(id).or_default();
        let before = camera.facts.last_seen;
        match &mut message.content {
            CameraContent::Connection { ip: Some(_), .. } => drop(self.connected_from.insert(id)),
            // The address of the connection is one that works; a second interface may have another.
            CameraContent::Status { ip, .. } if self.connected_from.contains(&id) => *ip = None,
            _ => {}
        }
        if message.content.ip().is_some() {
            self.told_ip.insert(id);
        }
        let change = camera.note(message, now);
        if camera.label.is_empty() {
            self.unlabelled.remove(&(before, id));
            self.unlabelled.insert((camera.facts.last_seen, id));
        }
        self.unsaved.changed(id);
        change
    }

    /// Writes name and notes of a camera, also of one that was never heard of, and gives the camera as it is
    /// then. A camera that was never heard of is forgotten when it has neither any more.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn label(&mut self, id: CameraId, change: LabelChange) -> Result<Camera, Full> {
        self.make_room(id)?;
        let camera = self.cameras.entry(id).or_default();
        change.apply(&mut camera.label);
        let result = camera.clone();
        let key = (result.facts.last_seen, id);
        if !result.label.is_empty() {
            self.unlabelled.remove(&key);
            self.unsaved.changed(id);
        } else if result.facts.last_seen.is_some() {
            self.unlabelled.insert(key);
            self.unsaved.changed(id);
        } else {
            self.unlabelled.remove(&key);
            self.remove(id);
        }
        Ok(result)
    }

    /// What `camera` said about itself.
    pub fn get(&self, camera: CameraId) -> Option<&CameraFacts> {
        self.camera(camera).map(|camera| &camera.facts)
    }

    /// Where the camera's packets are to be expected from, at `now`: the address that it named in this run, or in an
    /// earlier one that is not long ago, unless another camera has named that address since.
    pub fn hint(&self, camera: CameraId, now: SystemTime) -> Option<IpAddr> {
        let CameraFacts { ip, last_seen, .. } = self.get(camera)?;
        if self.told_ip.contains(&camera) {
            return *ip;
        }
        let is_recent = last_seen.and_then(|seen| now.duration_since(seen).ok()).is_some_and(|age| age <= HINT_WITHIN);
        let is_moved = || self.told_ip.iter().any(|other| self.get(*other).is_some_and(|facts| facts.ip == *ip));
        ip.filter(|_| is_recent && !is_moved())
    }

    /// All that is known of `camera`.
    pub fn camera(&self, camera: CameraId) -> Option<&Camera> {
        self.cameras.get(&camera)
    }

    /// All cameras, by id.
    pub fn cameras(&self) -> impl Iterator<Item = (CameraId, &Camera)> {
        self.cameras.iter().map(|(id, camera)| (*id, camera))
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
        self.cameras.values().filter(|camera| camera.facts.online == Some(true)).count()
    }

    /// Cameras forgotten for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Messages of strangers for whom there was no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether something has changed that is not in the store, and nothing is being written.
    pub fn has_unsaved(&self) -> bool {
        self.unsaved.is_due()
    }

    /// Whether [`Registry::saved`] is due.
    pub fn is_being_written(&self) -> bool {
        self.unsaved.is_being_written()
    }

    /// The changes to write. [`Registry::saved`] must follow before the next call.
    pub fn take_unsaved(&mut self) -> Batch {
        let cameras = &self.cameras;
        self.unsaved.take(|id| cameras.get(&id).map(record::encode))
    }

    /// Whether the batch taken last has been written. If not, its changes are unsaved again.
    pub fn saved(&mut self, written: bool) {
        let cameras = &self.cameras;
        self.unsaved.done(written, |id| cameras.contains_key(&id));
    }

    /// Makes room for `id` if it is not known yet.
    fn make_room(&mut self, id: CameraId) -> Result<(), Full> {
        if self.cameras.len() < self.limit || self.cameras.contains_key(&id) {
            return Ok(());
        }
        let (_, oldest) = self.unlabelled.pop_first().ok_or(Full(self.limit))?;
        self.remove(oldest);
        self.forgotten += 1;
        Ok(())
    }

    fn remove(&mut self, id: CameraId) {
        self.cameras.remove(&id);
        self.told_ip.remove(&id);
        self.connected_from.remove(&id);
        self.unsaved.forgotten(id);
    }
}

impl Camera {
    fn note(&mut self, message: CameraMessage, now: SystemTime) -> Change {
        let CameraMessage { content, retained, .. } = message;
        let now = whole_micros(now);
        let facts = &mut self.facts;
        // What the broker has kept says how things were, and a last will that the camera has gone: neither that it
        // is alive.
        let is_will = matches!(content, CameraContent::Connection { online: false, .. });
        if !(retained || is_will) || facts.last_seen.is_none() {
            facts.last_seen = Some(now);
        }
        let mut change = Change::default();
        let mut told_ip = None;
        let mut online = (!retained).then_some(true);
        match content {
            CameraContent::Connection { online: connected, ip, device, .. } => {
                change.connected = connected && !retained;
                online = Some(connected);
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
            CameraContent::Activity { event_id, activity_type, at, confidence } if !retained => {
                let activity_type = activity_type.unwrap_or_else(|| "unknown".into());
                let (at, received) = (at.map(whole_micros), Some(now));
                push_event(&mut self.events, ActivityEvent { event_id, activity_type, at, received, confidence });
            }
            // An event of the past, told again at every connection to the broker.
            CameraContent::Activity { .. } => {}
        }
        if online.is_some() && online != facts.online {
            facts.online = online;
            facts.online_changed = Some(now);
        }
        if told_ip.is_some() && told_ip != facts.ip {
            facts.ip = told_ip;
            change.new_ip = told_ip;
        }
        change
    }
}

/// QoS 1 may deliver twice; the id tells.
fn push_event(events: &mut VecDeque<ActivityEvent>, event: ActivityEvent) {
    if event.event_id.is_some() && events.iter().any(|known| known.event_id == event.event_id) {
        return;
    }
    events.push_front(event);
    events.truncate(MAX_EVENTS);
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
