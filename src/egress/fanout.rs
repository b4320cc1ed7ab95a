//! The fan-out of one shard: frames in, sealed runs out, for every viewer the shard owns.
//!
//! Single-threaded and free of sockets and clocks, so that benches and tests drive it as the shard does.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::rate::RateMeter;
use super::tap::Tap;
use super::viewer::{Heard, Memory, NewViewer, PROBE_TURN, Path, RunSink, ViewerOut, Waiting};
use crate::base::{StreamId, ViewerId};
use crate::media::cache::{GopCache, PacketRing};
use crate::media::{ClockPoint, Frame, MediaKind, SeqNo, Ssrc};

/// Packets remembered for retransmission: about 4 s of video at 2 Mbit/s, 5 s of sound.
const RING_PACKETS: [usize; 2] = [1_024, 256];

/// Replays have a pace each (`viewer::backlog`). Together they share this many packets per [`REPLAY_TURN`]: with 1,200
/// bytes about 600 Mbit/s, so that a burst of viewers cannot push live packets out of the socket's buffer.
const REPLAY_PACKETS: usize = 64;
const REPLAY_TURN: Duration = Duration::from_millis(1);
/// Between looks at what is due of replays.
const REPLAY_LOOK: Duration = Duration::from_millis(5);
/// The socket's buffer was full: it gets this long to drain.
const REPLAY_PAUSE: Duration = Duration::from_millis(4);

/// Streams and viewers of one shard.
#[derive(Default)]
pub struct Fanout {
    streams: HashMap<StreamId, StreamOut>,
    /// Where each viewer is: its stream, and its place in the stream's list.
    watching: HashMap<ViewerId, (StreamId, usize)>,
    /// Viewers with a backlog, in turn. One that has left is passed over.
    replaying: VecDeque<ViewerId>,
    next_replay: Option<Instant>,
    /// Viewers whose path is being probed, or that get a keyframe slowly.
    turning: Vec<ViewerId>,
    next_turn: Option<Instant>,
    /// Streams of which a keyframe is wanted.
    wanted: Vec<StreamId>,
    /// Scratch for the run being built.
    run: Vec<u8>,
}

struct StreamOut {
    gop: GopCache,
    rings: [PacketRing; 2],
    clocks: [Option<ClockPoint>; 2],
    rate: RateMeter,
    viewers: Vec<ViewerOut>,
    taps: Vec<Tap>,
}

/// What a packet is longer than its payload by, headers of IP and UDP included.
const PACKET_OVERHEAD: usize = 12 + 16 + 28;

impl Fanout {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects frames of a stream.
    pub fn open_stream(&mut self, stream: StreamId) {
        let rings = RING_PACKETS.map(PacketRing::new);
        self.streams.entry(stream).or_insert(StreamOut {
            gop: GopCache::default(),
            rings,
            clocks: [None; 2],
            rate: RateMeter::new(),
            viewers: Vec::new(),
            taps: Vec::new(),
        });
    }

    /// Forgets a stream and its viewers.
    pub fn close_stream(&mut self, stream: StreamId) {
        if let Some(out) = self.streams.remove(&stream) {
            for viewer in out.viewers {
                self.watching.remove(&viewer.viewer);
            }
        }
    }

    /// Adds a reader of the frames themselves, and gives it the group of pictures.
    pub(super) fn add_tap(&mut self, stream: StreamId, tap: Tap, now: Instant) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        tap.begin(&stream.gop, now);
        stream.taps.push(tap);
    }

    /// Adds a viewer and begins to show it the group of pictures.
    pub fn add_viewer(&mut self, new: NewViewer, now: Instant, sink: &mut impl RunSink) {
        let Some(stream) = self.streams.get_mut(&new.stream) else { return };
        let id = new.viewer;
        self.watching.insert(id, (new.stream, stream.viewers.len()));
        let mut viewer = ViewerOut::new(new, now);
        let replays = viewer.start(&stream.gop, now);
        stream.viewers.push(viewer);
        if replays {
            self.replaying.push_back(id);
            self.replay(now, sink);
        }
    }

    /// Forgets a viewer.
    pub fn remove_viewer(&mut self, viewer: ViewerId) {
        let Some((stream, place)) = self.watching.remove(&viewer) else { return };
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        stream.viewers.swap_remove(place);
        if let Some(moved) = stream.viewers.get(place).and_then(|moved| self.watching.get_mut(&moved.viewer)) {
            moved.1 = place;
        }
    }

    /// Sends to another address from now on.
    pub fn set_path(&mut self, viewer: ViewerId, path: Path) {
        if let Some((out, ..)) = self.find(viewer) {
            out.set_path(path);
        }
    }

    /// The viewer lost its picture: shows it the group of pictures again, at most once a second and within
    /// reason.
    pub fn restart_viewer(&mut self, viewer: ViewerId, now: Instant, sink: &mut impl RunSink) {
        let starts = self.find(viewer).is_some_and(|(out, stream, _)| {
            out.on_lost_picture(now);
            out.start(stream.gop, now)
        });
        if starts {
            self.replaying.push_back(viewer);
            self.replay(now, sink);
        }
    }

    /// Goes on with the replays, if their time has come. Viewers take turns.
    pub fn replay(&mut self, now: Instant, sink: &mut impl RunSink) {
        if self.replaying.is_empty() || self.next_replay.is_some_and(|next| now < next) {
            return;
        }
        let mut budget = REPLAY_PACKETS;
        let mut pause = REPLAY_LOOK;
        let mut later = Vec::new();
        while let Some(viewer) = self.replaying.pop_front() {
            let Some((out, _, run)) = self.find(viewer) else { continue };
            // No viewer takes a whole turn while others wait.
            let mut share = budget.min(REPLAY_PACKETS / 2);
            let before = share;
            match out.send_backlog(&mut share, now, run, sink) {
                Ok(Waiting::Nothing) => {}
                Ok(Waiting::Later) => later.push(viewer),
                Ok(Waiting::Due) if budget == 0 => {
                    self.replaying.push_front(viewer);
                    pause = REPLAY_TURN;
                    break;
                }
                Ok(Waiting::Due) => self.replaying.push_back(viewer),
                // Its connection is full: the others go on.
                Err(_) if out.over_tcp() => later.push(viewer),
                Err(_) => {
                    self.replaying.push_back(viewer);
                    pause = REPLAY_PAUSE;
                    break;
                }
            }
            budget -= before - share;
        }
        self.replaying.extend(later);
        self.next_replay = Some(now + pause);
    }

    /// When [`Self::replay`] has something to do.
    pub fn next_replay(&self) -> Option<Instant> {
        self.next_replay.filter(|_| !self.replaying.is_empty())
    }

    /// The viewer misses packets of the source `ssrc`.
    pub fn retransmit(&mut self, viewer: ViewerId, ssrc: Ssrc, lost: &[SeqNo], now: Instant, sink: &mut impl RunSink) {
        if let Some((out, stream, run)) = self.find(viewer) {
            out.retransmit(ssrc, lost, stream, now, run, sink);
        }
    }

    /// The viewer said something about its path.
    pub fn heard(&mut self, viewer: ViewerId, heard: &Heard, now: Instant) {
        if let Some((out, Memory { rate, .. }, _)) = self.find(viewer) {
            out.on_heard(heard, rate, now);
            self.poll_thinning(viewer, now);
        }
    }

    fn poll_thinning(&mut self, viewer: ViewerId, now: Instant) {
        let Some((out, Memory { rate, rings, .. }, _)) = self.find(viewer) else { return };
        let (probes, wants_keyframe) = out.poll_thinning(rate, rings, now);
        if probes {
            if !self.turning.contains(&viewer) {
                self.turning.push(viewer);
            }
            self.next_turn.get_or_insert(now);
        }
        if wants_keyframe
            && let Some((stream, _)) = self.watching.get(&viewer)
            && !self.wanted.contains(stream)
        {
            self.wanted.push(*stream);
        }
    }

    /// Goes on with probes and with keyframes on narrow paths, if their time has come.
    pub fn take_turns(&mut self, now: Instant, sink: &mut impl RunSink) {
        if self.next_turn.is_none_or(|next| now < next) {
            return;
        }
        let mut turning = std::mem::take(&mut self.turning);
        turning.retain(|viewer| self.find(*viewer).is_some_and(|(out, _, run)| out.take_turn(now, run, sink)));
        self.turning = turning;
        self.next_turn = (!self.turning.is_empty()).then(|| now + PROBE_TURN);
    }

    /// The streams of which a keyframe is wanted since the last call.
    pub fn take_wanted(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.wanted)
    }

    /// When [`Self::take_turns`] or [`Self::replay`] has something to do.
    pub fn next_turn(&self) -> Option<Instant> {
        self.next_replay().into_iter().chain(self.next_turn).min()
    }

    /// A frame for everyone who watches the stream.
    pub fn on_frame(&mut self, stream: StreamId, frame: &Arc<Frame>, now: Instant, sink: &mut impl RunSink) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        stream.rings[frame.kind().index()].insert(frame);
        stream.clocks[frame.kind().index()] = Some(frame.clock);
        if frame.kind() == MediaKind::Video {
            stream.gop.push(frame);
            let bytes = frame.packets.iter().map(|packet| packet.payload.len() + PACKET_OVERHEAD).sum();
            // A shard without viewers takes its frames later.
            stream.rate.add(bytes, frame.arrived);
        }
        stream.taps.retain(|tap| tap.on_frame(frame));
        for viewer in &mut stream.viewers {
            if viewer.on_frame(frame, now, &mut self.run, sink) && !self.turning.contains(&viewer.viewer) {
                self.turning.push(viewer.viewer);
                self.next_turn.get_or_insert(now);
            }
        }
    }

    /// Sender reports that are due, and viewers that were closed meanwhile. To be called a few times a
    /// second; `wall` is the system time at `now`.
    pub fn tick(&mut self, now: Instant, wall: SystemTime, sink: &mut impl RunSink) {
        let gone: Vec<ViewerId> =
            self.viewers().filter(|out| out.counters.closed.load(Ordering::Relaxed)).map(|out| out.viewer).collect();
        gone.into_iter().for_each(|viewer| self.remove_viewer(viewer));
        let mut due = Vec::new();
        for stream in self.streams.values_mut() {
            for viewer in &mut stream.viewers {
                viewer.report(&stream.clocks, now, wall, sink);
                viewer.send_held(now, &mut self.run, sink);
                if viewer.has_pending_thinning() {
                    due.push(viewer.viewer);
                }
            }
        }
        due.into_iter().for_each(|viewer| self.poll_thinning(viewer, now));
    }

    /// Whether anybody watches.
    pub fn has_viewers(&self) -> bool {
        !self.watching.is_empty()
    }

    fn viewers(&self) -> impl Iterator<Item = &ViewerOut> {
        self.streams.values().flat_map(|stream| &stream.viewers)
    }

    fn find(&mut self, viewer: ViewerId) -> Option<(&mut ViewerOut, Memory<'_>, &mut Vec<u8>)> {
        let (stream, place) = self.watching.get(&viewer)?;
        let StreamOut { gop, rings, rate, viewers, .. } = self.streams.get_mut(stream)?;
        let out = viewers.get_mut(*place)?;
        Some((out, Memory { gop, rings, rate: rate.bits_per_second() }, &mut self.run))
    }
}

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod narrow_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod weak_tests;
#[cfg(test)]
mod wrap_tests;
