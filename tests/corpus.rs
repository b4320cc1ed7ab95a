//! Replays the corpora of all fuzz targets, and every beginning of every file in them.
//!
//! A target's body asserts what must hold for any input; `fuzz/fuzz_targets` and this file share it. Files named
//! `valid-*` must be accepted. A new target needs a body, a target, a corpus and a test below.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

#[path = "../fuzz/bodies/conversation.rs"]
mod conversation;
#[path = "../fuzz/bodies/dtls.rs"]
mod dtls;
#[path = "../fuzz/bodies/h264.rs"]
mod h264;
#[path = "../fuzz/bodies/latch.rs"]
mod latch;
#[path = "../fuzz/bodies/latch_cameras.rs"]
mod latch_cameras;
#[path = "../fuzz/bodies/mp4.rs"]
mod mp4;
#[path = "../fuzz/bodies/mqtt_payload.rs"]
mod mqtt_payload;
#[path = "../fuzz/bodies/offer.rs"]
mod offer;
#[path = "../fuzz/bodies/play_sdp.rs"]
mod play_sdp;
#[path = "../fuzz/bodies/registry.rs"]
mod registry;
#[path = "../fuzz/bodies/rtcp.rs"]
mod rtcp;
#[path = "../fuzz/bodies/rtp.rs"]
mod rtp;
#[path = "../fuzz/bodies/sdpfrag.rs"]
mod sdpfrag;
#[path = "../fuzz/bodies/signaling.rs"]
mod signaling;
#[path = "../fuzz/bodies/stun.rs"]
mod stun_request;
#[path = "../fuzz/bodies/tcp_frames.rs"]
mod tcp_frames;

/// Shorter files are cut behind every byte, longer ones at about this many places.
const MAX_CUTS: usize = 600;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn replay(target: &str, body: fn(&[u8]) -> bool) {
    let corpus = folder("corpus").join(target);
    let entries = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let (mut files, mut valid) = (0, 0);
    for entry in entries {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        // The test's output is shown only when it fails: the last line names the file.
        println!("{}", path.display());
        let accepted = body(&data);
        files += 1;
        if path.file_name().unwrap().to_str().unwrap().starts_with("valid-") {
            assert!(accepted, "{} is refused", path.display());
            valid += 1;
        }
        for length in (0..data.len()).step_by(1 + data.len() / MAX_CUTS) {
            body(&data[..length]);
        }
    }
    assert!(files >= 5, "{} has {files} files", corpus.display());
    assert!(valid > 0 && valid < files, "{}: {valid} of {files} files are valid", corpus.display());
}

#[test]
fn rtp_packets() {
    replay("rtp", rtp::run);
}

#[test]
fn rtcp_compounds() {
    replay("rtcp", rtcp::run);
}

#[test]
fn latch_operations() {
    replay("latch", latch::run);
}

#[test]
fn latch_cameras() {
    replay("latch_cameras", latch_cameras::run);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    /// Rules that hold in a few scenes may not hold in all.
    #[test]
    fn no_packet_of_one_camera_is_ever_given_to_the_stream_of_another(scene in prop::collection::vec(any::<u8>(), 9..126)) {
        latch_cameras::run(&scene);
    }
}

#[test]
fn video_packets() {
    replay("h264", h264::run);
}

#[test]
fn mp4_fragments() {
    replay("mp4", mp4::run);
}

#[test]
fn sdp_offers() {
    replay("offer", offer::run);
}

#[test]
fn camera_messages() {
    replay("mqtt_payload", mqtt_payload::run);
}

#[test]
fn stun_requests() {
    replay("stun", stun_request::run);
}

#[test]
fn tcp_connections() {
    replay("tcp_frames", tcp_frames::run);
}

#[test]
fn dtls_handshakes() {
    replay("dtls", dtls::run);
}

#[test]
fn play_messages() {
    replay("play_sdp", play_sdp::run);
}

#[test]
fn signaling_messages() {
    replay("signaling", signaling::run);
}

#[test]
fn ice_fragments() {
    replay("sdpfrag", sdpfrag::run);
}

#[test]
fn signaling_conversations() {
    replay("conversation", conversation::run);
}

#[test]
fn camera_registry_over_time() {
    replay("registry", registry::run);
}

#[test]
fn every_target_is_replayed_here() {
    let names = |name: &str, cut: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_end_matches(cut).to_owned())
            .collect();
        names.sort();
        names
    };
    let targets = names("fuzz_targets", ".rs");
    assert_eq!(targets, names("bodies", ".rs"));
    assert_eq!(targets, names("corpus", ""));
    let this = include_str!("corpus.rs");
    for target in targets {
        assert!(this.contains(&format!("replay(\"{target}\"")), "{target} is not replayed");
    }
}
