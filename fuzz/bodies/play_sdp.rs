//! The SDP of a `play`, as the simulated camera reads it.

use honeycast::sim::play_destinations;

/// Whether a camera would obey `data`.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(sdp) = std::str::from_utf8(data) else { return false };
    let Ok(destinations) = play_destinations(sdp) else { return false };
    assert!(sdp.ends_with("\r\n") && !sdp.replace("\r\n", "").contains(['\r', '\n']));
    for needed in ["s=Kurento Media Server", "a=direction:passive", "a=x-skl-ssrca:", "goog-remb"] {
        assert!(sdp.contains(needed), "a real camera stays silent without {needed}");
    }
    for address in destinations {
        assert!(!address.ip().is_unspecified() && !address.ip().is_multicast(), "{address}");
        assert_ne!(address.port(), 0);
        assert_eq!(address.ip(), destinations[0].ip());
        assert!(sdp.contains(&format!("c=IN IP4 {}\r\n", address.ip())));
    }
    true
}
