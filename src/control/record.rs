//! A camera as bytes for the store: JSON, because records are small, rare, and looked at by people in need.
//!
//! Format 1 of the store. A key may be added as long as its absence has a meaning; anything else is a new format.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::registry::{Camera, MAX_EVENTS};

/// Longest record that is read, in bytes. Real ones have a few KiB.
const MAX_RECORD: usize = 256 * 1024;

/// The bytes of `camera`.
pub fn encode(camera: &Camera) -> Vec<u8> {
    // Plain data under string keys: nothing that serde_json could refuse.
    serde_json::to_vec(camera).unwrap_or_default()
}

/// The camera of these bytes; `None` if they are none.
pub fn decode(bytes: &[u8]) -> Option<Camera> {
    if bytes.len() > MAX_RECORD {
        return None;
    }
    let mut camera: Camera = serde_json::from_slice(bytes).ok()?;
    camera.label = camera.label.checked();
    camera.events.truncate(MAX_EVENTS);
    Some(camera)
}

/// Without what is below a microsecond; times before 1970 are 1970. Clocks that stand that wrong exist.
pub(super) fn whole_micros(time: SystemTime) -> SystemTime {
    from_micros(micros(time))
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn from_micros(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

/// Times as microseconds since 1970.
pub(super) mod time {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::control) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        time.map(super::micros).serialize(to)
    }

    pub(in crate::control) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(super::from_micros))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::camera::Device;
    use crate::control::label::LabelChange;
    use crate::control::registry::{ActivityEvent, CameraFacts};

    fn at(micros: u64) -> Option<SystemTime> {
        Some(from_micros(micros))
    }

    fn example() -> Camera {
        let mut camera = Camera {
            facts: CameraFacts {
                online: Some(true),
                online_changed: at(1_795_569_821_000_000),
                last_seen: at(1_795_569_822_000_007),
                ip: Some("192.168.1.20".parse().unwrap()),
                device: Device {
                    software_version: Some("1.4.2".into()),
                    hardware_version: Some("B".into()),
                    serial_number: Some("VBC01-77".into()),
                },
                battery_percent: Some(87.0),
                signal: Some(-61.0),
                mac: Some("00:11:22:33:44:55".into()),
                link_status: Some("up".into()),
                temperature: Some(41.5),
                uptime: Some(86_400.0),
            },
            ..Camera::default()
        };
        let change = LabelChange::new().name(Some("Gate")).unwrap().notes(Some("north side")).unwrap();
        change.apply(&mut camera.label);
        camera.events.push_front(ActivityEvent {
            event_id: Some("e-1".into()),
            activity_type: "motion".into(),
            at: at(1_795_569_821_005_000),
            received: at(1_795_569_822_000_007),
            confidence: Some(0.93),
        });
        camera
    }

    /// What version 0.1 has written must be readable for ever.
    const FORMAT_1: &str = r#"{"name":"Gate","notes":"north side","online":true,"online_changed":1795569821000000,"last_seen":1795569822000007,"ip":"192.168.1.20","software_version":"1.4.2","hardware_version":"B","serial_number":"VBC01-77","battery_percent":87.0,"signal":-61.0,"mac":"00:11:22:33:44:55","link_status":"up","temperature":41.5,"uptime":86400.0,"events":[{"event_id":"e-1","activity_type":"motion","at":1795569821005000,"received":1795569822000007,"confidence":0.93}]}"#;

    #[test]
    fn a_record_of_format_1_is_read_and_written_as_ever() {
        assert_eq!(decode(FORMAT_1.as_bytes()), Some(example()));
        assert_eq!(String::from_utf8(encode(&example())).unwrap(), FORMAT_1);
    }

    #[test]
    fn keys_may_be_missing_or_unknown() {
        assert_eq!(decode(b"{}"), Some(Camera::default()));
        assert_eq!(decode(br#"{"later":[1],"online":false}"#).unwrap().facts.online, Some(false));
        assert_eq!(encode(&Camera::default()), b"{}");
    }

    #[test]
    fn what_is_no_record_is_refused_and_limits_hold() {
        let large = format!(r#"{{"later":"{}"}}"#, "x".repeat(MAX_RECORD));
        for bytes in ["", "[]", "7", "{", r#"{"online":"yes"}"#, r#"{"ip":"camera"}"#, r#"{"last_seen":-1}"#, &large] {
            assert_eq!(decode(bytes.as_bytes()), None, "{}", &bytes[..bytes.len().min(40)]);
        }
        let events = vec![r#"{"activity_type":"motion"}"#; MAX_EVENTS + 5].join(",");
        assert_eq!(decode(format!(r#"{{"events":[{events}]}}"#).as_bytes()).unwrap().events.len(), MAX_EVENTS);
        assert!(decode(format!(r#"{{"name":"{}"}}"#, "x".repeat(500)).as_bytes()).unwrap().label.is_empty());
        assert!(decode(br#"{"last_seen":18446744073709551615}"#).is_some());
    }

    #[test]
    fn times_lose_what_is_below_a_microsecond() {
        let time = UNIX_EPOCH + Duration::new(7, 123_456_789);
        assert_eq!(whole_micros(time), UNIX_EPOCH + Duration::new(7, 123_456_000));
        assert_eq!(whole_micros(UNIX_EPOCH - Duration::from_secs(1)), UNIX_EPOCH);
    }

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were(number in any::<f64>().prop_filter("JSON has no others", |n| n.is_finite())) {
            let facts = CameraFacts { temperature: Some(number), ..CameraFacts::default() };
            let camera = Camera { facts, ..Camera::default() };
            prop_assert_eq!(decode(&encode(&camera)), Some(camera));
        }

        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
