//! A page's signaling socket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::within;

/// What Chromium offers.
pub(crate) const OFFER: &str = include_str!("../data/offer-chromium.sdp");

/// What Firefox offers.
pub(crate) const OTHER_OFFER: &str = include_str!("../data/offer-firefox.sdp");

pub(crate) struct Page {
    socket: WebSocketStream<TcpStream>,
}

impl Page {
    pub(crate) async fn open(address: &str) -> Self {
        Self::open_at(address, "/", None).await
    }

    pub(crate) async fn open_at(address: &str, path: &str, origin: Option<&str>) -> Self {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        let socket = TcpStream::connect(address).await.unwrap();
        let (socket, _) = within("the socket opens", client_async(request, socket)).await.unwrap();
        Self { socket }
    }

    pub(crate) async fn say(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).await.unwrap();
    }

    /// A message that the server may refuse before it has all of it.
    pub(crate) async fn try_to_say(&mut self, message: impl Into<Message>) {
        let _ = self.socket.send(message.into()).await;
    }

    pub(crate) async fn watch(&mut self, camera: &str, stream: &str) {
        self.say(viewer(camera, stream).to_string()).await;
    }

    pub(crate) async fn candidate(&mut self, candidate: Value) {
        self.say(json!({"type": "onIceCandidate", "candidate": candidate}).to_string()).await;
    }

    /// The next message of the server, which is text.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            match within("a message comes", self.socket.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The answer to a `viewer` that is accepted: first `viewerResponse`, then candidates; the viewer's id.
    pub(crate) async fn hear_answer(&mut self) -> String {
        let response = self.hear().await;
        assert_eq!(response["type"], "viewerResponse", "{response}");
        assert_eq!(keys(&response), ["sdpAnswer", "type", "viewerId"]);
        assert!(response["sdpAnswer"].as_str().unwrap().starts_with("v=0\r\n"), "{response}");
        let candidate = self.hear().await;
        assert_eq!(candidate["type"], "iceCandidate", "{candidate}");
        assert_eq!(keys(&candidate), ["candidate", "type"]);
        let inner = &candidate["candidate"];
        assert_eq!(keys(inner), ["candidate", "sdpMLineIndex", "sdpMid"]);
        assert!(inner["candidate"].as_str().unwrap().starts_with("candidate:"), "{inner}");
        assert!(inner["sdpMid"].is_string() && inner["sdpMLineIndex"].is_u64(), "{inner}");
        response["viewerId"].as_str().unwrap().to_owned()
    }

    /// The text of an error, which has nothing else; candidates of an earlier answer may come before.
    pub(crate) async fn hear_error(&mut self) -> String {
        loop {
            let message = self.hear().await;
            if message["type"] == "iceCandidate" {
                continue;
            }
            assert_eq!(message["type"], "error", "{message}");
            assert_eq!(keys(&message), ["message", "type"]);
            return message["message"].as_str().unwrap().to_owned();
        }
    }

    /// The code with which the server closes the socket.
    pub(crate) async fn hear_close(&mut self) -> u16 {
        loop {
            match within("the socket is closed", self.socket.next()).await.unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(text) => assert!(text.contains("\"iceCandidate\""), "{text}"),
                _ => {}
            }
        }
    }
}

pub(crate) fn viewer(camera: &str, stream: &str) -> Value {
    json!({"type": "viewer", "cameraId": camera, "streamId": stream, "sdpOffer": OFFER})
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
