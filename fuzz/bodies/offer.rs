//! A viewer's SDP offer, the whole way to the answer.

use std::sync::OnceLock;
use std::time::Instant;

use honeycast::media::{Codec, MediaKind};
use honeycast::webrtc::{
    Identity, LocalCandidate, MAX_OFFER_LEN, MAX_SECTIONS, ParsedOffer, RunningCodecs, Session, SessionConfig,
};

/// Whether `data` is an offer that gets an answer.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some(offer) = std::str::from_utf8(data).ok().and_then(|text| ParsedOffer::parse(text).ok()) else {
        return false;
    };
    assert!(data.len() <= MAX_OFFER_LEN);
    // What the camera sends decides about the payload types, not about success.
    let running = [
        (None, None),
        (Some("42e01f"), Some(Codec::Opus)),
        (Some("640028"), Some(Codec::Pcmu)),
        (Some("nonsense"), Some(Codec::H264)),
    ];
    let answered = running.map(|(profile_level_id, audio)| answer(&offer, RunningCodecs { profile_level_id, audio }));
    assert!(answered.iter().all(|result| *result == answered[0]));
    answered[0]
}

fn answer(offer: &ParsedOffer, running: RunningCodecs<'_>) -> bool {
    let Ok((session, answer)) = Session::accept(offer, config(), running, Instant::now()) else { return false };
    let sdp = &answer.sdp;
    assert!(sdp.ends_with("\r\n"));
    for line in sdp.split_terminator("\r\n") {
        assert!(!line.contains(char::is_control), "the offer must not start lines in the answer: {line:?}");
        assert!(line.as_bytes().get(1) == Some(&b'='), "{line:?}");
    }
    let lines = |start: &str| sdp.lines().filter(|line| line.starts_with(start)).count();
    let tracks = session.tracks();
    let all: Vec<_> = [&tracks.video, &tracks.audio].into_iter().flatten().collect();
    assert!(!all.is_empty(), "an answer without media is an error instead");
    assert!(lines("m=") <= MAX_SECTIONS);
    assert_eq!(lines("m="), all.len() + answer.rejected.len(), "one section for each of the offer");
    assert_eq!(lines("a=ice-lite"), 1);
    let begin: Vec<_> = sdp.lines().take(5).map(|line| line.get(..2).unwrap_or_default()).collect();
    assert_eq!(begin, ["v=", "o=", "s=", "t=", "a="], "in the order of RFC 8866 §5");
    for track in all {
        assert!(!track.formats.is_empty());
        for format in &track.formats {
            assert!(format.payload_type < 128);
            assert_eq!(format.codec.kind() == MediaKind::Video, tracks.video.as_ref() == Some(track));
            assert!(sdp.contains(&format!("a=rtpmap:{} ", format.payload_type)));
        }
        assert_eq!(track.mid.is_empty(), !sdp.contains(&format!("a=mid:{}\r\n", track.mid)));
        assert!(sdp.contains(&format!("a=ssrc:{} ", track.ssrc.0)));
        if let Some(rtx) = track.rtx {
            assert_ne!(rtx.ssrc, track.ssrc);
            assert!(sdp.contains(&format!("a=ssrc-group:FID {} {}\r\n", track.ssrc.0, rtx.ssrc.0)));
        }
    }
    for candidate in &answer.candidates {
        assert!(sdp.contains(&format!("a={candidate}\r\n")));
    }
    if sdp.len() <= MAX_OFFER_LEN {
        ParsedOffer::parse(sdp).expect("an answer is valid SDP");
    }
    true
}

/// One certificate for all runs: making one takes longer than everything else.
fn config() -> &'static SessionConfig {
    static CONFIG: OnceLock<SessionConfig> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let candidates = ["203.0.113.7", "2001:db8::7"]
            .map(|ip| LocalCandidate::udp(ip.parse().expect("an address"), 8189))
            .to_vec();
        SessionConfig { identity: Identity::generate().expect("a certificate"), candidates }
    })
}
