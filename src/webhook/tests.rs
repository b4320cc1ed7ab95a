//! Against a receiver on a loopback socket.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers each request with the next of `answers`, and keeps what was posted.
struct Receiver {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, mut answers) = (requests.clone(), VecDeque::from(answers.to_vec()));
        tokio::spawn(async move {
            while let Some(answer) = answers.pop_front() {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                let mut buffer = [0; 4096];
                while !is_whole(&text) {
                    let length = socket.read(&mut buffer).await.unwrap();
                    text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
                }
                kept.lock().unwrap().push(text);
                let reply = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                socket.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        Self { url, requests }
    }

    fn delivery(&self) -> Delivery {
        Delivery::new(self.url.parse().unwrap(), Secret::new("0123456789abcdef").unwrap()).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    body.len() == header(head, "content-length").parse::<usize>().unwrap()
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let found = request.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
    found.map(|(_, value)| value).unwrap_or_default()
}

fn event() -> Event {
    let camera = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap();
    Event::of(&Change::now(camera, Aspect::State, "active".into(), None), "edge-1")
}

#[tokio::test]
async fn an_event_is_posted_as_json_with_a_signature_that_fits_it() {
    let receiver = Receiver::start(&["204 No Content"]).await;
    assert_eq!(receiver.delivery().deliver(&event()).await, Outcome::Delivered);
    let request = receiver.requests().remove(0);
    assert!(request.starts_with("POST /events HTTP/1.1\r\n"), "{request}");
    let body = request.split_once("\r\n\r\n").unwrap().1;
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&json["type"], &json["data"]["value"], &json["data"]["node"]),
        (&"camera.state".into(), &"active".into(), &"edge-1".into())
    );
    let expected = Secret::new("0123456789abcdef").unwrap().sign(
        header(&request, "webhook-id"),
        header(&request, "webhook-timestamp").parse().unwrap(),
        body,
    );
    assert_eq!(header(&request, "webhook-signature"), expected);
}

#[tokio::test]
async fn a_receiver_in_trouble_gets_the_same_event_again_and_a_refusal_is_final() {
    let receiver = Receiver::start(&["503 Service Unavailable", "429 Too Many Requests", "200 OK", "410 Gone"]).await;
    let delivery = receiver.delivery();
    tokio::time::pause();
    assert_eq!(delivery.deliver(&event()).await, Outcome::Delivered);
    let ids: Vec<String> = receiver.requests().iter().map(|r| header(r, "webhook-id").to_owned()).collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(delivery.deliver(&event()).await, Outcome::Refused);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_given_up_after_some_minutes() {
    // A port that was free a moment ago: nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let target = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let delivery = Delivery::new(target, Secret::new("0123456789abcdef").unwrap()).unwrap();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(delivery.deliver(&event()).await, Outcome::Failed);
    assert_eq!(begun.elapsed().as_secs(), [1, 2, 4, 8, 16, 32, 60, 120].iter().sum::<u64>());
}

#[test]
fn targets_are_http_urls() {
    for bad in ["", "example.com", "ftp://example.com/", "https://", "mailto:a@b", "https://exa mple/"] {
        assert!(bad.parse::<Target>().is_err(), "{bad}");
    }
    assert!("https://example.com/x?y=1".parse::<Target>().is_ok());
}
