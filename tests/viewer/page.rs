//! The page's side of the signaling socket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::within;

/// An open signaling socket.
pub(crate) struct Page {
    socket: WebSocketStream<TcpStream>,
}

impl Page {
    pub(crate) async fn open(address: &str) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (socket, _) = within("the socket opens", client_async(format!("ws://{address}/"), socket)).await.unwrap();
        Self { socket }
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of the server.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            match within("a message comes", self.socket.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Asks to watch; the answer.
    pub(crate) async fn watch(&mut self, camera: &str, stream: &str, offer: &str) -> Answer {
        self.say(json!({"type": "viewer", "cameraId": camera, "streamId": stream, "sdpOffer": offer})).await;
        let response = self.hear().await;
        assert_eq!(response["type"], "viewerResponse", "{response}");
        assert!(response["viewerId"].is_string(), "{response}");
        Answer(response["sdpAnswer"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn send_candidate(&mut self, candidate: &impl serde::Serialize) {
        self.say(json!({"type": "onIceCandidate", "candidate": candidate})).await;
    }

    pub(crate) async fn stop(&mut self) {
        self.say(json!({"type": "stop"})).await;
    }

    /// Answers pings, as a page does that has nothing to say, until the server closes the socket.
    #[allow(dead_code)]
    pub(crate) async fn stay(mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The code with which the server closes the socket; nothing but candidates may come before.
    pub(crate) async fn close_code(mut self) -> u16 {
        loop {
            match within("the socket is closed", self.socket.next()).await.unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(text) => assert!(text.contains("\"iceCandidate\""), "{text}"),
                _ => {}
            }
        }
    }
}

/// An SDP answer.
pub(crate) struct Answer(pub(crate) String);

impl Answer {
    /// The lines of a medium's section.
    pub(crate) fn section(&self, media: &str) -> Vec<&str> {
        let start = format!("m={media} ");
        let mut lines = self.0.lines().skip_while(|line| !line.starts_with(&start));
        lines.next().into_iter().chain(lines.take_while(|line| !line.starts_with("m="))).collect()
    }

    /// What follows `start` in the first line of the section that begins like this.
    fn after(&self, media: &str, start: &str) -> &str {
        self.section(media).into_iter().find_map(|line| line.strip_prefix(start)).unwrap()
    }

    /// All that the server may send with.
    pub(crate) fn payload_types(&self, media: &str) -> Vec<u8> {
        self.section(media)[0].split(' ').skip(3).map(|number| number.parse().unwrap()).collect()
    }

    /// The preferred one.
    pub(crate) fn payload_type(&self, media: &str) -> u8 {
        let line = self.section(media)[0];
        line.split(' ').nth(3).unwrap().parse().unwrap()
    }

    /// `H264/90000`, `opus/48000/2`.
    pub(crate) fn codec(&self, media: &str) -> &str {
        self.after(media, &format!("a=rtpmap:{} ", self.payload_type(media)))
    }

    /// The source of the media themselves, not of what is sent again.
    pub(crate) fn ssrc(&self, media: &str) -> u32 {
        let section = self.section(media);
        let group = section.iter().find_map(|line| line.strip_prefix("a=ssrc-group:FID "));
        let text = group.or_else(|| section.iter().find_map(|line| line.strip_prefix("a=ssrc:"))).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// The source of what is sent again.
    pub(crate) fn rtx_ssrc(&self, media: &str) -> Option<u32> {
        let section = self.section(media);
        let group = section.iter().find_map(|line| line.strip_prefix("a=ssrc-group:FID "))?;
        group.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn cname(&self, media: &str) -> &str {
        self.after(media, &format!("a=ssrc:{} cname:", self.ssrc(media)))
    }
}
