use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::control::testing::{CAMERA, Call, Mood, OTHER_CAMERA, Rig, settings};
use crate::control::{CloseReason, Settings};
use crate::egress::EgressEvent;
use crate::http::{ApiSettings, PageSettings, api_router};

const OFFER: &str = "v=0\r\na=ice-ufrag:EsAw\r\n";
const TRICKLE: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    a=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A server with one router, so that sessions live between the requests.
struct Site {
    rig: Rig,
    router: Router,
}

impl Site {
    fn new() -> Self {
        Self::with(Rig::new())
    }

    fn with(rig: Rig) -> Self {
        let server = |url: &str, login: Option<&str>| IceServer {
            urls: vec![url.into()],
            username: login.map(str::to_owned),
            credential: login.map(|_| "secret".to_owned()),
        };
        let ice_servers = vec![server("stun:stun.example", None), server("turn:turn.example", Some("user"))];
        let settings = ApiSettings { pages: PageSettings { ice_servers, ..Default::default() }, ..Default::default() };
        Self { router: api_router(rig.control.clone(), settings), rig }
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, text, body }
    }

    async fn offer(&self, camera: &str) -> Answer {
        self.call(Method::POST, &format!("/whep/{camera}"), &[("content-type", "application/sdp")], OFFER).await
    }

    async fn patch(&self, session: &str, if_match: Option<&str>, body: &str) -> Answer {
        let mut headers = vec![("content-type", "application/trickle-ice-sdpfrag")];
        headers.extend(if_match.map(|tag| ("if-match", tag)));
        self.call(Method::PATCH, session, &headers, body.to_owned()).await
    }

    async fn viewers(&self) -> usize {
        self.rig.control.viewers(None).await.unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn an_offer_gets_201_with_the_answer_the_session_and_the_ice_servers() {
    let site = Site::new();
    site.rig.streaming().await;
    let created = site.offer(CAMERA).await;
    assert_eq!((created.status, created.text.as_str()), (StatusCode::CREATED, "v=0\r\n"));
    assert_eq!(created.header("content-type"), "application/sdp");
    assert_eq!(created.header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert_eq!(created.header("cache-control"), "no-store");
    let etag = created.header("etag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 20, "a strong tag: {etag}");
    let links: Vec<_> = created.headers.get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    assert_eq!(links[0], "<stun:stun.example>; rel=\"ice-server\"");
    assert!(
        links[1].ends_with("; username=\"user\"; credential=\"secret\"; credential-type=\"password\""),
        "{links:?}"
    );
    for name in ["Location", "ETag", "Link"] {
        assert!(created.header("access-control-expose-headers").contains(name), "{name}");
    }
    let location = created.header("location");
    assert!(location.starts_with(&format!("/whep/{CAMERA}/")), "{location}");
    let viewers = site.rig.control.viewers(None).await.unwrap();
    assert!(!location.contains(&viewers[0].viewer_id.to_string()), "who lists viewers cannot end them");
    assert!(site.rig.world.calls().contains(&Call::AddViewer(viewers[0].viewer_id, OFFER.into())));
    let alive = site.call(Method::GET, location, &[], "").await;
    assert_eq!((alive.status, alive.text.as_str()), (StatusCode::NO_CONTENT, ""));
}

#[tokio::test(start_paused = true)]
async fn delete_ends_the_viewer_and_its_resource_whatever_if_match_says() {
    let site = Site::new();
    site.rig.streaming().await;
    let created = site.offer(CAMERA).await;
    let session = created.header("location").to_owned();
    let foreign = session.replace(CAMERA, OTHER_CAMERA);
    assert_eq!(site.call(Method::DELETE, &foreign, &[], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.viewers().await, 1);
    let ended = site.call(Method::DELETE, &session, &[("if-match", "\"old\"")], "").await;
    assert_eq!((ended.status, site.viewers().await), (StatusCode::OK, 0));
    for method in [Method::DELETE, Method::GET, Method::PATCH] {
        let gone = site.call(method, &session, &[], "").await;
        assert_eq!((gone.status, &gone.body["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_resource_dies_when_the_viewer_ends_by_itself() {
    let site = Site::new();
    site.rig.streaming().await;
    let session = site.offer(CAMERA).await.header("location").to_owned();
    let viewer = site.rig.control.viewers(None).await.unwrap()[0].viewer_id;
    site.rig.egress(EgressEvent::Closed { viewer, reason: CloseReason::StreamStopped }).await;
    // The session's own task hears of it at its next turn.
    tokio::task::yield_now().await;
    assert_eq!(site.call(Method::GET, &session, &[], "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn sessions_end_with_the_stream_and_leave_nothing_behind() {
    let rig = Rig::new();
    rig.streaming().await;
    let sessions = Sessions::default();
    let whep = Whep { control: rig.control.clone(), sessions: sessions.clone(), links: [].into() };
    let router = with(whep).layer(axum::Extension(crate::access::Grant::everything()));
    let site = Site { router, rig };
    for _ in 0..3 {
        assert_eq!(site.offer(CAMERA).await.status, StatusCode::CREATED);
    }
    assert_eq!(sessions.len(), 3);
    site.rig.control.stop_stream(CAMERA.parse().unwrap()).await.unwrap();
    site.rig.settle().await;
    tokio::task::yield_now().await;
    assert_eq!((sessions.len(), site.viewers().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn candidates_are_taken_with_the_sessions_etag_only() {
    let site = Site::new();
    site.rig.streaming().await;
    let created = site.offer(CAMERA).await;
    let (session, etag) = (created.header("location"), created.header("etag"));
    for tag in [etag, "*", &format!("\"other\", {etag}")] {
        let taken = site.patch(session, Some(tag), TRICKLE).await;
        assert_eq!((taken.status, taken.text.as_str()), (StatusCode::NO_CONTENT, ""));
        assert!(!taken.headers.contains_key("etag"), "none without a restart");
    }
    assert_eq!(site.patch(session, Some(etag), "a=end-of-candidates\r\n").await.status, StatusCode::NO_CONTENT);
    for (tag, status, code) in [
        (None, StatusCode::PRECONDITION_REQUIRED, "precondition_required"),
        (Some("\"other\""), StatusCode::PRECONDITION_FAILED, "precondition_failed"),
        (Some(&*format!("W/{etag}")), StatusCode::PRECONDITION_FAILED, "precondition_failed"),
    ] {
        let refused = site.patch(session, tag, TRICKLE).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &code.into()), "{tag:?}");
    }
    let junk = site.patch(session, Some(etag), "a=candidate:x").await;
    assert_eq!(
        (junk.status, &junk.body["error"]),
        (StatusCode::BAD_REQUEST, &"line 1 of the fragment: not a candidate".into())
    );
    let sdp =
        site.call(Method::PATCH, session, &[("content-type", "application/sdp"), ("if-match", "*")], TRICKLE).await;
    assert_eq!(sdp.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(sdp.header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert_eq!(site.viewers().await, 1, "no refusal ends the session");
}

#[tokio::test(start_paused = true)]
async fn new_credentials_restart_ice_and_begin_a_new_ice_session() {
    let site = Site::new();
    site.rig.streaming().await;
    let created = site.offer(CAMERA).await;
    let (session, first) = (created.header("location"), created.header("etag"));
    let restart = TRICKLE.replace("EsAw", "ysXw");
    assert_eq!(site.patch(session, None, &restart).await.status, StatusCode::PRECONDITION_REQUIRED);
    let restarted = site.patch(session, Some("*"), &restart).await;
    assert_eq!(
        (restarted.status, restarted.header("content-type")),
        (StatusCode::OK, "application/trickle-ice-sdpfrag")
    );
    for line in
        ["a=ice-lite", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", "a=ice-ufrag:to-ysXw", "a=end-of-candidates"]
    {
        assert!(restarted.text.lines().any(|l| l == line), "{line} is missing in {}", restarted.text);
    }
    let second = restarted.header("etag");
    assert!(!second.is_empty() && second != first);

    // Candidates of the ICE session before come too late; those of the new one are taken.
    assert_eq!(site.patch(session, Some(first), TRICKLE).await.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(site.patch(session, Some(second), &restart).await.status, StatusCode::NO_CONTENT);
    assert_eq!(site.viewers().await, 1, "the viewer is the same");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_is_refused_in_words() {
    let site = Site::new();
    let sdp = [("content-type", "application/sdp; charset=utf-8")];
    let post = async |camera: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        site.call(Method::POST, &format!("/whep/{camera}"), headers, body).await
    };
    let unknown = post(CAMERA, &sdp, OFFER.into()).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    site.rig.camera_connects(None).await;
    let silent = post(CAMERA, &sdp, OFFER.into()).await;
    assert_eq!((silent.status, silent.header("retry-after")), (StatusCode::CONFLICT, "5"));
    assert_eq!(silent.body["error"], format!("No active stream found for camera {CAMERA}"));
    let no_camera = post("x", &sdp, OFFER.into()).await;
    assert_eq!((no_camera.status, &no_camera.body["code"]), (StatusCode::BAD_REQUEST, &"invalid_camera_id".into()));

    site.rig.streaming().await;
    for headers in [&[][..], &[("content-type", "application/json")], &[("content-type", "application/sdpx")]] {
        let refused = post(CAMERA, headers, OFFER.into()).await;
        assert_eq!(
            (refused.status, refused.header("accept-post")),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/sdp")
        );
    }
    assert_eq!(post(CAMERA, &sdp, vec![b'a'; 1 << 20]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post(CAMERA, &sdp, vec![0xff]).await.status, StatusCode::BAD_REQUEST);
    *site.rig.world.egress.lock().unwrap() = Mood::Fails("no H.264");
    let refused = post(CAMERA, &sdp, OFFER.into()).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &"invalid_offer".into()));
    assert_eq!(refused.body["error"], "Invalid SDP offer: no H.264");
    *site.rig.world.egress.lock().unwrap() = Mood::Hangs;
    let slow = post(CAMERA, &sdp, OFFER.into()).await;
    assert_eq!((slow.status, slow.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "10"));
    assert_eq!(site.viewers().await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_viewer_limit_answers_503_with_retry_after() {
    let site = Site::with(Rig::with(Settings { max_viewers: 1, ..settings() }));
    site.rig.streaming().await;
    assert_eq!(site.offer(CAMERA).await.status, StatusCode::CREATED);
    let full = site.offer(CAMERA).await;
    assert_eq!((full.status, full.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "10"));
    assert_eq!(full.body["error"], "Maximum viewers (1) reached for stream");
}

#[tokio::test(start_paused = true)]
async fn an_offer_starts_the_stream_on_demand() {
    let site = Site::with(Rig::with(Settings { start_on_demand: true, ..settings() }));
    assert_eq!(site.offer(CAMERA).await.status, StatusCode::CREATED);
    assert_eq!(site.rig.control.streams().await.unwrap().len(), 1);
    *site.rig.world.broker.lock().unwrap() = Mood::Fails("not there");
    let refused = site.offer(OTHER_CAMERA).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    assert!(refused.body["error"].as_str().unwrap().contains("not there"), "{}", refused.text);
}

#[tokio::test(start_paused = true)]
async fn players_may_ask_what_this_is() {
    let site = Site::new();
    let endpoint = format!("/whep/{CAMERA}");
    for method in [Method::GET, Method::HEAD] {
        let probe = site.call(method, &endpoint, &[], "").await;
        assert_eq!((probe.status, probe.header("content-type")), (StatusCode::OK, "application/sdp"));
        assert_eq!(probe.text, "");
    }
    let preflight = [("origin", "https://page.example"), ("access-control-request-method", "POST")];
    for (headers, status) in [(&[][..], StatusCode::OK), (&preflight, StatusCode::NO_CONTENT)] {
        let options = site.call(Method::OPTIONS, &endpoint, headers, "").await;
        assert_eq!((options.status, options.header("accept-post")), (status, "application/sdp"));
    }
    let session = format!("{endpoint}/00000000-0000-4000-8000-000000000000");
    let options = site.call(Method::OPTIONS, &session, &preflight, "").await;
    assert_eq!(
        (options.status, options.header("accept-patch")),
        (StatusCode::NO_CONTENT, "application/trickle-ice-sdpfrag")
    );
    assert_eq!(options.header("access-control-allow-origin"), "https://page.example");
    for method in ["PATCH", "DELETE", "POST"] {
        assert!(options.header("access-control-allow-methods").contains(method), "{method}");
    }
    let odd = site.call(Method::PUT, &endpoint, &[], "").await;
    assert_eq!((odd.status, &odd.body["code"]), (StatusCode::METHOD_NOT_ALLOWED, &"method_not_allowed".into()));
    assert_eq!(site.rig.world.calls(), []);
}
