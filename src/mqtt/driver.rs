//! The task behind a [`super::Link`]: connect, subscribe, carry, and come back.
//!
//! Every connection gets a client of its own, so nothing that was queued or in flight survives it.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Broker, ConnectionError, Event, EventLoop, LastWill, MqttOptions, NetworkOptions, Packet,
    PublishOptions, QoS, SubAck, SubscribeFilterInput, SubscribeReasonCode, Transport,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::backoff::{Backoff, Ending};
use super::link::{ACK_TIMEOUT, LinkSettings, MAX_PAYLOAD, Message, Shared};
use super::reason::{self, Target};
use super::tls::Tls;
use crate::base::Shutdown;

/// Packets larger than this end the connection: there is no way to skip one. It is well above
/// [`MAX_PAYLOAD`] (and above the 1 MB that EMQX lets through by default) so that an oversize message is
/// normally dropped and counted instead, and a retained one cannot keep the link down for ever.
const MAX_PACKET: usize = 2 * 1024 * 1024;
/// Messages on the wire that wait for their PUBACK.
const MAX_IN_FLIGHT: u16 = 256;
/// Messages that wait for a place on the wire; more are refused as busy.
const OUTGOING_QUEUE: usize = 512;
/// What a stop may take until DISCONNECT is on the wire. The process has a second for everything here.
const FAREWELL: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    settings: LinkSettings,
    client_id: String,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Message>,
    shutdown: Shutdown,
    backoff: Backoff,
    connections: u64,
}

/// How a connection, or the attempt to make one, ended.
enum End {
    Stopped,
    Broken { reason: String, ending: Ending },
}

impl Driver {
    pub(super) fn new(
        settings: LinkSettings,
        tls: Option<Tls>,
        shared: Arc<Shared>,
        incoming: mpsc::Sender<Message>,
        shutdown: Shutdown,
    ) -> Self {
        let client_id = format!("{}-{}", settings.client_id_prefix, &Uuid::new_v4().simple().to_string()[..12]);
        let tls = tls.map(Arc::new);
        Self { settings, client_id, tls, shared, incoming, shutdown, backoff: Backoff::default(), connections: 0 }
    }

    pub(super) async fn run(mut self) {
        loop {
            // Dropping the client and its event loop here is what fails every message in flight; the reason
            // is set before, so that the publishers can tell it.
            let end = self.connection().await;
            let End::Broken { reason, ending } = end else { break };
            let pause = self.backoff.next(ending);
            tracing::debug!(broker = %self.place(), %reason, ?pause, "next attempt to reach the MQTT broker");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.requested() => break,
            }
        }
        self.shared.set_stopping();
        self.shared.set_disconnected("the link was shut down");
    }

    async fn connection(&mut self) -> End {
        let (client, mut events) = AsyncClient::builder(self.options()).capacity(OUTGOING_QUEUE).build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(ACK_TIMEOUT.as_secs());
        events.set_network_options(network);
        let mut session = Session { client, connected_at: None, deadline: None, last_packet: Instant::now() };
        loop {
            match self.next_event(&mut events, &session).await {
                Step::Event(event) => self.handle(event, &mut session),
                Step::Stop => {
                    self.shared.set_stopping();
                    farewell(&session.client, &mut events).await;
                    return End::Stopped;
                }
                Step::Silent(reason) => return self.broken(reason, false, &session),
                Step::Failed(error) => {
                    let target = Target {
                        host: &self.settings.host,
                        port: self.settings.port,
                        identity: self.tls.as_ref().map(|tls| tls.has_identity()),
                        was_connected: session.connected_at.is_some(),
                        timeout_s: ACK_TIMEOUT.as_secs(),
                    };
                    let refused = reason::is_refusal(&error);
                    return self.broken(reason::of_connection(&error, &target), refused, &session);
                }
            }
        }
    }

    /// Waits without ever abandoning a poll that is under way, unless the connection ends with it.
    async fn next_event(&self, events: &mut EventLoop, session: &Session) -> Step {
        let mut poll = pin!(events.poll());
        loop {
            tokio::select! {
                result = &mut poll => return match result {
                    Ok(event) => Step::Event(event),
                    Err(error) => Step::Failed(error),
                },
                () = self.shutdown.requested() => return Step::Stop,
                () = self.shared.overdue.notified() => {
                    // Anything heard since the message went out proves the peer alive; then it is only slow.
                    if self.shared.take_overdue().is_some_and(|sent| session.last_packet < sent) {
                        let seconds = ACK_TIMEOUT.as_secs();
                        return Step::Silent(format!("{} has not answered for {seconds} s", self.place()));
                    }
                }
                () = reached(session.deadline) => {
                    return Step::Silent(format!("{} does not confirm the subscriptions", self.place()));
                }
            }
        }
    }

    fn handle(&mut self, event: Event, session: &mut Session) {
        let Event::Incoming(packet) = event else { return };
        session.last_packet = Instant::now();
        match packet {
            Packet::ConnAck(_) => self.greet(session),
            Packet::SubAck(ack) => {
                self.check_subscriptions(&ack);
                self.connected(session);
            }
            Packet::Publish(publish) => {
                let message = Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload,
                    retain: publish.retain,
                };
                self.deliver(message);
            }
            _ => {}
        }
    }

    /// The broker has let us in: say everything again that it forgot with the last connection.
    fn greet(&mut self, session: &mut Session) {
        session.connected_at = Some(Instant::now());
        // Both requests go into the empty queue of a new client, so they cannot be refused.
        if let Some(birth) = self.settings.birth.clone() {
            let options = PublishOptions::new(QoS::AtLeastOnce).retained();
            if let Err(error) = session.client.try_publish(birth.topic, birth.payload, options) {
                tracing::warn!(%error, "the MQTT birth message was not sent");
            }
        }
        if self.settings.subscriptions.is_empty() {
            return self.connected(session);
        }
        session.deadline = Some(Instant::now() + ACK_TIMEOUT);
        let filters = self.settings.subscriptions.iter();
        let filters = filters.map(|filter| SubscribeFilterInput::new(filter.clone(), QoS::AtLeastOnce));
        if let Err(error) = session.client.try_subscribe_many(filters.collect::<Vec<_>>()) {
            tracing::warn!(%error, "the MQTT subscriptions were not sent");
        }
    }

    fn check_subscriptions(&self, ack: &SubAck) {
        for (filter, code) in self.settings.subscriptions.iter().zip(&ack.return_codes) {
            if matches!(code, SubscribeReasonCode::Failure) {
                self.shared.counters.refused_subscriptions.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(broker = %self.place(), filter, "the MQTT broker refused a subscription");
            }
        }
    }

    fn connected(&mut self, session: &mut Session) {
        session.deadline = None;
        if self.connections > 0 {
            self.shared.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.connections += 1;
        tracing::info!(broker = %self.place(), client_id = %self.client_id, "connected to the MQTT broker");
        self.shared.set_connected(session.client.clone());
    }

    fn broken(&self, reason: String, refused: bool, session: &Session) -> End {
        if self.shared.set_disconnected(&reason) {
            tracing::warn!(broker = %self.place(), %reason, "not connected to the MQTT broker");
        }
        let ending = match session.connected_at {
            Some(since) => Ending::Lasted(since.elapsed()),
            None if refused => Ending::Refused,
            None => Ending::NotReached,
        };
        End::Broken { reason, ending }
    }

    /// Never waits: while the application is behind, keepalive and acknowledgements must go on.
    fn deliver(&self, message: Message) {
        let counters = &self.shared.counters;
        let delivered = message.payload.len() <= MAX_PAYLOAD && self.incoming.try_send(message).is_ok();
        let counter = if delivered { &counters.received } else { &counters.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn options(&self) -> MqttOptions {
        let settings = &self.settings;
        let mut options = MqttOptions::new(self.client_id.clone(), Broker::tcp(settings.host.clone(), settings.port));
        options
            .set_transport(Transport::Tcp)
            .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1))
            .set_clean_session(true)
            .set_inflight(MAX_IN_FLIGHT)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some((user, password)) = &settings.credentials {
            options.set_credentials(user.clone(), password.clone());
        }
        if let Some(will) = &settings.last_will {
            options.set_last_will(LastWill::new(&will.topic, will.payload.to_vec(), QoS::AtLeastOnce, will.retain));
        }
        // TLS is made here and not by the library, which can only expect the name that it connects to.
        let (host, port, tls) = (settings.host.clone(), settings.port, self.tls.clone());
        options.set_socket_connector(move |_address, _network| connect(host.clone(), port, tls.clone()));
        options
    }

    fn place(&self) -> String {
        format!("{}:{}", self.settings.host, self.settings.port)
    }
}

/// What the driver remembers of one connection.
struct Session {
    client: AsyncClient,
    /// When the broker accepted it.
    connected_at: Option<Instant>,
    /// Until when the subscriptions must be confirmed.
    deadline: Option<Instant>,
    /// When anything last came from the broker.
    last_packet: Instant,
}

enum Step {
    Event(Event),
    Failed(ConnectionError),
    Silent(String),
    Stop,
}

async fn connect(host: String, port: u16, tls: Option<Arc<Tls>>) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    // Small messages that wait for an answer each.
    stream.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Box::new(tls.connect(stream).await?),
        None => Box::new(stream),
    })
}

/// What a plain and a TLS stream have in common.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Sends DISCONNECT and waits until it is on the wire, within [`FAREWELL`].
async fn farewell(client: &AsyncClient, events: &mut EventLoop) {
    if client.try_disconnect_now().is_err() {
        return;
    }
    let sent = async {
        // The library ends with `RequestsDone` after the packet was flushed.
        while events.poll().await.is_ok() {}
    };
    if tokio::time::timeout(FAREWELL, sent).await.is_err() {
        tracing::debug!("the MQTT broker did not take the DISCONNECT in time");
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}
