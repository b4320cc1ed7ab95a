//! SRTP profiles and keys: from the DTLS exporter to session keys (RFC 5764 §4.2, RFC 3711 §4.3).

use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_crypto::{BlockCipherAlgorithm, RTCCrypto, SecretVec};
use srtp::protection_profile::ProtectionProfile;

use super::sealer::KeySetupError;

pub(super) const LABEL_RTP_ENCRYPTION: u8 = 0;
pub(super) const LABEL_RTP_AUTH: u8 = 1;
pub(super) const LABEL_RTP_SALT: u8 = 2;

const AES_BLOCK_LEN: usize = 16;

/// How RTP is protected. GCM is used with every peer that has it: it costs a fifth of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714).
    AeadAes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2), for peers without GCM.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// The name in the IANA registry.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Self::Aes128CmHmacSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        }
    }

    /// The number in the `use_srtp` extension.
    pub(super) const fn wire(self) -> u16 {
        match self {
            Self::AeadAes128Gcm => 0x0007,
            Self::Aes128CmHmacSha1_80 => 0x0001,
        }
    }

    /// Bytes to ask of the DTLS exporter.
    pub(super) fn export_len(self) -> usize {
        let profile = ProtectionProfile::from(self);
        2 * (profile.key_len() + profile.salt_len())
    }

    pub(super) fn from_dtls(profile: SrtpProtectionProfile) -> Option<Self> {
        [Self::AeadAes128Gcm, Self::Aes128CmHmacSha1_80].into_iter().find(|p| p.dtls() == profile)
    }

    pub(super) const fn dtls(self) -> SrtpProtectionProfile {
        match self {
            Self::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Self::Aes128CmHmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }
}

impl From<SrtpProfile> for ProtectionProfile {
    fn from(profile: SrtpProfile) -> Self {
        match profile {
            SrtpProfile::AeadAes128Gcm => Self::AeadAes128Gcm,
            SrtpProfile::Aes128CmHmacSha1_80 => Self::Aes128CmHmacSha1_80,
        }
    }
}

/// Master key and salt of one direction; wiped when dropped.
pub(super) struct DirectionKeys {
    key: SecretVec,
    salt: SecretVec,
}

impl DirectionKeys {
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Self {
        Self { key: SecretVec::new(key.to_vec()), salt: SecretVec::new(salt.to_vec()) }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.key.as_ref()
    }

    pub(super) fn salt(&self) -> &[u8] {
        self.salt.as_ref()
    }
}

/// Master keys of both directions.
pub(super) struct SessionKeys {
    pub(super) send: DirectionKeys,
    pub(super) receive: DirectionKeys,
}

impl SessionKeys {
    /// Splits exported keying material: client key, server key, client salt, server salt (RFC 5764 §4.2).
    pub(super) fn split(material: &[u8], profile: SrtpProfile, we_are_client: bool) -> Result<Self, KeySetupError> {
        if material.len() != profile.export_len() {
            return Err(KeySetupError::ExportLength(material.len()));
        }
        let key_len = ProtectionProfile::from(profile).key_len();
        let (keys, salts) = material.split_at(2 * key_len);
        let secret = |bytes: &[u8]| SecretVec::new(bytes.to_vec());
        let (client_key, server_key) = keys.split_at(key_len);
        let (client_salt, server_salt) = salts.split_at(salts.len() / 2);
        let client = DirectionKeys { key: secret(client_key), salt: secret(client_salt) };
        let server = DirectionKeys { key: secret(server_key), salt: secret(server_salt) };
        Ok(match we_are_client {
            true => Self { send: client, receive: server },
            false => Self { send: server, receive: client },
        })
    }
}

/// One session key by the AES-CM pseudo-random function with key derivation rate 0 (RFC 3711 §4.3.3).
///
/// A GCM salt has 96 bits and counts as followed by zeros (RFC 7714 §11).
pub(super) fn derive(
    crypto: &dyn RTCCrypto,
    master: &DirectionKeys,
    label: u8,
    len: usize,
) -> Result<SecretVec, KeySetupError> {
    let salt = master.salt();
    if salt.len() > AES_BLOCK_LEN - 2 {
        return Err(KeySetupError::SaltLength);
    }
    let mut out = Vec::with_capacity(len.next_multiple_of(AES_BLOCK_LEN));
    for counter in 0..len.div_ceil(AES_BLOCK_LEN) as u16 {
        let mut block = [0; AES_BLOCK_LEN];
        block[..salt.len()].copy_from_slice(salt);
        block[7] ^= label;
        block[AES_BLOCK_LEN - 2..].copy_from_slice(&counter.to_be_bytes());
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, master.key(), &mut block)?;
        out.extend_from_slice(&block);
    }
    out.truncate(len);
    Ok(SecretVec::new(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn derivation_gives_the_test_vectors_of_rfc_3711_b_3() {
        let crypto = rtc_crypto::default_provider().unwrap();
        let master = DirectionKeys {
            key: SecretVec::new(hex("E1F97A0D3E018BE0D64FA32C06DE4139")),
            salt: SecretVec::new(hex("0EC675AD498AFEEBB6960B3AABE6")),
        };
        let derive = |label, len| derive(crypto.crypto(), &master, label, len).unwrap().into_bytes();
        assert_eq!(derive(LABEL_RTP_ENCRYPTION, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derive(LABEL_RTP_SALT, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(derive(LABEL_RTP_AUTH, 20), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn client_and_server_hold_opposite_keys() {
        for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80] {
            let material: Vec<u8> = (0..profile.export_len() as u8).collect();
            let client = SessionKeys::split(&material, profile, true).unwrap();
            let server = SessionKeys::split(&material, profile, false).unwrap();
            assert_eq!((client.send.key(), client.send.salt()), (server.receive.key(), server.receive.salt()));
            assert_eq!((client.receive.key(), client.receive.salt()), (server.send.key(), server.send.salt()));
            assert_ne!(client.send.key(), client.receive.key());
            assert!(SessionKeys::split(&material[1..], profile, true).is_err());
        }
    }
}
