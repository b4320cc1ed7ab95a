//! Clients that are slow, greedy or broken, many at a time, while others watch: each gets a refusal that can be read,
//! nobody who watches misses a packet, and memory stays where it was.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used)]

#[path = "../viewer/page.rs"]
#[allow(dead_code)]
mod page;
#[path = "../fleet/pictures.rs"]
#[allow(dead_code)]
mod pictures;
#[path = "../fleet/site.rs"]
#[allow(dead_code)]
mod site;
#[path = "../support/mod.rs"]
mod support;
#[path = "../fleet/viewer.rs"]
#[allow(dead_code)]
mod viewer;

mod http;
mod signaling;

use std::sync::{Arc, Mutex};

use site::{Camera, Site};
use support::{LOOK, until, within};
use viewer::{Tally, Viewer};

/// Who watches while others misbehave.
const VIEWERS: usize = 5;
/// 2 s of pictures.
const PICTURES: u32 = 20;

/// A stream with its viewers.
struct Audience {
    site: Site,
    camera: Camera,
    viewers: Vec<(Viewer, Arc<Mutex<Tally>>)>,
}

impl Audience {
    async fn new(env: &[(&str, &str)]) -> Self {
        let site = Site::new(env);
        site.broker_is_there().await;
        let mut camera = site.camera(site.settings(0)).await;
        site.start(&mut camera).await;
        let stream = camera.stream.clone().unwrap();
        let mut viewers = Vec::new();
        for _ in 1..VIEWERS {
            let tally = Arc::default();
            let signaling = site.service().address("signaling");
            viewers.push((Viewer::watch(signaling, camera.id, &stream, Arc::clone(&tally)).await, tally));
        }
        let audience = Self { site, camera, viewers };
        audience.goes_on().await;
        audience
    }

    /// Every viewer sees pictures that were not yet taken.
    async fn goes_on(&self) {
        self.camera.shows(PICTURES).await;
        let last = self.camera.tally().last.unwrap();
        for (_, tally) in &self.viewers {
            until("every viewer sees it", async || tally.lock().unwrap().last.is_some_and(|seen| seen >= last)).await;
        }
    }

    /// Nobody has missed anything, and nobody has left.
    async fn was_undisturbed(&self) {
        self.goes_on().await;
        self.camera.was_continuous();
        for (_, tally) in &self.viewers {
            let tally = tally.lock().unwrap();
            let found = (tally.missing, tally.late, tally.twice, tally.reversed);
            assert_eq!(found, (0, 0, 0, 0), "missing, late, twice, reversed: {tally:?}");
        }
        let detail = self.site.detail(&self.camera).await;
        assert_eq!(detail["viewer_count"], VIEWERS, "{detail}");
    }

    /// Resident memory of the service in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.site.service().pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    }
}
