//! What the server says to a camera: JSON of contract §2 with the SDP of contract §3.
//!
//! First-party cameras stay silent when something that they rely on is missing. This one says what.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;
use uuid::Uuid;

use crate::base::{CameraId, StreamId};
use crate::media::Ssrc;

/// Payload type of the video, as the contract names it.
pub(super) const VIDEO_PT: u8 = 103;
/// Payload types of the sound.
pub(super) const OPUS_PT: u8 = 96;
pub(super) const PCMU_PT: u8 = 0;

/// Which topic a message came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Play,
    Keepalive,
    Stop,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Play => "play",
            Self::Keepalive => "keepalive",
            Self::Stop => "stop",
        }
    }
}

/// A message that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Play { stream: StreamId, target: Box<Target> },
    Keepalive { stream: StreamId, count: u64 },
    Stop { stream: StreamId },
}

/// Where to send what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) video: Destination,
    pub(super) audio: Destination,
    pub(super) cname: String,
}

/// Where one medium goes, and as which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) rtp: SocketAddr,
    pub(super) rtcp: SocketAddr,
    pub(super) ssrc: Ssrc,
}

/// Why a message is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the message is not the JSON of the contract: {0}")]
    Json(String),
    #[error("{key} is {found:?}, expected {expected:?}")]
    Value { key: &'static str, found: String, expected: String },
    #[error("the message has no {0}")]
    Key(&'static str),
    #[error("the SDP's lines do not end in CR LF")]
    LineEnds,
    #[error("the SDP has no line {0}")]
    Line(&'static str),
    #[error("the SDP's {section} section has no line {line}")]
    SectionLine { section: &'static str, line: &'static str },
    #[error("the SDP has no usable {0}")]
    Unusable(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(rename = "requestId")]
    _request_id: Uuid,
    creation_timestamp: String,
    source_id: String,
    source_type: String,
    stream_id: StreamId,
    sdp_offer: Option<String>,
    keepalive_count: Option<u64>,
    message_type: String,
}

/// Understands a message for `camera`.
pub(super) fn parse(kind: Kind, camera: CameraId, payload: &[u8]) -> Result<Command, Refusal> {
    let message: Message = serde_json::from_slice(payload).map_err(|error| Refusal::Json(error.to_string()))?;
    for (key, found, expected) in [
        ("messageType", &message.message_type, kind.name()),
        ("sourceId", &message.source_id, camera.as_str()),
        ("sourceType", &message.source_type, "hive-cam"),
    ] {
        if found != expected {
            return Err(Refusal::Value { key, found: found.clone(), expected: expected.to_owned() });
        }
    }
    if message.creation_timestamp.parse::<jiff::Timestamp>().is_err() || !message.creation_timestamp.ends_with('Z') {
        let expected = "a UTC time like 2026-11-25T01:23:41.005000Z".to_owned();
        return Err(Refusal::Value { key: "creationTimestamp", found: message.creation_timestamp, expected });
    }
    let stream = message.stream_id;
    Ok(match kind {
        Kind::Play => {
            let sdp = message.sdp_offer.ok_or(Refusal::Key("sdpOffer"))?;
            Command::Play { stream, target: Box::new(parse_sdp(&sdp)?) }
        }
        Kind::Keepalive => {
            Command::Keepalive { stream, count: message.keepalive_count.ok_or(Refusal::Key("keepaliveCount"))? }
        }
        Kind::Stop => Command::Stop { stream },
    })
}

/// The lines of one part of the SDP.
#[derive(Default)]
struct Section<'a>(Vec<&'a str>);

impl<'a> Section<'a> {
    fn has(&self, line: &str) -> bool {
        self.0.contains(&line)
    }

    /// What follows `prefix` in the first line that begins with it.
    fn after(&self, prefix: &str) -> Option<&'a str> {
        self.0.iter().find_map(|line| line.strip_prefix(prefix))
    }
}

/// Understands the SDP of a `play`.
pub(super) fn parse_sdp(sdp: &str) -> Result<Target, Refusal> {
    let lines = crlf_lines(sdp)?;
    if lines.first() != Some(&"v=0") {
        return Err(Refusal::Line("v=0 at its beginning"));
    }
    let mut session = Section::default();
    let mut media: HashMap<&str, Section<'_>> = HashMap::new();
    let mut current: Option<&str> = None;
    for line in &lines {
        if let Some(description) = line.strip_prefix("m=") {
            current = description.split(' ').next();
        }
        match current {
            None => session.0.push(line),
            Some(kind) => media.entry(kind).or_default().0.push(line),
        }
    }
    if !session.has("s=Kurento Media Server") {
        return Err(Refusal::Line("s=Kurento Media Server"));
    }
    let ip = session.after("c=IN IP4 ").ok_or(Refusal::Line("c=IN IP4"))?;
    let ip: Ipv4Addr = ip.parse().map_err(|_| Refusal::Unusable("address in c=IN IP4"))?;
    if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() {
        return Err(Refusal::Unusable("address in c=IN IP4"));
    }

    let audio = media.get("audio").ok_or(Refusal::Line("m=audio"))?;
    let video = media.get("video").ok_or(Refusal::Line("m=video"))?;
    for (section, name) in [(audio, "audio"), (video, "video")] {
        if !section.has("a=direction:passive") {
            return Err(Refusal::SectionLine { section: name, line: "a=direction:passive" });
        }
    }
    for line in ["a=rtpmap:103 H264/90000", "a=rtcp-fb:103 goog-remb"] {
        if !video.has(line) {
            return Err(Refusal::SectionLine { section: "video", line });
        }
    }
    for line in ["a=rtpmap:96 opus/48000/2", "a=rtpmap:0 PCMU/8000"] {
        if !audio.has(line) {
            return Err(Refusal::SectionLine { section: "audio", line });
        }
    }

    // They stand below the last medium, but belong to none.
    let anywhere = Section(lines);
    let ssrc = |line: &'static str, name: &'static str| {
        let value = anywhere.after(line).ok_or(Refusal::Line(line))?;
        value.parse().map(Ssrc).map_err(|_| Refusal::Unusable(name))
    };
    let audio_ssrc = ssrc("a=x-skl-ssrca:", "number in a=x-skl-ssrca")?;
    let video_ssrc = ssrc("a=x-skl-ssrcv:", "number in a=x-skl-ssrcv")?;
    let cname = anywhere.after("a=x-skl-cname:").ok_or(Refusal::Line("a=x-skl-cname:"))?;
    if cname.is_empty() || cname.len() > 255 {
        return Err(Refusal::Unusable("name in a=x-skl-cname"));
    }
    Ok(Target {
        video: destination(video, "m=video ", &[VIDEO_PT], "port or payload type in m=video", ip, video_ssrc)?,
        audio: destination(audio, "m=audio ", &[OPUS_PT, PCMU_PT], "port or payload types in m=audio", ip, audio_ssrc)?,
        cname: cname.to_owned(),
    })
}

/// Lines without their ends; every end must be CR LF, the last one included (RFC 8866 §5).
fn crlf_lines(sdp: &str) -> Result<Vec<&str>, Refusal> {
    let text = sdp.strip_suffix("\r\n").ok_or(Refusal::LineEnds)?;
    let lines: Vec<&str> = text.split("\r\n").collect();
    match lines.iter().any(|line| line.contains(['\r', '\n'])) {
        true => Err(Refusal::LineEnds),
        false => Ok(lines),
    }
}

fn destination(
    section: &Section<'_>,
    prefix: &str,
    payload_types: &[u8],
    name: &'static str,
    ip: Ipv4Addr,
    ssrc: Ssrc,
) -> Result<Destination, Refusal> {
    let line = section.after(prefix).ok_or(Refusal::Unusable(name))?;
    let mut words = line.split(' ');
    let port = words.next().and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0);
    let port = port.ok_or(Refusal::Unusable(name))?;
    let is_avpf = words.next() == Some("RTP/AVPF");
    let offered: Vec<&str> = words.collect();
    if !is_avpf || payload_types.iter().any(|number| !offered.contains(&number.to_string().as_str())) {
        return Err(Refusal::Unusable(name));
    }
    // RFC 3605 §2.1; without the line it is the port above (RFC 3550 §11).
    let rtcp = match section.after("a=rtcp:") {
        Some(value) => value.split(' ').next().and_then(|port| port.parse().ok()).filter(|port| *port != 0),
        None => port.checked_add(1),
    };
    let rtcp = rtcp.ok_or(Refusal::Unusable("port in a=rtcp"))?;
    Ok(Destination { rtp: (ip, port).into(), rtcp: (ip, rtcp).into(), ssrc })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CAMERA, SDP, STREAM, keepalive, play, play_with, stop};
    use super::*;

    fn camera() -> CameraId {
        CAMERA.parse().unwrap()
    }

    fn refusal(sdp: &str) -> String {
        parse(Kind::Play, camera(), play_with(STREAM, sdp).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_contracts_messages_are_understood() {
        let stream: StreamId = STREAM.parse().unwrap();
        let target = Target {
            video: Destination {
                rtp: "192.0.2.10:5006".parse().unwrap(),
                rtcp: "192.0.2.10:5007".parse().unwrap(),
                ssrc: Ssrc(1_607_797_317),
            },
            audio: Destination {
                rtp: "192.0.2.10:5008".parse().unwrap(),
                rtcp: "192.0.2.10:5007".parse().unwrap(),
                ssrc: Ssrc(229_236_353),
            },
            cname: "user1159302211@host-95b0935a".to_owned(),
        };
        assert_eq!(
            parse(Kind::Play, camera(), play(STREAM).as_bytes()),
            Ok(Command::Play { stream, target: Box::new(target) })
        );
        assert_eq!(
            parse(Kind::Keepalive, camera(), keepalive(STREAM, 7).as_bytes()),
            Ok(Command::Keepalive { stream, count: 7 })
        );
        assert_eq!(parse(Kind::Stop, camera(), stop(STREAM).as_bytes()), Ok(Command::Stop { stream }));
    }

    #[test]
    fn each_essential_line_is_missed_by_name() {
        for (line, named) in [
            ("v=0\r\n", "v=0"),
            ("s=Kurento Media Server\r\n", "s=Kurento Media Server"),
            ("c=IN IP4 192.0.2.10\r\n", "c=IN IP4"),
            ("a=rtpmap:96 opus/48000/2\r\n", "audio section has no line a=rtpmap:96"),
            ("a=rtpmap:103 H264/90000\r\n", "video section has no line a=rtpmap:103"),
            ("a=rtcp-fb:103 goog-remb\r\n", "goog-remb"),
            ("a=x-skl-ssrca:229236353\r\n", "x-skl-ssrca"),
            ("a=x-skl-ssrcv:1607797317\r\n", "x-skl-ssrcv"),
            ("a=x-skl-cname:user1159302211@host-95b0935a\r\n", "x-skl-cname"),
        ] {
            assert_eq!(SDP.matches(line).count(), 1, "{line}");
            let text = refusal(&SDP.replace(line, ""));
            assert!(text.contains(named), "{line}: {text}");
        }
        let sections: Vec<&str> = SDP.split("a=direction:passive\r\n").collect();
        assert_eq!(sections.len(), 3);
        let without_first = format!("{}{}a=direction:passive\r\n{}", sections[0], sections[1], sections[2]);
        assert!(refusal(&without_first).contains("audio section has no line a=direction:passive"));
        let without_second = format!("{}a=direction:passive\r\n{}{}", sections[0], sections[1], sections[2]);
        assert!(refusal(&without_second).contains("video section has no line a=direction:passive"));
    }

    #[test]
    fn changed_lines_are_refused() {
        for (line, changed, named) in [
            ("s=Kurento Media Server", "s=-", "s=Kurento Media Server"),
            ("c=IN IP4 192.0.2.10", "c=IN IP6 2001:db8::1", "c=IN IP4"),
            ("c=IN IP4 192.0.2.10", "c=IN IP4 0.0.0.0", "address"),
            ("m=video 5006 RTP/AVPF 103", "m=video 0 RTP/AVPF 103", "m=video"),
            ("m=video 5006 RTP/AVPF 103", "m=video 5006 RTP/AVPF 102", "m=video"),
            ("m=audio 5008 RTP/AVPF 96 0", "m=audio x RTP/AVPF 96 0", "m=audio"),
            ("m=audio 5008 RTP/AVPF 96 0", "m=application 5008 RTP/AVPF 96 0", "m=audio"),
            ("a=x-skl-ssrcv:1607797317", "a=x-skl-ssrcv:video", "x-skl-ssrcv"),
        ] {
            let text = refusal(&SDP.replace(line, changed));
            assert!(text.contains(named), "{changed}: {text}");
        }
    }

    #[test]
    fn only_real_cr_lf_ends_a_line() {
        for sdp in [SDP.replace("\r\n", "\n"), SDP.replace("\r\n", "\\r\\n"), SDP.trim_end().to_owned(), String::new()]
        {
            assert!(refusal(&sdp).contains("CR LF"), "{sdp:?}");
        }
    }

    #[test]
    fn wrong_keys_are_named() {
        for (from, to, named) in [
            ("streamId", "stream", "streamId"),
            ("requestId", "id", "requestId"),
            (STREAM, "not-a-uuid", "not the JSON"),
            (CAMERA, "00000000000000000000000000000000", "sourceId"),
            ("\"hive-cam\"", "\"cam\"", "sourceType"),
            ("\"play\"", "\"stop\"", "messageType"),
            ("sdpOffer", "offer", "sdpOffer"),
            ("41.005000Z", "41.005000", "creationTimestamp"),
        ] {
            let message = play(STREAM).replace(from, to);
            let text = parse(Kind::Play, camera(), message.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(named), "{from}: {text}");
        }
        let error = parse(Kind::Keepalive, camera(), stop(STREAM).replace("\"stop\"", "\"keepalive\"").as_bytes());
        assert_eq!(error, Err(Refusal::Key("keepaliveCount")));
    }

    #[test]
    fn no_truncation_panics() {
        let message = play(STREAM);
        for end in 0..message.len() {
            assert!(parse(Kind::Play, camera(), &message.as_bytes()[..end]).is_err());
        }
        for end in 0..SDP.len() {
            let _ = parse_sdp(&SDP[..end]);
        }
    }
}
