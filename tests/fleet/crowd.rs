//! A crowd of cameras to which everything happens, in an order that a seed decides.

use std::str::FromStr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use honeycast::sim::Fault;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::site::{Camera, Site, address};
use crate::until;

/// Every so manieth camera lives behind the address of the one before it.
const SHARED: u32 = 5;
/// Every so manieth has sound.
const WITH_SOUND: u32 = 4;
/// Addresses from this number on are free for those that move.
const SPARE: u32 = 10_000;
/// Pictures after the storm that show that a stream flows.
const PICTURES: u32 = 10;

/// What is done to how many cameras, and for how long.
struct Storm {
    cameras: u32,
    duration: Duration,
    /// Between two events; with more cameras there are more of them.
    pause: Duration,
    seed: u64,
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
            settings.behaviour.audio = n % WITH_SOUND == 0;
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
        join_all(cameras.iter().map(|camera| camera.shows(PICTURES))).await;
        for camera in &cameras {
            until("the stream is active", async || {
                let detail = site.detail(camera).await;
                detail["stream"]["state"] == "active" && detail["stream"]["media"]["state"] == "flowing"
            })
            .await;
        }
        let settled = calm.elapsed();
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
            "{} cameras, seed {}: all watched after {ready:.1?}; {events:?} in {:?}; all flowing {settled:.1?} later; \
             viewers received {packets} packets, {marked} of them marked ({pictures} pictures, {sounds} sounds), \
             none of another camera; {missing} lost on the way to viewers",
            self.cameras, self.seed, self.duration
        );
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
                kind => {
                    // Every other time behind an address that somebody else has.
                    next += 1;
                    camera.ip = if kind == 8 { other } else { address(next) };
                    camera.sim.suffer(Fault::Move(camera.ip));
                    events.moves += 1;
                }
            }
        }
        events
    }
}

fn number<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "open: no picture is ever another camera's, but some streams do not flow again in time on a small machine"]
async fn forty_cameras_to_which_everything_happens_are_never_taken_for_each_other_and_all_flow_at_the_end() {
    let pause = Duration::from_millis(200);
    Storm { cameras: 40, duration: Duration::from_secs(15), pause, seed: 7 }.rage().await;
}

/// `FLEET_CAMERAS`, `FLEET_SECONDS`, `FLEET_SEED` and `FLEET_PAUSE_MS` change what is done.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --test fleet -- --ignored --nocapture"]
async fn two_hundred_cameras_for_five_minutes() {
    let storm = Storm {
        cameras: number("FLEET_CAMERAS", 200),
        duration: Duration::from_secs(number("FLEET_SECONDS", 300)),
        pause: Duration::from_millis(number("FLEET_PAUSE_MS", 200)),
        seed: number("FLEET_SEED", 1),
    };
    storm.rage().await;
}
