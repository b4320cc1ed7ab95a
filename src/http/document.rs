//! The API as an OpenAPI 3.1 document, made of the handlers that are registered and the types that they answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, Method, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, OpenApi, ToSchema};

use super::Api;
use super::needs::{self, Need};
use crate::base::{CameraId, SessionId, StreamId};

/// What stands above the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "honeycast",
        description = "Cameras, their streams and their viewers. Every refusal is JSON: `error` in words, `code` for \
            programs, sometimes `hint`. Every call answers within 10 s, but for streams of media and events. \
            Signaling (WebSocket) and MQTT are described in docs/integration.md.",
    ),
    tags(
        (name = "streams", description = "Start, stop and look at what cameras send"),
        (name = "viewers", description = "Who watches"),
        (name = "cameras", description = "What is known of cameras, their names and notes"),
        (name = "events", description = "What changes, and what has changed"),
        (name = "service", description = "How the service is"),
        (name = "access", description = "Where `AUTH_ENABLED` is set: who asks"),
        (name = "pages", description = "For browsers"),
    )
)]
pub(super) struct Document;

/// The text of the document. Clones share it.
#[derive(Clone)]
pub(super) struct DocumentText(Arc<str>);

impl DocumentText {
    /// With all its keys sorted, so that two versions can be compared.
    pub(super) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        // Strings under string keys: there is nothing that serde_json could refuse.
        let sorted = serde_json::to_value(document).unwrap_or_default();
        Self(serde_json::to_string_pretty(&sorted).unwrap_or_default().into())
    }

    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Adds to every operation what happens before its handler: who is let in (`needs`), how often, with which bodies.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A JWT or an API key, where `AUTH_ENABLED` is set. Pages have it as a cookie, sockets as `?token=`.",
    ));
    if let Some(components) = &mut document.components {
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
    }
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let need = needs::of(&method, path);
            let text = match need {
                Need::Nothing => None,
                Need::Page => Some("Needs the role `view`.".to_owned()),
                Need::Role(role) => Some(format!("Needs the role `{}`; shows cameras in its scope.", role.name())),
                Need::Camera(role) => Some(format!("Needs the role `{}` for this camera.", role.name())),
                Need::AllCameras(role) => Some(format!("Needs the role `{}` for all cameras.", role.name())),
            };
            if let Some(text) = text {
                let before = operation.description.take().map(|before| before + "\n\n").unwrap_or_default();
                operation.description = Some(before + &text);
                operation.security = Some(vec![SecurityRequirement::new(BEARER, [] as [&str; 0])]);
                refuse(operation, "401", "No credential that counts");
                refuse(operation, "403", "Not for this role or camera");
            }
            refuse(operation, "429", "Too many requests; Retry-After says when to ask again");
            if operation.request_body.is_some() {
                refuse(operation, "408", "The body did not arrive in time");
                refuse(operation, "415", "The body is compressed or of another type");
            }
        }
    }
}

const BEARER: &str = "bearer";

fn operations(item: &mut PathItem) -> Vec<(Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?))).collect()
}

/// Adds a refusal, unless the handler has said more about it.
fn refuse(operation: &mut Operation, status: &str, description: &str) {
    let refusal = || -> RefOr<Response> {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Refusal"))).build();
        ResponseBuilder::new().description(description).content("application/json", content).build().into()
    };
    operation.responses.responses.entry(status.to_owned()).or_insert_with(refusal);
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", tag = "pages",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(super) async fn json(State(api): State<Api>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], api.document.0.to_string())
}

/// The camera of a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes the parameter, which is read by hand for refusals in words")]
pub(super) struct CameraPath {
    /// The camera's id.
    camera: CameraId,
}

/// A refusal. The text of `error` is for people; programs go by `code`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refusal {
    #[schema(example = "No active stream for camera 56C1CADCF1FA4C6CAEBA3E2FD85EFEBF")]
    pub(super) error: String,
    #[schema(example = "not_found")]
    pub(super) code: &'static str,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub(super) hint: Option<&'static str>,
}

/// The refusal of a start, with the ids of what runs.
#[derive(Serialize, ToSchema)]
pub(super) struct AlreadyActive {
    #[serde(flatten)]
    refusal: Refusal,
    session_id: SessionId,
    stream_id: StreamId,
}

macro_rules! refusals {
    ($($(#[$meta:meta])* $name:ident { $($variant:ident: $status:literal, $text:literal;)+ })+) => {$(
        $(#[$meta])*
        #[derive(IntoResponses)]
        #[expect(dead_code, reason = "describes what `ApiError` writes")]
        pub(super) enum $name {
            $(#[response(status = $status, description = $text)] $variant(Refusal),)+
        }
    )+};
}

refusals! {
    /// Of calls that ask the control plane.
    Unanswered {
        Stopped: 503, "The service ends";
        Timeout: 504, "No answer in time";
    }
    /// The same for calls that have more to say of 503.
    TimedOut { Timeout: 504, "No answer in time"; }
    BadCamera { Id: 400, "No camera's id"; }
    BadViewer { Id: 400, "No viewer's id"; }
    BadRequest { Bad: 400, "The body or an id cannot be"; }
    NotFound { NotFound: 404, "There is none"; }
    TooLarge { Body: 413, "The body is larger than 64 KiB"; }
}
