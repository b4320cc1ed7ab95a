//! Topic names: templates for what is sent to cameras, filters for what comes from them (contract §2).

use crate::base::CameraId;
use crate::control::camera::CommandKind;

/// Stands for the camera's id in every template and filter.
pub const PLACEHOLDER: &str = "{camera_id}";

/// The configurable topic texts. The defaults are the ones that the cameras use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Where `play` goes. Holds [`PLACEHOLDER`] once and no wildcard, as the next two.
    pub play: String,
    /// Where `keepalive` goes.
    pub keepalive: String,
    /// Where `stop` goes.
    pub stop: String,
    /// Where cameras tell that they came or went. A filter in which [`PLACEHOLDER`], or else the first `+`,
    /// is the level with the camera's id, as the next three.
    pub connection: String,
    /// Where cameras report their health.
    pub status: String,
    /// Where cameras report their health when it changes; same shape.
    pub state: String,
    /// Where cameras report motion and sound.
    pub activity: String,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            play: "prod/honeycomb/{camera_id}/stream/play".to_owned(),
            keepalive: "prod/honeycomb/{camera_id}/stream/keepalive".to_owned(),
            stop: "prod/honeycomb/{camera_id}/stream/stop".to_owned(),
            connection: "prod/device/connection/hive-cam/+".to_owned(),
            status: "prod/device/status/hive-cam/+".to_owned(),
            state: "prod/device/message/hive-cam/+/camera/state".to_owned(),
            activity: "prod/device/message/hive-cam/+/activity/+".to_owned(),
        }
    }
}

/// What a message from a camera is about, as its topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportKind {
    /// Came or went.
    Connection,
    /// Health.
    Status,
    /// Motion or sound.
    Activity,
}

/// A topic text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// A template must hold the placeholder exactly once, as a whole level, and no wildcard.
    #[error("topic {0:?} must contain {{camera_id}} once, as a level of its own, and neither + nor #")]
    Template(String),
    /// A filter must say which level is the camera's id, and be valid (MQTT 3.1.1 §4.7).
    #[error("topic filter {0:?} must be a valid MQTT filter with {{camera_id}} or + as the level of the camera's id")]
    Filter(String),
}

/// Whether a text can be the topic of a command.
///
/// # Errors
///
/// [`InvalidTopic::Template`].
pub fn check_template(text: &str) -> Result<(), InvalidTopic> {
    Template::new(text).map(drop)
}

/// Whether a text can be the filter for what cameras say.
///
/// # Errors
///
/// [`InvalidTopic::Filter`].
pub fn check_filter(text: &str) -> Result<(), InvalidTopic> {
    Filter::new(text).map(drop)
}

/// Why a received topic says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownTopic {
    /// No filter matches.
    #[error("the topic matches no filter")]
    NoMatch,
    /// A filter matches, but the level is not a [`CameraId`].
    #[error("the topic does not name a camera")]
    NotACamera,
}

/// Checked topic texts.
#[derive(Debug, Clone)]
pub struct Topics {
    play: Template,
    keepalive: Template,
    stop: Template,
    reports: [(ReportKind, Filter); 4],
}

impl Topics {
    /// Checks the texts.
    ///
    /// # Errors
    ///
    /// The first text that cannot be used.
    pub fn new(settings: &TopicSettings) -> Result<Self, InvalidTopic> {
        Ok(Self {
            play: Template::new(&settings.play)?,
            keepalive: Template::new(&settings.keepalive)?,
            stop: Template::new(&settings.stop)?,
            reports: [
                (ReportKind::Connection, Filter::new(&settings.connection)?),
                (ReportKind::Status, Filter::new(&settings.status)?),
                (ReportKind::Status, Filter::new(&settings.state)?),
                (ReportKind::Activity, Filter::new(&settings.activity)?),
            ],
        })
    }

    /// Where a command of this kind goes.
    pub fn command(&self, kind: CommandKind, camera: CameraId) -> String {
        let template = match kind {
            CommandKind::Play => &self.play,
            CommandKind::Keepalive => &self.keepalive,
            CommandKind::Stop => &self.stop,
        };
        format!("{}{camera}{}", template.before, template.after)
    }

    /// The filters to subscribe to, without duplicates.
    pub fn subscriptions(&self) -> Vec<String> {
        let mut filters: Vec<String> = Vec::with_capacity(self.reports.len());
        for (_, filter) in &self.reports {
            let text = filter.levels.join("/");
            if !filters.contains(&text) {
                filters.push(text);
            }
        }
        filters
    }

    /// What a received topic is about, and whose it is.
    ///
    /// # Errors
    ///
    /// The topic is not one of ours, or does not name a camera.
    pub fn report(&self, topic: &str) -> Result<(ReportKind, CameraId), UnknownTopic> {
        let mut error = UnknownTopic::NoMatch;
        for (kind, filter) in &self.reports {
            match filter.camera_level(topic).map(str::parse) {
                Some(Ok(camera)) => return Ok((*kind, camera)),
                Some(Err(_)) => error = UnknownTopic::NotACamera,
                None => {}
            }
        }
        Err(error)
    }
}

#[derive(Debug, Clone)]
struct Template {
    before: String,
    after: String,
}

impl Template {
    fn new(text: &str) -> Result<Self, InvalidTopic> {
        let invalid = || InvalidTopic::Template(text.to_owned());
        let (before, after) = text.split_once(PLACEHOLDER).ok_or_else(invalid)?;
        let whole_level = (before.is_empty() || before.ends_with('/')) && (after.is_empty() || after.starts_with('/'));
        // Braces left over are a misspelt placeholder, not a topic that a camera listens to.
        let plain = !text.contains(['+', '#', '\0']) && !before.contains(['{', '}']) && !after.contains(['{', '}']);
        match whole_level && plain && text.len() < usize::from(u16::MAX) {
            true => Ok(Self { before: before.to_owned(), after: after.to_owned() }),
            false => Err(invalid()),
        }
    }
}

#[derive(Debug, Clone)]
struct Filter {
    levels: Vec<String>,
    camera: usize,
}

impl Filter {
    fn new(text: &str) -> Result<Self, InvalidTopic> {
        let mut levels: Vec<String> = text.split('/').map(str::to_owned).collect();
        let placed = levels.iter().position(|level| level == PLACEHOLDER);
        let camera = placed.or_else(|| levels.iter().position(|level| level == "+"));
        let camera = camera.ok_or_else(|| InvalidTopic::Filter(text.to_owned()))?;
        levels[camera] = "+".to_owned();
        let last = levels.len() - 1;
        let valid = levels.iter().enumerate().all(|(at, level)| match level.as_str() {
            "+" => true,
            "#" => at == last,
            other => !other.contains(['+', '#', '{', '}', '\0']),
        });
        match valid && text.len() <= usize::from(u16::MAX) {
            true => Ok(Self { levels, camera }),
            false => Err(InvalidTopic::Filter(text.to_owned())),
        }
    }

    /// The level of the camera's id, if the topic matches (MQTT 3.1.1 §4.7).
    fn camera_level<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let mut found = None;
        let mut levels = topic.split('/');
        for (at, wanted) in self.levels.iter().enumerate() {
            if wanted == "#" {
                return found;
            }
            let level = levels.next()?;
            if wanted != "+" && wanted != level {
                return None;
            }
            if at == self.camera {
                found = Some(level);
            }
        }
        match levels.next() {
            Some(_) => None,
            None => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";

    fn camera() -> CameraId {
        ID.parse().unwrap()
    }

    fn topics() -> Topics {
        Topics::new(&TopicSettings::default()).unwrap()
    }

    #[test]
    fn commands_go_to_the_topics_of_the_contract() {
        for (kind, word) in
            [(CommandKind::Play, "play"), (CommandKind::Keepalive, "keepalive"), (CommandKind::Stop, "stop")]
        {
            assert_eq!(topics().command(kind, camera()), format!("prod/honeycomb/{ID}/stream/{word}"));
        }
    }

    #[test]
    fn reports_are_told_apart() {
        for (topic, kind) in [
            (format!("prod/device/connection/hive-cam/{ID}"), ReportKind::Connection),
            (format!("prod/device/status/hive-cam/{ID}"), ReportKind::Status),
            (format!("prod/device/message/hive-cam/{ID}/camera/state"), ReportKind::Status),
            (format!("prod/device/message/hive-cam/{ID}/activity/motion"), ReportKind::Activity),
        ] {
            assert_eq!(topics().report(&topic), Ok((kind, camera())), "{topic}");
        }
    }

    #[test]
    fn foreign_topics_and_ids_are_refused() {
        for (topic, error) in [
            (String::new(), UnknownTopic::NoMatch),
            (format!("prod/device/connection/hive-cam/{ID}/more"), UnknownTopic::NoMatch),
            (format!("prod/device/message/hive-cam/{ID}/activity"), UnknownTopic::NoMatch),
            (format!("/prod/device/status/hive-cam/{ID}"), UnknownTopic::NoMatch),
            ("prod/device/status/hive-cam/".to_owned(), UnknownTopic::NotACamera),
            (format!("prod/device/status/hive-cam/{}", ID.to_lowercase()), UnknownTopic::NotACamera),
        ] {
            assert_eq!(topics().report(&topic), Err(error), "{topic}");
        }
    }

    #[test]
    fn subscriptions_are_the_filters_of_the_contract() {
        assert_eq!(
            topics().subscriptions(),
            [
                "prod/device/connection/hive-cam/+",
                "prod/device/status/hive-cam/+",
                "prod/device/message/hive-cam/+/camera/state",
                "prod/device/message/hive-cam/+/activity/+"
            ]
        );
    }

    #[test]
    fn the_placeholder_marks_the_camera_among_other_wildcards() {
        let settings = TopicSettings { status: "+/dev/{camera_id}/#".to_owned(), ..TopicSettings::default() };
        let topics = Topics::new(&settings).unwrap();
        assert!(topics.subscriptions().contains(&"+/dev/+/#".to_owned()));
        assert_eq!(topics.report(&format!("x/dev/{ID}")), Ok((ReportKind::Status, camera())));
        assert_eq!(topics.report(&format!("x/dev/{ID}/a/b")), Ok((ReportKind::Status, camera())));
    }

    #[test]
    fn unusable_texts_are_refused() {
        for play in ["", "a/b", "a/{camera_id}/{camera_id}", "a/x{camera_id}", "a/{camera_id}/+", "{camera_id}/#"] {
            let settings = TopicSettings { play: play.to_owned(), ..TopicSettings::default() };
            assert_eq!(Topics::new(&settings).unwrap_err(), InvalidTopic::Template(play.to_owned()));
        }
        for status in ["", "a/b", "#", "a/+b", "+/#/a", "a/{camera}/+"] {
            let settings = TopicSettings { status: status.to_owned(), ..TopicSettings::default() };
            assert_eq!(Topics::new(&settings).unwrap_err(), InvalidTopic::Filter(status.to_owned()));
        }
    }
}
