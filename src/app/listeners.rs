//! Every port of the process, bound before anything runs: a port that is taken ends the start, not a stream.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::SockRef;

use super::StartError;
use crate::base::net::BACKLOG;
use crate::config::{Config, PortRange};
use crate::egress::{PortOptions, ViewerPort};
use crate::http::{Certificates, TlsFiles};
use crate::ingest::{CameraPorts, PortPlan};

/// The bound ports.
pub(super) struct Listeners {
    pub(super) api: TcpListener,
    pub(super) signaling: TcpListener,
    pub(super) dashboard: TcpListener,
    pub(super) cameras: CameraPorts,
    pub(super) viewers: ViewerPort,
    /// For the three TCP listeners.
    pub(super) certificates: Option<Certificates>,
}

impl Listeners {
    /// Binds everything, or names the key and address that cannot be had.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let tcp = |key, host: IpAddr, port| {
            let address = SocketAddr::new(host, port);
            TcpListener::bind(address)
                .and_then(|listener| {
                    // The standard library lets 128 connections wait: a page full of viewers that comes back at once
                    // is more, and whom the kernel drops then hangs for a minute.
                    SockRef::from(&listener).listen(BACKLOG)?;
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                })
                .map_err(|source| StartError::Bind { key, address: address.to_string(), source })
        };
        let udp = |key, address: String| move |source: io::Error| StartError::Bind { key, address, source };
        let (media, viewers) = (&config.media, &config.viewers);
        let plan = PortPlan { video_rtp: media.video_port, rtcp: media.rtcp_port, audio_rtp: media.audio_port };
        let camera_ports = format!("{} UDP {}, {}, {}", media.host, plan.video_rtp, plan.rtcp, plan.audio_rtp);
        let viewer_address = SocketAddr::new(viewers.host, viewers.udp_port);
        let mut cameras = CameraPorts::bind(media.host, plan).map_err(udp("media ports", camera_ports))?;
        if let Some(PortRange { first, last }) = media.port_range {
            let pool = format!("{} UDP {first}-{last}", media.host);
            cameras = cameras.with_pool(media.host, first..=last).map_err(udp("media.port_range", pool))?;
        }
        Ok(Self {
            api: tcp("api.port", config.api.host, config.api.port)?,
            signaling: tcp("signaling.port", config.signaling.host, config.signaling.port)?,
            dashboard: tcp("dashboard.port", config.dashboard.host, config.dashboard.port)?,
            cameras,
            viewers: ViewerPort::bind(viewer_address, PortOptions { tcp: viewers.ice_tcp, ipv6: viewers.ipv6 })
                .map_err(udp("viewers.udp_port", format!("port {viewer_address}")))?,
            certificates: certificates(config)?,
        })
    }
}

fn certificates(config: &Config) -> Result<Option<Certificates>, StartError> {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
            Certificates::load(files).map(Some).map_err(StartError::Certificate)
        }
        _ => Ok(None),
    }
}
