//! Datagrams of a viewer that has passed ICE and not yet shown its certificate: DTLS and early SRTCP.
//!
//! The input is a list of datagrams, each behind its length in two bytes; the last one may be cut.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use honeycast::webrtc::{Identity, Output, ParsedOffer, RunningCodecs, Session, SessionConfig};
use stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use stun::textattrs::TextAttribute;

const OFFER: &str = include_str!("../../tests/data/offer-chromium.sdp");
const MAX_DATAGRAMS: usize = 64;
/// A flight of ours has a handful of datagrams, a certificate included.
const MAX_ANSWERS: usize = 16;

/// Whether every datagram was of use and there was an answer.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut now = Instant::now();
    let source = SocketAddr::from(([192, 0, 2, 7], 40_000));
    let mut session = proven_session(source, now);
    let (mut rest, mut answers) = (data, 0);
    for _ in 0..MAX_DATAGRAMS {
        let Some((length, tail)) = rest.split_first_chunk::<2>() else { break };
        let (datagram, after) = tail.split_at(usize::from(u16::from_be_bytes(*length)).min(tail.len()));
        rest = after;
        now += Duration::from_millis(10);
        session.handle_datagram(source, datagram, now);
        answers += drain(&mut session, source);
        // Library timers, without letting the consent run out.
        now += Duration::from_millis(50);
        session.handle_timeout(now);
        answers += drain(&mut session, source);
    }
    let c = *session.counters();
    session.close(now);
    drain(&mut session, source);
    assert_eq!(session.poll_timeout(), None, "a closed session wants nothing any more");
    let in_vain = c.dtls_discarded + c.srtcp_refused + c.rtp_ignored + c.unknown + c.stun_ignored + c.after_close;
    answers > 0 && in_vain == 0
}

/// Takes all outputs; gives the number of datagrams among them.
fn drain(session: &mut Session, source: SocketAddr) -> usize {
    let mut answers = 0;
    while let Some(output) = session.poll_output() {
        match output {
            Output::Transmit { to, datagram } => {
                assert_eq!(to, source.into());
                assert!(datagram.len() <= 1500, "{}", datagram.len());
                answers += 1;
            }
            // Keys need the private key of the certificate in the offer.
            Output::Connected { .. } => panic!("connected without the viewer's key"),
            Output::Feedback(feedback) => panic!("feedback without keys: {feedback:?}"),
            Output::Path(_) | Output::Closed(_) => {}
        }
    }
    assert!(answers <= MAX_ANSWERS, "{answers} datagrams for one");
    answers
}

/// A session whose peer has passed the ICE check from `source`.
fn proven_session(source: SocketAddr, now: Instant) -> Session {
    let offer = ParsedOffer::parse(OFFER).expect("a valid offer");
    let (mut session, answer) = Session::accept(&offer, config(), RunningCodecs::default(), now).expect("an answer");
    let value =
        |text: &str, name: &str| text.lines().find_map(|line| line.strip_prefix(name)).expect("an ICE line").to_owned();
    let username = format!("{}:{}", value(&answer.sdp, "a=ice-ufrag:"), value(OFFER, "a=ice-ufrag:"));
    let password = value(&answer.sdp, "a=ice-pwd:");
    let provider = rtc_crypto::default_provider().expect("a provider");
    let setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: Vec::new() }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())),
        Box::new(FINGERPRINT),
    ];
    let mut check = Message::new();
    check.build(&setters).expect("a check");
    session.handle_datagram(source, &check.raw, now);
    drain(&mut session, source);
    assert!(session.is_proven(source, now));
    session
}

fn config() -> &'static SessionConfig {
    static CONFIG: OnceLock<SessionConfig> = OnceLock::new();
    CONFIG.get_or_init(|| SessionConfig {
        identity: Identity::generate().expect("a certificate"),
        candidates: Vec::new(),
    })
}
