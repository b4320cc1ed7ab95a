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

fn status(battery_percent: Option<f64>, temperature: Option<f64>) -> CameraContent {
    CameraContent::Status {
        battery_percent,
        signal: None,
        ip: None,
        mac: None,
        link_status: None,
        temperature,
        uptime: None,
    }
}

fn motion(event_id: Option<&str>, confidence: f64) -> CameraContent {
    CameraContent::Activity {
        event_id: event_id.map(str::to_owned),
        activity_type: Some("motion".into()),
        at: Some(at(7)),
        confidence: Some(confidence),
    }
}

fn note(registry: &mut Registry, n: usize, content: CameraContent, seconds: u64) -> Change {
    registry.note(CameraMessage { camera: camera(n), content, retained: false }, at(seconds))
}

fn retained(registry: &mut Registry, n: usize, content: CameraContent, seconds: u64) -> Change {
    registry.note(CameraMessage { camera: camera(n), content, retained: true }, at(seconds))
}

fn name(registry: &mut Registry, n: usize, name: Option<&str>) -> Result<Camera, Full> {
    registry.label(camera(n), LabelChange::new().name(name).unwrap())
}

fn known(registry: &Registry) -> Vec<CameraId> {
    registry.cameras().map(|(id, _)| id).collect()
}

/// Takes a batch as the store would, and says that it is written.
fn save(registry: &mut Registry) -> Vec<(CameraId, bool)> {
    let batch = registry.take_unsaved();
    registry.saved(true);
    batch.into_iter().map(|(id, record)| (id, record.is_some())).collect()
}

#[test]
fn a_connection_tells_address_and_presence_and_since_when() {
    let mut registry = Registry::new(10);
    let change = note(&mut registry, 1, connection(true, Some("10.0.0.5")), 1);
    assert_eq!(change, Change { connected: true, new_ip: Some("10.0.0.5".parse().unwrap()) });
    assert_eq!(registry.online(), 1);
    note(&mut registry, 1, status(None, None), 2);
    assert_eq!(registry.get(camera(1)).unwrap().online_changed, Some(at(1)));
    let change = note(&mut registry, 1, connection(false, None), 3);
    assert_eq!(change, Change::default());
    let facts = registry.get(camera(1)).unwrap();
    assert_eq!((facts.online, facts.ip), (Some(false), Some("10.0.0.5".parse().unwrap())));
    assert_eq!(facts.online_changed, Some(at(3)));
}

#[test]
fn a_last_will_says_that_a_camera_is_gone_and_not_that_it_was_seen() {
    let mut registry = Registry::new(10);
    note(&mut registry, 1, status(None, None), 5);
    note(&mut registry, 1, connection(false, None), 95);
    let facts = registry.get(camera(1)).unwrap();
    assert_eq!((facts.online, facts.last_seen, facts.online_changed), (Some(false), Some(at(5)), Some(at(95))));
}

#[test]
fn the_same_address_again_is_no_change() {
    let mut registry = Registry::new(10);
    note(&mut registry, 1, connection(true, Some("10.0.0.5")), 1);
    assert_eq!(note(&mut registry, 1, connection(true, Some("10.0.0.5")), 2).new_ip, None);
}

#[test]
fn a_status_with_holes_keeps_what_was_known() {
    let mut registry = Registry::new(10);
    note(&mut registry, 1, status(Some(80.0), None), 1);
    note(&mut registry, 1, status(None, Some(41.5)), 2);
    let facts = registry.get(camera(1)).unwrap();
    assert_eq!((facts.battery_percent, facts.temperature), (Some(80.0), Some(41.5)));
    assert_eq!(facts.last_seen, Some(at(2)));
}

#[test]
fn a_camera_that_speaks_is_online_even_if_its_connection_message_was_missed() {
    let mut registry = Registry::new(10);
    note(&mut registry, 1, connection(false, None), 1);
    note(&mut registry, 1, status(None, None), 600);
    assert_eq!(registry.get(camera(1)).unwrap().online, Some(true));
}

#[test]
fn what_the_broker_has_kept_is_no_sign_of_life_and_starts_nothing() {
    let mut registry = Registry::new(10);
    note(&mut registry, 1, connection(false, None), 1);
    retained(&mut registry, 1, status(Some(50.0), None), 9);
    let facts = registry.get(camera(1)).unwrap();
    assert_eq!((facts.online, facts.last_seen), (Some(false), Some(at(1))));
    assert_eq!(facts.battery_percent, Some(50.0));

    let change = retained(&mut registry, 1, connection(true, Some("10.0.0.5")), 10);
    assert_eq!(change, Change { connected: false, new_ip: Some("10.0.0.5".parse().unwrap()) });
    retained(&mut registry, 1, motion(None, 0.5), 11);
    assert!(registry.camera(camera(1)).unwrap().events.is_empty(), "not an event of now");
    retained(&mut registry, 2, status(None, None), 12);
    assert_eq!(registry.get(camera(2)).unwrap().online, None, "known, but nobody said so");
}

#[test]
fn the_last_twenty_events_are_kept_newest_first_and_a_repeated_one_once() {
    let mut registry = Registry::new(10);
    for n in 0..MAX_EVENTS + 3 {
        note(&mut registry, 1, motion(Some(&n.to_string()), n as f64), n as u64);
        note(&mut registry, 1, motion(Some(&n.to_string()), n as f64), n as u64);
    }
    let events = &registry.camera(camera(1)).unwrap().events;
    assert_eq!(events.len(), MAX_EVENTS);
    assert_eq!((events[0].confidence, events[MAX_EVENTS - 1].confidence), (Some(22.0), Some(3.0)));
    assert_eq!((events[0].at, events[0].received), (Some(at(7)), Some(at(22))));
    for _ in 0..2 {
        note(&mut registry, 2, motion(None, 1.0), 1);
    }
    assert_eq!(registry.camera(camera(2)).unwrap().events.len(), 2, "without an id they may be two");
}

#[test]
fn the_most_silent_camera_makes_room() {
    let mut registry = Registry::new(3);
    for n in 0..3 {
        note(&mut registry, n, connection(true, None), n as u64);
    }
    note(&mut registry, 0, connection(true, None), 100);
    note(&mut registry, 3, connection(true, None), 101);
    assert_eq!(known(&registry), [camera(0), camera(2), camera(3)]);
    assert_eq!(registry.forgotten(), 1);
}

#[test]
fn a_camera_with_a_name_or_notes_is_never_forgotten_for_a_stranger() {
    let mut registry = Registry::new(2);
    note(&mut registry, 1, connection(true, None), 1);
    name(&mut registry, 1, Some("gate")).unwrap();
    for n in 2..50 {
        note(&mut registry, n, connection(true, None), n as u64);
    }
    assert_eq!(known(&registry), [camera(1), camera(49)]);
    registry.label(camera(49), LabelChange::new().notes(Some("n")).unwrap()).unwrap();
    // Now there is no room for anybody, but a stranger's stream still gets its hint.
    let change = note(&mut registry, 60, connection(true, Some("10.0.0.5")), 60);
    assert_eq!(change, Change { connected: true, new_ip: Some("10.0.0.5".parse().unwrap()) });
    assert_eq!((known(&registry), registry.refused()), (vec![camera(1), camera(49)], 1));
    assert_eq!(name(&mut registry, 60, Some("door")), Err(Full(2)));
    // Without its name it is as good as any other.
    name(&mut registry, 1, None).unwrap();
    note(&mut registry, 60, connection(true, None), 61);
    assert_eq!(known(&registry), [camera(49), camera(60)]);
}

#[test]
fn a_camera_can_be_named_before_it_is_heard_of_and_is_gone_without_its_name() {
    let mut registry = Registry::new(2);
    let made = name(&mut registry, 1, Some("gate")).unwrap();
    assert_eq!((made.label.name.as_deref(), made.facts.last_seen), (Some("gate"), None));
    assert_eq!(registry.len(), 1);
    assert_eq!(name(&mut registry, 1, None).unwrap(), Camera::default());
    assert!(registry.is_empty());

    name(&mut registry, 1, Some("gate")).unwrap();
    note(&mut registry, 1, connection(true, None), 5);
    name(&mut registry, 1, None).unwrap();
    assert_eq!(registry.get(camera(1)).unwrap().last_seen, Some(at(5)), "it has been heard of since");
}

#[test]
fn what_was_saved_is_restored() {
    let mut registry = Registry::new(10);
    note(&mut registry, 1, connection(true, Some("10.0.0.5")), 1);
    note(&mut registry, 1, motion(Some("e"), 0.9), 2);
    note(&mut registry, 2, status(Some(1.0 / 3.0), None), 3);
    name(&mut registry, 3, Some("shed")).unwrap();
    let batch = registry.take_unsaved().into_iter().map(|(id, record)| (id, record.unwrap())).collect();
    registry.saved(true);
    let (restored, unreadable, without_room) = Registry::restore(10, batch);
    assert_eq!((unreadable, without_room), (0, 0));
    assert!(restored.cameras().eq(registry.cameras()));
    assert!(!restored.has_unsaved());
}

/// A registry that restarted with the same content.
fn restarted(mut registry: Registry) -> Registry {
    let batch = registry.take_unsaved().into_iter().map(|(id, record)| (id, record.unwrap())).collect();
    Registry::restore(10, batch).0
}

#[test]
fn an_address_of_an_earlier_run_is_a_hint_for_a_day_and_until_another_camera_has_it() {
    let ip = |text: &str| Some(text.parse().unwrap());
    let mut registry = Registry::new(10);
    note(&mut registry, 1, connection(true, Some("10.0.0.5")), 100);
    note(&mut registry, 2, connection(true, Some("10.0.0.6")), 100);
    let day = HINT_WITHIN.as_secs();
    assert_eq!(registry.hint(camera(1), at(100 + 9 * day)), ip("10.0.0.5"), "it would have said so");

    let mut registry = restarted(registry);
    assert_eq!(registry.hint(camera(1), at(100 + day)), ip("10.0.0.5"));
    assert_eq!(registry.hint(camera(1), at(101 + day)), None, "too long ago");
    assert_eq!(registry.hint(camera(1), at(99)), None, "nobody knows when");
    // The two have changed addresses while nobody listened, and only one of them says so.
    note(&mut registry, 2, status(None, None), 200);
    assert_eq!(registry.hint(camera(1), at(200)), ip("10.0.0.5"));
    note(&mut registry, 2, connection(true, Some("10.0.0.5")), 201);
    assert_eq!((registry.hint(camera(1), at(201)), registry.hint(camera(2), at(201))), (None, ip("10.0.0.5")));
    note(&mut registry, 1, connection(true, Some("10.0.0.6")), 202);
    assert_eq!(registry.hint(camera(1), at(202)), ip("10.0.0.6"));
    assert_eq!(registry.hint(camera(9), at(202)), None);
}

#[test]
fn a_smaller_registry_restores_the_named_and_the_last_seen_and_leaves_the_others_in_the_store() {
    let mut registry = Registry::new(10);
    for n in 1..=5 {
        note(&mut registry, n, connection(true, None), n as u64);
    }
    name(&mut registry, 1, Some("gate")).unwrap();
    let mut batch: Vec<(CameraId, Vec<u8>)> =
        registry.take_unsaved().into_iter().map(|(id, record)| (id, record.unwrap())).collect();
    batch.push((camera(6), b"no record".to_vec()));
    let (mut restored, unreadable, without_room) = Registry::restore(3, batch);
    assert_eq!((unreadable, without_room), (1, 2));
    assert_eq!(known(&restored), [camera(1), camera(4), camera(5)]);
    assert_eq!(save(&mut restored), []);
}

#[test]
fn changes_are_written_once_a_batch_and_a_forgotten_camera_leaves_the_store() {
    let mut registry = Registry::new(2);
    for second in 0..100 {
        note(&mut registry, 1, connection(true, None), second);
    }
    assert_eq!(save(&mut registry), [(camera(1), true)]);
    assert!(!registry.has_unsaved());
    // Two come and one of them goes before the store ever hears of it.
    for n in 2..=4 {
        note(&mut registry, n, connection(true, None), 200 + n as u64);
    }
    assert_eq!(save(&mut registry), [(camera(1), false), (camera(3), true), (camera(4), true)]);
}

#[test]
fn what_changes_during_a_write_is_written_next_and_a_failed_write_again() {
    let mut registry = Registry::new(2);
    note(&mut registry, 1, connection(true, None), 1);
    note(&mut registry, 2, connection(true, None), 2);
    assert_eq!(registry.take_unsaved().len(), 2);
    assert!(!registry.has_unsaved(), "one batch at a time");
    note(&mut registry, 2, connection(false, None), 3);
    // 1 is forgotten while its record is on the way.
    note(&mut registry, 3, connection(true, None), 4);
    registry.saved(true);
    assert_eq!(save(&mut registry), [(camera(1), false), (camera(2), true), (camera(3), true)]);

    note(&mut registry, 2, connection(true, None), 5);
    registry.take_unsaved();
    registry.saved(false);
    assert_eq!(save(&mut registry), [(camera(2), true)]);
}

#[test]
fn a_flood_of_strangers_with_a_full_disk_leaves_no_heap_of_work() {
    let mut registry = Registry::new(5);
    for n in 0..5_000 {
        note(&mut registry, n, connection(true, None), n as u64);
        if n % 50 == 0 && registry.has_unsaved() {
            let batch = registry.take_unsaved();
            assert!(batch.len() <= 10, "{}", batch.len());
            registry.saved(n < 1_000);
        }
    }
    assert!(save(&mut registry).len() <= 10);
}

#[test]
fn the_address_of_the_connection_counts_more_than_that_of_an_interface() {
    let ethernet = |ip: &str| match status(None, None) {
        CameraContent::Status { battery_percent, signal, mac, link_status, temperature, uptime, .. } => {
            let ip = Some(ip.parse().unwrap());
            CameraContent::Status { battery_percent, signal, ip, mac, link_status, temperature, uptime }
        }
        other => other,
    };
    let mut registry = Registry::new(10);
    assert_eq!(note(&mut registry, 1, ethernet("10.0.0.9"), 1).new_ip, Some("10.0.0.9".parse().unwrap()));
    assert_eq!(note(&mut registry, 1, connection(true, Some("10.0.0.5")), 2).new_ip, Some("10.0.0.5".parse().unwrap()));
    assert_eq!(note(&mut registry, 1, ethernet("10.0.0.9"), 3).new_ip, None);
    assert_eq!(registry.get(camera(1)).unwrap().ip, Some("10.0.0.5".parse().unwrap()));
}
