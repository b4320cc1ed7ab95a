//! WHEP: a viewer by one HTTP request (draft-ietf-wish-whep; the parts shared with WHIP are RFC 9725).
//!
//! The server is ICE-lite and has all its candidates in the answer. Candidates of the viewer are taken and not
//! needed: its address is learned from its checks (RFC 8445 §2.5).

mod links;
mod sessions;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::sessions::{Key, Session, Sessions};
use super::document::{BadCamera, BadRequest, CameraPath, NotFound, Refusal, TimedOut, TooLarge, Unanswered};
use super::error::ApiError;
use super::sdpfrag::{self, Credentials, Fragment};
use super::settings::IceServer;
use super::streams::{camera_id, read_body};
use crate::access::Grant;
use crate::base::CameraId;
use crate::control::{AddViewerError, Control, NewViewer, RestartError};

const SDP: HeaderValue = HeaderValue::from_static("application/sdp");
const FRAGMENT: HeaderValue = HeaderValue::from_static("application/trickle-ice-sdpfrag");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// What pages of other origins may read beside the body.
const EXPOSED: HeaderValue = HeaderValue::from_static("Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch");
/// When a player may ask again, in seconds: for a camera that does not stream, and for a place or an engine.
const RETRY_STREAM: HeaderValue = HeaderValue::from_static("5");
const RETRY_PLACE: HeaderValue = HeaderValue::from_static("10");

#[derive(Clone)]
pub(super) struct Whep {
    control: Control,
    sessions: Sessions,
    links: std::sync::Arc<[HeaderValue]>,
}

/// `/whep/{camera}` and the sessions below it.
pub(super) fn router(control: Control, ice_servers: &[IceServer]) -> Router {
    with(Whep { control, sessions: Sessions::default(), links: links::ice_servers(ice_servers).into() })
}

fn with(whep: Whep) -> Router {
    Router::from(routes()).layer(map_response(expose)).with_state(whep)
}

pub(super) fn routes() -> OpenApiRouter<Whep> {
    OpenApiRouter::default().routes(routes!(create, probe, options)).routes(routes!(
        probe_session,
        update,
        end,
        session_options
    ))
}

/// A WHEP session of a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes the parameters, which are read by hand")]
struct SessionPath {
    /// The camera's id.
    camera: CameraId,
    /// As the answer's `Location` names it.
    session: String,
}

/// A viewer by one request: an offer comes, an answer goes, and the viewer lives until it is deleted or leaves.
#[utoipa::path(post, path = "/whep/{camera}", operation_id = "createWhepSession", tag = "viewers", params(CameraPath),
    request_body(content = String, description = "The SDP offer", content_type = "application/sdp"),
    responses(
        (status = 201, description = "The SDP answer", body = String, content_type = "application/sdp", headers(
            ("Location" = String, description = "The session"),
            ("ETag" = String, description = "The ICE session, for `If-Match`"),
        )),
        (status = 409, description = "The camera does not stream; Retry-After says when to ask again", body = Refusal),
        (status = 415, description = "The body is not `application/sdp`", body = Refusal),
        (status = 422, description = "The offer cannot be used", body = Refusal),
        (status = 503, description = "No place, or the stream could not be started; with Retry-After", body = Refusal),
        BadRequest, NotFound, TooLarge, TimedOut,
    ))]
async fn create(
    State(whep): State<Whep>,
    Extension(grant): Extension<Grant>,
    camera: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let camera = camera_id(camera).map_err(refuse)?;
    if !has_type(&headers, &SDP) {
        return Err(([(ACCEPT_POST, SDP)], unsupported("application/sdp")).into_response());
    }
    let body = read_body(body).map_err(refuse)?;
    let offer = String::from_utf8(body.into()).map_err(|_| refuse(ApiError::bad_request("The offer is not UTF-8")))?;
    let ufrags = sdpfrag::ufrags(&offer);
    let viewer = match whep.control.add_viewer(camera, NewViewer { stream_id: None, offer, replaces: None }).await {
        Ok(mut viewer) => {
            let ended = grant.ended(SystemTime::now());
            viewer.ends_with(async move {
                ended.await;
            });
            viewer
        }
        Err(error) => return Err(whep.refused(camera, error).await),
    };
    let answer = viewer.answer.clone();
    let (key, etag) = whep.sessions.keep(camera, ufrags, viewer);
    let location = format!("/whep/{camera}/{key}");
    let mut response = (
        StatusCode::CREATED,
        [(header::CONTENT_TYPE, SDP), (ACCEPT_PATCH, FRAGMENT)],
        [(header::LOCATION, location), (header::ETAG, etag)],
        answer,
    )
        .into_response();
    for link in whep.links.iter() {
        response.headers_mut().append(header::LINK, link.clone());
    }
    Ok(response)
}

impl Whep {
    /// Why there is no viewer, in the draft's status codes.
    async fn refused(&self, camera: CameraId, error: AddViewerError) -> Response {
        let text = error.to_string();
        tracing::debug!(%camera, %text, "WHEP viewer refused");
        let again = |error: ApiError, after| ([(header::RETRY_AFTER, after)], error).into_response();
        match error {
            AddViewerError::NoStream(_) | AddViewerError::OtherStream { .. } => {
                match self.control.camera(camera).await {
                    Ok(None) => refuse(ApiError::not_found(text)),
                    // "Require a live publishing to be happening": the player is to ask again.
                    Ok(Some(_)) => again(ApiError::new(StatusCode::CONFLICT, "no_stream", text), RETRY_STREAM),
                    Err(error) => refuse(error.into()),
                }
            }
            AddViewerError::TooMany(_) => {
                again(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers", text), RETRY_PLACE)
            }
            AddViewerError::Media(_) => {
                again(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "media_unavailable", text), RETRY_PLACE)
            }
            AddViewerError::Offer(_) => refuse(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_offer", text)),
            AddViewerError::Start(error) => again(error.into(), RETRY_STREAM),
            AddViewerError::Unavailable(error) => refuse(error.into()),
        }
    }

    /// New credentials of the viewer: ICE begins anew, and everything else stays as it was negotiated.
    async fn restart(
        &self,
        key: Key,
        session: &Session,
        fragment: &Fragment,
        ufrag: &str,
    ) -> Result<Response, Response> {
        let restarted = self.control.restart_ice(session.viewer, ufrag.to_owned()).await;
        let ours = match restarted.map_err(|error| refuse(error.into()))? {
            Ok(ours) => ours,
            Err(error @ RestartError::NoViewer) => return Err(refuse(ApiError::not_found(error.to_string()))),
            // The session goes on with the credentials that it had.
            Err(error @ (RestartError::Offer(_) | RestartError::NotARestart(_))) => {
                let text = error.to_string();
                return Err(refuse(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_restart", text)));
            }
        };
        let etag = self.sessions.restarted(key, ufrag);
        let local = Credentials { ufrag: ours.ufrag, pwd: ours.pwd };
        let body = fragment.answer(&local, ours.candidates.iter().map(String::as_str));
        Ok(([(header::CONTENT_TYPE, FRAGMENT)], [(header::ETAG, etag)], body).into_response())
    }

    fn session(&self, path: Result<Path<(String, String)>, PathRejection>) -> Result<(Key, Session), ApiError> {
        let (camera, key) = path.map(|Path(both)| both).unwrap_or_default();
        let ids = camera.parse().ok().zip(key.parse::<Key>().ok());
        let found = ids.and_then(|(camera, key)| Some((key, self.sessions.get(camera, key)?)));
        found.ok_or_else(|| ApiError::not_found("No such WHEP session; its viewer may have ended"))
    }
}

/// Candidates of the viewer, or new ICE credentials.
#[utoipa::path(patch, path = "/whep/{camera}/{session}", operation_id = "updateWhepSession", tag = "viewers",
    params(SessionPath, ("If-Match" = Option<String>, Header, description = "The ETag, or `*` for an ICE restart")),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag"),
    responses(
        (status = 200, description = "ICE begins anew, with these credentials of the server", body = String,
            content_type = "application/trickle-ice-sdpfrag"),
        (status = 204, description = "Candidates are taken"),
        (status = 412, description = "`If-Match` names another ICE session", body = Refusal),
        (status = 415, description = "The body is not `application/trickle-ice-sdpfrag`", body = Refusal),
        (status = 422, description = "The credentials cannot be used", body = Refusal),
        (status = 428, description = "`If-Match` is missing", body = Refusal),
        BadRequest, NotFound, TooLarge, Unanswered,
    ))]
async fn update(
    State(whep): State<Whep>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let (key, session) = whep.session(path).map_err(refuse)?;
    if !has_type(&headers, &FRAGMENT) {
        return Err(([(ACCEPT_PATCH, FRAGMENT)], unsupported("application/trickle-ice-sdpfrag")).into_response());
    }
    let body = read_body(body).map_err(refuse)?;
    let fragment = Fragment::parse(&body).map_err(|error| refuse(ApiError::bad_request(error.to_string())))?;
    check_precondition(&headers, &session.etag).map_err(refuse)?;
    match &fragment.credentials {
        Some(new) if !session.ufrags.contains(&new.ufrag) => whep.restart(key, &session, &fragment, &new.ufrag).await,
        // What the candidates say is not needed.
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// `If-Match` (RFC 9110 §13.1.1): needed, because requests may overtake one another.
fn check_precondition(headers: &HeaderMap, etag: &str) -> Result<(), ApiError> {
    let mut tags = headers.get_all(header::IF_MATCH).iter().peekable();
    if tags.peek().is_none() {
        let text = "If-Match is missing: the ETag of the ICE session, or * for an ICE restart";
        return Err(ApiError::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", text));
    }
    let mut tags = tags.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim);
    if tags.any(|tag| tag == "*" || tag == etag) {
        return Ok(());
    }
    let text = "If-Match names another ICE session";
    Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", text))
}

/// The viewer leaves. Entity tags do not matter here.
#[utoipa::path(delete, path = "/whep/{camera}/{session}", operation_id = "endWhepSession", tag = "viewers",
    params(SessionPath), responses((status = 200, description = "It has left"), NotFound, Unanswered))]
async fn end(
    State(whep): State<Whep>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Response> {
    let (key, session) = whep.session(path).map_err(refuse)?;
    whep.control.remove_viewer(session.viewer).await.map_err(|error| refuse(error.into()))?;
    whep.sessions.remove(key);
    Ok(StatusCode::OK.into_response())
}

/// Tells players that this is a WHEP endpoint.
#[utoipa::path(get, path = "/whep/{camera}", operation_id = "probeWhep", tag = "viewers", params(CameraPath),
    responses((status = 200, description = "It is; with `Accept-Post`"), BadCamera))]
async fn probe(camera: Result<Path<String>, PathRejection>) -> Result<Response, Response> {
    camera_id(camera).map_err(refuse)?;
    Ok([(header::CONTENT_TYPE, SDP), (ACCEPT_POST, SDP)].into_response())
}

/// Tells whether a session is there.
#[utoipa::path(get, path = "/whep/{camera}/{session}", operation_id = "probeWhepSession", tag = "viewers",
    params(SessionPath), responses((status = 204, description = "It is; with `Accept-Patch`"), NotFound))]
async fn probe_session(
    State(whep): State<Whep>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Response> {
    whep.session(path).map_err(refuse)?;
    Ok((StatusCode::NO_CONTENT, [(ACCEPT_PATCH, FRAGMENT)]).into_response())
}

/// What a preflight tells of a path of this module, as `OPTIONS` does.
pub(super) fn accepts(path: &str) -> HeaderMap {
    let accepts = path.strip_prefix("/whep/").map(|below| match below.contains('/') {
        true => (ACCEPT_PATCH, FRAGMENT),
        false => (ACCEPT_POST, SDP),
    });
    accepts.into_iter().collect()
}

/// What may be posted.
#[utoipa::path(options, path = "/whep/{camera}", operation_id = "askWhep", tag = "viewers", params(CameraPath),
    responses((status = 200, description = "With `Accept-Post` and `Allow`")))]
async fn options() -> Response {
    let allow = HeaderValue::from_static("GET, HEAD, POST, OPTIONS");
    (StatusCode::OK, [(ACCEPT_POST, SDP), (header::ALLOW, allow)]).into_response()
}

/// What may be patched.
#[utoipa::path(options, path = "/whep/{camera}/{session}", operation_id = "askWhepSession", tag = "viewers",
    params(SessionPath), responses((status = 200, description = "With `Accept-Patch` and `Allow`")))]
async fn session_options() -> Response {
    let allow = HeaderValue::from_static("GET, HEAD, PATCH, DELETE, OPTIONS");
    (StatusCode::OK, [(ACCEPT_PATCH, FRAGMENT), (header::ALLOW, allow)]).into_response()
}

async fn expose(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    response
}

/// The media type is `wanted`, whatever its parameters.
fn has_type(headers: &HeaderMap, wanted: &HeaderValue) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    wanted.to_str().is_ok_and(|wanted| essence.eq_ignore_ascii_case(wanted))
}

fn unsupported(wanted: &str) -> ApiError {
    let text = format!("Content-Type must be {wanted}");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text)
}

fn refuse(error: ApiError) -> Response {
    error.into_response()
}
