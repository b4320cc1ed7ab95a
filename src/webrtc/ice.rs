//! ICE-lite: answers connectivity checks, starts none (RFC 8445 §2.5, RFC 7675, RFC 8489).

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::distr::Alphanumeric;
use stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
    RawAttribute,
};
use stun::error_code::CODE_ROLE_CONFLICT;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, MESSAGE_HEADER_SIZE, Message, Setter};
use stun::xoraddr::XorMappedAddress;

use super::certificate::Identity;
use super::remote::Remote;

/// A peer without an authenticated request for this long has withdrawn its consent (RFC 7675 §5.1).
pub(super) const CONSENT_LIFETIME: Duration = Duration::from_secs(30);
/// Peer addresses remembered as proven. A browser has a handful of candidate pairs per network.
const MAX_PROVEN: usize = 16;
/// 16 of 62 characters: 95 bits where RFC 8839 §5.4 asks for 24; long enough to key a table by.
const UFRAG_LEN: usize = 16;
/// 24 of 62 characters: 142 bits where RFC 8839 §5.4 asks for 128.
const PWD_LEN: usize = 24;
/// Longest check taken; browsers send about 100 bytes.
const MAX_REQUEST_LEN: usize = 1024;

/// Responder state of one session.
pub(super) struct IceLite {
    identity: Arc<Identity>,
    current: Credentials,
    /// Those before a restart, until the peer has nominated a pair with the new ones (RFC 8445 §9).
    previous: Option<Credentials>,
    /// A check with the current credentials has come.
    used: bool,
    proven: Vec<(Remote, Instant)>,
    path: Option<Remote>,
    heard: Instant,
}

/// What one generation of checks is authenticated by.
struct Credentials {
    local_ufrag: String,
    local_pwd: String,
    /// `local:remote`, as the peer must write it.
    username: String,
}

impl Credentials {
    fn new(remote_ufrag: &str) -> Self {
        let local_ufrag = random_text(UFRAG_LEN);
        let username = format!("{local_ufrag}:{remote_ufrag}");
        Self { local_ufrag, local_pwd: random_text(PWD_LEN), username }
    }
}

/// What to do about an authenticated request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// To be sent to the source.
    pub(super) response: Vec<u8>,
    /// Media goes here from now on; set when that changed.
    pub(super) new_path: Option<Remote>,
}

/// Why a STUN message was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StunError {
    /// Not a well-formed binding request.
    Malformed,
    /// Well-formed, but not a request: indications and responses.
    NotARequest,
    /// User name or MESSAGE-INTEGRITY is wrong or missing.
    Unauthenticated,
}

impl IceLite {
    /// New random credentials; `remote_ufrag` is the offer's.
    pub(super) fn new(identity: Arc<Identity>, remote_ufrag: &str, now: Instant) -> Self {
        Self {
            identity,
            current: Credentials::new(remote_ufrag),
            previous: None,
            used: false,
            proven: Vec::new(),
            path: None,
            heard: now,
        }
    }

    /// New credentials for a peer that restarts ICE with a new fragment; nothing happens if it is the old one.
    /// The path stays until the peer nominates another, and the old credentials until then: checks of both
    /// generations cross on the way (RFC 8445 §9).
    pub(super) fn restart(&mut self, remote_ufrag: &str) {
        if self.remote_ufrag() == remote_ufrag {
            return;
        }
        let old = std::mem::replace(&mut self.current, Credentials::new(remote_ufrag));
        // A restart whose answer the peer never used is forgotten; what it uses stays.
        if self.used || self.previous.is_none() {
            self.previous = Some(old);
        }
        self.used = false;
    }

    pub(super) fn local_ufrag(&self) -> &str {
        &self.current.local_ufrag
    }

    /// Whether checks with this fragment can be authenticated.
    pub(super) fn answers_to(&self, ufrag: &str) -> bool {
        std::iter::once(&self.current).chain(&self.previous).any(|credentials| credentials.local_ufrag == ufrag)
    }

    pub(super) fn local_pwd(&self) -> &str {
        &self.current.local_pwd
    }

    /// The peer's fragment of the running generation.
    pub(super) fn remote_ufrag(&self) -> &str {
        &self.current.username[self.current.local_ufrag.len() + 1..]
    }

    /// Where DTLS and media go: the last nominated address, before that the first proven one.
    pub(super) fn path(&self) -> Option<Remote> {
        self.path
    }

    /// Whether `source` has passed an authenticated check, and not too long ago.
    pub(super) fn is_proven(&self, source: Remote, now: Instant) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < CONSENT_LIFETIME;
        self.proven.iter().any(|(remote, at)| *remote == source && fresh(*at))
    }

    /// A connection is gone: it is no path any more, and the next check makes another one.
    pub(super) fn forget(&mut self, source: Remote) {
        self.proven.retain(|(remote, _)| *remote != source);
        self.path = self.path.filter(|path| *path != source);
    }

    /// When consent ends unless another request comes.
    pub(super) fn consent_ends(&self) -> Instant {
        self.heard + CONSENT_LIFETIME
    }

    /// Answers a binding request.
    pub(super) fn handle(&mut self, source: Remote, datagram: &[u8], now: Instant) -> Result<Answered, StunError> {
        let mut request = parse(datagram)?;
        if request.typ != BINDING_REQUEST {
            return Err(StunError::NotARequest);
        }
        // The name says which password to check with; before that check nothing is changed.
        let name = find(&request, ATTR_USERNAME).ok_or(StunError::Unauthenticated)?.value.as_slice();
        let named = |credentials: &&Credentials| credentials.username.as_bytes() == name;
        let is_current = named(&&self.current);
        let credentials = std::iter::once(&self.current).chain(&self.previous).find(named);
        let pwd = credentials.ok_or(StunError::Unauthenticated)?.local_pwd.clone();
        MessageIntegrity::check(&mut request, pwd.as_bytes(), self.identity.crypto())
            .map_err(|_| StunError::Unauthenticated)?;
        self.heard = now;
        self.used |= is_current;
        if find(&request, ATTR_ICE_CONTROLLED).is_some() {
            // A lite agent is always controlled, so the peer must be controlling (RFC 8445 §7.3.1.1).
            let response = self.respond(&request, &pwd, vec![Box::new(BINDING_ERROR), Box::new(CODE_ROLE_CONFLICT)])?;
            return Ok(Answered { response, new_path: None });
        }
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d; they know themselves by a.b.c.d.
        let mapped = XorMappedAddress { ip: source.address.ip().to_canonical(), port: source.address.port() };
        let response = self.respond(&request, &pwd, vec![Box::new(BINDING_SUCCESS), Box::new(mapped)])?;
        self.prove(source, now);
        let nominates = find(&request, ATTR_USE_CANDIDATE).is_some();
        if nominates && is_current {
            self.previous = None;
        }
        let moves = (nominates || self.path.is_none()) && self.path != Some(source);
        if moves {
            self.path = Some(source);
        }
        Ok(Answered { response, new_path: moves.then_some(source) })
    }

    fn prove(&mut self, source: Remote, now: Instant) {
        if let Some(entry) = self.proven.iter_mut().find(|(address, _)| *address == source) {
            entry.1 = now;
            return;
        }
        if self.proven.len() == MAX_PROVEN {
            // The path in use stays; of the others the one that was silent longest goes.
            let path = self.path;
            let others = self.proven.iter().enumerate().filter(|(_, (address, _))| Some(*address) != path);
            if let Some((oldest, _)) = others.min_by_key(|(_, (_, at))| *at) {
                self.proven.swap_remove(oldest);
            }
        }
        self.proven.push((source, now));
    }

    fn respond(&self, request: &Message, pwd: &str, content: Vec<Box<dyn Setter>>) -> Result<Vec<u8>, StunError> {
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![Box::new(request.transaction_id)];
        setters.extend(content);
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            pwd.to_owned(),
            self.identity.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        let mut response = Message::new();
        response.build(&setters).map_err(|_| StunError::Malformed)?;
        Ok(response.raw)
    }
}

/// The local user fragment that a STUN binding request names: tells which session a datagram from a new
/// address is for. Nothing is authenticated here.
pub fn request_ufrag(datagram: &[u8]) -> Option<String> {
    // Most of what arrives is DTLS and SRTCP, and a flood of it should cost little (RFC 7983 §7).
    if !matches!(datagram.first(), Some(0..=3)) {
        return None;
    }
    let request = parse(datagram).ok().filter(|message| message.typ == BINDING_REQUEST)?;
    let username = std::str::from_utf8(&find(&request, ATTR_USERNAME)?.value).ok()?;
    username.split_once(':').map(|(local, _)| local.to_owned())
}

/// Decodes a message whose length field is exact and whose FINGERPRINT, if it has one, is last and right.
fn parse(datagram: &[u8]) -> Result<Message, StunError> {
    if datagram.len() > MAX_REQUEST_LEN || datagram.len() < MESSAGE_HEADER_SIZE {
        return Err(StunError::Malformed);
    }
    // RFC 8489 §5. The library leaves these bits out of the type and takes a TURN channel for a request.
    if datagram[0] & 0xc0 != 0 {
        return Err(StunError::Malformed);
    }
    let mut message = Message::new();
    message.unmarshal_binary(datagram).map_err(|_| StunError::Malformed)?;
    // The library ignores bytes behind the message and assumes that FINGERPRINT ends it.
    if message.length as usize + MESSAGE_HEADER_SIZE != datagram.len() {
        return Err(StunError::Malformed);
    }
    let attributes = &message.attributes.0;
    let is_fingerprint = |a: &RawAttribute| a.typ == ATTR_FINGERPRINT;
    match attributes.iter().position(is_fingerprint) {
        Some(at) if at + 1 != attributes.len() => Err(StunError::Malformed),
        Some(_) => FINGERPRINT.check(&message).map(|()| message).map_err(|_| StunError::Malformed),
        None => Ok(message),
    }
}

/// The first attribute of a type before MESSAGE-INTEGRITY; what follows is not authenticated and must
/// be ignored (RFC 8489 §14.5).
fn find(message: &Message, wanted: AttrType) -> Option<&RawAttribute> {
    message.attributes.0.iter().take_while(|a| a.typ != ATTR_MESSAGE_INTEGRITY).find(|a| a.typ == wanted)
}

/// Letters and digits from the thread's cryptographic generator, which the system seeds.
pub(super) fn random_text(len: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(len).map(char::from).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use super::*;
    use stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY};
    use stun::error_code::ErrorCodeAttribute;
    use stun::message::{BINDING_REQUEST, Getter, TransactionId};
    use stun::textattrs::TextAttribute;

    const REMOTE_UFRAG: &str = "Gzmx";

    fn address(port: u16) -> Remote {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn responder() -> (IceLite, Instant) {
        let now = Instant::now();
        (IceLite::new(Identity::generate().unwrap(), REMOTE_UFRAG, now), now)
    }

    /// A check as browsers send it, with further attributes before MESSAGE-INTEGRITY.
    pub(in crate::webrtc) fn check(username: &str, pwd: &str, extra: &[AttrType]) -> Vec<u8> {
        let provider = rtc_crypto::default_provider().unwrap();
        let raw = |typ, value: &[u8]| RawAttribute { typ, length: 0, value: value.to_vec() };
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, username.to_owned())),
            Box::new(raw(ATTR_PRIORITY, &[110, 0, 30, 255])),
        ];
        for typ in extra {
            let value: &[u8] = if *typ == ATTR_USE_CANDIDATE { &[] } else { &[1, 2, 3, 4, 5, 6, 7, 8] };
            setters.push(Box::new(raw(*typ, value)));
        }
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(pwd.to_owned(), provider.crypto());
        setters.push(Box::new(integrity));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    fn good(ice: &IceLite, extra: &[AttrType]) -> Vec<u8> {
        check(&ice.current.username, ice.local_pwd(), extra)
    }

    fn decoded(response: &[u8], ice: &IceLite) -> Message {
        let mut message = parse(response).unwrap();
        let provider = rtc_crypto::default_provider().unwrap();
        MessageIntegrity::check(&mut message, ice.local_pwd().as_bytes(), provider.crypto()).unwrap();
        assert_eq!(message.attributes.0.last().unwrap().typ, ATTR_FINGERPRINT);
        message
    }

    #[test]
    fn credentials_are_long_and_new_each_time() {
        let ((first, _), (second, _)) = (responder(), responder());
        assert_eq!((first.local_ufrag().len(), first.local_pwd().len()), (16, 24));
        assert_ne!(first.local_ufrag(), second.local_ufrag());
        assert_ne!(first.local_pwd(), second.local_pwd());
    }

    #[test]
    fn an_authenticated_check_is_answered_with_the_senders_address() {
        let sources = ["127.0.0.1:5000", "[2001:db8::7]:6000", "[::ffff:192.0.2.7]:7000"];
        for source in sources.map(|text| text.parse::<SocketAddr>().unwrap()) {
            let (mut ice, now) = responder();
            let request = good(&ice, &[ATTR_ICE_CONTROLLING]);
            assert_eq!(request_ufrag(&request).as_deref(), Some(ice.local_ufrag()));
            let answered = ice.handle(source.into(), &request, now).unwrap();
            let response = decoded(&answered.response, &ice);
            assert_eq!(response.typ, BINDING_SUCCESS);
            assert_eq!(response.transaction_id.0, request[8..20]);
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&response).unwrap();
            assert_eq!((mapped.ip, mapped.port), (source.ip().to_canonical(), source.port()));
            assert_eq!(answered.new_path, Some(source.into()));
            assert!(ice.is_proven(source.into(), now));
        }
    }

    #[test]
    fn a_message_with_one_of_the_two_top_bits_is_not_stun() {
        for bits in [0x40, 0x80, 0xc0] {
            let (mut ice, now) = responder();
            // Without a fingerprint, which would cover the first byte.
            let mut message = Message::new();
            message.unmarshal_binary(&good(&ice, &[])).unwrap();
            let mut request = message.raw[..message.raw.len() - 8].to_vec();
            request[3] -= 8;
            assert_eq!(request_ufrag(&request).as_deref(), Some(ice.local_ufrag()));
            request[0] |= bits;
            assert_eq!(request_ufrag(&request), None);
            assert_eq!(ice.handle(address(1), &request, now), Err(StunError::Malformed));
        }
    }

    #[test]
    fn the_path_follows_every_nomination_and_nothing_else_after_the_first() {
        let (mut ice, now) = responder();
        let mut path_after = |port, extra: &[AttrType]| {
            let request = good(&ice, extra);
            (ice.handle(address(port), &request, now).unwrap().new_path, ice.path())
        };
        assert_eq!(path_after(1, &[]), (Some(address(1)), Some(address(1))));
        assert_eq!(path_after(2, &[]), (None, Some(address(1))));
        assert_eq!(path_after(2, &[ATTR_USE_CANDIDATE]), (Some(address(2)), Some(address(2))));
        assert_eq!(path_after(2, &[ATTR_USE_CANDIDATE]), (None, Some(address(2))));
        assert_eq!(path_after(1, &[]), (None, Some(address(2))));
        assert_eq!(path_after(1, &[ATTR_USE_CANDIDATE]), (Some(address(1)), Some(address(1))));
    }

    #[test]
    fn wrong_credentials_change_nothing() {
        let (mut ice, now) = responder();
        let (user, pwd) = (ice.current.username.clone(), ice.local_pwd().to_owned());
        let later = now + Duration::from_secs(5);
        for request in [
            check(&user, "wrong", &[ATTR_USE_CANDIDATE]),
            check(&user, "wrong", &[ATTR_ICE_CONTROLLED]),
            check(&user, "", &[]),
            check("someone:else", &pwd, &[ATTR_USE_CANDIDATE]),
            check(ice.local_ufrag(), &pwd, &[]),
            check(&format!("{user}x"), &pwd, &[]),
        ] {
            assert_eq!(ice.handle(address(1), &request, later), Err(StunError::Unauthenticated));
        }
        assert_eq!((ice.path(), ice.consent_ends()), (None, now + CONSENT_LIFETIME));
        assert!(!ice.is_proven(address(1), later));
    }

    #[test]
    fn a_controlled_peer_is_told_to_switch_and_proves_nothing() {
        let (mut ice, now) = responder();
        let request = good(&ice, &[ATTR_ICE_CONTROLLED, ATTR_USE_CANDIDATE]);
        let answered = ice.handle(address(1), &request, now).unwrap();
        let response = decoded(&answered.response, &ice);
        assert_eq!(response.typ, BINDING_ERROR);
        let mut code = ErrorCodeAttribute::default();
        code.get_from(&response).unwrap();
        assert_eq!((code.code.0, answered.new_path, ice.path()), (487, None, None));
    }

    #[test]
    fn attributes_behind_message_integrity_are_not_believed() {
        let (mut ice, now) = responder();
        ice.handle(address(1), &good(&ice, &[]).clone(), now).unwrap();
        // Replays a check from elsewhere with a nomination hung on after the signature.
        let mut message = Message::new();
        message.unmarshal_binary(&good(&ice, &[])).unwrap();
        message.raw.truncate(message.raw.len() - 8);
        message.length -= 8;
        message.attributes.0.pop();
        message.add(ATTR_USE_CANDIDATE, &[]);
        FINGERPRINT.add_to(&mut message).unwrap();
        let answered = ice.handle(address(2), &message.raw, now).unwrap();
        assert_eq!((answered.new_path, ice.path()), (None, Some(address(1))));
    }

    #[test]
    fn indications_and_responses_are_not_answered() {
        let (mut ice, now) = responder();
        let request = good(&ice, &[]);
        let answered = ice.handle(address(1), &request, now).unwrap();
        assert_eq!(ice.handle(address(1), &answered.response, now), Err(StunError::NotARequest));
        assert_eq!(request_ufrag(&answered.response), None);
    }

    #[test]
    fn no_truncation_or_flipped_bit_is_answered() {
        let (mut ice, now) = responder();
        let request = good(&ice, &[ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE]);
        for len in 0..request.len() {
            assert!(ice.handle(address(1), &request[..len], now).is_err(), "{len}");
            let _ = request_ufrag(&request[..len]);
        }
        // Without its type FINGERPRINT is an unknown attribute behind MESSAGE-INTEGRITY, to be ignored.
        let fingerprint_type = (request.len() - 8) * 8..(request.len() - 6) * 8;
        for bit in (0..request.len() * 8).filter(|bit| !fingerprint_type.contains(bit)) {
            let mut flipped = request.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ice.handle(address(1), &flipped, now).is_err(), "bit {bit}");
            let _ = request_ufrag(&flipped);
        }
        let longer = [request, vec![0; 4]].concat();
        assert_eq!(ice.handle(address(1), &longer, now), Err(StunError::Malformed));
        assert_eq!(ice.path(), None);
    }

    #[test]
    fn an_odd_message_integrity_is_refused() {
        // The library computes where the attribute begins from its *assumed* length.
        let (mut ice, now) = responder();
        for len in [0, 4, 16, 19, 21, 24, 40] {
            let mut message = Message::new();
            message.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
            message.add(ATTR_MESSAGE_INTEGRITY, &vec![0; len]);
            message.add(ATTR_MESSAGE_INTEGRITY, &[]);
            assert_eq!(ice.handle(address(1), &message.raw, now), Err(StunError::Unauthenticated), "{len}");
        }
    }

    #[test]
    fn proven_addresses_are_few_and_get_old() {
        let (mut ice, now) = responder();
        let request = good(&ice, &[]);
        for port in 1..=100 {
            ice.handle(address(port), &request, now + Duration::from_millis(u64::from(port))).unwrap();
        }
        let now = now + Duration::from_millis(100);
        assert_eq!(ice.proven.len(), MAX_PROVEN);
        assert!(ice.is_proven(address(1), now), "the path stays");
        assert!(ice.is_proven(address(100), now) && !ice.is_proven(address(2), now));
        assert!(!ice.is_proven(address(100), now + CONSENT_LIFETIME));
    }

    #[test]
    fn after_a_restart_both_generations_are_answered_until_the_new_one_nominates() {
        let (mut ice, now) = responder();
        let old = good(&ice, &[ATTR_USE_CANDIDATE]);
        ice.handle(address(1), &old, now).unwrap();
        ice.restart(REMOTE_UFRAG);
        assert_eq!(request_ufrag(&old).as_deref(), Some(ice.local_ufrag()), "the same fragment is no restart");
        ice.restart("Hnew");
        assert_ne!(request_ufrag(&old).as_deref(), Some(ice.local_ufrag()));
        assert_eq!(ice.path(), Some(address(1)), "media goes on meanwhile");
        assert_eq!(ice.handle(address(1), &old, now).unwrap().new_path, None);
        // A password of the other generation is none.
        let mixed = check(&ice.current.username, &ice.previous.as_ref().unwrap().local_pwd, &[]);
        assert_eq!(ice.handle(address(2), &mixed, now), Err(StunError::Unauthenticated));
        let checked = ice.handle(address(2), &good(&ice, &[]), now).unwrap();
        decoded(&checked.response, &ice);
        assert_eq!((checked.new_path, ice.path()), (None, Some(address(1))));
        let nominated = ice.handle(address(2), &good(&ice, &[ATTR_USE_CANDIDATE]), now).unwrap();
        assert_eq!(nominated.new_path, Some(address(2)));
        assert_eq!(ice.handle(address(1), &old, now), Err(StunError::Unauthenticated));
    }

    #[test]
    fn a_restart_that_the_peer_never_used_leaves_what_it_uses() {
        let (mut ice, now) = responder();
        let used = good(&ice, &[]);
        ice.handle(address(1), &used, now).unwrap();
        for fragment in ["aaaa", "bbbb", "cccc"] {
            ice.restart(fragment);
            assert!(ice.handle(address(1), &used, now).is_ok());
        }
        assert!(ice.handle(address(1), &good(&ice, &[]), now).is_ok());
    }

    #[test]
    fn a_connection_and_a_datagram_from_one_address_are_two_sources_and_a_closed_one_is_no_path() {
        let (mut ice, now) = responder();
        let tcp = Remote { connection: Some(super::super::remote::ConnectionId(7)), ..address(1) };
        ice.handle(tcp, &good(&ice, &[ATTR_USE_CANDIDATE]), now).unwrap();
        assert!(ice.is_proven(tcp, now) && !ice.is_proven(address(1), now));
        ice.forget(tcp);
        assert!(!ice.is_proven(tcp, now) && ice.path().is_none());
        let next = ice.handle(address(1), &good(&ice, &[]), now).unwrap();
        assert_eq!(next.new_path, Some(address(1)), "the next check makes a path without a nomination");
    }
}
