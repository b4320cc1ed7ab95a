//! Outbound SRTP and SRTCP: the only object that writes with a session's keys (RFC 3711, RFC 7714).

use rtc_crypto::{
    AeadAlgorithm, AeadCipher, CryptoError, HmacAlgorithm, Mac, RTCCrypto, StreamCipher, StreamCipherAlgorithm,
};
use srtp::context::Context;

use super::keys::{self, DirectionKeys, SrtpProfile};
use crate::media::ExtSeq;

const GCM_TAG_LEN: usize = 16;
const CM_TAG_LEN: usize = 10;
const HMAC_SHA1_LEN: usize = 20;
const FIXED_HEADER_LEN: usize = 12;

/// Seals packets with one session's send keys. `Send`, and to be moved, never shared: two writers
/// with one GCM key would repeat a nonce and give the key away (RFC 7714 §8.4).
pub struct Sealer {
    rtp: RtpCipher,
    rtcp: Context,
}

/// Why a packet was not sealed. What is in the buffer then must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SealError {
    /// The buffer has no room for header and tag, or the header length is impossible.
    #[error("the buffer is shorter than header and tag")]
    TooShort,
    /// The sequence number in the header is not the lower half of the extended one.
    #[error("header and extended sequence number disagree")]
    Sequence,
    /// 2^48 packets were sent with this key (RFC 3711 §9.2).
    #[error("the key has been used for 2^48 packets")]
    Exhausted,
    /// Not an RTCP packet.
    #[error("not an RTCP packet")]
    NotRtcp,
    /// The cryptography library refused.
    #[error("the cipher failed")]
    Cipher,
}

enum RtpCipher {
    Gcm { aead: Box<dyn AeadCipher>, salt: [u8; 12] },
    Cm { stream: Box<dyn StreamCipher>, mac: Box<dyn Mac>, salt: [u8; 14] },
}

impl Sealer {
    pub(super) fn new(
        keys: &DirectionKeys,
        profile: SrtpProfile,
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, KeySetupError> {
        let rtcp = Context::new(keys.key(), keys.salt(), profile.into(), None, None, crypto)?;
        let encryption = keys::derive(crypto, keys, keys::LABEL_RTP_ENCRYPTION, keys.key().len())?;
        let salt = keys::derive(crypto, keys, keys::LABEL_RTP_SALT, keys.salt().len())?;
        let rtp = match profile {
            SrtpProfile::AeadAes128Gcm => RtpCipher::Gcm {
                aead: crypto.new_aead(AeadAlgorithm::Aes128Gcm, encryption.as_ref())?,
                salt: salt.as_ref().try_into().map_err(|_| KeySetupError::SaltLength)?,
            },
            SrtpProfile::Aes128CmHmacSha1_80 => {
                let auth = keys::derive(crypto, keys, keys::LABEL_RTP_AUTH, HMAC_SHA1_LEN)?;
                RtpCipher::Cm {
                    stream: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, encryption.as_ref())?,
                    mac: crypto.new_hmac(HmacAlgorithm::Sha1, auth.as_ref())?,
                    salt: salt.as_ref().try_into().map_err(|_| KeySetupError::SaltLength)?,
                }
            }
        };
        Ok(Self { rtp, rtcp })
    }

    /// A sealer from one direction's master key (16 bytes) and salt (12 bytes for GCM, 14 for CM), for
    /// those who did not get their keys from a [`Session`](super::Session): benches and tests.
    ///
    /// # Errors
    ///
    /// Key or salt has the wrong length.
    pub fn from_master(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Self, SealError> {
        let provider = rtc_crypto::providers::RingProvider::new();
        let crypto = rtc_crypto::RTCCryptoProvider::crypto(&provider);
        Self::new(&DirectionKeys::new(key, salt), profile, crypto).map_err(|_| SealError::Cipher)
    }

    /// Bytes by which sealing makes an RTP packet longer: 16 with GCM, 10 with CM and HMAC-SHA1-80.
    pub fn overhead(&self) -> usize {
        match self.rtp {
            RtpCipher::Gcm { .. } => GCM_TAG_LEN,
            RtpCipher::Cm { .. } => CM_TAG_LEN,
        }
    }

    /// Seals one RTP packet in place, without allocating.
    ///
    /// `packet` is header (`header_len` bytes, at least 12, CSRCs and extension included), payload and
    /// [`overhead`](Self::overhead) spare bytes for the tag. `seq` is the extended sequence number:
    /// its upper bits are the roll-over counter (RFC 3711 §3.3.1), so the caller owns the roll-over and
    /// may seal in any order. The same SSRC and `seq` must never be sealed twice with different content;
    /// a retransmission is byte-identical or goes on an RTX stream (RFC 4588).
    ///
    /// # Errors
    ///
    /// [`SealError`]; the packet must not be sent then.
    pub fn seal_rtp(&mut self, packet: &mut [u8], header_len: usize, seq: ExtSeq) -> Result<(), SealError> {
        let body_end = packet.len().checked_sub(self.overhead()).ok_or(SealError::TooShort)?;
        if header_len < FIXED_HEADER_LEN || header_len > body_end {
            return Err(SealError::TooShort);
        }
        if packet[2..4] != seq.wire().0.to_be_bytes() {
            return Err(SealError::Sequence);
        }
        let roc = u32::try_from(seq.0 >> 16).map_err(|_| SealError::Exhausted)?.to_be_bytes();
        let (clear, tag) = packet.split_at_mut(body_end);
        match &mut self.rtp {
            RtpCipher::Gcm { aead, salt } => {
                // 0x0000 ‖ SSRC ‖ ROC ‖ SEQ, XOR salt (RFC 7714 §8.1).
                let mut nonce = *salt;
                xor(&mut nonce[2..6], &clear[8..12]);
                xor(&mut nonce[6..10], &roc);
                xor(&mut nonce[10..12], &clear[2..4]);
                let (header, payload) = clear.split_at_mut(header_len);
                aead.seal_in_place(&nonce, header, payload, tag).map_err(|_| SealError::Cipher)
            }
            RtpCipher::Cm { stream, mac, salt } => {
                // (salt · 2^16) XOR (SSRC · 2^64) XOR (index · 2^16) (RFC 3711 §4.1.1).
                let mut counter = [0; 16];
                counter[..14].copy_from_slice(salt);
                xor(&mut counter[4..8], &clear[8..12]);
                xor(&mut counter[8..12], &roc);
                xor(&mut counter[12..14], &clear[2..4]);
                stream.apply_keystream(&counter, &mut clear[header_len..]).map_err(|_| SealError::Cipher)?;
                let mut full = [0; HMAC_SHA1_LEN];
                mac.sign(&[clear, &roc], &mut full).map_err(|_| SealError::Cipher)?;
                tag.copy_from_slice(&full[..CM_TAG_LEN]);
                Ok(())
            }
        }
    }

    /// Seals one RTCP compound packet; the SRTCP index is counted here, per sender SSRC.
    ///
    /// # Errors
    ///
    /// [`SealError::NotRtcp`] for anything shorter than a header with an SSRC.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Result<Vec<u8>, SealError> {
        if compound.len() < 8 || compound[0] >> 6 != 2 {
            return Err(SealError::NotRtcp);
        }
        self.rtcp.encrypt_rtcp(compound).map(Vec::from).map_err(|_| SealError::Cipher)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("overhead", &self.overhead()).finish_non_exhaustive()
    }
}

/// Keys could not be set up; never caused by a peer's bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeySetupError {
    #[error("SRTP salt has the wrong length")]
    SaltLength,
    #[error("DTLS exported {0} bytes of keys, the profile needs another length")]
    ExportLength(usize),
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    #[error("{0}")]
    Library(#[from] rtc_shared::error::Error),
}

fn xor(target: &mut [u8], with: &[u8]) {
    for (t, w) in target.iter_mut().zip(with) {
        *t ^= w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtcp::{RtcpWriter, blocks};
    use crate::media::rtp::RtpHeader;
    use crate::media::{SeqNo, Ssrc};

    const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];
    const US: Ssrc = Ssrc(0x1234_5678);

    fn pair(profile: SrtpProfile) -> (Sealer, Context) {
        let crypto = rtc_crypto::default_provider().unwrap();
        let material: Vec<u8> = (0..profile.export_len() as u8).collect();
        let keys = keys::SessionKeys::split(&material, profile, false).unwrap();
        let sealer = Sealer::new(&keys.send, profile, crypto.crypto()).unwrap();
        let stock =
            Context::new(keys.send.key(), keys.send.salt(), profile.into(), None, None, crypto.crypto()).unwrap();
        (sealer, stock)
    }

    fn packet(sealer: &Sealer, seq: ExtSeq, extension: bool, payload: &[u8]) -> (Vec<u8>, usize) {
        let header = RtpHeader { payload_type: 108, marker: true, seq: seq.wire(), timestamp: 9, ssrc: US };
        let mut bytes = header.to_bytes().to_vec();
        if extension {
            bytes[0] |= 0x10;
            bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 0x30, 0, 0]);
        }
        let header_len = bytes.len();
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + sealer.overhead(), 0);
        (bytes, header_len)
    }

    #[test]
    fn a_stock_context_opens_what_is_sealed_across_a_roll_over() {
        for profile in PROFILES {
            let (mut sealer, mut stock) = pair(profile);
            for seq in 0xfff0_u64..0x1_0010 {
                let payload = seq.to_be_bytes();
                let (mut bytes, header_len) = packet(&sealer, ExtSeq(seq), seq % 2 == 0, &payload);
                let clear = bytes[..bytes.len() - sealer.overhead()].to_vec();
                sealer.seal_rtp(&mut bytes, header_len, ExtSeq(seq)).unwrap();
                assert_ne!(bytes[header_len..header_len + 8], payload);
                assert_eq!(stock.decrypt_rtp(&bytes).unwrap(), clear, "{profile:?} {seq:#x}");
            }
        }
    }

    #[test]
    fn an_empty_payload_is_sealed_too() {
        for profile in PROFILES {
            let (mut sealer, mut stock) = pair(profile);
            let (mut bytes, header_len) = packet(&sealer, ExtSeq(7), false, b"");
            sealer.seal_rtp(&mut bytes, header_len, ExtSeq(7)).unwrap();
            assert_eq!(stock.decrypt_rtp(&bytes).unwrap().len(), 12);
        }
    }

    #[test]
    fn sealing_the_same_packet_again_gives_the_same_bytes() {
        for profile in PROFILES {
            let (mut sealer, _) = pair(profile);
            let (mut first, header_len) = packet(&sealer, ExtSeq(70_000), false, b"retransmit");
            let mut second = first.clone();
            sealer.seal_rtp(&mut first, header_len, ExtSeq(70_000)).unwrap();
            let (mut other, _) = packet(&sealer, ExtSeq(70_001), false, b"between");
            sealer.seal_rtp(&mut other, header_len, ExtSeq(70_001)).unwrap();
            sealer.seal_rtp(&mut second, header_len, ExtSeq(70_000)).unwrap();
            assert_eq!(first, second);
        }
    }

    #[test]
    fn impossible_packets_are_refused() {
        for profile in PROFILES {
            let (mut sealer, _) = pair(profile);
            let (full, header_len) = packet(&sealer, ExtSeq(5), false, b"");
            for len in 0..full.len() {
                let mut cut = full[..len].to_vec();
                assert_eq!(sealer.seal_rtp(&mut cut, header_len, ExtSeq(5)), Err(SealError::TooShort));
            }
            for header_len in [0, 11, full.len() - sealer.overhead() + 1, usize::MAX] {
                assert_eq!(sealer.seal_rtp(&mut full.clone(), header_len, ExtSeq(5)), Err(SealError::TooShort));
            }
            assert_eq!(sealer.seal_rtp(&mut full.clone(), 12, ExtSeq(6)), Err(SealError::Sequence));
            assert_eq!(sealer.seal_rtp(&mut full.clone(), 12, ExtSeq((1 << 48) | 5)), Err(SealError::Exhausted));
            assert_eq!(sealer.seal_rtcp(&full[..7]), Err(SealError::NotRtcp));
        }
    }

    #[test]
    fn rtcp_opens_and_its_index_grows() {
        for profile in PROFILES {
            let (mut sealer, mut stock) = pair(profile);
            let mut writer = RtcpWriter::new();
            writer.receiver_report(US, &[]).nack(US, Ssrc(9), &[SeqNo(4)]);
            let compound = writer.finish();
            let (first, second) = (sealer.seal_rtcp(&compound).unwrap(), sealer.seal_rtcp(&compound).unwrap());
            assert_ne!(first, second);
            for sealed in [first, second] {
                let opened = stock.decrypt_rtcp(&sealed).unwrap();
                assert_eq!(blocks(&opened).filter(Result::is_ok).count(), 2);
            }
        }
    }

    #[test]
    fn a_sealer_may_move_to_another_thread() {
        fn send<T: Send>(_: &T) {}
        let (sealer, _) = pair(SrtpProfile::AeadAes128Gcm);
        send(&sealer);
    }
}
