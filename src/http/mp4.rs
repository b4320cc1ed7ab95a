//! `/streams/{id}/keyframe.mp4`: the last keyframe as a file; `/streams/{id}/live.mp4`: the stream for players
//! without WebRTC, over HTTP or WebSocket.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, MissedTickBehavior, timeout, timeout_at};
use tokio_util::io::ReaderStream;

use super::Api;
use super::document::{BadCamera, CameraPath, NotFound, Refusal, TimedOut};
use super::error::ApiError;
use super::streams::camera_id;
use crate::access::{AccessEnd, Grant};
use crate::base::CameraId;
use crate::control::{AddViewerError, Control, LiveClient, LiveCounters, LiveFrames, Mp4Head, Mp4Piece, Mp4Writer};

/// A still is there at once or after the camera has answered one request for a keyframe.
const STILL_WITHIN: Duration = Duration::from_secs(2);
/// A live stream may wait for the keyframe of a camera that does not answer requests.
const HEAD_WITHIN: Duration = Duration::from_secs(9);
/// A reader that takes nothing for so long is let go.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Bytes that wait for a slow reader here; the frames behind them are bounded as well.
const BUFFER: usize = 256 * 1024;
/// A page has nothing to say on its socket.
const MAX_MESSAGE: usize = 4 * 1024;
/// Between two pings of a socket. Browsers answer them by themselves: after three in silence nobody is there, which
/// matters where the camera is silent as well.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(65);
/// The close code of signaling for a credential that holds no more.
const UNAUTHORIZED: u16 = 4401;
/// A camera is asked for a keyframe again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The last keyframe as a file that every player shows.
#[utoipa::path(get, path = "/streams/{camera}/keyframe.mp4", operation_id = "getKeyframe", tag = "streams",
    params(CameraPath),
    responses(
        (status = 200, description = "A fragmented MP4 of one picture", body = Vec<u8>, content_type = "video/mp4"),
        (status = 503, description = "No keyframe yet, or the service ends", body = Refusal),
        BadCamera, NotFound, TimedOut,
    ))]
pub(super) async fn keyframe(
    State(api): State<Api>,
    camera: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let camera = camera_id(camera)?;
    let mut live = api.control.glance(camera).await?;
    let until = Instant::now() + STILL_WITHIN;
    let mut frames = timeout_at(until, live.running_group()).await.unwrap_or_default();
    loop {
        if let Some((head, file)) = Mp4Writer::still(frames.iter().map(|frame| &**frame)) {
            let headers = [(header::CONTENT_TYPE, content_type(&head)?)];
            return Ok((headers, file).into_response());
        }
        if frames.is_empty() {
            api.control.request_keyframe(live.stream_id).await;
        }
        let Ok(Some(frame)) = timeout_at(until, live.next()).await else { break };
        // Only from a keyframe on is there anything to show.
        if frame.starts_keyframe {
            frames.clear();
        }
        frames.push(frame);
    }
    Err(no_keyframe(camera))
}

/// The stream for players without WebRTC. The answer does not end. As a WebSocket: `{"type": "init", "codecs"}` as text
/// before each head, everything else binary.
#[utoipa::path(get, path = "/streams/{camera}/live.mp4", operation_id = "playLive", tag = "streams",
    params(CameraPath),
    responses(
        (status = 200, description = "A fragmented MP4 without end", body = Vec<u8>, content_type = "video/mp4"),
        (status = 503, description = "No keyframe, no place, or the service ends", body = Refusal),
        BadCamera, NotFound, TimedOut,
    ))]
pub(super) async fn live(
    State(api): State<Api>,
    Extension(grant): Extension<Grant>,
    client: Option<Extension<ConnectInfo<SocketAddr>>>,
    camera: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let camera = camera_id(camera)?;
    let control = api.control;
    let remote = client.map(|Extension(ConnectInfo(address))| address);
    let client = LiveClient { remote, protocol: if upgrade.is_ok() { "websocket" } else { "http" } };
    let mut source = Source::new(control.watch_frames(camera, client).await?, control, &grant);
    if let Ok(upgrade) = upgrade {
        let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).read_buffer_size(MAX_MESSAGE);
        return Ok(upgrade.on_upgrade(|socket| to_socket(source, socket)));
    }
    let head = timeout(HEAD_WITHIN, source.head()).await.ok().flatten().ok_or_else(|| no_keyframe(camera))?;
    let (writer, reader) = tokio::io::duplex(BUFFER);
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, content_type(&head)?),
        // nginx would collect it.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    tokio::spawn(to_body(source, head, writer));
    Ok((StatusCode::OK, headers, Body::from_stream(ReaderStream::new(reader))).into_response())
}

/// Frames as pieces of MP4.
struct Source {
    live: LiveFrames,
    control: Control,
    writer: Mp4Writer,
    ready: std::collections::VecDeque<Mp4Piece>,
    asked: Option<Instant>,
    /// Resolves when the credential holds no more, and with it the stream.
    access_ended: Pin<Box<dyn Future<Output = AccessEnd> + Send>>,
    /// It has resolved.
    denied: Option<AccessEnd>,
}

impl Source {
    fn new(live: LiveFrames, control: Control, grant: &Grant) -> Self {
        let writer = Mp4Writer::new(live.with_opus);
        let access_ended = Box::pin(grant.ended(SystemTime::now()));
        Self { live, control, writer, ready: Default::default(), asked: None, access_ended, denied: None }
    }

    async fn head(&mut self) -> Option<Mp4Head> {
        loop {
            if let Mp4Piece::Head(head) = self.next().await? {
                return Some(head);
            }
        }
    }

    /// The next piece; `None` when the stream or the access to it is over. Cancel-safe.
    async fn next(&mut self) -> Option<Mp4Piece> {
        loop {
            if self.denied.is_some() {
                return None;
            }
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            let frame: Arc<_> = tokio::select! {
                biased;
                end = &mut self.access_ended => {
                    self.denied = Some(end);
                    return None;
                }
                frame = self.live.next() => frame?,
            };
            let now = Instant::now();
            let mut pieces = Vec::new();
            self.writer.push(&frame, &mut pieces);
            self.ready.extend(pieces);
            if self.writer.wants_keyframe() && self.asked.is_none_or(|at| now >= at + ASK_AGAIN) {
                self.asked = Some(now);
                self.control.request_keyframe(self.live.stream_id).await;
            }
        }
    }
}

/// Ends with the stream, with the access to it, with the reader, or when the reader is too slow.
async fn to_body(mut source: Source, head: Mp4Head, mut writer: DuplexStream) {
    let counters = source.live.counters();
    let mut bytes = head.init;
    loop {
        match timeout(WRITE_WITHIN, writer.write_all(&bytes)).await {
            Ok(Ok(())) => count(counters.as_deref(), bytes.len()),
            Ok(Err(_)) | Err(_) => return,
        }
        bytes = match source.next().await {
            Some(Mp4Piece::Head(head)) => head.init,
            Some(Mp4Piece::Fragment(fragment)) => fragment,
            None => return,
        };
    }
}

/// A text message `{"type": "init", "codecs": …}` before each head, everything else binary.
async fn to_socket(mut source: Source, mut socket: WebSocket) {
    let counters = source.live.counters();
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let piece = tokio::select! {
            piece = source.next() => piece,
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = ping.tick() => {
                let ping = timeout(WRITE_WITHIN, socket.send(Message::Ping(Default::default())));
                if heard.elapsed() >= SILENCE || !matches!(ping.await, Ok(Ok(()))) {
                    return;
                }
                continue;
            }
        };
        let messages = match piece {
            Some(Mp4Piece::Head(head)) => {
                let text = json!({ "type": "init", "codecs": head.codecs }).to_string();
                vec![Message::Text(text.into()), Message::Binary(head.init)]
            }
            Some(Mp4Piece::Fragment(fragment)) => vec![Message::Binary(fragment)],
            None => {
                let (code, reason) = match source.denied {
                    Some(end) => (UNAUTHORIZED, end.text()),
                    None => (close_code::NORMAL, "Stream ended"),
                };
                let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
                return drop(timeout(WRITE_WITHIN, socket.send(close)).await);
            }
        };
        for message in messages {
            let size = if let Message::Binary(bytes) = &message { bytes.len() } else { 0 };
            match timeout(WRITE_WITHIN, socket.send(message)).await {
                Ok(Ok(())) if size > 0 => count(counters.as_deref(), size),
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

fn count(counters: Option<&LiveCounters>, bytes: usize) {
    if let Some(counters) = counters {
        counters.sent(bytes);
    }
}

fn content_type(head: &Mp4Head) -> Result<HeaderValue, ApiError> {
    HeaderValue::try_from(format!("video/mp4; codecs=\"{}\"", head.codecs))
        .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The codec has no name"))
}

fn no_keyframe(camera: CameraId) -> ApiError {
    let error = format!("No keyframe of camera {camera} yet");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_keyframe", error)
        .hint("GET /streams/{camera} says in why_no_picture what is missing")
}

impl From<AddViewerError> for ApiError {
    fn from(error: AddViewerError) -> Self {
        let text = error.to_string();
        match error {
            AddViewerError::NoStream(_) | AddViewerError::OtherStream { .. } => Self::not_found(text),
            AddViewerError::TooMany(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers", text),
            AddViewerError::Offer(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_offer", text),
            AddViewerError::Media(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "media_engine", text),
            AddViewerError::Start(error) => error.into(),
            AddViewerError::Unavailable(error) => error.into(),
        }
    }
}
