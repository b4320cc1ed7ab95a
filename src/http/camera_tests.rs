use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::tests::{Answer, call, get, keys, router};
use crate::control::camera::{CameraContent, Device};
use crate::control::testing::{CAMERA, OTHER_CAMERA, Rig, camera, settings};
use crate::control::{CameraMessage, Settings};

async fn put(rig: &Rig, id: &str, body: impl Into<Body>) -> Answer {
    call(router(rig), Method::PUT, &format!("/cameras/{id}"), body).await
}

async fn get_camera(rig: &Rig, id: &str) -> Answer {
    get(rig, &format!("/cameras/{id}")).await
}

async fn says(rig: &Rig, content: CameraContent) {
    rig.camera_messages.send(CameraMessage { camera: camera(), content, retained: false }).await.unwrap();
    rig.settle().await;
}

async fn says_all(rig: &Rig) {
    let device = Device {
        software_version: Some("1.4.2".into()),
        hardware_version: Some("B".into()),
        serial_number: Some("77".into()),
    };
    let ip = Some("10.0.0.5".parse().unwrap());
    says(rig, CameraContent::Connection { online: true, at: None, ip, device }).await;
    let status = CameraContent::Status {
        battery_percent: Some(87.0),
        signal: Some(-61.0),
        ip,
        mac: Some("00:11:22:33:44:55".into()),
        link_status: Some("up".into()),
        temperature: Some(41.5),
        uptime: Some(86_400.0),
    };
    says(rig, status).await;
    for (id, kind) in [("e-1", "motion"), ("e-2", "sound")] {
        let (event_id, activity_type) = (Some(id.to_owned()), Some(kind.to_owned()));
        let at = Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_569_821));
        says(rig, CameraContent::Activity { event_id, activity_type, at, confidence: Some(0.93) }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn cameras_are_listed_with_what_they_said_and_their_stream() {
    let rig = Rig::new();
    assert_eq!(get(&rig, "/cameras").await.body, json!({ "cameras": [], "count": 0 }));
    says_all(&rig).await;
    put(&rig, OTHER_CAMERA, r#"{"name": "Shed"}"#).await;
    let stream = rig.streaming().await;
    let answer = get(&rig, "/cameras").await;
    assert_eq!((answer.status, &answer.body["count"]), (StatusCode::OK, &json!(2)));
    assert!(!answer.text.to_lowercase().contains("error"), "{}", answer.text);
    let cameras = answer.body["cameras"].as_array().unwrap();
    assert_eq!((&cameras[0]["camera_id"], &cameras[0]["name"]), (&json!(OTHER_CAMERA), &json!("Shed")));
    assert_eq!((&cameras[0]["online"], &cameras[0]["stream"]), (&Value::Null, &Value::Null));
    let camera = &cameras[1];
    assert_eq!(
        keys(camera),
        [
            "battery_percent",
            "camera_id",
            "hardware_version",
            "ip",
            "last_activity",
            "last_seen",
            "link_status",
            "mac",
            "name",
            "notes",
            "online",
            "online_changed_at",
            "serial_number",
            "signal",
            "software_version",
            "stream",
            "temperature",
            "uptime",
            "why_no_picture"
        ]
    );
    for (key, value) in [
        ("camera_id", json!(CAMERA)),
        ("name", Value::Null),
        ("online", json!(true)),
        ("ip", json!("10.0.0.5")),
        ("mac", json!("00:11:22:33:44:55")),
        ("software_version", json!("1.4.2")),
        ("battery_percent", json!(87.0)),
        ("temperature", json!(41.5)),
        ("stream", json!({ "stream_id": stream, "state": "active" })),
    ] {
        assert_eq!(camera[key], value, "{key}");
    }
    assert!(camera["last_seen"].is_string() && camera["online_changed_at"].is_string());
    let last = &camera["last_activity"];
    assert_eq!((&last["event_id"], &last["activity_type"]), (&json!("e-2"), &json!("sound")));
    assert_eq!((&last["at"], &last["confidence"]), (&json!("2026-11-25T01:23:41.000000Z"), &json!(0.93)));
}

#[tokio::test(start_paused = true)]
async fn one_camera_comes_with_its_history_and_an_unknown_one_is_404() {
    let rig = Rig::new();
    let unknown = get_camera(&rig, CAMERA).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.body["error"], format!("Camera {CAMERA} is not known"));
    assert_eq!(unknown.body["code"], "not_found");
    says_all(&rig).await;
    let answer = get_camera(&rig, CAMERA).await;
    assert_eq!(answer.status, StatusCode::OK);
    let events: Vec<&Value> = answer.body["events"].as_array().unwrap().iter().map(|e| &e["event_id"]).collect();
    assert_eq!(events, [&json!("e-2"), &json!("e-1")]);
    assert!(!answer.text.to_lowercase().contains("error"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_failed_is_no_stream_of_the_camera() {
    let rig = Rig::new();
    says_all(&rig).await;
    *rig.world.broker.lock().unwrap() = crate::control::testing::Mood::Fails("refused");
    let start = call(router(&rig), Method::POST, &format!("/streams/{CAMERA}/start"), "").await;
    assert!(start.status.is_server_error());
    let answer = get_camera(&rig, CAMERA).await;
    assert_eq!(answer.body["stream"], Value::Null);
    assert!(!answer.text.to_lowercase().contains("error"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn name_and_notes_are_set_alone_or_together_and_cleared_by_null() {
    let rig = Rig::new();
    let made = put(&rig, CAMERA, r#"{"name": " Gate ", "notes": "north\nside"}"#).await;
    assert_eq!((made.status, &made.body["name"]), (StatusCode::OK, &json!("Gate")));
    assert_eq!((&made.body["notes"], &made.body["last_seen"]), (&json!("north\nside"), &Value::Null));
    assert_eq!(made.body, get_camera(&rig, CAMERA).await.body);

    let renamed = put(&rig, CAMERA, r#"{"name": "Door"}"#).await;
    assert_eq!((&renamed.body["name"], &renamed.body["notes"]), (&json!("Door"), &json!("north\nside")));
    let cleared = put(&rig, CAMERA, r#"{"notes": null}"#).await;
    assert_eq!((&cleared.body["name"], &cleared.body["notes"]), (&json!("Door"), &Value::Null));
    // Nothing was ever heard of it, and now nobody wants it known.
    assert_eq!(put(&rig, CAMERA, r#"{"name": ""}"#).await.status, StatusCode::OK);
    assert_eq!(get_camera(&rig, CAMERA).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_no_name_and_notes_are_refused_with_the_reason_and_change_nothing() {
    let rig = Rig::new();
    let long = json!({ "name": "x".repeat(101) }).to_string();
    let novel = json!({ "notes": "x".repeat(2_001) }).to_string();
    for (body, reason) in [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "must have name or notes"),
        (r#"{"nam": "x"}"#, "Unknown keys: nam;"),
        (r#"{"name": "x", "online": true, "ip": "1.2.3.4"}"#, "Unknown keys: ip, online;"),
        (r#"{"name": 7}"#, "name must be a text or null"),
        (r#"{"notes": ["x"]}"#, "notes must be a text or null"),
        (r#"{"name": "a\nb"}"#, "name must be one line"),
        (r#"{"notes": "\u001b[31m"}"#, "notes must be without control characters"),
        (&long, "at most 100 characters"),
        (&novel, "at most 2000 characters"),
    ] {
        let answer = put(&rig, CAMERA, body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.body["error"].as_str().unwrap().contains(reason), "{body}: {}", answer.text);
    }
    let large = put(&rig, CAMERA, vec![b' '; super::BODY_LIMIT + 1]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let many = json!((0..5_000).map(|n| (n.to_string(), json!(1))).collect::<serde_json::Map<_, _>>()).to_string();
    assert!(put(&rig, CAMERA, many).await.text.len() < 1_000, "an answer is no echo");
    assert_eq!(get(&rig, "/cameras").await.body["count"], 0);
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_no_camera_ids_and_other_methods_are_refused_in_json() {
    let rig = Rig::new();
    for bad in ["x", "%2B", "56c1cadcf1fa4c6caeba3e2fd85efebf", "%FF%FE", "%23"] {
        for answer in [get_camera(&rig, bad).await, put(&rig, bad, r#"{"name":"x"}"#).await] {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
            assert_eq!(answer.body["code"], "invalid_camera_id");
        }
    }
    for (method, path) in [(Method::POST, "/cameras".to_owned()), (Method::DELETE, format!("/cameras/{CAMERA}"))] {
        let answer = call(router(&rig), method, &path, Body::empty()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(answer.body["error"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn one_name_too_many_is_503_with_a_hint() {
    let rig = Rig::with(Settings { max_cameras: 1, ..settings() });
    put(&rig, CAMERA, r#"{"name": "Gate"}"#).await;
    let answer = put(&rig, OTHER_CAMERA, r#"{"name": "Door"}"#).await;
    assert_eq!((answer.status, &answer.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("too_many_cameras")));
    assert!(answer.body["hint"].as_str().unwrap().contains("cameras.max_known"));
}
