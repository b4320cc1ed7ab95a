//! The whole process under load: the built binary with its embedded broker, one camera, and viewers that do real
//! ICE, DTLS and SRTP from this process, so that `/proc` tells what the service alone has used.
//!
//! `cargo bench --bench process` measures everything in about two minutes; `cargo bench --bench process -- memory`
//! only that part (`idle`, `forward-50`, `forward-500`, `delay`, `memory`, `joins`). `LOAD_SECONDS` (default 10) is the length of each measurement,
//! `LOAD_VIEWERS` replaces the number of viewers. Goals are those of docs/performance.md; nothing fails by them, as
//! figures depend on the machine. Lost or wrong packets do fail.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../../tests/viewer/page.rs"]
#[allow(dead_code)]
mod page;
#[path = "../../tests/support/mod.rs"]
mod support;

mod audience;
mod camera;
mod floor;
mod usage;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audience::{Audience, Show};
use camera::{Rate, RtpCamera, TRICKLE, TWO_MBIT, Times, now};
use floor::Floor;
use honeycast::base::Shutdown;
use honeycast::sim::{Sim, SimSettings};
use support::service::Service;
use support::{until, within};

const CAMERA: &str = "00000001F1FA4C6CAEBA3E2FD85EFEBF";
const CAMERA_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const ENVIRONMENT: [(&str, &str); 8] = [
    ("LOCAL_IP", "127.0.0.1"),
    ("EXTERNAL_IP", "127.0.0.1"),
    ("STREAM_IDLE_TIMEOUT", "0"),
    ("MAX_VIEWERS_PER_STREAM", "100000"),
    // All viewers come from one address.
    ("LIMIT_REQUESTS_PER_SECOND", "0"),
    ("LIMIT_CONNECTIONS", "100000"),
    ("LIMIT_CONNECTIONS_PER_CLIENT", "100000"),
    ("LOG_LEVEL", "warn"),
];
/// Connections, replays and allocators come to rest.
const SETTLE: Duration = Duration::from_secs(2);
/// Viewers that come while nothing is measured.
const EASY: u32 = 100;

/// Of one of the settings in the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
}

fn seconds() -> Duration {
    Duration::from_secs(number("LOAD_SECONDS", 10))
}

/// The service with one running camera.
struct Stage {
    service: Arc<Service>,
    show: Arc<Show>,
    _camera: RtpCamera,
    shutdown: Shutdown,
}

impl Stage {
    async fn new(rate: Rate) -> Self {
        Self::with_viewers(rate, false).await
    }

    async fn with_viewers(rate: Rate, unhurried: bool) -> Self {
        let service = Arc::new(Service::start(&ENVIRONMENT));
        let (host, port) = service.address("mqtt").rsplit_once(':').unwrap();
        let mut settings = SimSettings::new(CAMERA.parse().unwrap(), host, port.parse().unwrap());
        settings.bind = CAMERA_IP;
        settings.faults.silent = true;
        let shutdown = Shutdown::new();
        let sim = Sim::start(settings, &shutdown).unwrap();
        until("the camera is connected", async || sim.report().mqtt_connected).await;
        let calling = service.clone();
        let start = move || calling.call("POST", &format!("/streams/{CAMERA}/start"));
        let (status, started) = tokio::task::spawn_blocking(start).await.unwrap();
        assert_eq!(status, 201, "{started}");
        let times = Arc::new(Times::new());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, service.port("camera_video_udp")));
        let camera = RtpCamera::start(SocketAddr::new(CAMERA_IP, 0), to, rate, times.clone());
        let show = Show {
            signaling: service.address("signaling").to_owned(),
            camera: CAMERA.parse().unwrap(),
            stream: started["stream_id"].as_str().unwrap().to_owned(),
            rate,
            times,
            unhurried,
        };
        Self { service, show: Arc::new(show), _camera: camera, shutdown }
    }

    fn cpu(&self) -> Duration {
        usage::cpu(self.service.pid())
    }

    fn resident(&self) -> u64 {
        usage::resident(self.service.pid())
    }

    async fn end(self) {
        self.shutdown.request();
        within("the camera ends", self.shutdown.drained()).await;
    }
}

/// Nothing may be lost or wrong, on this machine without a network.
fn sound(audience: &Audience) -> [u64; 4] {
    let sums @ [packets, missing, opened, wrong] = audience.sums();
    assert!(opened > 0 && packets > 0, "nothing was received");
    assert_eq!((missing, wrong), (0, 0), "missing, wrong of {packets}");
    sums
}

/// CPU per forwarded packet of the whole process against the floor, both at 2 Mbit/s.
async fn forward(viewers: usize) {
    let floor = Floor::start(viewers);
    tokio::time::sleep(SETTLE).await;
    let (packets, cpu) = (floor.packets.load(std::sync::atomic::Ordering::Relaxed), usage::cpu(floor.pid()));
    tokio::time::sleep(seconds()).await;
    let spent = usage::cpu(floor.pid()) - cpu;
    let per_packet = |spent: Duration, packets: u64| spent.as_secs_f64() * 1e6 / packets as f64;
    let least = per_packet(spent, floor.packets.load(std::sync::atomic::Ordering::Relaxed) - packets);
    drop(floor);

    let stage = Stage::new(TWO_MBIT).await;
    let mut audience = Audience::new(stage.show.clone());
    audience.join(viewers, EASY).await;
    tokio::time::sleep(SETTLE).await;
    let ([before, ..], cpu) = (sound(&audience), stage.cpu());
    tokio::time::sleep(seconds()).await;
    let spent = stage.cpu() - cpu;
    let [after, _, opened, _] = sound(&audience);
    let ours = per_packet(spent, after - before);
    println!(
        "forward {viewers}: floor {least:.2} µs, service {ours:.2} µs per packet, ratio {:.2}; {} packets, none lost, \
         {opened} opened; {:.1} % of one core",
        ours / least,
        after - before,
        100.0 * spent.as_secs_f64() / seconds().as_secs_f64(),
    );
    drop(audience);
    stage.end().await;
}

fn tell_delays(what: &str, viewers: usize, delays: &[Duration]) {
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    println!(
        "delay {viewers}, {what}: {} frames, p10 {:.2?}, p50 {:.2?}, p90 {:.2?}, p99 {:.2?}, longest {:.2?}",
        delays.len(),
        at(0.1),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// From the camera's last packet of a frame to the moment when the last viewer has it: in its socket by the kernel's
/// time, or read by viewers that all wake up on the same cores.
async fn delay(viewers: usize, unhurried: bool) {
    let stage = Stage::with_viewers(TWO_MBIT, unhurried).await;
    let mut audience = Audience::new(stage.show.clone());
    audience.join(viewers, EASY).await;
    tokio::time::sleep(SETTLE).await;
    // What those who came late were shown of earlier frames is no delay.
    let since = now();
    tokio::time::sleep(seconds()).await;
    sound(&audience);
    let delays = stage.show.times.delays(viewers as u64, since);
    tell_delays(if unhurried { "at the sockets" } else { "read" }, viewers, &delays);
    drop(audience);
    stage.end().await;
}

/// CPU to accept a viewer, and memory that it keeps, with so little media that they do not count.
async fn accept(viewers: usize, per_second: u32) {
    let stage = Stage::new(TRICKLE).await;
    let mut audience = Audience::new(stage.show.clone());
    // Code, pools and tables that the first ones need.
    audience.join(10, EASY).await;
    tokio::time::sleep(SETTLE).await;
    let (cpu, resident, begun) = (stage.cpu(), stage.resident(), Instant::now());
    audience.join(viewers, per_second).await;
    let (spent, took) = (stage.cpu() - cpu, begun.elapsed());
    tokio::time::sleep(SETTLE).await;
    sound(&audience);
    let (kept, cpu) = (stage.resident(), stage.cpu());
    tokio::time::sleep(seconds()).await;
    // What those who are there cost: on average half of them were there while they came.
    let present = (stage.cpu() - cpu).div_duration_f64(seconds()) * took.as_secs_f64() / 2.0;
    println!(
        "memory {viewers}: {:.1} KiB each ({resident} KiB before, {kept} KiB after); accepted at {:.0} a second, {:.2} ms \
         of CPU each ({:.2} with what those who are there cost)",
        (kept as f64 - resident as f64) / viewers as f64,
        viewers as f64 / took.as_secs_f64(),
        (spent.as_secs_f64() - present) * 1e3 / viewers as f64,
        spent.as_secs_f64() * 1e3 / viewers as f64,
    );
    drop(audience);
    until("the viewers are gone", async || {
        let service = stage.service.clone();
        let (_, health) = tokio::task::spawn_blocking(move || service.call("GET", "/health")).await.unwrap();
        health["total_viewers"] == 0
    })
    .await;
    tokio::time::sleep(SETTLE).await;
    println!("memory {viewers}: {} KiB when they have left", stage.resident());
    stage.end().await;
}

/// Viewers come while others watch, with the whole service on one core.
async fn joins(per_second: u32) {
    let stage = Stage::new(TWO_MBIT).await;
    let pinned = Command::new("taskset").args(["-acp", "0", &stage.service.pid().to_string()]).output();
    let pinned = pinned.is_ok_and(|output| output.status.success());
    let mut watchers = Audience::new(stage.show.clone());
    watchers.join(10, EASY).await;
    tokio::time::sleep(SETTLE).await;
    sound(&watchers);
    let (cpu, begun) = (stage.cpu(), Instant::now());
    let mut guests = Audience::new(stage.show.clone());
    let many = u64::from(per_second) * seconds().as_secs() / 2;
    guests.join(many as usize, per_second).await;
    let (spent, took) = (stage.cpu() - cpu, begun.elapsed());
    let [packets, ..] = sound(&watchers);
    sound(&guests);
    println!(
        "joins {per_second}: {many} came in {took:.2?}, service on {} core, {:.0} % of it; {packets} packets of those \
         who watched, none lost",
        if pinned { "one" } else { "every" },
        100.0 * spent.as_secs_f64() / took.as_secs_f64(),
    );
    drop((guests, watchers));
    stage.end().await;
}

/// Nothing to do.
async fn idle() {
    let begun = Instant::now();
    let service = Service::start(&ENVIRONMENT);
    let ready = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let cpu = usage::cpu(service.pid());
    tokio::time::sleep(seconds()).await;
    println!(
        "idle: ready after {ready:.1?}, {:.1} MiB resident, {:.2} % of one core",
        usage::resident(service.pid()) as f64 / 1024.0,
        100.0 * (usage::cpu(service.pid()) - cpu).as_secs_f64() / seconds().as_secs_f64()
    );
}

fn main() {
    if std::env::args().any(|argument| argument == floor::ARGUMENT) {
        return floor::be();
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let viewers = |default: u64| number("LOAD_VIEWERS", default) as usize;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if wants("idle") {
            idle().await;
        }
        if wants("forward-50") {
            forward(viewers(50)).await;
        }
        if wants("forward-500") {
            forward(viewers(500)).await;
        }
        if wants("delay") {
            let delays = tokio::task::block_in_place(|| floor::delays(viewers(100), seconds()));
            tell_delays("the floor's at the sockets", viewers(100), &delays);
            delay(viewers(100), true).await;
            delay(viewers(100), false).await;
        }
        if wants("memory") {
            accept(viewers(1_000), EASY).await;
        }
        if wants("joins") {
            joins(100).await;
        }
    });
}
