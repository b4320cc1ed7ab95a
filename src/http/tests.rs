use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::base::{AllowedOrigins, StreamId};
use crate::control::testing::{CAMERA, Mood, Rig, settings};
use crate::control::{BrokerStatus, Settings};
use crate::ingest::{DropReason, IngestStats, RefusedSource};
use crate::media::doctor::{CodecReport, Gop};
use crate::media::h264::ProfileLevelId;
use crate::media::sps::Sps;

pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: axum::http::HeaderMap,
    pub(super) text: String,
    pub(super) body: Value,
}

async fn answer(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, text, body }
}

pub(super) fn router(rig: &Rig) -> Router {
    api_router(rig.control.clone(), ApiSettings::default())
}

pub(super) async fn call(router: Router, method: Method, path: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    answer(router.oneshot(request).await.unwrap()).await
}

pub(super) async fn get(rig: &Rig, path: &str) -> Answer {
    call(router(rig), Method::GET, path, Body::empty()).await
}

async fn post(rig: &Rig, path: &str, body: impl Into<Body>) -> Answer {
    call(router(rig), Method::POST, path, body).await
}

fn path(action: &str) -> String {
    format!("/streams/{CAMERA}{action}")
}

pub(super) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Every named key is there; more are allowed.
fn assert_keys(value: &Value, expected: &[&str]) {
    for key in expected {
        assert!(keys(value).contains(key), "{key} is missing in {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn start_answers_201_with_the_contracts_keys_and_without_the_word_error() {
    let rig = Rig::new();
    let answer = post(&rig, &path("/start"), "").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(!answer.text.to_lowercase().contains("error"), "{}", answer.text);
    assert_eq!(
        keys(&answer.body),
        [
            "camera_id",
            "pipeline_id",
            "rtp_endpoint_id",
            "session_id",
            "started_at",
            "state",
            "stream_id",
            "webrtc_endpoint_id"
        ]
    );
    assert_eq!((&answer.body["state"], &answer.body["camera_id"]), (&json!("active"), &json!(CAMERA)));
    let stream = answer.body["stream_id"].as_str().unwrap();
    assert_eq!(answer.body["session_id"], format!("stream-56C1CADC-{}", &stream[..8]));
    assert!(stream.parse::<StreamId>().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_second_start_answers_409_with_the_running_ids() {
    let rig = Rig::new();
    let first = post(&rig, &path("/start"), "{}").await;
    let second = post(&rig, &path("/start"), "{}").await;
    assert_eq!(second.status, StatusCode::CONFLICT);
    assert_eq!(second.body["error"], format!("Stream already active for camera {CAMERA}"));
    assert_eq!(second.body["session_id"], first.body["session_id"]);
    assert_eq!(second.body["stream_id"], first.body["stream_id"]);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_second_start_answers_200_with_the_running_streams_body() {
    let rig = Rig::with(Settings { start_idempotent: true, ..settings() });
    let first = post(&rig, &path("/start"), "").await;
    let second = post(&rig, &path("/start"), "").await;
    assert_eq!((first.status, second.status), (StatusCode::CREATED, StatusCode::OK));
    assert_eq!(first.body, second.body);
}

#[tokio::test(start_paused = true)]
async fn a_start_without_broker_answers_503_in_json() {
    let rig = Rig::new();
    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "connection refused".into() });
    let answer = post(&rig, &path("/start"), "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body["error"], "MQTT broker is not connected: connection refused");
    assert_eq!(keys(&answer.body), ["code", "error", "hint"]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_broker_answers_within_ten_seconds() {
    let rig = Rig::new();
    *rig.world.broker.lock().unwrap() = Mood::Hangs;
    let begun = tokio::time::Instant::now();
    let answer = post(&rig, &path("/start"), "").await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    // The failed stream can still be read.
    let detail = get(&rig, &path("")).await;
    assert_eq!(detail.body["stream"]["state"], "error");
    assert_eq!(detail.body["stream"]["error_message"], answer.body["error"]);
}

#[tokio::test(start_paused = true)]
async fn start_takes_bandwidths_and_refuses_what_is_not_one() {
    let both = r#"{"max_bandwidth":3000,"min_bandwidth":800,"other":[1]}"#;
    for good in ["", "  ", "{}", "null", both, r#"{"max_bandwidth":2500.0,"min_bandwidth":8e2}"#] {
        let rig = Rig::new();
        assert_eq!(post(&rig, &path("/start"), good).await.status, StatusCode::CREATED, "{good}");
    }
    let rig = Rig::new();
    let deep = "[".repeat(50_000);
    for bad in [
        "{",
        "[]",
        "7",
        "\u{0}",
        &deep,
        r#"{"max_bandwidth":"3000"}"#,
        r#"{"max_bandwidth":-1}"#,
        r#"{"min_bandwidth":2.5}"#,
        r#"{"min_bandwidth":99999999999}"#,
        r#"{"min_bandwidth":3000,"max_bandwidth":1000}"#,
        r#"{"max_bandwidth":0}"#,
    ] {
        let answer = post(&rig, &path("/start"), bad.to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer.body["error"].is_string(), "{bad}");
    }
    assert_eq!(rig.world.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_64_kib_answers_413() {
    let rig = Rig::new();
    for action in ["/start", "/stop"] {
        let answer = post(&rig, &path(action), vec![b' '; BODY_LIMIT + 1]).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(answer.body["error"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_no_camera_ids_answer_400_on_every_route() {
    let rig = Rig::new();
    for bad in
        ["x", "%2B", "56c1cadcf1fa4c6caeba3e2fd85efebf", "prod%2Fhoneycomb", "%FF%FE", "%23", CAMERA.repeat(9).as_str()]
    {
        for (method, path) in [
            (Method::GET, format!("/streams/{bad}")),
            (Method::POST, format!("/streams/{bad}/start")),
            (Method::POST, format!("/streams/{bad}/stop")),
            (Method::GET, format!("/viewers/{bad}")),
        ] {
            let answer = call(router(&rig), method, &path, Body::empty()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(answer.body["error"], "Invalid camera id: camera id must be 32 upper-case hex digits");
        }
    }
    assert_eq!(rig.world.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn detail_has_the_contracts_keys_and_types_and_what_is_known_of_the_media() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let _viewer = rig.add_viewer(stream).await.unwrap();
    *rig.world.stats.lock().unwrap() = Some(IngestStats { remb: 2_500_000, ..Default::default() });
    tokio::time::sleep(std::time::Duration::from_secs(9)).await;
    let answer = get(&rig, &path("")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_keys(
        &answer.body,
        &["stream", "viewers", "viewer_count", "duration_seconds", "keepalive_count", "error_count"],
    );
    let stream = &answer.body["stream"];
    assert_eq!(stream["why_no_picture"], json!({"code": "no_video", "text": "sound arrives, but no video packets"}));
    assert_keys(
        stream,
        &[
            "session_id",
            "stream_id",
            "camera_id",
            "state",
            "started_at",
            "stopped_at",
            "duration_seconds",
            "error_message",
            "pipeline_id",
            "rtp_endpoint_id",
            "webrtc_endpoint_id",
            "keepalive_stats",
            "manager_stats",
            "why_no_picture",
        ],
    );
    assert_keys(
        &stream["keepalive_stats"],
        &[
            "running",
            "camera_id",
            "stream_id",
            "interval",
            "keepalive_count",
            "error_count",
            "last_success",
            "last_error",
            "elapsed_seconds",
        ],
    );
    assert_keys(&stream["manager_stats"], &["start_attempts", "stop_attempts", "errors", "last_error"]);
    assert_eq!(
        (&stream["state"], &stream["stopped_at"], &stream["error_message"]),
        (&json!("active"), &Value::Null, &Value::Null)
    );
    assert_eq!((&stream["duration_seconds"], &answer.body["duration_seconds"]), (&json!(9), &json!(9)));
    assert_eq!(
        (&stream["keepalive_stats"]["keepalive_count"], &answer.body["keepalive_count"]),
        (&json!(3), &json!(3))
    );
    assert_eq!((&stream["keepalive_stats"]["error_count"], &answer.body["error_count"]), (&json!(0), &json!(0)));
    assert_eq!(
        (&stream["keepalive_stats"]["interval"], &stream["keepalive_stats"]["running"]),
        (&json!(4), &json!(true))
    );
    assert_eq!((&answer.body["viewer_count"], answer.body["viewers"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!((&stream["media"]["state"], &stream["media"]["active_reason"]), (&json!("flowing"), &json!("media")));
    assert_eq!(stream["media"]["feedback"]["remb_kbps"], 2500);
    assert_keys(
        &stream["media"]["feedback"],
        &["sent", "last_at", "plis_sent", "nacks_sent", "follows_remb", "answers_pli", "warning"],
    );
    assert_keys(
        &stream["media"],
        &["packets", "loss", "jitter_ms", "bitrate", "last_packet_at", "last_keyframe_at", "sources"],
    );
}

#[tokio::test(start_paused = true)]
async fn detail_says_what_the_video_is_made_of_and_advises_in_words() {
    let rig = Rig::new();
    rig.streaming().await;
    let profile = ProfileLevelId([0x64, 0x00, 0x28]);
    let sps = Sps {
        profile,
        id: 0,
        width: 1920,
        height: 1080,
        progressive: true,
        frame_rate: Some(30.0),
        max_reorder: Some(0),
    };
    let report = CodecReport {
        profile_level_id: Some(profile),
        sps: Some(sps),
        pictures: 100,
        frame_rate: Some(29.971),
        steady: true,
        gop: Some(Gop { frames: 600, duration: std::time::Duration::from_millis(20_019) }),
        ..Default::default()
    };
    let stats = IngestStats { codec: Some(Box::new(report)), ..Default::default() };
    *rig.world.stats.lock().unwrap() = Some(stats);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let answer = get(&rig, &path("")).await;
    let media = &answer.body["stream"]["media"];
    assert_eq!(
        media["video"]["codec"],
        json!({
            "profile": "High",
            "level": "4",
            "profile_level_id": "640028",
            "width": 1920,
            "height": 1080,
            "interlaced": false,
            "announced_frame_rate": 30.0,
            "frame_rate": 29.97,
            "frame_rate_steady": true,
            "gop_frames": 600,
            "gop_seconds": 20.02,
            "b_frames": false,
            "max_reorder_frames": 0,
            "pictures": 100,
            "undecodable_keyframes": 0,
            "oversize_packets": 0,
        })
    );
    let advice = media["advice"].as_array().unwrap();
    assert_eq!(advice.iter().map(|advice| &advice["code"]).collect::<Vec<_>>(), ["profile_high", "gop_long"]);
    assert!(advice[1]["text"].as_str().unwrap().starts_with("There are 20 s between keyframes."));
    assert_eq!(media["video"]["repair"]["faults"]["fragment_without_start"], 0);
}

#[tokio::test(start_paused = true)]
async fn the_list_has_the_contracts_keys_and_only_streams_that_run() {
    let rig = Rig::new();
    assert_eq!(get(&rig, "/streams").await.body, json!({ "streams": [], "count": 0 }));
    rig.streaming().await;
    let answer = get(&rig, "/streams").await;
    assert_eq!(answer.body["count"], 1);
    assert_keys(
        &answer.body["streams"][0],
        &[
            "camera_id",
            "session_id",
            "stream_id",
            "state",
            "started_at",
            "duration_seconds",
            "viewer_count",
            "webrtc_endpoint_id",
        ],
    );
    post(&rig, &path("/stop"), "").await;
    assert_eq!(get(&rig, "/streams").await.body["count"], 0);
}

#[tokio::test(start_paused = true)]
async fn stop_answers_with_the_contracts_keys_and_404_the_second_time() {
    let rig = Rig::new();
    rig.streaming().await;
    let answer = post(&rig, &path("/stop"), "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_keys(
        &answer.body,
        &[
            "message",
            "session_id",
            "stream_id",
            "camera_id",
            "started_at",
            "stopped_at",
            "duration_seconds",
            "keepalive_stats",
            "stats",
        ],
    );
    assert_eq!((&answer.body["success"], &answer.body["state"]), (&json!(true), &json!("stopped")));
    assert!(answer.body["stopped_at"].is_string());
    for again in [post(&rig, &path("/stop"), "").await, get(&rig, &path("")).await] {
        assert_eq!(again.status, StatusCode::NOT_FOUND);
        assert_eq!(again.body["error"], format!("No active stream for camera {CAMERA}"));
    }
}

#[tokio::test(start_paused = true)]
async fn viewers_are_listed_for_all_and_by_camera() {
    let rig = Rig::new();
    let none = get(&rig, &format!("/viewers/{CAMERA}")).await;
    assert_eq!((none.status, none.body), (StatusCode::OK, json!({ "camera_id": CAMERA, "viewers": [], "count": 0 })));
    let stream = rig.streaming().await;
    let viewer = rig.add_viewer(stream).await.unwrap();
    for path in ["/viewers".to_owned(), format!("/viewers/{CAMERA}")] {
        let answer = get(&rig, &path).await;
        assert_eq!(answer.body["count"], 1);
        let entry = &answer.body["viewers"][0];
        assert_keys(entry, &["created_at", "webrtc_endpoint_id"]);
        assert_eq!(entry["viewer_id"], viewer.viewer_id.to_string());
        assert_eq!((&entry["camera_id"], &entry["connected"]), (&json!(CAMERA), &json!(false)));
    }
}

#[tokio::test(start_paused = true)]
async fn health_is_200_whatever_is_wrong_and_says_what() {
    let rig = Rig::new();
    rig.streaming().await;
    let healthy = get(&rig, "/health").await.body;
    assert_eq!((&healthy["status"], &healthy["kurento_connected"]), (&json!("healthy"), &json!(true)));
    assert_eq!((&healthy["active_streams"], &healthy["total_viewers"]), (&json!(1), &json!(0)));
    assert!(healthy["timestamp"].is_string());

    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "refused".into() });
    let degraded = get(&rig, "/health").await;
    assert_eq!((degraded.status, &degraded.body["status"]), (StatusCode::OK, &json!("degraded")));
    assert_eq!(degraded.body["reasons"][0], "the MQTT broker is not connected: refused");

    rig.shutdown.request();
    rig.shutdown.drained().await;
    let gone = get(&rig, "/health").await;
    assert_eq!((gone.status, &gone.body["kurento_connected"]), (StatusCode::OK, &json!(false)));
}

#[tokio::test(start_paused = true)]
async fn unknown_paths_and_methods_answer_in_json() {
    let rig = Rig::new();
    for (method, path, status) in [
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::GET, "/static/nothing.js", StatusCode::NOT_FOUND),
        (Method::GET, "/static/../Cargo.toml", StatusCode::NOT_FOUND),
        (Method::GET, "/static/%2E%2E/Cargo.toml", StatusCode::NOT_FOUND),
        (Method::GET, "/static/%FF", StatusCode::NOT_FOUND),
        (Method::POST, "/streams", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/health", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/viewer", StatusCode::METHOD_NOT_ALLOWED),
        (Method::OPTIONS, "/streams", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let answer = call(router(&rig), method, path, Body::empty()).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body["error"].is_string(), "{path}: {}", answer.text);
        assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/json"));
    }
    let refused = post(&rig, "/streams", "").await;
    assert!(refused.headers[header::ALLOW].to_str().unwrap().contains("GET"));
}

async fn with_origin(rig: &Rig, allowed: AllowedOrigins, method: Method, origin: &str) -> Answer {
    let settings = ApiSettings { allowed_origins: allowed, ..Default::default() };
    let request = Request::builder()
        .method(method)
        .uri(path("/start"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type, x-thing")
        .body(Body::empty())
        .unwrap();
    answer(api_router(rig.control.clone(), settings).oneshot(request).await.unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn cors_echoes_allowed_origins_and_answers_preflights() {
    let rig = Rig::new();
    let only = || AllowedOrigins::only(["https://dash.example".to_owned()]);
    for (allowed, origin) in [(AllowedOrigins::any(), "http://other:5000"), (only(), "https://dash.example")] {
        let preflight = with_origin(&rig, allowed.clone(), Method::OPTIONS, origin).await;
        assert_eq!((preflight.status, preflight.text.as_str()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(preflight.headers["access-control-allow-origin"], origin);
        assert_eq!(preflight.headers["access-control-allow-credentials"], "true");
        assert_eq!(preflight.headers["access-control-allow-headers"], "content-type, x-thing");
        let methods = preflight.headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.contains("POST") && methods.contains("PUT"), "{methods}");
        let refusal = with_origin(&rig, allowed, Method::GET, origin).await;
        assert_eq!(refusal.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refusal.headers["access-control-allow-origin"], origin, "pages must be able to read refusals");
        assert_eq!(refusal.headers["vary"], "Origin");
    }
    let stranger = with_origin(&rig, only(), Method::OPTIONS, "https://evil.example").await;
    assert!(!stranger.headers.contains_key("access-control-allow-origin"));
    assert_eq!(rig.world.calls(), [], "a preflight starts nothing");
}

#[tokio::test(start_paused = true)]
async fn pages_of_other_origins_change_nothing_where_origins_are_named() {
    let rig = Rig::new();
    let only = || AllowedOrigins::only(["https://dash.example".to_owned()]);
    for origin in ["https://evil.example", "null"] {
        let refused = with_origin(&rig, only(), Method::POST, origin).await;
        assert_eq!((refused.status, &refused.body["code"]), (StatusCode::FORBIDDEN, &json!("origin_not_allowed")));
    }
    assert_eq!(rig.world.calls(), []);
    let started = with_origin(&rig, only(), Method::POST, "https://dash.example").await;
    assert_eq!(started.status, StatusCode::CREATED, "{}", started.text);
}

fn page_settings() -> PageSettings {
    PageSettings {
        api_port: 8080,
        signaling_port: 8765,
        signaling_secure: false,
        ice_servers: vec![IceServer {
            urls: vec!["turn:turn.example:3478".into()],
            username: Some("user".into()),
            credential: Some("secret".into()),
        }],
        ..PageSettings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn pages_come_with_type_and_policy_on_both_ports() {
    let rig = Rig::new();
    let settings = ApiSettings { pages: page_settings(), ..Default::default() };
    let api = api_router(rig.control.clone(), settings.clone());
    let dashboard = dashboard_router(settings);
    for (router, path, content_type) in [
        (&api, "/viewer?camera=1", "text/html; charset=utf-8"),
        (&api, "/viewer.html", "text/html; charset=utf-8"),
        (&api, "/viewer.js", "text/javascript; charset=utf-8"),
        (&api, "/static/js/viewer.js", "text/javascript; charset=utf-8"),
        (&dashboard, "/", "text/html; charset=utf-8"),
        (&dashboard, "/livestream/viewer", "text/html; charset=utf-8"),
        (&dashboard, "/static/viewer.css", "text/css; charset=utf-8"),
        (&dashboard, "/static/icon.svg", "image/svg+xml"),
        (&dashboard, "/sw.js", "text/javascript; charset=utf-8"),
        (&dashboard, "/static/manifest.webmanifest", "application/manifest+json; charset=utf-8"),
    ] {
        let answer = call(router.clone(), Method::GET, path, Body::empty()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], content_type, "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-cache", "{path}");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!answer.text.is_empty());
    }
    assert_eq!(call(api.clone(), Method::GET, "/", Body::empty()).await.status, StatusCode::NOT_FOUND);
    for router in [api, dashboard] {
        let answer = call(router, Method::GET, "/viewer-config.json", Body::empty()).await;
        assert_eq!(
            answer.body,
            json!({
                "apiPort": 8080,
                "signalingPort": 8765,
                "signalingSecure": false,
                "iceServers": [
                    { "urls": ["turn:turn.example:3478"], "username": "user", "credential": "secret" }
                ],
            })
        );
    }
}

#[test]
fn the_turn_password_stays_out_of_logs() {
    assert!(!format!("{:?}", page_settings()).contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn sources_names_who_was_refused_why_and_the_nearest_camera_and_counts_every_reason() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let source = |address: &str, nearest| RefusedSource {
        source: address.parse().unwrap(),
        port: 5006,
        first_seen: std::time::UNIX_EPOCH,
        last_seen: std::time::UNIX_EPOCH + std::time::Duration::from_secs(1),
        packets: 7,
        reason: DropReason::SlotTaken,
        nearest,
    };
    *rig.world.refused.lock().unwrap() = vec![source("10.0.0.5:6000", Some(stream)), source("[2001:db8::1]:9", None)];
    let answer = get(&rig, "/sources").await;
    assert_eq!((answer.status, &answer.body["count"]), (StatusCode::OK, &json!(2)));
    let expected = json!({
        "address": "10.0.0.5:6000",
        "port": 5006,
        "first_seen": "1970-01-01T00:00:00.000000Z",
        "last_seen": "1970-01-01T00:00:01.000000Z",
        "packets": 7,
        "reason": "slot_taken",
        "nearest_camera_id": CAMERA,
        "nearest_stream_id": stream,
    });
    assert_eq!(answer.body["sources"][0], expected);
    assert_eq!(answer.body["sources"][1]["nearest_camera_id"], Value::Null);
    assert_eq!(keys(&answer.body["dropped"]).len(), DropReason::ALL.len());
    assert_eq!(answer.body["dropped"]["slot_taken"], DropReason::SlotTaken as u64);
}
