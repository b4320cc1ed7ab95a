//! A conversation on the signaling socket: a line is a frame, or with `!` something else that happens.

use std::time::{Duration, Instant};

use honeycast::access::{AccessEnd, Grant};
use honeycast::control::CloseReason;
use honeycast::signaling::conversation::{Accepted, Action, Conversation};
use honeycast::signaling::protocol::ServerMessage;

/// Offers at once, and one a second afterwards.
const OFFERS: u64 = 10;

/// Whether something was said and nothing was wrong.
pub(crate) fn run(data: &[u8]) -> bool {
    let begin = Instant::now();
    let mut told = Told { conversation: Conversation::new(Grant::everything()), now: begin, ..Told::new() };
    let mut accepts = true;
    for line in data.split(|byte| *byte == b'\n') {
        match line {
            b"!accept" => accepts = true,
            b"!refuse" => accepts = false,
            b"!wait" => told.now += Duration::from_secs(1),
            b"!expired" => {
                let actions = told.conversation.access_ended(AccessEnd::Expired);
                told.hear(actions, accepts);
            }
            b"!shutdown" => {
                let actions = told.conversation.shutdown();
                told.hear(actions, accepts);
            }
            b"!lost" => told.viewer_closed(&CloseReason::ConsentExpired, accepts),
            b"!failed" => told.viewer_closed(&CloseReason::Failed("why".to_owned()), accepts),
            b"!left" => told.viewer_closed(&CloseReason::Left, accepts),
            b"!stopped" => told.viewer_closed(&CloseReason::StreamStopped, accepts),
            frame => {
                let actions = told.conversation.frame(frame, told.now);
                assert!(actions.len() <= 2, "one frame, one answer: {actions:?}");
                told.hear(actions, accepts);
            }
        }
        // The socket is closed then, and its task gone.
        if told.closed {
            assert!(told.conversation.frame(line, told.now).is_empty());
            break;
        }
    }
    let seconds = told.now.duration_since(begin).as_secs();
    assert!(told.asked <= OFFERS + seconds, "{} offers in {seconds} s", told.asked);
    told.asked > 0 && told.refused == 0
}

struct Told {
    conversation: Conversation,
    now: Instant,
    /// Whether the page has a viewer, as far as it was told.
    viewer: bool,
    asked: u64,
    refused: u64,
    closed: bool,
}

impl Told {
    fn new() -> Self {
        let conversation = Conversation::new(Grant::nothing());
        Self { conversation, now: Instant::now(), viewer: false, asked: 0, refused: 0, closed: false }
    }

    fn viewer_closed(&mut self, reason: &CloseReason, accepts: bool) {
        // Only a viewer can end.
        if self.viewer {
            self.viewer = false;
            let actions = self.conversation.viewer_closed(reason);
            self.hear(actions, accepts);
        }
    }

    fn hear(&mut self, actions: Vec<Action>, accepts: bool) {
        for action in actions {
            assert!(!self.closed, "nothing after the end: {action:?}");
            match action {
                Action::Add { camera, stream, offer } => {
                    assert!(!stream.is_empty() && !offer.is_empty() && camera.as_str().len() == 32);
                    self.asked += 1;
                    self.answer(accepts);
                }
                Action::Refuse(wrong) => {
                    let text = wrong.to_string();
                    assert!(text.len() <= 500 && !text.contains(char::is_control), "{text:?}");
                    self.refused += 1;
                }
                Action::Say(message) => assert!(matches!(message, ServerMessage::Error { .. }), "{message:?}"),
                Action::Drop => assert!(std::mem::take(&mut self.viewer), "there is a viewer to end"),
                Action::Close(code, reason) => {
                    assert!(!self.viewer, "the viewer ends before the socket");
                    assert!([1000, 1001, 1008, 4401].contains(&code) && reason.len() <= 123, "{code} {reason}");
                    self.closed = true;
                }
            }
        }
        assert_eq!(self.conversation.has_viewer(), self.viewer);
    }

    /// What control says to an offer, and what the page hears of it: the answer first.
    fn answer(&mut self, accepts: bool) {
        if !accepts {
            let refusal = self.conversation.added(Err("No active stream found".to_owned()));
            assert!(matches!(refusal[..], [Action::Refuse(_)]), "{refusal:?}");
            self.refused += 1;
            return;
        }
        let candidate = honeycast::control::Candidate {
            candidate: "candidate:1".to_owned(),
            sdp_mid: "0".to_owned(),
            sdp_m_line_index: 0,
        };
        let accepted =
            Accepted { viewer_id: "viewer".to_owned(), answer: "v=0".to_owned(), candidates: vec![candidate; 2] };
        let said = self.conversation.added(Ok(accepted));
        assert!(matches!(said[0], Action::Say(ServerMessage::ViewerResponse { .. })), "{said:?}");
        assert!(said[1..].iter().all(|action| matches!(action, Action::Say(ServerMessage::IceCandidate { .. }))));
        assert_eq!(said.len(), 3);
        self.viewer = true;
    }
}
