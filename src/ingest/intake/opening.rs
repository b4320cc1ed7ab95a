//! Opening streams: at once where the new stream can be told from all others, else with ports of its own, else
//! later. In the order of the calls.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{IngestEvent, Intake, expectation};
use crate::base::StreamId;
use crate::ingest::handle::{OpenError, OpenStream};
use crate::media::latch::{AFTERLIFE, Entrance, Expect};

/// How long an open waits at most: a camera's first packet and the grace of its sound are over by then, and one that
/// does not answer and was parked is forgotten. Whoever asked for the stream waits as well.
pub const OPEN_WAIT: Duration = AFTERLIFE.saturating_add(Duration::from_millis(500));
/// Packets that may be more than one stream's are refused for this long before the streams are served one by one:
/// an old source may be heard again, or a media clock may tell whose they are.
const DISPUTE_PATIENCE: Duration = Duration::from_secs(3);
/// Between two requests to a stream to yield.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often waiting opens are looked at: silence and graces end without a packet.
const INTERVAL: Duration = Duration::from_millis(50);

/// An open that waits.
pub(super) struct Opening {
    id: StreamId,
    expect: Expect,
    /// What is to begin; `None` for a stream that was parked.
    open: Option<OpenStream>,
    /// When it waits no longer. One that was parked waits for the others: they are parked in their turn.
    deadline: Option<Instant>,
    reply: oneshot::Sender<Result<Entrance, OpenError>>,
}

impl Opening {
    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn expect(&mut self, ip: IpAddr) {
        self.expect.announced = Some(ip);
    }
}

impl Intake {
    /// Opens a stream as soon as the receiver says so. A receiver that is gone by then gets no stream.
    ///
    /// # Errors
    ///
    /// [`OpenError::AlreadyOpen`].
    pub(in crate::ingest) fn open(
        &mut self,
        open: OpenStream,
        now: Instant,
    ) -> Result<oneshot::Receiver<Result<Entrance, OpenError>>, OpenError> {
        let id = open.stream;
        if self.streams.contains_key(&id) {
            return Err(OpenError::AlreadyOpen);
        }
        let expect = expectation(&open, Entrance::Shared);
        self.enqueue(id, expect, Some(open), now)
    }

    /// Takes a stream's expectation back that others cannot be told from, until [`Intake::reopen`]. Whether that
    /// makes a difference: a stream with ports of its own stands in nobody's way.
    pub(in crate::ingest) fn park(&mut self, id: StreamId, now: Instant) -> bool {
        // A packet may have come since it was asked to.
        if self.latch.entrance(id) != Some(Entrance::Shared) || self.latch.shows_video(id, now) {
            return false;
        }
        let refused = self.latch.disputed(id);
        let Some(expect) = self.latch.park(id, now) else { return false };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.refused += refused;
            stream.interrupted();
        }
        self.parked.insert(id, expect);
        self.admit(now);
        true
    }

    /// Expects a parked stream again, as soon as the receiver says so.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub(in crate::ingest) fn reopen(
        &mut self,
        id: StreamId,
        now: Instant,
    ) -> Result<oneshot::Receiver<Result<Entrance, OpenError>>, OpenError> {
        let expect = self.parked.get(&id).cloned().ok_or(OpenError::NotParked)?;
        self.enqueue(id, expect, None, now)
    }

    fn enqueue(
        &mut self,
        id: StreamId,
        expect: Expect,
        open: Option<OpenStream>,
        now: Instant,
    ) -> Result<oneshot::Receiver<Result<Entrance, OpenError>>, OpenError> {
        if self.opening.iter().any(|opening| opening.id == id) {
            return Err(OpenError::AlreadyOpen);
        }
        let (reply, opened) = oneshot::channel();
        let deadline = open.is_some().then(|| now + OPEN_WAIT);
        self.opening.push_back(Opening { id, expect, open, deadline, reply });
        self.admit(now);
        Ok(opened)
    }

    /// Nothing will be opened any more.
    pub(in crate::ingest) fn refuse_openings(&mut self) {
        self.opening.clear();
        self.next_admission = None;
    }

    /// Opens what can be opened now, and what has waited long enough: the latch goes on to refuse packets that
    /// could be another stream's, so an early open costs a picture for a while, never a wrong one.
    pub(super) fn admit(&mut self, now: Instant) {
        let mut ahead: Vec<Expect> = Vec::new();
        for opening in std::mem::take(&mut self.opening) {
            if opening.reply.is_closed() {
                continue;
            }
            let has_turn = !ahead.iter().any(|other| alike(other, &opening.expect));
            if has_turn && self.latch.conflict(&opening.expect, now).is_none() {
                self.grant(opening, Entrance::Shared, now);
            } else if let Some(index) = self.pool.take(now) {
                self.grant(opening, Entrance::Own(index), now);
            } else if opening.deadline.is_some_and(|deadline| now >= deadline) {
                self.grant(opening, Entrance::Shared, now);
            } else {
                if has_turn {
                    for blocker in self.latch.blockers(&opening.expect, now) {
                        self.ask_to_yield(blocker, now);
                    }
                }
                ahead.push(opening.expect.clone());
                self.opening.push_back(opening);
            }
        }
        self.next_admission = (!self.opening.is_empty()).then_some(now + INTERVAL);
    }

    fn grant(&mut self, opening: Opening, entrance: Entrance, now: Instant) {
        let Opening { id, expect, open, reply, .. } = opening;
        let is_new = open.is_some();
        let expect = Expect { entrance, ..expect };
        match open {
            Some(open) => self.begin(open, expect, now),
            None => {
                self.parked.remove(&id);
                self.latch.open(id, expect, now);
            }
        }
        if reply.send(Ok(entrance)).is_err() && is_new {
            self.discard(id, now);
        }
    }

    /// A stream without video keeps others from being told from it. Told once a second at most.
    pub(super) fn ask_to_yield(&mut self, id: StreamId, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.asked_to_yield.is_none_or(|at| at + ASK_AGAIN <= now)
        {
            stream.asked_to_yield = Some(now);
            self.events.push_back(IngestEvent::ShouldYield { stream: id });
        }
    }

    /// Packets that may be this stream's have been refused for a while.
    pub(super) fn settle_dispute(&mut self, id: StreamId, now: Instant) {
        if self.latch.dispute(id, now).is_some_and(|dispute| dispute.since + DISPUTE_PATIENCE <= now) {
            self.ask_to_yield(id, now);
        }
    }
}

/// Whether two streams that nobody has sent for yet could be mistaken for each other.
fn alike(one: &Expect, other: &Expect) -> bool {
    let ip = |expect: &Expect| expect.announced.map(|ip| ip.to_canonical());
    one.camera != other.camera && (ip(one).is_none() || ip(other).is_none() || ip(one) == ip(other))
}
