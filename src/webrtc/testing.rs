//! The viewer's end of SRTP, for tests: webrtc-rs's own contexts.

use srtp::context::Context;

use super::keys::SrtpProfile;

pub(crate) struct Decrypter(Context);

impl Decrypter {
    pub(crate) fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Self {
        let provider = rtc_crypto::providers::RingProvider::new();
        let crypto = rtc_crypto::RTCCryptoProvider::crypto(&provider);
        Self(Context::new(key, salt, profile.into(), None, None, crypto).unwrap())
    }

    pub(crate) fn rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, String> {
        self.0.decrypt_rtp(packet).map(|plain| plain.to_vec()).map_err(|e| e.to_string())
    }

    pub(crate) fn rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, String> {
        self.0.decrypt_rtcp(packet).map(|plain| plain.to_vec()).map_err(|e| e.to_string())
    }
}
