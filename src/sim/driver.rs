//! Gives a camera its sockets, its MQTT link and the time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::camera::Camera;
use super::faults::Transmit;
use super::presence::Presence;
use super::record::SentPicture;
use super::report::SimReport;
use super::settings::{Fault, RtcpSending, SimSettings};
use crate::base::{Shutdown, udp};
use crate::media::rtp::{DatagramKind, classify};
use crate::mqtt::{Link, LinkError, LinkStatus, Message};

/// Keeps the moment of the start apart from all else that is random.
const START_SEED: u64 = 0x7374_6172;
/// Kernel buffers in bytes: little comes in, a keyframe goes out.
const RECEIVE_BUFFER: usize = 64 * 1024;
const SEND_BUFFER: usize = 512 * 1024;
/// Longest datagram that is read: what is longer is not meant for a camera.
const MAX_DATAGRAM: usize = 2048;
/// How long a reboot takes, and the wait before sockets are tried again.
const BOOT_TIME: Duration = Duration::from_secs(2);

/// Why a camera cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Its sockets cannot be bound.
    #[error("the simulated camera has no sockets: {0}")]
    Bind(#[from] io::Error),
    /// Its MQTT settings cannot be used.
    #[error("the simulated camera's MQTT link: {0}")]
    Link(#[from] LinkError),
    /// A share that is not between 0 and 100.
    #[error("{what} is {percent} percent, which is not between 0 and 100")]
    Percent {
        /// Which setting.
        what: &'static str,
        /// Its value.
        percent: f64,
    },
}

/// A running camera. It goes on until shutdown, whether this handle is kept or not.
#[derive(Debug, Clone)]
pub struct Sim {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    camera: Mutex<Camera>,
    /// Something was asked of it.
    asked: Notify,
}

impl Sim {
    /// Opens the camera's sockets and begins to connect to the broker. Must be called inside a tokio runtime.
    /// One that is switched on later does so then, and tries again if it fails.
    ///
    /// # Errors
    ///
    /// See [`SimError`]. A broker that cannot be reached is none: the camera keeps trying.
    pub fn start(settings: SimSettings, shutdown: &Shutdown) -> Result<Self, SimError> {
        let faults = &settings.faults;
        for (what, percent) in [
            ("loss", faults.loss_percent),
            ("reordering", faults.reorder_percent),
            ("duplication", faults.duplicate_percent),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(SimError::Percent { what, percent });
            }
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ START_SEED);
        let wait = faults.start_within.mul_f64(rng.random_range(0.0..1.0));
        let life = if wait.is_zero() { Some(Life::start(&settings)?) } else { None };
        let camera = Camera::new(&settings, Instant::now().into_std(), SystemTime::now());
        let shared = Arc::new(Shared { camera: Mutex::new(camera), asked: Notify::new() });
        shutdown.spawn(run(life, wait, settings, Arc::clone(&shared), shutdown.clone()));
        Ok(Self { shared })
    }

    /// How the camera is.
    pub fn report(&self) -> SimReport {
        self.shared.lock().report(Instant::now().into_std())
    }

    /// What became of the camera's last pictures on the line, the oldest first: about a thousand.
    pub fn pictures(&self) -> Vec<SentPicture> {
        self.shared.lock().pictures()
    }

    /// Lets something befall the camera now. What comes while it reboots waits until it is back.
    pub fn suffer(&self, fault: Fault) {
        self.shared.lock().ask(fault);
        self.shared.asked.notify_one();
    }
}

impl Shared {
    /// A panic elsewhere cannot leave more behind than a wrong number in a report.
    fn lock(&self) -> MutexGuard<'_, Camera> {
        self.camera.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(first: Option<Life>, wait: Duration, mut settings: SimSettings, shared: Arc<Shared>, shutdown: Shutdown) {
    let (mut life, mut wait) = (first, wait);
    while !shutdown.is_requested() {
        if let Some(mut life) = life.take() {
            life.live(&shared, &mut settings, &shutdown).await;
            life.end().await;
            wait = BOOT_TIME;
        }
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = BOOT_TIME;
        match Life::start(&settings) {
            Ok(next) => life = Some(next),
            Err(error) => tracing::warn!(camera = %settings.camera, %error, "does not come back yet"),
        }
    }
    if let Some(life) = life {
        life.end().await;
    }
}

/// All that a reboot takes away.
struct Life {
    sockets: Sockets,
    /// An imitator has none.
    control: Option<Control>,
}

/// The camera's place at the broker.
struct Control {
    presence: Presence,
    link: Link,
    incoming: mpsc::Receiver<Message>,
    status: watch::Receiver<LinkStatus>,
    /// Ends the link. No child of the process's shutdown, as the camera says good-bye after that.
    stage: Shutdown,
}

/// What the broker has for the camera.
enum Heard {
    Message(Message),
    Status,
}

impl Control {
    fn start(settings: &SimSettings) -> Result<Self, LinkError> {
        let stage = Shutdown::new();
        let presence = Presence::new(settings);
        let (link, incoming) = Link::start(presence.link_settings(settings), &stage)?;
        let (task, requested) = (presence.clone().run(link.clone()), stage.clone());
        stage.spawn(async move {
            tokio::select! {
                () = requested.requested() => {}
                () = task => {}
            }
        });
        let status = link.status();
        Ok(Self { presence, link, incoming, status, stage })
    }

    async fn hear(&mut self) -> Heard {
        tokio::select! {
            Some(message) = self.incoming.recv() => Heard::Message(message),
            Ok(()) = self.status.changed() => Heard::Status,
            else => std::future::pending().await,
        }
    }

    async fn leave(self) {
        self.stage.request();
        self.stage.drained().await;
    }
}

impl Life {
    fn start(settings: &SimSettings) -> Result<Self, SimError> {
        let sockets = Sockets::bind(settings)?;
        let control = if settings.faults.imitate.is_some() { None } else { Some(Control::start(settings)?) };
        Ok(Self { sockets, control })
    }

    /// Until shutdown or the next reboot.
    async fn live(&mut self, shared: &Shared, settings: &mut SimSettings, shutdown: &Shutdown) {
        if let Some(to) = settings.faults.imitate {
            shared.lock().imitate(Instant::now().into_std(), to);
        }
        loop {
            let now = Instant::now().into_std();
            while let Some(fault) = { shared.lock().next_fault(now) } {
                match fault {
                    Fault::Reboot => return,
                    Fault::Rebind => self.sockets.replace(settings),
                    Fault::Move(ip) => self.move_to(ip, settings).await,
                    Fault::ChangeSource | Fault::SwitchSound => {}
                }
            }
            let (packets, deadline) = {
                let mut camera = shared.lock();
                let status = self.control.as_mut().map(|control| control.status.borrow_and_update().is_connected());
                camera.connected = status.unwrap_or(false);
                camera.advance(now);
                let packets: Vec<Transmit> = std::iter::from_fn(|| camera.transmit()).collect();
                (packets, camera.deadline())
            };
            for packet in &packets {
                self.sockets.send(packet).await;
            }
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(together(deadline.into(), settings.coalesce)).await,
                    None => std::future::pending().await,
                }
            };
            let heard = async {
                match &mut self.control {
                    Some(control) => control.hear().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.requested() => return,
                () = shared.asked.notified() => {}
                () = timer => {}
                heard = heard => {
                    if let Heard::Message(message) = heard
                        && let Some(kind) = self.control.as_ref().and_then(|c| c.presence.kind(&message.topic))
                    {
                        shared.lock().on_message(Instant::now().into_std(), kind, &message.payload);
                    }
                }
                datagram = self.sockets.receive() => {
                    let now = Instant::now().into_std();
                    match classify(datagram) {
                        DatagramKind::Rtcp => shared.lock().on_rtcp(now, datagram),
                        DatagramKind::Rtp => shared.lock().on_rtp(),
                        DatagramKind::Other => {}
                    }
                }
            }
        }
    }

    /// Has another address from now on. The old connection to the broker does not survive that.
    async fn move_to(&mut self, ip: IpAddr, settings: &mut SimSettings) {
        settings.bind = ip;
        self.sockets.replace(settings);
        if let Some(control) = self.control.take() {
            control.leave().await;
            match Control::start(settings) {
                Ok(control) => self.control = Some(control),
                Err(error) => tracing::warn!(camera = %settings.camera, %error, "has no broker any more"),
            }
        }
    }

    async fn end(self) {
        if let Some(control) = self.control {
            control.presence.goodbye(&control.link).await;
            control.leave().await;
        }
    }
}

/// The next moment from `at` on that all cameras of the process share.
fn together(at: Instant, step: Duration) -> Instant {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = at.saturating_duration_since(*EPOCH);
    match since.as_nanos().checked_rem(step.as_nanos()) {
        None | Some(0) => at,
        // Less than the step.
        Some(past) => at + step - Duration::from_nanos(past as u64),
    }
}

struct Sockets {
    /// In the order of `faults::Port`; the last one only where it is used.
    sockets: Vec<UdpSocket>,
    buffer: Box<[u8; MAX_DATAGRAM]>,
}

impl Sockets {
    fn bind(settings: &SimSettings) -> io::Result<Self> {
        let count = if settings.behaviour.rtcp == RtcpSending::OwnPortEach { 4 } else { 3 };
        let open = |_| UdpSocket::from_std(udp::bind(SocketAddr::new(settings.bind, 0), RECEIVE_BUFFER, SEND_BUFFER)?);
        let sockets = (0..count).map(open).collect::<io::Result<_>>()?;
        Ok(Self { sockets, buffer: Box::new([0; MAX_DATAGRAM]) })
    }

    /// Others instead; these, if there are none to be had.
    fn replace(&mut self, settings: &SimSettings) {
        match Self::bind(settings) {
            Ok(sockets) => *self = sockets,
            Err(error) => tracing::warn!(camera = %settings.camera, %error, "keeps its ports"),
        }
    }

    async fn send(&self, Transmit { from, to, bytes }: &Transmit) {
        let Some(socket) = self.sockets.get(*from as usize) else { return };
        if let Err(error) = socket.send_to(bytes, to).await {
            // To the server it is a packet lost, which it has to bear.
            tracing::debug!(%to, %error, "not sent");
        }
    }

    /// The next datagram on any of them: servers answer to where RTP comes from, or RTCP, or both.
    async fn receive(&mut self) -> &[u8] {
        let Self { sockets, buffer } = self;
        let len = std::future::poll_fn(|cx| {
            for socket in sockets.iter() {
                loop {
                    let mut buffer = ReadBuf::new(&mut buffer[..]);
                    match socket.poll_recv_from(cx, &mut buffer) {
                        Poll::Ready(Ok(_)) => return Poll::Ready(buffer.filled().len()),
                        // That of an earlier send.
                        Poll::Ready(Err(_)) => {}
                        Poll::Pending => break,
                    }
                }
            }
            Poll::Pending
        })
        .await;
        &buffer[..len]
    }
}

#[cfg(test)]
#[cfg(feature = "embedded-broker")]
#[path = "driver_tests.rs"]
mod tests;
