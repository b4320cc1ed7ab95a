//! Reads the layers and collects every problem.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{KEYS, Key, by_path};
use super::setting::{Raw, StorePlace};
use super::tree::Config;
use super::{check, dotenv};

/// Names of the old service that mean nothing here, and what is said about each.
const IGNORED: &[(&str, &str)] = &[("KURENTO_WS_URL", "there is no Kurento any more: the media engine is built in")];

/// Set by systemd for a unit with `StateDirectory=`: folders for what outlives the process, with colons.
pub(crate) const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
/// The camera store in there.
const STORE_NAME: &str = "honeycast.redb";

/// Where values may come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// Configuration file; must exist.
    pub file: Option<PathBuf>,
    /// `.env` file; may be missing.
    pub dotenv: Option<PathBuf>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Flags: key path, value, and the flag's name.
    pub flags: Vec<(String, String, &'static str)>,
}

impl fmt::Debug for Sources {
    /// Leaves values out: there are secrets among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).field("dotenv", &self.dotenv).finish_non_exhaustive()
    }
}

impl Sources {
    /// The process's environment, `.env` beside it, and the file that `HONEYCAST_CONFIG` or `file` names.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String, &'static str)>) -> Self {
        // Names or values that are not UTF-8 cannot be meant for us.
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = env.get("HONEYCAST_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        Self { file: file.or(named), dotenv: Some(".env".into()), env, flags }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// The `.env` file, under this name.
    DotEnv(String),
    /// The environment, under this name.
    Env(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::DotEnv(name) => write!(f, ".env, {name}"),
            Self::Env(name) => write!(f, "environment, {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A checked configuration and how it came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What the operator should know, for the log.
    pub notices: Vec<String>,
    origins: BTreeMap<&'static str, Origin>,
    sources: Sources,
    /// The configuration file, whoever named it.
    file: Option<PathBuf>,
}

impl Loaded {
    /// Reads everything once more: files may have changed meanwhile.
    ///
    /// # Errors
    ///
    /// As [`load`].
    pub fn again(&self) -> Result<Self, Problems> {
        load(&self.sources)
    }

    /// The files that say who may do what.
    pub fn access_files(&self) -> Vec<PathBuf> {
        let named = [&self.file, &self.sources.dotenv, &self.config.auth.jwt_key_set];
        named.into_iter().flatten().cloned().collect()
    }

    /// Where the value of a key came from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.origins.get(path).unwrap_or(&Origin::Default)
    }

    /// The effective values as TOML, each with its origin; secrets are masked.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let (head, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
            if head != section {
                text += &format!("{}[{head}]\n", if section.is_empty() { "" } else { "\n" });
                section = head;
            }
            text += &format!("{name} = {} # {}\n", (key.show)(&self.config), self.origin(key.path));
        }
        text
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the file.
    pub key: String,
    /// Where the value came from.
    pub origin: Option<Origin>,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{} ({origin}): {}", self.key, self.text),
            None => write!(f, "{}: {}", self.key, self.text),
        }
    }
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration cannot be used:")?;
        self.0.iter().try_for_each(|problem| writeln!(f, "  - {problem}"))
    }
}

/// Reads all layers and checks the result.
///
/// # Errors
///
/// [`Problems`] names every wrong key and where its value came from.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut loader = Loader::default();
    let dotenv = sources.dotenv.as_deref().map(|path| dotenv::read(path, &mut loader.problems)).unwrap_or_default();
    let named = dotenv.get("HONEYCAST_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let file = sources.file.clone().or(named);
    if let Some(file) = &file {
        loader.file(file);
    }
    loader.environment(&dotenv, Origin::DotEnv);
    loader.environment(&sources.env, Origin::Env);
    for (path, value, flag) in &sources.flags {
        match by_path(path) {
            Some(key) => loader.set(key, &Raw::Text(value.clone()), Origin::Flag(flag)),
            None => loader.unknown(path.clone(), Origin::Flag(flag)),
        }
    }
    loader.state_directory(&sources.env);
    for (name, text) in IGNORED {
        if sources.env.contains_key(*name) || dotenv.contains_key(*name) {
            loader.notices.push(format!("{name} is ignored: {text}"));
        }
    }
    let Loader { config, origins, notices, problems } = loader;
    let mut loaded = Loaded { config, notices, origins, sources: sources.clone(), file };
    let mut problems = problems;
    check::check(&mut loaded, &mut problems);
    if problems.is_empty() { Ok(loaded) } else { Err(Problems(problems)) }
}

#[derive(Default)]
struct Loader {
    config: Config,
    origins: BTreeMap<&'static str, Origin>,
    notices: Vec<String>,
    problems: Vec<Problem>,
}

impl Loader {
    fn set(&mut self, key: &Key, raw: &Raw, origin: Origin) {
        match (key.set)(&mut self.config, raw) {
            Ok(()) => drop(self.origins.insert(key.path, origin)),
            Err(text) => {
                self.problems.push(Problem { key: key.path.to_owned(), origin: Some(origin), text });
            }
        }
    }

    fn unknown(&mut self, key: String, origin: Origin) {
        let hint = nearest(&key).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        self.problems.push(Problem { key, origin: Some(origin), text: format!("unknown key{hint}") });
    }

    /// An empty value counts as unset, as the old scripts mean it. The preferred name wins.
    fn environment(&mut self, env: &BTreeMap<String, String>, origin: fn(String) -> Origin) {
        for key in KEYS {
            let found = key.env.iter().find_map(|name| Some((*name, env.get(*name).filter(|v| !v.is_empty())?)));
            if let Some((name, value)) = found {
                self.set(key, &Raw::Text(value.clone()), origin(name.to_owned()));
            }
        }
    }

    /// Who gives a folder for state wants it used, unless a place was named.
    fn state_directory(&mut self, env: &BTreeMap<String, String>) {
        let folder = env.get(STATE_DIRECTORY).and_then(|folders| folders.split(':').find(|path| !path.is_empty()));
        if let (StorePlace::Unset, Some(folder)) = (&self.config.cameras.store, folder) {
            self.config.cameras.store = StorePlace::File(Path::new(folder).join(STORE_NAME));
            self.origins.insert("cameras.store", Origin::Env(STATE_DIRECTORY.to_owned()));
        }
    }

    fn file(&mut self, path: &Path) {
        let problem = |text: String| Problem { key: path.display().to_string(), origin: None, text };
        let table = match std::fs::read_to_string(path) {
            Err(error) => return self.problems.push(problem(format!("cannot be read: {error}"))),
            Ok(text) => match text.parse::<Table>() {
                Ok(table) => table,
                Err(error) => return self.problems.push(problem(format!("is not TOML: {error}"))),
            },
        };
        self.table(&table, "", path);
    }

    fn table(&mut self, table: &Table, prefix: &str, file: &Path) {
        for (name, value) in table {
            let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let origin = Origin::File(file.to_owned());
            let is_section = KEYS.iter().any(|key| key.path.starts_with(&format!("{full}.")));
            match (by_path(&full), value) {
                (Some(key), value) => self.set(key, &Raw::Toml(value.clone()), origin),
                (None, Value::Table(inner)) if is_section => self.table(inner, &full, file),
                (None, _) if is_section => {
                    self.problems.push(Problem {
                        key: full,
                        origin: Some(origin),
                        text: "is a section, [like.this]".into(),
                    });
                }
                (None, _) => self.unknown(full, origin),
            }
        }
    }
}

/// The key that differs in the fewest letters, if it is near.
fn nearest(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |key: &Key| edit_distance(path, key.path).min(edit_distance(&last(path), &last(key.path)) + 1);
    KEYS.iter().map(|key| (distance(key), key.path)).min().filter(|(d, _)| *d <= 3).map(|(_, path)| path)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
