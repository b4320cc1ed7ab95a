//! A datagram on a camera's port, up to the keyframe scan.

use bytes::Bytes;
use honeycast::media::h264;
use honeycast::media::rtp::{DatagramKind, FIXED_HEADER_LEN, RtpHeader, RtpPacket, classify};

/// Whether `data` is an RTP packet.
pub(crate) fn run(data: &[u8]) -> bool {
    check_scan(data);
    let kind = classify(data);
    let Ok(packet) = RtpPacket::parse(Bytes::copy_from_slice(data)) else { return false };
    assert_ne!(kind, DatagramKind::Other, "what parses must be told from STUN and DTLS before");
    assert_eq!(packet.as_bytes(), data);
    let payload = packet.payload();
    assert!(FIXED_HEADER_LEN + payload.len() <= data.len());
    check_scan(&payload);

    let header = RtpHeader {
        payload_type: packet.payload_type(),
        marker: packet.marker(),
        seq: packet.seq(),
        timestamp: packet.timestamp(),
        ssrc: packet.ssrc(),
    };
    let written = [&header.to_bytes()[..], &payload].concat();
    assert_eq!(written[1..FIXED_HEADER_LEN], data[1..FIXED_HEADER_LEN], "the fixed header holds all its fields");
    let again = RtpPacket::parse(written.into()).expect("a written packet reads back");
    assert_eq!(again.payload(), payload);
    true
}

fn check_scan(payload: &[u8]) {
    let found = h264::scan(payload);
    if let Some(profile) = found.profile {
        assert!(found.begins_keyframe, "an SPS begins a keyframe");
        assert!(payload.windows(3).any(|window| window == profile.0), "the profile stands in the payload");
    }
}
