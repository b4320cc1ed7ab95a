//! The SDP answer: the form that every browser and WHEP client at hand plays (RFC 8829 §5.3, RFC 8839).

use std::fmt::Write;
use std::net::IpAddr;

use super::certificate::Fingerprint;
use super::dtls::DtlsRole;
use super::negotiate::{Accepted, Negotiated, Verdict};
use super::offer::{ParsedOffer, Section};
use super::session::Track;

/// Both tracks carry this stream id: pages take audio and video from `event.streams[0]`.
const STREAM_ID: &str = "honeycast";
/// RFC 8445 §5.1.2.2: preference of host candidates.
const HOST_TYPE_PREFERENCE: u32 = 126;
/// Where nothing is listening (RFC 8840 §4.1.1, the discard port).
const NO_ADDRESS: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 9);

/// A UDP address that viewers can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalCandidate {
    /// An address of this machine, or the public one that is mapped to it.
    pub ip: IpAddr,
    /// UDP port.
    pub port: u16,
}

/// What goes back to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The SDP, candidates included.
    pub sdp: String,
    /// The same candidates as `candidate:…` lines, for pages that wait for them one by one.
    pub candidates: Vec<String>,
    /// The media section that the candidates belong to, by name (empty if the offer names none) …
    pub mid: String,
    /// … and by place.
    pub m_line_index: u16,
    /// What was not accepted and why.
    pub rejected: Vec<RejectedSection>,
}

/// A media section that the answer rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedSection {
    /// Its place in the offer.
    pub m_line_index: u16,
    /// Its media type: `audio`, `video`, `application` …
    pub media: String,
    /// Why, in words.
    pub reason: String,
}

/// What the answer says about our side.
pub(super) struct Local<'a> {
    pub(super) session_id: u64,
    pub(super) ufrag: &'a str,
    pub(super) pwd: &'a str,
    pub(super) fingerprint: Fingerprint,
    pub(super) cname: &'a str,
    pub(super) candidates: &'a [LocalCandidate],
    /// The track of each kind that was accepted.
    pub(super) video: Option<&'a Track>,
    pub(super) audio: Option<&'a Track>,
}

/// Writes the answer. `track` gives the track of an accepted section by its kind.
pub(super) fn write(offer: &ParsedOffer, negotiated: &Negotiated, local: &Local<'_>) -> Answer {
    let candidates = candidate_lines(local.candidates);
    let sections: Vec<_> = offer.sections.iter().zip(&negotiated.sections).collect();
    let is_accepted = |verdict: &Verdict| matches!(verdict, Verdict::Accepted(_));
    let first = sections.iter().position(|(_, verdict)| is_accepted(verdict)).unwrap_or(0);
    let rejected = sections.iter().enumerate().filter_map(|(i, (section, verdict))| match verdict {
        Verdict::Rejected(reason) => {
            Some(RejectedSection { m_line_index: i as u16, media: section.media.clone(), reason: reason.clone() })
        }
        Verdict::Accepted(_) => None,
    });
    let mut sdp = Lines::default();
    sdp.line(format_args!("v=0"));
    sdp.line(format_args!("o=- {} 2 IN IP4 127.0.0.1", local.session_id));
    sdp.line(format_args!("s=-"));
    sdp.line(format_args!("t=0 0"));
    if negotiated.bundled {
        let mids = sections.iter().filter(|(_, verdict)| is_accepted(verdict)).filter_map(|(s, _)| s.mid.as_deref());
        sdp.line(format_args!("a=group:BUNDLE {}", mids.collect::<Vec<_>>().join(" ")));
    }
    sdp.line(format_args!("a=ice-lite"));
    sdp.line(format_args!("a=msid-semantic: WMS {STREAM_ID}"));
    for (section, verdict) in &sections {
        match verdict {
            Verdict::Accepted(accepted) => {
                accepted_section(&mut sdp, section, accepted, negotiated.role, local, &candidates);
            }
            Verdict::Rejected(_) => rejected_section(&mut sdp, section, negotiated.role, local),
        }
    }
    Answer {
        sdp: sdp.0,
        candidates,
        mid: sections.get(first).and_then(|(s, _)| s.mid.clone()).unwrap_or_default(),
        m_line_index: first as u16,
        rejected: rejected.collect(),
    }
}

fn accepted_section(
    sdp: &mut Lines,
    section: &Section,
    accepted: &Accepted,
    role: DtlsRole,
    local: &Local<'_>,
    candidates: &[String],
) {
    let (ip, port) = local.candidates.first().map_or(NO_ADDRESS, |c| (c.ip, c.port));
    let pt = accepted.payload_type;
    let rtx = accepted.rtx;
    let formats = rtx.map_or(pt.to_string(), |rtx| format!("{pt} {rtx}"));
    sdp.line(format_args!("m={} {port} {} {formats}", section.media, section.protocol));
    sdp.line(format_args!("c=IN {} {ip}", if ip.is_ipv4() { "IP4" } else { "IP6" }));
    transport_lines(sdp, section, role, local);
    sdp.line(format_args!("a=sendonly"));
    sdp.line(format_args!("a=msid:{STREAM_ID} {STREAM_ID}-{}", section.media));
    sdp.line(format_args!("a=rtcp-mux"));
    sdp.line(format_args!("a=rtcp-rsize"));
    sdp.line(format_args!("a=rtpmap:{pt} {}", accepted.rtpmap));
    if !accepted.fmtp.is_empty() {
        sdp.line(format_args!("a=fmtp:{pt} {}", accepted.fmtp));
    }
    for feedback in &accepted.feedback {
        sdp.line(format_args!("a=rtcp-fb:{pt} {feedback}"));
    }
    if let Some(rtx) = rtx {
        sdp.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
        sdp.line(format_args!("a=fmtp:{rtx} apt={pt}"));
    }
    let track = if section.media == "video" { local.video } else { local.audio };
    if let Some(track) = track {
        source_lines(sdp, section, track, local.cname);
    }
    for candidate in candidates {
        sdp.line(format_args!("a={candidate}"));
    }
    sdp.line(format_args!("a=end-of-candidates"));
}

/// An rtx source must come with its group, or Chromium freezes (RFC 4588 §8.8, RFC 5576 §4.2).
fn source_lines(sdp: &mut Lines, section: &Section, track: &Track, cname: &str) {
    let media = track.ssrc.0;
    let rtx = track.rtx.map(|rtx| rtx.ssrc.0);
    if let Some(rtx) = rtx {
        sdp.line(format_args!("a=ssrc-group:FID {media} {rtx}"));
    }
    for ssrc in std::iter::once(media).chain(rtx) {
        sdp.line(format_args!("a=ssrc:{ssrc} cname:{cname}"));
        sdp.line(format_args!("a=ssrc:{ssrc} msid:{STREAM_ID} {STREAM_ID}-{}", section.media));
    }
}

/// Port 0, but with the lines without which aiortc, werift and GStreamer fail.
fn rejected_section(sdp: &mut Lines, section: &Section, role: DtlsRole, local: &Local<'_>) {
    sdp.line(format_args!("m={} 0 {} {}", section.media, section.protocol, section.formats.join(" ")));
    sdp.line(format_args!("c=IN IP4 0.0.0.0"));
    transport_lines(sdp, section, role, local);
    sdp.line(format_args!("a=inactive"));
    if section.rtcp_mux {
        sdp.line(format_args!("a=rtcp-mux"));
    }
    for codec in &section.codecs {
        sdp.line(format_args!("a=rtpmap:{} {}", codec.payload_type, codec.rtpmap));
    }
    if let Some(port) = &section.sctp_port {
        sdp.line(format_args!("a=sctp-port:{port}"));
    }
}

fn transport_lines(sdp: &mut Lines, section: &Section, role: DtlsRole, local: &Local<'_>) {
    if let Some(mid) = &section.mid {
        sdp.line(format_args!("a=mid:{mid}"));
    }
    sdp.line(format_args!("a=ice-ufrag:{}", local.ufrag));
    sdp.line(format_args!("a=ice-pwd:{}", local.pwd));
    sdp.line(format_args!("a=fingerprint:sha-256 {}", local.fingerprint));
    let setup = match role {
        DtlsRole::Server => "passive",
        DtlsRole::Client => "active",
    };
    sdp.line(format_args!("a=setup:{setup}"));
}

/// `candidate:` lines in descending priority (RFC 8839 §5.1, RFC 8445 §5.1.2.1).
fn candidate_lines(candidates: &[LocalCandidate]) -> Vec<String> {
    let line = |(i, candidate): (usize, &LocalCandidate)| {
        let local_preference = u32::from(u16::MAX).saturating_sub(i as u32);
        let priority = HOST_TYPE_PREFERENCE << 24 | local_preference << 8 | 255;
        format!("candidate:{} 1 udp {priority} {} {} typ host", i + 1, candidate.ip, candidate.port)
    };
    candidates.iter().enumerate().map(line).collect()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "{line}\r\n");
    }
}
