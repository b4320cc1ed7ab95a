//! What happens to the camera registry over time: messages of every kind, names, saves that work or fail.
//!
//! One step a line: seconds that pass, the camera's digit, what happens, and a payload, like
//! `5 1 status {"battery":{"level":80}}`. `connection`, `status` and `activity` are messages, with `!` behind it one that
//! the broker had kept; `name` and `notes` set the payload, `-` clears; `save` writes to the store, `fail` tries to,
//! `begin` and `end` are a write with steps in between. Lines of other shapes are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use honeycast::base::CameraId;
use honeycast::control::LabelChange;
use honeycast::control::registry::{MAX_EVENTS, Registry};
use honeycast::control::{CameraMessage, record};
use honeycast::mqtt::inbound::parse;
use honeycast::mqtt::topics::ReportKind;

/// Fewer than there are digits, so that some have to go.
const LIMIT: usize = 4;

struct World {
    registry: Registry,
    now: SystemTime,
    /// What the store holds.
    disk: BTreeMap<CameraId, Vec<u8>>,
    /// The write that is under way.
    writing: Option<Vec<(CameraId, Option<Vec<u8>>)>>,
    accepted: usize,
}

/// Whether every line of `data` was a step that was taken.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut world =
        World { registry: Registry::new(LIMIT), now: UNIX_EPOCH, disk: BTreeMap::new(), writing: None, accepted: 0 };
    let mut lines = 0;
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        lines += 1;
        let labelled = world.labelled();
        let is_label = line.splitn(4, |byte| *byte == b' ').nth(2).is_some_and(|word| word.starts_with(b"n"));
        if world.step(line).is_some() {
            world.accepted += 1;
        }
        assert!(is_label || world.labelled() == labelled, "only people take names away");
        world.check();
    }
    let accepted = world.accepted;
    world.end();
    lines > 0 && accepted == lines
}

impl World {
    fn step(&mut self, line: &[u8]) -> Option<()> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let seconds: u64 = word()?.parse().ok()?;
        let digit = word()?;
        let kind = word()?;
        let payload = parts.next().unwrap_or_default();
        let camera: CameraId = format!("{digit:0>32}").parse().ok().filter(|_| digit.len() == 1)?;
        // Clocks are set back too; beyond the end of time they stand still.
        self.now = match seconds {
            86_400.. => self.now.checked_sub(Duration::from_secs(seconds)).unwrap_or(self.now),
            _ => self.now.checked_add(Duration::from_secs(seconds)).unwrap_or(self.now),
        };
        match kind.trim_end_matches('!') {
            "connection" => self.message(ReportKind::Connection, camera, payload, kind.ends_with('!')),
            "status" => self.message(ReportKind::Status, camera, payload, kind.ends_with('!')),
            "activity" => self.message(ReportKind::Activity, camera, payload, kind.ends_with('!')),
            "name" => self.label(camera, LabelChange::new().name(text(payload)?).ok()?),
            "notes" => self.label(camera, LabelChange::new().notes(text(payload)?).ok()?),
            "begin" => self.begin(),
            "end" => self.finish(true),
            "save" => self.begin().and_then(|()| self.finish(true)),
            "fail" => self.begin().and_then(|()| self.finish(false)),
            _ => None,
        }
    }

    fn message(&mut self, kind: ReportKind, camera: CameraId, payload: &[u8], retained: bool) -> Option<()> {
        let message = CameraMessage { retained, ..parse(kind, camera, payload).ok()? };
        let change = self.registry.note(message, self.now);
        assert!(!(retained && change.connected), "what the broker kept is no news");
        if let (Some(ip), Some(facts)) = (change.new_ip, self.registry.get(camera)) {
            assert_eq!(facts.ip, Some(ip));
        }
        Some(())
    }

    fn label(&mut self, camera: CameraId, change: LabelChange) -> Option<()> {
        let known = self.registry.camera(camera).is_some();
        match self.registry.label(camera, change) {
            Ok(after) => {
                let there = self.registry.camera(camera);
                assert!(there.is_none_or(|there| *there == after));
                assert_eq!(there.is_none(), after.label.is_empty() && after.facts.last_seen.is_none());
            }
            Err(_) => assert!(!known && self.labelled().len() == LIMIT),
        }
        Some(())
    }

    fn begin(&mut self) -> Option<()> {
        if !self.registry.has_unsaved() {
            return None;
        }
        let batch = self.registry.take_unsaved();
        assert!(!self.registry.has_unsaved() && self.registry.is_being_written());
        assert!(batch.len() <= 3 * LIMIT, "bounded by what is known, kept, and under way");
        self.writing = Some(batch);
        Some(())
    }

    fn finish(&mut self, written: bool) -> Option<()> {
        let batch = self.writing.take()?;
        self.registry.saved(written);
        if written {
            for (camera, record) in batch {
                match record {
                    Some(record) => drop(self.disk.insert(camera, record)),
                    None => assert!(self.disk.remove(&camera).is_some(), "only what is there is deleted"),
                }
            }
            assert!(self.disk.len() <= 2 * LIMIT);
        }
        Some(())
    }

    fn labelled(&self) -> BTreeSet<CameraId> {
        self.registry.cameras().filter(|(_, camera)| !camera.label.is_empty()).map(|(id, _)| id).collect()
    }

    fn check(&self) {
        assert!(self.registry.len() <= LIMIT);
        assert!(self.registry.online() <= self.registry.len());
        for (_, camera) in self.registry.cameras() {
            assert!(camera.events.len() <= MAX_EVENTS);
            assert!(camera.facts.last_seen.is_some() || !camera.label.is_empty(), "nothing is known of it");
            assert_eq!(record::decode(&record::encode(camera)).as_ref(), Some(camera));
        }
    }

    /// The last save leaves exactly what is known, and a later run knows the same.
    fn end(mut self) {
        if self.writing.is_some() {
            self.finish(true);
        }
        self.begin().and_then(|()| self.finish(true));
        assert!(!self.registry.has_unsaved());
        let records: Vec<_> = self.disk.into_iter().collect();
        let (restored, unreadable, without_room) = Registry::restore(LIMIT, records);
        assert_eq!((unreadable, without_room), (0, 0));
        assert!(restored.cameras().eq(self.registry.cameras()));
        assert!(!restored.has_unsaved());
    }
}

fn text(payload: &[u8]) -> Option<Option<&str>> {
    match payload {
        b"-" => Some(None),
        _ => std::str::from_utf8(payload).ok().map(Some),
    }
}
