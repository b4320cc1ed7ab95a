//! What a packet says about its sender beyond its address. Hints, never proofs: nobody has measured whether
//! cameras keep to the CNAME that they were told (contract §1), and a forger can copy everything.

use std::time::{Duration, Instant};

use crate::media::Ssrc;
use crate::media::rtcp::{RtcpBlock, blocks};

/// How far a clock that fits may be off: what a network and a camera's clock can do in a few seconds. By
/// chance a foreign clock fits once in 24,000 times.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
/// A clock that was not heard for longer has drifted or restarted.
const CLOCK_LIFE: Duration = Duration::from_secs(60);
const SDES: u8 = 202;
const SDES_END: u8 = 0;
const SDES_CNAME: u8 = 1;

/// What a packet says about its sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clue<'a> {
    /// Nothing.
    #[default]
    None,
    /// Of an RTP packet.
    Rtp(RtpClue),
    /// Of a compound RTCP packet.
    Rtcp(RtcpClue<'a>),
}

/// The media clock of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpClue {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// RTP timestamp.
    pub timestamp: u32,
}

/// What a compound RTCP packet says about its sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcpClue<'a> {
    /// CNAME of its first source (RFC 3550 §6.5.1).
    pub cname: Option<&'a [u8]>,
    /// The media clock of its first sender report.
    pub report: Option<RtpClue>,
}

impl<'a> RtcpClue<'a> {
    /// Reads a compound packet that was found well-formed.
    pub fn of(compound: &'a [u8]) -> Self {
        let report = blocks(compound).map_while(Result::ok).find_map(|block| match block {
            RtcpBlock::SenderReport(info, _) => Some(RtpClue { ssrc: info.ssrc, timestamp: info.rtp_time }),
            _ => None,
        });
        Self { cname: cname(compound), report }
    }
}

/// The CNAME of the first chunk of the first SDES block. The compound's block lengths are checked again:
/// whoever calls this with anything gets `None`.
fn cname(compound: &[u8]) -> Option<&[u8]> {
    let mut rest = compound;
    loop {
        let header = rest.first_chunk::<4>()?;
        let (block, behind) = rest.split_at_checked(4 + 4 * usize::from(u16::from_be_bytes([header[2], header[3]])))?;
        if header[1] == SDES && header[0] & 0x1f > 0 {
            // The chunk: an SSRC, then items of type, length and text up to a zero.
            let mut items = block.get(8..)?;
            loop {
                let [kind, length, text @ ..] = items else { return None };
                let (text, next) = text.split_at_checked(usize::from(*length))?;
                match *kind {
                    SDES_END => return None,
                    SDES_CNAME => return Some(text),
                    _ => items = next,
                }
            }
        }
        rest = behind;
    }
}

/// The media clock of a source, as it was seen last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) ssrc: Ssrc,
    pub(super) timestamp: u32,
    pub(super) at: Instant,
}

impl Clock {
    /// Whether `clue`, seen at `now`, can be this clock's; `rates` are those that it may run at, in Hz.
    pub(super) fn fits(&self, clue: RtpClue, rates: &[u32], now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at);
        if clue.ssrc != self.ssrc || elapsed > CLOCK_LIFE {
            return false;
        }
        rates.iter().map(|rate| f64::from(*rate)).any(|rate| {
            // Cut to 32 bits: the wire's timestamps wrap as well.
            let expected = self.timestamp.wrapping_add((elapsed.as_secs_f64() * rate) as u64 as u32);
            let off = clue.timestamp.wrapping_sub(expected) as i32;
            f64::from(off.unsigned_abs()) <= CLOCK_TOLERANCE.as_secs_f64() * rate
        })
    }

    /// Whether `clue`, seen at `now`, can be this clock's although packets may have been held up, or the clock may have
    /// rested: it shows any time since.
    pub(super) fn goes_on(&self, clue: RtpClue, rates: &[u32], now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at);
        if clue.ssrc != self.ssrc || elapsed > CLOCK_LIFE {
            return false;
        }
        let passed = f64::from(clue.timestamp.wrapping_sub(self.timestamp) as i32);
        let tolerance = CLOCK_TOLERANCE.as_secs_f64();
        rates
            .iter()
            .map(|rate| passed / f64::from(*rate))
            .any(|passed| (-tolerance..=elapsed.as_secs_f64() + tolerance).contains(&passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtcp::{RtcpWriter, SenderInfo};

    #[test]
    fn cname_and_media_clock_are_read_from_a_compound() {
        let mut writer = RtcpWriter::new();
        writer.sender_report(&SenderInfo { ssrc: Ssrc(7), ntp: 1, rtp_time: 90, packets: 1, octets: 1 });
        writer.cname(Ssrc(7), "user1@host-2");
        let bytes = writer.finish();
        let report = Some(RtpClue { ssrc: Ssrc(7), timestamp: 90 });
        assert_eq!(RtcpClue::of(&bytes), RtcpClue { cname: Some(b"user1@host-2"), report });
    }

    #[test]
    fn a_cname_behind_another_item_is_found_and_lying_lengths_are_not_followed() {
        let chunk = |items: &[u8]| [&[0x81, SDES, 0, 3][..], &[0, 0, 0, 7], items].concat();
        assert_eq!(cname(&chunk(&[2, 1, b'x', 1, 1, b'y', 0, 0])), Some(&b"y"[..]));
        assert_eq!(cname(&chunk(&[1, 200, b'x', 1, 1, b'y', 0, 0])), None);
        assert_eq!(cname(&chunk(&[0, 1, 1, b'y', 0, 0, 0, 0])), None);
        assert_eq!(cname(&[0x81, SDES, 0, 9, 0, 0, 0, 7]), None);
    }

    #[test]
    fn a_clock_goes_on_when_packets_were_held_up_and_does_not_when_it_jumps() {
        let now = Instant::now();
        let clock = Clock { ssrc: Ssrc(7), timestamp: u32::MAX - 45_000, at: now };
        let goes_on = |ticks: i32| {
            let timestamp = clock.timestamp.wrapping_add_signed(ticks);
            clock.goes_on(RtpClue { ssrc: Ssrc(7), timestamp }, &[90_000], now + Duration::from_secs(4))
        };
        assert!(goes_on(3_000) && goes_on(4 * 90_000) && goes_on(-3_000));
        assert!(!goes_on(6 * 90_000) && !goes_on(-2 * 90_000) && !goes_on(1 << 30));
    }

    #[test]
    fn a_clock_goes_on_across_its_wrap_and_not_across_a_minute() {
        let now = Instant::now();
        let clock = Clock { ssrc: Ssrc(7), timestamp: u32::MAX - 45_000, at: now };
        let after = |s| now + Duration::from_secs(s);
        assert!(clock.fits(RtpClue { ssrc: Ssrc(7), timestamp: 45_000 }, &[90_000], after(1)));
        assert!(!clock.fits(RtpClue { ssrc: Ssrc(8), timestamp: 45_000 }, &[90_000], after(1)));
        assert!(!clock.fits(RtpClue { ssrc: Ssrc(7), timestamp: 245_000 }, &[90_000], after(1)));
        let late = (u32::MAX - 45_000).wrapping_add(61 * 90_000);
        assert!(!clock.fits(RtpClue { ssrc: Ssrc(7), timestamp: late }, &[90_000], after(61)));
    }
}
