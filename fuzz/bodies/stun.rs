//! A datagram on the viewers' port from an address that has proven nothing: it is counted, and that is all.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use honeycast::webrtc::{Identity, ParsedOffer, RunningCodecs, Session, SessionConfig, request_ufrag};

const OFFER: &str = include_str!("../../tests/data/offer-chromium.sdp");

/// Whether `data` is a binding request that names a session.
pub(crate) fn run(data: &[u8]) -> bool {
    let ufrag = request_ufrag(data);
    let now = Instant::now();
    let source = SocketAddr::from(([192, 0, 2, 7], 40_000));
    let offer = ParsedOffer::parse(OFFER).expect("a valid offer");
    let (mut session, _) = Session::accept(&offer, config(), RunningCodecs::default(), now).expect("an answer");
    let due = session.poll_timeout();
    session.handle_datagram(source, data, now);
    // Nobody guesses the session's random password.
    assert!(session.poll_output().is_none(), "an unauthenticated datagram is never answered");
    assert!(!session.is_proven(source, now));
    assert_eq!(session.poll_timeout(), due);
    let c = *session.counters();
    assert_eq!(c.stun_ignored + c.stun_unauthenticated + c.unproven_source + c.unknown, 1);
    assert_eq!(c.dtls_discarded + c.srtcp_refused + c.rtcp_malformed + c.rtp_ignored + c.after_close, 0);
    if let Some(ufrag) = &ufrag {
        assert_eq!(c.stun_unauthenticated, 1, "what finds a session is a whole request");
        assert!(
            data.len() > 20 && data.windows(ufrag.len() + 1).any(|window| window == format!("{ufrag}:").as_bytes())
        );
    }
    ufrag.is_some()
}

fn config() -> &'static SessionConfig {
    static CONFIG: OnceLock<SessionConfig> = OnceLock::new();
    CONFIG.get_or_init(|| SessionConfig {
        identity: Identity::generate().expect("a certificate"),
        candidates: Vec::new(),
    })
}
