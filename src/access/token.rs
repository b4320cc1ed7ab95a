//! JSON Web Tokens (RFC 7519): HS256 by a shared secret, RS256 and ES256 by a key set (RFC 7517).
//!
//! The key decides which algorithm is checked, never the token (RFC 8725 §3.1). Claims: `exp` and `role` must be there,
//! `cameras` is a pattern or a list of them (all if missing), `nbf`, `sub`, and `iss` and `aud` where they are set.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use super::Denied;
use super::grant::{Basis, CameraScope, Grant, Role};
use super::ring_provider;

/// Shortest HMAC secret in bytes (RFC 7518 §3.2).
pub(super) const MIN_SECRET: usize = 32;
/// Keys of a set that are looked at; a set holds two or three.
const MAX_KEYS: usize = 64;
/// The claim of sessions that names what they rest on.
const BASIS: &str = "basis";
/// How far the clock of whoever makes tokens may be ahead.
const AHEAD: Duration = Duration::from_secs(60);

/// What tokens are checked by.
#[derive(Clone, Default)]
pub struct TokenSettings {
    /// HS256 secret.
    pub secret: Option<String>,
    /// JSON Web Key Set.
    pub key_set: Option<String>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must hold. A token that has one is refused where none is set.
    pub audience: Option<String>,
}

/// A key set that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidKeySet(String);

pub(super) struct Tokens {
    secret: Option<(String, CheckKey)>,
    public: Vec<PublicKey>,
    issuer: Option<String>,
    audience: Option<String>,
}

struct PublicKey {
    jwk: Jwk,
    algorithm: Algorithm,
    check: CheckKey,
}

/// By what a signature is checked, and what rests on it then.
struct CheckKey {
    key: DecodingKey,
    basis: Basis,
}

impl CheckKey {
    fn new(key: DecodingKey) -> Self {
        Self { key, basis: Basis::new() }
    }
}

/// Keys never hold two dots.
pub(super) fn looks_like_one(text: &str) -> bool {
    text.bytes().filter(|b| *b == b'.').count() == 2
}

impl Tokens {
    pub(super) fn new(settings: &TokenSettings) -> Result<Self, InvalidKeySet> {
        ring_provider::install();
        Ok(Self {
            secret: settings.secret.as_ref().map(|secret| {
                let key = DecodingKey::from_secret(secret.as_bytes());
                (secret.clone(), CheckKey::new(key))
            }),
            public: settings.key_set.as_deref().map(key_set).transpose()?.unwrap_or_default(),
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
        })
    }

    pub(super) fn bases(&self) -> impl Iterator<Item = &Basis> {
        let secret = self.secret.iter().map(|(_, check)| &check.basis);
        secret.chain(self.public.iter().map(|key| &key.check.basis))
    }

    /// What rests on keys of `earlier` that are here as well, for the same issuer and audience, rests on these.
    pub(super) fn keep_bases_of(&mut self, earlier: &Self) {
        if (&self.issuer, &self.audience) != (&earlier.issuer, &earlier.audience) {
            return;
        }
        if let (Some((secret, check)), Some((before, known))) = (&mut self.secret, &earlier.secret)
            && bool::from(secret.as_bytes().ct_eq(before.as_bytes()))
        {
            check.basis = known.basis.clone();
        }
        for key in &mut self.public {
            if let Some(known) = earlier.public.iter().find(|known| known.jwk == key.jwk) {
                key.check.basis = known.check.basis.clone();
            }
        }
    }

    pub(super) fn grant(&self, token: &str, now: SystemTime) -> Result<Grant, Denied> {
        // `none`, and whatever is not known, cannot be read as a header.
        let header = decode_header(token).map_err(|error| denied(error.kind()))?;
        if header.crit.is_some() {
            // RFC 7515 §4.1.11: what is critical and not understood is refused, and nothing is understood here.
            return Err(Denied::Malformed("it has critical extensions"));
        }
        let candidates: Vec<&CheckKey> = match header.alg {
            Algorithm::HS256 => self.secret.iter().map(|(_, check)| check).collect(),
            algorithm => {
                let named = |key: &&PublicKey| header.kid.is_none() || key.jwk.common.key_id == header.kid;
                let fitting = self.public.iter().filter(|key| key.algorithm == algorithm);
                fitting.filter(named).map(|key| &key.check).collect()
            }
        };
        let mut denied = match header.alg {
            Algorithm::RS256 | Algorithm::ES256 if !self.public.is_empty() => Denied::Signature,
            _ => Denied::Algorithm,
        };
        for candidate in candidates {
            match self.checked(token, header.alg, &candidate.key) {
                Ok(claims) => return Ok(Grant { basis: Some(candidate.basis.clone()), ..grant(&claims, now)? }),
                Err(Denied::Signature) => denied = Denied::Signature,
                Err(other) => return Err(other),
            }
        }
        Err(denied)
    }

    fn checked(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<Map<String, Value>, Denied> {
        let mut validation = Validation::new(algorithm);
        // Times are compared below, with the time that came in.
        validation.validate_exp = false;
        validation.required_spec_claims = HashSet::new();
        let mut required = Vec::new();
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        decode::<Map<String, Value>>(token, key, &validation)
            .map(|data| data.claims)
            .map_err(|error| denied(error.kind()))
    }
}

fn denied(kind: &ErrorKind) -> Denied {
    match kind {
        ErrorKind::InvalidSignature => Denied::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Denied::Algorithm,
        ErrorKind::InvalidIssuer => Denied::Claim("iss is another".to_owned()),
        ErrorKind::InvalidAudience => Denied::Claim("aud is another".to_owned()),
        ErrorKind::MissingRequiredClaim(name) => Denied::Claim(format!("{name} is missing")),
        ErrorKind::Json(error) if error.to_string().contains("unknown variant") => Denied::Algorithm,
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => Denied::Malformed("it holds no JSON"),
        ErrorKind::Base64(_) => Denied::Malformed("it is not Base64"),
        _ => Denied::Malformed("it is no JSON Web Token"),
    }
}

/// What the claims allow.
fn grant(claims: &Map<String, Value>, now: SystemTime) -> Result<Grant, Denied> {
    let wrong = |text: String| Denied::Claim(text);
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => seconds(value).map(Some).ok_or_else(|| wrong(format!("{name} must be a number of seconds"))),
    };
    let until = time("exp")?.ok_or_else(|| wrong("exp is missing".to_owned()))?;
    if until <= now {
        return Err(Denied::Expired);
    }
    if time("nbf")?.is_some_and(|from| from > now + AHEAD) {
        return Err(Denied::NotYet);
    }
    let role = match claims.get("role").map(|role| role.as_str().unwrap_or_default()) {
        None => return Err(wrong("role is missing".to_owned())),
        Some(role) => role.parse::<Role>().map_err(|why| wrong(format!("role {why}")))?,
    };
    let texts = |value: &Value| -> Option<Vec<String>> {
        match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    };
    let cameras = match claims.get("cameras") {
        None => CameraScope::all(),
        Some(value) => {
            let patterns = texts(value).ok_or_else(|| wrong("cameras must be a text or a list of texts".to_owned()))?;
            let scope = CameraScope::new(patterns.iter().map(String::as_str));
            scope.map_err(|error| wrong(format!("cameras {error}")))?
        }
    };
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("token");
    let name = subject.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
    Ok(Grant::new(name, role, cameras, Some(until)))
}

/// A NumericDate (RFC 7519 §2).
fn seconds(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

fn key_set(text: &str) -> Result<Vec<PublicKey>, InvalidKeySet> {
    let set: JwkSet = serde_json::from_str(text).map_err(|error| InvalidKeySet(format!("is no key set: {error}")))?;
    let keys: Vec<PublicKey> = set.keys.iter().filter_map(public_key).take(MAX_KEYS).collect();
    if keys.is_empty() {
        return Err(InvalidKeySet("holds no key for RS256 or ES256".to_owned()));
    }
    Ok(keys)
}

/// Keys for other purposes and algorithms are passed over: sets hold them too.
fn public_key(jwk: &Jwk) -> Option<PublicKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let common = &jwk.common;
    let fits = common.key_algorithm.as_ref().is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| fits && signs)?;
    Some(PublicKey { jwk: jwk.clone(), algorithm, check: CheckKey::new(key) })
}

/// A secret that signs and checks.
pub(super) struct HmacKey {
    sign: EncodingKey,
    check: DecodingKey,
}

impl HmacKey {
    pub(super) fn new(secret: &[u8]) -> Self {
        ring_provider::install();
        Self { sign: EncodingKey::from_secret(secret), check: DecodingKey::from_secret(secret) }
    }

    pub(super) fn sign(&self, grant: &Grant, until: SystemTime) -> Option<String> {
        let until = until.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let mut claims = json!({
            "sub": grant.name(), "role": grant.role().name(), "cameras": grant.cameras.patterns(), "exp": until,
        });
        if let Some(basis) = &grant.basis {
            claims[BASIS] = json!(basis.id);
        }
        encode(&Header::new(Algorithm::HS256), &claims, &self.sign).ok()
    }

    /// The grant of a session that this key has signed, and the id of what it rests on.
    pub(super) fn session(&self, text: &str, now: SystemTime) -> Result<(Grant, u64), Denied> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.required_spec_claims = HashSet::new();
        let data = decode::<Map<String, Value>>(text, &self.check, &validation).map_err(|_| Denied::Session)?;
        let basis = data.claims.get(BASIS).and_then(Value::as_u64).ok_or(Denied::Session)?;
        grant(&data.claims, now).map(|grant| (grant, basis)).map_err(|_| Denied::Session)
    }
}
