//! What all our interceptors have in common: packets pass through, reports are added.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc_shared::TransportContext;
use rtc_shared::error::Error;
use sansio::Protocol;

/// Looks at what comes in and has something to send from time to time.
pub(super) trait Observer: Send + Sync {
    /// A packet on its way in.
    fn observe(&mut self, packet: &TaggedPacket);
    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox);
    /// When [`Observer::handle_timeout`] has something to do.
    fn poll_timeout(&self) -> Option<Instant>;
    /// A source begins, with fresh state.
    fn bind(&mut self, info: &StreamInfo);
    /// A source has ended.
    fn unbind(&mut self, info: &StreamInfo);
}

/// RTCP on its way out.
#[derive(Default)]
pub(super) struct Outbox(VecDeque<TaggedPacket>);

impl Outbox {
    pub(super) fn send(&mut self, now: Instant, packet: Box<dyn rtcp::Packet>) {
        let message = AttributedPacket::new(Packet::Rtcp(vec![packet]));
        self.0.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
    }
}

#[cfg(test)]
impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// An [`Observer`] as an interceptor of a chain.
pub(super) struct Passing<T> {
    observer: T,
    read: VecDeque<TaggedPacket>,
    out: Outbox,
}

impl<T> Passing<T> {
    pub(super) fn new(observer: T) -> Self {
        Self { observer, read: VecDeque::new(), out: Outbox::default() }
    }
}

impl<T: Observer> Protocol<TaggedPacket, TaggedPacket, ()> for Passing<T> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.observer.observe(&packet);
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.out.0.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.out.0.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.observer.handle_timeout(now, &mut self.out);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.observer.poll_timeout()
    }
}

impl<T: Observer> Interceptor for Passing<T> {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.observer.bind(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.observer.unbind(info);
    }
}

/// Fires once shortly after the first packet, then at a fixed interval.
#[derive(Debug)]
pub(super) struct Schedule {
    first_after: Duration,
    interval: Duration,
    next: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(first_after: Duration, interval: Duration) -> Self {
        Self { first_after, interval, next: None }
    }

    /// Starts it; nothing happens if it runs already.
    pub(super) fn arm(&mut self, now: Instant) {
        self.next.get_or_insert(now + self.first_after);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn fires(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| now >= next);
        if due {
            self.next = Some(now + self.interval);
        }
        due
    }
}
