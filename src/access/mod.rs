//! Who may do what, and how much of it: a credential becomes a [`Grant`] here and nowhere else.
//!
//! Nothing in here reads a file, a socket or a clock; what time it is comes in as an argument.

mod connections;
pub mod credential;
mod grant;
pub mod keys;
mod limits;
mod ring_provider;
mod token;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use connections::{Admitted, ConnectionLimits, Connections, Refused};
pub use credential::Credential;
pub use grant::{AccessEnd, CameraScope, Forbidden, Grant, InvalidScope, Role};
pub use keys::{ApiKey, InvalidKey};
pub use limits::{Allowance, Buckets, ClientLimits};
pub use token::{InvalidKeySet, TokenSettings};

use self::grant::Basis;
use self::token::{HmacKey, Tokens};

/// A login of the pages lasts no longer, whatever it was made with.
pub const SESSION: Duration = Duration::from_secs(12 * 3600);

/// Why a credential gives nothing. The texts go to clients: they name no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is none.
    #[error("A token or key is needed")]
    Missing,
    /// It looks like a token and cannot be read.
    #[error("The token cannot be read: {0}")]
    Malformed(&'static str),
    /// Its algorithm is not one that is checked here; `none` is not.
    #[error("The token's algorithm is not accepted")]
    Algorithm,
    /// It was signed with another key.
    #[error("The token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("The token has expired")]
    Expired,
    /// Its time has not come.
    #[error("The token is not valid yet")]
    NotYet,
    /// A claim is missing or makes no sense.
    #[error("The token's claim {0}")]
    Claim(String),
    /// No such key.
    #[error("The key is not known")]
    UnknownKey,
    /// The login is over, or was made with an earlier run of the service or a key that was withdrawn.
    #[error("The login has ended")]
    Session,
}

/// Where credentials are checked. Cheap to clone.
#[derive(Clone, Default)]
pub struct Access(Option<Arc<Inner>>);

struct Inner {
    current: RwLock<Arc<Current>>,
    sessions: HmacKey,
}

/// What credentials are checked by now.
struct Current {
    keys: Vec<ApiKey>,
    tokens: Tokens,
}

impl Current {
    fn bases(&self) -> impl Iterator<Item = &Basis> {
        self.keys.iter().filter_map(|key| key.grant.basis.as_ref()).chain(self.tokens.bases())
    }
}

/// What [`Access::replace`] has changed: keys, those of tokens included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// New ones.
    pub added: usize,
    /// Those that are there no more, or not as they were.
    pub withdrawn: usize,
}

impl Access {
    /// Everybody may do everything.
    pub fn off() -> Self {
        Self(None)
    }

    /// Only who has a key or token may do anything.
    ///
    /// # Errors
    ///
    /// The key set cannot be used.
    pub fn new(keys: Vec<ApiKey>, tokens: &TokenSettings) -> Result<Self, InvalidKeySet> {
        let nothing = Current { keys: Vec::new(), tokens: Tokens::new(&TokenSettings::default())? };
        let sessions = HmacKey::new(&rand::random::<[u8; 32]>());
        let access = Self(Some(Arc::new(Inner { current: RwLock::new(Arc::new(nothing)), sessions })));
        access.replace(keys, tokens)?;
        Ok(access)
    }

    /// Checks by other keys from now on. What rests on one that is not among them ends: logins, viewers, event
    /// streams. What rests on one that is there as it was goes on. Does nothing where access is not controlled.
    ///
    /// # Errors
    ///
    /// The key set cannot be used; everything stays as it was.
    pub fn replace(&self, mut keys: Vec<ApiKey>, tokens: &TokenSettings) -> Result<Replaced, InvalidKeySet> {
        let Some(inner) = &self.0 else { return Ok(Replaced::default()) };
        let mut tokens = Tokens::new(tokens)?;
        let mut current = inner.current.write().unwrap_or_else(PoisonError::into_inner);
        for key in &mut keys {
            let earlier = current.keys.iter().find(|earlier| *earlier == key);
            key.grant.basis = Some(earlier.and_then(|key| key.grant.basis.clone()).unwrap_or_else(Basis::new));
        }
        tokens.keep_bases_of(&current.tokens);
        let new = Current { keys, tokens };
        let missing = |of: &Current, basis: &Basis| of.bases().all(|other| other.id != basis.id);
        let added = new.bases().filter(|basis| missing(&current, basis)).count();
        let gone: Vec<Basis> = current.bases().filter(|basis| missing(&new, basis)).cloned().collect();
        *current = Arc::new(new);
        gone.iter().for_each(Basis::withdraw);
        Ok(Replaced { added, withdrawn: gone.len() })
    }

    /// Whether credentials are needed at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What a credential allows.
    ///
    /// # Errors
    ///
    /// [`Denied`].
    pub fn grant(&self, credential: Option<Credential<'_>>, now: SystemTime) -> Result<Grant, Denied> {
        let Some(inner) = &self.0 else { return Ok(Grant::everything()) };
        let current = inner.current();
        match credential.ok_or(Denied::Missing)? {
            Credential::Bearer(text) if token::looks_like_one(text) => current.tokens.grant(text, now),
            Credential::Bearer(text) => keys::find(&current.keys, text, now),
            Credential::Session(text) => {
                let (grant, basis) = inner.sessions.session(text, now)?;
                let basis = current.bases().find(|found| found.id == basis).ok_or(Denied::Session)?;
                Ok(Grant { basis: Some(basis.clone()), ..grant })
            }
        }
    }

    /// A text for a cookie that stands for a grant until the grant ends, [`SESSION`] is over or the service ends;
    /// and how long that is.
    pub fn session(&self, grant: &Grant, now: SystemTime) -> Option<(String, Duration)> {
        let inner = self.0.as_ref()?;
        let latest = now + SESSION;
        let until = grant.until().map_or(latest, |until| until.min(latest));
        let lifetime = until.duration_since(now).ok()?;
        Some((inner.sessions.sign(grant, until)?, lifetime))
    }
}

impl Inner {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Access {
    /// Leaves keys and secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Access(on)" } else { "Access(off)" })
    }
}

/// A token signed with a secret, for operators and tests.
///
/// # Errors
///
/// The secret is too short ([`MIN_SECRET`] bytes), or `until` is before 1970.
pub fn create_token(secret: &str, grant: &Grant, until: SystemTime) -> Result<String, String> {
    if secret.len() < token::MIN_SECRET {
        return Err(format!("the secret must have at least {} bytes", token::MIN_SECRET));
    }
    HmacKey::new(secret.as_bytes()).sign(grant, until).ok_or_else(|| "the time is before 1970".to_owned())
}

/// Shortest HMAC secret in bytes (RFC 7518 §3.2).
pub const MIN_SECRET: usize = token::MIN_SECRET;

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
