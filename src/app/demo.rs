//! The camera of the demo: a simulated one that reaches the service as a real one would, over MQTT and UDP.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::timeout;

use super::service::{Service, StartError};
use crate::base::{CameraId, Shutdown};
use crate::config::{Config, Origin, STATE_DIRECTORY, Sources};
use crate::control::{Control, LabelChange, StartOptions};
use crate::sim::{Sim, SimSettings};

/// The camera's id, and that of one more camera.
const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
const ANOTHER: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEC0";
/// What it is called where nobody has named it.
const NAME: &str = "Demo camera";
/// The broker is reached within this time, or the demo makes no sense.
const BROKER_WITHIN: Duration = Duration::from_secs(10);

/// What the demo sets where nobody has said otherwise: a broker of its own, on a port that is surely free, a
/// stream that does not end for want of viewers, and no trace on the disk.
pub(crate) const DEFAULTS: [(&str, &str); 4] = [
    ("mqtt.embedded", "true"),
    ("mqtt.embedded_bind", "127.0.0.1:0"),
    ("streams.idle_timeout", "0"),
    ("cameras.store", "memory"),
];

/// Adds [`DEFAULTS`] to the flags, for those keys that no other source names.
pub(crate) fn with_defaults(mut sources: Sources) -> Sources {
    let named: Vec<&str> = match crate::config::load(&sources) {
        Ok(loaded) => {
            // A state directory is given to every process of a unit; nobody named the demo by it.
            let unnamed = [Origin::Default, Origin::Env(STATE_DIRECTORY.to_owned())];
            DEFAULTS.iter().map(|(key, _)| *key).filter(|key| !unnamed.contains(loaded.origin(key))).collect()
        }
        // The next load reports what is wrong.
        Err(_) => Vec::new(),
    };
    let wanted = DEFAULTS.iter().filter(|(key, _)| !named.contains(key));
    sources.flags.extend(wanted.map(|(key, value)| ((*key).to_owned(), (*value).to_owned(), "demo")));
    sources
}

/// A running simulated camera whose stream has been started.
pub(super) struct DemoCamera {
    stage: Shutdown,
    _sim: Sim,
}

impl DemoCamera {
    /// Starts the camera and, once the broker is there, its stream.
    ///
    /// # Errors
    ///
    /// The camera cannot have its sockets, or the stream cannot be started.
    pub(super) async fn start(config: &Config, service: &Service) -> Result<Self, StartError> {
        let failed = |why: String| StartError::Demo(why);
        let camera: CameraId = CAMERA.parse().map_err(|_| failed("not a camera id".to_owned()))?;
        let stage = Shutdown::new();
        let sim = Sim::start(camera_settings(config, service, camera), &stage).map_err(|e| failed(e.to_string()))?;
        if timeout(BROKER_WITHIN, service.broker_connected()).await.is_err() {
            return Err(failed("the broker cannot be reached".to_owned()));
        }
        name(service.control(), camera).await;
        // A play that is sent before the camera has subscribed is lost, and sent again when it says that it is
        // connected, as after a reboot.
        let options = StartOptions { client_ip: Some(config.network.local_ip()), ..StartOptions::default() };
        service.control().start_stream(camera, options).await.map_err(|error| failed(error.to_string()))?;
        invite(config, service);
        Ok(Self { stage, _sim: sim })
    }

    /// Ends the camera.
    pub(super) async fn stop(self) {
        self.stage.request();
        self.stage.drained().await;
    }
}

/// Gives the camera its name, unless a store remembers another. The demo goes on without one.
async fn name(control: &Control, camera: CameraId) {
    let named = control.camera(camera).await.ok().flatten().is_some_and(|known| known.camera.label.name.is_some());
    if let (false, Ok(change)) = (named, LabelChange::new().name(Some(NAME))) {
        let _ = control.label_camera(camera, change).await;
    }
}

fn camera_settings(config: &Config, service: &Service, camera: CameraId) -> SimSettings {
    let mqtt = &config.mqtt;
    let (host, port) = broker(config, service);
    let mut settings = SimSettings::new(camera, host, port);
    settings.link.tls = super::broker::link_tls(mqtt).filter(|_| service.addresses().mqtt.is_none());
    settings.link.credentials = super::broker::credentials(mqtt);
    settings.link.topics = super::broker::topic_settings(mqtt);
    // As a camera of the local network: the address that it reports is the one that its packets come from.
    settings.bind = own_address(config.network.local_ip());
    settings
}

/// Where cameras reach the broker.
fn broker(config: &Config, service: &Service) -> (String, u16) {
    match service.addresses().mqtt {
        Some(address) => (super::broker::reachable(address.ip()).to_string(), address.port()),
        None => (config.mqtt.host.clone(), config.mqtt.port),
    }
}

/// `ip` where it is an address of this machine, else any.
fn own_address(ip: IpAddr) -> IpAddr {
    let own = std::net::UdpSocket::bind((ip, 0)).is_ok();
    if own { ip } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

#[expect(clippy::print_stdout, reason = "for whoever tries the demo")]
fn invite(config: &Config, service: &Service) {
    let addresses = service.addresses();
    let scheme = if addresses.tls { "https" } else { "http" };
    let host = match addresses.dashboard.ip() {
        ip if ip.is_unspecified() || ip.is_loopback() => "localhost".to_owned(),
        _ => addresses.dashboard.ip().to_string(),
    };
    let (broker, broker_port) = broker(config, service);
    let broker = if broker.contains(':') { format!("[{broker}]") } else { broker };
    println!(
        "\n  Open {scheme}://{host}:{}/ to see the camera; click its picture to watch it. Ctrl-C ends the demo.\n  \
         One more camera, in another terminal: honeycast simulate-camera --broker {broker}:{broker_port} --camera-id {ANOTHER}\n",
        addresses.dashboard.port()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_defaults_give_way_to_every_other_source() {
        let loaded = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            crate::config::load(&with_defaults(Sources { env, ..Sources::default() })).unwrap().config
        };
        let plain = loaded(&[]);
        assert!(plain.mqtt.embedded && plain.streams.idle_timeout.is_zero());
        assert_eq!(plain.cameras.store.file(), None);
        assert_eq!(loaded(&[("STATE_DIRECTORY", "/var/lib/honeycast")]).cameras.store.file(), None);
        let named = loaded(&[("CAMERA_STORE", "demo.redb")]);
        assert_eq!(named.cameras.store.file(), Some(std::path::Path::new("demo.redb")));
        assert_eq!(plain.mqtt.embedded_bind.to_string(), "127.0.0.1:0");
        let told = loaded(&[("MQTT_EMBEDDED", "false"), ("STREAM_IDLE_TIMEOUT", "7")]);
        assert!(!told.mqtt.embedded);
        assert_eq!(told.streams.idle_timeout, Duration::from_secs(7));
    }
}
