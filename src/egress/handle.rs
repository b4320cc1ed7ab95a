//! What control can ask of the egress, and what the egress tells it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::driver::{Driver, Shared};
use super::limits::RembPolicy;
use super::port::{Drops, ViewerPort};
use super::sessions::Sessions;
use super::shard::{self, Command, ShardInbox, ShardSink, SocketSink};
use super::stats::ViewerStats;
use super::tap::{self, FrameTap};
use super::tcp;
use super::tcp_connections::Connections;
use crate::base::udp::RunSender;
use crate::base::{Shutdown, StreamId, ViewerId};
use crate::media::{Codec, FrameSink};
use crate::telemetry::metrics::Page;
use crate::webrtc::{Identity, LocalCandidate, ParsedOffer, SessionConfig};

/// Datagrams of all TCP connections that wait for the driver; their connections wait when it is full.
const TCP_QUEUE: usize = 256;

/// A viewer who wants in.
#[derive(Debug, Clone)]
pub struct AddViewer {
    /// Key of all later calls and events.
    pub viewer: ViewerId,
    /// The stream to watch; it must be open.
    pub stream: StreamId,
    /// The browser's SDP offer.
    pub offer: String,
    /// `profile-level-id` of the camera's real SPS where it is known.
    pub profile_level_id: Option<String>,
    /// What the camera's sound is, where that is known.
    pub audio: Option<Codec>,
}

/// A host candidate in the form browsers take (`RTCIceCandidateInit`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// `candidate:…` line.
    pub candidate: String,
    /// Media section by name.
    pub sdp_mid: String,
    /// Media section by place.
    pub sdp_m_line_index: u16,
}

/// The answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerAnswer {
    /// SDP answer; it carries the candidates as well.
    pub sdp: String,
    /// The same candidates for pages that wait for `iceCandidate` messages.
    pub candidates: Vec<Candidate>,
}

/// Why a viewer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewerError {
    /// The offer cannot be used; the text says why in words.
    #[error("{0}")]
    Offer(String),
    /// The stream is not open.
    #[error("the stream is not running")]
    NoStream,
    /// Egress has stopped or is overloaded.
    #[error("the media engine cannot take another viewer now")]
    Unavailable,
}

/// Our side of an ICE restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceRestart {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub pwd: String,
    /// `candidate:…` lines; the same as before.
    pub candidates: Vec<String>,
}

/// Why ICE was not restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// The session is over.
    #[error("there is no such viewer")]
    NoViewer,
    /// The offer is that of another peer connection, or changes the media: it takes a new viewer.
    #[error("{0}")]
    NotARestart(String),
    /// The offer or fragment cannot be used; the text says why in words.
    #[error("{0}")]
    Offer(String),
}

/// Why a viewer's session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The page said so: `stop`, socket closed, replaced.
    Left,
    /// The stream was stopped.
    StreamStopped,
    /// Honeycast shuts down.
    Shutdown,
    /// The time is over for which the viewer was let in.
    AccessEnded,
    /// No ICE and DTLS within `VIEWER_CONNECT_TIMEOUT`.
    ConnectTimeout,
    /// No authenticated ICE check for 30 s (RFC 7675).
    ConsentExpired,
    /// The peer closed DTLS.
    PeerClosed,
    /// DTLS or SRTP failed; the text says how.
    Failed(String),
}

/// What the egress reports on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EgressEvent {
    /// ICE and DTLS are up; media flows.
    Connected {
        /// Which viewer.
        viewer: ViewerId,
    },
    /// The session is gone. Sent exactly once per accepted viewer, whatever ended it.
    Closed {
        /// Which viewer.
        viewer: ViewerId,
        /// Why.
        reason: CloseReason,
    },
    /// A viewer cannot go on without a keyframe.
    KeyframeWanted {
        /// The stream it watches.
        stream: StreamId,
    },
    /// What the viewer of a stream on the worst path can take has changed.
    ViewerLimit {
        /// The stream.
        stream: StreamId,
        /// Bit/s; `None`: no viewer is in trouble.
        bits_per_second: Option<u64>,
    },
}

/// Settings of the egress.
#[derive(Debug, Clone)]
pub struct EgressSettings {
    /// Addresses to advertise as host candidates, most preferred first; all with the port that is bound. Those of a
    /// family that is not served are left out.
    pub advertise: Vec<IpAddr>,
    /// A viewer that is not connected after this is forgotten.
    pub connect_timeout: Duration,
    /// Whose bandwidth limits what cameras are asked for.
    pub remb_policy: RembPolicy,
    /// Threads that send; one per core.
    pub shards: usize,
    /// The core that each shard stays on, in their order; shards beyond run anywhere.
    pub cores: Vec<usize>,
}

/// Handle of the egress; cheap to clone. Calls take effect before they return, datagrams leave soon after.
#[derive(Clone)]
pub struct EgressHandle {
    shared: Arc<Shared>,
    shards: Arc<[ShardInbox]>,
    connections: Arc<Connections>,
    missed_by_taps: Arc<AtomicU64>,
}

impl EgressHandle {
    /// Starts serving the viewer port; ends with `shutdown`.
    ///
    /// # Errors
    ///
    /// A socket or thread cannot be set up, or no certificate can be made.
    pub fn start(
        port: ViewerPort,
        settings: &EgressSettings,
        events: mpsc::Sender<EgressEvent>,
        shutdown: &Shutdown,
    ) -> io::Result<Self> {
        let number = port.port()?;
        let identity = Identity::generate().map_err(io::Error::other)?;
        let reachable = settings.advertise.iter().filter(|ip| port.serves(**ip));
        let mut candidates: Vec<_> = reachable.map(|ip| LocalCandidate::udp(*ip, number)).collect();
        if !port.tcp.is_empty() {
            candidates.extend(candidates.clone().iter().map(|udp| LocalCandidate::tcp(udp.ip, number)));
        }
        let senders = port.udp.iter().map(|socket| RunSender::new(socket.try_clone()?));
        let senders: Arc<[RunSender]> = senders.collect::<io::Result<Vec<_>>>()?.into();
        let connections = Arc::new(Connections::default());
        let count = settings.shards.max(1);
        let (shards, threads): (Vec<_>, Vec<_>) = (0..count)
            .map(|index| {
                let sink = SocketSink::new(&port.udp, senders.clone(), connections.clone())?;
                shard::spawn(index, settings.cores.get(index).copied(), sink, events.clone())
            })
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let shards: Arc<[ShardInbox]> = shards.into();
        let config = SessionConfig { identity, candidates };
        let sessions = Sessions::new(config, settings.connect_timeout, settings.remb_policy, count);
        let shared = Arc::new(Shared::new(sessions));
        let (incoming, incoming_rx) = mpsc::channel(TCP_QUEUE);
        let driver = Driver::new(port.udp, (connections.clone(), incoming_rx), shared.clone(), shards.clone(), events)?;
        for listener in port.tcp {
            shutdown.spawn(tcp::accept(listener, connections.clone(), incoming.clone(), shutdown.clone()));
        }
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            driver.run(stop).await;
            // The driver has told them to stop.
            let _ = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| drop(t.join()))).await;
        });
        Ok(Self { shared, shards, connections, missed_by_taps: Arc::default() })
    }

    /// Opens a stream and returns where its frames go.
    pub fn open_stream(&self, stream: StreamId) -> Arc<dyn FrameSink> {
        let audience = self.shared.lock().open_stream(stream);
        self.shared.wake.notify_one();
        Arc::new(ShardSink { stream, shards: self.shards.clone(), audience })
    }

    /// Closes a stream and all its viewers; each yields [`EgressEvent::Closed`] with `reason`.
    pub fn close_stream(&self, stream: StreamId, reason: CloseReason) {
        self.shared.lock().close_stream(stream, &reason, Instant::now());
        self.shared.wake.notify_one();
    }

    /// The frames of a stream as they are, from the running group of pictures on. Of a stream that is not open
    /// there are none.
    pub fn tap(&self, stream: StreamId) -> FrameTap {
        // Every shard has every frame.
        let watching = self.shared.lock().audience(stream).map(|audience| audience.join(0));
        let (tap, reader) = tap::tap(self.missed_by_taps.clone(), watching);
        // A queue that is full drops the tap, and its reader sees the end.
        if let Some(shard) = self.shards.first() {
            let _ = shard.command(Command::Tap(stream, tap));
        }
        reader
    }

    /// Accepts a viewer: parses the offer and makes the answer.
    ///
    /// # Errors
    ///
    /// [`ViewerError`].
    pub async fn add_viewer(&self, viewer: AddViewer) -> Result<ViewerAnswer, ViewerError> {
        let offer = ParsedOffer::parse(&viewer.offer).map_err(|e| ViewerError::Offer(e.to_string()))?;
        let answer = self.shared.lock().add(&viewer, &offer, Instant::now());
        self.shared.wake.notify_one();
        answer
    }

    /// Takes the next offer of a running viewer's peer connection: an ICE restart, after which DTLS and SRTP go on.
    ///
    /// # Errors
    ///
    /// [`RestartError`]; the session goes on as it was.
    pub fn restart_viewer(&self, viewer: ViewerId, offer: &str) -> Result<ViewerAnswer, RestartError> {
        let offer = ParsedOffer::parse(offer).map_err(|e| RestartError::Offer(e.to_string()))?;
        self.shared.lock().restart(viewer, &offer)
    }

    /// Restarts ICE for a viewer whose client has only sent its new user fragment (WHEP `PATCH`, RFC 8840 §4.4).
    ///
    /// # Errors
    ///
    /// [`RestartError`]; the session goes on as it was.
    pub fn restart_ice(&self, viewer: ViewerId, remote_ufrag: &str) -> Result<IceRestart, RestartError> {
        self.shared.lock().restart_ice(viewer, remote_ufrag)
    }

    /// What arrived on the viewer port in vain since the start, by reason.
    pub fn drops(&self) -> Drops {
        let (stranger, sessions) = self.shared.lock().drops();
        Drops { stranger, sessions, tcp: self.connections.counters() }
    }

    /// Ends a viewer's session; unknown ids are ignored.
    pub fn remove_viewer(&self, viewer: ViewerId, reason: CloseReason) {
        self.shared.lock().remove(viewer, reason, Instant::now());
        self.shared.wake.notify_one();
    }

    /// Current figures, or `None` for a viewer that is not there.
    pub fn viewer_stats(&self, viewer: ViewerId) -> Option<ViewerStats> {
        self.shared.lock().stats(viewer, Instant::now(), SystemTime::now())
    }

    pub(super) fn collect_sessions(&self, page: &mut Page) {
        self.shared.lock().collect(page, Instant::now(), SystemTime::now());
    }

    /// Frames that a shard had to drop because it was too slow.
    pub fn dropped_frames(&self) -> u64 {
        self.shards.iter().map(ShardInbox::dropped_frames).sum()
    }

    /// Frames that wait for the shards now, those of the one that is farthest behind.
    pub fn waiting_frames(&self) -> u64 {
        self.shards.iter().map(ShardInbox::waiting_frames).max().unwrap_or(0)
    }

    /// Frames that readers of [`EgressHandle::tap`] were too slow for.
    pub fn missed_frames(&self) -> u64 {
        self.missed_by_taps.load(Ordering::Relaxed)
    }
}
