//! Access control and certificates of the binary as a process.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream as Blocking;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use honeycast::access::{CameraScope, Grant, Role, create_token};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use support::certs::Certs;
use support::service::{Service, honeycast, output, text};
use support::{PATIENCE, until_so as until, within};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
const SECRET: &str = "the-secret-of-all-tokens-0123456789abcdef";
const OFFER: &str = include_str!("data/offer-chromium.sdp");

fn token(role: Role, cameras: &str, seconds: u64) -> String {
    let until = SystemTime::now() + Duration::from_secs(seconds);
    let scope = CameraScope::new([cameras]).unwrap();
    create_token(SECRET, &Grant::new("tester", role, scope, Some(until)), until).unwrap()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

async fn socket(service: &Service, query: &str) -> WebSocketStream<TcpStream> {
    let address = service.address("signaling");
    let stream = TcpStream::connect(address).await.unwrap();
    within("the socket opens", client_async(format!("ws://{address}/{query}"), stream)).await.unwrap().0
}

/// The next message of the server, or the code of its close.
async fn hear<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Result<Value, (u16, String)> {
    loop {
        match within("something is said", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
            Message::Close(Some(frame)) => return Err((frame.code.into(), frame.reason.to_string())),
            _ => {}
        }
    }
}

/// A key as an operator makes it, and its line for the configuration.
fn created_key(arguments: &[&str]) -> (String, String) {
    let output = output(&[&["create-key"], arguments].concat(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let key = printed.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let entry = printed.lines().nth(1).unwrap().split('"').nth(1).unwrap().to_owned();
    (key, entry)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_even_at_trace_level_and_everybody_does_what_they_may() {
    let (key, entry) = created_key(&["--name", "wall", "--role", "control"]);
    let service = Service::start(&[
        ("AUTH_ENABLED", "true"),
        ("JWT_SECRET_KEY", SECRET),
        ("AUTH_API_KEYS", &entry),
        ("LOG_LEVEL", "TRACE"),
        ("TURN_SERVER_URL", "turn:turn.example"),
        ("TURN_SERVER_USERNAME", "turner"),
        ("TURN_SERVER_PASSWORD", "turn-password-4711"),
        ("EMQX_USERNAME", "mqtt-user"),
        ("EMQX_PASSWORD", "mqtt-password-4711"),
        // Nobody takes what is posted: it is tried again and again.
        ("WEBHOOK_URL", "http://127.0.0.1:9/changes"),
        ("WEBHOOK_SECRET", "webhook-secret-4711"),
    ]);
    let ask = |method: &str, path: &str, headers: &str, body: &str| service.request(method, path, headers, body);
    assert_eq!(ask("GET", "/health", "", "").0, 200);
    assert_eq!(ask("GET", "/streams", "", "").0, 401);
    assert_eq!(ask("GET", "/streams", &bearer(&key), "").0, 200);
    let (watch, over) = (token(Role::View, "56C1*", 600), token(Role::View, "*", 0));
    assert_eq!(ask("POST", &format!("/streams/{CAMERA}/start"), &bearer(&watch), "").0, 403);
    assert_eq!(ask("GET", &format!("/streams?token={watch}"), "", "").0, 200);
    let (status, head, body) = ask("GET", "/streams", &bearer(&over), "");
    assert_eq!((status, &body["error"]), (401, &json!("The token has expired")));
    assert!(head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
    let foreign = format!("{}x", token(Role::Admin, "*", 600));
    assert_eq!(ask("GET", "/streams", &bearer(&foreign), "").0, 401);

    until_started(&service, &key).await;
    let login = json!({ "credential": key }).to_string();
    let (status, head, _) = ask("POST", "/login", "content-type: application/json\r\norigin: http://x\r\n", &login);
    assert_eq!(status, 200);
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().split(';').next().unwrap();
    assert_eq!(ask("GET", "/session", &format!("cookie: {cookie}\r\n"), "").2["role"], "control");

    let (_, _, detail) = ask("GET", &format!("/streams/{CAMERA}"), &bearer(&watch), "");
    let stream = detail["stream"]["stream_id"].as_str().unwrap().to_owned();
    let viewer = |camera: &str| {
        let message = json!({"type": "viewer", "cameraId": camera, "streamId": stream, "sdpOffer": OFFER});
        Message::text(message.to_string())
    };
    let mut page = socket(&service, &format!("?token={watch}")).await;
    page.send(viewer(&CAMERA.replace("56C1", "66C1"))).await.unwrap();
    assert!(hear(&mut page).await.unwrap()["message"].as_str().unwrap().starts_with("Not allowed for camera 66C1"));
    page.send(viewer(CAMERA)).await.unwrap();
    let answer = hear(&mut page).await.unwrap();
    assert_eq!(answer["type"], "viewerResponse", "{answer}");
    let sdp = answer["sdpAnswer"].as_str().unwrap();
    let ice_password = sdp.lines().find_map(|line| line.strip_prefix("a=ice-pwd:")).unwrap().to_owned();
    // Ends while it is watched: told, closed, and the viewer is gone.
    let mut short = socket(&service, &format!("?token={}", token(Role::View, "*", 3))).await;
    short.send(viewer(CAMERA)).await.unwrap();
    assert_eq!(hear(&mut short).await.unwrap()["type"], "viewerResponse");
    let end = loop {
        match hear(&mut short).await {
            Ok(message) if message["type"] == "iceCandidate" => {}
            Ok(message) => assert_eq!(message, json!({"type": "error", "message": "The token has expired"})),
            Err(end) => break end,
        }
    };
    assert_eq!(end, (4401, "The token has expired".to_owned()));
    let mut live = live_socket(&service, &token(Role::View, "*", 2)).await;
    assert_eq!(hear(&mut live).await.unwrap_err(), end);
    assert_eq!(ask("GET", "/viewers", &bearer(&key), "").2["count"], 1);
    for query in ["", "?token=nonsense", &format!("?token={over}")] {
        let mut refused = socket(&service, query).await;
        assert_eq!(hear(&mut refused).await.unwrap()["type"], "error");
        assert_eq!(hear(&mut refused).await.unwrap_err().0, 4401, "{query}");
    }

    let (exit, log) = tokio::task::spawn_blocking(move || service.end_by("TERM")).await.unwrap();
    assert!(exit.success());
    assert!(log.contains("TRACE") && log.len() > 10_000, "the log is that of trace level: {} bytes", log.len());
    for (what, secret) in [
        ("secret", SECRET),
        ("key", &key),
        ("token", &watch),
        ("expired token", &over),
        ("foreign token", &foreign),
        ("cookie", cookie.split_once('=').unwrap().1),
        ("hash", entry.rsplit(':').next().unwrap()),
        ("TURN password", "turn-password-4711"),
        ("MQTT password", "mqtt-password-4711"),
        ("webhook secret", "webhook-secret-4711"),
        ("ICE password", &ice_password),
    ] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the {what} is in the log");
    }
}

async fn until_started(service: &Service, key: &str) {
    let begun = std::time::Instant::now();
    loop {
        let (status, _, body) = service.request("POST", &format!("/streams/{CAMERA}/start"), &bearer(key), "");
        if status == 201 {
            return;
        }
        // The broker may take a moment.
        assert!(status == 503 && begun.elapsed() < PATIENCE, "{status} {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_file_are_taken_over_while_the_service_runs_and_a_withdrawn_one_ends_what_rests_on_it() {
    let ((stays, staying), (goes, going)) = (created_key(&["--role", "control"]), created_key(&["--name", "goes"]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("honeycast.toml");
    let write = |keys: &str| std::fs::write(&file, format!("[auth]\nenabled = true\napi_keys = [{keys}]\n")).unwrap();
    write(&format!("\"{staying}\", \"{going}\""));
    let service = Service::start(&[("HONEYCAST_CONFIG", file.to_str().unwrap())]);
    until_started(&service, &stays).await;
    let mut staying_socket = socket(&service, &format!("?token={stays}")).await;
    let mut going_socket = socket(&service, &format!("?token={goes}")).await;
    let mut watching = live_socket(&service, &goes).await;

    // A slip of the pen: everything stays as it is.
    write("\"goes:view:*:nonsense\"");
    let failed = || metrics(&service, &stays).contains("honeycast_access_reload_failed 1");
    until("the mistake is told", failed).await;
    assert_eq!(service.request("GET", "/streams", &bearer(&goes), "").0, 200);

    write(&format!("\"{staying}\""));
    let withdrawn = (4401, "The key or token was withdrawn".to_owned());
    assert_eq!(hear(&mut going_socket).await.unwrap(), json!({"type": "error", "message": withdrawn.1}));
    assert_eq!(hear(&mut going_socket).await.unwrap_err(), withdrawn);
    assert_eq!(hear(&mut watching).await.unwrap_err(), withdrawn);
    assert_eq!(service.request("GET", "/streams", &bearer(&goes), "").0, 401);
    assert!(metrics(&service, &stays).contains("honeycast_access_reload_failed 0"));
    staying_socket.send(Message::text("{")).await.unwrap();
    assert_eq!(hear(&mut staying_socket).await.unwrap()["message"], "Invalid JSON");
    let (_, log) = tokio::task::spawn_blocking(move || service.end_by("TERM")).await.unwrap();
    assert_eq!(log.matches("new keys cannot be taken over; the earlier ones stay").count(), 1, "{log}");
    assert!(!log.contains(&goes) && !log.contains(&stays), "{log}");
}

/// The live stream of the camera as MP4.
async fn live_socket(service: &Service, token: &str) -> WebSocketStream<TcpStream> {
    let address = service.address("api");
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/streams/{CAMERA}/live.mp4?token={token}");
    within("the socket opens", client_async(url, stream)).await.unwrap().0
}

fn metrics(service: &Service, key: &str) -> String {
    let mut socket = Blocking::connect(service.address("api")).unwrap();
    write!(socket, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}\r\n", bearer(key)).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn commands_make_keys_hashes_and_tokens_that_the_service_takes() {
    let (key, entry) = created_key(&["--role", "admin", "--cameras", "56C1*+AB*", "--expires", "2100-01-01T00:00:00Z"]);
    let folder = tempfile::tempdir().unwrap();
    let mut hashing = honeycast(&folder, &["hash-key"], &[]);
    let mut hashing = hashing.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(hashing.stdin.take().unwrap(), "{key}").unwrap();
    let hash = text(&hashing.wait_with_output().unwrap().stdout);
    assert!(entry.contains(&format!(":56C1*+AB*:{}:2100", hash.trim())), "{entry} {hash}");

    let env = [("AUTH_ENABLED", "true"), ("JWT_SECRET_KEY", SECRET), ("AUTH_API_KEYS", entry.as_str())];
    let made = output(&["create-token", "--role", "view", "--name", "me", "--seconds", "60"], &env);
    let token = text(&made.stdout);
    let service = Service::start(&env);
    for (credential, role) in [(key.as_str(), "admin"), (token.trim(), "view")] {
        let (status, _, session) = service.request("GET", "/session", &bearer(credential), "");
        assert_eq!((status, &session["role"]), (200, &json!(role)), "{session}");
    }
    for (arguments, why) in [
        (&["create-key", "--role", "root"][..], "role must be"),
        (&["create-key", "--cameras", "gate"], "cameras must be"),
        (&["create-key", "--expires", "soon"], "expiry must be"),
        (&["create-token", "--seconds", "0"], "--seconds must be"),
    ] {
        let refused = output(arguments, &env);
        assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
}

#[test]
fn without_access_control_on_an_address_that_others_reach_there_is_one_loud_warning() {
    for (host, warnings) in [("127.0.0.1", 0), ("0.0.0.0", 1)] {
        let service = Service::start(&[("API_SERVER_HOST", host)]);
        let (_, log) = service.end_by("TERM");
        assert_eq!(log.matches("ACCESS IS NOT CONTROLLED").count(), warnings, "{log}");
    }
}

#[test]
fn check_config_finds_what_would_only_show_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("missing/store.redb");
    let refused = output(&["check-config"], &[("CAMERA_STORE", store.to_str().unwrap())]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("cameras.store (environment, CAMERA_STORE)"), "{}", text(&refused.stderr));
    let both = output(&["check-config", "--set", "api.prot=1"], &[("EXTERNAL_IP", "0.0.0.0")]);
    assert_eq!(both.status.code(), Some(78));
    let error = text(&both.stderr);
    assert!(error.contains("api.prot (flag --set): unknown key") && error.contains("network.external_ip"), "{error}");
}

/// The certificate that a handshake shows now.
fn shown(service: &Service) -> CertificateDer<'static> {
    let config = client();
    let mut connection = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut socket = Blocking::connect(service.address("dashboard")).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    connection.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Looks at certificates and believes all.
fn client() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Anybody(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificate_files_are_served_to_new_connections_while_open_ones_stay() {
    let (first, second) = (Certs::new(&["localhost"]), Certs::new(&["localhost"]));
    let (certificate, key) = (first.server_cert(), first.server_key());
    let env = [("TLS_CERT_PATH", certificate.to_str().unwrap()), ("TLS_KEY_PATH", key.to_str().unwrap())];
    let service = Service::start(&env);
    let stream = TcpStream::connect(service.address("signaling")).await.unwrap();
    let stream = tokio_rustls::TlsConnector::from(client()).connect("localhost".try_into().unwrap(), stream);
    let stream = within("the handshake ends", stream).await.unwrap();
    let (mut socket, _) = client_async("wss://localhost/", stream).await.unwrap();
    let before = shown(&service);

    // As renewal does it: one file after the other.
    std::fs::copy(second.server_cert(), &certificate).unwrap();
    std::fs::copy(second.server_key(), &key).unwrap();
    until("the new certificate is shown", || shown(&service) != before).await;
    let after = shown(&service);
    let health = service.call("GET", "/health").1;
    assert_eq!((&health["certificate"]["reloads"], &health["certificate"]["failure"]), (&json!(1), &Value::Null));

    std::fs::write(&key, "nonsense").unwrap();
    let failure = || service.call("GET", "/health").1["certificate"]["failure"].clone();
    until("the failure is told", || failure().is_string()).await;
    assert!(failure().as_str().unwrap().contains("server.key"), "{}", failure());
    assert_eq!(shown(&service), after, "the earlier one stays");
    let reasons = service.call("GET", "/health").1["reasons"].to_string();
    assert!(!reasons.contains("certificate"), "{reasons}");

    socket.send(Message::text("{")).await.unwrap();
    assert_eq!(hear(&mut socket).await.unwrap()["message"], "Invalid JSON", "the open socket is none the worse");
    let (_, log) = tokio::task::spawn_blocking(move || service.end_by("TERM")).await.unwrap();
    assert_eq!(log.matches("the new certificate cannot be used; the earlier one stays").count(), 1, "{log}");
}
