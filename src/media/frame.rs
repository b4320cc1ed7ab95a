//! Frames: the unit that goes from a camera to every viewer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::id::{ExtSeq, RtpTime};

/// Which of a stream's two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// H.264, 90 kHz.
    Video,
    /// Opus, 48 kHz.
    Audio,
}

impl MediaKind {
    /// RTP clock rate in Hz.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Video => 90_000,
            Self::Audio => 48_000,
        }
    }

    /// The value's place in a two-element array.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One RTP packet of a frame, on the stream's continuous numbering.
#[derive(Debug, Clone)]
pub struct FramePacket {
    /// Continuous across camera reboots and wrap-arounds; gaps are packets that were lost.
    pub seq: ExtSeq,
    /// The camera's marker bit.
    pub marker: bool,
    /// RTP payload without header and padding.
    pub payload: Bytes,
}

/// A point where the wall clock of the server and the media clock of a track meet.
///
/// Both tracks of a stream use the same wall clock, so that sender reports keep lips and sound together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPoint {
    /// Server time.
    pub at: Instant,
    /// The track's timestamp at that time.
    pub rtp: RtpTime,
}

impl ClockPoint {
    /// The track's timestamp at `now`, by the nominal clock rate in Hz.
    pub fn project(&self, now: Instant, clock_rate: u32) -> RtpTime {
        let ticks = |d: std::time::Duration| (d.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u64;
        match now.checked_duration_since(self.at) {
            Some(later) => RtpTime(self.rtp.0.saturating_add(ticks(later))),
            None => RtpTime(self.rtp.0.saturating_sub(ticks(self.at - now))),
        }
    }
}

/// Up to 32 packets of one timestamp, as they go to the egress shards.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The track.
    pub kind: MediaKind,
    /// Continuous timestamp of all packets.
    pub time: RtpTime,
    /// Whether a decoder can start with the first packet of this frame.
    pub starts_keyframe: bool,
    /// The packets in ascending sequence; never empty.
    pub packets: Vec<FramePacket>,
    /// When the first packet arrived.
    pub arrived: Instant,
    /// Where the track's clock stands.
    pub clock: ClockPoint,
}

/// Where the ingest puts the frames of one stream. Implemented by the egress.
pub trait FrameSink: Send + Sync {
    /// Takes a frame without blocking. What cannot be taken is dropped and counted by the sink.
    fn push(&self, frame: Arc<Frame>);
}
