//! The control plane: which cameras there are, which streams run, who watches. The edges hold a
//! [`Control`]; one task behind it owns all state.

pub mod address;
pub mod camera;
pub mod cameras;
pub mod events;
pub mod history;
pub mod info;
pub mod keepalive;
pub mod label;
pub mod live;
pub mod media_io;
pub mod picture;
pub mod play;
pub mod record;
pub mod registry;
pub mod session;
pub mod settings;
mod tally;
pub mod watchdog;

mod engine;
mod handle;
mod unsaved;

#[cfg(test)]
pub(crate) mod testing;

pub use address::AddressRule;
pub use camera::{CameraCommand, CameraContent, CameraMessage, CommandKind};
pub use cameras::{CameraInfo, CameraStore, LabelError, StoreInfo};
pub use engine::{Parts, start};
pub use events::{Events, EventsError};
pub use handle::{
    ANSWER_WITHIN, AddViewerError, Control, NewViewer, STOP_ALL_WITHIN, StartError, StartOptions, Started, StopError,
    Unavailable, ViewerHandle,
};
pub use history::{Aspect, Change, Point};
pub use info::{Health, KeepaliveInfo, ManagerInfo, MediaInfo, MediaState, Sources, StreamInfo, ViewerInfo};
pub use label::{InvalidLabel, LabelChange};
pub use live::{LiveClient, LiveCounters, LiveFrames};
pub use picture::{PictureCode, PictureStatus};
pub use session::{ActiveReason, State, Timing};
pub use settings::{BrokerStatus, Settings};

// What the edges show of the media io below, which they must not import themselves.
pub use crate::egress::{
    Candidate, CloseReason, Drops, IceRestart, RestartError, TcpCounters, ThinReason, ViewerAnswer, ViewerStats,
};
pub use crate::ingest::{DropReason, FeedbackHealth, FeedbackWarning, IngestStats, RefusedSource, TrackStats};
pub use crate::media::doctor::{CodecReport, sound_advice};
pub use crate::media::mp4::{Head as Mp4Head, Mp4Writer, Piece as Mp4Piece};
pub use crate::media::reorder::ReorderCounters;
