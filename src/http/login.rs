//! The login of the pages: a token or key becomes a cookie that no script can read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Gate, unauthorized};
use super::document::{BadRequest, Refusal, TooLarge};
use super::error::ApiError;
use super::views::{Answer, Time};
use super::{assets, streams};
use crate::access::credential::COOKIE;
use crate::access::{Credential, Grant};

pub(super) fn routes() -> OpenApiRouter<Arc<Gate>> {
    OpenApiRouter::default().routes(routes!(assets::login_page, login)).routes(routes!(logout)).routes(routes!(session))
}

/// What the login takes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by hand, for refusals in words; here for the document")]
struct Login {
    /// A token or key.
    credential: String,
}

/// What the caller may do.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Whether access is controlled at all.
    auth_enabled: bool,
    name: String,
    #[schema(example = "view")]
    role: &'static str,
    all_cameras: bool,
    /// When it ends; `null`: never.
    #[schema(required)]
    until: Option<Time>,
}

/// Nobody is logged in any more.
#[derive(Serialize, ToSchema)]
struct LoggedOut {
    /// Always true.
    success: bool,
}

// JSON by name, so that no form of another site can log anybody in.
/// Makes a cookie of a token or key, for pages.
#[utoipa::path(post, path = "/login", operation_id = "logIn", tag = "access", request_body(content = Login),
    responses(
        (status = 200, description = "With the cookie, where access is controlled", body = Session),
        (status = 401, description = "No credential that counts", body = Refusal),
        (status = 415, description = "The body is not `application/json`", body = Refusal),
        BadRequest, TooLarge,
    ))]
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
    let answer = Answer(Session::new(&grant, gate.access.is_on()));
    Ok(match gate.access.session(&grant, now) {
        Some((text, lifetime)) => ([(header::SET_COOKIE, cookie(&text, lifetime, &headers))], answer).into_response(),
        None => answer.into_response(),
    })
}

/// Takes the cookie back.
#[utoipa::path(post, path = "/logout", operation_id = "logOut", tag = "access",
    responses((status = 200, description = "The cookie is over", body = LoggedOut)))]
async fn logout(headers: HeaderMap) -> Response {
    let over = cookie("", Duration::ZERO, &headers);
    (StatusCode::OK, [(header::SET_COOKIE, over)], Answer(LoggedOut { success: true })).into_response()
}

/// What the caller may do, so that pages offer nothing else.
#[utoipa::path(get, path = "/session", operation_id = "getSession", tag = "access",
    responses((status = 200, description = "The caller's rights", body = Session)))]
async fn session(State(gate): State<Arc<Gate>>, Extension(grant): Extension<Grant>) -> Answer<Session> {
    Answer(Session::new(&grant, gate.access.is_on()))
}

impl Session {
    fn new(grant: &Grant, auth_enabled: bool) -> Self {
        Self {
            auth_enabled,
            name: grant.name().to_owned(),
            role: grant.role().name(),
            all_cameras: grant.sees_all(),
            until: grant.until().map(Time::from),
        }
    }
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
