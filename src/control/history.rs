//! The last hour of every camera: figures in a ring, and what changed when. Pure, bounded, told the time.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::picture::{PictureCode, PictureStatus};
use super::session::State;
use crate::base::time::iso8601;
use crate::base::{CameraId, StreamId};

/// Between two points of a running stream.
pub const POINT_EVERY: Duration = Duration::from_secs(10);
/// What is older is forgotten.
pub const POINTS_OF: Duration = Duration::from_secs(3_600);
/// Points kept of each camera: those of [`POINTS_OF`].
pub const MAX_POINTS: usize = 360;
/// Changes kept of each camera; the oldest goes first.
pub const MAX_CHANGES: usize = 100;
/// Longest text of a change, in characters. Some quote a broker or a camera.
const MAX_TEXT: usize = 300;

/// Figures of a running stream at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// By the server's clock.
    pub at: SystemTime,
    /// Of all tracks, in bit/s.
    pub bitrate: u64,
    /// Lost packets since the point before, as a fraction of those expected; 0–1.
    pub loss: f64,
    /// Of video, in milliseconds.
    pub jitter_ms: f64,
    /// What the camera was last asked for, in kbit/s.
    pub remb_kbps: u64,
    /// Who watches.
    pub viewers: usize,
}

/// What a point is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The stream that is read; loss is counted within one stream.
    pub stream: StreamId,
    /// In bit/s.
    pub bitrate: u64,
    /// Packets received so far.
    pub packets: u64,
    /// Packets lost so far.
    pub lost: u64,
    /// In milliseconds.
    pub jitter_ms: f64,
    /// In kbit/s.
    pub remb_kbps: u64,
    /// Who watches.
    pub viewers: usize,
}

/// What it is that changed. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The session's state; `stopped` when it is over.
    State,
    /// The code of `why_no_picture`.
    Picture,
    /// `online` or `offline`: the camera and the broker.
    Online,
    /// `ok` or `warning`: the camera and its feedback.
    Feedback,
    /// What the codec doctor advises, codes with commas; `ok` for nothing.
    Doctor,
    /// How many watch. Told, but not kept: the points hold it.
    Viewers,
    /// The type of a motion or sound event. Told, but not kept: the registry holds it.
    Activity,
}

impl Aspect {
    /// As in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Picture => "picture",
            Self::Online => "online",
            Self::Feedback => "feedback",
            Self::Doctor => "doctor",
            Self::Viewers => "viewers",
            Self::Activity => "activity",
        }
    }

    fn is_kept(self) -> bool {
        !matches!(self, Self::Viewers | Self::Activity)
    }
}

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub camera: CameraId,
    /// By the server's clock.
    pub at: SystemTime,
    /// What.
    pub what: Aspect,
    /// How it is now, for programs.
    pub value: String,
    /// Why, for people.
    pub text: Option<String>,
}

impl Change {
    /// Something as it is at this moment.
    pub fn now(camera: CameraId, what: Aspect, value: String, text: Option<String>) -> Self {
        Self { camera, at: SystemTime::now(), what, value, text }
    }

    /// As every edge tells it: `{camera_id, at, what, value, text}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "camera_id": self.camera,
            "at": iso8601(self.at),
            "what": self.what,
            "value": self.value,
            "text": self.text,
        })
    }
}

/// How a camera is. Two of them tell what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Of its session, and why; `None` without one.
    pub state: Option<(State, Option<String>)>,
    /// Whether there is a picture.
    pub picture: PictureStatus,
    /// Connected to the broker, where that is known.
    pub online: Option<bool>,
    /// Who watches.
    pub viewers: usize,
    /// What is wrong with its feedback.
    pub feedback: Option<String>,
    /// Codes and texts of the codec doctor; `None` while nothing was seen of the video.
    pub doctor: Option<(String, Option<String>)>,
}

#[derive(Debug, Default)]
struct History {
    points: VecDeque<Point>,
    changes: VecDeque<Change>,
    /// Stream, packets and losses at the last point.
    counted: Option<(StreamId, u64, u64)>,
    status: Option<Status>,
    /// For making room.
    touched: u64,
}

/// The histories of all cameras.
#[derive(Debug)]
pub struct Histories {
    limit: usize,
    cameras: HashMap<CameraId, History>,
    turn: u64,
}

impl Histories {
    /// Of `limit` cameras at most; the one that was quiet for longest makes room.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), cameras: HashMap::new(), turn: 0 }
    }

    /// Takes how a camera is now and gives what has changed, oldest first. The first look at a camera without a
    /// stream changes nothing.
    pub fn observe(&mut self, camera: CameraId, now: SystemTime, status: Status) -> Vec<Change> {
        let history = self.entry(camera);
        let mut found = Vec::new();
        let mut add = |what, value: &str, text: Option<&str>| {
            let text = text.map(|text| text.chars().take(MAX_TEXT).collect());
            found.push(Change { camera, at: now, what, value: value.to_owned(), text });
        };
        let before = history.status.take();
        let before = before.as_ref();
        if let Some(online) = status.online.filter(|online| before.and_then(|b| b.online) != Some(*online)) {
            add(Aspect::Online, if online { "online" } else { "offline" }, None);
        }
        let state_before = before.and_then(|b| b.state.as_ref()).map(|(state, _)| *state);
        match &status.state {
            Some((state, why)) if state_before != Some(*state) => {
                add(Aspect::State, state_name(*state), why.as_deref());
            }
            None if !matches!(state_before, None | Some(State::Error)) => add(Aspect::State, "stopped", None),
            _ => {}
        }
        let code_before = before.map(|b| b.picture.code);
        let streams = status.state.is_some() || state_before.is_some();
        if streams && code_before != Some(status.picture.code) {
            let quiet = matches!(status.picture.code, PictureCode::Ok);
            let text = (!quiet).then_some(status.picture.text.as_str());
            add(Aspect::Picture, &code_name(status.picture.code), text);
        }
        if before.and_then(|b| b.feedback.as_ref()) != status.feedback.as_ref() {
            let value = if status.feedback.is_some() { "warning" } else { "ok" };
            add(Aspect::Feedback, value, status.feedback.as_deref());
        }
        let doctor_before = before.and_then(|b| b.doctor.as_ref()).map(|(codes, _)| codes);
        if let Some((codes, text)) = status.doctor.as_ref().filter(|(codes, _)| doctor_before != Some(codes)) {
            // A camera that suits everybody from the start is no news.
            if doctor_before.is_some() || !codes.is_empty() {
                add(Aspect::Doctor, if codes.is_empty() { "ok" } else { codes }, text.as_deref());
            }
        }
        if before.map_or(0, |b| b.viewers) != status.viewers {
            add(Aspect::Viewers, &status.viewers.to_string(), None);
        }
        history.status = Some(status);
        for change in found.iter().filter(|change| change.what.is_kept()) {
            if history.changes.len() == MAX_CHANGES {
                history.changes.pop_front();
            }
            history.changes.push_back(change.clone());
        }
        found
    }

    /// Adds a point.
    pub fn sample(&mut self, camera: CameraId, now: SystemTime, reading: &Reading) {
        let history = self.entry(camera);
        let counted = history.counted.filter(|(stream, ..)| *stream == reading.stream);
        let (_, packets, lost) = counted.unwrap_or((reading.stream, 0, 0));
        // Packets that come late are no longer lost.
        let lost = reading.lost.saturating_sub(lost);
        let expected = reading.packets.saturating_sub(packets) + lost;
        history.counted = Some((reading.stream, reading.packets, reading.lost));
        if history.points.len() == MAX_POINTS {
            history.points.pop_front();
        }
        history.points.push_back(Point {
            at: now,
            bitrate: reading.bitrate,
            loss: if expected == 0 { 0.0 } else { lost as f64 / expected as f64 },
            jitter_ms: reading.jitter_ms,
            remb_kbps: reading.remb_kbps,
            viewers: reading.viewers,
        });
    }

    /// The points of the last hour and the changes that are kept, oldest first; both empty for a camera of which
    /// nothing is known.
    pub fn of(&self, camera: CameraId, now: SystemTime) -> (Vec<Point>, Vec<Change>) {
        let Some(history) = self.cameras.get(&camera) else { return Default::default() };
        // A clock that was set back makes nothing older.
        let young = |point: &&Point| now.duration_since(point.at).map_or(true, |age| age <= POINTS_OF);
        let points = history.points.iter().filter(young).copied().collect();
        (points, history.changes.iter().cloned().collect())
    }

    fn entry(&mut self, camera: CameraId) -> &mut History {
        self.turn += 1;
        if self.cameras.len() >= self.limit && !self.cameras.contains_key(&camera) {
            let quietest = self.cameras.iter().min_by_key(|(_, history)| history.touched).map(|(id, _)| *id);
            if let Some(quietest) = quietest {
                self.cameras.remove(&quietest);
            }
        }
        let history = self.cameras.entry(camera).or_default();
        history.touched = self.turn;
        history
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Starting => "starting",
        State::Active => "active",
        State::Stopping => "stopping",
        State::Error => "error",
        State::Stopped => "stopped",
    }
}

/// As the API spells it.
fn code_name(code: PictureCode) -> String {
    serde_json::to_value(code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
