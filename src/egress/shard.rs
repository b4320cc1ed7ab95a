//! A shard: one thread that owns a share of the viewers and sends them every frame.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use super::audience::Audience;
use super::fanout::Fanout;
use super::handle::EgressEvent;
use super::tap::Tap;
use super::tcp_connections::Connections;
use super::viewer::{Heard, NewViewer, Path, RunSink};
use tokio::sync::mpsc;

use crate::base::udp::RunSender;
use crate::base::{StreamId, ViewerId, cores};
use crate::media::{Frame, FrameSink, SeqNo, Ssrc};
use crate::webrtc::Remote;

/// Frames that may wait for a shard: more than a second of 200 cameras. When full, the newest is dropped
/// and counted; viewers see it as loss.
const FRAME_QUEUE: usize = 8_192;
/// Commands that may wait. When full, the sender keeps them, but for NACKs and PLIs, which browsers repeat.
const COMMAND_QUEUE: usize = 4_096;
/// Frames that nobody watches on a shard only have to be remembered: it takes so many at a time.
const UNWATCHED: u64 = 64;
/// Sender reports and closed viewers are looked after this often.
const TICK: Duration = Duration::from_millis(200);

pub(super) enum Command {
    OpenStream(StreamId),
    CloseStream(StreamId),
    Add(Box<NewViewer>),
    Tap(StreamId, Tap),
    Remove(ViewerId),
    SetPath(ViewerId, Path),
    Restart(ViewerId),
    Retransmit(ViewerId, Ssrc, Vec<SeqNo>),
    Heard(ViewerId, Heard),
    Stop,
}

/// The sending end of a shard's queues; cheap to clone.
#[derive(Clone)]
pub(super) struct ShardInbox {
    frames: SyncSender<(StreamId, Arc<Frame>)>,
    commands: SyncSender<Command>,
    thread: Thread,
    dropped: Arc<AtomicU64>,
    /// Frames in the queue; the shard counts down.
    waiting: Arc<AtomicU64>,
}

impl ShardInbox {
    /// Hands a command over.
    ///
    /// # Errors
    ///
    /// The command, when the queue is full.
    pub(super) fn command(&self, command: Command) -> Result<(), Command> {
        let taken = self.commands.try_send(command);
        self.thread.unpark();
        match taken {
            Err(TrySendError::Full(command)) => Err(command),
            // A shard that has ended needs nothing any more.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    fn frame(&self, stream: StreamId, frame: Arc<Frame>, watched: bool) {
        // Counted before the shard can take it, or the figure would fall below zero.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.frames.try_send((stream, frame)).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if wakes(watched, waiting) {
            self.thread.unpark();
        }
    }

    /// Frames that wait for the shard now.
    pub(super) fn waiting_frames(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Frames dropped because the shard was too slow.
    pub(super) fn dropped_frames(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Whether a shard with so many frames `waiting` already is woken for one more.
fn wakes(watched: bool, waiting: u64) -> bool {
    watched || waiting >= UNWATCHED
}

/// Hands the frames of one stream to every shard.
pub(super) struct ShardSink {
    pub(super) stream: StreamId,
    pub(super) shards: Arc<[ShardInbox]>,
    pub(super) audience: Audience,
}

impl FrameSink for ShardSink {
    fn push(&self, frame: Arc<Frame>) {
        for (index, shard) in self.shards.iter().enumerate() {
            shard.frame(self.stream, frame.clone(), self.audience.on(index) > 0);
        }
    }
}

/// Starts a shard's thread.
///
/// # Errors
///
/// The system cannot start a thread.
pub(super) fn spawn(
    index: usize,
    core: Option<usize>,
    mut sink: SocketSink,
    events: mpsc::Sender<EgressEvent>,
) -> io::Result<(ShardInbox, JoinHandle<()>)> {
    let (frames, frames_in) = sync_channel(FRAME_QUEUE);
    let (commands, commands_in) = sync_channel(COMMAND_QUEUE);
    let waiting = Arc::<AtomicU64>::default();
    let taken = waiting.clone();
    let handle = thread::Builder::new().name(format!("egress-{index}")).spawn(move || {
        if let Some(Err(error)) = core.map(cores::stay_on) {
            tracing::debug!(%error, index, "this sending thread runs on any core");
        }
        run(&frames_in, &taken, &commands_in, &events, &mut sink);
    })?;
    let thread = handle.thread().clone();
    let inbox = ShardInbox { frames, commands, thread, dropped: Arc::default(), waiting };
    Ok((inbox, handle))
}

fn run(
    frames: &Receiver<(StreamId, Arc<Frame>)>,
    waiting: &AtomicU64,
    commands: &Receiver<Command>,
    events: &mpsc::Sender<EgressEvent>,
    sink: &mut SocketSink,
) {
    let mut fanout = Fanout::new();
    let take = |fanout: &mut Fanout, sink: &mut SocketSink| {
        let Ok((stream, frame)) = frames.try_recv() else { return false };
        waiting.fetch_sub(1, Ordering::Relaxed);
        fanout.on_frame(stream, &frame, Instant::now(), sink);
        true
    };
    let mut next_tick = Instant::now() + TICK;
    loop {
        let mut idle = true;
        while let Ok(command) = commands.try_recv() {
            idle = false;
            // Who comes sees what has come before as past.
            if matches!(command, Command::Add(_) | Command::Tap(..)) {
                while take(&mut fanout, sink) {}
            }
            if !apply(&mut fanout, command, sink) {
                return;
            }
        }
        idle &= !take(&mut fanout, sink);
        let now = Instant::now();
        fanout.replay(now, sink);
        fanout.take_turns(now, sink);
        for stream in fanout.take_wanted() {
            // A viewer that is ready asks again, should control have no room now.
            let _ = events.try_send(EgressEvent::KeyframeWanted { stream });
        }
        if now >= next_tick {
            fanout.tick(now, SystemTime::now(), sink);
            next_tick = now + TICK;
        }
        if idle {
            let wake = fanout.next_turn().map_or(next_tick, |turn| turn.min(next_tick));
            // A queue that filled since it was looked at has left an unpark token: this returns at once.
            if fanout.has_viewers() {
                thread::park_timeout(wake.saturating_duration_since(now))
            } else {
                thread::park()
            }
        }
    }
}

/// Returns whether the shard goes on.
fn apply(fanout: &mut Fanout, command: Command, sink: &mut SocketSink) -> bool {
    match command {
        Command::OpenStream(stream) => fanout.open_stream(stream),
        Command::CloseStream(stream) => fanout.close_stream(stream),
        Command::Add(viewer) => fanout.add_viewer(*viewer, Instant::now(), sink),
        Command::Tap(stream, tap) => fanout.add_tap(stream, tap, Instant::now()),
        Command::Remove(viewer) => fanout.remove_viewer(viewer),
        Command::SetPath(viewer, path) => fanout.set_path(viewer, path),
        Command::Restart(viewer) => fanout.restart_viewer(viewer, Instant::now(), sink),
        Command::Retransmit(viewer, ssrc, lost) => fanout.retransmit(viewer, ssrc, &lost, Instant::now(), sink),
        Command::Heard(viewer, heard) => fanout.heard(viewer, &heard, Instant::now()),
        Command::Stop => return false,
    }
    true
}

/// The sockets of the viewer port, as a shard uses them.
pub(super) struct SocketSink {
    senders: Arc<[RunSender]>,
    /// Which of them is for which family.
    v4: usize,
    v6: usize,
    connections: Arc<Connections>,
}

impl SocketSink {
    /// `senders` are those of `sockets`, in the same order.
    pub(super) fn new(
        sockets: &[UdpSocket],
        senders: Arc<[RunSender]>,
        connections: Arc<Connections>,
    ) -> io::Result<Self> {
        let (mut v4, mut v6) = (0, 0);
        for (index, socket) in sockets.iter().enumerate() {
            *if socket.local_addr()?.is_ipv4() { &mut v4 } else { &mut v6 } = index;
        }
        Ok(Self { senders, v4, v6, connections })
    }
}

impl RunSink for SocketSink {
    fn send_run(&mut self, path: Path, contents: &[u8], segment: usize) -> io::Result<()> {
        let Remote { address, connection } = path.remote;
        match connection {
            Some(id) => self.connections.send_run(id, contents, segment),
            None => {
                let index = if address.is_ipv4() { self.v4 } else { self.v6 };
                self.senders[index].send_run(address, path.local, contents, segment)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tap::{FrameTap, tap};
    use super::*;
    use crate::media::{ClockPoint, Codec, ExtSeq, FramePacket, RtpTime};

    const PATIENCE: Duration = Duration::from_secs(30);
    /// A shard that has been busy needs some of them until it sleeps.
    const ROUNDS: u64 = 200;

    struct Scene {
        inbox: ShardInbox,
        thread: JoinHandle<()>,
        stream: StreamId,
        now: Instant,
        frames: u64,
    }

    impl Scene {
        /// A shard with one stream.
        async fn new() -> Self {
            let socket = crate::base::udp::bind(([127, 0, 0, 1], 0).into(), 0, 0).unwrap();
            let senders = Arc::new([RunSender::new(socket.try_clone().unwrap()).unwrap()]);
            let sink = SocketSink::new(&[socket], senders, Arc::default()).unwrap();
            let (inbox, thread) = spawn(0, None, sink, mpsc::channel(1).0).unwrap();
            // Frames that are older than some seconds are shown to nobody; these never are.
            let (stream, now) = (StreamId::random(), Instant::now() + Duration::from_secs(3600));
            assert!(inbox.command(Command::OpenStream(stream)).is_ok());
            let mut scene = Self { inbox, thread, stream, now, frames: 0 };
            // The stream is there when it has been looked at.
            assert!(scene.comes().await.1.is_empty());
            scene
        }

        /// Sends a frame and returns its number.
        fn frame(&mut self, starts_keyframe: bool, watched: bool) -> u64 {
            self.frames += 1;
            let time = RtpTime(self.frames * 3_600);
            let clock = ClockPoint { at: self.now, rtp: RtpTime(0), rate: 90_000 };
            let (seq, payload) = (ExtSeq(self.frames), Bytes::from_static(&[0x41; 100]));
            let packets = vec![FramePacket { seq, marker: true, payload }];
            let (codec, arrived) = (Codec::H264, self.now);
            let frame = Frame { codec, time, starts_keyframe, packets, arrived, clock };
            self.inbox.frame(self.stream, Arc::new(frame), watched);
            self.frames
        }

        /// Somebody comes: what is shown as past.
        async fn comes(&mut self) -> (FrameTap, Vec<u64>) {
            let (shown, mut reader) = tap(Arc::default(), None);
            assert!(self.inbox.command(Command::Tap(self.stream, shown)).is_ok());
            let past = tokio::time::timeout(PATIENCE, reader.first()).await.expect("it is answered");
            (reader, past.iter().map(|frame| frame.packets[0].seq.0).collect())
        }

        fn ends(self) {
            assert!(self.inbox.command(Command::Stop).is_ok());
            self.thread.join().unwrap();
            assert_eq!(self.inbox.dropped_frames(), 0);
        }
    }

    #[tokio::test]
    async fn frames_for_which_nobody_was_woken_are_past_for_who_comes() {
        let mut scene = Scene::new().await;
        for _ in 0..ROUNDS {
            let sent: Vec<_> = (0..10).map(|n| scene.frame(n == 0, false)).collect();
            let (mut reader, past) = scene.comes().await;
            assert_eq!(past, sent);
            let live = scene.frame(false, true);
            let next = tokio::time::timeout(PATIENCE, reader.next()).await.expect("it was woken").unwrap();
            assert_eq!(next.packets[0].seq, ExtSeq(live), "neither twice nor late");
        }
        scene.ends();
    }

    #[tokio::test]
    async fn frames_that_nobody_watches_do_not_pile_up() {
        let mut scene = Scene::new().await;
        for _ in 0..ROUNDS {
            for n in 0..=UNWATCHED {
                scene.frame(n == 0, false);
            }
            let patience = Instant::now() + PATIENCE;
            while scene.inbox.waiting_frames() > UNWATCHED {
                assert!(Instant::now() < patience, "{} wait", scene.inbox.waiting_frames());
                thread::yield_now();
            }
        }
        scene.ends();
    }

    #[test]
    fn a_frame_wakes_who_is_watched_and_who_has_many_to_take() {
        assert!(wakes(true, 0) && wakes(false, UNWATCHED));
        assert!(!wakes(false, 0) && !wakes(false, UNWATCHED - 1));
    }
}
