//! The contract of old clients, row by row, at the real binary: REST (keys, types, codes, texts) and signaling (order,
//! texts, close codes). A simulated camera and the embedded broker are behind it.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod http;
mod page;
mod rest;
mod shape;
mod signaling;

use honeycast::base::Shutdown;
use honeycast::sim::{Sim, SimSettings};
use serde_json::Value;
use support::service::Service;
pub(crate) use support::{until_so as until, within};

use crate::http::Answer;

pub(crate) const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
pub(crate) const OTHER_CAMERA: &str = "00000000000000000000000000000001";

/// The service, and what talks to it.
pub(crate) struct Site {
    pub(crate) service: Service,
    _camera: Option<(Sim, Shutdown)>,
}

impl Site {
    /// With these settings; ready to start cameras.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        let addresses = [("LOCAL_IP", "127.0.0.1"), ("EXTERNAL_IP", "127.0.0.1")];
        let env: Vec<_> = addresses.iter().chain(env).copied().collect();
        Self { service: Service::start(&env), _camera: None }
    }

    /// The same with a camera that waits for its `play`.
    pub(crate) async fn with_camera(env: &[(&str, &str)]) -> Self {
        let site = Self::start(env);
        let (host, port) = site.service.address("mqtt").rsplit_once(':').unwrap();
        let mut settings = SimSettings::new(CAMERA.parse().unwrap(), host, port.parse().unwrap());
        settings.bind = [127, 0, 0, 1].into();
        let shutdown = Shutdown::new();
        let sim = Sim::start(settings, &shutdown).unwrap();
        until("the camera is connected", || sim.report().mqtt_connected).await;
        Self { _camera: Some((sim, shutdown)), ..site }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        http::call(self.service.address("api"), "GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        http::call(self.service.address("api"), "POST", path, &[], body)
    }

    /// Starts a camera and gives the id of its stream.
    pub(crate) fn stream(&self, camera: &str) -> String {
        let started = self.post(&format!("/streams/{camera}/start"), "");
        assert_eq!(started.status, 201, "{}", started.text);
        started.json()["stream_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn viewer_count(&self) -> Value {
        self.get(&format!("/streams/{CAMERA}")).json()["viewer_count"].clone()
    }

    pub(crate) async fn page(&self) -> page::Page {
        page::Page::open(self.service.address("signaling")).await
    }
}
