//! A frame on the signaling socket.

use honeycast::signaling::protocol::{ClientMessage, Refusal, ServerMessage, parse};

/// Whether `data` is a message that is understood.
pub(crate) fn run(data: &[u8]) -> bool {
    match parse(data) {
        Ok(ClientMessage::Viewer { camera, stream, offer }) => {
            assert!([&camera, &stream, &offer].into_iter().all(|field| !field.is_empty() && field.len() <= data.len()));
        }
        Ok(ClientMessage::Candidate | ClientMessage::Stop) => {}
        Err(refusal) => {
            let message = refusal.to_string();
            assert!(message.chars().count() <= 100, "what is sent back is short: {message:?}");
            assert!(!message.contains(char::is_control), "{message:?}");
            assert!(refusal != Refusal::NotJson || message == "Invalid JSON");
            // What goes back to the page is a message itself, of a type that pages do not send.
            let answer = ServerMessage::Error { message }.to_json();
            assert_eq!(parse(answer.as_bytes()), Err(Refusal::UnknownType("error".into())));
            return false;
        }
    }
    true
}
