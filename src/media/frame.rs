//! Frames: the unit that goes from a camera to every viewer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::id::{ExtSeq, RtpTime};
use super::receive::ticks;

/// Which of a stream's two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

impl MediaKind {
    /// The value's place in a two-element array.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The payload format of a track: what cameras send, and viewers get as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// RFC 6184, packetization-mode 1.
    H264,
    /// RFC 7587.
    Opus,
    /// G.711 µ-law (RFC 3551 §4.5.14).
    Pcmu,
}

impl Codec {
    /// The track that it is for.
    pub const fn kind(self) -> MediaKind {
        match self {
            Self::H264 => MediaKind::Video,
            Self::Opus | Self::Pcmu => MediaKind::Audio,
        }
    }

    /// RTP clock rate in Hz.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::H264 => 90_000,
            Self::Opus => 48_000,
            Self::Pcmu => 8_000,
        }
    }

    /// Media type and subtype as registered (RFC 6184 §8.1, RFC 7587 §6.1, RFC 4856 §2.1.18).
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::H264 => "video/H264",
            Self::Opus => "audio/opus",
            Self::Pcmu => "audio/PCMU",
        }
    }

    /// The short name that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Opus => "opus",
            Self::Pcmu => "pcmu",
        }
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
    /// Its clock rate in Hz.
    pub rate: u32,
}

impl ClockPoint {
    /// The track's timestamp at `now`, by the nominal clock rate.
    pub fn project(&self, now: Instant) -> RtpTime {
        match now.checked_duration_since(self.at) {
            Some(later) => RtpTime(self.rtp.0.saturating_add(ticks(later, self.rate))),
            None => RtpTime(self.rtp.0.saturating_sub(ticks(self.at - now, self.rate))),
        }
    }
}

/// Up to 32 packets of one timestamp, as they go to the egress shards.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What the packets hold.
    pub codec: Codec,
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

impl Frame {
    /// The track.
    pub const fn kind(&self) -> MediaKind {
        self.codec.kind()
    }
}

/// Where the ingest puts the frames of one stream. Implemented by the egress.
pub trait FrameSink: Send + Sync {
    /// Takes a frame without blocking. What cannot be taken is dropped and counted by the sink.
    fn push(&self, frame: Arc<Frame>);
}
