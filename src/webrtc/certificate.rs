//! The process's DTLS identity and certificate fingerprints (RFC 8122).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use dtls::crypto::Certificate;
use rtc_crypto::{HashAlgorithm, RTCCrypto, RTCCryptoProvider};

/// Name in the self-signed certificate. Nobody checks it: WebRTC trusts the fingerprint in the SDP.
const COMMON_NAME: &str = "honeycast";

/// One self-signed ECDSA P-256 certificate, made at start and shared by all viewer sessions, and the
/// cryptography that goes with it.
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: Fingerprint,
}

/// The identity could not be made; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot make the DTLS certificate: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Makes a new key and certificate.
    ///
    /// # Errors
    ///
    /// The operating system's random source or the certificate encoder failed.
    pub fn generate() -> Result<Arc<Self>, IdentityError> {
        let failed = |e: &dyn fmt::Display| IdentityError(e.to_string());
        let provider = rtc_crypto::default_provider().map_err(|e| failed(&e))?;
        let certificate = Certificate::generate_self_signed(vec![COMMON_NAME.to_owned()], provider.crypto())
            .map_err(|e| failed(&e))?;
        let der = certificate.certificate.first().ok_or_else(|| failed(&"no certificate came out"))?;
        let fingerprint = Fingerprint::of(der, provider.crypto()).map_err(|e| failed(&e))?;
        Ok(Arc::new(Self { provider, certificate, fingerprint }))
    }

    /// SHA-256 of the certificate, for `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn certificate(&self) -> Certificate {
        self.certificate.clone()
    }

    pub(super) fn provider(&self) -> Arc<dyn RTCCryptoProvider> {
        self.provider.clone()
    }

    pub(super) fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// SHA-256 of a DER certificate. Shown and read as colon-separated hex pairs (RFC 8122 §5).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; Fingerprint::LEN]);

/// The text is not 32 hex pairs with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sha-256 fingerprint must be 32 hex pairs with colons between them")]
pub struct InvalidFingerprint;

impl Fingerprint {
    const LEN: usize = 32;

    pub(super) fn of(der: &[u8], crypto: &dyn RTCCrypto) -> Result<Self, rtc_crypto::CryptoError> {
        let hash = crypto.hash(HashAlgorithm::Sha256, der)?;
        let hash = hash.try_into().map_err(|_| rtc_crypto::CryptoError::Provider("SHA-256 length".to_owned()))?;
        Ok(Self(hash))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let colon = if i == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut pairs = text.split(':');
        let mut out = [0; Self::LEN];
        for byte in &mut out {
            let pair = pairs.next().ok_or(InvalidFingerprint)?;
            // `from_str_radix` alone would take "+F".
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidFingerprint);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidFingerprint)?;
        }
        match pairs.next() {
            None => Ok(Self(out)),
            Some(_) => Err(InvalidFingerprint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_hash_of_the_certificate_and_reads_back() {
        let identity = Identity::generate().unwrap();
        let text = identity.fingerprint().to_string();
        assert_eq!(text.len(), 95);
        assert_eq!(text.parse::<Fingerprint>().unwrap(), identity.fingerprint());
        assert_eq!(text.to_lowercase().parse::<Fingerprint>().unwrap(), identity.fingerprint());
        let der = identity.certificate().certificate[0].to_vec();
        assert_eq!(Fingerprint::of(&der, identity.crypto()).unwrap(), identity.fingerprint());
    }

    #[test]
    fn two_identities_differ() {
        assert_ne!(Identity::generate().unwrap().fingerprint(), Identity::generate().unwrap().fingerprint());
    }

    #[test]
    fn odd_fingerprints_are_refused() {
        let good = vec!["AB"; 32].join(":");
        assert!(good.parse::<Fingerprint>().is_ok());
        for bad in [
            String::new(),
            vec!["AB"; 31].join(":"),
            vec!["AB"; 33].join(":"),
            good.replace(':', ""),
            good.replacen("AB", "+B", 1),
            good.replacen("AB", "Äa", 1),
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
