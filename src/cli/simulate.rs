//! `honeycast simulate-camera`: one or more cameras that are not there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::base::CameraId;
use crate::mqtt::TlsSettings;
use crate::sim::{CameraSettings, Codec, Fault, FaultSettings, Imitated, ReportFormat, RtcpSending, SimSettings};

/// From this many on, cameras wake up together.
const MANY: u32 = 10;
const COALESCE: Duration = Duration::from_millis(5);

/// Options of the simulated camera.
///
/// The camera waits on the broker for `play`, then sends a test clip as plain RTP to where the message says,
/// as long as it gets receiver reports or REMB. Once a second it prints how it is.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// MQTT broker; IPv6 addresses in brackets.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    broker: String,

    /// Id of the camera: 32 upper-case hex digits.
    #[arg(long, value_name = "ID", default_value = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF")]
    camera_id: CameraId,

    /// How many cameras to be. The further ones have ids that count up in the first eight digits, and seeds
    /// that count up.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,

    /// Seed of all that is random: first sequence numbers and timestamps, lost and swapped packets.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Address to send from. It is also told on MQTT, which helps the server to recognise the camera; the
    /// default sends from whichever address leads to the server.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    bind: IpAddr,

    /// What to print once a second for each camera.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Report::Text)]
    report: Report,

    /// User name at the broker.
    #[arg(long, value_name = "NAME", requires = "password", help_heading = "Broker")]
    username: Option<String>,

    /// Password at the broker. Other users of this machine can see it in the list of processes.
    #[arg(long, value_name = "PASSWORD", requires = "username", help_heading = "Broker")]
    password: Option<String>,

    /// Use TLS and trust the CA certificates of this PEM file.
    #[arg(long, value_name = "FILE", help_heading = "Broker")]
    ca_cert: Option<PathBuf>,

    /// PEM file with the client certificate; TLS is used then.
    #[arg(long, value_name = "FILE", requires = "client_key", help_heading = "Broker")]
    client_cert: Option<PathBuf>,

    /// PEM file with the key of the client certificate.
    #[arg(long, value_name = "FILE", requires = "client_cert", help_heading = "Broker")]
    client_key: Option<PathBuf>,

    /// Name that the broker's certificate must carry, if it is not the one in --broker; TLS is used then.
    #[arg(long, value_name = "NAME", conflicts_with = "no_verify_hostname", help_heading = "Broker")]
    server_name: Option<String>,

    /// Use TLS, but take any name in the broker's certificate. Who signed it is checked all the same.
    #[arg(long, help_heading = "Broker")]
    no_verify_hostname: bool,

    /// Seconds without receiver report or REMB after which the camera stops streaming; 0 = never.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds, help_heading = "Ways")]
    stop_without_feedback: f64,

    /// Seconds without keepalive after which the camera stops streaming; 0 = never.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, value_parser = seconds, help_heading = "Ways")]
    stop_without_keepalive: f64,

    /// Where the camera's own RTCP comes from.
    #[arg(long, value_name = "PORT", value_enum, default_value_t = Rtcp::OwnPort, help_heading = "Ways")]
    rtcp: Rtcp,

    /// Send no RTCP; the same as --rtcp none.
    #[arg(long, conflicts_with = "rtcp", help_heading = "Ways")]
    no_rtcp: bool,

    /// What the sound is.
    #[arg(long, value_name = "CODEC", value_enum, default_value_t = Audio::Opus, help_heading = "Ways")]
    audio: Audio,

    /// Send no audio; the same as --audio none.
    #[arg(long, conflicts_with = "audio", help_heading = "Ways")]
    no_audio: bool,

    /// Keep the bitrate, whatever REMB says. Otherwise the camera sends a small picture (about 200 kbit/s)
    /// when REMB is below the bitrate of the large one (about 600 kbit/s).
    #[arg(long, help_heading = "Ways")]
    ignore_remb: bool,

    /// Do not repeat packets when asked with NACK.
    #[arg(long, help_heading = "Ways")]
    ignore_nack: bool,

    /// Send a keyframe when asked with PLI or FIR. Otherwise one comes every 4 s and not before.
    #[arg(long, help_heading = "Ways")]
    honour_pli: bool,

    /// Take this many seconds to do what a message says.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, help_heading = "Ways")]
    reaction: f64,

    /// Never send more than the small picture.
    #[arg(long, help_heading = "Ways")]
    small_picture: bool,

    /// Pictures a second, 1 to 60. The clip is made for 25; with others its loop is slower or faster.
    #[arg(long, value_name = "NUMBER", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=60), help_heading = "Ways")]
    frame_rate: u32,

    /// Lose this share of the RTP packets, 0 to 100.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent, help_heading = "Faults")]
    loss: f64,

    /// Let this share of the RTP packets be overtaken by the next one, 0 to 100.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent, help_heading = "Faults")]
    reorder: f64,

    /// Lose this many packets in a row with each loss; --loss stays the share of all.
    #[arg(long, value_name = "PACKETS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Faults")]
    loss_burst: u32,

    /// Let this share of the RTP packets come twice, 0 to 100.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent, help_heading = "Faults")]
    duplicates: f64,

    /// Delay each RTP packet by up to this long; the order stays.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0.0, value_parser = millis, help_heading = "Faults")]
    jitter: f64,

    /// Reboot once, this many seconds after the first stream began: leave the broker, forget the stream, come
    /// back 2 s later with other ports, sequence numbers and timestamps.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Faults")]
    reboot_after: Option<f64>,

    /// Go on from other ports once, this many seconds after the first stream began, as behind a NAT that forgets.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Faults")]
    rebind_after: Option<f64>,

    /// Go on from another address once, this many seconds after the first stream began.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "move_to", help_heading = "Faults")]
    move_after: Option<f64>,

    /// The address of --move-after; it must be one of this machine.
    #[arg(long, value_name = "IP", requires = "move_after", help_heading = "Faults")]
    move_to: Option<IpAddr>,

    /// Go on with other SSRCs and numbers once, this many seconds after the first stream began.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Faults")]
    change_ssrc_after: Option<f64>,

    /// Go on with the sound in the other codec once, this many seconds after the first stream began.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Faults")]
    switch_audio_after: Option<f64>,

    /// Let sequence numbers and timestamps wrap around within the first seconds.
    #[arg(long, help_heading = "Faults")]
    near_wrap: bool,

    /// Let sound begin this many seconds after the picture.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, help_heading = "Faults")]
    audio_after: f64,

    /// Switch each camera on at a random moment within this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, help_heading = "Faults")]
    start_within: f64,

    /// Be an imitator: have no broker, and send unasked to this address of the server's video, to the port above
    /// (RTCP) and to the one above that (audio).
    #[arg(long, value_name = "IP:PORT", value_parser = imitated, help_heading = "Faults")]
    imitate: Option<Imitated>,

    /// Accept play, but send nothing.
    #[arg(long, help_heading = "Faults")]
    silent: bool,
}

/// How reports look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Report {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
    /// Nothing.
    None,
}

/// What the sound is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Audio {
    /// Opus.
    Opus,
    /// PCMU.
    Pcmu,
    /// None.
    None,
}

/// Where RTCP comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rtcp {
    /// A socket of its own.
    OwnPort,
    /// The socket of the RTP that it is about.
    SameAsRtp,
    /// A socket of its own, but nothing until some RTCP has come.
    AfterReceived,
    /// A socket for each medium.
    OwnPortEach,
    /// Nothing is sent.
    None,
}

impl SimulateArgs {
    /// The cameras to be.
    ///
    /// # Errors
    ///
    /// `--broker` is not a host and a port.
    pub(super) fn settings(&self) -> anyhow::Result<Vec<SimSettings>> {
        let (host, port) = host_and_port(&self.broker)
            .with_context(|| format!("--broker {:?} is not HOST:PORT, like 127.0.0.1:1883", self.broker))?;
        let mut first = SimSettings::new(self.camera_id, host, port);
        first.link.tls = self.tls();
        first.link.credentials = self.username.clone().zip(self.password.clone());
        first.bind = self.bind;
        first.seed = self.seed;
        first.behaviour = CameraSettings {
            audio: match self.audio {
                _ if self.no_audio => None,
                Audio::Opus => Some(Codec::Opus),
                Audio::Pcmu => Some(Codec::Pcmu),
                Audio::None => None,
            },
            rtcp: match self.rtcp {
                _ if self.no_rtcp => RtcpSending::None,
                Rtcp::OwnPort => RtcpSending::OwnPort,
                Rtcp::SameAsRtp => RtcpSending::SameAsRtp,
                Rtcp::AfterReceived => RtcpSending::AfterReceived,
                Rtcp::OwnPortEach => RtcpSending::OwnPortEach,
                Rtcp::None => RtcpSending::None,
            },
            stop_without_feedback: limit(self.stop_without_feedback),
            stop_without_keepalive: limit(self.stop_without_keepalive),
            follow_remb: !self.ignore_remb,
            honour_pli: self.honour_pli,
            answer_nack: !self.ignore_nack,
            reaction: Duration::from_secs_f64(self.reaction),
            small_picture: self.small_picture,
            frame_rate: self.frame_rate,
        };
        first.faults = FaultSettings {
            loss_percent: self.loss,
            loss_burst: self.loss_burst,
            reorder_percent: self.reorder,
            duplicate_percent: self.duplicates,
            jitter: Duration::from_secs_f64(self.jitter / 1000.0),
            schedule: self.schedule(),
            start_within: Duration::from_secs_f64(self.start_within),
            audio_after: Duration::from_secs_f64(self.audio_after),
            near_wrap: self.near_wrap,
            silent: self.silent,
            imitate: self.imitate,
        };
        if self.count >= MANY {
            first.coalesce = COALESCE;
        }
        Ok((0..self.count).map(|n| first.nth(n)).collect())
    }

    fn schedule(&self) -> Vec<(Duration, Fault)> {
        let moved = self.move_after.zip(self.move_to.map(Fault::Move));
        let others = [
            (self.reboot_after, Fault::Reboot),
            (self.rebind_after, Fault::Rebind),
            (self.change_ssrc_after, Fault::ChangeSource),
            (self.switch_audio_after, Fault::SwitchSound),
        ];
        let others = others.into_iter().filter_map(|(after, fault)| after.map(|after| (after, fault)));
        moved.into_iter().chain(others).map(|(after, fault)| (Duration::from_secs_f64(after), fault)).collect()
    }

    /// How reports are to be printed.
    pub(super) fn report_format(&self) -> ReportFormat {
        match self.report {
            Report::Json => ReportFormat::Json,
            Report::Text => ReportFormat::Text,
            Report::None => ReportFormat::None,
        }
    }

    /// TLS, if any option asks for it.
    fn tls(&self) -> Option<TlsSettings> {
        let asked = self.ca_cert.is_some()
            || self.client_cert.is_some()
            || self.server_name.is_some()
            || self.no_verify_hostname;
        asked.then(|| TlsSettings {
            ca: self.ca_cert.clone(),
            client_cert: self.client_cert.clone(),
            client_key: self.client_key.clone(),
            server_name: self.server_name.clone(),
            verify_hostname: !self.no_verify_hostname,
        })
    }
}

/// 0 is never.
fn limit(seconds: f64) -> Option<Duration> {
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds))
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        // More colons without brackets: an IPv6 address whose end would be taken for the port.
        None => Some(host).filter(|host| !host.contains(':'))?,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 100.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    // A day: what is longer is meant to be never.
    number(text, 86_400.0)
}

fn millis(text: &str) -> Result<f64, String> {
    number(text, 10_000.0)
}

fn imitated(text: &str) -> Result<Imitated, String> {
    let video: SocketAddr = text.parse().map_err(|_| "expected an address and a port, like 127.0.0.1:5006")?;
    let above = |n| video.port().checked_add(n).map(|port| SocketAddr::new(video.ip(), port));
    match (video.port(), above(1), above(2)) {
        (1.., Some(rtcp), Some(audio)) => Ok(Imitated { video, rtcp, audio }),
        _ => Err("expected a port from 1 to 65533".to_owned()),
    }
}

fn number(text: &str, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from 0 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn parse(line: &str) -> Result<SimulateArgs, clap::Error> {
        Command::try_parse_from(["simulate-camera"].into_iter().chain(line.split_whitespace())).map(|c| c.args)
    }

    fn one(line: &str) -> SimSettings {
        let settings = parse(line).unwrap().settings().unwrap();
        assert_eq!(settings.len(), 1);
        settings.into_iter().next().unwrap()
    }

    #[test]
    fn the_defaults_are_a_faultless_camera_on_this_machine() {
        use clap::CommandFactory;
        Command::command().debug_assert();
        let camera = one("");
        assert_eq!((camera.link.host.as_str(), camera.link.port), ("127.0.0.1", 1883));
        assert!(camera.link.tls.is_none() && camera.link.credentials.is_none());
        assert_eq!(camera.behaviour.stop_without_feedback, Some(Duration::from_secs(30)));
        assert_eq!(camera.behaviour.rtcp, RtcpSending::OwnPort);
        assert_eq!(camera.behaviour.audio, Some(Codec::Opus));
        assert!(camera.behaviour.follow_remb && camera.behaviour.answer_nack);
        assert!(!camera.behaviour.honour_pli && !camera.faults.silent && camera.faults.schedule.is_empty());
    }

    #[test]
    fn every_option_arrives() {
        let camera = one("--broker [::1]:8883 --camera-id 00000000000000000000000000000001 --seed 7 --bind 127.0.0.1 \
             --username u --password p --ca-cert ca --client-cert c --client-key k --server-name n \
             --stop-without-feedback 0 --stop-without-keepalive 9.5 --no-rtcp --no-audio --ignore-remb --ignore-nack --reaction 6 --honour-pli \
             --loss 1.5 --reorder 2 --reboot-after 10 --silent \
             --loss-burst 4 --duplicates 3 --jitter 30 --rebind-after 1 --move-after 2 --move-to 127.0.0.9 \
             --change-ssrc-after 3 --near-wrap --audio-after 4 --start-within 5 --imitate 127.0.0.1:5006 \
             --small-picture --frame-rate 10");
        assert_eq!((camera.link.host.as_str(), camera.link.port), ("::1", 8883));
        assert_eq!((camera.camera.as_str(), camera.seed), ("00000000000000000000000000000001", 7));
        assert_eq!(camera.bind, IpAddr::from(Ipv4Addr::LOCALHOST));
        assert_eq!(camera.link.credentials, Some(("u".to_owned(), "p".to_owned())));
        let tls = camera.link.tls.unwrap();
        assert_eq!((tls.ca, tls.client_cert), (Some("ca".into()), Some("c".into())));
        assert_eq!((tls.client_key, tls.server_name.as_deref()), (Some("k".into()), Some("n")));
        assert!(tls.verify_hostname);
        let ways = camera.behaviour;
        assert_eq!((ways.stop_without_feedback, ways.rtcp), (None, RtcpSending::None));
        assert_eq!(ways.stop_without_keepalive, Some(Duration::from_millis(9_500)));
        assert!(ways.audio.is_none() && !ways.follow_remb && !ways.answer_nack && ways.honour_pli);
        assert_eq!(ways.reaction, Duration::from_secs(6));
        let faults = camera.faults;
        assert_eq!((faults.loss_percent, faults.reorder_percent), (1.5, 2.0));
        assert!(faults.silent && faults.near_wrap && ways.small_picture);
        assert_eq!((faults.loss_burst, faults.duplicate_percent, ways.frame_rate), (4, 3.0, 10));
        assert_eq!((faults.jitter, faults.audio_after), (Duration::from_millis(30), Duration::from_secs(4)));
        assert_eq!(faults.start_within, Duration::from_secs(5));
        let schedule = [
            (2, Fault::Move([127, 0, 0, 9].into())),
            (10, Fault::Reboot),
            (1, Fault::Rebind),
            (3, Fault::ChangeSource),
        ];
        assert_eq!(faults.schedule, schedule.map(|(after, fault)| (Duration::from_secs(after), fault)));
        let to = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(faults.imitate, Some(Imitated { video: to(5006), rtcp: to(5007), audio: to(5008) }));
        assert_eq!(one("--audio pcmu").behaviour.audio, Some(Codec::Pcmu));
        assert_eq!(one("--audio none").behaviour.audio, None);
        assert_eq!(one("--rtcp own-port-each").behaviour.rtcp, RtcpSending::OwnPortEach);
        assert_eq!(one("--rtcp after-received").behaviour.rtcp, RtcpSending::AfterReceived);
        assert!(!one("--no-verify-hostname").link.tls.unwrap().verify_hostname);
        assert_eq!(parse("--report json").unwrap().report_format(), ReportFormat::Json);
    }

    #[test]
    fn several_cameras_have_several_ids() {
        let cameras = parse("--count 3").unwrap().settings().unwrap();
        let heads: Vec<_> = cameras.iter().map(|camera| &camera.camera.as_str()[..8]).collect();
        assert_eq!(heads, ["56C1CADC", "56C1CADD", "56C1CADE"]);
        assert!(cameras.iter().all(|camera| camera.coalesce.is_zero()));
        let many = parse("--count 200").unwrap().settings().unwrap();
        assert!(many.iter().all(|camera| camera.coalesce == COALESCE));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--camera-id x",
            "--count 0",
            "--loss 101",
            "--loss NaN",
            "--reorder -1",
            "--username u",
            "--move-after 1",
            "--imitate 5006",
            "--imitate 127.0.0.1:65534",
            "--frame-rate 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for broker in ["localhost", "localhost:0", ":1883", "::1:1883", "[::1:1883", "h:70000"] {
            assert!(parse(&format!("--broker {broker}")).unwrap().settings().is_err(), "{broker}");
        }
    }
}
