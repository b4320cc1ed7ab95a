//! The embedded broker.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use honeycast::base::Shutdown;
use honeycast::mqtt::{BrokerError, BrokerSettings, EmbeddedBroker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Client, in_time, message, retained, settings};

fn open() -> BrokerSettings {
    BrokerSettings { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), anonymous: true, users: Vec::new() }
}

#[tokio::test]
async fn carries_messages_and_keeps_retained_ones_in_memory_only() {
    let shutdown = Shutdown::new();
    let broker = EmbeddedBroker::start(open(), &shutdown).await.unwrap();
    let port = broker.local_addr().port();
    assert_ne!(port, 0);

    let mut client = Client::connected(settings(port, &["a/#"])).await;
    client.link.publish(message("a/b", "hello")).await.unwrap();
    assert_eq!(client.next().await, message("a/b", "hello"));
    client.link.publish(retained("a/kept", "for later")).await.unwrap();
    let mut late = Client::connected(settings(port, &["a/kept"])).await;
    assert_eq!(late.next().await, retained("a/kept", "for later"));
    assert!(!Path::new("mqtt_storage").exists());
}

#[test]
fn publishes_the_will_of_a_client_that_died() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shutdown = Shutdown::new();
    let broker = runtime.block_on(EmbeddedBroker::start(open(), &shutdown)).unwrap();
    let port = broker.local_addr().port();
    let mut watcher = runtime.block_on(Client::connected(settings(port, &["status"])));
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let _client = doomed.block_on(async {
        let mut settings = settings(port, &[]);
        settings.last_will = Some(message("status", "offline"));
        Client::connected(settings).await
    });
    doomed.shutdown_background();
    assert_eq!(runtime.block_on(watcher.next()), message("status", "offline"));
}

#[tokio::test]
async fn stops_with_clients_of_every_kind_and_frees_its_port() {
    let shutdown = Shutdown::new();
    let broker = EmbeddedBroker::start(open(), &shutdown).await.unwrap();
    let address = broker.local_addr();
    let client = Client::connected(settings(address.port(), &["a"])).await;
    // One that says nothing, and one that stops in the middle of a packet.
    let _mute = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&[0x10, 0x40, 0x00]).await.unwrap();

    shutdown.request();
    in_time(shutdown.drained()).await;
    client.reason(|reason| reason.contains("refused")).await;
    assert!(TcpListener::bind(address).is_ok());
}

#[tokio::test]
async fn lets_known_users_in_and_nobody_else() {
    let shutdown = Shutdown::new();
    let users = vec![("camera".to_owned(), "right".to_owned())];
    let broker = EmbeddedBroker::start(BrokerSettings { anonymous: false, users, ..open() }, &shutdown).await.unwrap();
    let port = broker.local_addr().port();
    for (credentials, words) in
        [(Some(("camera".to_owned(), "wrong".to_owned())), "password"), (None, "refused the connection")]
    {
        let mut settings = settings(port, &[]);
        settings.credentials = credentials;
        let client = Client::start(settings);
        let reason = client.refusal().await;
        assert!(reason.contains(words), "{reason}");
        client.stop().await;
    }
    let mut settings = settings(port, &[]);
    settings.credentials = Some(("camera".to_owned(), "right".to_owned()));
    Client::connected(settings).await.link.publish(message("a", "b")).await.unwrap();
}

#[tokio::test]
async fn ends_the_connection_of_a_packet_beyond_the_limit() {
    let shutdown = Shutdown::new();
    let broker = EmbeddedBroker::start(open(), &shutdown).await.unwrap();
    let mut stream = TcpStream::connect(broker.local_addr()).await.unwrap();
    // CONNECT of MQTT 3.1.1, clean session, client id "x".
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x").await.unwrap();
    let mut connack = [0; 4];
    in_time(stream.read_exact(&mut connack)).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    // PUBLISH with a remaining length of 2 MiB.
    stream.write_all(&[0x30, 0x80, 0x80, 0x80, 0x01]).await.unwrap();
    let mut rest = Vec::new();
    let ended = in_time(stream.read_to_end(&mut rest)).await;
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn says_why_it_cannot_start() {
    let shutdown = Shutdown::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bind = taken.local_addr().unwrap();
    let error = EmbeddedBroker::start(BrokerSettings { bind, ..open() }, &shutdown).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains(&bind.to_string()) && words.contains("in use") && !words.contains('\n'), "{words}");

    let closed = BrokerSettings { anonymous: false, ..open() };
    assert!(matches!(EmbeddedBroker::start(closed, &shutdown).await, Err(BrokerError::NobodyAllowed)));
}
