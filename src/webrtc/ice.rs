//! ICE-lite: answers connectivity checks, starts none (RFC 8445 §2.5, RFC 7675, RFC 8489).

use std::net::SocketAddr;
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
    local_ufrag: String,
    local_pwd: String,
    /// `local:remote`, as the peer must write it.
    username: String,
    proven: Vec<(SocketAddr, Instant)>,
    path: Option<SocketAddr>,
    nominated: bool,
    heard: Instant,
}

/// What to do about an authenticated request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// To be sent to the source.
    pub(super) response: Vec<u8>,
    /// Media goes here from now on; set when that changed.
    pub(super) new_path: Option<SocketAddr>,
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
        let local_ufrag = random_text(UFRAG_LEN);
        let username = format!("{local_ufrag}:{remote_ufrag}");
        Self {
            identity,
            local_ufrag,
            local_pwd: random_text(PWD_LEN),
            username,
            proven: Vec::new(),
            path: None,
            nominated: false,
            heard: now,
        }
    }

    pub(super) fn local_ufrag(&self) -> &str {
        &self.local_ufrag
    }

    pub(super) fn local_pwd(&self) -> &str {
        &self.local_pwd
    }

    /// Where DTLS and media go: the last nominated address, before that the first proven one.
    pub(super) fn path(&self) -> Option<SocketAddr> {
        self.path
    }

    /// Whether `source` has passed an authenticated check, and not too long ago.
    pub(super) fn is_proven(&self, source: SocketAddr, now: Instant) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < CONSENT_LIFETIME;
        self.proven.iter().any(|(address, at)| *address == source && fresh(*at))
    }

    /// When consent ends unless another request comes.
    pub(super) fn consent_ends(&self) -> Instant {
        self.heard + CONSENT_LIFETIME
    }

    /// Answers a binding request.
    pub(super) fn handle(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) -> Result<Answered, StunError> {
        let mut request = parse(datagram)?;
        if request.typ != BINDING_REQUEST {
            return Err(StunError::NotARequest);
        }
        // Integrity before anything else: an unauthenticated packet must change nothing.
        let crypto = self.identity.crypto();
        MessageIntegrity::check(&mut request, self.local_pwd.as_bytes(), crypto)
            .map_err(|_| StunError::Unauthenticated)?;
        if find(&request, ATTR_USERNAME).map(|a| a.value.as_slice()) != Some(self.username.as_bytes()) {
            return Err(StunError::Unauthenticated);
        }
        self.heard = now;
        if find(&request, ATTR_ICE_CONTROLLED).is_some() {
            // A lite agent is always controlled, so the peer must be controlling (RFC 8445 §7.3.1.1).
            let response = self.respond(&request, vec![Box::new(BINDING_ERROR), Box::new(CODE_ROLE_CONFLICT)])?;
            return Ok(Answered { response, new_path: None });
        }
        let mapped = XorMappedAddress { ip: source.ip(), port: source.port() };
        let response = self.respond(&request, vec![Box::new(BINDING_SUCCESS), Box::new(mapped)])?;
        self.prove(source, now);
        let nominates = find(&request, ATTR_USE_CANDIDATE).is_some();
        self.nominated |= nominates;
        let moves = (nominates || self.path.is_none()) && self.path != Some(source);
        if moves {
            self.path = Some(source);
        }
        Ok(Answered { response, new_path: moves.then_some(source) })
    }

    fn prove(&mut self, source: SocketAddr, now: Instant) {
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

    fn respond(&self, request: &Message, content: Vec<Box<dyn Setter>>) -> Result<Vec<u8>, StunError> {
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![Box::new(request.transaction_id)];
        setters.extend(content);
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            self.local_pwd.clone(),
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
    let request = parse(datagram).ok().filter(|message| message.typ == BINDING_REQUEST)?;
    let username = std::str::from_utf8(&find(&request, ATTR_USERNAME)?.value).ok()?;
    username.split_once(':').map(|(local, _)| local.to_owned())
}

/// Decodes a message whose length field is exact and whose FINGERPRINT, if it has one, is last and right.
fn parse(datagram: &[u8]) -> Result<Message, StunError> {
    if datagram.len() > MAX_REQUEST_LEN || datagram.len() < MESSAGE_HEADER_SIZE {
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
