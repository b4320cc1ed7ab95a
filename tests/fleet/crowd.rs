//! A crowd of cameras to which everything happens, in an order that a seed decides.

use std::str::FromStr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use honeycast::media::Codec;
use honeycast::sim::Fault;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::site::{Camera, Site, address};
use crate::support::PATIENCE;
use crate::until;

/// Every so manieth camera lives behind the address of the one before it.
const SHARED: u32 = 5;
/// Every so manieth has sound.
const WITH_SOUND: u32 = 4;
/// Addresses from this number on are free for those that move.
const SPARE: u32 = 10_000;
/// Pictures after the storm that show that a stream flows.
const PICTURES: u32 = 10;
/// Between two looks at one of many cameras.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is done to how many cameras, and for how long.
struct Storm {
    cameras: u32,
    duration: Duration,
    /// Between two events; with more cameras there are more of them.
    pause: Duration,
    seed: u64,
    /// Percent of the moves that lead behind an address that another camera has.
    crowding: u32,
}

/// What has happened.
#[derive(Debug, Default)]
struct Events {
    starts: u32,
    stops: u32,
    reboots: u32,
    rebindings: u32,
    moves: u32,
}

impl Storm {
    async fn rage(self) {
        let begun = Instant::now();
        let site = Site::new(&[("MAX_STREAMS", "1000")]);
        site.broker_is_there().await;
        let mut cameras = Vec::new();
        for n in 0..self.cameras {
            let mut settings = site.settings(n);
            settings.behaviour.audio = (n % WITH_SOUND == 0).then_some(Codec::Opus);
            if n % SHARED == 1 {
                settings.bind = address(n);
            }
            cameras.push(site.switch_on(settings));
        }
        for camera in &cameras {
            until("all cameras are connected", async || camera.report().mqtt_connected).await;
        }
        // All in the same second.
        join_all(cameras.iter_mut().map(|camera| site.start(camera))).await;
        let ready = begun.elapsed();
        let events = self.strike(&site, &mut cameras).await;
        let calm = Instant::now();
        let idle = cameras.iter_mut().filter(|camera| camera.stream.is_none());
        join_all(idle.map(|camera| site.start(camera))).await;
        let dark: Vec<_> = join_all(cameras.iter().map(|camera| dark(&site, camera))).await;
        let dark: Vec<_> = dark.into_iter().flatten().collect();
        let settled = calm.elapsed();
        eprintln!("{} do not flow after {settled:.1?}: {dark:#?}", dark.len());
        let (mut packets, mut marked, mut pictures, mut sounds, mut missing) = (0, 0, 0, 0, 0);
        for camera in &cameras {
            camera.was_alone();
            let tally = camera.tally();
            packets += tally.packets;
            marked += tally.marked;
            pictures += tally.pictures;
            sounds += tally.sounds;
            missing += tally.missing;
        }
        assert!(marked > 0 && pictures > u64::from(PICTURES * self.cameras));
        eprintln!(
            "{} cameras, seed {}: all watched after {ready:.1?}; {events:?} in {:?}; {} flow within {settled:.1?}; \
             viewers received {packets} packets, {marked} of them marked ({pictures} pictures, {sounds} sounds), \
             none of another camera; {missing} lost on the way to viewers",
            self.cameras,
            self.seed,
            self.duration,
            cameras.len() - dark.len(),
        );
        assert!(dark.is_empty(), "{} do not flow: {dark:#?}", dark.len());
        site.end().await;
    }

    async fn strike(&self, site: &Site, cameras: &mut [Camera]) -> Events {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut events = Events::default();
        let mut next = SPARE;
        let end = tokio::time::Instant::now() + self.duration;
        let mut beat = tokio::time::interval(self.pause);
        while tokio::time::Instant::now() < end {
            beat.tick().await;
            let other = cameras[rng.random_range(0..cameras.len())].ip;
            let at = rng.random_range(0..cameras.len());
            let camera = &mut cameras[at];
            match rng.random_range(0..10) {
                0..3 if camera.stream.is_some() => {
                    site.stop(camera).await;
                    events.stops += 1;
                }
                0..3 => {}
                _ if camera.stream.is_none() => {
                    site.start(camera).await;
                    events.starts += 1;
                }
                3..6 => {
                    camera.sim.suffer(Fault::Reboot);
                    events.reboots += 1;
                }
                6..8 => {
                    camera.sim.suffer(Fault::Rebind);
                    events.rebindings += 1;
                }
                _ => {
                    next += 1;
                    camera.ip = if rng.random_range(0..100) < self.crowding { other } else { address(next) };
                    camera.sim.suffer(Fault::Move(camera.ip));
                    events.moves += 1;
                }
            }
        }
        events
    }
}

/// Why a camera shows nothing new although a viewer waits for it; `None` if it does.
async fn dark(site: &Site, camera: &Camera) -> Option<String> {
    let since = camera.tally().last.unwrap_or(0);
    let flows = async {
        loop {
            let shows = camera.tally().last.is_some_and(|last| last >= since + PICTURES);
            let detail = site.detail(camera).await;
            let stream = &detail["stream"];
            if shows && stream["state"] == "active" && stream["media"]["state"] == "flowing" {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(PATIENCE, flows).await.is_ok() {
        return None;
    }
    let detail = site.detail(camera).await;
    let (stream, sends) = (&detail["stream"], camera.report().streaming);
    let (state, error, why) = (&stream["state"], &stream["error_message"], &stream["why_no_picture"]);
    Some(format!("{} at {}: {state} {error}, {why}; it sends: {sends}", camera.id, camera.ip))
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_cameras_to_which_everything_happens_are_never_taken_for_each_other_and_all_flow_at_the_end() {
    let pause = Duration::from_millis(200);
    Storm { cameras: 40, duration: Duration::from_secs(15), pause, seed: 7, crowding: 20 }.rage().await;
}

/// `FLEET_CAMERAS`, `FLEET_SECONDS`, `FLEET_SEED`, `FLEET_PAUSE_MS` and `FLEET_CROWDING` change what is done.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --test fleet -- --ignored --nocapture"]
async fn two_hundred_cameras_for_five_minutes() {
    let storm = Storm {
        cameras: number("FLEET_CAMERAS", 200),
        duration: Duration::from_secs(number("FLEET_SECONDS", 300)),
        pause: Duration::from_millis(number("FLEET_PAUSE_MS", 200)),
        seed: number("FLEET_SEED", 1),
        crowding: number("FLEET_CROWDING", 20),
    };
    storm.rage().await;
}
