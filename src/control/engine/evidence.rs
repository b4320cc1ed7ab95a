//! What is known of a stream that has no picture, gathered for [`why_no_picture`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use super::Engine;
use super::streams::Stream;
use crate::base::CameraId;
use crate::control::media_io::{Egress, Ingest};
use crate::control::picture::{Evidence, PictureStatus, Stranger, why_no_picture, why_no_stream};
use crate::control::session::Media;
use crate::control::settings::BrokerStatus;
use crate::ingest::{DropReason, IngestStats, RefusedSource};

/// A refused source that has been silent for longer explains nothing any more.
const RECENT: Duration = Duration::from_secs(10);

/// Who was refused at the camera ports lately.
pub(super) struct Strangers {
    recent: Vec<RefusedSource>,
    /// Which cameras name an address as theirs.
    owners: HashMap<IpAddr, Vec<CameraId>>,
}

impl Strangers {
    /// A source that may be the camera of `stream`: it comes nearest to that stream, or the camera names its address.
    fn of(&self, stream: &Stream) -> Option<Stranger> {
        let may_be = |refused: &&RefusedSource| {
            let named = || self.owners.get(&refused.source.ip()).is_some_and(|owners| owners.contains(&stream.camera));
            refused.nearest.map_or_else(named, |nearest| nearest == stream.id)
        };
        let RefusedSource { source, reason, packets, .. } = *self.recent.iter().find(may_be)?;
        Some(Stranger { source, reason, packets })
    }
}

impl<I: Ingest, E: Egress> Engine<I, E> {
    pub(super) fn strangers(&self) -> Strangers {
        let now = SystemTime::now();
        let counts = |refused: &RefusedSource| {
            use DropReason::{Ambiguous, Earlier, SlotTaken, Unexpected};
            matches!(refused.reason, Unexpected | Ambiguous | Earlier | SlotTaken)
                // A clock that was set back makes it no older.
                && now.duration_since(refused.last_seen).is_ok_and(|age| age <= RECENT)
        };
        let mut recent = self.ingest.refused_sources();
        recent.retain(counts);
        let mut owners: HashMap<IpAddr, Vec<CameraId>> = HashMap::new();
        if !recent.is_empty() {
            for (id, camera) in self.registry.cameras() {
                if let Some(ip) = camera.facts.ip {
                    owners.entry(ip).or_default().push(id);
                }
            }
        }
        Strangers { recent, owners }
    }

    pub(super) fn why_no_picture(
        &self,
        stream: &Stream,
        stats: Option<&IngestStats>,
        strangers: &Strangers,
        now: Instant,
    ) -> PictureStatus {
        let session = &stream.session;
        let broker = self.broker.borrow();
        why_no_picture(&Evidence {
            state: session.state(),
            failure: session.failure().zip(session.error()),
            media: session.media(),
            silence: match session.media() {
                Media::Waiting => session.waited(now),
                Media::Flowing => Duration::ZERO,
                Media::Stalled(since) => now.saturating_duration_since(since),
            },
            last_run: session.watchdog().last_run(),
            starved_runs: session.watchdog().starved_runs(),
            parked: session.watchdog().is_parked(),
            plays: session.plays(),
            online: self.registry.get(stream.camera).and_then(|facts| facts.online),
            broker_down: match &*broker {
                BrokerStatus::Connected => None,
                BrokerStatus::Disconnected { reason } => Some(reason),
            },
            stranger: strangers.of(stream),
            stats,
        })
    }

    /// The same for a camera, whether it streams or not.
    pub(super) fn camera_picture(&self, id: CameraId, online: Option<bool>, strangers: &Strangers) -> PictureStatus {
        if let Some(info) = self.stream_info(id, strangers) {
            return info.picture;
        }
        match &*self.broker.borrow() {
            BrokerStatus::Connected => why_no_stream(online, None),
            BrokerStatus::Disconnected { reason } => why_no_stream(online, Some(reason)),
        }
    }
}
