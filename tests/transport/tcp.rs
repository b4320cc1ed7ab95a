//! ICE-TCP: for viewers without UDP, and against those who only want to hold connections.

use honeycast::egress::EgressEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::Peer;
use crate::rig::{Client, Rig, Wire, candidate};
use crate::within;

/// Waits until the server closes a connection, whatever it says before.
async fn is_cut(stream: &mut TcpStream) {
    let mut rest = [0; 1_024];
    within("the connection is cut", async { while stream.read(&mut rest).await.is_ok_and(|len| len > 0) {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_without_udp_plays_by_tcp_however_its_frames_are_torn() {
    let mut rig = Rig::new();
    for torn in [false, true] {
        let (viewer, peer, candidates) = rig.viewer().await;
        let mut client = Client::new(peer, Wire::tcp(candidate(&candidates, "tcp"), torn).await);
        client.connects().await;
        for label in 1..=50 {
            rig.frame(5, label == 1, label);
        }
        client.sees(50).await;
        let received = &client.peer.received;
        assert_eq!((received.video.len(), received.gaps(), received.undecryptable), (250, 0, 0));
        let stats = rig.egress.viewer_stats(viewer).unwrap();
        assert!(stats.connected && stats.protocol == Some("tcp"), "{stats:?}");
    }
    let counted = rig.egress.drops().tcp;
    assert_eq!((counted.accepted, counted.refused_runs, counted.stalled), (2, 0, 0), "{counted:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_viewer_that_does_not_read_harms_nobody_and_goes_on_with_the_next_keyframe() {
    let mut rig = Rig::new();
    let (slow_viewer, peer, candidates) = rig.viewer().await;
    let mut slow = Client::new(peer, Wire::tcp(candidate(&candidates, "tcp"), false).await);
    slow.connects().await;
    let (_, peer, candidates) = rig.viewer().await;
    let mut quick = Client::new(peer, Wire::udp(candidate(&candidates, "udp")).await);
    quick.connects().await;
    rig.frame(10, true, 1);
    slow.sees(1).await;
    quick.sees(1).await;
    // Nobody reads the slow one's connection now: the kernel's buffers fill, then its queue.
    let mut sent = 10;
    while rig.egress.drops().tcp.refused_runs == 0 {
        rig.frame(30, false, 2);
        sent += 30;
        let want = sent;
        quick.until("the quick one has it all", |peer| peer.received.video.len() >= want).await;
    }
    for _ in 0..50 {
        rig.frame(30, false, 3);
        sent += 30;
        let want = sent;
        quick.until("the quick one has it all", |peer| peer.received.video.len() >= want).await;
    }
    assert_eq!((quick.peer.received.video.len(), quick.peer.received.gaps()), (sent, 0));
    // It reads again: what was queued comes, and then the picture starts anew.
    slow.until("what was queued", |peer| peer.received.video.iter().any(|(label, _)| *label == 2)).await;
    let mut label = 10;
    while slow.peer.received.video.last().is_none_or(|(last, _)| *last < 10) {
        rig.frame(10, true, label);
        label += 1;
        let answers = slow.peer.received.answers;
        slow.until("a check is answered", |peer| peer.received.answers > answers).await;
    }
    let received = &slow.peer.received;
    assert!(!received.video.iter().any(|(label, _)| *label == 3), "nothing between is sent late");
    assert_eq!(received.undecryptable, 0);
    let stats = rig.egress.viewer_stats(slow_viewer).unwrap();
    assert!(stats.connected, "{stats:?}");
    assert_eq!(rig.egress.drops().tcp.stalled, 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_moves_from_udp_to_tcp_and_back_when_the_connection_ends() {
    let mut rig = Rig::new();
    let (viewer, peer, candidates) = rig.viewer().await;
    let mut client = Client::new(peer, Wire::udp(candidate(&candidates, "udp")).await);
    client.connects().await;
    rig.frame(5, true, 1);
    client.sees(1).await;
    client.wire = Wire::tcp(candidate(&candidates, "tcp"), false).await;
    let answers = client.peer.received.answers;
    client.until("the connection is proven", |peer| peer.received.answers > answers).await;
    rig.frame(5, false, 2);
    client.sees(2).await;
    assert_eq!(rig.egress.viewer_stats(viewer).unwrap().protocol, Some("tcp"));
    // Another socket: in the old one there may be answers from before.
    client.wire = Wire::udp(candidate(&candidates, "udp")).await;
    let answers = client.peer.received.answers;
    client.until("UDP is proven again", |peer| peer.received.answers > answers).await;
    rig.frame(5, false, 3);
    client.sees(3).await;
    assert_eq!(rig.egress.viewer_stats(viewer).unwrap().protocol, Some("udp"));
    assert_eq!((client.peer.received.gaps(), client.peer.received.undecryptable), (0, 0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_viewer_is_cut_at_once_and_counted() {
    let rig = Rig::new();
    let (_, peer, candidates) = rig.viewer().await;
    let to = candidate(&candidates, "tcp");
    let mut http = TcpStream::connect(to).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    is_cut(&mut http).await;
    // Well framed, but it names no viewer: another server's check, and DTLS before any check.
    let mut nobody = Peer::new();
    nobody.credentials("nobody", "x");
    for datagram in [nobody.check(true), nobody.poll_transmit().unwrap(), vec![7; 100]] {
        let mut wire = Wire::tcp(to, false).await;
        wire.send(&datagram).await;
        assert_eq!(within("the connection is cut", wire.receive()).await, None);
    }
    let counted = rig.egress.drops().tcp;
    assert_eq!((counted.malformed, counted.strangers, counted.accepted), (1, 3, 4), "{counted:?}");
    // A viewer's connection is none of them.
    let mut client = Client::new(peer, Wire::tcp(to, false).await);
    client.connects().await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_say_nothing_or_half_a_word_are_cut_after_ten_seconds() {
    let rig = Rig::new();
    let to = ("127.0.0.1", rig.port);
    let mut silent = TcpStream::connect(to).await.unwrap();
    let mut half = TcpStream::connect(to).await.unwrap();
    half.write_all(&[0, 100, 0, 1]).await.unwrap();
    is_cut(&mut silent).await;
    is_cut(&mut half).await;
    assert_eq!(rig.egress.drops().tcp.unproven, 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_idle_connections_do_not_keep_a_viewer_out() {
    let rig = Rig::new();
    let (_, peer, candidates) = rig.viewer().await;
    let to = candidate(&candidates, "tcp");
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(to).await.unwrap());
    }
    let mut client = Client::new(peer, Wire::tcp(to, false).await);
    client.connects().await;
    let counted = rig.egress.drops().tcp;
    assert!(counted.crowded_out > 0 && counted.open <= 129, "{counted:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_viewer_is_told_that_the_service_ends() {
    let mut rig = Rig::new();
    let (viewer, peer, candidates) = rig.viewer().await;
    let mut client = Client::new(peer, Wire::tcp(candidate(&candidates, "tcp"), false).await);
    client.connects().await;
    within("control hears of it", async {
        while rig.events.recv().await != Some(EgressEvent::Connected { viewer }) {}
    })
    .await;
    rig.egress.close_stream(rig.stream, honeycast::egress::CloseReason::Shutdown);
    rig.end().await;
    within("goodbye", async {
        while let Some(datagram) = client.wire.receive().await {
            client.peer.hear(&datagram);
        }
    })
    .await;
    assert!(client.peer.closed, "DTLS was closed before the connection");
}
