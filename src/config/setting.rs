//! From text (environment, flags) or TOML to typed values, and back for `print-config`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::tree::RembPolicy;
use crate::base::net::{Networks, is_private};
use crate::telemetry::{LogFilter, LogFormat};

/// A value as it was found.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    /// In the file.
    Toml(Value),
    /// In the environment or a flag.
    Text(String),
}

impl Raw {
    /// Text of a string, number or truth value.
    fn text(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.trim().to_owned()),
            Self::Toml(Value::String(text)) => Ok(text.trim().to_owned()),
            Self::Toml(value @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_))) => Ok(value.to_string()),
            Self::Toml(other) => Err(format!("expected a single value, found {}", other.type_str())),
        }
    }

    /// Text that is a string in TOML.
    fn string(&self) -> Result<String, String> {
        match self {
            Self::Toml(value) if !value.is_str() => Err(format!("expected a string, found {}", value.type_str())),
            _ => self.text(),
        }
    }

    /// Text that is a number in TOML.
    fn number(&self) -> Result<String, String> {
        match self {
            Self::Toml(value) if !value.is_integer() && !value.is_float() => {
                Err(format!("expected a number, found {}", value.type_str()))
            }
            _ => self.text(),
        }
    }
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// What was expected, in words.
    fn read(raw: &Raw) -> Result<Self, String>;
    /// As it stands in the file.
    fn show(&self) -> Value;
}

impl Setting for bool {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Toml(Value::Boolean(value)) => Ok(*value),
            Raw::Toml(other) => Err(format!("expected true or false, found {}", other.type_str())),
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err("expected true or false".into()),
            },
        }
    }

    fn show(&self) -> Value {
        Value::Boolean(*self)
    }
}

macro_rules! whole_number {
    ($type:ty) => {
        impl Setting for $type {
            fn read(raw: &Raw) -> Result<Self, String> {
                raw.number()?.parse().map_err(|_| format!("expected a whole number from 0 to {}", <$type>::MAX))
            }

            fn show(&self) -> Value {
                Value::Integer((*self).into())
            }
        }
    };
}

whole_number!(u16);
whole_number!(u32);

impl Setting for String {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.string()? {
            text if text.is_empty() => Err("must not be empty".into()),
            text => Ok(text),
        }
    }

    fn show(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Setting for PathBuf {
    fn read(raw: &Raw) -> Result<Self, String> {
        String::read(raw).map(Self::from)
    }

    fn show(&self) -> Value {
        Value::String(self.display().to_string())
    }
}

impl Setting for IpAddr {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.string()?.as_str() {
            "localhost" => Ok(Self::V4(Ipv4Addr::LOCALHOST)),
            text => text.parse().map_err(|_| "expected an IP address".into()),
        }
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for SocketAddr {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.string()?.parse().map_err(|_| "expected an address with port, like 0.0.0.0:1883".into())
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// Seconds, with fractions.
impl Setting for Duration {
    fn read(raw: &Raw) -> Result<Self, String> {
        let seconds: f64 = raw.number()?.parse().map_err(|_| "expected a number of seconds".to_owned())?;
        Self::try_from_secs_f64(seconds)
            .ok()
            .filter(|duration| duration.as_secs() <= 365 * 86_400)
            .ok_or_else(|| "expected 0 to 31,536,000 seconds".into())
    }

    fn show(&self) -> Value {
        match self.subsec_nanos() {
            0 => Value::Integer(self.as_secs() as i64),
            _ => Value::Float(self.as_secs_f64()),
        }
    }
}

/// An empty string means unset.
impl<T: Setting> Setting for Option<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text() {
            Ok(text) if text.is_empty() => Ok(None),
            _ => T::read(raw).map(Some),
        }
    }

    fn show(&self) -> Value {
        self.as_ref().map_or_else(|| Value::String(String::new()), T::show)
    }
}

/// A list, or text with commas.
impl Setting for Vec<String> {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Toml(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| "expected a list of strings".to_owned()))
                .collect(),
            _ => {
                let text = raw.string()?;
                Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
            }
        }
    }

    fn show(&self) -> Value {
        Value::Array(self.iter().cloned().map(Value::String).collect())
    }
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Option<String>);

impl Secret {
    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "***" } else { "unset" })
    }
}

impl Setting for Secret {
    fn read(raw: &Raw) -> Result<Self, String> {
        Option::<String>::read(raw).map(Self)
    }

    fn show(&self) -> Value {
        Value::String(if self.0.is_some() { "***" } else { "" }.into())
    }
}

/// Where what is known of cameras is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StorePlace {
    /// Nobody said: in the state directory that systemd gives, if there is one, else in memory only.
    #[default]
    Unset,
    /// In memory only.
    Memory,
    /// In this file.
    File(PathBuf),
}

impl StorePlace {
    /// What stands for [`StorePlace::Memory`].
    const MEMORY: &str = "memory";

    /// The file, if there is one.
    pub fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::Unset | Self::Memory => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Setting for StorePlace {
    fn read(raw: &Raw) -> Result<Self, String> {
        Ok(match raw.string()?.as_str() {
            "" => Self::Unset,
            Self::MEMORY => Self::Memory,
            path => Self::File(path.into()),
        })
    }

    fn show(&self) -> Value {
        Value::String(match self {
            Self::Unset => String::new(),
            Self::Memory => Self::MEMORY.to_owned(),
            Self::File(path) => path.display().to_string(),
        })
    }
}

/// First and last port of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl Setting for PortRange {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = raw.string()?;
        let ports = text.split_once('-').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
        match ports {
            Some((first, last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err("expected first-last, like 5010-5050".into()),
        }
    }

    fn show(&self) -> Value {
        Value::String(format!("{}-{}", self.first, self.last))
    }
}

/// Networks that count as local: CIDRs, or dotted prefixes such as `192.168.1.`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalNetworks(Networks);

impl LocalNetworks {
    /// Whether `ip` is local. Without a list: private, loopback and link-local addresses
    /// (RFC 1918, RFC 3927, RFC 4193, RFC 4291).
    pub fn contains(&self, ip: IpAddr) -> bool {
        if self.0.is_empty() { is_private(ip) } else { self.0.contains(ip) }
    }
}

impl FromStr for LocalNetworks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl Setting for LocalNetworks {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.string()?.parse()
    }

    fn show(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

impl Setting for Networks {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.string()?.parse()
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for LogFilter {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.string()?.parse().map_err(|error: crate::telemetry::InvalidFilter| error.to_string())
    }

    fn show(&self) -> Value {
        Value::String(self.as_str().to_owned())
    }
}

impl Setting for LogFormat {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.string()?.to_ascii_lowercase().as_str() {
            "human" | "text" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("expected human or json".into()),
        }
    }

    fn show(&self) -> Value {
        Value::String(if *self == Self::Json { "json" } else { "human" }.into())
    }
}

impl Setting for RembPolicy {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.string()?.to_ascii_lowercase().as_str() {
            "min" => Ok(Self::Min),
            "percentile" => Ok(Self::Percentile),
            "floor" => Ok(Self::Floor),
            "ignore-slow" => Ok(Self::IgnoreSlow),
            _ => Err("expected min, percentile, floor or ignore-slow".into()),
        }
    }

    fn show(&self) -> Value {
        let word = match self {
            Self::Min => "min",
            Self::Percentile => "percentile",
            Self::Floor => "floor",
            Self::IgnoreSlow => "ignore-slow",
        };
        Value::String(word.into())
    }
}
