//! One signaling socket: at most one viewer, whose life ends with the socket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::time::{Instant, MissedTickBehavior};

use super::counters::{Count, Counters};
use super::protocol::{ClientMessage, Echo, ServerMessage, parse};
use crate::base::{CameraId, Shutdown};
use crate::control::{CloseReason, Control, NewViewer, ViewerHandle};

/// Between two pings (contract §6).
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Browsers answer pings by themselves: after three in silence nobody is there.
pub(super) const SILENCE: Duration = Duration::from_secs(65);
/// For one message to get into the socket's buffer.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// For the page's half of the closing handshake.
const GOODBYE: Duration = Duration::from_millis(200);

/// Serves one socket until it closes, falls silent or the process stops.
pub(super) async fn run(socket: WebSocket, control: Control, counters: Arc<Counters>, shutdown: Shutdown) {
    counters.opened();
    let mut connection = Connection { socket, control, counters: counters.clone(), viewer: None };
    let end = connection.serve(&shutdown).await;
    // The viewer is gone before the page hears of it, so that it may come back at once.
    connection.viewer = None;
    match end {
        End::Close(code, reason) => connection.close(code, reason).await,
        End::Gone => connection.finish().await,
        End::Violation(code, reason) => {
            counters.count(Count::Broken);
            connection.close(code, reason).await;
        }
        End::Broken => counters.count(Count::Broken),
    }
    counters.closed();
}

/// How a connection ends.
enum End {
    /// We close it.
    Close(u16, &'static str),
    /// The page closed it.
    Gone,
    /// We close it, because the page broke the protocol.
    Violation(u16, &'static str),
    /// It is of no use any more.
    Broken,
}

struct Connection {
    socket: WebSocket,
    control: Control,
    counters: Arc<Counters>,
    /// Dropping it ends the viewer.
    viewer: Option<ViewerHandle>,
}

enum Event {
    Received(Option<Result<Message, axum::Error>>),
    ViewerClosed(CloseReason),
    Ping,
    Shutdown,
}

impl Connection {
    async fn serve(&mut self, shutdown: &Shutdown) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let event = tokio::select! {
                received = self.socket.recv() => Event::Received(received),
                reason = closed(&mut self.viewer) => Event::ViewerClosed(reason),
                _ = ping.tick() => Event::Ping,
                () = shutdown.requested() => Event::Shutdown,
            };
            let step = match event {
                Event::Received(received) => {
                    heard = Instant::now();
                    self.on_received(received).await
                }
                Event::ViewerClosed(reason) => self.on_viewer_closed(&reason).await,
                Event::Ping if heard.elapsed() >= SILENCE => Err(End::Broken),
                Event::Ping => self.send(Message::Ping(Default::default())).await,
                Event::Shutdown => Err(End::Close(close_code::AWAY, "Service is shutting down")),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn on_received(&mut self, received: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let frame = match received {
            None | Some(Ok(Message::Close(_))) => return Err(End::Gone),
            Some(Ok(Message::Text(text))) => bytes::Bytes::from(text),
            Some(Ok(Message::Binary(bytes))) => bytes,
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Err(error)) => {
                tracing::debug!(%error, "signaling socket broke");
                return Err(violation(&error.to_string()));
            }
        };
        match parse(&frame) {
            Ok(ClientMessage::Viewer { camera, stream, offer }) => self.add_viewer(&camera, &stream, offer).await,
            Ok(ClientMessage::Candidate) => Ok(()),
            Ok(ClientMessage::Stop) => Err(End::Close(close_code::NORMAL, "Stopped")),
            Err(refusal) => {
                self.counters.refused(&refusal);
                self.say(ServerMessage::Error { message: refusal.to_string() }).await
            }
        }
    }

    async fn add_viewer(&mut self, camera: &str, stream: &str, offer: String) -> Result<(), End> {
        // The second viewer of a socket replaces the first, if it is accepted.
        let replaces = self.viewer.as_ref().map(|viewer| viewer.viewer_id);
        let new = NewViewer { stream_id: stream.to_owned(), offer, replaces };
        let added = match camera.parse::<CameraId>() {
            Ok(camera) => self.control.add_viewer(camera, new).await.map_err(|error| error.to_string()),
            // An id that no camera can have: nothing streams under it.
            Err(_) => Err(format!("No active stream found for camera {}", Echo(camera))),
        };
        match added {
            Ok(mut viewer) => {
                // Taken, not copied: the viewer stays for hours.
                let response = ServerMessage::ViewerResponse {
                    sdp_answer: std::mem::take(&mut viewer.answer),
                    viewer_id: viewer.viewer_id.to_string(),
                };
                let candidates = std::mem::take(&mut viewer.candidates);
                self.viewer = Some(viewer);
                self.say(response).await?;
                for candidate in candidates {
                    self.say(ServerMessage::IceCandidate { candidate }).await?;
                }
                Ok(())
            }
            Err(message) => {
                self.counters.count(Count::RefusedViewer);
                tracing::debug!(camera = %Echo(camera), %message, "viewer refused");
                self.say(ServerMessage::Error { message }).await
            }
        }
    }

    /// A stream's end is also the socket's; after a failed connection the page may try again on this socket.
    async fn on_viewer_closed(&mut self, reason: &CloseReason) -> Result<(), End> {
        self.viewer = None;
        let (message, end) = match reason {
            CloseReason::Left => return Err(End::Close(close_code::NORMAL, "Viewer removed")),
            CloseReason::StreamStopped => ("Stream stopped", Some((close_code::NORMAL, "Stream stopped"))),
            CloseReason::Shutdown => ("Service is shutting down", Some((close_code::AWAY, "Service is shutting down"))),
            CloseReason::ConnectTimeout => ("No media connection was made in time", None),
            CloseReason::ConsentExpired => ("The media connection was lost", None),
            CloseReason::PeerClosed => ("The media connection was closed", None),
            CloseReason::Failed(_) => ("The media connection failed", None),
        };
        if let CloseReason::Failed(why) = reason {
            tracing::debug!(%why, "viewer failed");
        }
        self.say(ServerMessage::Error { message: message.to_owned() }).await?;
        match end {
            Some((code, text)) => Err(End::Close(code, text)),
            None => Ok(()),
        }
    }

    async fn say(&mut self, message: ServerMessage) -> Result<(), End> {
        self.send(Message::Text(message.to_json().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(SEND_WITHIN, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Broken),
        }
    }

    /// Says goodbye and waits a moment for the page's answer, which may never come.
    async fn close(&mut self, code: u16, reason: &'static str) {
        let _ = self.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        self.finish().await;
    }

    /// Lets the closing handshake end (RFC 6455 §7.1.2): the library answers a close while it is read from.
    async fn finish(&mut self) {
        let _ = tokio::time::timeout(GOODBYE, async { while let Some(Ok(_)) = self.socket.recv().await {} }).await;
    }
}

/// The close code for an error of the WebSocket library (RFC 6455 §7.4.1). It wraps the library's own error,
/// whose type is not to be had, so the words decide.
fn violation(error: &str) -> End {
    if error.contains("too long") {
        End::Violation(close_code::SIZE, "Message too long")
    } else if error.contains("UTF-8") || error.contains("utf-8") {
        End::Violation(close_code::INVALID, "Text is not UTF-8")
    } else {
        End::Broken
    }
}

/// Resolves when the viewer ends; never without one.
async fn closed(viewer: &mut Option<ViewerHandle>) -> CloseReason {
    match viewer {
        Some(viewer) => viewer.closed().await,
        None => std::future::pending().await,
    }
}
