//! CORS: pages on other ports and hosts call the API (contract §5).

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::whep;
use crate::base::AllowedOrigins;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// Seconds that a browser may remember a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const DEFAULT_HEADERS: HeaderValue = HeaderValue::from_static("content-type, authorization");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const VARY: HeaderValue = HeaderValue::from_static("Origin");

/// Answers preflights and lets pages of allowed origins read answers. What a page of another origin asks to be changed is
/// not: browsers send simple requests without a preflight, and only keep the answer from the page.
pub(super) async fn cors(State(allowed): State<AllowedOrigins>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = headers.get(header::ORIGIN);
    let is_named = named.is_some();
    let origin = named.filter(|o| o.to_str().is_ok_and(|text| allowed.allows(text, host))).cloned();
    let preflight = request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let wished = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();

    let mut response = match preflight {
        true => (StatusCode::NO_CONTENT, whep::accepts(request.uri().path())).into_response(),
        false if is_named && origin.is_none() && !request.method().is_safe() => {
            let error = ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", "Pages of this origin may not call");
            error.hint("api.allowed_origins names those that may").into_response()
        }
        false => next.run(request).await,
    };
    let mut set = |name: HeaderName, value| response.headers_mut().insert(name, value);
    // Without this a shared cache could hand one origin's answer to another.
    set(header::VARY, VARY);
    if let Some(origin) = origin {
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        if preflight {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            set(header::ACCESS_CONTROL_ALLOW_HEADERS, wished.unwrap_or(DEFAULT_HEADERS));
            set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        }
    }
    response
}
