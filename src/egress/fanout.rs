//! The fan-out of one shard: frames in, sealed runs out, for every viewer the shard owns.
//!
//! Single-threaded and free of sockets and clocks, so that benches and tests drive it as the shard does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use super::viewer::{NewViewer, Path, RunSink, ViewerOut};
use crate::base::{StreamId, ViewerId};
use crate::media::cache::{GopCache, PacketRing};
use crate::media::{ClockPoint, Frame, MediaKind, SeqNo, Ssrc};

/// Packets remembered for retransmission: about 4 s of video at 2 Mbit/s, 5 s of sound.
const RING_PACKETS: [usize; 2] = [1_024, 256];

/// Streams and viewers of one shard.
#[derive(Default)]
pub struct Fanout {
    streams: HashMap<StreamId, StreamOut>,
    watching: HashMap<ViewerId, StreamId>,
    /// Scratch for the run being built.
    run: Vec<u8>,
}

struct StreamOut {
    gop: GopCache,
    rings: [PacketRing; 2],
    clocks: [Option<ClockPoint>; 2],
    viewers: Vec<ViewerOut>,
}

/// What a viewer's output is made from.
struct Memory<'a> {
    gop: &'a GopCache,
    rings: &'a [PacketRing; 2],
}

impl Fanout {
    /// Nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects frames of a stream.
    pub fn open_stream(&mut self, stream: StreamId) {
        let rings = RING_PACKETS.map(PacketRing::new);
        let out = StreamOut { gop: GopCache::default(), rings, clocks: [None; 2], viewers: Vec::new() };
        self.streams.entry(stream).or_insert(out);
    }

    /// Forgets a stream and its viewers.
    pub fn close_stream(&mut self, stream: StreamId) {
        if let Some(out) = self.streams.remove(&stream) {
            for viewer in out.viewers {
                self.watching.remove(&viewer.viewer);
            }
        }
    }

    /// Adds a viewer and shows it the group of pictures at once.
    pub fn add_viewer(&mut self, new: NewViewer, now: Instant, sink: &mut impl RunSink) {
        let Some(stream) = self.streams.get_mut(&new.stream) else { return };
        self.watching.insert(new.viewer, new.stream);
        let mut viewer = ViewerOut::new(new, now);
        viewer.start(&stream.gop, now, &mut self.run, sink);
        stream.viewers.push(viewer);
    }

    /// Forgets a viewer.
    pub fn remove_viewer(&mut self, viewer: ViewerId) {
        let Some(stream) = self.watching.remove(&viewer).and_then(|stream| self.streams.get_mut(&stream)) else {
            return;
        };
        stream.viewers.retain(|out| out.viewer != viewer);
    }

    /// Sends to another address from now on.
    pub fn set_path(&mut self, viewer: ViewerId, path: Path) {
        if let Some((out, ..)) = self.find(viewer) {
            out.set_path(path);
        }
    }

    /// The viewer lost its picture: shows it the group of pictures again, at most once a second.
    pub fn restart_viewer(&mut self, viewer: ViewerId, now: Instant, sink: &mut impl RunSink) {
        if let Some((out, stream, run)) = self.find(viewer) {
            out.start(stream.gop, now, run, sink);
        }
    }

    /// The viewer misses packets of the source `ssrc`.
    pub fn retransmit(&mut self, viewer: ViewerId, ssrc: Ssrc, lost: &[SeqNo], now: Instant, sink: &mut impl RunSink) {
        if let Some((out, stream, run)) = self.find(viewer) {
            out.retransmit(ssrc, lost, stream.rings, now, run, sink);
        }
    }

    /// A frame for everyone who watches the stream.
    pub fn on_frame(&mut self, stream: StreamId, frame: &Arc<Frame>, now: Instant, sink: &mut impl RunSink) {
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        stream.rings[frame.kind.index()].insert(frame);
        stream.clocks[frame.kind.index()] = Some(frame.clock);
        if frame.kind == MediaKind::Video {
            stream.gop.push(frame);
        }
        for viewer in &mut stream.viewers {
            viewer.on_frame(frame, now, &mut self.run, sink);
        }
    }

    /// Sender reports that are due, and viewers that were closed meanwhile. To be called a few times a
    /// second; `wall` is the system time at `now`.
    pub fn tick(&mut self, now: Instant, wall: SystemTime, sink: &mut impl RunSink) {
        for stream in self.streams.values_mut() {
            let watching = &mut self.watching;
            stream.viewers.retain(|out| {
                let stays = !out.counters.closed.load(Ordering::Relaxed);
                if !stays {
                    watching.remove(&out.viewer);
                }
                stays
            });
            for viewer in &mut stream.viewers {
                viewer.report(&stream.clocks, now, wall, sink);
            }
        }
    }

    /// Whether anybody watches.
    pub fn has_viewers(&self) -> bool {
        !self.watching.is_empty()
    }

    fn find(&mut self, viewer: ViewerId) -> Option<(&mut ViewerOut, Memory<'_>, &mut Vec<u8>)> {
        let StreamOut { gop, rings, viewers, .. } = self.streams.get_mut(self.watching.get(&viewer)?)?;
        let out = viewers.iter_mut().find(|out| out.viewer == viewer)?;
        Some((out, Memory { gop, rings }, &mut self.run))
    }
}

#[cfg(test)]
mod tests;
