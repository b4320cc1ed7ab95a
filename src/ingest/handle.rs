//! What control can ask of the ingest, and what the ingest tells it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::driver::{CameraPorts, Driver, Shared};
use super::intake::{DropCounters, Intake, RefusedSource};
use crate::base::{CameraId, Shutdown, StreamId};
use crate::media::doctor::CodecReport;
use crate::media::latch::Entrance;
use crate::media::reorder::ReorderCounters;
use crate::media::{Codec, FrameSink, Ssrc};
use crate::webrtc::feedback::{FeedbackHealth, FeedbackWarning};

/// A stream that the ingest is to expect.
pub struct OpenStream {
    /// Key of all later calls and events.
    pub stream: StreamId,
    /// The camera that will send it.
    pub camera: CameraId,
    /// Lowest and highest REMB value towards the camera, in bit/s.
    pub bitrate_range: (u64, u64),
    /// The camera's address where the control plane knows it.
    pub expected_ip: Option<IpAddr>,
    /// The CNAME that its SDP tells the camera to send with (`a=x-skl-cname`).
    pub cname: String,
    /// Where its frames go.
    pub sink: Arc<dyn FrameSink>,
}

/// The UDP ports that the camera is to send to, for the SDP of `play`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPlan {
    /// Video RTP (`PORT_V`).
    pub video_rtp: u16,
    /// RTCP of both media (`RTCP_V`, `RTCP_A`).
    pub rtcp: u16,
    /// Audio RTP (`PORT_A`).
    pub audio_rtp: u16,
}

/// Why a stream cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The same stream id is open already.
    #[error("the stream is open already")]
    AlreadyOpen,
    /// The stream is not parked.
    #[error("the stream is not parked")]
    NotParked,
    /// Ingest has stopped, or the stream was closed while it was being opened.
    #[error("the media engine has stopped")]
    Stopped,
}

/// What the ingest reports on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngestEvent {
    /// The first RTP packet of a stream was accepted from this source.
    MediaStarted {
        /// Which stream.
        stream: StreamId,
        /// Where it comes from.
        source: SocketAddr,
    },
    /// No RTP packet arrived for this long.
    MediaStalled {
        /// Which stream.
        stream: StreamId,
        /// Silence so far.
        silence: Duration,
    },
    /// The camera's feedback is in trouble, or no longer.
    FeedbackWarning {
        /// Which stream.
        stream: StreamId,
        /// What is wrong; `None`: nothing any more.
        warning: Option<FeedbackWarning>,
    },
    /// A stream shows no video, and others cannot be told from it: packets come that may be either's, or a start
    /// waits for it. Its camera should stop for a while ([`IngestHandle::park`]). Repeated every second.
    ShouldYield {
        /// Which stream.
        stream: StreamId,
    },
    /// RTP packets arrive again after a stall.
    MediaResumed {
        /// Which stream.
        stream: StreamId,
    },
}

/// Statistics of one track, RFC 3550 §6.4 terms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrackStats {
    /// RTP packets accepted.
    pub packets: u64,
    /// Payload bytes accepted.
    pub bytes: u64,
    /// Expected minus received so far, never below 0.
    pub lost: u64,
    /// Duplicates dropped.
    pub duplicates: u64,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: f64,
    /// Bits per second over the last second.
    pub bitrate: u64,
    /// What arrives; `None` before the first packet.
    pub codec: Option<Codec>,
}

/// What the ingest knows of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IngestStats {
    /// Video track.
    pub video: TrackStats,
    /// Audio track; all zero for a camera without sound.
    pub audio: TrackStats,
    /// Latched source of video RTP.
    pub video_source: Option<SocketAddr>,
    /// Latched source of audio RTP.
    pub audio_source: Option<SocketAddr>,
    /// Latched source of the camera's own RTCP.
    pub rtcp_source: Option<SocketAddr>,
    /// When the last RTP packet arrived.
    pub last_packet: Option<SystemTime>,
    /// When the last keyframe began.
    pub last_keyframe: Option<SystemTime>,
    /// RTCP feedback packets sent to the camera.
    pub feedback_sent: u64,
    /// When the last one was sent.
    pub last_feedback: Option<SystemTime>,
    /// The last REMB value in bit/s.
    pub remb: u64,
    /// PLIs and FIRs sent.
    pub plis_sent: u64,
    /// Packets asked for again with NACK.
    pub nacks_sent: u64,
    /// Whether the camera listens to its feedback.
    pub feedback_health: FeedbackHealth,
    /// `profile-level-id` of the camera's real SPS, six hex digits.
    pub profile_level_id: Option<String>,
    /// Findings of the codec doctor.
    pub codec: Option<Box<CodecReport>>,
    /// Reordering of video packets.
    pub reordering: ReorderCounters,
    /// Video packets that may be this camera's and were refused, because they may be another's as well; since its
    /// last video.
    pub ambiguous_packets: u64,
}

/// Settings of the ingest.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// Send RTCP to cameras. `false` only to test what cameras do without it.
    pub feedback: bool,
}

/// Handle of the ingest; cheap to clone. Calls take effect before they return.
#[derive(Clone)]
pub struct IngestHandle {
    shared: Arc<Shared>,
    /// The shared ports, then those of the pool.
    plans: Arc<[PortPlan]>,
    drops: Arc<DropCounters>,
}

impl IngestHandle {
    /// Starts serving the camera ports; ends with `shutdown`.
    ///
    /// # Errors
    ///
    /// A socket cannot be set up.
    pub fn start(
        ports: CameraPorts,
        settings: &IngestSettings,
        events: mpsc::Sender<IngestEvent>,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let plans = ports.plans()?;
        let pool = u16::try_from(plans.len() - 1).unwrap_or(u16::MAX);
        let intake = Intake::new(Ssrc(rand::random()), settings.feedback, pool);
        let drops = intake.drops();
        let shared = Arc::new(Shared::new(intake));
        // Packets wait for nobody's request and nobody's handshake.
        shutdown.spawn_thread("ingest", || {
            let driver = Driver::new(ports, &plans, shared.clone(), events)?;
            Ok(driver.run(shutdown.clone()))
        })?;
        Ok(Self { shared, plans: plans.into(), drops })
    }

    /// Expects `stream` from now on and names the ports for its SDP.
    ///
    /// Where its packets could be mistaken for those of a stream that is not fully latched, it gets ports of its
    /// own, or waits for that stream, for [`OPEN_WAIT`](super::OPEN_WAIT) at most; packets that could be either's are
    /// refused after that. Opens are served in their order.
    /// Dropping the future undoes it.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub async fn open(&self, stream: OpenStream) -> Result<PortPlan, OpenError> {
        let mut undo = Undo { shared: &self.shared, stream: Some(stream.stream) };
        let opened = match self.shared.lock().open(stream, Instant::now()) {
            Ok(opened) => opened,
            Err(error) => {
                undo.stream = None;
                return Err(error);
            }
        };
        self.shared.wake.notify_one();
        let entrance = opened.await.unwrap_or(Err(OpenError::Stopped));
        undo.stream = None;
        self.plan(entrance)
    }

    /// Expects nothing for a stream until [`IngestHandle::reopen`], so that others can be told from it; its sources
    /// are remembered as those of a stream that was closed. `false` if it stands in nobody's way.
    pub fn park(&self, stream: StreamId) -> bool {
        let parked = self.shared.lock().park(stream, Instant::now());
        self.shared.wake.notify_one();
        parked
    }

    /// Expects a parked stream again as soon as it can be told from all others, and names its ports, which may
    /// have changed. Opens and reopens are served in their order.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub async fn reopen(&self, stream: StreamId) -> Result<PortPlan, OpenError> {
        let opened = self.shared.lock().reopen(stream, Instant::now())?;
        self.shared.wake.notify_one();
        self.plan(opened.await.unwrap_or(Err(OpenError::Stopped)))
    }

    fn plan(&self, entrance: Result<Entrance, OpenError>) -> Result<PortPlan, OpenError> {
        let plan = match entrance? {
            Entrance::Shared => self.plans.first(),
            Entrance::Own(index) => self.plans.get(1 + usize::from(index)),
        };
        plan.copied().ok_or(OpenError::Stopped)
    }

    /// Forgets a stream: its packets are dropped from now on and nothing is sent to its camera any more.
    pub fn close(&self, stream: StreamId) {
        self.shared.lock().close(stream, Instant::now());
        self.shared.wake.notify_one();
    }

    /// Asks the camera for a keyframe; coalesced to one per 500 ms.
    pub fn request_keyframe(&self, stream: StreamId) {
        self.shared.lock().request_keyframe(stream, Instant::now());
        self.shared.wake.notify_one();
    }

    /// The camera has restarted, as far as it said: that it fell silent says nothing about its feedback.
    pub fn camera_restarted(&self, stream: StreamId) {
        self.shared.lock().camera_restarted(stream);
    }

    /// The control plane learned the camera's address.
    pub fn expect_source(&self, stream: StreamId, ip: IpAddr) {
        self.shared.lock().expect(stream, ip, Instant::now());
    }

    /// What the viewers of a stream can use at most, in bit/s: REMB does not ask the camera for more, but never
    /// goes below its range. `None`: no limit.
    pub fn set_viewer_limit(&self, stream: StreamId, bits_per_second: Option<u64>) {
        self.shared.lock().set_viewer_limit(stream, bits_per_second);
        self.shared.wake.notify_one();
    }

    /// Current figures, or `None` for a stream that is not open.
    pub fn stats(&self, stream: StreamId) -> Option<IngestStats> {
        self.shared.lock().stats(stream, Instant::now(), SystemTime::now())
    }

    /// Sources whose packets were dropped lately, the last heard one first: at most 256.
    pub fn refused_sources(&self) -> Vec<RefusedSource> {
        self.shared.lock().refused(Instant::now(), SystemTime::now())
    }

    /// Datagrams dropped on the camera ports so far, by reason.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }
}

/// Closes a stream whose open was given up.
struct Undo<'a> {
    shared: &'a Shared,
    stream: Option<StreamId>,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream {
            self.shared.lock().close(stream, Instant::now());
        }
    }
}
