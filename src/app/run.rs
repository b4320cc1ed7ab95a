//! The life of the process: start, announce, wait, stop.

use std::net::IpAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::demo::DemoCamera;
use super::service::{Addresses, Service, StartError};
use crate::config::{Config, Loaded};

/// `ready` waits no longer for the first attempt to reach the broker.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

/// How the service ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody asked for it.
    Stopped,
    /// A part ended that should not have.
    Failed(String),
}

/// Runs the service until SIGINT, SIGTERM or a failure. `demo` adds a simulated camera.
///
/// Prints one line `ready {…}` with the real addresses to standard output once everything listens.
///
/// # Errors
///
/// It cannot start.
pub async fn run(loaded: &Loaded, demo: bool) -> Result<Outcome, StartError> {
    loaded.notices.iter().for_each(|notice| tracing::warn!("{notice}"));
    let config = &loaded.config;
    raise_open_files(config.limits.connections);
    let mut stop = StopSignal::new().map_err(StartError::Media)?;
    let mut service = Service::start(config).await?;
    service.watch_access(loaded);
    // A script that starts cameras as soon as we are ready should not be refused for a few milliseconds.
    let _ = tokio::time::timeout(FIRST_ATTEMPT, service.control().broker_tried()).await;
    service.tell_ready();
    announce(config, service.addresses());
    let camera = match demo {
        true => Some(DemoCamera::start(config, &service).await?),
        false => None,
    };
    let outcome = tokio::select! {
        name = stop.received() => {
            tracing::info!(signal = name, "stopping");
            Outcome::Stopped
        }
        failure = service.failed() => {
            tracing::error!("{failure}; stopping");
            Outcome::Failed(failure)
        }
    };
    // The demo's camera leaves its broker before that ends, or it would complain about it.
    let camera = async {
        if let Some(camera) = camera {
            camera.stop().await;
        }
    };
    // Whoever asks twice does not want to wait.
    tokio::select! {
        _ = async { tokio::join!(service.stop("Service is shutting down"), camera) } => {}
        _ = stop.received() => tracing::warn!("stopped at once"),
    }
    Ok(outcome)
}

/// Files beside the connections: sockets of media, the store, the broker and whatever libraries open.
const OTHER_FILES: u64 = 256;

/// Makes room for as many connections as are allowed, as far as the system lets us.
fn raise_open_files(connections: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::from(connections) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let possible = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if limit.current.is_some_and(|current| current < possible) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum });
    }
    if getrlimit(Resource::Nofile).current.is_some_and(|current| current < wanted) {
        tracing::warn!(
            wanted,
            "the limit of open files is lower than limits.connections needs: raise it (LimitNOFILE), or lower the key"
        );
    }
}

#[expect(clippy::print_stdout, reason = "standard output is for whoever started the process; logs go elsewhere")]
fn announce(config: &Config, addresses: &Addresses) {
    let network = &config.network;
    let from = |ip: Option<IpAddr>| if ip.is_some() { "configured" } else { "from the default route" };
    tracing::info!(
        local_ip = %network.local_ip(), local = from(network.local_ip),
        external_ip = %network.external_ip(), external = from(network.external_ip),
        "addresses that cameras and viewers are told"
    );
    tracing::info!(
        api = %addresses.api, signaling = %addresses.signaling, dashboard = %addresses.dashboard,
        viewer_udp = addresses.viewer_udp, camera_udp = %format_args!(
            "{}, {}, {}", addresses.camera_video_udp, addresses.camera_rtcp_udp, addresses.camera_audio_udp),
        "honeycast {} listens", env!("CARGO_PKG_VERSION")
    );
    // Plain data under string keys: nothing that serde_json could refuse.
    println!("ready {}", serde_json::to_string(addresses).unwrap_or_default());
}

/// SIGINT or SIGTERM.
pub(crate) struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
