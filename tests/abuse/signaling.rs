//! Sockets that say too much, or nonsense.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{Audience, within};

const OFFER: &str = include_str!("../data/offer-chromium.sdp");

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(audience: &Audience) -> Self {
        let address = audience.site.service().address("signaling");
        let stream = TcpStream::connect(address).await.unwrap();
        Self(within("the socket opens", client_async(format!("ws://{address}/"), stream)).await.unwrap().0)
    }

    async fn say(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next error; nothing else may come.
    async fn error(&mut self) -> String {
        loop {
            match within("an error comes", self.0.next()).await.unwrap().unwrap() {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(message["type"], "error", "{message}");
                    return message["message"].as_str().unwrap().to_owned();
                }
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code with which it is closed, whatever comes before.
    async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = within("it is closed", self.0.next()).await.unwrap().unwrap() {
                return frame.unwrap().code.into();
            }
        }
    }
}

fn viewer(audience: &Audience, offer: &str) -> String {
    let stream = audience.camera.stream.as_ref().unwrap();
    json!({"type": "viewer", "cameraId": audience.camera.id, "streamId": stream, "sdpOffer": offer}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_cannot_be_served_are_refused_with_the_reason_and_disturb_no_viewer() {
    let audience = Audience::new(&[]).await;
    let sections = |n: usize| format!("{OFFER}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(n));
    let candidates = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(10_000);
    let without_fingerprint: String =
        OFFER.lines().filter(|line| !line.starts_with("a=fingerprint")).map(|line| format!("{line}\r\n")).collect();
    let types: String = OFFER.replace("a=rtpmap:", "a=rtpmap:9").replace("a=fmtp:", "a=fmtp:9");
    let beyond = |line: &str| line.split(' ').take(3).chain(["200", "999"]).collect::<Vec<_>>().join(" ");
    let types: String = types
        .lines()
        .map(|line| if line.starts_with("m=") { beyond(line) } else { line.to_owned() })
        .map(|line| line + "\r\n")
        .collect();
    for (what, offer) in [
        ("a million bytes", "x".repeat(1_000_000)),
        ("ten thousand sections", sections(10_000)),
        ("ten thousand short sections", "m=v 9 x 0\r\n".repeat(5_000)),
        ("ten thousand candidates", format!("{OFFER}{candidates}")),
        ("payload types beyond 127", types),
        ("no fingerprint", without_fingerprint),
        ("nothing", "v=0".to_owned()),
        ("binary", "\u{0}\u{1}\u{fffd}".repeat(100)),
    ] {
        let mut socket = Socket::open(&audience).await;
        socket.say(viewer(&audience, &offer)).await;
        let error = socket.error().await;
        assert!(error.starts_with("Invalid SDP offer: ") && error.len() < 400, "{what}: {error}");
        // The socket is as good as before.
        socket.say("{".to_owned()).await;
        assert_eq!(socket.error().await, "Invalid JSON");
    }
    audience.was_undisturbed().await;
    audience.site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_break_the_rules_are_closed_with_a_code_and_disturb_no_viewer() {
    let audience = Audience::new(&[]).await;

    let mut deep = Socket::open(&audience).await;
    deep.say(format!("{{\"type\":{}", "[".repeat(500_000))).await;
    assert_eq!(deep.error().await, "Invalid JSON");

    let mut offers = Socket::open(&audience).await;
    for _ in 0..100 {
        offers.say(viewer(&audience, "v=0")).await;
    }
    let mut errors = Vec::new();
    for _ in 0..100 {
        errors.push(offers.error().await);
    }
    let refused = errors.iter().filter(|error| error.starts_with("Too many offers")).count();
    assert!(refused >= 50, "{refused}");
    assert!(errors[..10].iter().all(|error| error.starts_with("Invalid SDP offer")), "{errors:?}");

    let mut messages = Socket::open(&audience).await;
    for _ in 0..20_000 {
        // The server may have closed it already.
        if messages.0.feed(Message::text("{")).await.is_err() {
            break;
        }
    }
    let _ = messages.0.flush().await;
    assert_eq!(messages.close_code().await, 1008);

    let mut long = Socket::open(&audience).await;
    let mut header = vec![0x82, 0xff];
    header.extend_from_slice(&(2_u64 << 20).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    long.0.get_mut().write_all(&header).await.unwrap();
    assert_eq!(long.close_code().await, 1009);

    let mut binary = Socket::open(&audience).await;
    binary.0.get_mut().write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.unwrap();
    assert_eq!(binary.close_code().await, 1007);

    audience.was_undisturbed().await;
    audience.site.end().await;
}
