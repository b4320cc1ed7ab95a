use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode, header};
use tower::ServiceExt;

use super::tests::{call, get, router};
use super::{ApiSettings, api_router};
use crate::access::{Access, CameraScope, Grant, Role, TokenSettings, create_token};
use crate::control::testing::{CAMERA, Rig, camera, settings};
use crate::control::{LiveClient, LiveFrames, Settings};
use crate::media::{ClockPoint, Codec, ExtSeq, Frame, FramePacket, RtpTime};

/// SPS (320 × 240) and PPS in one packet, an IDR slice in the next; or a slice that needs it.
fn frame(number: u64, key: bool) -> Arc<Frame> {
    let sps =
        [0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4, 0x40, 0, 0, 0x03, 0, 0x40, 0, 0, 0x0c, 0x83, 0xc5, 0x0a, 0xa8];
    let sets = [&[0x78, 0, sps.len() as u8][..], &sps, &[0, 4, 0x68, 0xce, 0x0f, 0xc8]].concat();
    let payloads = if key { vec![sets, vec![0x65, 0x88, 1]] } else { vec![vec![0x41, 0x9a, 1]] };
    let last = payloads.len() - 1;
    let packet = |(index, payload): (usize, Vec<u8>)| FramePacket {
        seq: ExtSeq(number + index as u64 + u64::from(!key)),
        marker: index == last,
        payload: payload.into(),
    };
    let (at, rtp) = (Instant::now(), RtpTime(number * 3_600));
    Arc::new(Frame {
        codec: Codec::H264,
        time: rtp,
        starts_keyframe: key,
        packets: payloads.into_iter().enumerate().map(packet).collect(),
        arrived: at,
        clock: ClockPoint { at, rtp, rate: 90_000 },
    })
}

#[tokio::test(start_paused = true)]
async fn the_last_keyframe_is_a_file_of_its_own() {
    let rig = Rig::new();
    rig.streaming().await;
    *rig.world.frames.lock().unwrap() = vec![frame(0, true), frame(1, false)];
    let request = Request::get(format!("/streams/{CAMERA}/keyframe.mp4")).body(Body::empty()).unwrap();
    let response = router(&rig).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "video/mp4; codecs=\"avc1.42C00D\"");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(&body[4..8], b"ftyp");
}

#[tokio::test(start_paused = true)]
async fn without_a_keyframe_and_without_a_stream_the_answer_says_so() {
    let rig = Rig::new();
    for file in ["keyframe.mp4", "live.mp4"] {
        let answer = get(&rig, &format!("/streams/{CAMERA}/{file}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    }
    rig.streaming().await;
    *rig.world.frames.lock().unwrap() = vec![frame(1, false)];
    for file in ["keyframe.mp4", "live.mp4"] {
        let answer = get(&rig, &format!("/streams/{CAMERA}/{file}")).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"no_keyframe".into()));
    }
    let answer = call(router(&rig), Method::GET, "/streams/nonsense/keyframe.mp4", Body::empty()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_live_mp4_has_head_and_pictures_and_ends_with_the_stream() {
    let rig = Rig::new();
    rig.streaming().await;
    *rig.world.frames.lock().unwrap() = vec![frame(0, true), frame(1, false), frame(2, false)];
    let request = Request::get(format!("/streams/{CAMERA}/live.mp4")).body(Body::empty()).unwrap();
    let response = router(&rig).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(body.windows(4).filter(|kind| kind == b"moof").count(), 2);
}

async fn watched(rig: &Rig) -> usize {
    rig.control.health().await.unwrap().total_viewers
}

#[tokio::test(start_paused = true)]
async fn who_watches_mp4_counts_as_a_viewer_and_who_takes_a_still_does_not() {
    let rig = Rig::with(Settings { max_viewers: 1, ..settings() });
    rig.streaming().await;
    let _glance = rig.control.glance(camera()).await.unwrap();
    assert_eq!(watched(&rig).await, 0);
    let live: LiveFrames = rig.control.watch_frames(camera(), LiveClient::default()).await.unwrap();
    assert_eq!(watched(&rig).await, 1);
    let refused = get(&rig, &format!("/streams/{CAMERA}/live.mp4")).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"too_many_viewers".into()));
    drop(live);
    while watched(&rig).await > 0 {
        tokio::task::yield_now().await;
    }
}

/// A stream whose camera goes silent after three pictures, but that does not end.
async fn silent_stream() -> Rig {
    let rig = Rig::new();
    rig.streaming().await;
    *rig.world.frames.lock().unwrap() = vec![frame(0, true), frame(1, false), frame(2, false)];
    *rig.world.open_taps.lock().unwrap() = Some(Vec::new());
    rig
}

/// Begins to watch; gives the task that reads until the end, with the bytes as its result.
async fn watch(router: Router, query: &str) -> tokio::task::JoinHandle<usize> {
    let request = Request::get(format!("/streams/{CAMERA}/live.mp4{query}"))
        .extension(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 4711))))
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    tokio::spawn(async { axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().len() })
}

#[tokio::test(start_paused = true)]
async fn a_viewer_without_webrtc_has_figures_and_can_be_removed() {
    let rig = silent_stream().await;
    let reading = watch(router(&rig), "").await;
    let viewer = loop {
        let viewers = get(&rig, &format!("/viewers/{CAMERA}")).await.body;
        assert_eq!(viewers["count"], 1);
        // The head and two fragments: the last picture waits for the next, to know how long it lasts.
        if viewers["viewers"][0]["stats"]["packets"] == 3 {
            break viewers["viewers"][0].clone();
        }
        tokio::task::yield_now().await;
    };
    let stats = &viewer["stats"];
    assert_eq!((&stats["protocol"], &stats["remote"]), (&"http".into(), &"192.0.2.7:4711".into()), "{viewer}");
    assert!(viewer["connected"] == true && stats["first_keyframe_ms"].is_u64(), "{viewer}");
    let bytes = stats["bytes"].as_u64().unwrap();
    let page = get(&rig, "/metrics").await.text;
    for line in [
        "honeycast_viewers_by_protocol{protocol=\"http\"} 1".to_owned(),
        format!("honeycast_egress_mp4_bytes_total {bytes}"),
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    assert!(!reading.is_finished());

    let path = format!("/viewers/{}", viewer["viewer_id"].as_str().unwrap());
    assert_eq!(call(router(&rig), Method::DELETE, &path, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(reading.await.unwrap() as u64, bytes, "what was read is what was counted, and its end");
    assert_eq!(watched(&rig).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_live_mp4_ends_with_the_credential_also_while_the_camera_is_silent() {
    const SECRET: &str = "a secret that is long enough for HS256, 42";
    let rig = silent_stream().await;
    let tokens = TokenSettings { secret: Some(SECRET.to_owned()), ..TokenSettings::default() };
    let settings = ApiSettings { access: Access::new(Vec::new(), &tokens).unwrap(), ..ApiSettings::default() };
    let until = SystemTime::now() + Duration::from_secs(100);
    let grant = Grant::new("x", Role::View, CameraScope::all(), Some(until));
    let token = create_token(SECRET, &grant, until).unwrap();
    let begun = tokio::time::Instant::now();
    let reading = watch(api_router(rig.control.clone(), settings), &format!("?token={token}")).await;
    assert!(reading.await.unwrap() > 0);
    let watched_for = begun.elapsed().as_secs();
    assert!((90..=100).contains(&watched_for), "{watched_for} s");
    assert_eq!(watched(&rig).await, 0);
}
