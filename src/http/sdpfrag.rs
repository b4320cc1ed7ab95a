//! ICE fragments of SDP: the body of a WHEP `PATCH` (RFC 8840 §4.4 and §9, RFC 8839 §5), and how one is written.

use std::fmt::Write;

/// Largest fragment taken, in bytes. Thirty candidates are 4 KB.
pub const MAX_FRAGMENT_LEN: usize = 16 * 1024;
/// Most candidates taken.
pub const MAX_CANDIDATES: usize = 128;
/// Most media sections taken.
pub const MAX_SECTIONS: usize = 16;

/// Lengths of a user fragment and a password (RFC 8839 §5.4).
const UFRAG_LEN: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_LEN: std::ops::RangeInclusive<usize> = 22..=256;

/// Why a fragment cannot be used, in words for the person at the other end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Longer than [`MAX_FRAGMENT_LEN`].
    #[error("the fragment has {0} bytes, at most {MAX_FRAGMENT_LEN} are taken")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the fragment is not UTF-8")]
    NotUtf8,
    /// A line that does not belong here.
    #[error("line {line} of the fragment: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A list is longer than its named limit.
    #[error("the fragment has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Neither credentials, candidates nor their end.
    #[error("the fragment has neither ICE credentials nor candidates")]
    Empty,
    /// One of the two ICE credentials without the other.
    #[error("ice-ufrag and ice-pwd come together")]
    HalfCredentials,
}

/// ICE credentials of a side (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

impl std::fmt::Debug for Credentials {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// What a fragment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The value of the first `a=group:`.
    pub group: Option<String>,
    /// What follows `m=` in the first media section.
    pub media: Option<String>,
    /// The mid of that section.
    pub mid: Option<String>,
    /// The first credentials, be they of a media section or of all.
    pub credentials: Option<Credentials>,
    /// How many candidates there are. An ICE-lite side makes no use of what they say: it learns addresses from
    /// checks (RFC 8445 §2.5).
    pub candidates: usize,
    /// `a=end-of-candidates`.
    pub end_of_candidates: bool,
}

impl Fragment {
    /// Reads a fragment within the limits named in this module.
    ///
    /// # Errors
    ///
    /// [`FragmentError`]. Attributes that are not about ICE are passed over (RFC 8840 §9.2), lines that are not
    /// attributes or media descriptions are not.
    pub fn parse(bytes: &[u8]) -> Result<Self, FragmentError> {
        if bytes.len() > MAX_FRAGMENT_LEN {
            return Err(FragmentError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| FragmentError::NotUtf8)?;
        let mut found = Self::default();
        let (mut ufrag, mut pwd, mut sections) = (None, None, 0);
        for (index, line) in text.lines().enumerate() {
            let wrong = |what| FragmentError::Line { line: index + 1, what };
            if line.is_empty() {
                continue;
            }
            // Parts of it are written back: a stray CR must not start a line there.
            if line.contains(char::is_control) {
                return Err(wrong("control character"));
            }
            if let Some(media) = line.strip_prefix("m=") {
                sections += 1;
                limit(sections, MAX_SECTIONS, "media sections")?;
                found.media.get_or_insert_with(|| media.to_owned());
                continue;
            }
            let attribute = line.strip_prefix("a=").ok_or(wrong("neither a=… nor m=…"))?;
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "group" => {
                    found.group.get_or_insert_with(|| value.to_owned());
                }
                "mid" if sections == 1 => {
                    found.mid.get_or_insert_with(|| value.to_owned());
                }
                "ice-ufrag" => {
                    let good = token(value, UFRAG_LEN).ok_or(wrong("ice-ufrag is not 4 to 256 visible characters"))?;
                    ufrag.get_or_insert(good);
                }
                "ice-pwd" => {
                    let good = token(value, PWD_LEN).ok_or(wrong("ice-pwd is not 22 to 256 visible characters"))?;
                    pwd.get_or_insert(good);
                }
                "candidate" => {
                    if !is_candidate(value) {
                        return Err(wrong("not a candidate"));
                    }
                    found.candidates += 1;
                    limit(found.candidates, MAX_CANDIDATES, "candidates")?;
                }
                "end-of-candidates" => found.end_of_candidates = true,
                _ => {}
            }
        }
        found.credentials = match (ufrag, pwd) {
            (Some(ufrag), Some(pwd)) => Some(Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() }),
            (None, None) if found.candidates == 0 && !found.end_of_candidates => return Err(FragmentError::Empty),
            (None, None) => None,
            _ => return Err(FragmentError::HalfCredentials),
        };
        Ok(found)
    }

    /// The fragment that answers this one: the same group and section, with the server's credentials and
    /// candidates (`candidate:…`).
    pub fn answer<'a>(&self, local: &Credentials, candidates: impl IntoIterator<Item = &'a str>) -> String {
        let mut text = String::from("a=ice-lite\r\n");
        // Writing into a string cannot fail.
        let mut line = |args: std::fmt::Arguments<'_>| {
            let _ = write!(text, "{args}\r\n");
        };
        if let Some(group) = &self.group {
            line(format_args!("a=group:{group}"));
        }
        if let Some(media) = &self.media {
            line(format_args!("m={media}"));
        }
        if let Some(mid) = &self.mid {
            line(format_args!("a=mid:{mid}"));
        }
        line(format_args!("a=ice-ufrag:{}", local.ufrag));
        line(format_args!("a=ice-pwd:{}", local.pwd));
        for candidate in candidates {
            line(format_args!("a={candidate}"));
        }
        line(format_args!("a=end-of-candidates"));
        text
    }
}

/// The user fragments in an SDP, sections and session alike.
pub(super) fn ufrags(sdp: &str) -> Vec<String> {
    let values = sdp.lines().filter_map(|line| line.strip_prefix("a=ice-ufrag:"));
    values.take(MAX_SECTIONS).map(str::to_owned).collect()
}

/// Laxer than RFC 8839's `ice-char`: some stacks use other visible characters, and only `:` would do harm (it
/// divides the user name of a check).
fn token(value: &str, len: std::ops::RangeInclusive<usize>) -> Option<&str> {
    (len.contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic() && b != b':')).then_some(value)
}

/// RFC 8839 §5.1; extensions are not looked at.
fn is_candidate(value: &str) -> bool {
    let parts: Vec<&str> = value.split(' ').collect();
    let [foundation, component, _transport, priority, _address, port, "typ", _kind, ..] = parts[..] else {
        return false;
    };
    (1..=32).contains(&foundation.len())
        && component.parse::<u8>().is_ok()
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok()
        && parts[..8].iter().all(|part| !part.is_empty())
}

fn limit(count: usize, limit: usize, what: &'static str) -> Result<(), FragmentError> {
    if count > limit { Err(FragmentError::TooMany { what, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the WHEP draft, shortened.
    pub(crate) const TRICKLE: &str = "a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=mid:0\r\n\
        a=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:473322822 1 tcp 1518280447 3a0c7b54.local 9 typ host tcptype active generation 0\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn the_drafts_example_is_read() {
        let fragment = Fragment::parse(TRICKLE.as_bytes()).unwrap();
        assert_eq!(fragment.group.as_deref(), Some("BUNDLE 0 1"));
        assert_eq!(fragment.media.as_deref(), Some("audio 9 UDP/TLS/RTP/SAVPF 111"));
        assert_eq!(fragment.mid.as_deref(), Some("0"));
        assert_eq!(fragment.credentials.as_ref().unwrap().ufrag, "EsAw");
        assert!(!format!("{fragment:?}").contains("P2uYro0"), "passwords stay out of logs");
        assert_eq!((fragment.candidates, fragment.end_of_candidates), (2, true));
        assert_eq!(Fragment::parse(TRICKLE.replace("\r\n", "\n").as_bytes()), Ok(fragment));
    }

    #[test]
    fn credentials_may_be_missing_or_stand_before_the_first_section() {
        let bare = Fragment::parse(b"a=end-of-candidates\n").unwrap();
        assert_eq!((bare.credentials, bare.end_of_candidates), (None, true));
        let session =
            "a=ice-ufrag:abcd\na=ice-pwd:0123456789abcdef012345\na=ice-options:trickle ice2\nm=video 9 X 0\na=mid:v\n";
        let fragment = Fragment::parse(session.as_bytes()).unwrap();
        assert_eq!((fragment.credentials.unwrap().ufrag, fragment.mid.unwrap()), ("abcd".into(), "v".into()));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line() {
        let text = |fragment: &str| Fragment::parse(fragment.as_bytes()).unwrap_err().to_string();
        assert_eq!(text(""), "the fragment has neither ICE credentials nor candidates");
        assert_eq!(text("a=mid:0"), "the fragment has neither ICE credentials nor candidates");
        assert_eq!(text("\nv=0"), "line 2 of the fragment: neither a=… nor m=…");
        assert_eq!(text("a=mid:0\u{7}"), "line 1 of the fragment: control character");
        assert_eq!(text("a=mid:0\ra=x"), "line 1 of the fragment: control character");
        assert!(text("a=ice-ufrag:abc").contains("line 1") && text("a=ice-pwd:short").contains("ice-pwd"));
        assert!(text("a=ice-ufrag:ab:cd").contains("ice-ufrag"));
        assert_eq!(text("a=ice-ufrag:abcd"), "ice-ufrag and ice-pwd come together");
        for bad in ["", "1 1 udp 1 192.0.2.1 9", "1 1 udp x 192.0.2.1 9 typ host", "1 1 udp 1 192.0.2.1 65536 typ host"]
        {
            assert_eq!(text(&format!("a=candidate:{bad}")), "line 1 of the fragment: not a candidate");
        }
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n";
        assert_eq!(text(&candidate.repeat(MAX_CANDIDATES + 1)), "the fragment has more than 128 candidates");
        assert_eq!(text(&"m=x\n".repeat(MAX_SECTIONS + 1)), "the fragment has more than 16 media sections");
        assert_eq!(Fragment::parse(&[b'a'; MAX_FRAGMENT_LEN + 1]), Err(FragmentError::TooLong(MAX_FRAGMENT_LEN + 1)));
        assert_eq!(Fragment::parse(b"a=\xff"), Err(FragmentError::NotUtf8));
    }

    #[test]
    fn the_answer_repeats_group_and_section_with_our_credentials() {
        let local = Credentials { ufrag: "wxyz".into(), pwd: "p".repeat(24) };
        let asked = Fragment::parse(TRICKLE.as_bytes()).unwrap();
        let text = asked.answer(&local, ["candidate:1 1 udp 2130706431 198.51.100.1 39132 typ host"]);
        assert!(text.starts_with("a=ice-lite\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"));
        let read = Fragment::parse(text.as_bytes()).unwrap();
        assert_eq!((read.credentials, read.candidates, read.end_of_candidates), (Some(local), 1, true));
    }

    #[test]
    fn every_user_fragment_of_an_offer_is_found() {
        assert_eq!(ufrags("v=0\r\na=ice-ufrag:a\r\nm=x\r\na=ice-ufrag:b\r\n"), ["a", "b"]);
    }
}
