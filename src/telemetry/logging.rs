//! Set-up of the log: filter, format, a writer that never blocks the media path.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload};

/// Appended unless the filter names the target itself: rtc_dtls warns about every ClientHello extension
/// that it does not know, several lines per viewer; the MQTT crates log what our own link logs once; the WebSocket
/// crate traces whole messages, with the ICE passwords in them.
const QUIET: [(&str, &str); 4] = [
    ("rtc_dtls", "rtc_dtls=error"),
    ("rumqttc", "rumqttc=error"),
    ("mqtt5", "mqtt5=warn"),
    ("tungstenite", "tungstenite=warn"),
];

/// Lines that wait for standard error. The queue takes 32 bytes for each, whether it is there or not.
const MAX_WAITING_LINES: usize = 16_384;

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// Which lines.
    pub level: LogFilter,
    /// In which form.
    pub format: LogFormat,
}

/// A filter that was checked: a level (`DEBUG`, `INFO`, `WARNING`, `ERROR`, … in any case) or
/// `tracing` directives such as `info,honeycast::ingest=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// Why a text is not a [`LogFilter`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be DEBUG, INFO, WARNING, ERROR, TRACE, OFF or filter directives such as info,honeycast::ingest=debug{0}")]
pub struct InvalidFilter(String);

/// Form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Writes out what is still queued when it is dropped; `main` holds it to the end.
#[must_use = "log lines that are queued at the end are lost with it"]
pub struct LogGuard(#[expect(dead_code, reason = "it works by being dropped")] WorkerGuard);

/// Starts logging to standard error for the whole process. A second call leaves the first in place.
///
/// Lines go through a bounded queue to a thread of their own; when standard error blocks for so long that
/// the queue is full, lines are dropped and media is not held up.
pub fn init(config: &LogConfig) -> LogGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_WAITING_LINES).finish(std::io::stderr());
    let (subscriber, handle) = subscriber(config, writer);
    // An error means that a subscriber is there already.
    if subscriber.try_init().is_ok() {
        let _ = CURRENT.set(Mutex::new((config.level.clone(), handle)));
    }
    LogGuard(guard)
}

/// What is logged by this process; `None` before [`init`].
pub fn log_filter() -> Option<LogFilter> {
    Some(CURRENT.get()?.lock().unwrap_or_else(PoisonError::into_inner).0.clone())
}

/// Changes what is logged from now on, and returns what was before; `None` before [`init`], which changes nothing.
pub fn set_log_filter(filter: LogFilter) -> Option<LogFilter> {
    let mut current = CURRENT.get()?.lock().unwrap_or_else(PoisonError::into_inner);
    current.1.reload(filter.env_filter()).ok()?;
    Some(std::mem::replace(&mut current.0, filter))
}

type Handle = reload::Handle<EnvFilter, Registry>;

/// There is one log a process.
static CURRENT: OnceLock<Mutex<(LogFilter, Handle)>> = OnceLock::new();

fn subscriber<W>(config: &LogConfig, writer: W) -> (impl Subscriber + Send + Sync, Handle)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(config.level.env_filter());
    (Registry::default().with(lines.with_filter(filter)), handle)
}

impl LogFilter {
    /// The directives as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn env_filter(&self) -> EnvFilter {
        let mut directives = self.0.clone();
        for (target, directive) in QUIET {
            if !self.0.contains(target) {
                directives = format!("{directives},{directive}");
            }
        }
        EnvFilter::new(directives)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let level = match text.to_ascii_lowercase().as_str() {
            // Python's names, which the old service's LOG_LEVEL took.
            "warning" => "warn".to_owned(),
            "critical" | "fatal" => "error".to_owned(),
            other => other.to_owned(),
        };
        if level.parse::<LevelFilter>().is_ok() && !level.is_empty() {
            return Ok(Self(level));
        }
        // A lone word is a valid directive ("everything of the target `verbose`"), but never meant.
        if !text.contains(['=', ',', '[']) && !text.contains("::") {
            return Err(InvalidFilter(String::new()));
        }
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(InvalidFilter(format!(" ({error})"))),
        }
    }
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("must be human or json"),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: LogFormat) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let config = LogConfig { level: level.parse().unwrap(), format };
        tracing::subscriber::with_default(subscriber(&config, move || writer.clone()).0, || {
            tracing::debug!("a detail");
            tracing::info!(camera = "56C1", "an event");
            tracing::warn!(target: "rtc_dtls::extension", "noise");
            tracing::error!(target: "rtc_dtls::conn", "failure");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_level_decides_and_dtls_warnings_stay_out() {
        let text = logged("INFO", LogFormat::Human);
        assert!(text.contains("an event") && text.contains("failure"), "{text}");
        assert!(!text.contains("a detail") && !text.contains("noise"), "{text}");
        assert!(logged("Debug", LogFormat::Human).contains("a detail"));
        assert!(!logged("warning", LogFormat::Human).contains("an event"));
    }

    #[test]
    fn the_filter_can_be_changed_while_lines_are_written() {
        let memory = Memory::default();
        let writer = memory.clone();
        let (subscriber, handle) = subscriber(&LogConfig::default(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            handle.reload("debug".parse::<LogFilter>().unwrap().env_filter()).unwrap();
            tracing::debug!("after");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("before") && text.contains("after"), "{text}");
    }

    #[test]
    fn directives_that_name_dtls_win() {
        assert!(logged("info,rtc_dtls=warn", LogFormat::Human).contains("noise"));
    }

    #[test]
    fn json_has_one_object_a_line() {
        let text = logged("info", LogFormat::Json);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], "an event");
        assert_eq!(first["camera"], "56C1");
    }

    #[test]
    fn filters_that_would_silence_everything_by_mistake_are_refused() {
        for bad in ["", "verbose", "inof", "honeycast=loud", "info,[["] {
            assert!(bad.parse::<LogFilter>().is_err(), "{bad:?}");
        }
        assert_eq!("Critical".parse::<LogFilter>().unwrap().as_str(), "error");
        assert_eq!(
            "info,honeycast::ingest=debug".parse::<LogFilter>().unwrap().as_str(),
            "info,honeycast::ingest=debug"
        );
    }
}
