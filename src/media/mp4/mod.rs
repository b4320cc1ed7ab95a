//! A stream as fragmented MP4 (ISO/IEC 14496-12), for players without WebRTC: H.264 as it is, Opus as it is.
//!
//! One fragment a sample: nothing waits longer than for the next picture, which tells how long this one is shown.

mod boxes;
mod samples;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::boxes::Track;
use self::samples::{Picture, Pictures};
use super::frame::{ClockPoint, Codec, Frame};
use super::id::RtpTime;
use super::sps::Sps;

/// How long a picture is shown that stands alone.
const STILL: Duration = Duration::from_secs(1);
/// A picture whose successor does not come is shown so long.
const LONGEST: Duration = Duration::from_secs(2);
/// Sound that is this far from the picture is brought back to it: clocks of cameras drift.
const MAX_APART: Duration = Duration::from_millis(80);
/// Opus/48000: samples of one packet that does not say otherwise (20 ms).
const OPUS_TICKS: u64 = 960;

/// What a player has to know before the first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `ftyp` and `moov`.
    pub init: Bytes,
    /// The `codecs` parameter of the media type (RFC 6381): `avc1.42E01F,opus`.
    pub codecs: String,
}

/// What comes out for a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Before everything, and again when the camera changes its parameter sets.
    Head(Head),
    /// `moof` and `mdat`.
    Fragment(Bytes),
}

/// Writes one stream.
#[derive(Debug)]
pub struct Mp4Writer {
    with_sound: bool,
    pictures: Pictures,
    /// Parameter sets of the head.
    sets: Option<(Bytes, Bytes)>,
    sequence: u32,
    /// The instant of the timeline's zero, and the video timestamp there.
    zero: Option<ClockPoint>,
    /// The picture whose length is not known yet.
    held: Option<Picture>,
    /// Decode time of the last picture.
    last_time: Option<u64>,
    /// Decode time at which the next sound packet would follow the last one.
    sound_end: Option<u64>,
    /// Timestamp of sound at the timeline's zero.
    sound_zero: Option<i64>,
}

impl Mp4Writer {
    /// Begins with the next keyframe. `with_sound`: with a track for Opus.
    pub fn new(with_sound: bool) -> Self {
        Self {
            with_sound,
            pictures: Pictures::default(),
            sets: None,
            sequence: 0,
            zero: None,
            held: None,
            last_time: None,
            sound_end: None,
            sound_zero: None,
        }
    }

    /// The next frame of the stream, in the order of arrival.
    pub fn push(&mut self, frame: &Frame, out: &mut Vec<Piece>) {
        match frame.codec {
            Codec::H264 => {
                let mut done = Vec::new();
                self.pictures.push(frame, &mut done);
                for picture in done {
                    self.picture(picture, frame.clock, out);
                }
            }
            Codec::Opus if self.with_sound => self.sound(frame, out),
            Codec::Opus | Codec::Pcmu => {}
        }
    }

    /// Whether pictures are left out because one before them is missing, until the next keyframe.
    pub fn wants_keyframe(&self) -> bool {
        self.pictures.wants_keyframe()
    }

    /// One file with the first keyframe of `frames` and nothing else; `None` if there is no whole one.
    pub fn still<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Option<(Head, Bytes)> {
        let mut writer = Self::new(false);
        let mut out = Vec::new();
        for frame in frames {
            writer.push(frame, &mut out);
            if writer.held.is_some() {
                break;
            }
        }
        writer.release(STILL, &mut out);
        let mut pieces = out.into_iter();
        match (pieces.next()?, pieces.next()?) {
            (Piece::Head(head), Piece::Fragment(fragment)) => {
                let file = [&head.init[..], &fragment].concat();
                Some((head, file.into()))
            }
            _ => None,
        }
    }

    fn picture(&mut self, picture: Picture, clock: ClockPoint, out: &mut Vec<Piece>) {
        if let (Some(sps), Some(pps)) = (&picture.sps, &picture.pps)
            && self.sets.as_ref().is_none_or(|sets| (&sets.0, &sets.1) != (sps, pps))
        {
            let Some(head) = head(sps, pps, self.with_sound) else { return };
            self.release(LONGEST, out);
            self.sets = Some((sps.clone(), pps.clone()));
            out.push(Piece::Head(head));
        }
        if self.sets.is_none() {
            return;
        }
        let zero = *self.zero.get_or_insert_with(|| ClockPoint {
            at: instant_of(clock, picture.time),
            rtp: RtpTime(picture.time),
            ..clock
        });
        let time = picture.time.saturating_sub(zero.rtp.0);
        if let Some(held) = &self.held {
            // The order is that of decoding; with B-frames timestamps go back and forth.
            let length = time.saturating_sub(held.time.saturating_sub(zero.rtp.0));
            let length = Duration::from_secs_f64(length as f64 / f64::from(clock.rate.max(1)));
            self.release(length.min(LONGEST), out);
        }
        self.held = Some(picture);
    }

    /// Writes the picture that is held.
    fn release(&mut self, length: Duration, out: &mut Vec<Piece>) {
        let (Some(picture), Some(zero)) = (self.held.take(), self.zero) else { return };
        let shown = picture.time.saturating_sub(zero.rtp.0);
        let decoded = self.last_time.map_or(shown, |last| shown.max(last + 1));
        self.last_time = Some(decoded);
        let sample = boxes::Sample {
            track: Track::Video,
            time: decoded,
            length: (ticks(length, zero.rate) as u32).max(1),
            shown_later: shown as i64 - decoded as i64,
            is_key: picture.is_key,
            data: &picture.data,
        };
        out.push(self.fragment(&sample));
    }

    fn sound(&mut self, frame: &Frame, out: &mut Vec<Piece>) {
        // Nothing is heard before the first picture is there.
        let Some(zero) = self.zero else { return };
        let now = frame.clock.project(zero.at).0 as i64;
        let kept = *self.sound_zero.get_or_insert(now);
        if now.abs_diff(kept) > ticks(MAX_APART, Codec::Opus.clock_rate()) {
            self.sound_zero = Some(now);
        }
        let origin = self.sound_zero.unwrap_or(now);
        for packet in &frame.packets {
            let Ok(at) = u64::try_from(frame.time.0 as i64 - origin) else { continue };
            // Time never goes back in a track.
            let at = self.sound_end.map_or(at, |end| if at.abs_diff(end) <= 2 { end } else { at.max(end) });
            let length = samples::opus_ticks(&packet.payload).unwrap_or(OPUS_TICKS);
            self.sound_end = Some(at + length);
            let sample = boxes::Sample {
                track: Track::Audio,
                time: at,
                length: length as u32,
                shown_later: 0,
                is_key: true,
                data: &packet.payload,
            };
            out.push(self.fragment(&sample));
        }
    }

    fn fragment(&mut self, sample: &boxes::Sample<'_>) -> Piece {
        self.sequence = self.sequence.wrapping_add(1);
        Piece::Fragment(boxes::fragment(self.sequence, sample))
    }
}

fn head(sps: &Bytes, pps: &Bytes, with_sound: bool) -> Option<Head> {
    let parsed = Sps::parse(sps)?;
    let [profile, constraints, level] = parsed.profile.0;
    let sound = if with_sound { ",opus" } else { "" };
    let codecs = format!("avc1.{profile:02X}{constraints:02X}{level:02X}{sound}");
    Some(Head { init: boxes::init(sps, pps, &parsed, with_sound)?, codecs })
}

/// When the timestamp `time` was, by the clock.
fn instant_of(clock: ClockPoint, time: u64) -> Instant {
    let apart = Duration::from_secs_f64(clock.rtp.0.abs_diff(time) as f64 / f64::from(clock.rate.max(1)));
    if time >= clock.rtp.0 { clock.at + apart } else { clock.at.checked_sub(apart).unwrap_or(clock.at) }
}

fn ticks(duration: Duration, rate: u32) -> u64 {
    (duration.as_nanos() * u128::from(rate) / 1_000_000_000) as u64
}
