//! Identifiers that cross module borders. Each is validated where it is made and trusted afterwards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A camera's id: exactly 32 upper-case hex digits (contract §1).
///
/// Anything else could change the meaning of an MQTT topic (`/`, `+`, `#`), so it cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^[0-9A-F]{32}$", example = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF")]
pub struct CameraId([u8; CameraId::LEN]);

/// Why a text is not a [`CameraId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("camera id must be 32 upper-case hex digits")]
pub struct InvalidCameraId;

impl CameraId {
    /// Length in characters.
    pub const LEN: usize = 32;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in through `from_str`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for CameraId {
    type Err = InvalidCameraId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; Self::LEN] = text.as_bytes().try_into().map_err(|_| InvalidCameraId)?;
        match bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')) {
            true => Ok(Self(bytes)),
            false => Err(InvalidCameraId),
        }
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CameraId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CameraId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One run of a camera's stream: the same UUID v4 in play, every keepalive and stop (contract §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Uuid)]
pub struct StreamId(Uuid);

impl StreamId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for StreamId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// `stream-{camera[..8]}-{stream[..8]}` (contract §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "stream-56C1CADC-0b54cbf8")]
pub struct SessionId(String);

impl SessionId {
    /// The session id of `stream` of `camera`.
    pub fn new(camera: CameraId, stream: StreamId) -> Self {
        Self(format!("stream-{}-{}", &camera.as_str()[..8], &stream.to_string()[..8]))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One viewer session (one browser tab watching one camera).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Uuid)]
pub struct ViewerId(Uuid);

impl ViewerId {
    /// A new random id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// Not the text of a UUID with hyphens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("viewer id must be a UUID with hyphens")]
pub struct InvalidViewerId;

impl FromStr for ViewerId {
    type Err = InvalidViewerId;

    /// Of all the ways to write a UUID only that of [`fmt::Display`]: without hyphens it could be a camera's id.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id: Uuid = text.parse().map_err(|_| InvalidViewerId)?;
        if text.len() == uuid::fmt::Hyphenated::LENGTH { Ok(Self(id)) } else { Err(InvalidViewerId) }
    }
}

impl fmt::Display for ViewerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_id_takes_exactly_32_upper_case_hex_digits() {
        let good = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
        assert_eq!(good.parse::<CameraId>().unwrap().to_string(), good);
        for bad in [
            "",
            "56C1CADCF1FA4C6CAEBA3E2FD85EFEB",
            "56C1CADCF1FA4C6CAEBA3E2FD85EFEBFF",
            "56c1cadcf1fa4c6caeba3e2fd85efebf",
            "56C1CADCF1FA4C6CAEBA3E2FD85EFE/+",
            "56C1CADCF1FA4C6CAEBA3E2FD85EFEB#",
            "ÄC1CADCF1FA4C6CAEBA3E2FD85EFEBF",
        ] {
            assert!(bad.parse::<CameraId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn viewer_id_is_read_as_it_is_written_and_not_without_hyphens() {
        let id = ViewerId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF", &format!("{{{id}}}"), &format!("urn:uuid:{id}")] {
            assert_eq!(bad.parse::<ViewerId>(), Err(InvalidViewerId), "{bad}");
        }
    }

    #[test]
    fn session_id_is_made_of_both_prefixes() {
        let camera: CameraId = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap();
        let stream: StreamId = "0a1b2c3d-1111-4222-8333-444455556666".parse().unwrap();
        assert_eq!(SessionId::new(camera, stream).to_string(), "stream-56C1CADC-0a1b2c3d");
    }
}
