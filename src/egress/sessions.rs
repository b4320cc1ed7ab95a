//! All viewer sessions behind the one viewer port: who a datagram is for, what each session wants done.
//!
//! Sans-IO. A datagram finds its session by ICE ufrag first and by source address afterwards; a source
//! is known only after its integrity check (design §2).

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::audience::{Audience, Watching};
use super::handle::{
    AddViewer, Candidate, CloseReason, EgressEvent, IceRestart, RestartError, ViewerAnswer, ViewerError,
};
use super::limits::{RembPolicy, Said, ViewerLimits};
use super::loss::LossMeter;
use super::shard::Command;
use super::stats::{ViewerCounters, ViewerStats};
use super::totals::{self, Totals};
use super::viewer::{Heard, NewViewer, Path};
use super::wishes::Wishes;
use crate::base::{StreamId, Timers, ViewerId};
use crate::media::{Codec, SeqNo, Ssrc};
use crate::telemetry::metrics::Page;
use crate::webrtc::{
    Answer, CloseCause, Feedback, LocalCandidate, Output, ParsedOffer, Remote, ReofferError, RunningCodecs, Session,
    SessionConfig, SessionCounters, request_ufrag,
};

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
    /// Until the session is over.
    _watching: Watching,
    counters: Arc<ViewerCounters>,
    sources: HashSet<Remote>,
    path: Option<Path>,
    offered: Instant,
    connect_by: Option<Instant>,
    wishes: Wishes,
    stats: ViewerStats,
    loss: LossMeter,
    /// The time to its first picture stands in the totals.
    first_picture_told: bool,
}

pub(super) struct Sessions {
    totals: Totals,
    config: SessionConfig,
    connect_timeout: Duration,
    /// Viewers per shard.
    load: Vec<usize>,
    entries: HashMap<ViewerId, Entry>,
    streams: HashMap<StreamId, Audience>,
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
    pub(super) fn new(
        config: SessionConfig,
        connect_timeout: Duration,
        remb_policy: RembPolicy,
        shards: usize,
    ) -> Self {
        Self {
            totals: Totals::default(),
            config,
            connect_timeout,
            load: vec![0; shards.max(1)],
            entries: HashMap::new(),
            streams: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_source: HashMap::new(),
            timers: Timers::default(),
            limits: ViewerLimits::new(remb_policy),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            strangers: 0,
            ended: SessionCounters::default(),
        }
    }

    pub(super) fn open_stream(&mut self, stream: StreamId) -> Audience {
        let shards = self.load.len();
        let audience = self.streams.entry(stream).or_insert_with(|| Audience::new(shards)).clone();
        for shard in 0..shards {
            self.actions.push_back(Action::Shard(shard, Command::OpenStream(stream)));
        }
        audience
    }

    /// Who watches the stream, if it is open.
    pub(super) fn audience(&self, stream: StreamId) -> Option<&Audience> {
        self.streams.get(&stream)
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
        let Some(audience) = self.streams.get(&add.stream) else { return Err(ViewerError::NoStream) };
        let running = RunningCodecs { profile_level_id: add.profile_level_id.as_deref(), audio: add.audio };
        let (session, answer) =
            Session::accept(offer, &self.config, running, now).map_err(|e| ViewerError::Offer(e.to_string()))?;
        let shard = audience.place(&self.load);
        let watching = audience.join(shard);
        self.load[shard] += 1;
        self.by_ufrag.insert(session.local_ufrag().to_owned(), add.viewer);
        let entry = Entry {
            ufrags: vec![session.local_ufrag().to_owned()],
            session,
            profile_level_id: add.profile_level_id.clone(),
            audio: add.audio,
            stream: add.stream,
            shard,
            _watching: watching,
            counters: Arc::default(),
            sources: HashSet::new(),
            path: None,
            offered: now,
            connect_by: Some(now + self.connect_timeout),
            wishes: Wishes::new(now),
            stats: ViewerStats::default(),
            loss: LossMeter::default(),
            first_picture_told: false,
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
        self.tell_first_picture(viewer);
        if let Some(stats) = self.stats(viewer, now, SystemTime::UNIX_EPOCH) {
            self.totals.gone.add(&stats);
        }
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
        let stream = entry.stream;
        if let Some(bits_per_second) = self.limits.remove(stream, viewer, now) {
            self.events.push_back(EgressEvent::ViewerLimit { stream, bits_per_second });
        }
        self.events.push_back(EgressEvent::Closed { viewer, reason });
    }

    /// Figures of a viewer; `wall` is the system time at `now`.
    /// What was done since the start, for metrics.
    pub(super) fn collect(&self, page: &mut Page, now: Instant, wall: SystemTime) {
        let stats = self.entries.keys().filter_map(|viewer| self.stats(*viewer, now, wall));
        totals::collect(page, &self.totals, stats);
    }

    /// The shard has noted it meanwhile; looked at now and then, and at the end.
    fn tell_first_picture(&mut self, viewer: ViewerId) {
        let Some(entry) = self.entries.get_mut(&viewer).filter(|entry| !entry.first_picture_told) else { return };
        if let Some(time) = entry.counters.first_keyframe() {
            entry.first_picture_told = true;
            self.totals.first_picture(time);
        }
    }

    pub(super) fn stats(&self, viewer: ViewerId, now: Instant, wall: SystemTime) -> Option<ViewerStats> {
        let entry = self.entries.get(&viewer)?;
        let path = entry.path;
        let audio = entry.session.tracks().audio.iter().flat_map(|track| &track.formats);
        let over_tcp = path.is_some_and(|path| path.remote.connection.is_some());
        let stats = ViewerStats {
            remote: path.map(|path| path.remote.address),
            local: path.and_then(|path| self.local_address(path)),
            protocol: path.map(|_| if over_tcp { "tcp" } else { "udp" }),
            audio_codecs: audio.map(|format| format.codec).collect(),
            ..entry.stats.clone()
        };
        Some(stats.with(&entry.counters, now, wall))
    }

    /// The address of ours on a path: what the datagrams were sent to where the system tells, else the first
    /// one that is advertised.
    fn local_address(&self, path: Path) -> Option<SocketAddr> {
        let first = self.config.candidates.first()?;
        Some(SocketAddr::new(path.local.unwrap_or(first.ip), first.port))
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
                Some(Output::Connected { sealer, profile }) => {
                    let Some(path) = entry.path else { continue };
                    entry.stats.connected = true;
                    entry.stats.srtp_profile = Some(profile.name());
                    entry.connect_by = None;
                    let new = NewViewer {
                        viewer,
                        stream: entry.stream,
                        tracks: entry.session.tracks().clone(),
                        sealer,
                        path,
                        counters: entry.counters.clone(),
                        offered: entry.offered,
                    };
                    self.actions.push_back(Action::Shard(entry.shard, Command::Add(Box::new(new))));
                    self.limits.add(entry.stream, viewer);
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
        self.tell_first_picture(viewer);
        let Some(entry) = self.entries.get_mut(&viewer) else { return };
        let video = entry.session.tracks().video.as_ref().map(|track| track.ssrc);
        let is_video = feedback.source().is_none_or(|ssrc| Some(ssrc) == video);
        let heard = match feedback {
            Feedback::Pli { .. } | Feedback::Fir { .. } if is_video => {
                let is_pli = matches!(feedback, Feedback::Pli { .. });
                *(if is_pli { &mut entry.stats.plis } else { &mut entry.stats.firs }) += 1;
                return self.on_lost_picture(viewer, now);
            }
            Feedback::Nack { ssrc, seqs } => {
                entry.stats.nacks += seqs.len() as u64;
                return self.on_nack(viewer, ssrc, seqs);
            }
            Feedback::Report(report) if is_video => Heard::Report {
                loss: entry.stats.on_report(&report, &mut entry.loss, now),
                round_trip: entry.stats.on_round_trip(&report, ntp_short),
            },
            Feedback::Remb { bitrate } => {
                entry.stats.remb = Some(bitrate);
                Heard::Remb(bitrate)
            }
            Feedback::Arrivals(arrivals) => Heard::Arrivals(arrivals),
            _ => return,
        };
        let (remb, loss) = match &heard {
            Heard::Remb(remb) => (Some(*remb), None),
            Heard::Report { loss, .. } => (None, loss.map(|loss| loss.fraction)),
            Heard::Arrivals(_) => (None, None),
        };
        let stream = entry.stream;
        if remb.is_some() || loss.is_some() {
            let thinned = entry.counters.thinned.load(Ordering::Relaxed);
            let said = Said { remb, loss, thinned, carries: entry.counters.rare().carries };
            if let Some(bits_per_second) = self.limits.on_said(stream, viewer, said, now) {
                self.events.push_back(EgressEvent::ViewerLimit { stream, bits_per_second });
            }
        }
        self.actions.push_back(Action::Shard(entry.shard, Command::Heard(viewer, heard)));
    }

    fn on_lost_picture(&mut self, viewer: ViewerId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&viewer) else { return };
        // A viewer whose path carries keyframes only is not to have everybody pay for more of them.
        if !entry.counters.thinned.load(Ordering::Relaxed) && entry.wishes.allows(now) {
            self.events.push_back(EgressEvent::KeyframeWanted { stream: entry.stream });
        }
        // One command for the many PLIs that one datagram can hold.
        if !matches!(self.actions.back(), Some(Action::Shard(_, Command::Restart(last))) if *last == viewer) {
            self.actions.push_back(Action::Shard(entry.shard, Command::Restart(viewer)));
        }
    }

    fn on_nack(&mut self, viewer: ViewerId, ssrc: Ssrc, seqs: Vec<SeqNo>) {
        let Some(entry) = self.entries.get(&viewer) else { return };
        // One command for the many NACKs that one datagram can hold.
        match self.actions.back_mut() {
            Some(Action::Shard(_, Command::Retransmit(to, of, lost))) if (*to, *of) == (viewer, ssrc) => {
                let room = MAX_NACKED.saturating_sub(lost.len());
                lost.extend(seqs.into_iter().take(room));
            }
            _ => self.actions.push_back(Action::Shard(entry.shard, Command::Retransmit(viewer, ssrc, seqs))),
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
