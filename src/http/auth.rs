//! Who asks, and may they: before any handler, on every port.

use std::sync::Arc;
use std::time::SystemTime;

use axum::RequestPartsExt;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::error::ApiError;
use super::needs::{self, Need};
use crate::access::{Access, Credential, Denied, Forbidden, Grant, Role, credential};
use crate::base::{AllowedOrigins, CameraId};

/// What the gate knows.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) access: Access,
    pub(super) origins: AllowedOrigins,
}

/// Lets a request in, with its [`Grant`] as an extension, or says why not.
pub(super) async fn authorize(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match gate.grant(&mut parts).await {
        Ok(grant) => {
            parts.extensions.insert(grant);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refusal,
    }
}

impl Gate {
    async fn grant(&self, parts: &mut Parts) -> Result<Grant, Response> {
        if !self.access.is_on() {
            return Ok(Grant::everything());
        }
        // What matches no route gets its 404 without a credential.
        let need = parts.extensions.get::<MatchedPath>().map(|route| needs::of(&parts.method, route.as_str()));
        let granted = self.access.grant(self.credential(parts), SystemTime::now());
        let need = match need {
            None | Some(Need::Nothing) => return Ok(granted.unwrap_or_else(|_| Grant::nothing())),
            Some(need) => need,
        };
        let grant = granted.map_err(|denied| match need {
            Need::Page if wants_page(parts) => to_login(&parts.uri),
            _ => unauthorized(&denied),
        })?;
        let allowed = match need {
            Need::Nothing => Ok(()),
            Need::Page => grant.require(Role::View),
            Need::Role(role) => grant.require(role),
            Need::AllCameras(role) => {
                grant.require(role).and(if grant.sees_all() { Ok(()) } else { Err(Forbidden::AllCameras) })
            }
            Need::Camera(role) => match (grant.require(role), camera(parts).await) {
                (Ok(()), Some(camera)) => grant.require_camera(&camera),
                // What is no camera's id is refused by the handler, whoever asks.
                (role, _) => role,
            },
        };
        allowed.map_err(|forbidden| ApiError::forbidden(&forbidden).into_response())?;
        Ok(grant)
    }

    /// Where the request carries it, see [`credential::find`].
    pub(super) fn credential<'a>(&self, parts: &'a Parts) -> Option<Credential<'a>> {
        let text = |value: &'a HeaderValue| value.to_str().ok();
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(text);
        let cookies = parts.headers.get_all(header::COOKIE).iter().filter_map(text);
        credential::find(authorization, parts.uri.query(), cookies, self.is_own_page(&parts.headers))
    }

    /// Whether the request is from no page, or from one that may use the login.
    pub(super) fn is_own_page(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
        let Some(origin) = text(header::ORIGIN) else {
            return headers.get("sec-fetch-site").is_none_or(|site| site != "cross-site");
        };
        self.origins.trusts(origin, text(header::HOST))
    }
}

/// As the handler will see it: percent-decoded.
async fn camera(parts: &mut Parts) -> Option<CameraId> {
    let params = parts.extract::<RawPathParams>().await.ok()?;
    params.iter().find(|(name, _)| ["camera", "id"].contains(name)).and_then(|(_, text)| text.parse().ok())
}

/// A browser that goes to a page, not a script that fetches one.
fn wants_page(parts: &Parts) -> bool {
    let accepts = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    parts.method == Method::GET && accepts.is_some_and(|accept| accept.contains("text/html"))
}

/// Relative, as everything is that pages link to: there may be a path prefix in front.
fn to_login(uri: &Uri) -> Response {
    // The token of a link that is over would only be shown again.
    let query = uri.query().unwrap_or_default();
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("token=")).collect();
    let path = if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    let depth = uri.path().matches('/').count().saturating_sub(1);
    let up = if depth == 0 { "./".to_owned() } else { "../".repeat(depth) };
    let next: String = path
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    Redirect::to(&format!("{up}login?next={next}")).into_response()
}

/// RFC 6750 §3: without a credential only how to show one, else also what is wrong with it.
pub(super) fn unauthorized(denied: &Denied) -> Response {
    let challenge = match denied {
        Denied::Missing => "Bearer realm=\"honeycast\"".to_owned(),
        other => {
            let text: String = other
                .to_string()
                .chars()
                .filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c) || *c == ' ')
                .collect();
            format!("Bearer realm=\"honeycast\", error=\"invalid_token\", error_description=\"{text}\"")
        }
    };
    let challenge = HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Bearer"));
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], ApiError::unauthorized(denied)).into_response()
}
