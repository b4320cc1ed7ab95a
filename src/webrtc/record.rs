//! DTLS records before they reach the library: framing, limits, and the one look into the ClientHello.
//!
//! The library buffers without bounds what an unauthenticated sender writes (fragments without data,
//! records of the next epoch, post-handshake messages) and ends the handshake on bytes that RFC 6347
//! §4.1.2.7 says to discard. So everything is checked here first.

use super::keys::SrtpProfile;

/// Content type, version, epoch, sequence number, length (RFC 6347 §4.1).
const RECORD_HEADER_LEN: usize = 13;
/// Type, length, message number, fragment offset and length (RFC 6347 §4.2.2).
const HANDSHAKE_HEADER_LEN: usize = 12;
const ALERT: u8 = 21;
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const EXTENSION_USE_SRTP: u16 = 14;
const ALERT_WARNING: u8 = 1;
const CLOSE_NOTIFY: u8 = 0;

/// Longest handshake message taken. A certificate chain of a WebRTC peer has one to two kilobytes.
const MAX_MESSAGE_LEN: usize = 16 * 1024;
/// A handshake has about ten messages a side; a repeated ClientHello adds one.
const MAX_MESSAGE_NUMBER: u16 = 32;
/// Plaintext handshake fragments taken over the whole life of a session, retransmissions included.
const MAX_FRAGMENTS: u32 = 512;
/// Records of the next epoch that the library may queue before the handshake is done.
const MAX_EARLY_RECORDS: u32 = 64;
/// Datagrams in which a ClientHello may come; with a post-quantum key share it takes two.
const MAX_HELLO_DATAGRAMS: usize = 6;

/// Why a datagram is not handed to the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordError {
    /// Not well-formed, or of no meaning at this point; discarded as RFC 6347 §4.1.2.7 says.
    Malformed,
    /// More than an honest peer sends in a whole handshake.
    TooMuch,
}

/// Counts what was let through.
#[derive(Debug, Default)]
pub(super) struct RecordGuard {
    fragments: u32,
    early_records: u32,
}

impl RecordGuard {
    /// Checks all records of a datagram.
    pub(super) fn check(&mut self, datagram: &[u8], handshake_done: bool) -> Result<(), RecordError> {
        let (mut fragments, mut early) = (0, 0);
        for record in records(datagram) {
            let record = record?;
            match (record.epoch, record.content_type) {
                (0, HANDSHAKE) => {
                    for fragment in fragments_of(record.body) {
                        fragment?;
                        fragments += 1;
                    }
                }
                (0, CHANGE_CIPHER_SPEC) if record.body == [1] => {}
                (0, ALERT) if !handshake_done && is_final_alert(record.body) => {}
                (0, _) => return Err(RecordError::Malformed),
                (1, CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE | APPLICATION_DATA) => {
                    early += u32::from(!handshake_done);
                }
                _ => return Err(RecordError::Malformed),
            }
        }
        if self.fragments + fragments > MAX_FRAGMENTS || self.early_records + early > MAX_EARLY_RECORDS {
            return Err(RecordError::TooMuch);
        }
        self.fragments += fragments;
        self.early_records += early;
        Ok(())
    }
}

/// The plaintext handshake messages in a datagram that passed [`RecordGuard::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Messages {
    /// The highest message number.
    pub(super) highest: u16,
    /// Whether a message begins here.
    pub(super) begins: bool,
    /// Whether one of them is a HelloVerifyRequest.
    pub(super) verifies_hello: bool,
}

/// Looks at a datagram that consists of plaintext handshake messages and nothing else.
pub(super) fn plain_messages(datagram: &[u8]) -> Option<Messages> {
    let mut found: Option<Messages> = None;
    for record in records(datagram) {
        let record = record.ok().filter(|r| r.epoch == 0 && r.content_type == HANDSHAKE)?;
        for fragment in fragments_of(record.body).flatten() {
            let before = found.unwrap_or(Messages { highest: 0, begins: false, verifies_hello: false });
            found = Some(Messages {
                highest: before.highest.max(fragment.number),
                begins: before.begins || fragment.offset == 0,
                verifies_hello: before.verifies_hello || fragment.message_type == HELLO_VERIFY_REQUEST,
            });
        }
    }
    found
}

/// A plaintext alert that ends the handshake: fatal, or close_notify. The library takes every other one
/// for an error, too.
fn is_final_alert(body: &[u8]) -> bool {
    matches!(body, [level, description] if *level != ALERT_WARNING || *description == CLOSE_NOTIFY)
}

struct Record<'a> {
    content_type: u8,
    epoch: u16,
    body: &'a [u8],
}

/// The records of a datagram; an error ends the walk. An empty datagram is malformed.
fn records(datagram: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    let mut rest = Some(datagram);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        let split = || {
            let (header, after) = bytes.split_at_checked(RECORD_HEADER_LEN)?;
            let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let (body, next) = after.split_at_checked(len)?;
            // {254,255} is DTLS 1.0, which a ClientHello's record says; {254,253} is 1.2.
            let known = header[1] == 254 && matches!(header[2], 253 | 255) && len > 0;
            let epoch = u16::from_be_bytes([header[3], header[4]]);
            known.then_some((Record { content_type: header[0], epoch, body }, next))
        };
        Some(match split() {
            Some((record, next)) => {
                rest = (!next.is_empty()).then_some(next);
                Ok(record)
            }
            None => Err(RecordError::Malformed),
        })
    })
}

struct Fragment<'a> {
    message_type: u8,
    message_len: usize,
    number: u16,
    offset: usize,
    data: &'a [u8],
}

/// The handshake fragments of one plaintext record.
fn fragments_of(body: &[u8]) -> impl Iterator<Item = Result<Fragment<'_>, RecordError>> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        let split = || {
            let (header, after) = bytes.split_at_checked(HANDSHAKE_HEADER_LEN)?;
            let u24 = |at: usize| {
                usize::from(header[at]) << 16 | usize::from(header[at + 1]) << 8 | usize::from(header[at + 2])
            };
            let (message_len, offset, len) = (u24(1), u24(6), u24(9));
            let number = u16::from_be_bytes([header[4], header[5]]);
            let (data, next) = after.split_at_checked(len)?;
            let sane = message_len <= MAX_MESSAGE_LEN
                && offset + len <= message_len
                && (len > 0 || message_len == 0)
                && number <= MAX_MESSAGE_NUMBER;
            let fragment = Fragment { message_type: header[0], message_len, number, offset, data };
            sane.then_some((fragment, next))
        };
        Some(match split() {
            Some((fragment, next)) => {
                rest = (!next.is_empty()).then_some(next);
                Ok(fragment)
            }
            None => Err(RecordError::Malformed),
        })
    })
}

/// The datagrams of a ClientHello, kept until the whole message is there.
#[derive(Debug, Default)]
pub(super) struct HelloBuffer {
    datagrams: Vec<Vec<u8>>,
    message: Vec<u8>,
    have: Vec<bool>,
}

/// A complete ClientHello.
#[derive(Debug)]
pub(super) struct Hello {
    /// What to feed to the library, in the order of arrival.
    pub(super) datagrams: Vec<Vec<u8>>,
    /// The best profile that both sides have, or `None`.
    pub(super) profile: Option<SrtpProfile>,
}

impl HelloBuffer {
    /// Takes a datagram that passed [`RecordGuard::check`]; one without a piece of a first ClientHello
    /// is ignored.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Option<Hello> {
        if self.datagrams.len() == MAX_HELLO_DATAGRAMS {
            // The missing piece never came; the peer is retransmitting the whole message anyway.
            *self = Self::default();
        }
        let mut took = false;
        for record in records(datagram).flatten().filter(|r| r.epoch == 0 && r.content_type == HANDSHAKE) {
            let hellos = fragments_of(record.body).flatten();
            for piece in hellos.filter(|f| f.message_type == CLIENT_HELLO && f.number == 0) {
                if self.message.len() != piece.message_len {
                    *self = Self {
                        message: vec![0; piece.message_len],
                        have: vec![false; piece.message_len],
                        ..Self::default()
                    };
                }
                let range = piece.offset..piece.offset + piece.data.len();
                self.message[range.clone()].copy_from_slice(piece.data);
                self.have[range].fill(true);
                took = true;
            }
        }
        if !took {
            return None;
        }
        self.datagrams.push(datagram.to_vec());
        if !self.have.iter().all(|have| *have) {
            return None;
        }
        let whole = std::mem::take(self);
        Some(Hello { datagrams: whole.datagrams, profile: best_profile(&whole.message) })
    }
}

/// The profile to configure: GCM if the client has it, whatever its order (Chromium lists CM first).
fn best_profile(client_hello: &[u8]) -> Option<SrtpProfile> {
    let offered = use_srtp(client_hello)?;
    let has = |profile: SrtpProfile| offered.chunks_exact(2).any(|p| p == profile.wire().to_be_bytes());
    [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80].into_iter().find(|profile| has(*profile))
}

/// The profile list of the `use_srtp` extension (RFC 5764 §4.1.1).
fn use_srtp(client_hello: &[u8]) -> Option<&[u8]> {
    // Version, random, session id, cookie, cipher suites, compression methods, extensions.
    let (_, rest) = client_hello.split_at_checked(2 + 32)?;
    let (_, rest) = take_vector(rest, 1)?;
    let (_, rest) = take_vector(rest, 1)?;
    let (_, rest) = take_vector(rest, 2)?;
    let (_, rest) = take_vector(rest, 1)?;
    let (mut extensions, _) = take_vector(rest, 2)?;
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_at_checked(2)?;
        let (body, next) = take_vector(rest, 2)?;
        if kind == EXTENSION_USE_SRTP.to_be_bytes() {
            return take_vector(body, 2).map(|(profiles, _)| profiles);
        }
        extensions = next;
    }
    None
}

/// Splits off a vector whose length stands before it in `width` bytes (RFC 5246 §4.3).
fn take_vector(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_at_checked(width)?;
    rest.split_at_checked(len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content_type: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![content_type, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn fragment(message_len: usize, number: u8, offset: usize, data: &[u8]) -> Vec<u8> {
        let u24 = |n: usize| [(n >> 16) as u8, (n >> 8) as u8, n as u8];
        let mut bytes = vec![CLIENT_HELLO];
        bytes.extend_from_slice(&u24(message_len));
        bytes.extend_from_slice(&[0, number]);
        bytes.extend_from_slice(&u24(offset));
        bytes.extend_from_slice(&u24(data.len()));
        bytes.extend_from_slice(data);
        record(HANDSHAKE, 0, &bytes)
    }

    fn hello(profiles: &[u16]) -> Vec<u8> {
        let mut body = vec![254, 253];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let list: Vec<u8> = profiles.iter().flat_map(|p| p.to_be_bytes()).collect();
        let mut extensions = vec![0xff, 1, 0, 1, 0, 0, 14];
        extensions.extend_from_slice(&(list.len() as u16 + 3).to_be_bytes());
        extensions.extend_from_slice(&(list.len() as u16).to_be_bytes());
        extensions.extend_from_slice(&list);
        extensions.push(0);
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(&extensions);
        body
    }

    #[test]
    fn gcm_wins_whatever_the_order() {
        use SrtpProfile::{AeadAes128Gcm, Aes128CmHmacSha1_80};
        for (profiles, expected) in [
            (&[1, 8, 7][..], Some(AeadAes128Gcm)),
            (&[7][..], Some(AeadAes128Gcm)),
            (&[2, 1][..], Some(Aes128CmHmacSha1_80)),
            (&[2, 8][..], None),
            (&[][..], None),
        ] {
            assert_eq!(best_profile(&hello(profiles)), expected, "{profiles:?}");
        }
    }

    #[test]
    fn a_hello_is_put_together_in_any_order_and_from_overlapping_pieces() {
        let body = hello(&[1, 7]);
        let piece = |from: usize, to: usize| fragment(body.len(), 0, from, &body[from..to]);
        let (first, middle, last) = (piece(0, 20), piece(10, 50), piece(50, body.len()));
        for order in [[&first, &middle, &last], [&last, &middle, &first], [&middle, &last, &first]] {
            let mut buffer = HelloBuffer::default();
            assert!(buffer.push(order[0]).is_none());
            assert!(buffer.push(order[0]).is_none(), "a repetition adds nothing");
            assert!(buffer.push(order[1]).is_none());
            let hello = buffer.push(order[2]).unwrap();
            assert_eq!(hello.profile, Some(SrtpProfile::AeadAes128Gcm));
            assert_eq!(hello.datagrams.len(), 4);
        }
    }

    #[test]
    fn a_hello_that_never_completes_does_not_grow_and_a_retransmission_still_works() {
        let body = hello(&[7]);
        let mut buffer = HelloBuffer::default();
        for _ in 0..1000 {
            assert!(buffer.push(&fragment(body.len(), 0, 0, &body[..10])).is_none());
            assert!(buffer.datagrams.len() <= MAX_HELLO_DATAGRAMS);
        }
        assert!(buffer.push(&fragment(body.len(), 0, 0, &body)).is_some());
    }

    #[test]
    fn only_plaintext_handshake_messages_are_told_about() {
        let (first, second) = (fragment(10, 3, 0, &[0; 5]), fragment(10, 4, 5, &[0; 5]));
        assert_eq!(plain_messages(&first), Some(Messages { highest: 3, begins: true, verifies_hello: false }));
        assert_eq!(plain_messages(&second), Some(Messages { highest: 4, begins: false, verifies_hello: false }));
        let both = [first.clone(), second].concat();
        assert_eq!(plain_messages(&both), Some(Messages { highest: 4, begins: true, verifies_hello: false }));
        assert_eq!(plain_messages(&[first.clone(), record(CHANGE_CIPHER_SPEC, 0, &[1])].concat()), None);
        assert_eq!(plain_messages(&[first, record(HANDSHAKE, 1, &[1; 40])].concat()), None);
    }

    #[test]
    fn malformed_records_are_discarded() {
        let cases: [(&str, Vec<u8>); 12] = [
            ("empty", vec![]),
            ("header only", record(HANDSHAKE, 0, &[])),
            ("unknown type", record(99, 0, &[1])),
            ("plaintext application data", record(APPLICATION_DATA, 0, &[1])),
            ("warning alert", record(ALERT, 0, &[ALERT_WARNING, 90])),
            ("cut alert", record(ALERT, 0, &[2])),
            ("odd change cipher spec", record(CHANGE_CIPHER_SPEC, 0, &[2])),
            ("epoch from nowhere", record(HANDSHAKE, 2, &[1])),
            ("fragment beyond its message", fragment(10, 0, 5, &[0; 6])),
            ("fragment without data", fragment(10, 0, 0, &[])),
            ("message number from nowhere", fragment(1, 200, 0, &[0])),
            ("giant message", fragment(MAX_MESSAGE_LEN + 1, 0, 0, &[0])),
        ];
        for (name, bytes) in cases {
            assert_eq!(RecordGuard::default().check(&bytes, false), Err(RecordError::Malformed), "{name}");
        }
        assert_eq!(RecordGuard::default().check(&record(ALERT, 0, &[2, 40]), true), Err(RecordError::Malformed));
        assert_eq!(RecordGuard::default().check(&record(ALERT, 0, &[2, 40]), false), Ok(()));
    }

    #[test]
    fn floods_end() {
        let mut guard = RecordGuard::default();
        let flood = fragment(100, 0, 0, &[1]);
        let taken = (0..10_000).filter(|_| guard.check(&flood, false).is_ok()).count();
        assert_eq!(taken as u32, MAX_FRAGMENTS);
        let mut guard = RecordGuard::default();
        let early = record(APPLICATION_DATA, 1, &[1]);
        assert_eq!((0..1000).filter(|_| guard.check(&early, false).is_ok()).count() as u32, MAX_EARLY_RECORDS);
        assert_eq!(guard.check(&early, true), Ok(()), "no limit once encrypted records can be opened");
    }

    #[test]
    fn no_truncation_or_flipped_bit_panics() {
        let body = hello(&[1, 7]);
        let whole = fragment(body.len(), 0, 0, &body);
        for len in 0..whole.len() {
            let _ = RecordGuard::default().check(&whole[..len], false);
            assert!(HelloBuffer::default().push(&whole[..len]).is_none());
            let _ = best_profile(&body[..len.min(body.len())]);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = RecordGuard::default().check(&flipped, false);
            let _ = HelloBuffer::default().push(&flipped);
        }
    }
}
