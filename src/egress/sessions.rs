//! All viewer sessions behind the one viewer port: who a datagram is for, what each session wants done.
//!
//! Sans-IO. A datagram finds its session by ICE ufrag first and by source address afterwards; a source
//! is known only after its integrity check (design §2).

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::handle::{
    AddViewer, Candidate, CloseReason, EgressEvent, IceRestart, RestartError, ViewerAnswer, ViewerError, ViewerStats,
};
use super::limits::ViewerLimits;
use super::shard::Command;
use super::viewer::{NewViewer, Path, ViewerCounters};
use crate::base::{StreamId, Timers, ViewerId};
use crate::media::{Codec, Ssrc};
use crate::webrtc::{
    Answer, CloseCause, Feedback, LocalCandidate, Output, ParsedOffer, Remote, ReofferError, RunningCodecs, Session,
    SessionConfig, SessionCounters, request_ufrag,
};

/// Middle 32 bits of NTP time count 1/65,536 s.
const NTP_SHORT: f64 = 65_536.0;
/// A round trip longer than this is a wrapped or made-up figure.
const MAX_RTT_SECONDS: f64 = 60.0;

/// Packets that one viewer may miss at once; more is a loss that only a keyframe cures.
const MAX_NACKED: usize = 1_024;
/// Proven addresses of one viewer; when there are more, those whose proof has expired are forgotten.
const MAX_SOURCES: usize = 16;

/// What is to be done outside.
pub(super) enum Action {
    Send {
        path: Path,
        datagram: Vec<u8>,
    },
    /// To the shard with this index.
    Shard(usize, Command),
}

/// Whose a datagram was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody's.
    Stranger,
    /// It names a viewer, which has proved nothing from there.
    Unproven,
    /// A viewer's, who has passed an authenticated check from there.
    Proven,
}

struct Entry {
    session: Session,
    /// Under which checks find it: the present fragment, and the one before an ICE restart.
    ufrags: Vec<String>,
    /// For the answers after the first.
    profile_level_id: Option<String>,
    audio: Option<Codec>,
    stream: StreamId,
    shard: usize,
    counters: Arc<ViewerCounters>,
    sources: HashSet<Remote>,
    path: Option<Path>,
    connect_by: Option<Instant>,
    stats: ViewerStats,
}

pub(super) struct Sessions {
    config: SessionConfig,
    connect_timeout: Duration,
    /// Viewers per shard: the next one goes where there are fewest.
    load: Vec<usize>,
    entries: HashMap<ViewerId, Entry>,
    streams: HashSet<StreamId>,
    by_ufrag: HashMap<String, ViewerId>,
    by_source: HashMap<Remote, ViewerId>,
    timers: Timers<ViewerId>,
    limits: ViewerLimits,
    actions: VecDeque<Action>,
    events: VecDeque<EgressEvent>,
    strangers: u64,
    /// Counters of sessions that are over.
    ended: SessionCounters,
}

impl Sessions {
    pub(super) fn new(config: SessionConfig, connect_timeout: Duration, shards: usize) -> Self {
        Self {
            config,
            connect_timeout,
            load: vec![0; shards.max(1)],
            entries: HashMap::new(),
            streams: HashSet::new(),
            by_ufrag: HashMap::new(),
            by_source: HashMap::new(),
            timers: Timers::default(),
            limits: ViewerLimits::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            strangers: 0,
            ended: SessionCounters::default(),
        }
    }

    pub(super) fn open_stream(&mut self, stream: StreamId) {
        self.streams.insert(stream);
        for shard in 0..self.load.len() {
            self.actions.push_back(Action::Shard(shard, Command::OpenStream(stream)));
        }
    }

    pub(super) fn close_stream(&mut self, stream: StreamId, reason: &CloseReason, now: Instant) {
        self.streams.remove(&stream);
        let viewers: Vec<_> = self.entries.iter().filter(|(_, e)| e.stream == stream).map(|(id, _)| *id).collect();
        for viewer in viewers {
            self.remove(viewer, reason.clone(), now);
        }
        self.limits.close_stream(stream);
        for shard in 0..self.load.len() {
            self.actions.push_back(Action::Shard(shard, Command::CloseStream(stream)));
        }
    }

    /// Accepts a viewer whose offer was parsed.
    pub(super) fn add(
        &mut self,
        add: &AddViewer,
        offer: &ParsedOffer,
        now: Instant,
    ) -> Result<ViewerAnswer, ViewerError> {
        if !self.streams.contains(&add.stream) {
            return Err(ViewerError::NoStream);
        }
        let running = RunningCodecs { profile_level_id: add.profile_level_id.as_deref(), audio: add.audio };
        let (session, answer) =
            Session::accept(offer, &self.config, running, now).map_err(|e| ViewerError::Offer(e.to_string()))?;
        let shard = (0..self.load.len()).min_by_key(|shard| self.load[*shard]).unwrap_or(0);
        self.load[shard] += 1;
        self.by_ufrag.insert(session.local_ufrag().to_owned(), add.viewer);
        let entry = Entry {
            ufrags: vec![session.local_ufrag().to_owned()],
            session,
            profile_level_id: add.profile_level_id.clone(),
            audio: add.audio,
            stream: add.stream,
            shard,
            counters: Arc::default(),
            sources: HashSet::new(),
            path: None,
            connect_by: Some(now + self.connect_timeout),
            stats: ViewerStats::default(),
        };
        self.entries.insert(add.viewer, entry);
        self.rearm(add.viewer);
        Ok(viewer_answer(answer))
    }

    /// Takes the next offer of a running session.
    pub(super) fn restart(&mut self, viewer: ViewerId, offer: &ParsedOffer) -> Result<ViewerAnswer, RestartError> {
        let entry = self.entries.get_mut(&viewer).ok_or(RestartError::NoViewer)?;
        let running = RunningCodecs { profile_level_id: entry.profile_level_id.as_deref(), audio: entry.audio };
        let answer = entry.session.reoffer(offer, &self.config, running);
        let answer = answer.map_err(|error| match error {
            ReofferError::Offer(error) => RestartError::Offer(error.to_string()),
            other => RestartError::NotARestart(other.to_string()),
        })?;
        self.note_ufrag(viewer);
        Ok(viewer_answer(answer))
    }

    /// The same without SDP.
    pub(super) fn restart_ice(&mut self, viewer: ViewerId, remote_ufrag: &str) -> Result<IceRestart, RestartError> {
        let entry = self.entries.get_mut(&viewer).ok_or(RestartError::NoViewer)?;
        let ours = entry.session.restart_ice(remote_ufrag).map_err(|e| RestartError::Offer(e.to_string()))?;
        self.note_ufrag(viewer);
        let candidates = LocalCandidate::lines(&self.config.candidates);
        Ok(IceRestart { ufrag: ours.ufrag, pwd: ours.pwd, candidates })
    }

    fn note_ufrag(&mut self, viewer: ViewerId) {
        let Some(entry) = self.entries.get_mut(&viewer) else { return };
        let present = entry.session.local_ufrag();
        if entry.ufrags.iter().any(|ufrag| ufrag == present) {
            return;
        }
        self.by_ufrag.insert(present.to_owned(), viewer);
        entry.ufrags.push(present.to_owned());
        entry.ufrags.retain(|ufrag| {
            let answers = entry.session.answers_to(ufrag);
            if !answers {
                self.by_ufrag.remove(ufrag);
            }
            answers
        });
    }

    /// A connection has ended.
    pub(super) fn on_disconnected(&mut self, remote: Remote) {
        if let Some(entry) = self.by_source.remove(&remote).and_then(|viewer| self.entries.get_mut(&viewer)) {
            entry.sources.remove(&remote);
            entry.session.disconnected(remote);
        }
    }

    /// Datagrams that belonged to nobody, and what sessions had no use for.
    pub(super) fn drops(&self) -> (u64, SessionCounters) {
        let mut all = self.ended;
        self.entries.values().for_each(|entry| all += *entry.session.counters());
        (self.strangers, all)
    }

    pub(super) fn remove(&mut self, viewer: ViewerId, reason: CloseReason, now: Instant) {
        let Some(mut entry) = self.entries.remove(&viewer) else { return };
        entry.session.close(now);
        while let Some(output) = entry.session.poll_output() {
            if let Output::Transmit { to, datagram } = output {
                let local = entry.path.and_then(|path| path.local);
                self.actions.push_back(Action::Send { path: Path { remote: to, local }, datagram });
            }
        }
        entry.counters.closed.store(true, Ordering::Relaxed);
        self.actions.push_back(Action::Shard(entry.shard, Command::Remove(viewer)));
        self.load[entry.shard] -= 1;
        for ufrag in &entry.ufrags {
            self.by_ufrag.remove(ufrag);
        }
        self.ended += *entry.session.counters();
        for source in &entry.sources {
            self.by_source.remove(source);
        }
        self.timers.set(viewer, None);
        if let Some((stream, bits_per_second)) = self.limits.remove(viewer, now) {
            self.events.push_back(EgressEvent::ViewerLimit { stream, bits_per_second });
        }
        self.events.push_back(EgressEvent::Closed { viewer, reason });
    }

    pub(super) fn stats(&self, viewer: ViewerId) -> Option<ViewerStats> {
        let entry = self.entries.get(&viewer)?;
        let audio = entry.session.tracks().audio.iter().flat_map(|track| &track.formats);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Some(ViewerStats {
            remote: entry.path.map(|path| path.remote.address),
            over_tcp: entry.path.is_some_and(|path| path.remote.connection.is_some()),
            packets: count(&entry.counters.packets),
            bytes: count(&entry.counters.bytes),
            retransmissions: count(&entry.counters.retransmissions),
            audio_codecs: audio.map(|format| format.codec).collect(),
            audio_unplayable: count(&entry.counters.audio_unplayable),
            ..entry.stats.clone()
        })
    }

    /// One datagram on the viewer port; `ntp_short` are the middle 32 bits of the NTP time at `now`.
    pub(super) fn on_datagram(
        &mut self,
        source: Remote,
        local: Option<IpAddr>,
        datagram: &[u8],
        now: Instant,
        ntp_short: u32,
    ) -> Standing {
        let by_ufrag = || request_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(&ufrag)).copied();
        let Some(viewer) = by_ufrag().or_else(|| self.by_source.get(&source).copied()) else {
            self.strangers += 1;
            return Standing::Stranger;
        };
        let Some(entry) = self.entries.get_mut(&viewer) else { return Standing::Stranger };
        entry.session.handle_datagram(source, datagram, now);
        let proven = entry.session.is_proven(source, now);
        if proven && entry.sources.insert(source) {
            // An address that moved on from another session belongs to whoever proved it last.
            if let Some(previous) = self.by_source.insert(source, viewer).filter(|previous| *previous != viewer)
                && let Some(previous) = self.entries.get_mut(&previous)
            {
                previous.sources.remove(&source);
            }
        }
        self.forget_old_sources(viewer, now);
        self.drain(viewer, local, now, ntp_short);
        if proven { Standing::Proven } else { Standing::Unproven }
    }

    fn forget_old_sources(&mut self, viewer: ViewerId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&viewer) else { return };
        if entry.sources.len() > MAX_SOURCES {
            let (session, by_source) = (&entry.session, &mut self.by_source);
            entry.sources.retain(|source| {
                let stays = session.is_proven(*source, now);
                if !stays {
                    by_source.remove(source);
                }
                stays
            });
        }
    }

    pub(super) fn poll_timeout(&mut self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, ntp_short: u32) {
        while let Some(viewer) = self.timers.expired(now) {
            let Some(entry) = self.entries.get_mut(&viewer) else { continue };
            if entry.connect_by.is_some_and(|by| now >= by) {
                self.remove(viewer, CloseReason::ConnectTimeout, now);
                continue;
            }
            entry.session.handle_timeout(now);
            let local = entry.path.and_then(|path| path.local);
            self.drain(viewer, local, now, ntp_short);
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<EgressEvent> {
        self.events.pop_front()
    }

    /// Carries out what a session wants; answers leave from the address that was talked to.
    fn drain(&mut self, viewer: ViewerId, local: Option<IpAddr>, now: Instant, ntp_short: u32) {
        loop {
            let Some(entry) = self.entries.get_mut(&viewer) else { return };
            match entry.session.poll_output() {
                None => break,
                Some(Output::Transmit { to, datagram }) => {
                    self.actions.push_back(Action::Send { path: Path { remote: to, local }, datagram });
                }
                Some(Output::Path(remote)) => {
                    let path = Path { remote, local };
                    entry.path = Some(path);
                    if entry.stats.connected {
                        self.actions.push_back(Action::Shard(entry.shard, Command::SetPath(viewer, path)));
                    }
                }
                Some(Output::Connected { sealer, .. }) => {
                    let Some(path) = entry.path else { continue };
                    entry.stats.connected = true;
                    entry.connect_by = None;
                    let new = NewViewer {
                        viewer,
                        stream: entry.stream,
                        tracks: entry.session.tracks().clone(),
                        sealer,
                        path,
                        counters: entry.counters.clone(),
                    };
                    self.actions.push_back(Action::Shard(entry.shard, Command::Add(Box::new(new))));
                    self.events.push_back(EgressEvent::Connected { viewer });
                }
                Some(Output::Feedback(feedback)) => self.on_feedback(viewer, feedback, ntp_short, now),
                Some(Output::Closed(cause)) => {
                    self.remove(viewer, cause.into(), now);
                    return;
                }
            }
        }
        self.rearm(viewer);
    }

    fn on_feedback(&mut self, viewer: ViewerId, feedback: Feedback, ntp_short: u32, now: Instant) {
        let Some(entry) = self.entries.get_mut(&viewer) else { return };
        let video = entry.session.tracks().video.as_ref().map(|track| track.ssrc);
        let stream = entry.stream;
        let mut limit = None;
        match feedback {
            Feedback::Pli { ssrc } | Feedback::Fir { ssrc } if Some(ssrc) == video => {
                entry.stats.plis += 1;
                self.events.push_back(EgressEvent::KeyframeWanted { stream: entry.stream });
                self.actions.push_back(Action::Shard(entry.shard, Command::Restart(viewer)));
            }
            Feedback::Nack { ssrc, seqs } => {
                entry.stats.nacks += seqs.len() as u64;
                // One command for the many NACKs that one datagram can hold.
                match self.actions.back_mut() {
                    Some(Action::Shard(_, Command::Retransmit(to, of, lost))) if (*to, *of) == (viewer, ssrc) => {
                        let room = MAX_NACKED.saturating_sub(lost.len());
                        lost.extend(seqs.into_iter().take(room));
                    }
                    _ => self.actions.push_back(Action::Shard(entry.shard, Command::Retransmit(viewer, ssrc, seqs))),
                }
            }
            Feedback::Report(report) if Some(Ssrc(report.ssrc)) == video => {
                entry.stats.fraction_lost = f64::from(report.fraction_lost) / 256.0;
                limit = self.limits.on_loss(stream, viewer, entry.stats.fraction_lost, now);
                if report.last_sr != 0 {
                    // RFC 3550 §6.4.1: A - LSR - DLSR.
                    let round_trip = ntp_short.wrapping_sub(report.last_sr).wrapping_sub(report.delay_since_last_sr);
                    let seconds = f64::from(round_trip) / NTP_SHORT;
                    if seconds < MAX_RTT_SECONDS {
                        entry.stats.rtt_ms = Some(seconds * 1_000.0);
                    }
                }
            }
            Feedback::Remb { bitrate } => {
                entry.stats.remb = Some(bitrate);
                limit = self.limits.on_remb(stream, viewer, bitrate, now);
            }
            _ => {}
        }
        if let Some(bits_per_second) = limit {
            self.events.push_back(EgressEvent::ViewerLimit { stream, bits_per_second });
        }
    }

    fn rearm(&mut self, viewer: ViewerId) {
        if let Some(entry) = self.entries.get(&viewer) {
            let deadlines = entry.session.poll_timeout().into_iter().chain(entry.connect_by);
            self.timers.set(viewer, deadlines.min());
        }
    }
}

/// As pages take it.
fn viewer_answer(answer: Answer) -> ViewerAnswer {
    let (sdp_mid, sdp_m_line_index) = (answer.mid, answer.m_line_index);
    let candidate = |candidate| Candidate { candidate, sdp_mid: sdp_mid.clone(), sdp_m_line_index };
    ViewerAnswer { candidates: answer.candidates.into_iter().map(candidate).collect(), sdp: answer.sdp }
}

impl From<CloseCause> for CloseReason {
    fn from(cause: CloseCause) -> Self {
        match cause {
            CloseCause::PeerClosed => Self::PeerClosed,
            CloseCause::ConsentExpired => Self::ConsentExpired,
            other => Self::Failed(other.to_string()),
        }
    }
}
