//! Which sections and payload types of an offer are used (RFC 8829 §5.3, RFC 6184 §8.2, RFC 4588 §8).

use super::certificate::Fingerprint;
use super::dtls::DtlsRole;
use super::offer::{OfferError, OfferedCodec, ParsedOffer, Section, Transport};
use crate::media::{Codec, MediaKind};

const H264: &str = "H264/90000";
/// What cameras send, the better one first. Every browser has both (RFC 7874 §3).
const SOUND: [(&str, Codec); 2] = [("opus/48000/2", Codec::Opus), ("PCMU/8000", Codec::Pcmu)];
const RTX_VIDEO: &str = "rtx/90000";
/// Feedback that is answered when offered.
const VIDEO_FEEDBACK: [&str; 4] = ["nack", "nack pli", "ccm fir", "goog-remb"];
/// Arrival times of packets that carry the extension; the thinning of weak viewers looks at them.
const TRANSPORT_CC: &str = "transport-cc";
pub(super) const TRANSPORT_CC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// RFC 6184 §8.1: what a missing `profile-level-id` means.
const DEFAULT_PROFILE_LEVEL_ID: &str = "42000a";

/// What is made of one offer.
#[derive(Debug)]
pub(super) struct Negotiated {
    /// One verdict per section of the offer.
    pub(super) sections: Vec<Verdict>,
    pub(super) bundled: bool,
    pub(super) role: DtlsRole,
    pub(super) remote_ufrag: String,
    pub(super) fingerprints: Vec<Fingerprint>,
}

/// What is made of one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted(Accepted),
    /// The text says why.
    Rejected(String),
}

/// The payload types to use in an accepted section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) kind: MediaKind,
    /// The preferred one first; never empty. Any of them may be sent at any time (RFC 3264 §6.1).
    pub(super) formats: Vec<AcceptedFormat>,
    pub(super) rtx: Option<u8>,
    /// Number of the transport-wide sequence number extension.
    pub(super) transport_cc: Option<u8>,
}

/// One payload type that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AcceptedFormat {
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    pub(super) rtpmap: String,
    pub(super) fmtp: String,
    pub(super) feedback: Vec<&'static str>,
}

/// What the running stream is known to send; both browsers and the camera keep to it where they can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunningCodecs<'a> {
    /// `profile-level-id` of the camera's real SPS, six hex digits: the offer's H.264 payload type is chosen by it.
    pub profile_level_id: Option<&'a str>,
    /// What the sound is; it is preferred in the answer.
    pub audio: Option<Codec>,
}

/// Chooses one video and one audio section that share a transport.
///
/// # Errors
///
/// [`OfferError`] when there is nothing to send, or video that does not fit a camera.
pub(super) fn negotiate(offer: &ParsedOffer, running: RunningCodecs<'_>) -> Result<Negotiated, OfferError> {
    let mut verdicts: Vec<Verdict> = offer.sections.iter().map(|section| judge(section, running)).collect();
    require_video_if_offered(offer, &verdicts)?;
    keep_first_of_each_kind(&mut verdicts);
    let bundle = keep_one_transport(offer, &mut verdicts);
    let is_accepted = |i: &usize| matches!(verdicts[*i], Verdict::Accepted(_));
    // The transport is that of the first accepted section of the group (RFC 8843 §7.3.1).
    let by_mid = |mid: &String| offer.sections.iter().position(|s| s.mid.as_ref() == Some(mid));
    let tagged = bundle.iter().flat_map(|mids| mids.iter().filter_map(by_mid)).find(is_accepted);
    let first = tagged.or_else(|| (0..verdicts.len()).find(is_accepted)).ok_or(OfferError::NothingToSend)?;
    let (remote_ufrag, fingerprints, role) = transport(&offer.sections[first].transport)?;
    Ok(Negotiated { sections: verdicts, bundled: bundle.is_some(), role, remote_ufrag, fingerprints })
}

/// One section on its own.
fn judge(section: &Section, running: RunningCodecs<'_>) -> Verdict {
    let reject = |why: &str| Verdict::Rejected(why.to_owned());
    let kind = match section.media.as_str() {
        "video" => MediaKind::Video,
        "audio" => MediaKind::Audio,
        "application" => return reject("data channels are not served"),
        _ => return reject("only audio and video are served"),
    };
    if section.disabled {
        return reject("its port is 0 in the offer");
    }
    if !section.protocol.ends_with("RTP/SAVPF") {
        return reject("its transport is not DTLS-SRTP with feedback (UDP/TLS/RTP/SAVPF)");
    }
    if !section.receives {
        return reject("it does not receive");
    }
    if !section.rtcp_mux {
        return reject("it lacks rtcp-mux");
    }
    let accepted = match kind {
        MediaKind::Video => accept_video(section, running.profile_level_id).ok_or("no H.264 with packetization-mode=1"),
        MediaKind::Audio => accept_audio(section, running.audio).ok_or("neither Opus with 48000/2 nor PCMU"),
    };
    accepted.map_or_else(reject, Verdict::Accepted)
}

fn accept_video(section: &Section, camera: Option<&str>) -> Option<Accepted> {
    let codec = choose_h264(section, camera)?;
    let apt = codec.payload_type.to_string();
    let rtx = section.codecs.iter().find(|c| c.is(RTX_VIDEO) && c.parameter("apt") == Some(&apt));
    let offered = |name: &&str| codec.feedback.iter().any(|f| f == name);
    let rtx = rtx.map(|c| c.payload_type);
    // Without RTX a packet that is resent has to be the same to the last byte, and could not get a new number.
    let extension = section.extensions.iter().find(|(_, uri)| uri == TRANSPORT_CC_URI).map(|(number, _)| *number);
    let transport_cc = extension.filter(|_| rtx.is_some() && offered(&TRANSPORT_CC));
    let mut feedback: Vec<_> = VIDEO_FEEDBACK.into_iter().filter(offered).collect();
    feedback.extend(transport_cc.map(|_| TRANSPORT_CC));
    let format = AcceptedFormat {
        codec: Codec::H264,
        payload_type: codec.payload_type,
        rtpmap: codec.rtpmap.clone(),
        fmtp: answered_h264(codec, camera),
        feedback,
    };
    Some(Accepted { kind: MediaKind::Video, formats: vec![format], rtx, transport_cc })
}

/// All that the offer has of what cameras send: which of them comes may change while the viewer watches.
fn accept_audio(section: &Section, camera: Option<Codec>) -> Option<Accepted> {
    let format = |(rtpmap, codec): (&str, Codec)| {
        let offered = section.codecs.iter().find(|c| c.is(rtpmap))?;
        let OfferedCodec { payload_type, rtpmap, fmtp, .. } = offered;
        let (rtpmap, fmtp) = (rtpmap.clone(), fmtp.clone());
        Some(AcceptedFormat { codec, payload_type: *payload_type, rtpmap, fmtp, feedback: Vec::new() })
    };
    let mut formats: Vec<_> = SOUND.into_iter().filter_map(format).collect();
    formats.sort_by_key(|format| Some(format.codec) != camera);
    (!formats.is_empty()).then_some(Accepted { kind: MediaKind::Audio, formats, rtx: None, transport_cc: None })
}

/// The H.264 payload type whose profile is nearest to the camera's; packetization-mode 1 only.
fn choose_h264<'a>(section: &'a Section, camera: Option<&str>) -> Option<&'a OfferedCodec> {
    let camera = camera.and_then(profile_of);
    let rank = |codec: &&OfferedCodec| {
        let offered = offered_profile(codec);
        let baseline = match offered {
            Some((0x42, constraints)) if constraints & 0x40 != 0 => 0,
            Some((0x42, _)) => 1,
            _ => 2,
        };
        let distance = match (camera, offered) {
            (Some(camera), Some(offered)) if camera == offered => 0,
            (Some(camera), Some(offered)) if camera.0 == offered.0 => 1,
            _ => 2,
        };
        (distance, baseline)
    };
    let usable = |codec: &&OfferedCodec| codec.is(H264) && codec.parameter("packetization-mode") == Some("1");
    section.codecs.iter().filter(usable).min_by_key(rank)
}

/// `profile_idc` and constraint flags of a `profile-level-id` (RFC 6184 §8.1).
fn profile_of(profile_level_id: &str) -> Option<(u8, u8)> {
    if profile_level_id.len() != 6 || !profile_level_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&profile_level_id[at..at + 2], 16).ok();
    Some((byte(0)?, byte(2)?))
}

fn offered_profile(codec: &OfferedCodec) -> Option<(u8, u8)> {
    profile_of(codec.parameter("profile-level-id").unwrap_or(DEFAULT_PROFILE_LEVEL_ID))
}

/// The offer's parameters; the camera's own `profile-level-id` where only the level differs and the
/// offer allows that (RFC 6184 §8.2.2, level-asymmetry-allowed).
fn answered_h264(codec: &OfferedCodec, camera: Option<&str>) -> String {
    let asymmetric = codec.parameter("level-asymmetry-allowed") == Some("1");
    match (camera, codec.parameter("profile-level-id")) {
        (Some(camera), Some(offered)) if asymmetric && profile_of(camera) == profile_of(offered) => {
            codec.fmtp.replace(offered, camera)
        }
        _ => codec.fmtp.clone(),
    }
}

fn require_video_if_offered(offer: &ParsedOffer, verdicts: &[Verdict]) -> Result<(), OfferError> {
    let video: Vec<_> =
        offer.sections.iter().zip(verdicts).filter(|(s, _)| s.media == "video" && !s.disabled && s.receives).collect();
    let reasons: Vec<_> = video
        .iter()
        .filter_map(|(_, verdict)| match verdict {
            Verdict::Rejected(why) => Some(why.as_str()),
            Verdict::Accepted(_) => None,
        })
        .collect();
    if !video.is_empty() && reasons.len() == video.len() {
        return Err(OfferError::Video(reasons.join(", ")));
    }
    Ok(())
}

fn keep_first_of_each_kind(verdicts: &mut [Verdict]) {
    for kind in [MediaKind::Video, MediaKind::Audio] {
        for verdict in verdicts.iter_mut().filter(|v| is_kind(v, kind)).skip(1) {
            *verdict = Verdict::Rejected("a camera has one video and one audio track".to_owned());
        }
    }
}

/// Rejects what cannot share the transport of the video (or else of the audio); gives the BUNDLE group used.
fn keep_one_transport(offer: &ParsedOffer, verdicts: &mut [Verdict]) -> Option<Vec<String>> {
    let lead = [MediaKind::Video, MediaKind::Audio]
        .into_iter()
        .find_map(|kind| verdicts.iter().position(|verdict| is_kind(verdict, kind)))?;
    let mid = |i: usize| offer.sections[i].mid.as_ref();
    let group = mid(lead).and_then(|mid| offer.bundles.iter().find(|group| group.contains(mid)));
    for (i, verdict) in verdicts.iter_mut().enumerate().filter(|(i, _)| *i != lead) {
        let shares = group.is_some_and(|group| mid(i).is_some_and(|mid| group.contains(mid)));
        if matches!(verdict, Verdict::Accepted(_)) && !shares {
            *verdict = Verdict::Rejected("it is not in one BUNDLE group with the other media".to_owned());
        }
    }
    group.cloned()
}

fn is_kind(verdict: &Verdict, wanted: MediaKind) -> bool {
    matches!(verdict, Verdict::Accepted(accepted) if accepted.kind == wanted)
}

fn transport(transport: &Transport) -> Result<(String, Vec<Fingerprint>, DtlsRole), OfferError> {
    let ufrag = transport.ufrag.clone().filter(|_| transport.has_pwd).ok_or(OfferError::Ice)?;
    if transport.fingerprints.is_empty() {
        return Err(OfferError::Fingerprint);
    }
    let role = match transport.setup.as_deref() {
        // An offer without the line leaves the choice to us.
        None | Some("actpass" | "active") => DtlsRole::Server,
        Some("passive") => DtlsRole::Client,
        Some(other) => return Err(OfferError::Setup(other.to_owned())),
    };
    Ok((ufrag, transport.fingerprints.clone(), role))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = include_str!("../../tests/data/offer-chromium.sdp");

    fn chosen(text: &str, camera: Option<&str>) -> Result<Negotiated, OfferError> {
        let running = RunningCodecs { profile_level_id: camera, audio: None };
        negotiate(&ParsedOffer::parse(text).unwrap(), running)
    }

    fn accepted(negotiated: &Negotiated, at: usize) -> &Accepted {
        match &negotiated.sections[at] {
            Verdict::Accepted(accepted) => accepted,
            Verdict::Rejected(why) => panic!("{why}"),
        }
    }

    fn why(negotiated: &Negotiated, at: usize) -> &str {
        match &negotiated.sections[at] {
            Verdict::Rejected(why) => why,
            Verdict::Accepted(_) => panic!("section {at} was accepted"),
        }
    }

    #[test]
    fn the_payload_type_follows_the_cameras_profile() {
        for (camera, payload_type) in [
            (None, 108),
            (Some("42e01f"), 108),
            (Some("42E028"), 108),
            (Some("42001f"), 102),
            (Some("42c01e"), 108),
            (Some("4d0028"), 116),
            (Some("f4001f"), 41),
            (Some("640028"), 108),
            (Some("nonsense"), 108),
            (Some("ä2001"), 108),
        ] {
            let negotiated = chosen(CHROMIUM, camera).unwrap();
            let video = accepted(&negotiated, 0);
            assert_eq!(video.formats[0].payload_type, payload_type, "{camera:?}");
            assert_eq!(video.rtx, Some(if payload_type == 41 { 42 } else { payload_type + 1 }));
        }
    }

    #[test]
    fn only_the_level_of_the_camera_is_written_into_the_answer() {
        let fmtp = |camera| accepted(&chosen(CHROMIUM, Some(camera)).unwrap(), 0).formats[0].fmtp.clone();
        assert!(fmtp("42e028").ends_with("profile-level-id=42e028"));
        assert!(fmtp("640028").ends_with("profile-level-id=42e01f"));
    }

    #[test]
    fn feedback_is_answered_as_offered() {
        let negotiated = chosen(CHROMIUM, None).unwrap();
        let mut feedback = VIDEO_FEEDBACK.to_vec();
        feedback.push("transport-cc");
        assert_eq!(accepted(&negotiated, 0).formats[0].feedback, feedback);
        assert!(accepted(&negotiated, 1).formats.iter().all(|format| format.feedback.is_empty()));
        let plain = CHROMIUM.replace("a=rtcp-fb:108 nack\r\n", "").replace("a=rtcp-fb:108 goog-remb\r\n", "");
        assert_eq!(
            accepted(&chosen(&plain, None).unwrap(), 0).formats[0].feedback,
            ["nack pli", "ccm fir", "transport-cc"]
        );
    }

    #[test]
    fn an_offer_without_fitting_h264_is_refused_in_words() {
        let error = chosen(&CHROMIUM.replace("packetization-mode=1", "packetization-mode=0"), None).unwrap_err();
        assert!(error.to_string().contains("H.264 with packetization-mode=1"), "{error}");
        let error = chosen(&CHROMIUM.replace("H264/90000", "VP8/90000"), None).unwrap_err();
        assert!(matches!(error, OfferError::Video(_)));
    }

    #[test]
    fn what_cannot_be_served_is_rejected_with_a_reason() {
        let extra = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 H264/90000\r\n\
            a=fmtp:96 packetization-mode=1\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:3\r\n";
        let negotiated = chosen(&format!("{}{extra}", CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0 1 2 3")), None).unwrap();
        assert_eq!(why(&negotiated, 2), "a camera has one video and one audio track");
        assert_eq!(why(&negotiated, 3), "data channels are not served");
        assert!(negotiated.bundled);
        let foreign = CHROMIUM.replace("opus/48000/2", "speex/8000").replace("PCMU/8000", "G723/8000");
        assert_eq!(why(&chosen(&foreign, None).unwrap(), 1), "neither Opus with 48000/2 nor PCMU");
    }

    #[test]
    fn all_sound_that_cameras_send_is_accepted_and_what_the_camera_sends_now_is_preferred() {
        let audio = |text: &str, audio| {
            let running = RunningCodecs { profile_level_id: None, audio };
            let negotiated = negotiate(&ParsedOffer::parse(text).unwrap(), running).unwrap();
            let formats = &accepted(&negotiated, 1).formats;
            formats.iter().map(|format| (format.codec, format.payload_type)).collect::<Vec<_>>()
        };
        let (opus, pcmu) = ((Codec::Opus, 111), (Codec::Pcmu, 0));
        assert_eq!(audio(CHROMIUM, None), [opus, pcmu]);
        assert_eq!(audio(CHROMIUM, Some(Codec::Opus)), [opus, pcmu]);
        assert_eq!(audio(CHROMIUM, Some(Codec::Pcmu)), [pcmu, opus]);
        assert_eq!(audio(&CHROMIUM.replace("opus/", "vorbis/"), Some(Codec::Opus)), [pcmu]);
        assert_eq!(audio(&CHROMIUM.replace("PCMU/", "G729/"), Some(Codec::Pcmu)), [opus]);
        // Payload type 0 needs no rtpmap line (RFC 3551 §6).
        assert_eq!(audio(&CHROMIUM.replace("a=rtpmap:0 PCMU/8000\r\n", ""), None), [opus, pcmu]);
        assert_eq!(audio(&CHROMIUM.replace("PCMU/8000", "pcmu/8000/1"), None), [opus, pcmu]);
    }

    #[test]
    fn without_a_common_bundle_only_the_video_is_served() {
        for text in [CHROMIUM.replace("a=group:BUNDLE 0 1\r\n", ""), CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0")] {
            let negotiated = chosen(&text, None).unwrap();
            assert_eq!(accepted(&negotiated, 0).kind, MediaKind::Video);
            assert!(why(&negotiated, 1).contains("BUNDLE"));
        }
    }

    #[test]
    fn audio_alone_is_served_and_nothing_at_all_is_refused() {
        let audio_at = CHROMIUM.find("m=audio").unwrap();
        let audio = format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{}", &CHROMIUM[audio_at..]);
        assert_eq!(accepted(&chosen(&audio, None).unwrap(), 0).kind, MediaKind::Audio);
        let inactive = CHROMIUM.replace("a=recvonly", "a=sendonly");
        assert_eq!(chosen(&inactive, None).unwrap_err(), OfferError::NothingToSend);
        let none = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
        assert_eq!(chosen(none, None).unwrap_err(), OfferError::NothingToSend);
    }

    #[test]
    fn the_transport_must_be_complete() {
        assert_eq!(chosen(&CHROMIUM.replace("a=ice-ufrag", "a=x"), None).unwrap_err(), OfferError::Ice);
        assert_eq!(chosen(&CHROMIUM.replace("a=ice-pwd", "a=x"), None).unwrap_err(), OfferError::Ice);
        assert_eq!(chosen(&CHROMIUM.replace("sha-256", "sha-1"), None).unwrap_err(), OfferError::Fingerprint);
        let hold = chosen(&CHROMIUM.replace("actpass", "holdconn"), None).unwrap_err();
        assert_eq!(hold, OfferError::Setup("holdconn".to_owned()));
        assert_eq!(chosen(&CHROMIUM.replace("actpass", "passive"), None).unwrap().role, DtlsRole::Client);
        assert_eq!(chosen(&CHROMIUM.replace("actpass", "active"), None).unwrap().role, DtlsRole::Server);
        assert_eq!(
            chosen(&CHROMIUM.replace("rtcp-mux", "x"), None).unwrap_err().to_string().matches("rtcp-mux").count(),
            1
        );
    }
}
