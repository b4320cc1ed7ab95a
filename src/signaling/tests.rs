//! Real sockets on the loopback address, a control task on fakes behind them.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;
use crate::control::testing::{CAMERA, Call, Mood, OTHER_CAMERA, Rig, settings};
use crate::control::{CloseReason, Settings};
use crate::egress::EgressEvent;

struct Site {
    rig: Rig,
    address: SocketAddr,
    counters: Arc<Counters>,
    shutdown: Shutdown,
}

impl Site {
    async fn new() -> Self {
        Self::with(Rig::new(), AllowedOrigins::any()).await
    }

    async fn with(rig: Rig, allowed_origins: AllowedOrigins) -> Self {
        let (counters, shutdown) = (Arc::new(Counters::default()), Shutdown::new());
        let settings = SignalingSettings { allowed_origins, ..SignalingSettings::default() };
        let router = router(rig.control.clone(), settings, counters.clone(), shutdown.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { rig, address, counters, shutdown }
    }

    async fn try_connect(&self, path: &str, origin: Option<&str>) -> Result<Page, Error> {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let socket = TcpStream::connect(self.address).await.unwrap();
        client_async(request, socket).await.map(|(socket, _)| Page { socket })
    }

    async fn page(&self) -> Page {
        self.try_connect("/", None).await.unwrap()
    }

    async fn viewers(&self) -> usize {
        self.rig.control.viewers(None).await.unwrap().len()
    }

    /// Waits for the control task to hear of a viewer's end.
    async fn viewers_become(&self, count: usize) {
        while self.viewers().await != count {
            tokio::task::yield_now().await;
        }
    }
}

struct Page {
    socket: WebSocketStream<TcpStream>,
}

impl Page {
    async fn say(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).await.unwrap();
    }

    async fn watch(&mut self, camera: &str, stream: &str) {
        let message = json!({"type": "viewer", "cameraId": camera, "streamId": stream, "sdpOffer": "v=0"});
        self.say(message.to_string()).await;
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn hear_error(&mut self) -> String {
        let message = self.hear().await;
        assert_eq!(message["type"], "error", "{message}");
        message["message"].as_str().unwrap().to_owned()
    }

    async fn hear_close(&mut self) -> Option<CloseFrame> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

#[tokio::test]
async fn a_viewer_gets_its_answer_first_and_then_the_candidates() {
    let site = Site::new().await;
    let stream = site.rig.streaming().await.to_string();
    for path in ["/", "/ws/anything?x=1"] {
        let mut page = site.try_connect(path, Some("http://elsewhere:5000")).await.unwrap();
        page.watch(CAMERA, &stream).await;
        let answer = page.hear().await;
        assert_eq!((&answer["type"], &answer["sdpAnswer"]), (&json!("viewerResponse"), &json!("v=0\r\n")));
        let viewers = site.rig.control.viewers(None).await.unwrap();
        assert_eq!(answer["viewerId"], viewers[0].viewer_id.to_string());
        let candidate = page.hear().await;
        assert_eq!(candidate["type"], "iceCandidate");
        assert!(candidate["candidate"]["candidate"].as_str().unwrap().starts_with("candidate:"));
        assert_eq!(candidate["candidate"]["sdpMid"], "0");
        assert_eq!(candidate["candidate"]["sdpMLineIndex"], 0);
        drop(page);
        site.viewers_become(0).await;
    }
}

#[tokio::test]
async fn errors_have_the_contracts_texts_and_leave_the_socket_open() {
    let site = Site::with(Rig::with(Settings { max_viewers: 1, ..settings() }), AllowedOrigins::any()).await;
    let stream = site.rig.streaming().await.to_string();
    let mut first = site.page().await;
    first.watch(CAMERA, &stream).await;
    assert_eq!(first.hear().await["type"], "viewerResponse");

    let mut page = site.page().await;
    page.say("{").await;
    assert_eq!(page.hear_error().await, "Invalid JSON");
    page.say(Message::Binary(br#"{"type":"dance"}"#.to_vec().into())).await;
    assert_eq!(page.hear_error().await, "Unknown message type: dance");
    page.say(r#"{"type":"viewer"}"#).await;
    assert_eq!(page.hear_error().await, "Missing required fields: cameraId, streamId, sdpOffer");
    page.watch(OTHER_CAMERA, &stream).await;
    assert_eq!(page.hear_error().await, format!("No active stream found for camera {OTHER_CAMERA}"));
    page.watch("a/+/#", &stream).await;
    assert_eq!(page.hear_error().await, "No active stream found for camera a/+/#");
    page.watch(CAMERA, "another").await;
    assert!(page.hear_error().await.contains("another"));
    page.watch(CAMERA, &stream).await;
    assert_eq!(page.hear_error().await, "Maximum viewers (1) reached for stream");

    drop(first);
    site.viewers_become(0).await;
    *site.rig.world.egress.lock().unwrap() = Mood::Fails("no H.264");
    page.watch(CAMERA, &stream).await;
    assert_eq!(page.hear_error().await, "Invalid SDP offer: no H.264");
    *site.rig.world.egress.lock().unwrap() = Mood::Works;
    page.watch(CAMERA, &stream).await;
    assert_eq!(page.hear().await["type"], "viewerResponse");

    let stats = site.counters.snapshot();
    assert_eq!((stats.not_json, stats.unknown_types, stats.missing_fields, stats.refused_viewers), (1, 1, 1, 5));
}

#[tokio::test]
async fn candidates_of_any_kind_are_taken_in_silence() {
    let site = Site::new().await;
    let mut page = site.page().await;
    for candidate in [json!({"candidate": ""}), json!({"candidate": "x.local"}), json!(null), json!([1])] {
        page.say(json!({"type": "onIceCandidate", "candidate": candidate}).to_string()).await;
    }
    page.say("{").await;
    assert_eq!(page.hear_error().await, "Invalid JSON", "the first answer is to the last message");
}

#[tokio::test]
async fn stop_ends_the_viewer_and_closes_with_1000() {
    let site = Site::new().await;
    let stream = site.rig.streaming().await.to_string();
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    page.hear().await;
    page.say(r#"{"type":"stop"}"#).await;
    assert_eq!(u16::from(page.hear_close().await.unwrap().code), 1000);
    site.viewers_become(0).await;
}

#[tokio::test]
async fn a_page_that_closes_gets_its_close_back() {
    let site = Site::new().await;
    let mut page = site.page().await;
    let frame = CloseFrame { code: 1000.into(), reason: "done".into() };
    page.socket.close(Some(frame)).await.unwrap();
    assert_eq!(u16::from(page.hear_close().await.unwrap().code), 1000);
    assert_eq!(site.counters.snapshot().broken, 0);
}

#[tokio::test]
async fn a_second_viewer_on_a_socket_replaces_the_first_even_at_the_limit() {
    let site = Site::with(Rig::with(Settings { max_viewers: 1, ..settings() }), AllowedOrigins::any()).await;
    let stream = site.rig.streaming().await.to_string();
    let mut page = site.page().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        page.watch(CAMERA, &stream).await;
        let answer = page.hear().await;
        ids.push(answer["viewerId"].as_str().map(str::to_owned).unwrap_or_else(|| panic!("{answer}")));
        assert_eq!(page.hear().await["type"], "iceCandidate");
    }
    assert_ne!(ids[0], ids[1]);
    let viewers = site.rig.control.viewers(None).await.unwrap();
    assert_eq!(viewers.iter().map(|viewer| viewer.viewer_id.to_string()).collect::<Vec<_>>(), [ids[1].clone()]);
    page.watch(CAMERA, "another").await;
    page.hear_error().await;
    assert_eq!(site.rig.control.viewers(None).await.unwrap(), viewers, "a refused one replaces nobody");
}

#[tokio::test]
async fn the_next_offer_of_the_same_peer_connection_restarts_ice_and_the_viewer_stays() {
    let site = Site::new().await;
    let stream = site.rig.streaming().await.to_string();
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    let first = page.hear().await;
    page.hear().await;
    let viewer = json!({"type": "viewer", "cameraId": CAMERA, "streamId": stream, "sdpOffer": "v=0 restart"});
    page.say(viewer.to_string()).await;
    let second = page.hear().await;
    assert_eq!((&second["type"], &second["viewerId"]), (&first["type"], &first["viewerId"]));
    assert_eq!(second["sdpAnswer"], "v=0 again\r\n");
    assert_eq!(site.viewers().await, 1);
    assert!(!site.rig.world.calls().iter().any(|call| matches!(call, Call::RemoveViewer(..))));
}

#[tokio::test]
async fn a_socket_that_breaks_ends_its_viewer() {
    let site = Site::new().await;
    let stream = site.rig.streaming().await.to_string();
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    page.hear().await;
    assert_eq!(site.viewers().await, 1);
    drop(page);
    site.viewers_become(0).await;
    assert!(site.rig.world.calls().iter().any(|call| matches!(call, Call::RemoveViewer(_, CloseReason::Left))));
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_and_closes_the_socket() {
    let site = Site::new().await;
    let stream = site.rig.streaming().await.to_string();
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    page.hear().await;
    page.hear().await;
    site.rig.control.stop_stream(CAMERA.parse().unwrap()).await.unwrap();
    assert_eq!(page.hear_error().await, "Stream stopped");
    assert_eq!(u16::from(page.hear_close().await.unwrap().code), 1000);
}

#[tokio::test]
async fn a_lost_media_connection_is_told_and_the_page_may_try_again_on_the_same_socket() {
    let site = Site::new().await;
    let stream = site.rig.streaming().await.to_string();
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    assert_eq!(page.hear().await["type"], "viewerResponse");
    let viewer = site.rig.control.viewers(None).await.unwrap()[0].viewer_id;
    page.hear().await;
    site.rig.egress(EgressEvent::Closed { viewer, reason: CloseReason::ConsentExpired }).await;
    assert_eq!(page.hear_error().await, "The media connection was lost");
    page.watch(CAMERA, &stream).await;
    assert_eq!(page.hear().await["type"], "viewerResponse");
}

#[tokio::test]
async fn a_shutdown_closes_every_socket_with_1001_and_is_drained_then() {
    let site = Site::new().await;
    let mut page = site.page().await;
    // The socket is served once it answers.
    page.say("{").await;
    page.hear_error().await;
    site.shutdown.request();
    assert_eq!(u16::from(page.hear_close().await.unwrap().code), 1001);
    site.shutdown.drained().await;
    assert_eq!(site.counters.snapshot().open, 0);
}

#[tokio::test]
async fn a_message_beyond_1_mib_closes_the_socket_and_no_other() {
    let site = Site::new().await;
    let (mut page, mut other) = (site.page().await, site.page().await);
    page.say(vec![b' '; MAX_MESSAGE]).await;
    assert_eq!(page.hear_error().await, "Invalid JSON");
    // The header alone (RFC 6455 §5.2): a binary frame, masked, one byte too long. Its contents would be cut off.
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&(MAX_MESSAGE as u64 + 1).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    page.socket.get_mut().write_all(&header).await.unwrap();
    assert_eq!(u16::from(page.hear_close().await.unwrap().code), 1009);
    assert_eq!(site.counters.snapshot().broken, 1);
    other.say("{").await;
    assert_eq!(other.hear_error().await, "Invalid JSON");
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_the_socket_with_1007() {
    let site = Site::new().await;
    let mut page = site.page().await;
    page.socket.get_mut().write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.unwrap();
    assert_eq!(u16::from(page.hear_close().await.unwrap().code), 1007);
}

#[tokio::test]
async fn origins_are_restricted_where_configured() {
    let allowed = AllowedOrigins::only(["https://dash.example".to_owned()]);
    let site = Site::with(Rig::new(), allowed).await;
    for origin in [None, Some("https://dash.example")] {
        site.try_connect("/", origin).await.unwrap();
    }
    let refused = site.try_connect("/", Some("https://evil.example")).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 403));
    assert_eq!(site.counters.snapshot().foreign_origins, 1);
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_answered_in_json() {
    use tokio::io::AsyncReadExt;
    let site = Site::new().await;
    let mut socket = TcpStream::connect(site.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.contains("application/json") && answer.contains(r#""error":"#), "{answer}");
    assert_eq!(site.counters.snapshot().not_websocket, 1);
}

#[tokio::test(start_paused = true)]
async fn pings_come_every_20_s_and_a_silent_socket_is_given_up() {
    let site = Site::new().await;
    let mut page = site.page().await;
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        // Reading answers the ping, which counts as a sign of life.
        let frame = page.socket.next().await.unwrap().unwrap();
        assert!(matches!(frame, Message::Ping(_)), "{frame:?}");
        page.socket.flush().await.unwrap();
    }
    assert!(begun.elapsed() >= 5 * socket::PING_INTERVAL);
    // Not read any more.
    let given_up = async {
        while site.counters.snapshot().broken == 0 {
            tokio::time::sleep(socket::PING_INTERVAL).await;
        }
    };
    tokio::time::timeout(2 * socket::SILENCE, given_up).await.unwrap();
    assert_eq!(site.counters.snapshot().open, 0);
}
