//! One medium on the wire: numbers its packets and reports on them.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::RngExt;

use super::play::{OPUS_PT, PCMU_PT, VIDEO_PT};
use crate::media::rtcp::{RtcpWriter, SenderInfo};
use crate::media::rtp::RtpHeader;
use crate::media::{Codec, SeqNo, Ssrc};

/// What a sender of RTP keeps (RFC 3550 §5.1, §6.4.1).
#[derive(Debug)]
pub(super) struct Track {
    pub(super) ssrc: Ssrc,
    pub(super) codec: Codec,
    next_seq: u16,
    first_time: u32,
    packets: u32,
    octets: u32,
}

impl Track {
    /// Numbers begin where `rng` says.
    pub(super) fn new(ssrc: Ssrc, codec: Codec, rng: &mut impl Rng) -> Self {
        let (next_seq, first_time) = (rng.random(), rng.random());
        Self { ssrc, codec, next_seq, first_time, packets: 0, octets: 0 }
    }

    /// Goes on as another source, with numbers of its own (RFC 3550 §8).
    pub(super) fn change_source(&mut self, rng: &mut impl Rng) {
        *self = Self::new(Ssrc(rng.random()), self.codec, rng);
    }

    /// Goes on in another codec, whose clock begins where `rng` says.
    pub(super) fn switch(&mut self, codec: Codec, rng: &mut impl Rng) {
        (self.codec, self.first_time) = (codec, rng.random());
    }

    /// Lets the numbers wrap around after so many packets and this long.
    pub(super) fn wrap_after(&mut self, packets: u16, elapsed: Duration) {
        let ticks = elapsed.as_micros() * u128::from(self.codec.clock_rate()) / 1_000_000;
        (self.next_seq, self.first_time) = (0u16.wrapping_sub(packets), 0u32.wrapping_sub(ticks as u32));
    }

    /// The number of the next packet.
    pub(super) fn next_seq(&self) -> SeqNo {
        SeqNo(self.next_seq)
    }

    /// The next packet. `elapsed` is the media time since the stream began.
    pub(super) fn packet(&mut self, elapsed: Duration, marker: bool, payload: &[u8]) -> (SeqNo, Bytes) {
        let seq = SeqNo(self.next_seq);
        let payload_type = match self.codec {
            Codec::H264 => VIDEO_PT,
            Codec::Opus => OPUS_PT,
            Codec::Pcmu => PCMU_PT,
        };
        let (timestamp, ssrc) = (self.time(elapsed), self.ssrc);
        let header = RtpHeader { payload_type, marker, seq, timestamp, ssrc };
        self.next_seq = self.next_seq.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        (seq, [&header.to_bytes()[..], payload].concat().into())
    }

    /// Sender report and CNAME, for this moment.
    pub(super) fn sender_report(&self, elapsed: Duration, ntp: u64, cname: &str) -> Bytes {
        let rtp_time = self.time(elapsed);
        let info = SenderInfo { ssrc: self.ssrc, ntp, rtp_time, packets: self.packets, octets: self.octets };
        let mut writer = RtcpWriter::new();
        writer.sender_report(&info).cname(self.ssrc, cname);
        writer.finish().into()
    }

    fn time(&self, elapsed: Duration) -> u32 {
        // Wraps, as RTP timestamps do.
        let ticks = elapsed.as_micros() * u128::from(self.codec.clock_rate()) / 1_000_000;
        self.first_time.wrapping_add(ticks as u32)
    }
}
