//! The binary as a process: what it prints, how it ends, what cameras hear of its end.

#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::net::TcpListener;
use std::time::Duration;

use honeycast::base::Shutdown;
use honeycast::mqtt::{Link, LinkSettings, LinkStatus, Message};
use serde_json::Value;
use support::service::{Service, honeycast, output, text};
use support::{PATIENCE, until_so};
use tokio::sync::mpsc;

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";

/// Somebody at the broker who hears what the camera is told, and speaks for it.
struct Listener {
    link: Link,
    messages: mpsc::Receiver<Message>,
    _shutdown: Shutdown,
}

impl Listener {
    async fn at(broker: &str, topics: &[&str]) -> Self {
        let (host, port) = broker.rsplit_once(':').unwrap();
        let settings = LinkSettings {
            host: host.to_owned(),
            port: port.parse().unwrap(),
            client_id_prefix: "listener".to_owned(),
            credentials: None,
            tls: None,
            keep_alive: Duration::from_secs(30),
            subscriptions: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            last_will: None,
            birth: None,
        };
        let shutdown = Shutdown::new();
        let (link, messages) = Link::start(settings, &shutdown).unwrap();
        let mut status = link.status();
        tokio::time::timeout(PATIENCE, status.wait_for(LinkStatus::is_connected)).await.unwrap().unwrap();
        Self { link, messages, _shutdown: shutdown }
    }

    async fn say(&self, topic: &str, payload: &str) {
        let message = Message { topic: topic.to_owned(), payload: payload.to_owned().into(), retain: false };
        self.link.publish(message).await.unwrap();
    }

    /// The next message whose topic ends like this.
    async fn next(&mut self, end: &str) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.messages.recv()).await.expect(end).unwrap();
            if message.topic.ends_with(end) {
                return serde_json::from_slice(&message.payload).unwrap();
            }
        }
    }
}

#[test]
fn a_wrong_configuration_names_every_key_and_its_source_and_binds_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let env = [
        // If anything were bound, this port would be the complaint.
        ("API_SERVER_PORT", port.as_str()),
        ("SIGNALING_SERVER_PORT", port.as_str()),
        ("MIN_VIDEO_RECV_BANDWIDTH", "9000"),
        ("KEEPALIVE_INTERVAL", "soon"),
        ("TLS_CERT_PATH", "/nowhere/cert.pem"),
    ];
    for command in ["run", "check-config", "demo"] {
        let output = output(&[command], &env);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{command}: {error}");
        for part in [
            "signaling.port (environment, SIGNALING_SERVER_PORT)",
            "media.min_bandwidth (environment, MIN_VIDEO_RECV_BANDWIDTH)",
            "streams.keepalive_interval (environment, KEEPALIVE_INTERVAL)",
            "tls.certificate (environment, TLS_CERT_PATH)",
        ] {
            assert!(error.contains(part), "{command}: {part} is missing in {error}");
        }
        assert!(!text(&output.stdout).contains("ready"));
    }
}

#[test]
fn a_configuration_file_that_is_missing_or_has_an_unknown_key_ends_with_78() {
    let missing = output(&["run", "--config", "nowhere.toml"], &[]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(text(&missing.stderr).contains("nowhere.toml"));

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("h.toml"), "[api]\nprot = 8080\n").unwrap();
    let unknown = honeycast(&folder, &["check-config", "--config", "h.toml"], &[]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(78));
    let error = text(&unknown.stderr);
    assert!(error.contains("api.prot (h.toml): unknown key; did you mean api.port?"), "{error}");
}

#[test]
fn a_usable_configuration_is_said_to_be_so_and_what_is_printed_is_usable() {
    let good = output(&["check-config"], &[("KURENTO_WS_URL", "ws://x")]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("KURENTO_WS_URL is ignored"));

    let printed = output(&["print-config", "--api-port", "8123"], &[]);
    assert!(text(&printed.stdout).contains("port = 8123 # flag --api-port"), "{}", text(&printed.stdout));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("again.toml"), &printed.stdout).unwrap();
    let again = honeycast(&folder, &["check-config", "--config", "again.toml"], &[]).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
}

#[test]
fn a_taken_port_ends_the_start_with_1_and_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = output(&["run"], &[("SIGNALING_SERVER_PORT", &port)]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("signaling.port: cannot listen on 127.0.0.1:{port}")), "{error}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for wrong in [&["fly"][..], &["run", "--set", "api.port"], &[]] {
        assert_eq!(output(wrong, &[]).status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_stream_are_published_and_kept_by_the_broker() {
    let service = Service::start(&[("NODE_NAME", "edge/1")]);
    let topics = ["honeycast/edge_1/cameras/+/state", "honeycast/edge_1/cameras/+/picture"];
    let mut listener = Listener::at(service.address("mqtt"), &topics).await;
    let (status, started) = service.call("POST", &format!("/streams/{CAMERA}/start"));
    assert_eq!(status, 201, "{started}");
    let expected = format!("{CAMERA}/state");
    while listener.next(&expected).await["value"] != "active" {}
    // Who comes later hears how it is now.
    let mut late = Listener::at(service.address("mqtt"), &topics).await;
    let state = late.next(&expected).await;
    assert_eq!(
        (&state["value"], &state["camera_id"], &state["what"]),
        (&"active".into(), &CAMERA.into(), &"state".into())
    );
    assert_eq!(late.next(&format!("{CAMERA}/picture")).await["value"], "waiting_for_camera");
    service.call("POST", &format!("/streams/{CAMERA}/stop"));
    while late.next(&expected).await["value"] != "stopped" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_tell_cameras_to_stop_and_end_in_order_with_0() {
    for signal in ["INT", "TERM"] {
        let service = Service::start(&[]);
        let topics = ["prod/honeycomb/+/stream/+", "honeycast/+/status"];
        let mut listener = Listener::at(service.address("mqtt"), &topics).await;
        assert_eq!(listener.next("/status").await["status"], "online");

        let (status, started) = service.call("POST", &format!("/streams/{CAMERA}/start"));
        assert_eq!(status, 201, "{started}");
        let play = listener.next("/play").await;
        let keepalive = listener.next("/keepalive").await;
        assert_eq!((&keepalive["keepaliveCount"], &keepalive["streamId"]), (&0.into(), &started["stream_id"]));

        let (exit, log) = tokio::task::spawn_blocking(move || service.end_by(signal)).await.unwrap();
        let stop = listener.next("/stop").await;
        assert_eq!((&stop["streamId"], &stop["messageType"]), (&play["streamId"], &"stop".into()));
        assert_eq!(listener.next("/status").await["status"], "offline");
        assert_eq!(exit.code(), Some(0), "{log}");
        // The service has a deadline of its own and says when it was missed.
        assert!(!log.contains("not every part has ended in time"), "{log}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn each_sending_thread_has_a_core_of_its_own() {
    let service = Service::start(&[]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap().map(|task| task.unwrap().path());
    let read = |task: &std::path::Path, file: &str| std::fs::read_to_string(task.join(file)).unwrap_or_default();
    let sending = tasks.filter(|task| read(task, "comm").starts_with("egress-"));
    let mut cores: Vec<String> = sending
        .map(|task| {
            let status = read(&task, "status");
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
            line.trim().to_owned()
        })
        .collect();
    cores.sort();
    let mut allowed: Vec<_> = honeycast::base::cores::allowed().iter().map(ToString::to_string).collect();
    allowed.sort();
    // With a quota of time there are fewer threads than cores, and they run where there is room.
    if std::thread::available_parallelism().unwrap().get() == allowed.len() {
        assert_eq!(cores, allowed);
    }
}

#[test]
fn a_broker_that_is_not_there_does_not_keep_the_service_from_starting_or_ending() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let env = [("MQTT_EMBEDDED", "false"), ("EMQX_BROKER_PORT", free.as_str())];
    let service = Service::start(&env);
    let (status, health) = service.call("GET", "/health");
    assert_eq!((status, &health["status"], &health["kurento_connected"]), (200, &"degraded".into(), &true.into()));
    let (status, refused) = service.call("POST", &format!("/streams/{CAMERA}/start"));
    assert!(status >= 500 && refused["error"].is_string(), "{status} {refused}");
    let (exit, log) = service.end_by("TERM");
    assert_eq!(exit.code(), Some(0), "{log}");
    assert!(!log.contains("not every part has ended in time"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_what_cameras_said_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("honeycast.redb");
    let env = [("CAMERA_STORE", file.to_str().unwrap())];
    let camera = format!("/cameras/{CAMERA}");
    let service = Service::start(&env);
    assert_eq!(service.call("GET", &camera).0, 404);
    until_so("the service listens", || service.call("GET", "/health").1["status"] == "healthy").await;
    let speaker = Listener::at(service.address("mqtt"), &[]).await;
    let device = r#"{"softwareVersion": "1.4.2", "hardwareVersion": "B", "serialNumber": "VBC01-77"}"#;
    let connected = format!(r#"{{"status": "connected", "ipAddress": "192.168.1.20", "device": {device}}}"#);
    speaker.say(&format!("prod/device/connection/hive-cam/{CAMERA}"), &connected).await;
    let status = r#"{"battery": {"level": 87}, "radio": {"signalStrength": -61}, "temperature": 41.5}"#;
    speaker.say(&format!("prod/device/status/hive-cam/{CAMERA}"), status).await;
    let event = r#"{"eventId": "e-1", "activityType": "motion", "timestamp": 1795569821, "confidence": 0.9}"#;
    speaker.say(&format!("prod/device/message/hive-cam/{CAMERA}/activity/motion"), event).await;
    until_so("the event is known", || service.call("GET", &camera).1["events"][0]["event_id"] == "e-1").await;
    let (status, named) = service.call_with("PUT", &camera, r#"{"name": "Gate", "notes": "north side"}"#);
    assert_eq!((status, &named["name"]), (200, &"Gate".into()));
    for (key, said) in [
        ("software_version", Value::from("1.4.2")),
        ("serial_number", "VBC01-77".into()),
        ("ip", "192.168.1.20".into()),
        ("battery_percent", 87.0.into()),
        ("signal", (-61.0).into()),
        ("temperature", 41.5.into()),
        ("online", true.into()),
    ] {
        assert_eq!(named[key], said, "{key}");
    }
    let (exit, log) = service.end_by("TERM");
    assert_eq!(exit.code(), Some(0), "{log}");
    assert!(!log.contains("not every part has ended in time"), "{log}");

    let service = Service::start(&env);
    assert_eq!(service.call("GET", &camera), (200, named.clone()));
    // A crash costs no name either, as soon as the file has it.
    let (_, renamed) = service.call_with("PUT", &camera, r#"{"name": "Door"}"#);
    wait_until_saved(&service);
    service.end_by("KILL");

    let service = Service::start(&env);
    assert_eq!(service.call("GET", &camera), (200, renamed));
    assert_eq!(service.call("GET", "/health").1["camera_store"]["failed_writes"], 0);
}

fn wait_until_saved(service: &Service) {
    let begun = std::time::Instant::now();
    while service.call("GET", "/health").1["camera_store"]["unsaved"] == true {
        assert!(begun.elapsed() < PATIENCE, "never saved");
    }
}

#[test]
fn a_camera_store_that_cannot_be_used_ends_the_start_with_1_and_names_key_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.redb");
    std::fs::write(&damaged, "x".repeat(100_000)).unwrap();
    let missing = folder.path().join("missing").join("honeycast.redb");
    let locked = folder.path().join("locked.redb");
    let _holder = Service::start(&[("CAMERA_STORE", locked.to_str().unwrap())]);
    for (file, reason) in [(&damaged, "is damaged"), (&missing, "No such file"), (&locked, "open in another process")] {
        let output = output(&["run"], &[("CAMERA_STORE", file.to_str().unwrap())]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("cameras.store: {}: ", file.display())), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&damaged).unwrap(), "x".repeat(100_000), "nothing is overwritten");
}

#[test]
fn without_a_place_cameras_are_kept_in_memory_and_with_a_state_directory_there() {
    let service = Service::start(&[]);
    assert_eq!(service.call("GET", "/health").1["camera_store"], Value::Null);
    let (_, log) = service.end_by("TERM");
    assert!(log.contains("kept in memory only"), "{log}");

    let state = tempfile::tempdir().unwrap();
    let service = Service::start(&[("STATE_DIRECTORY", state.path().to_str().unwrap())]);
    assert!(service.call("GET", "/health").1["camera_store"].is_object());
    assert!(state.path().join("honeycast.redb").exists());
}
