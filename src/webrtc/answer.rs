//! The SDP answer: the form that every browser and WHEP client at hand plays (RFC 8829 §5.3, RFC 8839).

use std::fmt::Write;
use std::net::IpAddr;

use super::certificate::Fingerprint;
use super::dtls::DtlsRole;
use super::negotiate::{Accepted, AcceptedFormat, Negotiated, TRANSPORT_CC_URI, Verdict};
use super::offer::{ParsedOffer, Section};
use super::session::Track;

/// Both tracks carry this stream id: pages take audio and video from `event.streams[0]`.
const STREAM_ID: &str = "honeycast";
/// RFC 8445 §5.1.2.2: preference of host candidates.
const HOST_TYPE_PREFERENCE: u32 = 126;
/// RFC 6544 §4.2: below all of UDP, so that TCP is for networks without it.
const TCP_TYPE_PREFERENCE: u32 = 90;
/// RFC 6544 §4.2: direction preference of a passive host candidate, in the upper 3 of 16 bits.
const TCP_PASSIVE: u32 = 4 << 13;
/// Where nothing is listening (RFC 8840 §4.1.1, the discard port).
const NO_ADDRESS: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 9);

/// An address that viewers can send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalCandidate {
    /// An address of this machine, or the public one that is mapped to it.
    pub ip: IpAddr,
    /// Port of `transport`.
    pub port: u16,
    /// What is spoken there.
    pub transport: Transport,
}

/// How datagrams travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// As they are.
    Udp,
    /// Framed in a connection that the peer opens (RFC 6544, RFC 4571).
    Tcp,
}

impl LocalCandidate {
    /// A UDP candidate.
    pub fn udp(ip: IpAddr, port: u16) -> Self {
        Self { ip, port, transport: Transport::Udp }
    }

    /// A passive TCP candidate.
    pub fn tcp(ip: IpAddr, port: u16) -> Self {
        Self { ip, port, transport: Transport::Tcp }
    }

    /// `candidate:…` lines as an answer has them.
    pub fn lines(candidates: &[Self]) -> Vec<String> {
        candidate_lines(candidates)
    }
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
    /// Grows with every answer of one session (RFC 3264 §8).
    pub(super) version: u64,
    pub(super) ufrag: &'a str,
    pub(super) pwd: &'a str,
    pub(super) fingerprint: Fingerprint,
    pub(super) cname: &'a str,
    pub(super) candidates: &'a [LocalCandidate],
    /// The track of each kind that was accepted.
    pub(super) video: Option<&'a Track>,
    pub(super) audio: Option<&'a Track>,
}

/// Writes the answer.
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
    sdp.line(format_args!("o=- {} {} IN IP4 127.0.0.1", local.session_id, local.version));
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
            Verdict::Rejected(_) => {
                let shared = sections.get(first).is_some_and(|(lead, _)| share_a_transport(offer, section, lead));
                // What has a transport of its own must not try to connect it.
                let candidates = if shared { candidates.as_slice() } else { &[] };
                rejected_section(&mut sdp, section, negotiated.role, local, candidates);
            }
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

/// Both are in one BUNDLE group of the offer.
fn share_a_transport(offer: &ParsedOffer, one: &Section, other: &Section) -> bool {
    let (Some(one), Some(other)) = (&one.mid, &other.mid) else { return false };
    offer.bundles.iter().any(|group| group.contains(one) && group.contains(other))
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
    let payload_types = accepted.formats.iter().map(|format| format.payload_type).chain(accepted.rtx);
    let payload_types: Vec<String> = payload_types.map(|number| number.to_string()).collect();
    sdp.line(format_args!("m={} {port} {} {}", section.media, section.protocol, payload_types.join(" ")));
    sdp.line(format_args!("c=IN {} {ip}", if ip.is_ipv4() { "IP4" } else { "IP6" }));
    transport_lines(sdp, section, role, local);
    sdp.line(format_args!("a=sendonly"));
    sdp.line(format_args!("a=msid:{STREAM_ID} {STREAM_ID}-{}", section.media));
    sdp.line(format_args!("a=rtcp-mux"));
    sdp.line(format_args!("a=rtcp-rsize"));
    if let Some(number) = accepted.transport_cc {
        sdp.line(format_args!("a=extmap:{number} {TRANSPORT_CC_URI}"));
    }
    for AcceptedFormat { payload_type, rtpmap, fmtp, feedback, .. } in &accepted.formats {
        sdp.line(format_args!("a=rtpmap:{payload_type} {rtpmap}"));
        if !fmtp.is_empty() {
            sdp.line(format_args!("a=fmtp:{payload_type} {fmtp}"));
        }
        for feedback in feedback {
            sdp.line(format_args!("a=rtcp-fb:{payload_type} {feedback}"));
        }
        if let Some(rtx) = accepted.rtx {
            sdp.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
            sdp.line(format_args!("a=fmtp:{rtx} apt={payload_type}"));
        }
    }
    let track = if section.media == "video" { local.video } else { local.audio };
    if let Some(track) = track {
        source_lines(sdp, section, track, local.cname);
    }
    candidate_attributes(sdp, candidates);
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

/// Port 0, but with the lines without which aiortc, werift and GStreamer fail. Of sections that share a transport,
/// aiortc takes the candidates of the last one only, be it rejected or not.
fn rejected_section(sdp: &mut Lines, section: &Section, role: DtlsRole, local: &Local<'_>, candidates: &[String]) {
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
    if !candidates.is_empty() {
        candidate_attributes(sdp, candidates);
    }
}

fn candidate_attributes(sdp: &mut Lines, candidates: &[String]) {
    for candidate in candidates {
        sdp.line(format_args!("a={candidate}"));
    }
    sdp.line(format_args!("a=end-of-candidates"));
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

/// `candidate:` lines, UDP's in descending priority, then TCP's (RFC 8839 §5.1, RFC 8445 §5.1.2.1, RFC 6544 §4.5).
fn candidate_lines(candidates: &[LocalCandidate]) -> Vec<String> {
    let line = |(i, candidate): (usize, &LocalCandidate)| {
        let place = u32::from(u16::try_from(i).unwrap_or(u16::MAX));
        let (name, type_preference, local_preference, end) = match candidate.transport {
            Transport::Udp => ("udp", HOST_TYPE_PREFERENCE, u32::from(u16::MAX) - place, ""),
            Transport::Tcp => {
                ("tcp", TCP_TYPE_PREFERENCE, TCP_PASSIVE + 0x1fff_u32.saturating_sub(place), " tcptype passive")
            }
        };
        let priority = type_preference << 24 | local_preference << 8 | 255;
        let LocalCandidate { ip, port, .. } = candidate;
        format!("candidate:{} 1 {name} {priority} {ip} {port} typ host{end}", i + 1)
    };
    let of = |transport| candidates.iter().enumerate().filter(move |(_, c)| c.transport == transport);
    of(Transport::Udp).chain(of(Transport::Tcp)).map(line).collect()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "{line}\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::webrtc::{Identity, RunningCodecs, Session, SessionConfig};

    const CHROMIUM: &str = include_str!("../../tests/data/offer-chromium.sdp");
    const FIREFOX: &str = include_str!("../../tests/data/offer-firefox-shaped.sdp");
    const SAFARI: &str = include_str!("../../tests/data/offer-safari-shaped.sdp");

    fn answer(offer: &str) -> (Session, Answer) {
        let candidates = ["192.0.2.10", "2001:db8::10"].map(|ip| LocalCandidate::udp(ip.parse().unwrap(), 8189));
        let tcp = candidates.map(|c| LocalCandidate::tcp(c.ip, c.port));
        let candidates = [candidates, tcp].concat();
        let config = SessionConfig { identity: Identity::generate().unwrap(), candidates };
        let running = RunningCodecs { profile_level_id: Some("42e01f"), audio: None };
        Session::accept(&ParsedOffer::parse(offer).unwrap(), &config, running, Instant::now()).unwrap()
    }

    /// The lines of each section; the session level first.
    fn sections(sdp: &str) -> Vec<Vec<&str>> {
        let mut all = vec![vec![]];
        for line in sdp.split_terminator("\r\n") {
            if line.starts_with("m=") {
                all.push(vec![]);
            }
            all.last_mut().unwrap().push(line);
        }
        all
    }

    fn has(section: &[&str], line: &str) -> bool {
        section.contains(&line)
    }

    #[test]
    fn every_offer_gets_an_answer_that_the_library_parses() {
        for offer in [CHROMIUM, FIREFOX, SAFARI] {
            let (_, answer) = answer(offer);
            assert!(answer.sdp.lines().count() > 20 && !answer.sdp.replace("\r\n", "").contains(['\r', '\n']));
            let offered = ParsedOffer::parse(offer).unwrap();
            // All of it: an attribute may stand where its reader does not look, but not where SDP has no room for one.
            sdp::SessionDescription::unmarshal(&mut std::io::Cursor::new(&answer.sdp)).unwrap();
            let parsed = ParsedOffer::parse(&answer.sdp).unwrap();
            let mids =
                |o: &ParsedOffer| o.sections.iter().map(|s| (s.media.clone(), s.mid.clone())).collect::<Vec<_>>();
            assert_eq!(mids(&parsed), mids(&offered), "same sections in the same order");
        }
    }

    #[test]
    fn the_answer_to_chromium_has_all_lines_that_it_needs() {
        let (session, answer) = answer(CHROMIUM);
        let tracks = session.tracks();
        let video = tracks.video.as_ref().unwrap();
        let (media, rtx) = (video.ssrc, video.rtx.unwrap());
        let all = sections(&answer.sdp);
        assert!(has(&all[0], "a=group:BUNDLE 0 1") && has(&all[0], "a=ice-lite"));
        for line in [
            "m=video 8189 UDP/TLS/RTP/SAVPF 108 109",
            "c=IN IP4 192.0.2.10",
            "a=mid:0",
            "a=setup:passive",
            "a=sendonly",
            "a=msid:honeycast honeycast-video",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            "a=rtpmap:108 H264/90000",
            "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            "a=rtcp-fb:108 nack",
            "a=rtcp-fb:108 nack pli",
            "a=rtcp-fb:108 ccm fir",
            "a=rtcp-fb:108 goog-remb",
            "a=rtpmap:109 rtx/90000",
            "a=fmtp:109 apt=108",
            &format!("a=ssrc-group:FID {media} {}", rtx.ssrc),
            &format!("a=ssrc:{media} cname:{}", tracks.cname),
            &format!("a=ssrc:{} cname:{}", rtx.ssrc, tracks.cname),
            &format!("a=ice-ufrag:{}", session.local_ufrag()),
            "a=candidate:1 1 udp 2130706431 192.0.2.10 8189 typ host",
            "a=candidate:2 1 udp 2130706175 2001:db8::10 8189 typ host",
            "a=candidate:3 1 tcp 1520434687 192.0.2.10 8189 typ host tcptype passive",
            "a=candidate:4 1 tcp 1520434431 2001:db8::10 8189 typ host tcptype passive",
            "a=end-of-candidates",
        ] {
            assert!(has(&all[1], line), "{line} is not in {:#?}", all[1]);
        }
        assert!(has(&all[1], "a=rtcp-fb:108 transport-cc"));
        assert_eq!(answer.sdp.matches("a=extmap:").count(), 1, "that of transport-wide numbers, for the picture");
        assert_eq!(answer.sdp.matches("a=fingerprint:sha-256 ").count(), 2, "one a section");
        assert!(has(&all[2], "a=msid:honeycast honeycast-audio") && has(&all[2], "a=rtpmap:111 opus/48000/2"));
        assert_eq!((answer.mid.as_str(), answer.m_line_index, answer.candidates.len()), ("0", 0, 4));
        assert_eq!(answer.rejected, []);
    }

    #[test]
    fn sendrecv_is_answered_sendonly_with_the_offers_payload_types() {
        let (session, answer) = answer(FIREFOX);
        let all = sections(&answer.sdp);
        assert!(all[1..].iter().all(|s| has(s, "a=sendonly")));
        assert!(has(&all[1], "m=audio 8189 UDP/TLS/RTP/SAVPF 109 0"));
        assert!(has(&all[2], "m=video 8189 UDP/TLS/RTP/SAVPF 126 127"));
        assert_eq!(session.tracks().video.as_ref().unwrap().rtx.unwrap().payload_type, 127);
        assert_eq!((answer.mid.as_str(), answer.m_line_index), ("0", 0));
    }

    #[test]
    fn a_rejected_section_has_port_0_and_still_ice_and_dtls_lines() {
        let (_, answer) = answer(SAFARI);
        let all = sections(&answer.sdp);
        let data = &all[3];
        assert_eq!(data[0], "m=application 0 UDP/DTLS/SCTP webrtc-datachannel");
        for start in
            ["a=mid:2", "a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:sha-256 ", "a=setup:passive", "a=sctp-port:5000"]
        {
            assert!(data.iter().any(|line| line.starts_with(start)), "{start}");
        }
        assert_eq!(data.iter().filter(|line| line.starts_with("a=candidate")).count(), 4, "aiortc takes these");
        assert!(has(&all[0], "a=group:BUNDLE 0 1"));
        assert_eq!(answer.rejected.len(), 1);
        assert_eq!((answer.rejected[0].m_line_index, answer.rejected[0].media.as_str()), (2, "application"));
    }

    #[test]
    fn a_rejected_track_keeps_its_rtpmap_lines() {
        let (_, answer) = answer(&CHROMIUM.replace("opus/48000/2", "opus/48000/1").replace("PCMU/8000", "PCMU/16000"));
        let audio = &sections(&answer.sdp)[2];
        assert_eq!(audio[0], "m=audio 0 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126");
        assert!(has(audio, "a=rtpmap:0 PCMU/16000") && has(audio, "a=inactive") && has(audio, "a=rtcp-mux"));
    }

    #[test]
    fn a_passive_offer_is_answered_active() {
        let (_, answer) = answer(&CHROMIUM.replace("a=setup:actpass", "a=setup:passive"));
        assert_eq!(answer.sdp.matches("a=setup:active\r\n").count(), 2);
    }
}
