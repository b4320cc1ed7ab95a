//! How much of the server one request may take: how often, how large, how slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::BODY_LIMIT;
use super::error::ApiError;
use crate::access::ClientLimits;

/// For a request's body to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Finds out who the client is, behind proxies too, and whether it asks too often.
pub(super) async fn clients(State(limits): State<Arc<ClientLimits>>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return next.run(request).await;
    };
    let headers = request.headers().get_all("x-forwarded-for").iter();
    let client = limits.client(peer.ip(), headers.filter_map(|value| value.to_str().ok()));
    if let Err(wait) = limits.take(client, Instant::now()) {
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        return ([(header::RETRY_AFTER, seconds)], ApiError::too_many_requests()).into_response();
    }
    request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, peer.port())));
    next.run(request).await
}

/// Takes in the body before the handler runs: in time, not too large, not compressed, of a type that could be meant.
pub(super) async fn bodies(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(refusal) = acceptable(&parts.headers) {
        return close(refusal);
    }
    let read = tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_LIMIT));
    match read.await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(error)) if is_too_large(&error) => close(ApiError::body_too_large()),
        Ok(Err(_)) => close(ApiError::bad_request("Body could not be read")),
        Err(_) => close(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("The body did not arrive within {} s", BODY_WITHIN.as_secs()),
        )),
    }
}

/// What the header already says. Old clients send JSON under many names, `curl -d` under that of a form.
fn acceptable(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    if text(header::CONTENT_ENCODING).is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity")) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "Bodies must not be compressed",
        ));
    }
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_LIMIT as u64) {
        return Err(ApiError::body_too_large());
    }
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = |kind: String| {
        let exact = [
            "",
            "application/octet-stream",
            "application/sdp",
            "application/trickle-ice-sdpfrag",
            "application/x-www-form-urlencoded",
            "text/plain",
        ];
        exact.contains(&kind.as_str()) || kind.ends_with("/json") || kind.ends_with("+json")
    };
    let has_body = length.is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING);
    if has_body && text(header::CONTENT_TYPE).is_some_and(|value| !known(essence(value))) {
        return Err(ApiError::unsupported_media_type("application/json"));
    }
    Ok(())
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit") {
            return true;
        }
        cause = error.source();
    }
    error.to_string().contains("length limit")
}

/// What is left of the body would be taken for the next request.
fn close(error: ApiError) -> Response {
    ([(header::CONNECTION, HeaderValue::from_static("close"))], error).into_response()
}
