//! Opening streams: at once where the new stream can be told from all others, else with ports of its own, else
//! later. In the order of the calls.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Intake, expectation};
use crate::base::StreamId;
use crate::ingest::handle::{OpenError, OpenStream};
use crate::media::latch::{Entrance, Expect};

/// How long an open waits at most: a camera's first packet and the grace of its sound are over by then. A camera
/// that never answers must not keep others from being asked to play.
pub const OPEN_WAIT: Duration = Duration::from_secs(5);
/// How often waiting opens are looked at: silence and graces end without a packet.
const INTERVAL: Duration = Duration::from_millis(50);

/// An open that waits.
pub(super) struct Opening {
    open: OpenStream,
    deadline: Instant,
    reply: oneshot::Sender<Result<Entrance, OpenError>>,
}

impl Opening {
    pub(super) fn id(&self) -> StreamId {
        self.open.stream
    }

    pub(super) fn expect(&mut self, ip: IpAddr) {
        self.open.expected_ip = Some(ip);
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
        let known = self.streams.contains_key(&open.stream);
        if known || self.opening.iter().any(|opening| opening.id() == open.stream) {
            return Err(OpenError::AlreadyOpen);
        }
        let (reply, opened) = oneshot::channel();
        self.opening.push_back(Opening { open, deadline: now + OPEN_WAIT, reply });
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
            let expect = expectation(&opening.open, Entrance::Shared);
            let waits_for = ahead.iter().find(|other| alike(other, &expect)).map(|other| other.camera);
            if waits_for.or_else(|| self.latch.conflict(&expect, now)).is_none() {
                self.grant(opening, Entrance::Shared, now);
            } else if let Some(index) = self.pool.take(now) {
                self.grant(opening, Entrance::Own(index), now);
            } else if now >= opening.deadline {
                self.grant(opening, Entrance::Shared, now);
            } else {
                ahead.push(expect);
                self.opening.push_back(opening);
            }
        }
        self.next_admission = (!self.opening.is_empty()).then_some(now + INTERVAL);
    }

    fn grant(&mut self, Opening { open, reply, .. }: Opening, entrance: Entrance, now: Instant) {
        let id = open.stream;
        self.begin(open, entrance, now);
        if reply.send(Ok(entrance)).is_err() {
            self.discard(id, now);
        }
    }
}

/// Whether two streams that nobody has sent for yet could be mistaken for each other.
fn alike(one: &Expect, other: &Expect) -> bool {
    let ip = |expect: &Expect| expect.announced.map(|ip| ip.to_canonical());
    one.camera != other.camera && (ip(one).is_none() || ip(other).is_none() || ip(one) == ip(other))
}
