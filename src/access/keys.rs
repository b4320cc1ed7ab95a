//! API keys: random texts of which the configuration holds the SHA-256 only.
//!
//! A key has so many possible values that a slow hash would add nothing; one chosen by a person must not be used.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::grant::{CameraScope, Grant, Role};
use super::{Denied, base64url};

/// How keys begin that were made here: scanners find them in places where they should not be.
const PREFIX: &str = "hck_";
/// Shorter ones could be guessed.
pub const MIN_LENGTH: usize = 32;

/// A key that may be used, by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    hash: [u8; 32],
    pub(super) grant: Grant,
}

/// Why a text describes no key. It is never part of the message: somebody may have written the key itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must look like name:role:cameras:sha256 or name:role:cameras:sha256:expiry; {0}")]
pub struct InvalidKey(String);

impl ApiKey {
    /// The grant of whoever has the key.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// As [`ApiKey`]'s `FromStr` reads it; the time is RFC 3339.
impl FromStr for ApiKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let wrong = |why: &str| InvalidKey(why.to_owned());
        let mut parts = text.trim().splitn(5, ':');
        let mut next = |what: &str| parts.next().map(str::trim).ok_or_else(|| wrong(&format!("{what} is missing")));
        let (name, role, cameras, hash) = (next("name")?, next("role")?, next("cameras")?, next("sha256")?);
        if name.is_empty() || name.len() > 64 || name.contains(char::is_control) {
            return Err(wrong("name must have 1 to 64 characters"));
        }
        let role: Role = role.parse().map_err(|why| wrong(&format!("role {why}")))?;
        let cameras = CameraScope::new(cameras.split('+').map(str::trim))
            .map_err(|_| wrong("cameras must be *, or ids and patterns like 56C1* with + between them"))?;
        let hash = from_hex(hash).ok_or_else(|| wrong("sha256 must be the 64 hex digits that hash-key prints"))?;
        let until = match parts.next().map(str::trim) {
            None | Some("") => None,
            Some(time) => {
                Some(parse_time(time).ok_or_else(|| wrong("expiry must be a time like 2027-01-31T00:00:00Z"))?)
            }
        };
        Ok(Self { hash, grant: Grant::new(name, role, cameras, until) })
    }
}

/// A time as in RFC 3339, to the second; not before 1970.
pub fn parse_time(text: &str) -> Option<SystemTime> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_second().try_into().ok()?))
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// The hash of a key, 64 hex digits.
pub fn hash(key: &str) -> String {
    digest(&SHA256, key.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new key: 256 random bits.
pub fn create() -> String {
    format!("{PREFIX}{}", base64url(&rand::random::<[u8; 32]>()))
}

/// The grant of a key. Looks at every key that there is, so that the time tells nothing.
pub(super) fn find(keys: &[ApiKey], text: &str, now: SystemTime) -> Result<Grant, Denied> {
    let hash = digest(&SHA256, text.as_bytes());
    let mut found = None;
    for key in keys {
        if bool::from(key.hash.as_slice().ct_eq(hash.as_ref())) {
            found = Some(&key.grant);
        }
    }
    let grant = found.ok_or(Denied::UnknownKey)?;
    if grant.until.is_some_and(|until| until <= now) {
        return Err(Denied::Expired);
    }
    Ok(grant.clone())
}
