use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::tests::{call, get, keys, router};
use crate::control::camera::CameraContent;
use crate::control::testing::{CAMERA, OTHER_CAMERA, Rig, camera};
use crate::control::{BrokerStatus, CameraMessage};
use crate::ingest::{IngestEvent, IngestStats};

/// A reader of events, told one by one.
struct Reader(axum::body::BodyDataStream, String);

impl Reader {
    async fn open(rig: &Rig, path: &str) -> Self {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router(rig).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        Self(response.into_body().into_data_stream(), String::new())
    }

    /// Name and data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        use futures_util::StreamExt;
        loop {
            if let Some((event, rest)) = self.1.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let found = (field("event: "), field("data: "));
                self.1 = rest.to_owned();
                if let (Some(name), Some(data)) = found {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let bytes = self.0.next().await?.unwrap();
            self.1.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next event of this name.
    async fn find(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            if name == wanted {
                return data;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_hears_of_start_media_viewers_silence_and_end() {
    let rig = Rig::new();
    let mut reader = Reader::open(&rig, &format!("/streams/{CAMERA}/events")).await;
    assert_eq!(reader.next().await.unwrap().0, "hello");
    let stream = rig.streaming().await;
    assert_eq!(reader.find("state").await["value"], "starting");
    let active = reader.find("state").await;
    assert_eq!((&active["value"], &active["camera_id"]), (&json!("active"), &json!(CAMERA)));
    let viewer = rig.add_viewer(stream).await.unwrap();
    assert_eq!(reader.find("viewers").await["value"], "1");
    drop(viewer);
    assert_eq!(reader.find("viewers").await["value"], "0");
    rig.ingest(IngestEvent::MediaStalled { stream, silence: std::time::Duration::from_secs(3) }).await;
    let picture = reader.find("picture").await;
    assert_eq!(picture["value"], "stalled");
    assert!(picture["text"].as_str().unwrap().contains("no packet"), "{picture}");
    rig.control.stop_stream(camera()).await.unwrap();
    let stopping = reader.find("state").await;
    assert_eq!((&stopping["value"], &stopping["text"]), (&json!("stopping"), &json!("somebody stopped it")));
    assert_eq!(reader.find("state").await["value"], "stopped");
}

#[tokio::test(start_paused = true)]
async fn readers_of_all_hear_of_every_camera_and_others_of_theirs() {
    let rig = Rig::new();
    let mut all = Reader::open(&rig, "/events").await;
    let mut other = Reader::open(&rig, &format!("/streams/{OTHER_CAMERA}/events")).await;
    rig.camera_connects(None).await;
    let content =
        CameraContent::Activity { event_id: None, activity_type: Some("motion".into()), at: None, confidence: None };
    rig.camera_messages.send(CameraMessage { camera: camera(), content, retained: false }).await.unwrap();
    assert_eq!(all.find("online").await["camera_id"], CAMERA);
    assert_eq!(all.find("activity").await["value"], "motion");
    let content = CameraContent::Connection { online: false, at: None, ip: None, device: Default::default() };
    let camera = OTHER_CAMERA.parse().unwrap();
    rig.camera_messages.send(CameraMessage { camera, content, retained: false }).await.unwrap();
    let first = other.find("online").await;
    assert_eq!((&first["camera_id"], &first["value"]), (&json!(OTHER_CAMERA), &json!("offline")));
}

#[tokio::test(start_paused = true)]
async fn readers_are_let_go_when_the_service_stops_or_when_they_are_too_slow() {
    let rig = Rig::new();
    let mut slow = Reader::open(&rig, "/events").await;
    let mut quick = Reader::open(&rig, "/events").await;
    for turn in 0..2_000 {
        let online = turn % 2 == 0;
        let content = CameraContent::Connection { online, at: None, ip: None, device: Default::default() };
        rig.camera_messages.send(CameraMessage { camera: camera(), content, retained: false }).await.unwrap();
        assert_eq!(quick.find("online").await["value"], if online { "online" } else { "offline" });
    }
    let mut heard = 0;
    while slow.next().await.is_some() {
        heard += 1;
    }
    assert!(heard < 1_000, "{heard} events were kept for a reader that took none");
    rig.control.stop_all("test").await;
    while quick.next().await.is_some() {}
    let refused = get(&rig, "/events").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);
}

#[tokio::test(start_paused = true)]
async fn the_history_has_a_point_each_ten_seconds_and_the_changes() {
    let rig = Rig::new();
    let path = format!("/streams/{CAMERA}/history");
    let empty = get(&rig, &path).await;
    assert_eq!((empty.status, &empty.body["points"], &empty.body["changes"]), (StatusCode::OK, &json!([]), &json!([])));
    let mut stats = IngestStats { remb: 3_000_000, ..IngestStats::default() };
    stats.video.bitrate = 2_000_000;
    (stats.video.packets, stats.video.lost, stats.video.jitter_ms) = (950, 50, 1.234);
    *rig.world.stats.lock().unwrap() = Some(stats);
    let stream = rig.streaming().await;
    let _viewer = rig.add_viewer(stream).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(35)).await;
    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "gone".into() });
    let answer = get(&rig, &path).await;
    let points = answer.body["points"].as_array().unwrap();
    assert_eq!((points.len(), &answer.body["interval_seconds"]), (3, &json!(10)));
    assert_eq!(keys(&points[0]), ["at", "bitrate", "jitter_ms", "loss", "remb_kbps", "viewers"]);
    assert_eq!((&points[0]["loss"], &points[1]["loss"]), (&json!(0.05), &json!(0.0)));
    assert_eq!((&points[0]["bitrate"], &points[0]["remb_kbps"]), (&json!(2_000_000), &json!(3_000)));
    assert_eq!((&points[0]["jitter_ms"], &points[0]["viewers"]), (&json!(1.23), &json!(1)));
    let changes = answer.body["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["what"], &changes[0]["value"]), (&json!("state"), &json!("starting")));
    assert!(changes.iter().all(|change| change["what"] != "viewers"), "{changes:?}");
    for wrong in ["/streams/nonsense/history", "/streams/nonsense/events"] {
        assert_eq!(get(&rig, wrong).await.status, StatusCode::BAD_REQUEST);
    }
    let wrong = call(router(&rig), Method::POST, "/events", "").await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
}
