//! The simulated camera: a client of the server as a real camera is one (contract §1–§4).
//!
//! It shares packet formats and the MQTT link with the server and nothing else, so that a mistake in how
//! the server talks to cameras shows here. What it does is decided in `camera`, which knows neither
//! sockets nor clocks; `driver` gives it both.

mod camera;
mod clip;
mod driver;
mod faults;
mod feedback;
mod mark;
mod packetize;
mod pcmu;
mod play;
mod presence;
mod record;
mod report;
mod settings;
mod stream;
#[cfg(test)]
mod testing;
mod track;

use std::io::Write;
use std::time::Duration;

pub use driver::{Sim, SimError};
pub use mark::Mark;
pub use record::SentPicture;
pub use report::{FeedbackReport, SimReport};
pub use settings::{CameraSettings, Fault, FaultSettings, Imitated, RtcpSending, SimLink, SimSettings};

use crate::base::Shutdown;
pub use crate::media::Codec;

/// How [`run`] prints its reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
    /// Nothing is printed.
    None,
}

/// How often a report is printed.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Where a camera would send to by this SDP of a `play`: RTP and RTCP of video, then of audio; else why it
/// would stay silent. Public for the fuzz target alone, which must not start a camera.
#[doc(hidden)]
pub fn play_destinations(sdp: &str) -> Result<[std::net::SocketAddr; 4], String> {
    let target = play::parse_sdp(sdp).map_err(|refusal| refusal.to_string())?;
    Ok([target.video.rtp, target.video.rtcp, target.audio.rtp, target.audio.rtcp])
}

/// Runs the cameras until shutdown is requested, and prints a report of each once a second and at the end.
///
/// Returns when the cameras have said good-bye to the broker. When standard output is closed, nothing more
/// is printed and the cameras go on.
///
/// # Errors
///
/// A camera that cannot be started; none is left running then.
pub async fn run(settings: Vec<SimSettings>, format: ReportFormat, shutdown: &Shutdown) -> Result<(), SimError> {
    let stage = shutdown.child();
    let started: Result<Vec<Sim>, SimError> = settings.into_iter().map(|one| Sim::start(one, &stage)).collect();
    if let Ok(sims) = &started {
        print_reports(sims, format, shutdown).await;
    }
    stage.request();
    stage.drained().await;
    for sim in started? {
        // Whoever has closed standard output does not want it.
        let _ = print(&sim.report(), format);
    }
    Ok(())
}

async fn print_reports(sims: &[Sim], format: ReportFormat, shutdown: &Shutdown) {
    let mut tick = tokio::time::interval(REPORT_INTERVAL);
    let mut open = format != ReportFormat::None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            _ = tick.tick(), if open => {}
        }
        for sim in sims {
            open = open && print(&sim.report(), format).is_ok();
        }
    }
}

fn print(report: &SimReport, format: ReportFormat) -> std::io::Result<()> {
    let line = match format {
        ReportFormat::Json => report.to_json(),
        ReportFormat::Text => report.to_string(),
        ReportFormat::None => return Ok(()),
    };
    // One write, so that lines of several processes do not mix.
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes())
}
