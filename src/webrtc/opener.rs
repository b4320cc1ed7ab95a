//! Inbound SRTCP: what a viewer tells us, authenticated and free of replays (RFC 3711 §3.4, RFC 7714 §9).

use std::sync::Arc;

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use srtp::context::Context;

use super::keys::{DirectionKeys, SrtpProfile};
use super::sealer::KeySetupError;

/// Senders whose replay window is remembered. A browser uses one or two.
const MAX_SENDERS: usize = 16;
/// Forged packets after which the library's context is made anew: it remembers every sender SSRC it
/// has ever seen, forged ones included, and would grow without bound.
const MAX_FORGED_PER_CONTEXT: u32 = 256;
/// RTCP header with sender SSRC.
const HEADER_LEN: usize = 8;
const INDEX_LEN: usize = 4;
const ENCRYPTED_FLAG: u32 = 1 << 31;

/// Opens SRTCP with one session's receive keys.
pub(super) struct Opener {
    profile: SrtpProfile,
    keys: DirectionKeys,
    provider: Arc<dyn RTCCryptoProvider>,
    context: Context,
    forged: u32,
    windows: Vec<(u32, ReplayWindow)>,
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Too short for its profile.
    TooShort,
    /// The encryption bit is off. DTLS-SRTP always encrypts, and the library would take such a packet
    /// in counter mode *without* checking its tag.
    NotEncrypted,
    /// The index was seen before or is older than the window.
    Replay,
    /// The tag is wrong.
    Forged,
}

impl Opener {
    pub(super) fn new(
        keys: DirectionKeys,
        profile: SrtpProfile,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, KeySetupError> {
        let context = context(&keys, profile, &provider)?;
        Ok(Self { profile, keys, provider, context, forged: 0, windows: Vec::new() })
    }

    /// Authenticates and decrypts one SRTCP packet.
    pub(super) fn open(&mut self, packet: &[u8]) -> Result<BytesMut, OpenError> {
        let (trailer_len, index_from_end) = match self.profile {
            SrtpProfile::AeadAes128Gcm => (16 + INDEX_LEN, INDEX_LEN),
            SrtpProfile::Aes128CmHmacSha1_80 => (10 + INDEX_LEN, 10 + INDEX_LEN),
        };
        if packet.len() < HEADER_LEN + trailer_len {
            return Err(OpenError::TooShort);
        }
        let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let (sender, index) = (word(4), word(packet.len() - index_from_end));
        if index & ENCRYPTED_FLAG == 0 {
            return Err(OpenError::NotEncrypted);
        }
        let index = index & !ENCRYPTED_FLAG;
        let known = self.windows.iter().position(|(ssrc, _)| *ssrc == sender);
        if known.is_some_and(|i| !self.windows[i].1.is_new(index)) {
            return Err(OpenError::Replay);
        }
        let Ok(opened) = self.context.decrypt_rtcp(packet) else {
            self.count_forged();
            return Err(OpenError::Forged);
        };
        // Authentic from here on: only the peer itself can push out a window.
        let at = known.unwrap_or_else(|| {
            if self.windows.len() == MAX_SENDERS {
                self.windows.remove(0);
            }
            self.windows.push((sender, ReplayWindow::default()));
            self.windows.len() - 1
        });
        self.windows[at].1.accept(index);
        Ok(opened)
    }

    fn count_forged(&mut self) {
        self.forged += 1;
        if self.forged >= MAX_FORGED_PER_CONTEXT
            && let Ok(fresh) = context(&self.keys, self.profile, &self.provider)
        {
            self.context = fresh;
            self.forged = 0;
        }
    }
}

/// Without the library's replay protection: ours survives a fresh context.
fn context(
    keys: &DirectionKeys,
    profile: SrtpProfile,
    provider: &Arc<dyn RTCCryptoProvider>,
) -> Result<Context, KeySetupError> {
    Ok(Context::new(keys.key(), keys.salt(), profile.into(), None, None, provider.crypto())?)
}

/// The 64 newest indices of one sender (RFC 3711 §3.3.2).
#[derive(Debug, Default)]
struct ReplayWindow {
    highest: Option<u32>,
    /// Bit n: `highest - n` was accepted.
    seen: u64,
}

impl ReplayWindow {
    fn is_new(&self, index: u32) -> bool {
        match self.highest {
            None => true,
            Some(highest) if index > highest => true,
            Some(highest) => highest - index < u64::BITS && self.seen & (1 << (highest - index)) == 0,
        }
    }

    fn accept(&mut self, index: u32) {
        match self.highest {
            Some(highest) if index <= highest => self.seen |= 1_u64.checked_shl(highest - index).unwrap_or(0),
            Some(highest) => {
                self.seen = self.seen.checked_shl(index - highest).unwrap_or(0) | 1;
                self.highest = Some(index);
            }
            None => (self.highest, self.seen) = (Some(index), 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Ssrc;
    use crate::media::rtcp::RtcpWriter;
    use crate::webrtc::keys::SessionKeys;

    const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

    fn pair(profile: SrtpProfile) -> (Context, Opener) {
        let provider = rtc_crypto::default_provider().unwrap();
        let material: Vec<u8> = (0..profile.export_len() as u8).collect();
        let keys = SessionKeys::split(&material, profile, false).unwrap();
        let browser = context(&keys.receive, profile, &provider).unwrap();
        (browser, Opener::new(keys.receive, profile, provider).unwrap())
    }

    fn pli(sender: u32) -> Vec<u8> {
        let mut writer = RtcpWriter::new();
        writer.receiver_report(Ssrc(sender), &[]).pli(Ssrc(sender), Ssrc(7));
        writer.finish()
    }

    #[test]
    fn feedback_opens_once_and_in_any_order() {
        for profile in PROFILES {
            let (mut browser, mut opener) = pair(profile);
            let sealed: Vec<_> = (0..80).map(|_| browser.encrypt_rtcp(&pli(1)).unwrap()).collect();
            assert_eq!(opener.open(&sealed[70]).unwrap(), pli(1));
            assert_eq!(opener.open(&sealed[70]), Err(OpenError::Replay));
            assert_eq!(opener.open(&sealed[10]).unwrap(), pli(1));
            assert_eq!(opener.open(&sealed[10]), Err(OpenError::Replay));
            assert_eq!(opener.open(&sealed[2]), Err(OpenError::Replay), "older than the window");
            assert_eq!(opener.open(&sealed[79]).unwrap(), pli(1));
            assert_eq!(opener.open(&sealed[70]), Err(OpenError::Replay));
        }
    }

    #[test]
    fn plaintext_with_the_encryption_bit_off_is_refused() {
        for profile in PROFILES {
            let (_, mut opener) = pair(profile);
            let mut bytes = pli(1);
            bytes.extend_from_slice(&[0, 0, 0, 5]);
            bytes.extend_from_slice(&[0; 10]);
            if profile == SrtpProfile::AeadAes128Gcm {
                bytes = [pli(1), vec![0; 16], vec![0, 0, 0, 5]].concat();
            }
            assert_eq!(opener.open(&bytes), Err(OpenError::NotEncrypted));
        }
    }

    #[test]
    fn no_truncation_or_flipped_bit_opens() {
        for profile in PROFILES {
            let (mut browser, mut opener) = pair(profile);
            let sealed = browser.encrypt_rtcp(&pli(1)).unwrap();
            for len in 0..sealed.len() {
                assert!(opener.open(&sealed[..len]).is_err());
            }
            for bit in 0..sealed.len() * 8 {
                let mut flipped = sealed.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(opener.open(&flipped).is_err(), "{profile:?} bit {bit}");
            }
            assert!(opener.open(&sealed).is_ok());
        }
    }

    #[test]
    fn forged_senders_do_not_pile_up_and_replay_state_survives_them() {
        let (mut browser, mut opener) = pair(SrtpProfile::AeadAes128Gcm);
        let sealed = browser.encrypt_rtcp(&pli(1)).unwrap();
        opener.open(&sealed).unwrap();
        for forged in 0..3 * MAX_FORGED_PER_CONTEXT {
            let mut bytes = sealed.to_vec();
            bytes[4..8].copy_from_slice(&(forged + 100).to_be_bytes());
            assert_eq!(opener.open(&bytes), Err(OpenError::Forged));
        }
        assert_eq!((opener.windows.len(), opener.forged), (1, 0));
        assert_eq!(opener.open(&sealed), Err(OpenError::Replay));
    }
}
