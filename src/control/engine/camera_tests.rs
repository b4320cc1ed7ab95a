use std::time::Duration;

use crate::control::camera::CameraContent;
use crate::control::cameras::CameraStore;
use crate::control::testing::{CAMERA, Call, OTHER_CAMERA, Rig, camera, settings};
use crate::control::{
    CameraInfo, CameraMessage, LabelChange, LabelError, PictureCode, PictureStatus, Settings, StartOptions, State,
    StoreInfo,
};
use crate::store::testing::Disk;

fn named(name: &str) -> LabelChange {
    LabelChange::new().name(Some(name)).unwrap()
}

fn rig(disk: &Disk) -> Rig {
    Rig::with_store(settings(), Some(CameraStore::of(disk.store()).unwrap()))
}

async fn end(rig: Rig) {
    rig.control.stop_all("shutdown").await;
    rig.shutdown.request();
    rig.shutdown.drained().await;
}

async fn store_info(rig: &Rig) -> StoreInfo {
    rig.control.health().await.unwrap().camera_store.unwrap()
}

/// What a later run would find.
fn stored(disk: &Disk) -> usize {
    disk.copy().store().load().unwrap().records.len()
}

/// Waits until `done`; the store works in real time while virtual time stands.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..10_000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(start_paused = true)]
async fn what_was_known_is_known_to_the_next_run_and_is_its_hint() {
    let disk = Disk::default();
    let first = rig(&disk);
    first.camera_connects(Some("10.0.0.5")).await;
    first.control.label_camera(camera(), named("gate")).await.unwrap();
    let before = first.control.cameras().await.unwrap();
    end(first).await;

    let second = rig(&disk);
    assert_eq!(second.control.cameras().await.unwrap(), before);
    let started = second.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    let hints = second.world.calls().into_iter().filter_map(|call| match call {
        Call::Open { expected_ip, .. } => Some(expected_ip),
        _ => None,
    });
    assert_eq!(hints.collect::<Vec<_>>(), [Some("10.0.0.5".parse().unwrap())]);
    let info = second.control.camera(camera()).await.unwrap().unwrap();
    assert_eq!(info.stream, Some((started.stream_id, State::Active)));
    assert_eq!(info.camera.label.name.as_deref(), Some("gate"));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_saved_at_once_and_what_cameras_say_every_five_seconds() {
    let disk = Disk::default();
    let rig = rig(&disk);
    rig.camera_connects(None).await;
    until("the first message is saved", async || stored(&disk) == 1).await;
    let saved = tokio::time::Instant::now();
    let other = OTHER_CAMERA.parse().unwrap();
    let content = CameraContent::Activity { event_id: None, activity_type: None, at: None, confidence: None };
    rig.camera_messages.send(CameraMessage { camera: other, content, retained: false }).await.unwrap();
    until("the second message is saved", async || stored(&disk) == 2).await;
    let waited = saved.elapsed();
    assert!((Duration::from_millis(4_900)..Duration::from_millis(5_200)).contains(&waited), "{waited:?}");

    let named_at = tokio::time::Instant::now();
    let third = "00000000000000000000000000000003".parse().unwrap();
    rig.control.label_camera(third, named("gate")).await.unwrap();
    until("the name is saved", async || stored(&disk) == 3).await;
    assert!(named_at.elapsed() < Duration::from_secs(1), "{:?}", named_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_counted_and_tried_again_and_stops_no_stream() {
    let disk = Disk::default();
    let rig = rig(&disk);
    rig.streaming().await;
    assert_eq!(store_info(&rig).await, StoreInfo::default());
    disk.fill(true);
    rig.camera_connects(None).await;
    until("two writes have failed", async || store_info(&rig).await.failed_writes >= 2).await;
    assert!(store_info(&rig).await.last_failure.is_some());
    let streams = rig.control.streams().await.unwrap();
    assert_eq!(streams.iter().map(|stream| stream.state).collect::<Vec<_>>(), [State::Active]);
    assert!(rig.control.label_camera(camera(), named("gate")).await.is_ok(), "what is known stays known");
    disk.fill(false);
    until("it is saved after all", async || stored(&disk) == 1).await;
    until("and said", async || store_info(&rig).await.last_failure.is_none()).await;
    assert!(!store_info(&rig).await.unsaved);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stays_full_does_not_hold_up_the_end() {
    let disk = Disk::default();
    let rig = rig(&disk);
    disk.fill(true);
    rig.camera_connects(None).await;
    let begun = tokio::time::Instant::now();
    end(rig).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_only_streams_is_listed_while_it_does() {
    let rig = Rig::new();
    assert_eq!(rig.control.camera(camera()).await.unwrap(), None);
    let stream = rig.streaming().await;
    let listed = rig.control.cameras().await.unwrap();
    let picture = PictureStatus { code: PictureCode::Ok, text: "packets arrive".into() };
    let expected =
        CameraInfo { camera_id: camera(), camera: Default::default(), stream: Some((stream, State::Active)), picture };
    assert_eq!(listed, [expected]);
    rig.control.stop_stream(camera()).await.unwrap();
    assert_eq!(rig.control.cameras().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_name_for_one_camera_too_many_is_refused() {
    let rig = Rig::with(Settings { max_cameras: 1, ..settings() });
    rig.control.label_camera(camera(), named("gate")).await.unwrap();
    let refused = rig.control.label_camera(OTHER_CAMERA.parse().unwrap(), named("door")).await.unwrap_err();
    assert!(matches!(refused, LabelError::Full(_)));
    assert_eq!(refused.to_string(), "Maximum cameras (1) reached, all with a name or notes");
    assert_eq!(rig.control.cameras().await.unwrap()[0].camera_id.to_string(), CAMERA);
}

#[tokio::test(start_paused = true)]
async fn a_camera_without_a_picture_says_why_with_and_without_a_stream() {
    let rig = Rig::new();
    rig.camera_connects(None).await;
    let code = async || rig.control.camera(camera()).await.unwrap().unwrap().picture.code;
    assert_eq!(code().await, PictureCode::NoStream);
    rig.control.start_stream(camera(), StartOptions::default()).await.unwrap();
    assert_eq!(code().await, PictureCode::WaitingForCamera);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(code().await, PictureCode::NeverAnswered, "the failed stream explains it");
}
