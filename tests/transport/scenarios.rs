//! A viewer that moves, restarts and comes by whatever its network has.

use honeycast::egress::RestartError;
use tokio::net::UdpSocket;

use crate::peer::Peer;
use crate::rig::{Client, Rig, Wire, candidate};

async fn udp_viewer(rig: &Rig) -> (honeycast::base::ViewerId, Client) {
    let (viewer, peer, candidates) = rig.viewer().await;
    let mut client = Client::new(peer, Wire::udp(candidate(&candidates, "udp")).await);
    client.connects().await;
    (viewer, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_is_offered_by_udp_first_and_by_tcp_with_a_lower_priority() {
    let rig = Rig::new();
    let (_, _, candidates) = rig.viewer().await;
    let [udp, tcp] = &candidates[..] else { panic!("{candidates:?}") };
    assert_eq!((udp.transport.as_str(), tcp.transport.as_str()), ("udp", "tcp"));
    assert_eq!((udp.address, udp.address.port()), (tcp.address, rig.port));
    assert!(udp.priority > tcp.priority && tcp.line.ends_with(" typ host tcptype passive"), "{candidates:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_plays_by_ipv6_with_udp_and_with_tcp() {
    if UdpSocket::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback address");
        return;
    }
    let mut rig = Rig::with("0.0.0.0", &["::1", "127.0.0.1"]);
    for (label, transport) in (1..).zip(["udp", "tcp"]) {
        let (viewer, peer, candidates) = rig.viewer().await;
        let to = candidate(&candidates, transport);
        assert!(to.is_ipv6(), "{candidates:?}");
        let wire = if transport == "udp" { Wire::udp(to).await } else { Wire::tcp(to, false).await };
        let mut client = Client::new(peer, wire);
        client.connects().await;
        rig.frame(5, true, label);
        client.sees(label).await;
        assert_eq!((client.peer.received.gaps(), client.peer.received.undecryptable), (0, 0));
        let stats = rig.egress.viewer_stats(viewer).unwrap();
        assert!(stats.remote.unwrap().is_ipv6() && stats.protocol == Some(transport), "{stats:?}");
    }
    // And IPv4 on the same port, as ever.
    let (_, peer, candidates) = rig.viewer().await;
    let v4 = candidates.iter().find(|candidate| candidate.address.is_ipv4()).unwrap().address;
    let mut client = Client::new(peer, Wire::udp(v4).await);
    client.connects().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nat_that_rebinds_and_a_phone_that_changes_its_network_keep_the_session() {
    let mut rig = Rig::new();
    let (viewer, mut client) = udp_viewer(&rig).await;
    rig.frame(5, true, 1);
    client.sees(1).await;
    for label in 2..5 {
        // A new source address each time, and not a word from the old one.
        let Wire::Udp(_, to) = client.wire else { panic!() };
        client.wire = Wire::udp(to).await;
        let Wire::Udp(socket, _) = &client.wire else { panic!() };
        let own = socket.local_addr().unwrap();
        let answers = client.peer.received.answers;
        client.until("the new address is proven", |peer| peer.received.answers > answers).await;
        rig.frame(5, false, label);
        client.sees(label).await;
        assert_eq!(rig.egress.viewer_stats(viewer).unwrap().remote, Some(own));
    }
    assert_eq!((client.peer.received.gaps(), client.peer.received.undecryptable), (0, 0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_goes_only_where_ice_has_proved_whatever_else_is_sent() {
    let mut rig = Rig::new();
    let (viewer, mut client) = udp_viewer(&rig).await;
    let thief = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let hello = Peer::new().poll_transmit().unwrap();
    let good = client.peer.check(true);
    let mut cut = good.clone();
    *cut.last_mut().unwrap() ^= 1;
    for datagram in [client.peer.check_with("guessed", true), cut, hello, vec![0x80, 206, 0, 1, 0, 0, 0, 1]] {
        thief.send_to(&datagram, ("127.0.0.1", rig.port)).await.unwrap();
    }
    // All of it is judged before what comes next by the same socket of ours.
    let answers = client.peer.received.answers;
    client.until("a check is answered", |peer| peer.received.answers > answers).await;
    rig.frame(5, true, 1);
    client.sees(1).await;
    assert!(thief.try_recv(&mut [0; 2_048]).is_err(), "nothing was sent to the thief");
    let drops = rig.egress.drops();
    assert_eq!((drops.stranger, drops.sessions.stun_unauthenticated), (3, 1), "{drops:?}");
    assert!(rig.egress.viewer_stats(viewer).unwrap().connected);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ice_restart_by_offer_goes_on_in_the_same_session_from_another_address() {
    let mut rig = Rig::new();
    let (viewer, mut client) = udp_viewer(&rig).await;
    rig.frame(5, true, 1);
    client.sees(1).await;
    client.peer.restart("Hnew");
    let answer = rig.egress.restart_viewer(viewer, &client.peer.offer()).unwrap();
    let candidates = client.peer.answered(&answer.sdp);
    client.wire = Wire::udp(candidate(&candidates, "udp")).await;
    let answers = client.peer.received.answers;
    client.until("the new address is proven", |peer| peer.received.answers > answers).await;
    rig.frame(5, false, 2);
    client.sees(2).await;
    assert_eq!((client.peer.received.gaps(), client.peer.received.undecryptable), (0, 0));
    let stranger = rig.egress.restart_viewer(viewer, &Peer::new().offer()).unwrap_err();
    assert!(matches!(stranger, RestartError::NotARestart(_)), "{stranger}");
    let gone = rig.egress.restart_viewer(honeycast::base::ViewerId::random(), &client.peer.offer());
    assert_eq!(gone, Err(RestartError::NoViewer));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ice_restart_by_fragment_goes_on_in_the_same_session_too() {
    let mut rig = Rig::new();
    let (viewer, mut client) = udp_viewer(&rig).await;
    for (label, ufrag) in (1..).zip(["Hnew", "Knew", "Lnew"]) {
        client.peer.restart(ufrag);
        let ours = rig.egress.restart_ice(viewer, ufrag).unwrap();
        assert_eq!(ours.candidates.len(), 2);
        client.peer.credentials(&ours.ufrag, &ours.pwd);
        let Wire::Udp(_, to) = client.wire else { panic!() };
        client.wire = Wire::udp(to).await;
        let answers = client.peer.received.answers;
        client.until("the new address is proven", |peer| peer.received.answers > answers).await;
        rig.frame(5, label == 1, label);
        client.sees(label).await;
    }
    assert!(matches!(rig.egress.restart_ice(viewer, "x\r\ny"), Err(RestartError::Offer(_))));
    rig.end().await;
}
