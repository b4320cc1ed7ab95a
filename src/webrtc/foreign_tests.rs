//! Answers to offers that were recorded from foreign stacks (tests/data/README.md).

use std::time::Instant;

use super::{Answer, Identity, LocalCandidate, ParsedOffer, Session, SessionConfig};

fn answer(offer: &str) -> (Session, Answer) {
    let candidates = vec![LocalCandidate::udp("192.0.2.10".parse().unwrap(), 8189)];
    let config = SessionConfig { identity: Identity::generate().unwrap(), candidates };
    Session::accept(
        &ParsedOffer::parse(offer).unwrap(),
        &config,
        super::RunningCodecs { profile_level_id: Some("42e01f"), audio: None },
        Instant::now(),
    )
    .unwrap()
}

/// The lines of each media section.
fn sections(sdp: &str) -> Vec<Vec<&str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for line in sdp.split_terminator("\r\n") {
        if line.starts_with("m=") {
            all.push(Vec::new());
        }
        if let Some(section) = all.last_mut() {
            section.push(line);
        }
    }
    all
}

/// An offer, the media lines of its answer, and the sections of the answer's group.
struct Case {
    name: &'static str,
    offer: &'static str,
    media: &'static [&'static str],
    bundle: Option<&'static str>,
}

const CASES: [Case; 7] = [
    Case {
        name: "aiortc with a data channel",
        offer: include_str!("../../tests/data/offer-aiortc.sdp"),
        media: &[
            "audio 8189 UDP/TLS/RTP/SAVPF 96 0",
            "video 8189 UDP/TLS/RTP/SAVPF 101 102",
            "application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ],
        bundle: Some("0 1"),
    },
    Case {
        name: "Firefox that would send, with a second picture and a data channel",
        offer: include_str!("../../tests/data/offer-firefox.sdp"),
        media: &[
            "audio 8189 UDP/TLS/RTP/SAVPF 109 0",
            "video 8189 UDP/TLS/RTP/SAVPF 126 127",
            "video 0 UDP/TLS/RTP/SAVPF 120 124 121 125 126 127 97 98 105 106 103 104 99 100 123 122 119",
            "application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ],
        bundle: Some("0 1"),
    },
    Case {
        name: "GStreamer, sections with port 0 that are bundle-only",
        offer: include_str!("../../tests/data/offer-gstreamer.sdp"),
        media: &[
            "video 8189 UDP/TLS/RTP/SAVPF 96",
            "audio 8189 UDP/TLS/RTP/SAVPF 97",
            "application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ],
        bundle: Some("video0 audio1"),
    },
    Case {
        name: "GStreamer without bundling",
        offer: include_str!("../../tests/data/offer-gstreamer-unbundled.sdp"),
        media: &["video 8189 UDP/TLS/RTP/SAVPF 96", "audio 0 UDP/TLS/RTP/SAVPF 97"],
        bundle: None,
    },
    Case {
        name: "werift with a data channel",
        offer: include_str!("../../tests/data/offer-werift.sdp"),
        media: &[
            "video 8189 UDP/TLS/RTP/SAVPF 97",
            "audio 8189 UDP/TLS/RTP/SAVPF 96",
            "application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ],
        bundle: Some("0 1"),
    },
    Case {
        name: "werift without bundling",
        offer: include_str!("../../tests/data/offer-werift-unbundled.sdp"),
        media: &["video 8189 UDP/TLS/RTP/SAVPF 97", "audio 0 UDP/TLS/RTP/SAVPF 96"],
        bundle: None,
    },
    Case {
        name: "node-datachannel with a data channel",
        offer: include_str!("../../tests/data/offer-node-datachannel.sdp"),
        media: &[
            "video 8189 UDP/TLS/RTP/SAVPF 96",
            "audio 8189 UDP/TLS/RTP/SAVPF 111",
            "application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ],
        bundle: Some("video audio"),
    },
];

#[test]
fn every_recorded_offer_is_answered_with_what_its_stack_needs() {
    for Case { name, offer, media, bundle } in CASES {
        let (session, answer) = answer(offer);
        let sections = sections(&answer.sdp);
        let lines: Vec<_> = sections.iter().map(|section| section[0].trim_start_matches("m=")).collect();
        assert_eq!(lines, media, "{name}");
        let group = answer.sdp.lines().find_map(|line| line.strip_prefix("a=group:BUNDLE "));
        assert_eq!(group, bundle, "{name}");
        for section in &sections {
            let all = |start: &str| section.iter().filter(|line| line.starts_with(start)).count();
            // Of sections that were rejected, too.
            for start in ["a=mid:", "a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:sha-256 ", "a=setup:passive"] {
                assert_eq!(all(start), 1, "{name}: {start} in {section:#?}");
            }
            let accepted = !section[0].contains(" 0 ");
            // aiortc takes those of the last section of a transport; werift would try to connect a second transport.
            assert_eq!(all("a=candidate:"), usize::from(accepted || bundle.is_some()), "{name}");
            assert_eq!(all("a=sendonly"), usize::from(accepted), "{name}");
            assert_eq!(all("a=inactive"), usize::from(!accepted), "{name}");
            assert_eq!(all("a=msid:honeycast "), usize::from(accepted), "one stream: {name}");
        }
        assert!(session.tracks().video.is_some(), "{name}");
        assert_eq!(session.tracks().audio.is_some(), bundle.is_some(), "{name}");
    }
}

#[test]
fn what_is_rejected_is_named_with_its_reason() {
    let reasons = |name: &str| {
        let case = CASES.iter().find(|case| case.name == name).unwrap();
        answer(case.offer)
            .1
            .rejected
            .into_iter()
            .map(|rejected| (rejected.m_line_index, rejected.reason))
            .collect::<Vec<_>>()
    };
    let firefox = reasons("Firefox that would send, with a second picture and a data channel");
    assert_eq!(
        firefox,
        [(2, "a camera has one video and one audio track".to_owned()), (3, "data channels are not served".to_owned()),]
    );
    let unbundled = reasons("GStreamer without bundling");
    assert_eq!(unbundled, [(1, "it is not in one BUNDLE group with the other media".to_owned())]);
}

#[test]
fn a_name_in_small_letters_is_answered_as_it_was_offered() {
    let (_, answer) = answer(include_str!("../../tests/data/offer-werift.sdp"));
    assert!(answer.sdp.contains("a=rtpmap:97 h264/90000\r\n") && answer.sdp.contains("a=rtpmap:96 OPUS/48000/2\r\n"));
}
