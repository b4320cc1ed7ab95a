//! REST: contract §5.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use honeycast::base::Shutdown;
use honeycast::mqtt::{Link, LinkSettings, LinkStatus, Message};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::shape::Kind::{Bool, Integer, List, MaybeText, MaybeTime, Number, Object, Text, Time};
use crate::shape::{Kind, assert_shape};
use crate::support::PATIENCE;
use crate::{CAMERA, OTHER_CAMERA, Site, http, until};

const STARTED: &[(&str, Kind)] = &[
    ("session_id", Text),
    ("stream_id", Text),
    ("camera_id", Text),
    ("state", Text),
    ("pipeline_id", Text),
    ("rtp_endpoint_id", Text),
    ("webrtc_endpoint_id", Text),
    ("started_at", Time),
];
const SUMMARY: &[(&str, Kind)] = &[
    ("camera_id", Text),
    ("session_id", Text),
    ("stream_id", Text),
    ("state", Text),
    ("started_at", Time),
    ("duration_seconds", Integer),
    ("viewer_count", Integer),
    ("webrtc_endpoint_id", Text),
];
const DETAIL: &[(&str, Kind)] = &[
    ("stream", Object),
    ("viewers", List),
    ("viewer_count", Integer),
    ("duration_seconds", Integer),
    ("keepalive_count", Integer),
    ("error_count", Integer),
];
const STREAM: &[(&str, Kind)] = &[
    ("session_id", Text),
    ("stream_id", Text),
    ("camera_id", Text),
    ("state", Text),
    ("started_at", Time),
    ("stopped_at", MaybeTime),
    ("duration_seconds", Integer),
    ("error_message", MaybeText),
    ("pipeline_id", Text),
    ("rtp_endpoint_id", Text),
    ("webrtc_endpoint_id", Text),
    ("keepalive_stats", Object),
    ("manager_stats", Object),
];
const KEEPALIVE: &[(&str, Kind)] = &[
    ("running", Bool),
    ("camera_id", Text),
    ("stream_id", Text),
    ("interval", Number),
    ("keepalive_count", Integer),
    ("error_count", Integer),
    ("last_success", MaybeTime),
    ("last_error", MaybeText),
    ("elapsed_seconds", Integer),
];
const MANAGER: &[(&str, Kind)] =
    &[("start_attempts", Integer), ("stop_attempts", Integer), ("errors", Integer), ("last_error", MaybeText)];
const STOPPED: &[(&str, Kind)] = &[
    ("success", Bool),
    ("message", Text),
    ("session_id", Text),
    ("stream_id", Text),
    ("camera_id", Text),
    ("state", Text),
    ("started_at", Time),
    ("stopped_at", Time),
    ("duration_seconds", Integer),
    ("keepalive_stats", Object),
    ("stats", Object),
];
const VIEWER: &[(&str, Kind)] = &[
    ("viewer_id", Text),
    ("camera_id", Text),
    ("stream_id", Text),
    ("created_at", Time),
    ("webrtc_endpoint_id", Text),
    ("connected", Bool),
];

#[test]
fn an_idle_service_is_healthy_and_lists_nothing() {
    let site = Site::start(&[]);
    let health = site.get("/health");
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_shape(
        &health,
        &[
            ("status", Text),
            ("timestamp", Time),
            ("kurento_connected", Bool),
            ("active_streams", Integer),
            ("total_viewers", Integer),
        ],
    );
    assert_eq!((&health["status"], &health["kurento_connected"]), (&json!("healthy"), &json!(true)));
    assert_eq!(site.get("/streams").json(), json!({"streams": [], "count": 0}));
    assert_eq!(site.get("/viewers").json(), json!({"viewers": [], "count": 0}));
    let unknown = site.get(&format!("/viewers/{CAMERA}"));
    assert_eq!((unknown.status, unknown.json()), (200, json!({"camera_id": CAMERA, "viewers": [], "count": 0})));
    for answer in [site.get(&format!("/streams/{CAMERA}")), site.post(&format!("/streams/{CAMERA}/stop"), "")] {
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["error"], format!("No active stream for camera {CAMERA}"));
    }
    for (path, kind) in [("/viewer", "text/html"), ("/viewer.html", "text/html"), ("/viewer.js", "text/javascript")] {
        let page = site.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").unwrap().starts_with(kind) && !page.text.is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_a_camera_and_a_viewer_is_shown_from_start_to_stop() {
    let site = Site::with_camera(&[("KEEPALIVE_INTERVAL", "1")]).await;
    let path = format!("/streams/{CAMERA}");
    let start = site.post(&format!("{path}/start"), r#"{"max_bandwidth": 3000, "min_bandwidth": 600}"#);
    assert_eq!(start.status, 201, "{}", start.text);
    let started = start.json();
    assert_shape(&started, STARTED);
    let stream_id = started["stream_id"].as_str().unwrap();
    assert_eq!(started["session_id"], format!("stream-{}-{}", &CAMERA[..8], &stream_id[..8]));
    assert_eq!((&started["camera_id"], &started["state"]), (&json!(CAMERA), &json!("active")));

    until("the camera's packets arrive and keepalives go on", || {
        let detail = site.get(&path).json();
        detail["stream"]["media"]["state"] == "flowing" && detail["keepalive_count"].as_u64() >= Some(2)
    })
    .await;
    let mut page = site.page().await;
    page.watch(CAMERA, stream_id).await;
    let viewer_id = page.hear_answer().await;

    let listed = site.get("/streams").json();
    assert_eq!(listed["count"], 1);
    assert_shape(&listed["streams"][0], SUMMARY);
    let detail = site.get(&path).json();
    assert_shape(&detail, DETAIL);
    let stream = &detail["stream"];
    assert_shape(stream, STREAM);
    assert_shape(&stream["keepalive_stats"], KEEPALIVE);
    assert_shape(&stream["manager_stats"], MANAGER);
    assert_eq!((&stream["state"], &stream["error_message"]), (&json!("active"), &Value::Null));
    for (of_old, of_new) in [
        (&detail["duration_seconds"], &stream["duration_seconds"]),
        (&detail["keepalive_count"], &stream["keepalive_stats"]["keepalive_count"]),
        (&detail["error_count"], &stream["keepalive_stats"]["error_count"]),
    ] {
        assert_eq!(of_old, of_new);
    }
    assert_eq!((&detail["viewer_count"], &detail["error_count"]), (&json!(1), &json!(0)));
    for viewers in [&detail, &site.get("/viewers").json(), &site.get(&format!("/viewers/{CAMERA}")).json()] {
        assert_shape(&viewers["viewers"][0], VIEWER);
        assert_eq!(viewers["viewers"][0]["viewer_id"], viewer_id);
    }
    for key in ["session_id", "stream_id", "camera_id", "pipeline_id", "rtp_endpoint_id", "webrtc_endpoint_id"] {
        assert_eq!(stream[key], started[key], "{key}");
    }

    let stop = site.post(&format!("{path}/stop"), "{}");
    assert_eq!(stop.status, 200, "{}", stop.text);
    let stopped = stop.json();
    assert_shape(&stopped, STOPPED);
    assert_shape(&stopped["keepalive_stats"], KEEPALIVE);
    assert_eq!((&stopped["success"], &stopped["state"]), (&json!(true), &json!("stopped")));
    assert_eq!((&stopped["stream_id"], &stopped["session_id"]), (&started["stream_id"], &started["session_id"]));
    assert_eq!(page.hear_error().await, "Stream stopped");
    assert_eq!(page.hear_close().await, 1000);
    assert_eq!(site.get(&path).status, 404);
    assert_eq!(site.get("/streams").json()["count"], 0);
}

/// What a script of the old system does: it greps, and prints with `%d`, which takes no point and no text.
#[test]
fn a_shell_script_of_the_old_system_goes_on_working() {
    let site = Site::start(&[]);
    let start = site.post(&format!("/streams/{CAMERA}/start"), "");
    let detail = site.get(&format!("/streams/{CAMERA}")).json();
    let stats = &detail["stream"]["keepalive_stats"];
    let numbers = [
        &detail["stream"]["duration_seconds"],
        &stats["keepalive_count"],
        &stats["error_count"],
        &detail["viewer_count"],
    ];
    let numbers = numbers.map(ToString::to_string).join(" ");
    let script = r#"
        if printf '%s' "$BODY" | grep -qi error; then echo 'start failed' >&2; exit 1; fi
        for number in $NUMBERS; do printf '%d\n' "$number" || exit 2; done
    "#;
    let ran =
        Command::new("sh").args(["-c", script]).env("BODY", &start.text).env("NUMBERS", numbers).output().unwrap();
    assert!(ran.status.success(), "{ran:?} {}", start.text);
    let again = site.post(&format!("/streams/{CAMERA}/start"), "");
    let refused = Command::new("sh").args(["-c", script]).env("BODY", again.text).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "the same script notices a refusal");
}

#[test]
fn a_second_start_is_409_with_the_running_ids_or_200_where_starts_are_idempotent() {
    let path = format!("/streams/{CAMERA}/start");
    let site = Site::start(&[]);
    let (first, second) = (site.post(&path, "").json(), site.post(&path, ""));
    assert_eq!(second.status, 409);
    let second = second.json();
    assert_eq!(second["error"], format!("Stream already active for camera {CAMERA}"));
    assert_eq!((&second["session_id"], &second["stream_id"]), (&first["session_id"], &first["stream_id"]));

    let site = Site::start(&[("START_IDEMPOTENT", "true")]);
    let (first, second) = (site.post(&path, ""), site.post(&path, ""));
    assert_eq!((first.status, second.status), (201, 200));
    assert_eq!(first.json(), second.json());
}

/// Hears what cameras are told.
async fn listen(site: &Site, shutdown: &Shutdown) -> mpsc::Receiver<Message> {
    let (host, port) = site.service.address("mqtt").rsplit_once(':').unwrap();
    let settings = LinkSettings {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        client_id_prefix: "listener".to_owned(),
        credentials: None,
        tls: None,
        keep_alive: Duration::from_secs(30),
        subscriptions: vec!["prod/honeycomb/+/stream/+".to_owned()],
        last_will: None,
        birth: None,
    };
    let (link, messages) = Link::start(settings, shutdown).unwrap();
    let mut status = link.status();
    tokio::time::timeout(PATIENCE, status.wait_for(LinkStatus::is_connected)).await.unwrap().unwrap();
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_once_give_one_201_one_409_and_one_sender_of_keepalives() {
    let site = Site::start(&[("KEEPALIVE_INTERVAL", "1")]);
    let shutdown = Shutdown::new();
    let mut messages = listen(&site, &shutdown).await;
    let path = format!("/streams/{CAMERA}/start");
    let mut statuses = std::thread::scope(|scope| {
        let starts = [(); 2].map(|()| scope.spawn(|| site.post(&path, "").status));
        starts.map(|start| start.join().unwrap())
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    assert_eq!(site.get("/streams").json()["count"], 1);
    let running = site.get(&format!("/streams/{CAMERA}")).json()["stream"]["stream_id"].clone();
    // With a second sender a number would come twice, or another stream's.
    let mut counts = Vec::new();
    let mut plays = 0;
    while counts.len() < 4 {
        let message = tokio::time::timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body["streamId"], running, "{body}");
        match body["messageType"].as_str().unwrap() {
            "keepalive" => counts.push(body["keepaliveCount"].as_u64().unwrap()),
            "play" => plays += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((plays, counts), (1, vec![0, 1, 2, 3]));
}

#[test]
fn without_a_broker_a_start_is_5xx_with_an_error_in_time() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let site = Site::start(&[("MQTT_EMBEDDED", "false"), ("EMQX_BROKER_PORT", &free)]);
    // The client gives up after ten seconds.
    let start = site.post(&format!("/streams/{CAMERA}/start"), "");
    assert!(start.status >= 500, "{}", start.status);
    assert_shape(&start.json(), &[("error", Text), ("code", Text), ("hint", Text)]);
    let health = site.get("/health");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    // The broker has been tried, which is all that readiness asks of it.
    assert_eq!((site.get("/ready").status, site.get("/ready").json()), (200, json!({"ready": true})));
}

#[test]
fn whatever_is_refused_is_refused_in_json_with_error_and_code() {
    let site = Site::start(&[]);
    let api = site.service.address("api");
    let start = format!("/streams/{CAMERA}/start");
    let long = " ".repeat(64 * 1024 + 1);
    for (method, path, body, status, code) in [
        ("GET", "/nothing", "", 404, "not_found"),
        ("GET", "/static/nothing.js", "", 404, "not_found"),
        ("GET", "/static/../../etc/passwd", "", 404, "not_found"),
        ("POST", "/streams", "", 405, "method_not_allowed"),
        ("PUT", start.as_str(), "", 405, "method_not_allowed"),
        ("DELETE", "/health", "", 405, "method_not_allowed"),
        ("GET", start.as_str(), "", 405, "method_not_allowed"),
        ("POST", start.as_str(), "{", 400, "bad_request"),
        ("POST", start.as_str(), r#"{"max_bandwidth": "3000"}"#, 400, "bad_request"),
        ("POST", start.as_str(), &long, 413, "body_too_large"),
        ("GET", "/streams/x", "", 400, "invalid_camera_id"),
        ("POST", "/streams/a%2F%2B%2F%23/start", "", 400, "invalid_camera_id"),
        ("POST", "/streams/56c1cadcf1fa4c6caeba3e2fd85efebf/start", "", 400, "invalid_camera_id"),
        ("GET", "/viewers/x", "", 400, "invalid_camera_id"),
        ("DELETE", "/viewers/x", "", 400, "invalid_viewer_id"),
        ("DELETE", "/viewers/0a1b2c3d-1111-4222-8333-444455556666", "", 404, "not_found"),
    ] {
        let answer = http::call(api, method, path, &[], body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        let refusal = answer.json();
        assert_eq!(refusal["code"], code, "{method} {path}");
        assert!(refusal["error"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        if status == 405 {
            assert!(answer.header("allow").is_some_and(|allowed| !allowed.is_empty()), "{method} {path}");
        }
    }
    assert_eq!(site.get("/streams").json()["count"], 0, "nothing was started");
    // The signaling port speaks WebSocket; who does not is told so.
    let no_socket = http::call(site.service.address("signaling"), "GET", "/", &[], "");
    assert_eq!((no_socket.status, &no_socket.json()["code"]), (426, &json!("not_websocket")));
}

#[test]
fn origins_are_echoed_credentials_allowed_and_preflights_answered() {
    let site = Site::start(&[]);
    let api = site.service.address("api");
    let origin = "https://dashboard.example:8443";
    let preflight = http::call(
        api,
        "OPTIONS",
        &format!("/streams/{CAMERA}/start"),
        &[
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type"),
        ],
        "",
    );
    assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status);
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("content-type"));
    let read = http::call(api, "GET", "/streams", &[("Origin", origin)], "");
    let refusal = http::call(api, "GET", "/nothing", &[("Origin", origin)], "");
    for answer in [&preflight, &read, &refusal] {
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    }

    let only = Site::start(&[("API_ALLOWED_ORIGINS", origin)]);
    let api = only.service.address("api");
    let stranger = http::call(api, "GET", "/streams", &[("Origin", "https://evil.example")], "");
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    let known = http::call(api, "GET", "/streams", &[("Origin", origin)], "");
    assert_eq!(known.header("access-control-allow-origin"), Some(origin));
}

#[test]
fn the_service_says_what_it_is_and_describes_itself() {
    let site = Site::start(&[]);
    let version = site.get("/version").json();
    assert_shape(&version, &[("version", Text), ("commit", MaybeText), ("features", List)]);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let document = site.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    // Every row of the contract's table.
    for (path, method) in [
        ("/health", "get"),
        ("/streams", "get"),
        ("/streams/{camera}", "get"),
        ("/streams/{camera}/start", "post"),
        ("/streams/{camera}/stop", "post"),
        ("/viewers", "get"),
        ("/viewers/{id}", "get"),
        ("/viewer", "get"),
        ("/viewer.html", "get"),
        ("/viewer.js", "get"),
    ] {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
    assert!(site.get("/docs").text.contains("/js/docs.js\""));
    assert_eq!(site.get("/static/js/docs.js").status, 200);
    // Cameras do not get into each other's way.
    site.stream(CAMERA);
    site.stream(OTHER_CAMERA);
    assert_eq!(site.get("/streams").json()["count"], 2);
}
