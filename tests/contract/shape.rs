//! Keys and types of JSON.

use serde_json::Value;

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A whole number, written without a point: scripts print it with `%d`.
    Integer,
    Number,
    Text,
    /// ISO-8601.
    Time,
    Bool,
    Object,
    List,
    MaybeText,
    MaybeTime,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Integer => value.is_u64() && value.to_string().bytes().all(|byte| byte.is_ascii_digit()),
            Self::Number => value.is_number(),
            Self::Text => value.is_string(),
            Self::Time => value.as_str().is_some_and(is_iso8601),
            Self::Bool => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::List => value.is_array(),
            Self::MaybeText => value.is_null() || value.is_string(),
            Self::MaybeTime => value.is_null() || Self::Time.fits(value),
        }
    }
}

/// `2026-11-25T01:23:41.005000Z`
fn is_iso8601(text: &str) -> bool {
    let pattern = "0000-00-00T00:00:00.000000Z";
    let fits = |(c, p): (char, char)| if p == '0' { c.is_ascii_digit() } else { c == p };
    text.len() == pattern.len() && text.chars().zip(pattern.chars()).all(fits)
}

/// Every key is there with its type; more keys are allowed.
pub(crate) fn assert_shape(value: &Value, shape: &[(&str, Kind)]) {
    for (key, kind) in shape {
        let Some(field) = value.get(key) else { panic!("{key} is missing in {value:#}") };
        assert!(kind.fits(field), "{key} is {field}");
    }
}
