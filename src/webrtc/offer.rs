//! A browser's SDP offer, parsed and checked once (RFC 8866, RFC 8829, RFC 8843).

use std::io::Cursor;

use sdp::SessionDescription;
use sdp::description::media::MediaName;

use super::certificate::Fingerprint;

/// Largest offer taken, in bytes. Chromium sends 7 KB for audio and video.
pub const MAX_OFFER_LEN: usize = 64 * 1024;
/// Most media sections taken.
pub const MAX_SECTIONS: usize = 16;
/// Most payload types taken in one section; there are 128.
pub const MAX_FORMATS: usize = 128;
/// Most attribute lines taken in one section.
pub const MAX_ATTRIBUTES: usize = 1024;
/// Longest mid and ICE user fragment taken, in bytes (RFC 8839 §5.4).
pub const MAX_TOKEN_LEN: usize = 256;

/// Why an offer cannot be used, in words for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Longer than [`MAX_OFFER_LEN`].
    #[error("the offer has {0} bytes, at most {MAX_OFFER_LEN} are taken")]
    TooLong(usize),
    /// Not SDP; the text is the parser's.
    #[error("the offer is not valid SDP: {0}")]
    Syntax(String),
    /// A list is longer than its named limit.
    #[error("the offer has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Nothing to send to.
    #[error("the offer has no media section that can receive audio or video")]
    NothingToSend,
    /// The offer wants video, but has none that a camera's stream fits; the text says what is missing.
    #[error("the offer's video cannot be served: {0} (cameras send H.264 with packetization-mode=1)")]
    Video(String),
    /// ICE lines are missing or odd.
    #[error("the offer's ICE credentials are missing or malformed")]
    Ice,
    /// No sha-256 fingerprint.
    #[error("the offer has no usable sha-256 certificate fingerprint")]
    Fingerprint,
    /// `a=setup` with a value that no session can start from.
    #[error("the offer's setup attribute is {0:?}; actpass, active or passive is needed")]
    Setup(String),
}

/// A validated offer.
#[derive(Debug, Clone)]
pub struct ParsedOffer {
    /// From `o=` (RFC 8866 §5.2): the same in all offers of one peer connection.
    pub(super) session_id: u64,
    pub(super) sections: Vec<Section>,
    /// The mids of each BUNDLE group, in order.
    pub(super) bundles: Vec<Vec<String>>,
}

/// One media section.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) formats: Vec<String>,
    /// Port 0 without `bundle-only`: the offerer itself has switched it off.
    pub(super) disabled: bool,
    pub(super) mid: Option<String>,
    pub(super) receives: bool,
    pub(super) rtcp_mux: bool,
    pub(super) sctp_port: Option<String>,
    pub(super) codecs: Vec<OfferedCodec>,
    /// Header extensions that the offerer takes, by their number (RFC 8285 §5).
    pub(super) extensions: Vec<(u8, String)>,
    pub(super) transport: Transport,
}

/// One payload type with what belongs to it.
#[derive(Debug, Clone)]
pub(super) struct OfferedCodec {
    pub(super) payload_type: u8,
    /// As written after `rtpmap:PT `.
    pub(super) rtpmap: String,
    /// As written after `fmtp:PT `; several lines joined with `;`.
    pub(super) fmtp: String,
    pub(super) feedback: Vec<String>,
}

/// ICE and DTLS lines of a section, session level included.
#[derive(Debug, Clone, Default)]
pub(super) struct Transport {
    pub(super) ufrag: Option<String>,
    pub(super) has_pwd: bool,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) setup: Option<String>,
}

impl ParsedOffer {
    /// Parses an offer within the limits named in this module.
    ///
    /// # Errors
    ///
    /// [`OfferError`] for what is not SDP or beyond a limit. What the offer *contains* is judged when a
    /// session accepts it.
    pub fn parse(text: &str) -> Result<Self, OfferError> {
        if text.len() > MAX_OFFER_LEN {
            return Err(OfferError::TooLong(text.len()));
        }
        let Lines { structure, session, media } = Lines::of(text)?;
        let description = SessionDescription::unmarshal(&mut Cursor::new(structure))
            .map_err(|e| OfferError::Syntax(shorten(&e.to_string())))?;
        limit(description.media_descriptions.len(), MAX_SECTIONS, "media sections")?;
        if media.len() != description.media_descriptions.len() {
            return Err(OfferError::Syntax("its media sections cannot be told apart".to_owned()));
        }
        limit(session.len(), MAX_ATTRIBUTES, "session attributes")?;
        let bundles = values(&session, "group")
            .filter_map(|group| group.strip_prefix("BUNDLE"))
            .map(|mids| mids.split_whitespace().map(str::to_owned).collect())
            .collect();
        let sections = description
            .media_descriptions
            .into_iter()
            .zip(&media)
            .map(|(description, attributes)| section(description.media_name, attributes, &session))
            .collect::<Result<_, _>>()?;
        Ok(Self { session_id: description.origin.session_id, sections, bundles })
    }
}

/// An offer's lines. Nine of ten are attributes, which are looked at where they stand; the library is given the rest.
#[derive(Default)]
struct Lines<'a> {
    /// Every line that is no attribute.
    structure: String,
    /// Attributes of the session.
    session: Vec<Attribute<'a>>,
    /// Attributes of each media section.
    media: Vec<Vec<Attribute<'a>>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Result<Self, OfferError> {
        let mut lines = Self::default();
        for line in text.lines() {
            // Parts of the offer are written back into the answer: a stray CR must not start a line there.
            let has_control = match line.is_ascii() {
                true => line.bytes().any(|byte| byte.is_ascii_control()),
                false => line.contains(char::is_control),
            };
            if has_control {
                return Err(OfferError::Syntax("control character inside a line".to_owned()));
            }
            if let Some(attribute) = line.strip_prefix("a=") {
                let attribute = attribute.trim();
                let pair = attribute.split_once(':').map_or((attribute, None), |(key, value)| (key, Some(value)));
                lines.media.last_mut().unwrap_or(&mut lines.session).push(pair);
                continue;
            }
            if line.starts_with("m=") {
                lines.media.push(Vec::new());
            }
            lines.structure.push_str(line);
            lines.structure.push_str("\r\n");
        }
        Ok(lines)
    }
}

impl OfferedCodec {
    /// Encoding name, clock rate and channels match; names ignore case, and one channel need not be said
    /// (RFC 8866 §6.6).
    pub(super) fn is(&self, rtpmap: &str) -> bool {
        let one_channel = self.rtpmap.strip_suffix("/1").filter(|rest| rest.contains('/'));
        self.rtpmap.eq_ignore_ascii_case(rtpmap) || one_channel.is_some_and(|rest| rest.eq_ignore_ascii_case(rtpmap))
    }

    /// A parameter of `fmtp`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Key and value (RFC 8866 §5.13).
type Attribute<'a> = (&'a str, Option<&'a str>);

fn values<'a>(attributes: &[Attribute<'a>], key: &str) -> impl Iterator<Item = &'a str> {
    attributes.iter().filter(move |(k, _)| *k == key).filter_map(|(_, value)| *value)
}

fn section(media: MediaName, attributes: &[Attribute<'_>], session: &[Attribute<'_>]) -> Result<Section, OfferError> {
    limit(media.formats.len(), MAX_FORMATS, "formats in a media section")?;
    limit(attributes.len(), MAX_ATTRIBUTES, "attributes in a media section")?;
    let has = |key: &str| attributes.iter().any(|(k, _)| *k == key);
    // The last direction line would be as good; without one it is sendrecv (RFC 8866 §6.7).
    let directions = ["sendrecv", "recvonly", "sendonly", "inactive"];
    let direction = attributes.iter().chain(session).map(|(k, _)| *k).find(|k| directions.contains(k));
    Ok(Section {
        disabled: media.port.value == 0 && !has("bundle-only"),
        protocol: media.protos.join("/"),
        mid: values(attributes, "mid").next().filter(|mid| is_token(mid)).map(str::to_owned),
        receives: matches!(direction, None | Some("sendrecv" | "recvonly")),
        rtcp_mux: has("rtcp-mux"),
        sctp_port: values(attributes, "sctp-port").next().filter(|p| p.parse::<u16>().is_ok()).map(str::to_owned),
        codecs: codecs(&media.formats, attributes),
        extensions: values(attributes, "extmap").filter_map(extension).collect(),
        transport: transport(attributes, session),
        media: media.media,
        formats: media.formats,
    })
}

/// Number and URI of an `extmap` that may be sent to the offerer, in the one-byte form.
fn extension(value: &str) -> Option<(u8, String)> {
    let mut words = value.split_whitespace();
    let (number, direction) = words.next().map(|first| first.split_once('/').unwrap_or((first, "sendrecv")))?;
    let number = number.parse().ok().filter(|number| (1..=14).contains(number))?;
    let uri = words.next().filter(|uri| is_token(uri))?;
    matches!(direction, "sendrecv" | "recvonly").then(|| (number, uri.to_owned()))
}

/// The payload types of an `m=` line, in its order, that cameras' packets could be sent with.
fn codecs(formats: &[String], attributes: &[Attribute<'_>]) -> Vec<OfferedCodec> {
    // Chromium describes fifty of them in two hundred lines: no line is looked at for each of them.
    let lines =
        |key| values(attributes, key).filter_map(|value| value.split_once(' ')).map(|(f, rest)| (f, rest.trim()));
    let mut rtpmaps: [Option<&str>; MAX_FORMATS] = std::array::from_fn(|number| static_rtpmap(number as u8));
    let mut described = [false; MAX_FORMATS];
    for (format, rtpmap) in lines("rtpmap") {
        let Some(number) = payload_type(format).map(usize::from) else { continue };
        if !std::mem::replace(&mut described[number], true) {
            rtpmaps[number] = Some(rtpmap).filter(|rtpmap| is_of_use(rtpmap));
        }
    }
    let codec = |format: &String| {
        let payload_type = payload_type(format)?;
        let rtpmap = rtpmaps[usize::from(payload_type)]?.to_owned();
        Some(OfferedCodec { payload_type, rtpmap, fmtp: String::new(), feedback: Vec::new() })
    };
    let mut codecs: Vec<_> = formats.iter().filter_map(codec).collect();
    for (format, parameters) in lines("fmtp") {
        let Some(number) = payload_type(format) else { continue };
        for codec in codecs.iter_mut().filter(|codec| codec.payload_type == number) {
            let separator = if codec.fmtp.is_empty() { "" } else { ";" };
            codec.fmtp += separator;
            codec.fmtp += parameters;
        }
    }
    for (format, feedback) in lines("rtcp-fb") {
        let number = payload_type(format);
        let is_meant = |codec: &&mut OfferedCodec| format == "*" || Some(codec.payload_type) == number;
        codecs.iter_mut().filter(is_meant).for_each(|codec| codec.feedback.push(feedback.to_owned()));
    }
    codecs
}

/// As `m=` lines write it.
fn payload_type(format: &str) -> Option<u8> {
    format.parse().ok().filter(|number| *number < 128)
}

/// Whether an encoding is one that cameras send, or their packets are repeated in.
fn is_of_use(rtpmap: &str) -> bool {
    let name = rtpmap.split('/').next().unwrap_or_default();
    ["H264", "opus", "PCMU", "rtx"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What a payload type means that needs no `rtpmap` line (RFC 3551 §6), as far as it is of use here.
fn static_rtpmap(payload_type: u8) -> Option<&'static str> {
    (payload_type == 0).then_some("PCMU/8000")
}

fn transport(attributes: &[Attribute<'_>], session: &[Attribute<'_>]) -> Transport {
    let first = |key| values(attributes, key).next().or_else(|| values(session, key).next());
    let sha256 = |list| {
        values(list, "fingerprint").filter_map(|value| {
            let (algorithm, hash) = value.split_once(' ')?;
            algorithm.eq_ignore_ascii_case("sha-256").then(|| hash.trim().parse().ok())?
        })
    };
    // Media level replaces session level as a whole (RFC 8122 §5).
    let mut fingerprints: Vec<Fingerprint> = sha256(attributes).collect();
    if !attributes.iter().any(|(k, _)| *k == "fingerprint") {
        fingerprints = sha256(session).collect();
    }
    Transport {
        ufrag: first("ice-ufrag").filter(|u| u.len() >= 4 && is_token(u) && !u.contains(':')).map(str::to_owned),
        has_pwd: first("ice-pwd").is_some_and(|pwd| pwd.len() >= 22),
        fingerprints,
        setup: first("setup").map(shorten),
    }
}

fn limit(count: usize, limit: usize, what: &'static str) -> Result<(), OfferError> {
    if count > limit { Err(OfferError::TooMany { what, limit }) } else { Ok(()) }
}

/// Visible ASCII and not too long: safe to be written back into an answer.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TOKEN_LEN && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Foreign text for an error message.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = include_str!("../../tests/data/offer-chromium.sdp");
    const FIREFOX: &str = include_str!("../../tests/data/offer-firefox-shaped.sdp");

    #[test]
    fn an_offer_of_chromium_is_understood() {
        let offer = ParsedOffer::parse(CHROMIUM).unwrap();
        assert_eq!(offer.bundles, [["0", "1"]]);
        let [video, audio] = &offer.sections[..] else { panic!() };
        assert_eq!((video.media.as_str(), audio.media.as_str()), ("video", "audio"));
        assert_eq!(video.protocol, "UDP/TLS/RTP/SAVPF");
        assert!(video.receives && video.rtcp_mux && !video.disabled);
        let h264 = video.codecs.iter().find(|c| c.payload_type == 108).unwrap();
        assert!(h264.is("h264/90000"));
        assert_eq!(h264.parameter("profile-level-id"), Some("42e01f"));
        assert_eq!(h264.feedback, ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]);
        assert_eq!(video.transport.ufrag.as_deref(), Some("Gzmx"));
        assert_eq!(video.transport.fingerprints.len(), 1);
        assert_eq!(video.transport.setup.as_deref(), Some("actpass"));
        assert_eq!(video.extensions[1].0, 2);
        assert_eq!(video.extensions[1].1, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time");
    }

    #[test]
    fn an_extension_is_one_that_may_be_sent_in_the_one_byte_form() {
        assert_eq!(extension("4 urn:x"), Some((4, "urn:x".into())));
        assert_eq!(extension("4/recvonly urn:x vad=on"), Some((4, "urn:x".into())));
        for bad in ["4/sendonly urn:x", "4/inactive urn:x", "0 urn:x", "15 urn:x", "4", "x urn:x", ""] {
            assert_eq!(extension(bad), None, "{bad}");
        }
    }

    #[test]
    fn control_characters_do_not_get_through() {
        for bad in ["a=mid:0\ra=x", "a=mid:0\0", "a=mid:\t0"] {
            let error = ParsedOffer::parse(&CHROMIUM.replacen("a=mid:0", bad, 1)).unwrap_err();
            assert!(matches!(error, OfferError::Syntax(_)), "{error}");
        }
    }

    #[test]
    fn lines_may_end_in_lf_alone() {
        assert_eq!(ParsedOffer::parse(&CHROMIUM.replace("\r\n", "\n")).unwrap().sections.len(), 2);
    }

    #[test]
    fn limits_are_named() {
        let long = format!("{CHROMIUM}{}", "a=x:y\r\n".repeat(10_000));
        assert_eq!(ParsedOffer::parse(&long).unwrap_err(), OfferError::TooLong(long.len()));
        let sections = format!("{CHROMIUM}{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(15));
        let error = ParsedOffer::parse(&sections).unwrap_err();
        assert_eq!(error.to_string(), "the offer has more than 16 media sections");
        let attributes = format!("{CHROMIUM}{}", "a=x:y\r\n".repeat(1025));
        assert!(ParsedOffer::parse(&attributes).unwrap_err().to_string().contains("1024 attributes"));
    }

    #[test]
    fn media_level_fingerprints_replace_those_of_the_session() {
        let (session, media) = (vec!["AA"; 32].join(":"), vec!["BB"; 32].join(":"));
        let text = CHROMIUM
            .replacen("t=0 0\r\n", &format!("t=0 0\r\na=fingerprint:sha-256 {session}\r\n"), 1)
            .replacen("a=setup", &format!("a=fingerprint:sha-1 AA:BB\r\na=fingerprint:SHA-256 {media}\r\na=setup"), 1);
        let offer = ParsedOffer::parse(&text).unwrap();
        let all = &offer.sections[0].transport.fingerprints;
        assert_eq!(all.len(), 2, "the section's own two sha-256 lines: {all:?}");
        assert!(all.contains(&media.parse().unwrap()) && !all.contains(&session.parse().unwrap()));
    }

    #[test]
    fn no_truncation_or_flipped_bit_panics() {
        // Every byte of a short offer; Chromium's repeats the same lines thirty times.
        for len in 0..FIREFOX.len() {
            let _ = ParsedOffer::parse(&FIREFOX[..len]);
        }
        for at in 0..FIREFOX.len() {
            let mut bytes = FIREFOX.as_bytes().to_vec();
            bytes[at] ^= 1 << (at % 7);
            let _ = ParsedOffer::parse(std::str::from_utf8(&bytes).unwrap());
        }
        for junk in ["", "v=0", "v=0\r\n", "\0", "v=0\r\no=\r\n", "m=", "ä=ö", "=\n", "v=0\r\na", "v"] {
            assert!(ParsedOffer::parse(junk).map(|o| o.sections.len()).unwrap_or(0) == 0, "{junk:?}");
        }
    }
}
