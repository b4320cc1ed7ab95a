//! What control needs of ingest and egress, as traits, so that it can be tested without sockets.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{StreamId, ViewerId};
use crate::egress::{
    AddViewer, CloseReason, Drops, EgressHandle, FrameTap, IceRestart, RestartError, ViewerAnswer, ViewerError,
    ViewerStats,
};
use crate::ingest::{DropReason, IngestHandle, IngestStats, OpenError, OpenStream, PortPlan, RefusedSource};
use crate::media::FrameSink;

/// See [`IngestHandle`].
pub trait Ingest: Clone + Send + Sync + 'static {
    /// See [`IngestHandle::open`].
    fn open(&self, stream: OpenStream) -> impl Future<Output = Result<PortPlan, OpenError>> + Send;
    /// See [`IngestHandle::close`].
    fn close(&self, stream: StreamId);
    /// See [`IngestHandle::park`].
    fn park(&self, stream: StreamId) -> bool;
    /// See [`IngestHandle::reopen`].
    fn reopen(&self, stream: StreamId) -> impl Future<Output = Result<PortPlan, OpenError>> + Send;
    /// See [`IngestHandle::request_keyframe`].
    fn request_keyframe(&self, stream: StreamId);
    /// See [`IngestHandle::expect_source`].
    fn expect_source(&self, stream: StreamId, ip: IpAddr);
    /// See [`IngestHandle::camera_restarted`].
    fn camera_restarted(&self, stream: StreamId);
    /// See [`IngestHandle::set_viewer_limit`].
    fn set_viewer_limit(&self, stream: StreamId, bits_per_second: Option<u64>);
    /// See [`IngestHandle::stats`].
    fn stats(&self, stream: StreamId) -> Option<IngestStats>;
    /// See [`IngestHandle::refused_sources`].
    fn refused_sources(&self) -> Vec<RefusedSource>;
    /// See [`IngestHandle::drops`]: every reason once.
    fn dropped(&self) -> Vec<(DropReason, u64)>;
}

/// See [`EgressHandle`].
pub trait Egress: Clone + Send + Sync + 'static {
    /// See [`EgressHandle::open_stream`].
    fn open_stream(&self, stream: StreamId) -> Arc<dyn FrameSink>;
    /// See [`EgressHandle::close_stream`].
    fn close_stream(&self, stream: StreamId, reason: CloseReason);
    /// See [`EgressHandle::tap`].
    fn tap(&self, stream: StreamId) -> FrameTap;
    /// See [`EgressHandle::add_viewer`].
    fn add_viewer(&self, viewer: AddViewer) -> impl Future<Output = Result<ViewerAnswer, ViewerError>> + Send;
    /// See [`EgressHandle::remove_viewer`].
    fn remove_viewer(&self, viewer: ViewerId, reason: CloseReason);
    /// See [`EgressHandle::viewer_stats`].
    fn viewer_stats(&self, viewer: ViewerId) -> Option<ViewerStats>;
    /// See [`EgressHandle::restart_viewer`].
    fn restart_viewer(&self, viewer: ViewerId, offer: &str) -> Result<ViewerAnswer, RestartError>;
    /// See [`EgressHandle::restart_ice`].
    fn restart_ice(&self, viewer: ViewerId, remote_ufrag: &str) -> Result<IceRestart, RestartError>;
    /// See [`EgressHandle::drops`].
    fn drops(&self) -> Drops;
}

impl Ingest for IngestHandle {
    async fn open(&self, stream: OpenStream) -> Result<PortPlan, OpenError> {
        self.open(stream).await
    }

    fn close(&self, stream: StreamId) {
        self.close(stream);
    }

    fn park(&self, stream: StreamId) -> bool {
        self.park(stream)
    }

    async fn reopen(&self, stream: StreamId) -> Result<PortPlan, OpenError> {
        self.reopen(stream).await
    }

    fn request_keyframe(&self, stream: StreamId) {
        self.request_keyframe(stream);
    }

    fn expect_source(&self, stream: StreamId, ip: IpAddr) {
        self.expect_source(stream, ip);
    }

    fn camera_restarted(&self, stream: StreamId) {
        self.camera_restarted(stream);
    }

    fn set_viewer_limit(&self, stream: StreamId, bits_per_second: Option<u64>) {
        self.set_viewer_limit(stream, bits_per_second);
    }

    fn stats(&self, stream: StreamId) -> Option<IngestStats> {
        self.stats(stream)
    }

    fn refused_sources(&self) -> Vec<RefusedSource> {
        self.refused_sources()
    }

    fn dropped(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.map(|reason| (reason, self.drops().get(reason))).to_vec()
    }
}

impl Egress for EgressHandle {
    fn open_stream(&self, stream: StreamId) -> Arc<dyn FrameSink> {
        self.open_stream(stream)
    }

    fn close_stream(&self, stream: StreamId, reason: CloseReason) {
        self.close_stream(stream, reason);
    }

    fn tap(&self, stream: StreamId) -> FrameTap {
        self.tap(stream)
    }

    async fn add_viewer(&self, viewer: AddViewer) -> Result<ViewerAnswer, ViewerError> {
        self.add_viewer(viewer).await
    }

    fn remove_viewer(&self, viewer: ViewerId, reason: CloseReason) {
        self.remove_viewer(viewer, reason);
    }

    fn viewer_stats(&self, viewer: ViewerId) -> Option<ViewerStats> {
        self.viewer_stats(viewer)
    }

    fn restart_viewer(&self, viewer: ViewerId, offer: &str) -> Result<ViewerAnswer, RestartError> {
        self.restart_viewer(viewer, offer)
    }

    fn restart_ice(&self, viewer: ViewerId, remote_ufrag: &str) -> Result<IceRestart, RestartError> {
        self.restart_ice(viewer, remote_ufrag)
    }

    fn drops(&self) -> Drops {
        self.drops()
    }
}
