use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::tests::{call, get, keys};
use super::*;
use crate::control::BrokerStatus;
use crate::control::testing::{CAMERA, Rig};

#[tokio::test(start_paused = true)]
async fn readiness_begins_with_the_end_of_the_start_and_ends_with_the_service_but_not_with_the_broker() {
    let rig = Rig::new();
    let settings = ApiSettings::default();
    let ask = async || {
        let answer =
            call(api_router(rig.control.clone(), settings.clone()), Method::GET, "/ready", Body::empty()).await;
        (answer.status, answer.body)
    };
    let (status, body) = ask().await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
    settings.ready.set();
    assert_eq!(ask().await, (StatusCode::OK, json!({ "ready": true })));
    rig.broker_status.send_replace(BrokerStatus::Disconnected { reason: "refused".into() });
    assert_eq!(ask().await.0, StatusCode::OK);
    rig.shutdown.request();
    rig.shutdown.drained().await;
    let (status, body) = ask().await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("shutting_down")));
}

#[tokio::test(start_paused = true)]
async fn a_viewer_is_removed_once_and_ids_that_are_none_are_refused() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let mut viewer = rig.add_viewer(stream).await.unwrap();
    let path = format!("/viewers/{}", viewer.viewer_id);
    let delete = async |path: &str| {
        let router = api_router(rig.control.clone(), ApiSettings::default());
        call(router, Method::DELETE, path, Body::empty()).await
    };
    let removed = delete(&path).await;
    assert_eq!((removed.status, removed.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(viewer.closed().await, crate::control::CloseReason::Left);
    assert_eq!(get(&rig, "/viewers").await.body["count"], 0);
    let again = delete(&path).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    for bad in [CAMERA, "x", "%FF"] {
        let refused = delete(&format!("/viewers/{bad}")).await;
        // The camera's id is no viewer's, although 32 hex digits could be one.
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(refused.body["code"], "invalid_viewer_id");
    }
}

#[tokio::test(start_paused = true)]
async fn the_version_is_told() {
    let answer = get(&Rig::new(), "/version").await;
    assert_eq!((answer.status, keys(&answer.body)), (StatusCode::OK, vec!["commit", "features", "version"]));
    assert_eq!(answer.body["version"], env!("CARGO_PKG_VERSION"));
}
