//! Posting one event, again and again if need be.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Event;
use super::signature::Secret;

/// A receiver has this long for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Waits between the attempts, in seconds: some four minutes in all.
const RETRY_AFTER: [u64; 8] = [1, 2, 4, 8, 16, 32, 60, 120];

/// An `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Uri);

/// Why a text is no [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL such as https://example.com/events")]
pub struct InvalidUrl;

impl std::str::FromStr for Target {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.trim().parse().map_err(|_| InvalidUrl)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        if is_http && uri.host().is_some_and(|host| !host.is_empty()) { Ok(Self(uri)) } else { Err(InvalidUrl) }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver does not want it; asking again would not help.
    Refused,
    /// The receiver could not be reached in time.
    Failed,
}

pub(super) struct Delivery {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Target,
    secret: Secret,
}

impl Delivery {
    pub(super) fn new(target: Target, secret: Secret) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), target, secret })
    }

    /// Tries until the receiver has answered one way or the other, or the attempts are used up.
    pub(super) async fn deliver(&self, event: &Event) -> Outcome {
        let mut waits = RETRY_AFTER.iter();
        loop {
            let why = match tokio::time::timeout(ANSWER_WITHIN, self.post(event)).await {
                Ok(Ok(status)) if status.is_success() => return Outcome::Delivered,
                Ok(Ok(status)) if !is_passing(status) => {
                    tracing::warn!(event = event.id, %status, "the webhook's receiver refuses an event");
                    return Outcome::Refused;
                }
                Ok(Ok(status)) => status.to_string(),
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
            };
            let Some(wait) = waits.next() else {
                tracing::warn!(event = event.id, why, "an event was given up: the webhook's receiver does not take it");
                return Outcome::Failed;
            };
            tracing::debug!(event = event.id, why, "the webhook's receiver does not take an event; trying again");
            tokio::time::sleep(Duration::from_secs(*wait)).await;
        }
    }

    async fn post(&self, event: &Event) -> Result<StatusCode, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = Request::post(self.target.0.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("honeycast/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", self.secret.sign(&event.id, now, &event.body))
            .body(Full::from(event.body.clone()))
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await;
        response.map(|response| response.status()).map_err(|error| innermost(&error))
    }
}

/// Whether the same event may be welcome later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// "client error (Connect)" says nothing; what is behind it does.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
