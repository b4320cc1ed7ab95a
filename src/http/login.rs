//! The login of the pages: a token or key becomes a cookie that no script can read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::auth::{Gate, unauthorized};
use super::error::ApiError;
use super::{assets, streams};
use crate::access::credential::COOKIE;
use crate::access::{Credential, Grant};
use crate::base::time::iso8601;

pub(super) fn routes(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/login", get(assets::login_page).post(login))
        .route("/logout", post(logout))
        .route("/session", get(session))
        .with_state(gate)
}

/// `{"credential": "…"}`. JSON by name, so that no form of another site can log anybody in.
async fn login(
    State(gate): State<Arc<Gate>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let refuse = |error: ApiError| error.into_response();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.trim_start().starts_with("application/json")) {
        return Err(refuse(ApiError::unsupported_media_type("application/json")));
    }
    let body = streams::read_body(body).map_err(refuse)?;
    let body: Value =
        serde_json::from_slice(&body).map_err(|_| refuse(ApiError::bad_request("Body is not valid JSON")))?;
    let Some(text) = body.get("credential").and_then(Value::as_str) else {
        return Err(refuse(ApiError::bad_request("credential is missing")));
    };
    let now = SystemTime::now();
    let credential = Some(text.trim()).filter(|text| !text.is_empty()).map(Credential::Bearer);
    let grant = gate.access.grant(credential, now).map_err(|denied| unauthorized(&denied))?;
    let answer = Json(view(&grant, gate.access.is_on()));
    Ok(match gate.access.session(&grant, now) {
        Some((text, lifetime)) => ([(header::SET_COOKIE, cookie(&text, lifetime, &headers))], answer).into_response(),
        None => answer.into_response(),
    })
}

async fn logout(headers: HeaderMap) -> Response {
    (StatusCode::OK, [(header::SET_COOKIE, cookie("", Duration::ZERO, &headers))], Json(json!({ "success": true })))
        .into_response()
}

/// What the caller may do, so that pages offer nothing else.
async fn session(State(gate): State<Arc<Gate>>, Extension(grant): Extension<Grant>) -> Json<Value> {
    Json(view(&grant, gate.access.is_on()))
}

fn view(grant: &Grant, needed: bool) -> Value {
    json!({
        "auth_enabled": needed,
        "name": grant.name(),
        "role": grant.role().name(),
        "all_cameras": grant.sees_all(),
        "until": grant.until().map(iso8601),
    })
}

/// `Secure` follows the page's own address: browsers send it with every POST, also through a TLS proxy.
fn cookie(value: &str, lifetime: Duration, headers: &HeaderMap) -> HeaderValue {
    let secure = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lifetime.as_secs());
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("honeycast_session=; Max-Age=0"));
    value.set_sensitive(true);
    value
}
