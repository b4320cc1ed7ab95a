//! What somebody may do.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::base::CameraId;

/// Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Watch, and read what is known of streams and cameras.
    View,
    /// Start and stop streams, name cameras.
    Control,
    /// What concerns the whole service.
    Admin,
}

impl Role {
    /// As it stands in tokens and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Control => "control",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::View, Self::Control, Self::Admin]
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or("must be view, control or admin")
    }
}

/// Longest list of patterns; more come from a mistake.
const MAX_PATTERNS: usize = 1_000;

/// Which cameras: all, or those that one of the patterns fits. In a pattern `*` stands for any digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraScope(Vec<String>);

/// Why patterns make no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must hold camera ids, patterns like 56C1*, or *; {0:?} is neither")]
pub struct InvalidScope(String);

impl CameraScope {
    /// Every camera.
    pub fn all() -> Self {
        Self(vec!["*".to_owned()])
    }

    /// The cameras that one of `patterns` fits.
    ///
    /// # Errors
    ///
    /// [`InvalidScope`]: none at all, too many, or one that no camera's id could fit.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidScope> {
        let wrong = |text: &str| InvalidScope(text.chars().take(40).collect());
        let mut scope = Vec::new();
        for pattern in patterns {
            let fits = pattern.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F' | b'*'));
            let digits = pattern.bytes().filter(|b| *b != b'*').count();
            let long_enough = if pattern.contains('*') { digits <= 32 } else { digits == 32 };
            if !(fits && long_enough && pattern.len() <= 64 && scope.len() < MAX_PATTERNS) {
                return Err(wrong(pattern));
            }
            scope.push(pattern.to_owned());
        }
        if scope.is_empty() { Err(wrong("")) } else { Ok(Self(scope)) }
    }

    /// Whether a camera is in it.
    pub fn contains(&self, camera: &CameraId) -> bool {
        self.0.iter().any(|pattern| fits(pattern, camera.as_str()))
    }

    /// Whether every camera is in it, those that nobody has heard of included.
    pub fn is_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern.bytes().all(|b| b == b'*'))
    }

    /// The patterns.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}

/// Without backtracking beyond the last `*`: linear in both for what ids and patterns are.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, from)) = retry {
            (p, t) = (after, from + 1);
            retry = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// A key of the configuration, on which grants rest: they end when it is taken out.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    /// By which sessions name it. Random, so that it is that of no other run either.
    pub(super) id: u64,
    withdrawn: CancellationToken,
}

impl Basis {
    pub(super) fn new() -> Self {
        Self { id: rand::random(), withdrawn: CancellationToken::new() }
    }

    /// Ends what rests on it.
    pub(super) fn withdraw(&self) {
        self.withdrawn.cancel();
    }
}

/// What somebody may do, on which cameras, and until when.
#[derive(Debug, Clone)]
pub struct Grant {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) cameras: CameraScope,
    pub(super) until: Option<SystemTime>,
    pub(super) basis: Option<Basis>,
}

/// By what it allows, whatever it rests on.
impl PartialEq for Grant {
    fn eq(&self, other: &Self) -> bool {
        let Self { name, role, cameras, until, basis: _ } = self;
        (name, role, cameras, until) == (&other.name, &other.role, &other.cameras, &other.until)
    }
}

impl Eq for Grant {}

/// Why a grant holds no more. The texts go to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessEnd {
    /// Its time is over.
    Expired,
    /// The key that it rests on was taken out of the configuration.
    Withdrawn,
}

impl AccessEnd {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Expired => "The token has expired",
            Self::Withdrawn => "The key or token was withdrawn",
        }
    }
}

/// What a grant does not hold. The texts go to clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The role does less.
    #[error("The role {needed} is needed, this is {has}")]
    Role {
        /// What is needed.
        needed: Role,
        /// What there is.
        has: Role,
    },
    /// Another camera.
    #[error("Not allowed for camera {0}")]
    Camera(CameraId),
    /// Something that concerns all cameras.
    #[error("Not allowed for all cameras")]
    AllCameras,
}

impl Grant {
    /// A grant for `name`, which stands in logs.
    pub fn new(name: impl Into<String>, role: Role, cameras: CameraScope, until: Option<SystemTime>) -> Self {
        Self { name: name.into(), role, cameras, until, basis: None }
    }

    /// What everybody has where access is not controlled.
    pub fn everything() -> Self {
        Self::new("everybody", Role::Admin, CameraScope::all(), None)
    }

    /// What somebody without a credential has.
    pub fn nothing() -> Self {
        Self::new("nobody", Role::View, CameraScope(Vec::new()), None)
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// When it ends; `None`: never.
    pub fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// Resolves when it holds no more, from `now` on. Whatever goes on for longer than a request ends with it.
    pub fn ended(&self, now: SystemTime) -> impl Future<Output = AccessEnd> + Send + use<> {
        let left = self.until.map(|until| until.duration_since(now).unwrap_or_default());
        let withdrawn = self.basis.as_ref().map(|basis| basis.withdrawn.clone());
        async move {
            let expired = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            let withdrawn = async {
                match withdrawn {
                    Some(withdrawn) => withdrawn.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => AccessEnd::Expired,
                () = withdrawn => AccessEnd::Withdrawn,
            }
        }
    }

    /// Whether a camera is in its scope: lists are shortened to those that are.
    pub fn sees(&self, camera: &CameraId) -> bool {
        self.cameras.contains(camera)
    }

    /// Whether every camera is.
    pub fn sees_all(&self) -> bool {
        self.cameras.is_all()
    }

    /// Whether something that needs `role` may be done.
    ///
    /// # Errors
    ///
    /// [`Forbidden`].
    pub fn require(&self, role: Role) -> Result<(), Forbidden> {
        if self.role >= role { Ok(()) } else { Err(Forbidden::Role { needed: role, has: self.role }) }
    }

    /// Whether something may be done with a camera.
    ///
    /// # Errors
    ///
    /// [`Forbidden`].
    pub fn require_camera(&self, camera: &CameraId) -> Result<(), Forbidden> {
        if self.sees(camera) { Ok(()) } else { Err(Forbidden::Camera(*camera)) }
    }
}
