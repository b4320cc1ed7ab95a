use std::path::PathBuf;

use super::file::{CAMERAS, FORMAT, FORMAT_KEY, META, builder};
use super::testing::Disk;
use super::*;

fn camera(n: usize) -> CameraId {
    format!("{n:032X}").parse().unwrap()
}

fn record(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("honeycast.redb");
    (folder, path)
}

fn refusal(path: &Path) -> String {
    Store::open(path).unwrap_err().to_string()
}

#[test]
fn what_was_written_is_there_when_the_file_is_opened_again() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), Contents::default());
    store.write(&vec![(camera(2), record("two")), (camera(1), record("one")), (camera(3), record("3"))]).unwrap();
    store.write(&vec![(camera(3), None), (camera(1), record("uno")), (camera(9), None)]).unwrap();
    drop(store);
    let records = Store::open(&path).unwrap().load().unwrap().records;
    assert_eq!(records, [(camera(1), b"uno".to_vec()), (camera(2), b"two".to_vec())]);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let (_folder, path) = place();
    std::fs::write(&path, "").unwrap();
    drop(Store::open(&path).unwrap());
    Store::open(&path).unwrap();
}

#[test]
fn a_file_that_is_open_elsewhere_is_refused_by_name() {
    let (_folder, path) = place();
    let _first = Store::open(&path).unwrap();
    assert_eq!(refusal(&path), format!("{}: is open in another process", path.display()));
}

#[test]
fn a_folder_that_is_not_there_is_named_and_not_made() {
    let (folder, _) = place();
    let path = folder.path().join("missing").join("honeycast.redb");
    let refusal = refusal(&path);
    assert!(refusal.starts_with(&format!("{}: ", path.display())), "{refusal}");
    assert!(refusal.contains("No such file or directory"), "{refusal}");
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn a_file_of_something_else_is_refused_and_stays_as_it_is() {
    let (_folder, path) = place();
    for text in ["not a database", &"x".repeat(1 << 20)] {
        std::fs::write(&path, text).unwrap();
        let refusal = refusal(&path);
        assert!(refusal.starts_with(&format!("{}: is damaged or no store", path.display())), "{refusal}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_database_of_another_program_or_of_a_newer_version_is_refused() {
    let (_folder, path) = place();
    let other: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("other");
    let database = builder().create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(other).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(refusal(&path).contains("no version of honeycast"), "{}", refusal(&path));

    let (_folder, path) = place();
    drop(Store::open(&path).unwrap());
    let database = builder().create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(FORMAT_KEY, FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(refusal(&path).contains("has format 2; this version of honeycast understands 1"), "{}", refusal(&path));
}

#[test]
fn keys_that_are_no_cameras_are_counted_and_hide_nothing() {
    let (_folder, path) = place();
    let store = Store::open(&path).unwrap();
    store.write(&vec![(camera(1), record("one"))]).unwrap();
    drop(store);
    let database = builder().create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(CAMERAS).unwrap().insert("no id", b"?".as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let contents = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(contents, Contents { records: vec![(camera(1), b"one".to_vec())], foreign: 1 });
}

#[test]
fn a_file_that_is_damaged_anywhere_is_refused_or_whole_again_and_never_read_wrongly() {
    let (folder, path) = place();
    let store = Store::open(&path).unwrap();
    let batch: Batch = (0..40).map(|n| (camera(n), Some(vec![n as u8; 900]))).collect();
    store.write(&batch).unwrap();
    drop(store);
    let good = std::fs::read(&path).unwrap();
    let written: Vec<(CameraId, Vec<u8>)> =
        batch.into_iter().filter_map(|(camera, record)| Some((camera, record?))).collect();
    let (mut refused, damaged) = (0, folder.path().join("damaged.redb"));
    // The beginning is the header, where every byte matters; then samples all over the file.
    let samples = (0..128).chain((128..good.len()).step_by(good.len() / 120));
    for at in samples {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&damaged, &bytes).unwrap();
        match Store::open(&damaged) {
            Ok(store) => assert_eq!(store.load().unwrap().records, written, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "no damage was ever noticed");
    for length in [1, 100, 4_096, good.len() / 2, good.len() - 1] {
        std::fs::write(&damaged, &good[..length]).unwrap();
        if let Ok(store) = Store::open(&damaged) {
            assert_eq!(store.load().unwrap().records, written, "{length} bytes");
        }
    }
}

#[test]
fn a_full_disk_refuses_batches_and_loses_nothing_and_writing_goes_on_when_there_is_room() {
    let disk = Disk::default();
    let store = disk.store();
    store.write(&vec![(camera(1), record("one"))]).unwrap();
    disk.fill(true);
    for _ in 0..3 {
        let error = store.write(&vec![(camera(2), record("two"))]).unwrap_err().to_string();
        assert!(!error.is_empty());
    }
    disk.fill(false);
    store.write(&vec![(camera(3), record("three"))]).unwrap();
    drop(store);
    let ids: Vec<CameraId> = disk.store().load().unwrap().records.into_iter().map(|(camera, _)| camera).collect();
    assert_eq!(ids, [camera(1), camera(3)]);
}
