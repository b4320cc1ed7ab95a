//! Cryptography for one DTLS association, in which a signature is verified once.

use std::sync::{Arc, Mutex, PoisonError};

use ring::digest;
use rtc_crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher, CryptoAlgorithm,
    CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto, RTCCryptoProvider,
    RTCRandom, SignatureScheme, SigningKey, StreamCipher, StreamCipherAlgorithm,
};

/// Passes everything on to a provider, but for a signature that it has just verified: the library reads a flight from
/// its beginning with every record of it, and would verify the peer's one signature again for its Finished. That was a
/// twentieth of the workers' time for a viewer that comes.
pub(super) struct VerifyOnce {
    provider: Arc<dyn RTCCryptoProvider>,
    verified: Mutex<Option<Proof>>,
}

/// SHA-256 of all that a verification depends on. Equal ones are of the same signature by the same key of the same
/// text, so that knowing it tells no more and no less than verifying again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Proof([u8; digest::SHA256_OUTPUT_LEN]);

impl Proof {
    fn of(scheme: SignatureScheme, key: PublicKey<'_>, message: &[u8], signature: &[u8]) -> Self {
        let kind = format!("{scheme:?} {:?}", key.encoding);
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [kind.as_bytes(), key.bytes, message, signature] {
            // Where one ends is part of it.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut proof = [0; digest::SHA256_OUTPUT_LEN];
        proof.copy_from_slice(hash.finish().as_ref());
        Self(proof)
    }
}

impl VerifyOnce {
    pub(super) fn new(provider: Arc<dyn RTCCryptoProvider>) -> Self {
        Self { provider, verified: Mutex::new(None) }
    }

    fn inner(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }
}

impl RTCCryptoProvider for VerifyOnce {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.provider.random()
    }
}

impl RTCCrypto for VerifyOnce {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.inner().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner().hash(algorithm, data)
    }

    fn block_encrypt(&self, algorithm: BlockCipherAlgorithm, key: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
        self.inner().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.inner().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.inner().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.inner().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.inner().new_cbc(algorithm, key)
    }

    fn start_key_exchange(&self, algorithm: KeyExchangeAlgorithm) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.inner().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.inner().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let proof = Proof::of(scheme, key, message, signature);
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if *verified == Some(proof) {
            return Ok(());
        }
        #[cfg(test)]
        VERIFICATIONS.set(VERIFICATIONS.get() + 1);
        self.inner().verify_signature(scheme, key, message, signature)?;
        *verified = Some(proof);
        Ok(())
    }
}

#[cfg(test)]
thread_local! {
    /// Verifications that were not saved, on this thread.
    pub(super) static VERIFICATIONS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use rtc_crypto::PublicKeyEncoding;

    use super::*;

    #[test]
    fn only_the_same_signature_is_taken_without_verifying() {
        let ring = rtc_crypto::default_provider().unwrap();
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let [signer, other] = [(), ()].map(|()| ring.crypto().generate_signing_key(scheme).unwrap());
        let signature = signer.sign(scheme, b"text").unwrap();
        let once = VerifyOnce::new(ring);
        let verify = |key: &Arc<dyn SigningKey>, message: &[u8], signature: &[u8]| {
            once.verify_signature(scheme, key.public_key(), message, signature).is_ok()
        };
        // A failure is no proof of anything.
        assert!(!verify(&other, b"text", &signature) && !verify(&other, b"text", &signature));
        assert_eq!(VERIFICATIONS.get(), 2);
        assert!(verify(&signer, b"text", &signature) && verify(&signer, b"text", &signature));
        assert_eq!(VERIFICATIONS.get(), 3);
        assert!(!verify(&signer, b"texu", &signature) && !verify(&other, b"text", &signature));
        assert!(!verify(&signer, b"text", &signature[1..]));
        assert!(!verify(&signer, b"tex", &[b"t", &signature[..]].concat()));
        assert_eq!(VERIFICATIONS.get(), 7);
        let raw = PublicKey { encoding: PublicKeyEncoding::Ed25519Raw, ..signer.public_key() };
        assert!(once.verify_signature(scheme, raw, b"text", &signature).is_err());
        assert!(once.verify_signature(SignatureScheme::Ed25519, signer.public_key(), b"text", &signature).is_err());
        assert_eq!(VERIFICATIONS.get(), 9);
        assert!(verify(&signer, b"text", &signature));
        assert_eq!(VERIFICATIONS.get(), 9, "what failed since does not make it unknown");
    }
}
