//! Counts requests by route, method and status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry::metrics::{Collect, Histogram, Page, catalog};

/// Upper bounds in milliseconds: answers are a matter of milliseconds, starts wait for the broker.
const BOUNDS_MS: [u64; 8] = [1, 5, 10, 50, 100, 500, 2_500, 10_000];
/// The label of what no route takes: paths of strangers must not become labels.
const NO_ROUTE: &str = "none";

/// Requests answered since the start. Bounded by routes, methods and status codes.
#[derive(Debug)]
pub struct RequestCounters {
    answered: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    duration: Histogram<8>,
}

impl Default for RequestCounters {
    fn default() -> Self {
        Self { answered: Mutex::default(), duration: Histogram::with_bounds_ms(BOUNDS_MS) }
    }
}

impl Collect for RequestCounters {
    fn collect(&self, page: &mut Page) {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, method, status), count) in &*answered {
            page.count(&catalog::HTTP_REQUESTS, &[route, method, &status.to_string()], *count);
        }
        page.distribution(&catalog::HTTP_DURATION, &[], &self.duration.snapshot());
    }
}

/// Counts a request when its answer begins.
pub(super) async fn count(State(counters): State<Arc<RequestCounters>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    counters.duration.record(begun.elapsed());
    let mut answered = counters.answered.lock().unwrap_or_else(PoisonError::into_inner);
    *answered.entry((route, method, response.status().as_u16())).or_default() += 1;
    response
}

fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
