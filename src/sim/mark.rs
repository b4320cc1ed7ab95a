//! Whose picture, whose sound: every picture and every sound packet of a simulated camera names its camera, so
//! that whoever receives one can tell by its content alone whose it is. Decoders skip the marks.
//!
//! A picture carries an SEI message "user data unregistered" (ITU-T H.264 §D.1.7) in front of its slice, an Opus
//! packet carries padding (RFC 6716 §3.2.5), PCMU the mark in the lowest bits of its samples, as a soft noise. An RTP header extension would not do: an SFU writes headers anew.

use bytes::Bytes;

use super::packetize::{MAX_PAYLOAD, STAP_A};
use crate::base::CameraId;
use crate::media::Codec;

/// Tells our messages from those of others. Like all of a mark without a zero byte, so that nothing has to be
/// escaped (ITU-T H.264 §7.4.1).
const UUID: [u8; 16] = *b"\x8b\x1fhoneycast-sim\x7e";
const CAMERA_LEN: usize = CameraId::LEN;
const NUMBER_LEN: usize = 8;
const MARK_LEN: usize = UUID.len() + CAMERA_LEN + NUMBER_LEN;
const NAL_SEI: u8 = 6;
const USER_DATA_UNREGISTERED: u8 = 5;
/// NAL header, message type, message size; the mark; the stop bit.
const SEI_LEN: usize = 3 + MARK_LEN + 1;
/// An Opus packet of any number of frames (RFC 6716 §3.2.5): this many, of equal size, and padding.
const OPUS_CODE_3: u8 = 3;
const OPUS_ONE_FRAME_PADDED: u8 = 0x41;
/// Bits of a PCMU sample that are the mark's: 160 samples have room for it.
const PCMU_BITS: usize = 3;

/// What a picture or a sound packet tells of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The camera that sent it.
    pub camera: CameraId,
    /// Counts the camera's pictures, or its sound packets, from 0 on and through all its streams; wraps around.
    pub number: u32,
}

impl Mark {
    /// The mark in an RTP payload of H.264 (single NAL unit or STAP-A). `None` for fragments, and for packets of a
    /// marked picture other than the first.
    pub fn in_video(payload: &[u8]) -> Option<Self> {
        let [header, rest @ ..] = payload else { return None };
        if header & 0x1f != STAP_A {
            return Self::in_nal(payload);
        }
        let mut rest = rest;
        while let [high, low, tail @ ..] = rest {
            let (nal, after) = tail.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
            if let Some(mark) = Self::in_nal(nal) {
                return Some(mark);
            }
            rest = after;
        }
        None
    }

    /// The mark in an Opus or a PCMU packet.
    pub fn in_audio(payload: &[u8]) -> Option<Self> {
        Self::in_opus(payload).or_else(|| Self::in_pcmu(payload))
    }

    fn in_pcmu(payload: &[u8]) -> Option<Self> {
        let mut bytes = [0; MARK_LEN];
        for at in 0..8 * MARK_LEN {
            let bit = payload.get(at / PCMU_BITS)? >> (at % PCMU_BITS) & 1;
            bytes[at / 8] |= bit << (at % 8);
        }
        Self::parse(&bytes)
    }

    fn in_opus(payload: &[u8]) -> Option<Self> {
        let [toc, OPUS_ONE_FRAME_PADDED, padding, rest @ ..] = payload else { return None };
        if toc & 3 != OPUS_CODE_3 || usize::from(*padding) != MARK_LEN {
            return None;
        }
        Self::parse(rest.get(rest.len().checked_sub(MARK_LEN)?..)?)
    }

    fn in_nal(nal: &[u8]) -> Option<Self> {
        let [header, USER_DATA_UNREGISTERED, size, rest @ ..] = nal else { return None };
        if header & 0x1f != NAL_SEI || usize::from(*size) != MARK_LEN {
            return None;
        }
        Self::parse(rest.get(..MARK_LEN)?)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.strip_prefix(&UUID)?).ok()?;
        let (camera, number) = text.split_at_checked(CAMERA_LEN)?;
        Some(Self { camera: camera.parse().ok()?, number: u32::from_str_radix(number, 16).ok()? })
    }

    fn bytes(self) -> [u8; MARK_LEN] {
        let mut out = [0; MARK_LEN];
        let text = format!("{}{:08x}", self.camera, self.number);
        out[..UUID.len()].copy_from_slice(&UUID);
        out[UUID.len()..].copy_from_slice(text.as_bytes());
        out
    }

    fn sei(self) -> [u8; SEI_LEN] {
        let mut out = [0x80; SEI_LEN];
        out[..3].copy_from_slice(&[NAL_SEI, USER_DATA_UNREGISTERED, MARK_LEN as u8]);
        out[3..SEI_LEN - 1].copy_from_slice(&self.bytes());
        out
    }

    /// The payloads to send instead of a picture's first one: the mark goes behind parameter sets and before a
    /// slice, into the same packet if there is room.
    pub(super) fn before(self, first: &Bytes) -> Vec<Bytes> {
        let sei = self.sei();
        let kind = first.first().map_or(0, |header| header & 0x1f);
        let unit = |nal: &[u8]| [&(nal.len() as u16).to_be_bytes()[..], nal].concat();
        let marked = match kind {
            STAP_A => [&first[..], &unit(&sei)].concat(),
            1..STAP_A => [&[(first[0] & 0x60) | STAP_A], &unit(&sei)[..], &unit(first)].concat(),
            _ => Vec::new(),
        };
        if (1..=MAX_PAYLOAD).contains(&marked.len()) {
            return vec![marked.into()];
        }
        let alone = Bytes::copy_from_slice(&sei);
        // Parameter sets stand before any SEI of their picture (ITU-T H.264 §7.4.1.2.3).
        if kind == STAP_A { vec![first.clone(), alone] } else { vec![alone, first.clone()] }
    }

    /// The packet with the mark; an Opus packet that does not hold exactly one frame stays as it is.
    pub(super) fn on_sound(self, codec: Codec, packet: &[u8]) -> Vec<u8> {
        if codec == Codec::Pcmu {
            return self.on_pcmu(packet);
        }
        match packet {
            [toc, frame @ ..] if toc & 3 == 0 => {
                let head = [toc | OPUS_CODE_3, OPUS_ONE_FRAME_PADDED, MARK_LEN as u8];
                [&head[..], frame, &self.bytes()].concat()
            }
            other => other.to_vec(),
        }
    }

    fn on_pcmu(self, packet: &[u8]) -> Vec<u8> {
        let mark = self.bytes();
        let bit = |at: usize| mark.get(at / 8).map_or(0, |byte| byte >> (at % 8) & 1);
        let low = |n: usize| (0..PCMU_BITS).fold(0, |low, at| low | bit(n * PCMU_BITS + at) << at);
        packet.iter().enumerate().map(|(n, sample)| sample >> PCMU_BITS << PCMU_BITS | low(n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::clip::{Quality, sound, tone};
    use super::*;

    fn mark() -> Mark {
        Mark { camera: "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap(), number: 0xab_cdef }
    }

    #[test]
    fn every_picture_of_the_clips_can_be_marked_and_read() {
        for quality in [Quality::Hd, Quality::Sd] {
            for number in 0..quality.clip().len() {
                let unit = quality.clip().unit(number);
                let out = mark().before(&unit.payloads[0]);
                let marks: Vec<_> = out.iter().filter_map(|payload| Mark::in_video(payload)).collect();
                assert_eq!(marks, [mark()], "{quality:?} {number}");
                assert!(out.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
                assert!(unit.payloads.iter().all(|payload| Mark::in_video(payload).is_none()));
            }
        }
    }

    #[test]
    fn the_mark_stands_between_parameter_sets_and_slice_and_is_never_escaped() {
        let sei = mark().sei();
        assert!(!sei.contains(&0));
        let len = [0, SEI_LEN as u8];
        let keyframe = mark().before(&Bytes::from_static(&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 2]));
        assert_eq!(keyframe, [[&[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 2][..], &len, &sei].concat()]);
        let small = mark().before(&Bytes::from_static(&[0x41, 9]));
        assert_eq!(small, [[&[0x58][..], &len, &sei, &[0, 2, 0x41, 9]].concat()]);
        let large = Bytes::from(vec![0x41; MAX_PAYLOAD]);
        assert_eq!(mark().before(&large), [Bytes::copy_from_slice(&sei), large]);
        let fragment = Bytes::from_static(&[0x5c, 0x81, 0]);
        assert_eq!(mark().before(&fragment), [Bytes::copy_from_slice(&sei), fragment]);
    }

    #[test]
    fn a_marked_sound_is_one_frame_of_the_same_kind_with_padding() {
        for packet in tone() {
            let marked = mark().on_sound(Codec::Opus, packet);
            assert_eq!((marked[0] & !3, marked[0] & 3, marked[1]), (packet[0], 3, 0x41));
            assert_eq!(usize::from(marked[2]), MARK_LEN);
            assert_eq!(marked[3..marked.len() - MARK_LEN], packet[1..]);
            assert_eq!((Mark::in_audio(&marked), Mark::in_audio(packet)), (Some(mark()), None));
        }
    }

    #[test]
    fn a_marked_pcmu_packet_sounds_almost_the_same() {
        for number in 0..50 {
            let plain = sound(Codec::Pcmu, number);
            let marked = mark().on_sound(Codec::Pcmu, plain);
            assert_eq!((Mark::in_audio(&marked), Mark::in_audio(plain)), (Some(mark()), None));
            assert!(marked.len() == 160 && marked.iter().zip(plain).all(|(a, b)| a >> 3 == b >> 3));
        }
    }

    #[test]
    fn what_is_cut_short_has_no_mark_and_does_no_harm() {
        let (sound, sei) = (mark().on_sound(Codec::Opus, tone()[0]), mark().sei());
        let stap = mark().before(&Bytes::from_static(&[0x41, 9])).remove(0);
        for end in 0..sound.len() {
            assert_eq!(Mark::in_audio(&sound[..end]), None);
        }
        for end in 0..sei.len() - 1 {
            assert_eq!(Mark::in_video(&sei[..end]), None);
        }
        for end in 0..3 + SEI_LEN {
            assert_eq!(Mark::in_video(&stap[..end]), None);
        }
    }
}
