//! The broker inside the process: for the first run and for small sites.
//!
//! Plain TCP, everything in memory, every limit set: the library's defaults listen on all interfaces,
//! write to the working directory and take packets of 256 MiB.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mqtt5::broker::auth::{AuthRateLimiter, RateLimitedAuthProvider};
use mqtt5::broker::config::{AuthConfig, RateLimitConfig, StorageBackend};
use mqtt5::broker::{BrokerConfig, MqttBroker, PasswordAuthProvider, StorageConfig};

use crate::base::Shutdown;

/// Largest packet, in bytes: what EMQX allows by default.
const MAX_PACKET: usize = 1024 * 1024;
/// A small site has tens of cameras; the rest is headroom for tools.
const MAX_CLIENTS: usize = 1024;
const MAX_SUBSCRIPTIONS_PER_CLIENT: usize = 64;
/// Retained messages in memory: 64 MiB at the worst.
const MAX_RETAINED: usize = 1024;
const MAX_RETAINED_SIZE: usize = 64 * 1024;
/// Messages that wait for one client, connected or away.
const MAX_QUEUED: usize = 1000;
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// How long the session of a client that went away is kept.
const SESSION_EXPIRY: Duration = Duration::from_secs(3600);
/// What was published just before a stop (cameras' `stop`, the service's `offline`) gets this long to reach
/// its subscribers: the library acknowledges a message before it delivers it, and drops its queues when it
/// stops without saying whether they were empty. As SO_LINGER, for a broker.
const LINGER: Duration = Duration::from_millis(250);
/// Longest orderly stop; after it, whatever still hangs is dropped.
const STOP: Duration = Duration::from_millis(800);

/// Wrong passwords from one address, or for one user, within a minute.
const MAX_FAILED_LOGINS: u32 = 20;
const LOGIN_WINDOW_S: u64 = 60;

/// Where to listen and whom to let in.
#[derive(Clone)]
pub struct BrokerSettings {
    /// Address to listen on; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Whether clients without a user name get in. Everybody who gets in may read and write every topic.
    pub anonymous: bool,
    /// User names and passwords.
    pub users: Vec<(String, String)>,
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self.users.iter().map(|(user, _)| user).collect();
        let mut debug = f.debug_struct("BrokerSettings");
        debug.field("bind", &self.bind).field("anonymous", &self.anonymous).field("users", &users).finish()
    }
}

/// Why the broker cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("the embedded MQTT broker cannot listen on {bind}: {why}")]
    Bind {
        /// The address of the settings.
        bind: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// Neither users nor anonymous clients: nobody could connect.
    #[error("the embedded MQTT broker lets nobody in: allow anonymous clients or name at least one user")]
    NobodyAllowed,
    /// A user cannot be set up.
    #[error("the embedded MQTT broker cannot take user {user:?}: {why}")]
    User {
        /// The user's name.
        user: String,
        /// What is wrong.
        why: String,
    },
    /// It ended before it was ready.
    #[error("the embedded MQTT broker did not start: {0}")]
    Start(String),
}

/// A running broker. It stops with the [`Shutdown`] that it was started with.
#[derive(Debug)]
pub struct EmbeddedBroker {
    local_addr: SocketAddr,
}

impl EmbeddedBroker {
    /// Binds, and returns when clients can connect.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    pub async fn start(settings: BrokerSettings, shutdown: &Shutdown) -> Result<Self, BrokerError> {
        let bind = settings.bind;
        if !settings.anonymous && settings.users.is_empty() {
            return Err(BrokerError::NobodyAllowed);
        }
        let users = hash_users(&settings).await?;
        // Tried beforehand for the sake of the words: the library answers with a page of hints.
        let bind_error = |why: String| BrokerError::Bind { bind, why };
        drop(tokio::net::TcpListener::bind(bind).await.map_err(|error| bind_error(error.to_string()))?);
        let broker = MqttBroker::with_config(config(bind)).await.map_err(|error| bind_error(error.to_string()))?;
        let mut broker = match users {
            Some(users) => broker.with_auth_provider(Arc::new(users)),
            None => broker,
        };
        let local_addr =
            broker.local_addr().ok_or_else(|| BrokerError::Bind { bind, why: "no address was bound".to_owned() })?;

        let mut ready = broker.ready_receiver();
        let stop = broker.shutdown_handle();
        let requested = shutdown.clone();
        let task = shutdown.spawn(async move {
            let mut run = std::pin::pin!(broker.run());
            tokio::select! {
                result = &mut run => return result.map_err(|error| error.to_string()),
                () = requested.requested() => {}
            }
            tokio::select! {
                result = &mut run => return result.map_err(|error| error.to_string()),
                () = tokio::time::sleep(LINGER) => {}
            }
            stop.shutdown();
            match tokio::time::timeout(STOP, run).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => {
                    tracing::debug!("the embedded MQTT broker dropped connections that did not end");
                    Ok(())
                }
            }
        });
        if ready.wait_for(|ready| *ready).await.is_err() {
            let why = match task.await {
                Ok(Err(why)) => why,
                Ok(Ok(())) => "it was stopped at once".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(BrokerError::Start(why));
        }
        tracing::info!(address = %local_addr, anonymous = settings.anonymous, "embedded MQTT broker is listening");
        Ok(Self { local_addr })
    }

    /// The address that it listens on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// The users, with hashed passwords and a limit on wrong ones; `None` when everybody is let in.
async fn hash_users(settings: &BrokerSettings) -> Result<Option<RateLimitedAuthProvider>, BrokerError> {
    if settings.users.is_empty() {
        return Ok(None);
    }
    let users = settings.users.clone();
    let provider = PasswordAuthProvider::new().with_anonymous(settings.anonymous);
    // Argon2 takes tens of milliseconds a password, on purpose.
    let hashing = tokio::task::spawn_blocking(move || {
        for (user, password) in users {
            let added = provider.add_user(user.clone(), &password);
            added.map_err(|error| BrokerError::User { user, why: error.to_string() })?;
        }
        Ok(provider)
    });
    let provider = hashing.await.map_err(|error| BrokerError::Start(error.to_string()))??;
    let limiter = AuthRateLimiter::new(MAX_FAILED_LOGINS, LOGIN_WINDOW_S, LOGIN_WINDOW_S);
    Ok(Some(RateLimitedAuthProvider::new(Arc::new(provider), Arc::new(limiter))))
}

fn config(bind: SocketAddr) -> BrokerConfig {
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::Memory)
        .with_max_queued_messages_per_client(MAX_QUEUED)
        .with_max_queued_bytes_per_client(MAX_QUEUED_BYTES);
    let auth = AuthConfig {
        // Replaced as a whole when there are users.
        allow_anonymous: true,
        rate_limit: RateLimitConfig { enabled: false, ..RateLimitConfig::default() },
        ..AuthConfig::default()
    };
    BrokerConfig::new()
        .with_bind_address(bind)
        .with_max_clients(MAX_CLIENTS)
        .with_session_expiry(SESSION_EXPIRY)
        .with_max_packet_size(MAX_PACKET)
        .with_max_subscriptions_per_client(MAX_SUBSCRIPTIONS_PER_CLIENT)
        .with_max_retained_messages(MAX_RETAINED)
        .with_max_retained_message_size(MAX_RETAINED_SIZE)
        .with_client_channel_capacity(MAX_QUEUED)
        .with_storage(storage)
        .with_auth(auth)
        .with_sys_topics_enabled(false)
}
