//! Gives a camera its sockets, its MQTT link and the time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::camera::Camera;
use super::faults::{Port, Transmit};
use super::presence::Presence;
use super::report::SimReport;
use super::settings::SimSettings;
use crate::base::{Shutdown, udp};
use crate::media::rtp::{DatagramKind, classify};
use crate::mqtt::{Link, LinkError, Message};

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
#[derive(Debug)]
pub struct Sim {
    camera: Arc<Mutex<Camera>>,
}

impl Sim {
    /// Opens the camera's sockets and begins to connect to the broker. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`SimError`]. A broker that cannot be reached is none: the camera keeps trying.
    pub fn start(settings: SimSettings, shutdown: &Shutdown) -> Result<Self, SimError> {
        let faults = &settings.faults;
        for (what, percent) in [("loss", faults.loss_percent), ("reordering", faults.reorder_percent)] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(SimError::Percent { what, percent });
            }
        }
        let life = Life::start(&settings)?;
        let camera = Camera::new(&settings, Instant::now().into_std(), SystemTime::now());
        let camera = Arc::new(Mutex::new(camera));
        shutdown.spawn(run(life, settings, Arc::clone(&camera), shutdown.clone()));
        Ok(Self { camera })
    }

    /// How the camera is.
    pub fn report(&self) -> SimReport {
        lock(&self.camera).report(Instant::now().into_std())
    }
}

/// A panic elsewhere cannot leave more behind than a wrong number in a report.
fn lock(camera: &Mutex<Camera>) -> MutexGuard<'_, Camera> {
    camera.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(first: Life, settings: SimSettings, camera: Arc<Mutex<Camera>>, shutdown: Shutdown) {
    let mut life = Some(first);
    while !shutdown.is_requested() {
        if let Some(mut life) = life.take() {
            life.live(&camera, &shutdown).await;
            life.end().await;
        }
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(BOOT_TIME) => {}
        }
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
    presence: Presence,
    link: Link,
    incoming: mpsc::Receiver<Message>,
    /// Ends the link. No child of the process's shutdown, as the camera says good-bye after that.
    stage: Shutdown,
}

impl Life {
    fn start(settings: &SimSettings) -> Result<Self, SimError> {
        let sockets = Sockets::bind(settings.bind)?;
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
        Ok(Self { sockets, presence, link, incoming, stage })
    }

    /// Until shutdown or the next reboot.
    async fn live(&mut self, camera: &Mutex<Camera>, shutdown: &Shutdown) {
        let mut status = self.link.status();
        loop {
            let now = Instant::now().into_std();
            let (mut packets, deadline) = {
                let mut camera = lock(camera);
                if camera.reboot_due(now) {
                    camera.reboot(now);
                    return;
                }
                camera.connected = status.borrow_and_update().is_connected();
                camera.advance(now);
                let packets: Vec<Transmit> = std::iter::from_fn(|| camera.transmit()).collect();
                (packets, camera.deadline())
            };
            for packet in packets.drain(..) {
                self.sockets.send(&packet).await;
            }
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.requested() => return,
                () = timer => {}
                Ok(()) = status.changed() => {}
                Some(message) = self.incoming.recv() => {
                    if let Some(kind) = self.presence.kind(&message.topic) {
                        lock(camera).on_message(Instant::now().into_std(), kind, &message.payload);
                    }
                }
                datagram = self.sockets.receive() => {
                    let now = Instant::now().into_std();
                    match classify(datagram) {
                        DatagramKind::Rtcp => lock(camera).on_rtcp(now, datagram),
                        DatagramKind::Rtp => lock(camera).on_rtp(),
                        DatagramKind::Other => {}
                    }
                }
            }
        }
    }

    async fn end(self) {
        self.presence.goodbye(&self.link).await;
        self.stage.request();
        self.stage.drained().await;
    }
}

struct Sockets {
    video: UdpSocket,
    audio: UdpSocket,
    rtcp: UdpSocket,
    buffers: Box<[[u8; MAX_DATAGRAM]; 3]>,
}

impl Sockets {
    fn bind(ip: IpAddr) -> io::Result<Self> {
        let open = || UdpSocket::from_std(udp::bind(SocketAddr::new(ip, 0), RECEIVE_BUFFER, SEND_BUFFER)?);
        Ok(Self { video: open()?, audio: open()?, rtcp: open()?, buffers: Box::new([[0; MAX_DATAGRAM]; 3]) })
    }

    async fn send(&self, Transmit { from, to, bytes }: &Transmit) {
        let socket = match from {
            Port::Video => &self.video,
            Port::Audio => &self.audio,
            Port::Rtcp => &self.rtcp,
        };
        if let Err(error) = socket.send_to(bytes, to).await {
            // To the server it is a packet lost, which it has to bear.
            tracing::debug!(%to, %error, "not sent");
        }
    }

    /// The next datagram on any of them: servers answer to where RTP comes from, or RTCP, or both.
    async fn receive(&mut self) -> &[u8] {
        let Self { video, audio, rtcp, buffers } = self;
        let [first, second, third] = &mut **buffers;
        loop {
            // An error is that of an earlier send.
            tokio::select! {
                Ok((len, _)) = video.recv_from(first) => return &first[..len],
                Ok((len, _)) = audio.recv_from(second) => return &second[..len],
                Ok((len, _)) = rtcp.recv_from(third) => return &third[..len],
                else => {}
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "embedded-broker")]
#[path = "driver_tests.rs"]
mod tests;
