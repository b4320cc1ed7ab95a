//! What is said on one socket, in which order and how often: without the socket, the clock and the control plane.

use std::time::Instant;

use axum::extract::ws::close_code;

use super::protocol::{ClientMessage, Echo, Refusal, ServerMessage, parse};
use crate::access::{AccessEnd, Allowance, Grant};
use crate::base::CameraId;
use crate::control::{Candidate, CloseReason};

/// Messages a second in the long run, and at once: a browser has a few dozen candidates.
const MESSAGES: (f64, f64) = (50.0, 200.0);
/// Offers a second in the long run, and at once. Each costs a few hundred microseconds and some KiB.
const OFFERS: (f64, f64) = (1.0, 10.0);
/// The close code for a credential that is missing, wrong or over; of the range for private use (RFC 6455 §7.4.2).
pub const UNAUTHORIZED: u16 = 4401;

/// What is to be done next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the page.
    Say(ServerMessage),
    /// Tell the page what was wrong.
    Refuse(Wrong),
    /// Ask control for a viewer and come back with [`Conversation::added`], before any other message is read.
    Add {
        /// The camera.
        camera: CameraId,
        /// The stream that the page believes to run.
        stream: String,
        /// SDP offer.
        offer: String,
    },
    /// The viewer has ended or must.
    Drop,
    /// The last one.
    Close(u16, &'static str),
}

/// What was wrong. The texts go to the page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A message.
    #[error(transparent)]
    Message(#[from] Refusal),
    /// The viewer that it asks for.
    #[error("{0}")]
    Viewer(String),
    /// Another camera than the credential is for.
    #[error("{0}")]
    Forbidden(String),
    /// There were too many offers.
    #[error("Too many offers: wait a few seconds")]
    TooManyOffers,
}

/// A viewer that control has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// For logs and the API.
    pub viewer_id: String,
    /// SDP answer.
    pub answer: String,
    /// The server's candidates.
    pub candidates: Vec<Candidate>,
}

/// One socket's conversation: at most one viewer, which ends with it.
#[derive(Debug)]
pub struct Conversation {
    grant: Grant,
    messages: Allowance,
    offers: Allowance,
    has_viewer: bool,
    closed: bool,
}

impl Conversation {
    /// With somebody who may do what `grant` says.
    pub fn new(grant: Grant) -> Self {
        let allowance = |(rate, burst)| Allowance::new(rate, burst);
        Self { grant, messages: allowance(MESSAGES), offers: allowance(OFFERS), has_viewer: false, closed: false }
    }

    /// Whether a viewer is watching.
    pub fn has_viewer(&self) -> bool {
        self.has_viewer
    }

    /// A frame came. After a [`Action::Close`] nothing is answered any more.
    pub fn frame(&mut self, frame: &[u8], now: Instant) -> Vec<Action> {
        if self.closed {
            return Vec::new();
        }
        if self.messages.take(now).is_err() {
            return self.close(close_code::POLICY, "Too many messages");
        }
        match parse(frame) {
            Ok(ClientMessage::Viewer { camera, stream, offer }) => vec![self.viewer(&camera, stream, offer, now)],
            Ok(ClientMessage::Candidate) => Vec::new(),
            Ok(ClientMessage::Stop) => self.close(close_code::NORMAL, "Stopped"),
            Err(refusal) => vec![Action::Refuse(refusal.into())],
        }
    }

    fn viewer(&mut self, camera: &str, stream: String, offer: String, now: Instant) -> Action {
        if self.offers.take(now).is_err() {
            return Action::Refuse(Wrong::TooManyOffers);
        }
        // An id that no camera can have: nothing streams under it.
        let Ok(camera) = camera.parse::<CameraId>() else {
            return Action::Refuse(Wrong::Viewer(format!("No active stream found for camera {}", Echo(camera))));
        };
        match self.grant.require_camera(&camera) {
            Ok(()) => Action::Add { camera, stream, offer },
            Err(forbidden) => Action::Refuse(Wrong::Forbidden(forbidden.to_string())),
        }
    }

    /// Control has answered an [`Action::Add`]. A viewer that is refused replaces nobody.
    pub fn added(&mut self, added: Result<Accepted, String>) -> Vec<Action> {
        match added {
            Ok(Accepted { viewer_id, answer: sdp_answer, candidates }) => {
                self.has_viewer = true;
                let response = Action::Say(ServerMessage::ViewerResponse { sdp_answer, viewer_id });
                let candidates = candidates.into_iter().map(|candidate| ServerMessage::IceCandidate { candidate });
                std::iter::once(response).chain(candidates.map(Action::Say)).collect()
            }
            Err(message) => vec![Action::Refuse(Wrong::Viewer(message))],
        }
    }

    /// The viewer's session has ended. A stream's end is also the socket's; after a failed connection the page may
    /// try again on this socket.
    pub fn viewer_closed(&mut self, reason: &CloseReason) -> Vec<Action> {
        self.has_viewer = false;
        let (message, end) = match reason {
            CloseReason::Left => return self.close(close_code::NORMAL, "Viewer removed"),
            CloseReason::StreamStopped => ("Stream stopped", Some((close_code::NORMAL, "Stream stopped"))),
            CloseReason::Shutdown => ("Service is shutting down", Some((close_code::AWAY, "Service is shutting down"))),
            CloseReason::AccessEnded => return self.access_ended(AccessEnd::Expired),
            CloseReason::ConnectTimeout => ("No media connection was made in time", None),
            CloseReason::ConsentExpired => ("The media connection was lost", None),
            CloseReason::PeerClosed => ("The media connection was closed", None),
            CloseReason::Failed(_) => ("The media connection failed", None),
        };
        let mut actions = vec![error(message)];
        if let Some((code, text)) = end {
            actions.extend(self.close(code, text));
        }
        actions
    }

    /// The credential holds no more.
    pub fn access_ended(&mut self, end: AccessEnd) -> Vec<Action> {
        let mut actions = vec![error(end.text())];
        actions.extend(self.close(UNAUTHORIZED, end.text()));
        actions
    }

    /// The process ends.
    pub fn shutdown(&mut self) -> Vec<Action> {
        self.close(close_code::AWAY, "Service is shutting down")
    }

    /// The viewer is gone before the page hears of the end, so that it may come back at once.
    fn close(&mut self, code: u16, reason: &'static str) -> Vec<Action> {
        self.closed = true;
        let had_viewer = std::mem::take(&mut self.has_viewer);
        had_viewer.then_some(Action::Drop).into_iter().chain([Action::Close(code, reason)]).collect()
    }
}

fn error(message: &str) -> Action {
    Action::Say(ServerMessage::Error { message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::{CameraScope, Role};

    const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
    const STOP: &[u8] = br#"{"type":"stop"}"#;

    fn offer(camera: &str) -> Vec<u8> {
        format!(r#"{{"type":"viewer","cameraId":"{camera}","streamId":"S","sdpOffer":"v=0"}}"#).into_bytes()
    }

    #[test]
    fn a_hundred_offers_at_once_reach_control_ten_times_and_leave_the_socket_open() {
        let (mut conversation, now) = (Conversation::new(Grant::everything()), Instant::now());
        let actions: Vec<Action> = (0..100).flat_map(|_| conversation.frame(&offer(CAMERA), now)).collect();
        assert_eq!(actions.iter().filter(|action| matches!(action, Action::Add { .. })).count(), 10);
        assert_eq!(actions.iter().filter(|action| **action == Action::Refuse(Wrong::TooManyOffers)).count(), 90);
        let later = now + Duration::from_secs(2);
        assert!(matches!(conversation.frame(&offer(CAMERA), later)[..], [Action::Add { .. }]));
    }

    #[test]
    fn too_many_messages_close_the_socket_and_end_the_viewer() {
        let (mut conversation, now) = (Conversation::new(Grant::everything()), Instant::now());
        let accepted = Accepted { viewer_id: "viewer".into(), answer: "v=0".into(), candidates: Vec::new() };
        conversation.added(Ok(accepted));
        let actions: Vec<Action> = (0..300).flat_map(|_| conversation.frame(b"{", now)).collect();
        let refused = actions.iter().filter(|action| matches!(action, Action::Refuse(_))).count();
        assert_eq!(refused, 200);
        assert_eq!(actions[200..], [Action::Drop, Action::Close(1008, "Too many messages")]);
        assert!(!conversation.has_viewer());
    }

    #[test]
    fn only_cameras_of_the_grant_are_asked_for() {
        let scope = CameraScope::new(["56C1*"]).unwrap();
        let mut conversation = Conversation::new(Grant::new("x", Role::View, scope, None));
        let now = Instant::now();
        assert!(matches!(conversation.frame(&offer(CAMERA), now)[..], [Action::Add { .. }]));
        let other = CAMERA.replace("56C1", "66C1");
        let [Action::Refuse(wrong)] = &conversation.frame(&offer(&other), now)[..] else { panic!() };
        assert_eq!(wrong.to_string(), format!("Not allowed for camera {other}"));
    }

    #[test]
    fn after_the_end_nothing_is_answered() {
        let (mut conversation, now) = (Conversation::new(Grant::everything()), Instant::now());
        assert_eq!(conversation.frame(STOP, now), [Action::Close(1000, "Stopped")]);
        assert!(conversation.frame(STOP, now).is_empty() && conversation.frame(&offer(CAMERA), now).is_empty());
    }

    #[test]
    fn a_token_that_ends_is_told_and_closes_with_4401() {
        let mut conversation = Conversation::new(Grant::everything());
        let accepted = Accepted { viewer_id: "viewer".into(), answer: "v=0".into(), candidates: Vec::new() };
        conversation.added(Ok(accepted));
        let text = "The token has expired";
        assert_eq!(
            conversation.access_ended(AccessEnd::Expired),
            [error(text), Action::Drop, Action::Close(4401, text)]
        );
    }
}
