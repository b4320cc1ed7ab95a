//! Every route with every kind of credential.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::needs::{self, Need};
use super::*;
use crate::access::{Access, ApiKey, Role, TokenSettings, keys};
use crate::base::AllowedOrigins;
use crate::control::testing::{CAMERA, OTHER_CAMERA, Rig};

const HOST: &str = "cam.example:8080";

/// A site where access is controlled, and somebody of every kind.
struct Site {
    rig: Rig,
    settings: ApiSettings,
    people: Vec<Person>,
}

struct Person {
    name: &'static str,
    key: String,
    may: Judge,
}

/// What is expected for a need, on the own camera or another.
type Judge = fn(Need, bool) -> StatusCode;

/// Stands for whatever the handler answers.
const IN: StatusCode = StatusCode::OK;
const NO: StatusCode = StatusCode::FORBIDDEN;
const WHO: StatusCode = StatusCode::UNAUTHORIZED;

fn role_of(need: Need) -> Option<Role> {
    match need {
        Need::Nothing => None,
        Need::Page => Some(Role::View),
        Need::Role(role) | Need::Camera(role) | Need::AllCameras(role) => Some(role),
    }
}

fn up_to(role: Role, need: Need) -> StatusCode {
    if role_of(need).is_none_or(|needed| role >= needed) { IN } else { NO }
}

/// Who may see one camera only; `own` says whether the path names it.
fn scoped(need: Need, own: bool) -> StatusCode {
    match need {
        Need::Camera(_) if !own => NO,
        Need::AllCameras(_) => NO,
        _ => IN,
    }
}

fn nobody(need: Need, _own: bool) -> StatusCode {
    if need == Need::Nothing { IN } else { WHO }
}

impl Site {
    fn new() -> Self {
        let kinds: [(&str, String, Judge); 6] = [
            ("admin", "admin:*".into(), |need, _| up_to(Role::Admin, need)),
            ("control", "control:*".into(), |need, _| up_to(Role::Control, need)),
            ("view", "view:*".into(), |need, _| up_to(Role::View, need)),
            ("admin of one camera", format!("admin:{CAMERA}"), scoped),
            ("key that has ended", "admin:*".into(), nobody),
            ("key that nobody knows", String::new(), nobody),
        ];
        let mut people = vec![Person { name: "nobody", key: String::new(), may: nobody }];
        let mut configured = Vec::new();
        for (name, rights, may) in kinds {
            let key = keys::create();
            let end = if name.contains("ended") { ":2020-01-01T00:00:00Z" } else { "" };
            if !rights.is_empty() {
                configured.push(format!("x:{rights}:{}{end}", keys::hash(&key)).parse::<ApiKey>().unwrap());
            }
            people.push(Person { name, key, may });
        }
        let access = Access::new(configured, &TokenSettings::default()).unwrap();
        let allowed_origins = AllowedOrigins::any().with_own_ports([5000, 8080]);
        Self { rig: Rig::new(), settings: ApiSettings { access, allowed_origins, ..ApiSettings::default() }, people }
    }

    fn key(&self, name: &str) -> &str {
        &self.people.iter().find(|person| person.name == name).unwrap().key
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Value) {
        // Both ports have the same table.
        let (api, dashboard) =
            (api_router(self.rig.control.clone(), self.settings.clone()), dashboard_router(self.settings.clone()));
        let (parts, _) = request.into_parts();
        let mut answer = None;
        for router in [api, dashboard] {
            let mut request = Request::builder().method(parts.method.clone()).uri(parts.uri.clone());
            *request.headers_mut().unwrap() = parts.headers.clone();
            let found = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let known = found.status() != StatusCode::NOT_FOUND;
            answer = Some(found);
            if known {
                break;
            }
        }
        let (parts, body) = answer.unwrap().into_parts();
        // Events never end, and files are of no interest here.
        let is_json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        let bytes = if is_json { to_bytes(body, 1 << 20).await.unwrap() } else { Default::default() };
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn ask(&self, method: &Method, path: &str, key: &str) -> (StatusCode, axum::http::HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", HOST);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn log_in(&self, key: &str, origin: &str) -> (StatusCode, String, Value) {
        let body = json!({ "credential": key }).to_string();
        let request = Request::post("/login")
            .header("host", HOST)
            .header("origin", origin)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = dashboard_router(self.settings.clone()).oneshot(request).await.unwrap();
        let cookie = answer.headers().get(header::SET_COOKIE).map(|c| c.to_str().unwrap().to_owned());
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        (status, cookie.unwrap_or_default(), serde_json::from_slice(&body).unwrap())
    }
}

fn path(route: &str, camera: &str) -> String {
    route.replace("{camera}", camera).replace("{id}", camera).replace("{session}", "x").replace("{*path}", "style.css")
}

#[tokio::test(start_paused = true)]
async fn every_route_lets_in_whom_the_table_says_and_nobody_else() {
    let site = Site::new();
    for (method, route, need) in needs::table() {
        for person in &site.people {
            for camera in [CAMERA, OTHER_CAMERA] {
                let (status, headers, body) = site.ask(method, &path(route, camera), &person.key).await;
                let expected = (person.may)(*need, camera == CAMERA);
                let what = format!("{} {method} {route} of {camera}: {status} {body}", person.name);
                if status == StatusCode::NOT_FOUND && body["error"] == "Not found" {
                    // A route of another configuration: nothing is behind it.
                    continue;
                }
                let refused = [WHO, NO].contains(&status) && *route != "/login";
                assert_eq!(if refused { status } else { IN }, if *route == "/login" { IN } else { expected }, "{what}");
                if status == WHO {
                    assert!(headers.contains_key(header::WWW_AUTHENTICATE), "{what}");
                }
                if refused {
                    assert!(body["error"].is_string() && body["code"].is_string(), "{what}");
                }
            }
        }
    }
}

/// The paths and methods that the sources register.
#[test]
fn every_route_that_is_registered_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut left = vec![folder];
    let mut routes = BTreeSet::new();
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if !path.to_str().unwrap().ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                for rest in text.split(".route(").skip(1) {
                    let literal = rest.trim_start().strip_prefix('"').expect("routes are literals");
                    routes.insert(literal.split('"').next().unwrap().to_owned());
                }
            }
        }
    }
    // The others are registered by what the document is made of.
    routes.extend(document().paths.paths.into_keys());
    assert!(routes.len() >= 15, "{routes:?}");
    let table: BTreeSet<String> = needs::table().iter().map(|(_, route, _)| (*route).to_owned()).collect();
    let missing: Vec<_> = routes.difference(&table).collect();
    assert!(missing.is_empty(), "src/http/needs.rs does not say who may use {missing:?}");
}

#[tokio::test(start_paused = true)]
async fn every_method_that_a_route_takes_is_in_the_table() {
    let rig = Rig::new();
    let open = ApiSettings::default();
    let listed: BTreeSet<&str> = needs::table().iter().map(|(_, route, _)| *route).collect();
    for route in listed {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let in_table = needs::table().iter().any(|(m, r, _)| (m, *r) == (&method, route));
            for router in [api_router(rig.control.clone(), open.clone()), dashboard_router(open.clone())] {
                let request = Request::builder().method(&method).uri(path(route, CAMERA)).body(Body::empty()).unwrap();
                let status = router.oneshot(request).await.unwrap().status();
                let taken = ![StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_FOUND].contains(&status);
                assert!(in_table || !taken, "{method} {route}: {status}");
            }
        }
    }
    assert_eq!(needs::of(&Method::DELETE, "/streams"), Need::AllCameras(Role::Admin));
    assert_eq!(needs::of(&Method::GET, "/new"), Need::AllCameras(Role::Admin));
}

#[tokio::test(start_paused = true)]
async fn lists_are_shortened_to_the_cameras_of_the_grant() {
    let site = Site::new();
    for camera in [CAMERA, OTHER_CAMERA] {
        site.rig.control.start_stream(camera.parse().unwrap(), Default::default()).await.unwrap();
    }
    for (who, count) in [("view", 2), ("admin of one camera", 1)] {
        for (list, name) in [("/streams", "streams"), ("/cameras", "cameras")] {
            let (_, _, body) = site.ask(&Method::GET, list, site.key(who)).await;
            assert_eq!((&body["count"], body[name].as_array().unwrap().len()), (&json!(count), count), "{body}");
            let seen = body[name].as_array().unwrap().iter().any(|item| item["camera_id"] == CAMERA);
            assert!(seen, "{body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_camera_in_disguise_is_the_camera_that_it_is() {
    let site = Site::new();
    let disguised = OTHER_CAMERA.replacen(&OTHER_CAMERA[..1], &format!("%{:02X}", OTHER_CAMERA.as_bytes()[0]), 1);
    let key = site.key("admin of one camera");
    assert_eq!(site.ask(&Method::GET, &format!("/streams/{disguised}"), key).await.0, NO);
    for odd in ["/streams//", "/streams/%2e%2e/health", "/static/../../etc/passwd", "/static/..%2f..%2fCargo.toml"] {
        let (status, _, body) = site.ask(&Method::GET, odd, key).await;
        assert!(status.is_client_error(), "{odd}: {status} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_in_the_query_opens_pages_and_a_browser_without_one_is_sent_to_the_login() {
    let site = Site::new();
    let page = |uri: String| Request::get(uri).header("accept", "text/html,*/*").body(Body::empty()).unwrap();
    let (status, _, _) = site.send(page(format!("/viewer?camera={CAMERA}&token={}", site.key("view")))).await;
    assert_eq!(status, StatusCode::OK);
    for (uri, to) in [
        (format!("/viewer?camera={CAMERA}&token=wrong"), format!("./login?next=/viewer%3Fcamera%3D{CAMERA}")),
        ("/".to_owned(), "./login?next=/".to_owned()),
        ("/livestream/viewer?x=%22".to_owned(), "../login?next=/livestream/viewer%3Fx%3D%2522".to_owned()),
    ] {
        let (status, headers, _) = site.send(page(uri)).await;
        assert_eq!((status, headers[header::LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, to.as_str()));
    }
    let (status, headers, body) = site.ask(&Method::GET, "/viewer", "wrong").await;
    assert_eq!((status, &body["error"]), (WHO, &json!("The key is not known")));
    let challenge = headers[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("The key is not known"), "{challenge}");
}

#[tokio::test(start_paused = true)]
async fn a_login_gives_a_cookie_that_works_for_our_pages_only() {
    let site = Site::new();
    let (status, cookie, body) = site.log_in(site.key("control"), "http://cam.example:5000").await;
    assert_eq!((status, &body["role"]), (StatusCode::OK, &json!("control")));
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Max-Age=43200") && !cookie.contains("Secure"), "{cookie}");
    let (_, secure, _) = site.log_in(site.key("control"), "https://cam.example").await;
    assert!(secure.ends_with("; Secure"), "{secure}");
    assert!(!cookie.contains(site.key("control")), "the key itself is not in it");

    let cookie = cookie.split(';').next().unwrap();
    let ask = |origin: Option<&str>, site: Option<&str>| {
        let mut request = Request::get("/session").header("host", HOST).header("cookie", cookie);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        request.body(Body::empty()).unwrap()
    };
    for (origin, fetch, expected) in [
        (None, None, StatusCode::OK),
        (None, Some("same-origin"), StatusCode::OK),
        (Some("http://cam.example:5000"), None, StatusCode::OK),
        (Some("http://cam.example:8080"), None, StatusCode::OK),
        (Some("http://evil.example"), None, WHO),
        (Some("http://cam.example:6666"), None, WHO),
        (None, Some("cross-site"), WHO),
    ] {
        let (status, _, body) = site.send(ask(origin, fetch)).await;
        assert_eq!(status, expected, "{origin:?} {fetch:?} {body}");
    }
    let (status, cookie, body) = site.log_in("wrong", "http://cam.example:5000").await;
    assert_eq!((status, cookie.as_str(), &body["code"]), (WHO, "", &json!("unauthorized")));
    let form = Request::post("/login").header("content-type", "text/plain").body(Body::from("{}")).unwrap();
    let answer = dashboard_router(site.settings.clone()).oneshot(form).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, headers, _) = site.ask(&Method::POST, "/logout", "").await;
    assert!(status == StatusCode::OK && headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test(start_paused = true)]
async fn a_preflight_needs_no_credential_and_a_refusal_can_be_read_by_pages() {
    let site = Site::new();
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri(format!("/streams/{CAMERA}/start"))
        .header("origin", "http://cam.example:5000")
        .header("access-control-request-method", "POST")
        .body(Body::empty())
        .unwrap();
    let (status, headers, _) = site.send(preflight).await;
    assert!(status.is_success() && headers.contains_key("access-control-allow-methods"));
    let request = Request::get("/streams").header("origin", "http://cam.example:5000").body(Body::empty()).unwrap();
    let (status, headers, _) = site.send(request).await;
    assert_eq!((status, headers["access-control-allow-origin"].to_str().unwrap()), (WHO, "http://cam.example:5000"));
}
