//! One signaling socket: carries what [`super::conversation`] says.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::time::{Instant, MissedTickBehavior};

use super::conversation::{Accepted, Action, Conversation, UNAUTHORIZED, Wrong};
use super::counters::{Count, Counters};
use super::protocol::ServerMessage;
use crate::access::{AccessEnd, Denied, Grant};
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
pub(super) async fn run(
    socket: WebSocket,
    granted: Result<Grant, Denied>,
    control: Control,
    counters: Arc<Counters>,
    shutdown: Shutdown,
) {
    counters.opened();
    let mut line = Line { socket };
    let end = match granted {
        Ok(grant) => Connection::new(&mut line, grant, control, &counters).serve(&shutdown).await,
        Err(denied) => {
            counters.count(Count::Unauthorized);
            match line.say(&ServerMessage::Error { message: denied.to_string() }).await {
                Ok(()) => End::Close(UNAUTHORIZED, "Unauthorized"),
                Err(end) => end,
            }
        }
    };
    match end {
        End::Close(code, reason) => {
            if code == close_code::POLICY {
                counters.count(Count::Broken);
            }
            line.close(code, reason).await;
        }
        End::Gone => line.finish().await,
        End::Violation(code, reason) => {
            counters.count(Count::Broken);
            line.close(code, reason).await;
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

struct Connection<'a> {
    line: &'a mut Line,
    control: Control,
    counters: &'a Counters,
    conversation: Conversation,
    /// Resolves when the credential holds no more.
    access_ended: Pin<Box<dyn Future<Output = AccessEnd> + Send>>,
    /// Dropping it ends the viewer.
    viewer: Option<ViewerHandle>,
    /// What it watches.
    camera: Option<CameraId>,
}

enum Event {
    Received(Option<Result<Message, axum::Error>>),
    ViewerClosed(CloseReason),
    Ping,
    AccessEnded(AccessEnd),
    Shutdown,
}

impl<'a> Connection<'a> {
    fn new(line: &'a mut Line, grant: Grant, control: Control, counters: &'a Counters) -> Self {
        let access_ended = Box::pin(grant.ended(SystemTime::now()));
        let conversation = Conversation::new(grant);
        Self { line, control, counters, conversation, access_ended, viewer: None, camera: None }
    }

    async fn serve(mut self, shutdown: &Shutdown) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let event = tokio::select! {
                received = self.line.socket.recv() => Event::Received(received),
                reason = closed(&mut self.viewer) => Event::ViewerClosed(reason),
                _ = ping.tick() => Event::Ping,
                end = &mut self.access_ended => Event::AccessEnded(end),
                () = shutdown.requested() => Event::Shutdown,
            };
            let step = match event {
                Event::Received(received) => {
                    heard = Instant::now();
                    self.on_received(received).await
                }
                Event::ViewerClosed(reason) => {
                    if let CloseReason::Failed(why) = &reason {
                        tracing::debug!(%why, "viewer failed");
                    }
                    self.viewer = None;
                    let actions = self.conversation.viewer_closed(&reason);
                    self.perform(actions).await
                }
                Event::Ping if heard.elapsed() >= SILENCE => Err(End::Broken),
                Event::Ping => self.line.send(Message::Ping(Default::default())).await,
                Event::AccessEnded(end) => {
                    // The last action closes the socket: this is not waited for again.
                    let actions = self.conversation.access_ended(end);
                    self.perform(actions).await
                }
                Event::Shutdown => {
                    let actions = self.conversation.shutdown();
                    self.perform(actions).await
                }
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
        let actions = self.conversation.frame(&frame, Instant::now().into_std());
        self.perform(actions).await
    }

    async fn perform(&mut self, actions: Vec<Action>) -> Result<(), End> {
        for action in actions {
            match action {
                Action::Say(message) => self.line.say(&message).await?,
                Action::Refuse(wrong) => self.refuse(&wrong).await?,
                Action::Add { camera, stream, offer } => {
                    if let Some(restarted) = self.restart(camera, &stream, &offer).await {
                        let answer = self.conversation.added(Ok(restarted));
                        Box::pin(self.perform(answer)).await?;
                        continue;
                    }
                    // The second viewer of a socket replaces the first, if it is accepted.
                    let replaces = self.viewer.as_ref().map(|viewer| viewer.viewer_id);
                    let new = NewViewer { stream_id: Some(stream), offer, replaces };
                    let added = self.control.add_viewer(camera, new).await.map_err(|error| error.to_string());
                    let added = added.map(|mut viewer| {
                        // Taken, not copied: the viewer stays for hours.
                        let accepted = Accepted {
                            viewer_id: viewer.viewer_id.to_string(),
                            answer: std::mem::take(&mut viewer.answer),
                            candidates: std::mem::take(&mut viewer.candidates),
                        };
                        self.viewer = Some(viewer);
                        self.camera = Some(camera);
                        accepted
                    });
                    let answer = self.conversation.added(added);
                    Box::pin(self.perform(answer)).await?;
                }
                Action::Drop => self.viewer = None,
                Action::Close(code, reason) => return Err(End::Close(code, reason)),
            }
        }
        Ok(())
    }

    /// An offer of the same peer connection restarts ICE for the viewer that there is. `None`: it is no such offer.
    async fn restart(&mut self, camera: CameraId, stream: &str, offer: &str) -> Option<Accepted> {
        let viewer = self.viewer.as_ref()?;
        if stream.parse() != Ok(viewer.stream_id) || Some(camera) != self.camera {
            return None;
        }
        let viewer_id = viewer.viewer_id;
        let answer = self.control.restart_viewer(viewer_id, offer.to_owned()).await.ok()?.ok()?;
        tracing::debug!(viewer = %viewer_id, "viewer restarts ICE");
        Some(Accepted { viewer_id: viewer_id.to_string(), answer: answer.sdp, candidates: answer.candidates })
    }

    async fn refuse(&mut self, wrong: &Wrong) -> Result<(), End> {
        match wrong {
            Wrong::Message(refusal) => self.counters.refused(refusal),
            Wrong::Viewer(_) | Wrong::Forbidden(_) => self.counters.count(Count::RefusedViewer),
            Wrong::TooManyOffers => self.counters.count(Count::TooManyOffers),
        }
        tracing::debug!(%wrong, "signaling message refused");
        self.line.say(&ServerMessage::Error { message: wrong.to_string() }).await
    }
}

/// The socket, with its time limits.
struct Line {
    socket: WebSocket,
}

impl Line {
    async fn say(&mut self, message: &ServerMessage) -> Result<(), End> {
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
