use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::tests::{call, get, router};
use super::*;
use crate::control::testing::{CAMERA, Rig};
use crate::ingest::{IngestStats, TrackStats};

/// The value of one sample.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(start_paused = true)]
async fn the_metrics_page_tells_what_the_api_tells() {
    let rig = Rig::new();
    let stream = rig.streaming().await;
    let _viewer = rig.add_viewer(stream).await.unwrap();
    let video = TrackStats { packets: 812, lost: 3, jitter_ms: 2.5, ..Default::default() };
    *rig.world.stats.lock().unwrap() = Some(IngestStats { video, remb: 2_500_000, ..Default::default() });
    let settings = ApiSettings::default();
    let api = api_router(rig.control.clone(), settings);
    for path in ["/nowhere/at/all", "/streams", "/streams"] {
        call(api.clone(), Method::GET, path, Body::empty()).await;
    }
    let answer = call(api, Method::GET, "/metrics", Body::empty()).await;
    assert_eq!(answer.status, StatusCode::OK);
    for (sample, expected) in [
        (format!("honeycast_ingest_packets_total{{camera=\"{CAMERA}\",medium=\"video\"}}"), 812.0),
        (format!("honeycast_ingest_lost_packets{{camera=\"{CAMERA}\",medium=\"video\"}}"), 3.0),
        (format!("honeycast_ingest_jitter_seconds{{camera=\"{CAMERA}\",medium=\"video\"}}"), 0.0025),
        (format!("honeycast_feedback_remb_bytes_per_second{{camera=\"{CAMERA}\"}}"), 312_500.0),
        (format!("honeycast_stream_viewers{{camera=\"{CAMERA}\"}}"), 1.0),
        ("honeycast_streams{state=\"active\"}".into(), 1.0),
        ("honeycast_viewers{connected=\"false\"}".into(), 1.0),
        ("honeycast_ingest_dropped_packets_total{reason=\"malformed_rtp\"}".into(), 1.0),
        ("honeycast_http_requests_total{route=\"/streams\",method=\"GET\",status=\"200\"}".into(), 2.0),
        ("honeycast_http_requests_total{route=\"none\",method=\"GET\",status=\"404\"}".into(), 1.0),
    ] {
        assert_eq!(value(&answer.text, &sample), Some(expected), "{sample} in\n{}", answer.text);
    }
    // What is not known is left out.
    assert!(!answer.text.contains("honeycast_ingest_last_keyframe_time_seconds"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_certificate_is_told_where_there_is_one() {
    let (rig, folder) = (Rig::new(), tempfile::tempdir().unwrap());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let settings = ApiSettings { certificates: Some(Certificates::load(files).unwrap()), ..Default::default() };
    let page = call(api_router(rig.control.clone(), settings), Method::GET, "/metrics", Body::empty()).await.text;
    // What rcgen writes when it is not told: the year 4096.
    assert_eq!(value(&page, "honeycast_certificate_expiry_time_seconds"), Some(67_090_118_400.0), "{page}");
    assert_eq!(value(&page, "honeycast_certificate_reload_failed"), Some(0.0));
    assert!(!get(&rig, "/metrics").await.text.contains("certificate"));
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_is_refused_is_counted_by_its_reason() {
    let rig = Rig::new();
    assert!(rig.add_viewer(crate::base::StreamId::random()).await.is_err());
    let page = get(&rig, "/metrics").await.text;
    assert_eq!(value(&page, "honeycast_viewers_refused_total{reason=\"no_stream\"}"), Some(1.0), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_log_filter_that_is_none_is_refused_with_the_reason() {
    let rig = Rig::new();
    for (body, words) in [
        ("", "the body must be"),
        ("{\"filter\": 7}", "the body must be"),
        ("{\"filter\": \"verbose\"}", "must be DEBUG"),
    ] {
        let answer = call(router(&rig), Method::PUT, "/log-filter", body.to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.body["error"].as_str().unwrap().contains(words), "{}", answer.body);
    }
    // Tests have no log of their own that could be changed.
    let answer = call(router(&rig), Method::PUT, "/log-filter", json!({"filter": "debug"}).to_string()).await;
    assert_eq!(answer.body["code"], "no_log");
}
