//! The command line. Everything that it does is in [`crate::app`], [`crate::config`] and [`crate::sim`].

mod access;
mod simulate;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use self::simulate::SimulateArgs;
use crate::app::{self, Outcome};
use crate::base::Shutdown;
use crate::config::{self, Loaded, Problems, Sources};
use crate::{sim, telemetry};

/// The configuration cannot be used (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// Threads that still run after an orderly stop are left behind after this time.
const RUNTIME_STOP: Duration = Duration::from_millis(100);

/// Brings security cameras to browsers: takes their plain RTP, forwards it by WebRTC to any number of viewers.
///
/// Cameras are told over MQTT to stream, viewers come by WebSocket signaling, and everything can be driven by
/// REST. Settings come from defaults, the configuration file, .env, the environment and flags; the later wins.
#[derive(Debug, Parser)]
#[command(name = "honeycast", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0   ended because it was asked to (SIGINT, SIGTERM), or the configuration is usable
  1   a port, file or thread cannot be had, or a part of the service failed
  2   wrong command line
  78  the configuration cannot be used; standard error names every wrong key and where it came from

Examples:
  honeycast demo                                       try it: no camera and no broker needed
  honeycast run --config /etc/honeycast.toml
  honeycast run --set mqtt.embedded=true               a small site without a broker of its own
  honeycast simulate-camera --broker 127.0.0.1:1883    a camera for tests";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGINT or SIGTERM.
    ///
    /// Prints a line `ready {…}` with the real addresses to standard output once everything listens; logs go to
    /// standard error. On a signal cameras are told to stop, viewers are told, and the process ends within 2 s.
    Run(Settings),
    /// Run the service with a broker of its own and one simulated camera, and print the address to open.
    ///
    /// All settings hold as with `run`. What nobody has set otherwise: the embedded broker is on, at a port of
    /// 127.0.0.1 that the system chooses, and streams do not end for want of viewers.
    Demo(Settings),
    /// Be one or more cameras: real MQTT, RTP and RTCP, with faults on request.
    ///
    /// Behaves as a VBC01 does. Waits for `play`, refuses one whose SDP lacks what the camera needs (and says
    /// what), sends H.264 and Opus, follows REMB, and stops after 30 s without RTCP feedback. Prints once a
    /// second what it saw.
    SimulateCamera(Box<SimulateArgs>),
    /// Check the configuration and say everything that is wrong with it. Nothing is started.
    CheckConfig(Settings),
    /// Print the effective configuration as TOML, with the source of every value. Secrets are masked.
    PrintConfig(Settings),
    /// Make an API key: prints it, and the line for `auth.api_keys` that lets it in.
    CreateKey(access::CreateKeyArgs),
    /// Print the hash of a key that comes on standard input, for `auth.api_keys`.
    HashKey,
    /// Make a token (HS256) with the secret of the configuration, `auth.jwt_secret`.
    CreateToken(Box<access::CreateTokenArgs>),
}

/// Where settings come from beside the environment.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file (TOML). Without it: the file that HONEYCAST_CONFIG names, or none.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key of the configuration, like `api.port=8081`. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Address for cameras and viewers outside this network [network.external_ip]
    #[arg(long, value_name = "IP")]
    external_ip: Option<String>,
    /// Address for cameras and viewers inside this network [network.local_ip]
    #[arg(long, value_name = "IP")]
    local_ip: Option<String>,
    /// TCP port of the REST API [api.port]
    #[arg(long, value_name = "PORT")]
    api_port: Option<String>,
    /// TCP port of WebSocket signaling [signaling.port]
    #[arg(long, value_name = "PORT")]
    signaling_port: Option<String>,
    /// TCP port of the pages [dashboard.port]
    #[arg(long, value_name = "PORT")]
    dashboard_port: Option<String>,
    /// UDP port of all viewers [viewers.udp_port]
    #[arg(long, value_name = "PORT")]
    viewer_udp_port: Option<String>,
    /// Log lines: DEBUG, INFO, WARNING, ERROR or directives like `info,honeycast::ingest=debug` [log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Whether there is such a key is told with all other mistakes.
fn assignment(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((path.trim().to_owned(), value.trim().to_owned()))
}

impl Settings {
    fn sources(&self) -> Sources {
        let named = [
            ("network.external_ip", &self.external_ip, "--external-ip"),
            ("network.local_ip", &self.local_ip, "--local-ip"),
            ("api.port", &self.api_port, "--api-port"),
            ("signaling.port", &self.signaling_port, "--signaling-port"),
            ("dashboard.port", &self.dashboard_port, "--dashboard-port"),
            ("viewers.udp_port", &self.viewer_udp_port, "--viewer-udp-port"),
            ("log.level", &self.log_level, "--log-level"),
        ];
        let named = named.into_iter().filter_map(|(path, value, flag)| Some((path.to_owned(), value.clone()?, flag)));
        let set = self.set.iter().map(|(path, value)| (path.clone(), value.clone(), "--set"));
        Sources::of_process(self.config.clone(), named.chain(set).collect())
    }

    fn load(&self, demo: bool) -> Result<Loaded, Problems> {
        let sources = self.sources();
        config::load(&if demo { app::demo_sources(sources) } else { sources })
    }
}

/// Does what the command line says. The only place that chooses exit codes.
pub fn main(cli: Cli) -> ExitCode {
    let result = match &cli.command {
        Command::Run(settings) => run(settings, false),
        Command::Demo(settings) => run(settings, true),
        Command::SimulateCamera(args) => simulate(args),
        Command::CheckConfig(settings) => check_config(settings),
        Command::PrintConfig(settings) => print_config(settings),
        Command::CreateKey(args) => access::create_key(args),
        Command::HashKey => access::hash_key(),
        Command::CreateToken(args) => access::token(args),
    };
    result.unwrap_or_else(|error| {
        let code = if error.is::<Problems>() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE };
        complain(&format!("{error:#}"));
        code
    })
}

fn run(settings: &Settings, demo: bool) -> anyhow::Result<ExitCode> {
    let loaded = settings.load(demo)?;
    let _log = telemetry::init(&loaded.config.log_config());
    let outcome = on_runtime(app::run(&loaded, demo))??;
    Ok(match outcome {
        Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::Failed(_) => ExitCode::FAILURE,
    })
}

fn simulate(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings()?;
    let _log = telemetry::init(&telemetry::LogConfig::default());
    on_runtime(async {
        let mut stop = app::StopSignal::new().context("cannot listen for signals")?;
        let shutdown = Shutdown::new();
        let mut cameras = std::pin::pin!(sim::run(settings, args.report_format(), &shutdown));
        tokio::select! {
            ended = &mut cameras => return ended.map_err(anyhow::Error::from),
            _ = stop.received() => shutdown.request(),
        }
        cameras.await.map_err(anyhow::Error::from)
    })??;
    Ok(ExitCode::SUCCESS)
}

fn on_runtime<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(RUNTIME_STOP);
    Ok(result)
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn check_config(settings: &Settings) -> anyhow::Result<ExitCode> {
    let loaded = settings.load(false)?;
    if let Some(problem) = config::store_problem(&loaded) {
        return Err(Problems(vec![problem]).into());
    }
    loaded.notices.iter().for_each(|notice| println!("note: {notice}"));
    println!("the configuration is usable");
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn print_config(settings: &Settings) -> anyhow::Result<ExitCode> {
    print!("{}", settings.load(false)?.to_toml());
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the log may not run yet")]
fn complain(text: &str) {
    eprintln!("honeycast: {}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::keys;

    #[test]
    fn the_command_line_is_consistent_and_every_option_is_described() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn flags_name_real_keys_and_win() {
        let cli = Cli::parse_from([
            "honeycast",
            "run",
            "--external-ip",
            "203.0.113.9",
            "--local-ip",
            "10.0.0.9",
            "--api-port",
            "1",
            "--signaling-port",
            "2",
            "--dashboard-port",
            "3",
            "--viewer-udp-port",
            "4",
            "--log-level",
            "debug",
            "--set",
            "mqtt.embedded=true",
            "--set",
            "mqtt.topics.play = x/{camera_id}",
        ]);
        let Command::Run(settings) = cli.command else { panic!("not run") };
        let sources = Sources { env: Default::default(), dotenv: None, file: None, ..settings.sources() };
        assert_eq!(sources.flags.len(), 9);
        assert!(sources.flags.iter().all(|(path, ..)| keys::by_path(path).is_some()));
        let config = config::load(&sources).unwrap().config;
        assert_eq!((config.api.port, config.viewers.udp_port), (1, 4));
        assert!(config.mqtt.embedded);
        assert_eq!(config.mqtt.topics.play, "x/{camera_id}");
    }

    #[test]
    fn an_unknown_key_is_told_with_all_other_mistakes() {
        let flags = ["honeycast", "run", "--set", "api.prot=1", "--set", "api.port=x", "--api-port", "y"];
        let Command::Run(settings) = Cli::parse_from(flags).command else { panic!("not run") };
        let sources = Sources { env: Default::default(), dotenv: None, file: None, ..settings.sources() };
        let problems = config::load(&sources).unwrap_err().to_string();
        assert!(problems.contains("api.prot (flag --set): unknown key; did you mean api.port?"), "{problems}");
        assert_eq!(problems.matches("api.port (flag").count(), 2, "{problems}");
    }
}
