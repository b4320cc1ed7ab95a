//! The signaling socket: contract §6.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::page::{OTHER_OFFER, Page, viewer};
use crate::{CAMERA, OTHER_CAMERA, Site, http, until};

#[tokio::test(flavor = "multi_thread")]
async fn viewer_response_comes_first_then_candidates_on_any_path_from_any_origin_in_text_or_binary() {
    let site = Site::start(&[]);
    let stream = site.stream(CAMERA);
    let address = site.service.address("signaling");
    for (path, origin, binary) in
        [("/", None, false), ("/ws?x=1", Some("https://elsewhere.example"), false), ("/call/one", Some("null"), true)]
    {
        let mut page = Page::open_at(address, path, origin).await;
        let message = viewer(CAMERA, &stream).to_string();
        let message = if binary { Message::binary(message.into_bytes()) } else { Message::text(message) };
        page.say(message).await;
        let id = page.hear_answer().await;
        let viewers = site.get(&format!("/viewers/{CAMERA}")).json();
        assert!(viewers["viewers"].as_array().unwrap().iter().any(|viewer| viewer["viewer_id"] == id), "{viewers}");
    }
    until("closed sockets have ended their viewers", || site.viewer_count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_their_texts_and_leave_the_socket_open() {
    let site = Site::start(&[("MAX_VIEWERS_PER_STREAM", "1")]);
    let stream = site.stream(CAMERA);
    let mut page = site.page().await;
    let missing = "Missing required fields: cameraId, streamId, sdpOffer";
    let without = |key: &str| {
        let mut message = viewer(CAMERA, &stream);
        message.as_object_mut().unwrap().remove(key);
        message.to_string()
    };
    for (message, error) in [
        ("{".to_owned(), "Invalid JSON".to_owned()),
        ("[]".to_owned(), "Invalid JSON".to_owned()),
        (json!({"type": "x"}).to_string(), "Unknown message type: x".to_owned()),
        (without("cameraId"), missing.to_owned()),
        (without("streamId"), missing.to_owned()),
        (without("sdpOffer"), missing.to_owned()),
        (viewer(OTHER_CAMERA, &stream).to_string(), format!("No active stream found for camera {OTHER_CAMERA}")),
        (viewer("a/+/#", &stream).to_string(), "No active stream found for camera a/+/#".to_owned()),
    ] {
        page.say(message.clone()).await;
        assert_eq!(page.hear_error().await, error, "{message}");
        page.say(Message::binary(message.into_bytes())).await;
        assert_eq!(page.hear_error().await, error);
    }
    let other_stream = "0a1b2c3d-1111-4222-8333-444455556666";
    page.watch(CAMERA, other_stream).await;
    assert!(page.hear_error().await.contains(other_stream));
    page.say(json!({"type": "viewer", "cameraId": CAMERA, "streamId": stream, "sdpOffer": "v=0"}).to_string()).await;
    assert!(page.hear_error().await.starts_with("Invalid SDP offer: "));

    let mut only = site.page().await;
    only.watch(CAMERA, &stream).await;
    only.hear_answer().await;
    page.watch(CAMERA, &stream).await;
    assert_eq!(page.hear_error().await, "Maximum viewers (1) reached for stream");
    // The place becomes free, and the socket that was refused may have it.
    only.say(json!({"type": "stop"}).to_string()).await;
    assert_eq!(only.hear_close().await, 1000);
    until("the place is free", || site.viewer_count() == 0).await;
    page.watch(CAMERA, &stream).await;
    page.hear_answer().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_may_be_empty_local_or_nonsense_and_get_no_answer() {
    let site = Site::start(&[]);
    let stream = site.stream(CAMERA);
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    page.hear_answer().await;
    for candidate in [
        json!({"candidate": "", "sdpMid": "0", "sdpMLineIndex": 0}),
        json!({"candidate": "candidate:1 1 udp 2113937151 1b2c.local 50000 typ host", "sdpMid": "0", "sdpMLineIndex": 0}),
        json!({"candidate": "candidate:1 1 udp 2113937151 192.168.1.9 50000 typ host", "sdpMid": null}),
        json!({"candidate": "what?"}),
        Value::Null,
    ] {
        page.candidate(candidate).await;
    }
    page.say("{").await;
    assert_eq!(page.hear_error().await, "Invalid JSON", "the next answer is to the next message");
    assert_eq!(site.viewer_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_viewer_on_one_socket_replaces_the_first() {
    let site = Site::start(&[("MAX_VIEWERS_PER_STREAM", "1")]);
    let stream = site.stream(CAMERA);
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    let first = page.hear_answer().await;
    // The offer of another peer connection: of the same one it would restart ICE.
    let mut other = viewer(CAMERA, &stream);
    other["sdpOffer"] = OTHER_OFFER.into();
    page.say(other.to_string()).await;
    // More candidates of the first answer may be on their way.
    let second = loop {
        let message = page.hear().await;
        if message["type"] != "iceCandidate" {
            assert_eq!(message["type"], "viewerResponse", "{message}");
            break message["viewerId"].as_str().unwrap().to_owned();
        }
    };
    assert_ne!(first, second);
    let viewers = site.get("/viewers").json();
    assert_eq!((&viewers["count"], &viewers["viewers"][0]["viewer_id"]), (&json!(1), &json!(second)));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_closes_with_1000_and_a_closed_socket_ends_its_viewer() {
    let site = Site::start(&[]);
    let stream = site.stream(CAMERA);
    let (mut stops, mut closes) = (site.page().await, site.page().await);
    for page in [&mut stops, &mut closes] {
        page.watch(CAMERA, &stream).await;
        page.hear_answer().await;
    }
    stops.say(json!({"type": "stop"}).to_string()).await;
    assert_eq!(stops.hear_close().await, 1000);
    until("one viewer is left", || site.viewer_count() == 1).await;
    drop(closes);
    until("none is left", || site.viewer_count() == 0).await;
    // Without a viewer it closes too.
    let mut page = site.page().await;
    page.say(json!({"type": "stop"}).to_string()).await;
    assert_eq!(page.hear_close().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_ends_otherwise_is_told_and_a_stopped_stream_closes_its_sockets() {
    let site = Site::start(&[("VIEWER_CONNECT_TIMEOUT", "1")]);
    let stream = site.stream(CAMERA);
    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    page.hear_answer().await;
    // No media connection is made here; the socket is of use for another attempt.
    assert_eq!(page.hear_error().await, "No media connection was made in time");
    page.watch(CAMERA, &stream).await;
    let removed = page.hear_answer().await;
    let delete = http::call(site.service.address("api"), "DELETE", &format!("/viewers/{removed}"), &[], "");
    assert_eq!((delete.status, delete.text.as_str()), (204, ""));
    assert_eq!(page.hear_close().await, 1000);

    let mut page = site.page().await;
    page.watch(CAMERA, &stream).await;
    page.hear_answer().await;
    assert_eq!(site.post(&format!("/streams/{CAMERA}/stop"), "").status, 200);
    assert_eq!(page.hear_error().await, "Stream stopped");
    assert_eq!(page.hear_close().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_1_mib_is_read_and_a_longer_one_closes_with_1009() {
    let site = Site::start(&[]);
    let mut page = site.page().await;
    let padded = |length: usize| "{".to_owned() + &" ".repeat(length - 1);
    page.say(padded(1 << 20)).await;
    assert_eq!(page.hear_error().await, "Invalid JSON");
    page.try_to_say(padded((1 << 20) + 1)).await;
    assert_eq!(page.hear_close().await, 1009);
}
