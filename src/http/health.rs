//! `GET /health`.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Api;
use crate::base::time::iso8601;
use crate::control::{BrokerStatus, Health};

/// Always 200: what is wrong stands in the body. A new certificate that cannot be used does not make it degraded:
/// the earlier one serves, and who restarts what is degraded would not get it back.
pub(super) async fn health(State(api): State<Api>) -> Json<Value> {
    let health = api.control.health().await.unwrap_or_else(|unavailable| Health {
        media_up: false,
        broker: BrokerStatus::Disconnected { reason: unavailable.to_string() },
        active_streams: 0,
        failing_keepalives: (0, None),
        total_viewers: 0,
        cameras_known: 0,
        cameras_online: 0,
        camera_store: None,
    });
    let mut reasons = Vec::new();
    if !health.media_up {
        reasons.push("the media engine is down".to_owned());
    }
    if let BrokerStatus::Disconnected { reason } = &health.broker {
        reasons.push(format!("the MQTT broker is not connected: {reason}"));
    } else if let (streams @ 1.., Some(why)) = &health.failing_keepalives {
        reasons.push(format!("the MQTT broker does not take the keepalives of {streams} streams: {why}"));
    }
    Json(json!({
        "status": if reasons.is_empty() { "healthy" } else { "degraded" },
        "timestamp": iso8601(SystemTime::now()),
        "kurento_connected": health.media_up,
        "mqtt_connected": health.broker == BrokerStatus::Connected,
        "active_streams": health.active_streams,
        "total_viewers": health.total_viewers,
        "cameras_known": health.cameras_known,
        "cameras_online": health.cameras_online,
        "camera_store": health.camera_store.map(|store| json!({
            "unsaved": store.unsaved,
            "failed_writes": store.failed_writes,
            "last_failure": store.last_failure,
        })),
        "certificate": api.certificates.as_ref().map(|certificates| {
            let state = certificates.state();
            json!({
                "loaded_at": iso8601(state.loaded_at),
                "reloads": state.reloads,
                "failure": state.failure,
            })
        }),
        "version": env!("CARGO_PKG_VERSION"),
        "reasons": reasons,
    }))
}
