//! Plain TCP against mosquitto.

use std::net::TcpListener;
use std::process::Command;

use honeycast::base::Shutdown;
use honeycast::mqtt::{Link, LinkError, PublishError};

use crate::support::mosquitto::{Mosquitto, Options};
use crate::{Client, fake, in_time, message, retained, settings};

#[tokio::test]
async fn a_published_message_comes_back_and_is_counted() {
    let broker = Mosquitto::start(Options::plain());
    let mut client = Client::connected(settings(broker.port(), &["a/+/c"])).await;
    client.link.publish(message("a/b/c", "hello")).await.unwrap();
    assert_eq!(client.next().await, message("a/b/c", "hello"));
    let counters = client.link.counters();
    assert_eq!((counters.published, counters.received, counters.failed, counters.dropped), (1, 1, 0, 0));
    client.stop().await;
}

#[tokio::test]
async fn publishing_without_a_broker_fails_at_once_with_the_reason() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let client = Client::start(settings(port, &[]));
    let reason = client.refusal().await;
    assert!(reason.contains("connection refused") && reason.contains(&port.to_string()), "{reason}");
    let error = client.link.publish(message("a", "b")).await.unwrap_err();
    assert_eq!(error, PublishError::NotConnected { why: reason.clone() });
    assert!(error.to_string().contains(&reason));
    assert_eq!(client.link.counters().failed, 1);
    client.stop().await;
}

#[tokio::test]
async fn after_a_restart_of_the_broker_everything_is_said_again() {
    let mut broker = Mosquitto::start(Options::plain());
    let mut client = {
        let mut settings = settings(broker.port(), &["cmd/#"]);
        settings.birth = Some(message("service/status", "online"));
        Client::connected(settings).await
    };

    broker.kill();
    client.reason(|reason| reason.contains("refused")).await;
    assert!(matches!(client.link.publish(message("x", "y")).await, Err(PublishError::NotConnected { .. })));
    broker.restart();
    client.wait_connected().await;

    // Subscribed again:
    client.link.publish(message("cmd/1", "after")).await.unwrap();
    assert_eq!(client.next().await, message("cmd/1", "after"));
    assert_eq!(client.link.counters().reconnects, 1);
    // The birth message again, retained: the new broker process knew nothing of it.
    let mut late = Client::connected(settings(broker.port(), &["service/status"])).await;
    assert_eq!(late.next().await, retained("service/status", "online"));
}

#[test]
fn the_last_will_is_published_when_the_process_dies() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = Mosquitto::start(Options::plain());
    let mut watcher = runtime.block_on(Client::connected(settings(broker.port(), &["service/status"])));

    // A runtime of its own, so that the link's task can be killed with its socket, without a DISCONNECT.
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let _client = doomed.block_on(async {
        let mut settings = settings(broker.port(), &[]);
        settings.birth = Some(message("service/status", "online"));
        settings.last_will = Some(retained("service/status", "offline"));
        Client::connected(settings).await
    });
    assert_eq!(&*runtime.block_on(watcher.next()).payload, b"online");
    doomed.shutdown_background();
    assert_eq!(&*runtime.block_on(watcher.next()).payload, b"offline");
}

#[tokio::test]
async fn a_stop_says_goodbye_and_publishes_nothing_more() {
    let broker = Mosquitto::start(Options::plain());
    let mut settings = settings(broker.port(), &["a/#"]);
    settings.client_id_prefix = "polite".to_owned();
    settings.last_will = Some(message("service/status", "offline"));
    let client = Client::connected(settings).await;
    client.shutdown.request();
    in_time(client.shutdown.drained()).await;
    // Mosquitto's words for a DISCONNECT; otherwise it says that the client closed its connection.
    let line = broker.logged(&["polite-", "disconnected."]).await;
    assert!(line.contains("Client polite-"), "{line}");
    assert_eq!(client.link.publish(message("a/b", "late")).await, Err(PublishError::ShuttingDown));
}

#[tokio::test]
async fn a_stop_during_attempts_to_connect_ends_them() {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let client = Client::start(settings(port, &[]));
    client.refusal().await;
    client.stop().await;
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_noticed_by_the_missing_acknowledgement() {
    let broker = Mosquitto::start(Options::plain());
    let client = Client::connected(settings(broker.port(), &[])).await;
    broker.freeze();
    assert_eq!(client.link.publish(message("a", "b")).await, Err(PublishError::Timeout));
    let reason = client.refusal().await;
    assert!(reason.contains("has not answered"), "{reason}");
    broker.thaw();
    client.wait_connected().await;
    client.link.publish(message("a", "b")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_may_not_in_is_told_so() {
    let broker = Mosquitto::start(Options::default().line("allow_anonymous false"));
    let client = Client::start(settings(broker.port(), &[]));
    let reason = client.refusal().await;
    assert!(reason.contains("not authorized"), "{reason}");
}

#[tokio::test]
async fn an_application_that_is_behind_loses_the_newest_messages_only() {
    const QUEUE: usize = 1024;
    const EXTRA: usize = 76;
    let broker = Mosquitto::start(Options::plain());
    let mut slow = Client::connected(settings(broker.port(), &["bulk/#"])).await;
    for number in 0..QUEUE + EXTRA {
        // The broker writes each message to the subscriber before it acknowledges the next one.
        slow.link.publish(message("bulk/1", &number.to_string())).await.unwrap();
    }
    slow.link.publish(message("other", "all written")).await.unwrap();
    let counters = slow.link.counters();
    assert_eq!((counters.received, counters.dropped), (QUEUE as u64, EXTRA as u64));
    for number in 0..QUEUE {
        assert_eq!(&*slow.next().await.payload, number.to_string().as_bytes());
    }
    slow.link.publish(message("bulk/1", "fresh")).await.unwrap();
    assert_eq!(&*slow.next().await.payload, b"fresh");
}

#[tokio::test]
async fn messages_that_are_too_large_do_not_end_the_link() {
    let broker = Mosquitto::start(Options::plain());
    let mut client = Client::connected(settings(broker.port(), &["big/#"])).await;
    let large = "x".repeat(300 * 1024);
    let error = client.link.publish(message("big/1", &large)).await.unwrap_err();
    assert_eq!(error, PublishError::TooLarge(large.len()));

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &large).unwrap();
    let mut publisher = Command::new("mosquitto_pub");
    publisher.args(["-h", "127.0.0.1", "-q", "1", "-t", "big/1", "-p", &broker.port().to_string(), "-f"]);
    assert!(publisher.arg(file.path()).status().unwrap().success());
    client.link.publish(message("big/2", "small")).await.unwrap();
    assert_eq!(client.next().await, message("big/2", "small"));
    let counters = client.link.counters();
    assert_eq!((counters.dropped, counters.reconnects), (1, 0));
}

#[tokio::test]
async fn many_publishers_share_the_link() {
    let broker = Mosquitto::start(Options::plain());
    let client = Client::connected(settings(broker.port(), &[])).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let link = client.link.clone();
        tasks.spawn(async move { link.publish(message("n", &number.to_string())).await });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    assert_eq!(client.link.counters().published, 200);
}

#[tokio::test]
async fn unusable_topics_are_refused_where_they_are_given() {
    let broker = Mosquitto::start(Options::plain());
    let client = Client::connected(settings(broker.port(), &[])).await;
    for topic in ["", "a/+", "a/#"] {
        let error = client.link.publish(message(topic, "x")).await.unwrap_err();
        assert_eq!(error, PublishError::InvalidTopic(topic.to_owned()));
    }
    client.link.publish(message("a", "the link lives")).await.unwrap();

    let shutdown = Shutdown::new();
    assert!(matches!(Link::start(settings(1, &["a/#/b"]), &shutdown), Err(LinkError::Topic(_))));
    let mut bad_will = settings(1, &[]);
    bad_will.last_will = Some(message("a/+", "x"));
    assert!(matches!(Link::start(bad_will, &shutdown), Err(LinkError::Topic(_))));
}

#[tokio::test]
async fn a_refused_subscription_is_counted_and_leaves_the_link_usable() {
    let (port, _broker) = fake::serve_one(fake::Mood::RefuseSubscriptions).await;
    let client = Client::connected(settings(port, &["a/#", "b/#"])).await;
    client.link.publish(message("a", "b")).await.unwrap();
    assert_eq!(client.link.counters().refused_subscriptions, 2);
}

#[tokio::test]
async fn a_broker_that_confirms_no_subscription_is_left() {
    let (port, broker) = fake::serve_one(fake::Mood::IgnoreSubscriptions).await;
    let client = Client::start(settings(port, &["a/#"]));
    let reason = client.refusal().await;
    assert!(reason.contains("does not confirm the subscriptions"), "{reason}");
    in_time(broker).await.unwrap();
}
