//! One connection to an MQTT 3.1.1 broker that comes back by itself.
//!
//! [`Link`] is the handle, `driver` the task behind it. A message that was not acknowledged
//! before the connection broke is reported as failed to whoever published it and is never sent late:
//! an old `play` after a reconnect would do harm. Retrying is the publisher's decision.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rumqttc::{AsyncClient, ClientError, PublishNotice, PublishOptions, QoS};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::driver::Driver;
use super::tls::{Tls, TlsSettings};
use crate::base::Shutdown;
use crate::telemetry::metrics::{Collect, Page, catalog};

/// Longest wait for a PUBACK, and for the broker to answer at all while connecting.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest payload that is taken from or given to the broker, in bytes. A camera's message is below
/// 64 KiB, an SDP below 4 KiB.
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Incoming messages that may wait for the application. When it falls behind by more, the newest are
/// dropped and counted: MQTT has no way to slow down one subscription only.
const INCOMING_QUEUE: usize = 1024;

/// How to reach the broker and what to say and hear there.
#[derive(Clone)]
pub struct LinkSettings {
    /// Host name or address, without brackets for IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The client id is this, `-` and a random suffix that lasts as long as the link: two processes with
    /// one id would throw each other out for ever.
    pub client_id_prefix: String,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// TLS; plain TCP without.
    pub tls: Option<TlsSettings>,
    /// After this long without traffic the broker is asked whether it lives. Whole seconds, 1–65535.
    pub keep_alive: Duration,
    /// Topic filters, subscribed with QoS 1 on every connection.
    pub subscriptions: Vec<String>,
    /// Published by the broker when the connection ends without a DISCONNECT.
    pub last_will: Option<Message>,
    /// Published on every connection, always retained.
    pub birth: Option<Message>,
}

impl fmt::Debug for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("client_id_prefix", &self.client_id_prefix)
            // The password stays out of every log.
            .field("user", &self.credentials.as_ref().map(|(user, _)| user))
            .field("tls", &self.tls)
            .field("keep_alive", &self.keep_alive)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}

/// An application message. Sent and received with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic, without wildcards.
    pub topic: String,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
    /// Whether the broker keeps it for later subscribers; on a received message: whether it was kept.
    pub retain: bool,
}

/// Why a link cannot be started with these settings. A broker that cannot be reached is not among the
/// reasons: the link starts and keeps trying.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A TLS file cannot be read.
    #[error("cannot read the {what} file {}: {source}", path.display())]
    Read {
        /// Which of the settings.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A TLS file holds something else.
    #[error("the {what} file {} is not usable: {why}", path.display())]
    Content {
        /// Which of the settings.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A client certificate without its key, or a key without its certificate.
    #[error("a client certificate and its key belong together, but only the {given} file {} is set", path.display())]
    HalfIdentity {
        /// Which one is set.
        given: &'static str,
        /// Its file.
        path: PathBuf,
    },
    /// No CA is set and the system has none either.
    #[error("no CA file is set and the system's certificate store is empty")]
    NoSystemRoots,
    /// Not a name or address that a certificate could carry.
    #[error("{0:?} is neither a host name nor an address")]
    ServerName(String),
    /// A topic of the will or birth message, or a subscription filter, breaks the rules of MQTT 3.1.1 §4.7.
    #[error("{0:?} is not a valid MQTT topic for its use")]
    Topic(String),
    /// A will or birth message, or a credential, is larger than the protocol allows.
    #[error("the {0} is too long for MQTT")]
    TooLong(&'static str),
}

/// Why a message was not acknowledged by the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The link is down, or went down before the acknowledgement came.
    #[error("not connected to the MQTT broker: {why}")]
    NotConnected {
        /// The reason of [`LinkStatus::Disconnected`].
        why: String,
    },
    /// No acknowledgement within [`ACK_TIMEOUT`]. The broker may have got the message all the same.
    #[error("the MQTT broker did not acknowledge the message within {} s", ACK_TIMEOUT.as_secs())]
    Timeout,
    /// Too many messages wait for an acknowledgement already.
    #[error("too many messages wait for the MQTT broker's acknowledgement")]
    Busy,
    /// Not a topic that can be published to.
    #[error("{0:?} is not a topic that can be published to")]
    InvalidTopic(String),
    /// The payload is larger than [`MAX_PAYLOAD`].
    #[error("the message is too large: {0} bytes, the limit is {MAX_PAYLOAD}")]
    TooLarge(usize),
    /// The process is stopping.
    #[error("the MQTT link is shutting down")]
    ShuttingDown,
}

/// Whether the broker can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// Connected, and the broker has confirmed the subscriptions.
    Connected,
    /// Not, and trying again with growing pauses.
    Disconnected {
        /// Why, in words for people.
        reason: String,
        /// Since when; later attempts that fail too do not change it.
        since: SystemTime,
    },
}

impl LinkStatus {
    /// Whether messages can be published now.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// What a link has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Messages that the broker has acknowledged.
    pub published: u64,
    /// Messages that were not acknowledged, for whatever reason.
    pub failed: u64,
    /// Messages handed to the application.
    pub received: u64,
    /// Messages dropped because the application was behind, or because they were larger than [`MAX_PAYLOAD`].
    pub dropped: u64,
    /// Connections after the first one.
    pub reconnects: u64,
    /// Subscriptions that a broker refused.
    pub refused_subscriptions: u64,
}

/// A handle to the one connection. Clones share it.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("status", &*self.shared.status.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    /// Checks the settings, reads the TLS files and starts to connect in the background.
    ///
    /// The link lives until `shutdown` is requested. It then publishes nothing more, says DISCONNECT (so the
    /// broker forgets the last will) and ends within a second. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`LinkError`]; each names the file or the value.
    pub fn start(settings: LinkSettings, shutdown: &Shutdown) -> Result<(Self, mpsc::Receiver<Message>), LinkError> {
        check(&settings)?;
        let tls = settings.tls.as_ref().map(|tls| Tls::load(tls, &settings.host)).transpose()?;
        let (incoming, receiver) = mpsc::channel(INCOMING_QUEUE);
        let shared = Arc::new(Shared::new());
        let driver = Driver::new(settings, tls, Arc::clone(&shared), incoming, shutdown.clone());
        shutdown.spawn(driver.run());
        Ok((Self { shared }, receiver))
    }

    /// Publishes with QoS 1 and resolves when the broker has acknowledged.
    ///
    /// # Errors
    ///
    /// At once when the link is down, the message is unfit or too many are waiting; otherwise when the
    /// connection breaks or [`ACK_TIMEOUT`] has passed. Nothing is sent later, after an error, except that a
    /// message may already be on its way when the time runs out.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.submit(message).wait().await
    }

    /// Takes a place in the order of messages now; the acknowledgement can be awaited elsewhere.
    pub(super) fn submit(&self, message: Message) -> Submitted {
        let sent = Instant::now();
        Submitted { notice: self.shared.submit(message), sent, shared: Arc::clone(&self.shared) }
    }

    /// The state of the connection, now and at every change.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.shared.status.subscribe()
    }

    /// A snapshot of the counters.
    pub fn counters(&self) -> LinkCounters {
        self.shared.counters.snapshot()
    }
}

impl Collect for Link {
    fn collect(&self, page: &mut Page) {
        let counters = self.counters();
        page.count(&catalog::MQTT_PUBLISHED, &[], counters.published);
        page.count(&catalog::MQTT_FAILED, &[], counters.failed);
        page.count(&catalog::MQTT_RECEIVED, &[], counters.received);
        page.count(&catalog::MQTT_DROPPED, &["behind_or_too_large"], counters.dropped);
        page.count(&catalog::MQTT_RECONNECTS, &[], counters.reconnects);
        page.count(&catalog::MQTT_REFUSED_SUBSCRIPTIONS, &[], counters.refused_subscriptions);
    }
}

/// A message on its way to the broker.
pub(super) struct Submitted {
    notice: Result<PublishNotice, PublishError>,
    sent: Instant,
    shared: Arc<Shared>,
}

impl Submitted {
    /// Resolves as [`Link::publish`] does.
    pub(super) async fn wait(self) -> Result<(), PublishError> {
        let result = match self.notice {
            Ok(notice) => self.shared.acknowledged(notice, self.sent).await,
            Err(error) => Err(error),
        };
        let counters = &self.shared.counters;
        let counter = if result.is_ok() { &counters.published } else { &counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }
}

/// What the handle and the driver have in common.
pub(super) struct Shared {
    status: watch::Sender<LinkStatus>,
    /// The client of the live connection; each connection has its own, so that nothing survives one.
    client: Mutex<Option<AsyncClient>>,
    pub(super) counters: Counters,
    /// Rung when a PUBACK is overdue. Publishing keeps the library from sending PINGREQ, so a dead
    /// peer would go unnoticed as long as somebody publishes.
    pub(super) overdue: Notify,
    overdue_since: Mutex<Option<Instant>>,
    stopping: AtomicBool,
}

impl Shared {
    fn new() -> Self {
        let reason = "the first connection is not made yet".to_owned();
        Self {
            status: watch::Sender::new(LinkStatus::Disconnected { reason, since: SystemTime::now() }),
            client: Mutex::new(None),
            counters: Counters::default(),
            overdue: Notify::new(),
            overdue_since: Mutex::new(None),
            stopping: AtomicBool::new(false),
        }
    }

    fn submit(&self, message: Message) -> Result<PublishNotice, PublishError> {
        if message.payload.len() > MAX_PAYLOAD {
            return Err(PublishError::TooLarge(message.payload.len()));
        }
        if self.stopping.load(Ordering::Acquire) {
            return Err(PublishError::ShuttingDown);
        }
        let client = lock(&self.client).clone().ok_or_else(|| self.not_connected())?;
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(message.retain);
        let topic = message.topic.clone();
        client.try_publish_tracked(message.topic, message.payload, options).map_err(|error| match error {
            ClientError::InvalidRequest(_) => PublishError::InvalidTopic(topic),
            ClientError::RequestChannelFull(_) => PublishError::Busy,
            _ => self.not_connected(),
        })
    }

    async fn acknowledged(&self, notice: PublishNotice, sent: Instant) -> Result<(), PublishError> {
        match tokio::time::timeout_at(sent + ACK_TIMEOUT, notice.wait_completion_async()).await {
            Ok(Ok(())) => Ok(()),
            // The driver sets the status before it drops the connection's state: the reason is there.
            Ok(Err(_)) => Err(self.not_connected()),
            Err(_) => {
                *lock(&self.overdue_since) = Some(sent);
                self.overdue.notify_one();
                Err(PublishError::Timeout)
            }
        }
    }

    fn not_connected(&self) -> PublishError {
        if self.stopping.load(Ordering::Acquire) {
            return PublishError::ShuttingDown;
        }
        match &*self.status.borrow() {
            LinkStatus::Disconnected { reason, .. } => PublishError::NotConnected { why: reason.clone() },
            LinkStatus::Connected => PublishError::NotConnected { why: "the connection broke meanwhile".to_owned() },
        }
    }

    /// When the message was sent whose acknowledgement is overdue.
    pub(super) fn take_overdue(&self) -> Option<Instant> {
        lock(&self.overdue_since).take()
    }

    pub(super) fn set_connected(&self, client: AsyncClient) {
        *lock(&self.client) = Some(client);
        self.status.send_replace(LinkStatus::Connected);
    }

    /// Returns whether the state or the reason is new, that is, worth a log line.
    pub(super) fn set_disconnected(&self, reason: &str) -> bool {
        let changed = self.status.send_if_modified(|status| {
            let since = match status {
                LinkStatus::Disconnected { reason: old, .. } if old == reason => return false,
                LinkStatus::Disconnected { since, .. } => *since,
                LinkStatus::Connected => SystemTime::now(),
            };
            *status = LinkStatus::Disconnected { reason: reason.to_owned(), since };
            true
        });
        *lock(&self.client) = None;
        changed
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
        *lock(&self.client) = None;
    }
}

#[derive(Default)]
pub(super) struct Counters {
    published: AtomicU64,
    failed: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) refused_subscriptions: AtomicU64,
}

impl Counters {
    fn snapshot(&self) -> LinkCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounters {
            published: read(&self.published),
            failed: read(&self.failed),
            received: read(&self.received),
            dropped: read(&self.dropped),
            reconnects: read(&self.reconnects),
            refused_subscriptions: read(&self.refused_subscriptions),
        }
    }
}

/// What would otherwise fail later, on the wire, on every attempt.
fn check(settings: &LinkSettings) -> Result<(), LinkError> {
    const MAX_STRING: usize = u16::MAX as usize;
    for filter in &settings.subscriptions {
        if !rumqttc::valid_filter(filter) || filter.len() > MAX_STRING {
            return Err(LinkError::Topic(filter.clone()));
        }
    }
    for message in settings.last_will.iter().chain(&settings.birth) {
        if !is_topic(&message.topic) {
            return Err(LinkError::Topic(message.topic.clone()));
        }
    }
    if settings.last_will.as_ref().is_some_and(|will| will.payload.len() > MAX_STRING) {
        return Err(LinkError::TooLong("last will"));
    }
    if settings.birth.as_ref().is_some_and(|birth| birth.payload.len() > MAX_PAYLOAD) {
        return Err(LinkError::TooLong("birth message"));
    }
    if settings.credentials.iter().any(|(user, password)| user.len().max(password.len()) > MAX_STRING) {
        return Err(LinkError::TooLong("user name or password"));
    }
    if settings.client_id_prefix.len() > 1024 {
        return Err(LinkError::TooLong("client id"));
    }
    Ok(())
}

fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= usize::from(u16::MAX) && rumqttc::valid_topic(topic) && !topic.contains('\0')
}

/// The data behind the locks is replaced whole, so a panic elsewhere cannot leave it half written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
