//! The messages of the signaling socket (contract §6), without the socket.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::control::Candidate;

/// Longest part of a foreign text that is sent back.
const ECHO: usize = 64;

/// What a page asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Watch a stream.
    Viewer {
        /// The camera, not yet checked.
        camera: String,
        /// The stream that the page believes to run.
        stream: String,
        /// SDP offer.
        offer: String,
    },
    /// A candidate of the page. Nothing is done with it: an ICE-lite server learns addresses from the
    /// page's own checks (RFC 8445 §2.5), whatever their names.
    Candidate,
    /// Watch no longer.
    Stop,
}

/// A message that cannot be used. The texts are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not JSON, or not an object.
    #[error("Invalid JSON")]
    NotJson,
    /// `type` is unknown or missing.
    #[error("Unknown message type: {0}")]
    UnknownType(String),
    /// `viewer` without one of its fields.
    #[error("Missing required fields: cameraId, streamId, sdpOffer")]
    MissingFields,
}

/// Reads a message; text and binary frames hold the same.
///
/// # Errors
///
/// [`Refusal`]; the socket stays open.
pub fn parse(frame: &[u8]) -> Result<ClientMessage, Refusal> {
    let Ok(Value::Object(message)) = serde_json::from_slice(frame) else {
        return Err(Refusal::NotJson);
    };
    match message.get("type").and_then(Value::as_str) {
        Some("viewer") => viewer(&message).ok_or(Refusal::MissingFields),
        Some("onIceCandidate") => Ok(ClientMessage::Candidate),
        Some("stop") => Ok(ClientMessage::Stop),
        Some(other) => Err(Refusal::UnknownType(Echo(other).to_string())),
        None => Err(Refusal::UnknownType("none".to_owned())),
    }
}

fn viewer(message: &Map<String, Value>) -> Option<ClientMessage> {
    let field = |name| message.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(ClientMessage::Viewer { camera: field("cameraId")?, stream: field("streamId")?, offer: field("sdpOffer")? })
}

/// The start of a foreign text, safe to send back and to log.
pub(super) struct Echo<'a>(pub(super) &'a str);

impl fmt::Display for Echo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = self.0.chars().take(ECHO).map(|c| if c.is_control() { '\u{fffd}' } else { c });
        f.write_str(&printable.collect::<String>())
    }
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ServerMessage {
    /// The answer to `viewer`; always before the candidates.
    ViewerResponse {
        /// SDP answer.
        sdp_answer: String,
        /// For logs and the API.
        viewer_id: String,
    },
    /// One of the server's candidates.
    IceCandidate {
        /// As browsers take it.
        candidate: Candidate,
    },
    /// Something went wrong.
    Error {
        /// In words.
        message: String,
    },
}

impl ServerMessage {
    /// As JSON.
    pub fn to_json(&self) -> String {
        // Strings and numbers under string keys: there is nothing that serde_json could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_messages_are_read() {
        let viewer = br#"{"type":"viewer","cameraId":"C","streamId":"S","sdpOffer":"v=0","extra":1}"#;
        let expected = ClientMessage::Viewer { camera: "C".into(), stream: "S".into(), offer: "v=0".into() };
        assert_eq!(parse(viewer), Ok(expected));
        let candidate = br#"{"type":"onIceCandidate","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0}}"#;
        assert_eq!(parse(candidate), Ok(ClientMessage::Candidate));
        assert_eq!(parse(br#"{"type":"onIceCandidate"}"#), Ok(ClientMessage::Candidate));
        assert_eq!(parse(br#"{"type":"stop"}"#), Ok(ClientMessage::Stop));
    }

    #[test]
    fn refusals_have_the_contracts_texts() {
        let text = |frame: &[u8]| parse(frame).unwrap_err().to_string();
        for junk in [&b""[..], b"{", b"[1]", b"7", b"\xff\xfe", b"null"] {
            assert_eq!(text(junk), "Invalid JSON");
        }
        assert_eq!(text(br#"{"type":"x"}"#), "Unknown message type: x");
        assert_eq!(text(b"{}"), "Unknown message type: none");
        assert_eq!(text(br#"{"type":5}"#), "Unknown message type: none");
        let missing = "Missing required fields: cameraId, streamId, sdpOffer";
        for frame in [
            &br#"{"type":"viewer"}"#[..],
            br#"{"type":"viewer","cameraId":"C","streamId":"S"}"#,
            br#"{"type":"viewer","cameraId":"C","streamId":"","sdpOffer":"v=0"}"#,
            br#"{"type":"viewer","cameraId":"C","streamId":null,"sdpOffer":"v=0"}"#,
        ] {
            assert_eq!(text(frame), missing);
        }
    }

    #[test]
    fn what_is_echoed_is_short_and_printable() {
        let long = format!(r#"{{"type":"{}"}}"#, "\\u0007".repeat(500));
        let text = parse(long.as_bytes()).unwrap_err().to_string();
        assert!(text.chars().count() <= "Unknown message type: ".len() + ECHO);
        assert!(!text.contains('\u{7}'));
    }

    #[test]
    fn the_servers_messages_have_the_contracts_shape() {
        let response = ServerMessage::ViewerResponse { sdp_answer: "v=0".into(), viewer_id: "viewer-1".into() };
        assert_eq!(response.to_json(), r#"{"type":"viewerResponse","sdpAnswer":"v=0","viewerId":"viewer-1"}"#);
        let candidate = Candidate { candidate: "candidate:1".into(), sdp_mid: "0".into(), sdp_m_line_index: 0 };
        assert_eq!(
            ServerMessage::IceCandidate { candidate }.to_json(),
            r#"{"type":"iceCandidate","candidate":{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0}}"#
        );
        assert_eq!(ServerMessage::Error { message: "x".into() }.to_json(), r#"{"type":"error","message":"x"}"#);
    }
}
