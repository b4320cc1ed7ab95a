//! What kind of camera to be, and what goes wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::base::CameraId;
use crate::media::Codec;
use crate::mqtt::{TlsSettings, TopicSettings};

/// One simulated camera.
#[derive(Debug, Clone)]
pub struct SimSettings {
    /// Its id.
    pub camera: CameraId,
    /// The broker that it is controlled through.
    pub link: SimLink,
    /// The address that it sends from and, unless unspecified, tells on MQTT.
    pub bind: IpAddr,
    /// Decides everything that is random: numbers to begin with, lost and swapped packets.
    pub seed: u64,
    /// Its ways.
    pub behaviour: CameraSettings,
    /// What goes wrong.
    pub faults: FaultSettings,
    /// Timers wait for the next multiple of this, so that many cameras of one process wake up together; zero is
    /// exact. Packets are late by as much.
    pub coalesce: Duration,
}

/// How to reach the broker.
#[derive(Clone)]
pub struct SimLink {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS; plain TCP without.
    pub tls: Option<TlsSettings>,
    /// User name and password.
    pub credentials: Option<(String, String)>,
    /// Topics; those of real cameras unless changed.
    pub topics: TopicSettings,
}

impl std::fmt::Debug for SimLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        let mut debug = f.debug_struct("SimLink");
        debug.field("host", &self.host).field("port", &self.port).field("tls", &self.tls).field("user", &user);
        // The password stays out of every log.
        debug.finish_non_exhaustive()
    }
}

/// Where a camera's own RTCP comes from; nobody knows of all models (contract §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RtcpSending {
    /// A socket of its own.
    #[default]
    OwnPort,
    /// The socket of the medium's RTP.
    SameAsRtp,
    /// A socket of its own, but nothing until some RTCP has arrived.
    AfterReceived,
    /// A socket for each medium.
    OwnPortEach,
    /// None at all.
    None,
}

/// A camera's ways.
#[derive(Debug, Clone)]
pub struct CameraSettings {
    /// The sound that it sends: Opus, PCMU or none.
    pub audio: Option<Codec>,
    /// How it sends RTCP.
    pub rtcp: RtcpSending,
    /// How long it streams without receiver reports or REMB; `None` is for ever.
    pub stop_without_feedback: Option<Duration>,
    /// How long it streams without keepalives; `None` is for ever.
    pub stop_without_keepalive: Option<Duration>,
    /// Whether its bitrate follows REMB.
    pub follow_remb: bool,
    /// Whether it sends a keyframe when asked with PLI or FIR.
    pub honour_pli: bool,
    /// Whether it repeats packets when asked with NACK.
    pub answer_nack: bool,
    /// How long it takes to do what it is told on MQTT.
    pub reaction: Duration,
    /// Whether it never sends more than the small picture.
    pub small_picture: bool,
    /// Pictures a second, 1 to 60. The clip is made for 25; with others its loop is slower or faster.
    pub frame_rate: u32,
}

impl Default for CameraSettings {
    fn default() -> Self {
        Self {
            audio: Some(Codec::Opus),
            rtcp: RtcpSending::OwnPort,
            stop_without_feedback: Some(Duration::from_secs(30)),
            stop_without_keepalive: Some(Duration::from_secs(120)),
            follow_remb: true,
            honour_pli: false,
            answer_nack: true,
            reaction: Duration::ZERO,
            small_picture: false,
            frame_rate: 25,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct FaultSettings {
    /// Percent of the media packets that are lost on the way.
    pub loss_percent: f64,
    /// Packets that each loss takes in a row; 0 and 1 are one. The share that is lost stays the same.
    pub loss_burst: u32,
    /// Percent of the media packets that swap places with the next one.
    pub reorder_percent: f64,
    /// Percent of the media packets that come twice.
    pub duplicate_percent: f64,
    /// Media packets are delayed by up to this long each, and keep their order.
    pub jitter: Duration,
    /// What befalls it once each, and when, counted from the beginning of its first stream.
    pub schedule: Vec<(Duration, Fault)>,
    /// It is switched on at a random moment within this time.
    pub start_within: Duration,
    /// Sound begins this long after the picture.
    pub audio_after: Duration,
    /// Sequence numbers and timestamps begin so that they wrap around within the first seconds.
    pub near_wrap: bool,
    /// It accepts `play` and sends nothing.
    pub silent: bool,
    /// It is no camera of the server's: it has no link to the broker, and sends there unasked.
    pub imitate: Option<Imitated>,
}

/// Something that befalls a camera at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It restarts: leaves the broker, forgets its stream, comes back 2 s later with new ports and numbers.
    Reboot,
    /// NAT forgets its ports: the stream goes on from others.
    Rebind,
    /// DHCP gives it another address: the stream goes on from there, the broker link is made anew and tells it.
    Move(IpAddr),
    /// The stream goes on with other SSRCs and numbers.
    ChangeSource,
    /// Its sound goes on in the other codec, from the same source.
    SwitchSound,
}

/// Where an imitator sends to: the ports of the server for cameras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imitated {
    /// Video RTP.
    pub video: SocketAddr,
    /// RTCP of both media.
    pub rtcp: SocketAddr,
    /// Audio RTP.
    pub audio: SocketAddr,
}

impl SimSettings {
    /// A faultless camera that sends from whichever address leads to the server, without TLS.
    pub fn new(camera: CameraId, host: impl Into<String>, port: u16) -> Self {
        let link = SimLink { host: host.into(), port, tls: None, credentials: None, topics: TopicSettings::default() };
        Self {
            camera,
            link,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            seed: 1,
            behaviour: CameraSettings::default(),
            faults: FaultSettings::default(),
            coalesce: Duration::ZERO,
        }
    }

    /// The `n`-th of several cameras: the same ways, another id and another seed. The 0th is this one.
    ///
    /// Ids differ in their first eight digits, which are what logs and session ids show.
    pub fn nth(&self, n: u32) -> Self {
        let (head, tail) = self.camera.as_str().split_at(8);
        // Eight hex digits always fit; the id stays as it is otherwise.
        let head = u32::from_str_radix(head, 16).map(|head| head.wrapping_add(n));
        let camera = head.ok().and_then(|head| format!("{head:08X}{tail}").parse().ok()).unwrap_or(self.camera);
        Self { camera, seed: self.seed.wrapping_add(u64::from(n)), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_camera_has_another_id_and_seed() {
        let first = SimSettings::new("FFFFFFFFF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap(), "h", 1);
        assert_eq!(first.nth(0).camera, first.camera);
        let third = first.nth(2);
        assert_eq!((third.camera.as_str(), third.seed), ("00000001F1FA4C6CAEBA3E2FD85EFEBF", 3));
    }

    #[test]
    fn a_password_is_not_printed() {
        let mut settings = SimSettings::new("FFFFFFFFF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap(), "h", 1);
        settings.link.credentials = Some(("user".to_owned(), "secret".to_owned()));
        let text = format!("{settings:?}");
        assert!(text.contains("user") && !text.contains("secret"), "{text}");
    }
}
