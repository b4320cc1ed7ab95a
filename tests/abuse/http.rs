//! Requests that take too long or too much.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::support::PATIENCE;
use crate::support::service::Service;
use crate::{Audience, within};

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
/// Of each kind; with three kinds a few more than a thousand.
const CONNECTIONS: usize = 340;
/// What a thousand connections may cost for good, in KiB: allocators keep what they had.
const GROWTH: u64 = 24 * 1024;

const START: &str = "POST /streams/56C1CADCF1FA4C6CAEBA3E2FD85EFEBF/start HTTP/1.1\r\nhost: x\r\n";

/// A connection from an address of its own, with what it sends at first; the answer, when the server has closed it.
async fn hold(from: IpAddr, to: SocketAddr, beginning: String) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(beginning.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Closed with or without what was still to be read.
    let _ = within("the server closes it", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Three kinds of a thousand clients, from two addresses that nobody else uses.
async fn flood(api: SocketAddr, signaling: SocketAddr) {
    let mut clients = JoinSet::new();
    for n in 0..CONNECTIONS {
        let from: IpAddr = [127, 66, 0, 1 + (n % 2) as u8].into();
        let port = if n % 2 == 0 { api } else { signaling };
        clients
            .spawn(async move { ("header", hold(from, port, "GET / HTTP/1.1\r\nhost: x\r\nx-slow: y".into()).await) });
        clients.spawn(async move { ("body", hold(from, api, format!("{START}content-length: 1000\r\n\r\n{{")).await) });
        clients.spawn(async move { ("idle", hold(from, port, String::new()).await) });
    }
    while let Some(client) = clients.join_next().await {
        let (kind, answer) = client.unwrap();
        if kind == "body" {
            assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
        } else {
            assert!(!answer.starts_with("HTTP/1.1 2"), "{kind}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_and_idle_connections_are_closed_and_disturb_no_viewer() {
    let audience = Audience::new(&[]).await;
    let address = |name| audience.site.service().address(name).parse().unwrap();
    let (api, signaling) = (address("api"), address("signaling"));
    // The first flood fills what is kept for reuse.
    flood(api, signaling).await;
    let before = audience.memory();
    let flooding = tokio::spawn(flood(api, signaling));
    while !flooding.is_finished() {
        let (status, health) = audience.site.call("GET", "/health").await;
        assert_eq!((status, &health["total_viewers"]), (200, &crate::VIEWERS.into()), "{health}");
        tokio::time::sleep(crate::LOOK).await;
    }
    flooding.await.unwrap();
    let after = audience.memory();
    assert!(after < before + GROWTH, "{before} KiB became {after} KiB");
    audience.was_undisturbed().await;
    audience.site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_take_the_places_of_all() {
    let audience = Audience::new(&[("LIMIT_CONNECTIONS_PER_CLIENT", "50")]).await;
    let api: SocketAddr = audience.site.service().address("api").parse().unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        clients.spawn(hold([127, 66, 0, 3].into(), api, String::new()));
    }
    let mut refused = 0;
    while refused < 150 {
        let answer = clients.join_next().await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too_many_connections"), "{answer:?}");
        refused += 1;
    }
    assert_eq!(audience.site.call("GET", "/health").await.0, 200);
    audience.was_undisturbed().await;
    audience.site.end().await;
}

/// What the server says to a request that may be anything.
fn send(service: &Service, request: &[u8]) -> (u16, Value) {
    let mut socket = TcpStream::connect(service.address("api")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have said its word before all of it was sent.
    let _ = socket.write_all(request);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("{START}connection: close\r\n{headers}\r\n").as_bytes(), body].concat()
}

#[test]
fn requests_beyond_the_limits_are_refused_with_status_and_reason() {
    let service = Service::start(&[]);
    let length = |n: usize| format!("content-length: {n}\r\n");
    let big = vec![b' '; 65 * 1024];
    let chunk = [b"10400\r\n".as_slice(), &big[..], b"\r\n0\r\n\r\n"].concat();
    let deep = [vec![b'['; 30_000], vec![b']'; 30_000]].concat();
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for (what, request, expected, code) in [
        ("announced", post(&length(10_000_000_000), b""), 413, "body_too_large"),
        ("too large", post(&length(big.len()), &big), 413, "body_too_large"),
        ("chunked", post("transfer-encoding: chunked\r\n", &chunk), 413, "body_too_large"),
        (
            "compressed",
            post(&format!("content-encoding: gzip\r\n{}", length(gzip.len())), &gzip),
            415,
            "unsupported_encoding",
        ),
        ("xml", post(&format!("content-type: text/xml\r\n{}", length(4)), b"<a/>"), 415, "unsupported_media_type"),
        ("deep", post(&length(deep.len()), &deep), 400, "bad_request"),
        ("not UTF-8", post(&length(4), b"{\"\xff\""), 400, "bad_request"),
        ("wrong type", post(&length(21), b"{\"max_bandwidth\":\"x\"}"), 400, "bad_request"),
        (
            "traversal",
            b"GET /static/../../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            404,
            "not_found",
        ),
        (
            "encoded traversal",
            b"GET /static/..%2f..%2fCargo.toml HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            404,
            "not_found",
        ),
        (
            "topic",
            b"POST /streams/%2B/start HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            400,
            "invalid_camera_id",
        ),
    ] {
        let (status, body) = send(&service, &request);
        assert_eq!((status, body["code"].as_str()), (expected, Some(code)), "{what}: {body}");
        assert!(body["error"].is_string(), "{what}: {body}");
    }
    let long = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(2_000));
    for (request, expected) in
        [(long, 431), (many, 431), ("nonsense\r\n\r\n".into(), 400), ("GET / HTTP/9\r\n\r\n".into(), 400)]
    {
        let (status, body) = send(&service, request.as_bytes());
        assert_eq!(status, expected);
        assert!(body["error"].is_string() && body["code"].is_string(), "{body}");
    }
    // After all of it a start is refused for its own reasons only.
    let (status, body) = service.call("GET", &format!("/streams/{CAMERA}"));
    assert_eq!((status, &body["code"]), (404, &"not_found".into()));
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back_and_others_are_not() {
    let env = [("LIMIT_REQUESTS_PER_SECOND", "1"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let service = Service::start(&env);
    let ask = |client: &str| service.request("GET", "/streams", &format!("x-forwarded-for: {client}\r\n"), "");
    // Far more than a client's allowance comes back while it asks.
    let answers: Vec<_> = (0..30).map(|_| ask("203.0.113.5")).collect();
    assert_eq!(answers[..4].iter().filter(|(status, ..)| *status == 200).count(), 4);
    let refused: Vec<_> = answers.iter().filter(|(status, ..)| *status == 429).collect();
    assert!(refused.len() >= 10, "{}", refused.len());
    let (_, head, body) = refused[0];
    assert!(head.to_lowercase().contains("retry-after: ") && body["code"] == "too_many_requests", "{head} {body}");
    assert_eq!(ask("203.0.113.6").0, 200, "another client");

    // Without a proxy that is trusted the header says nothing: all these are one client.
    let service = Service::start(&env[..1]);
    let forged = |n: usize| service.request("GET", "/streams", &format!("x-forwarded-for: 203.0.113.{n}\r\n"), "").0;
    assert!((0..30).filter(|n| forged(*n) == 429).count() >= 10);
}
