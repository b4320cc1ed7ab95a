//! What cameras say: JSON of a shape that nobody promised (contract §2).
//!
//! A field that is missing or of a wrong type is `None`; only a payload that says nothing at all is
//! refused. Pure functions.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::topics::ReportKind;
use crate::base::CameraId;
use crate::control::camera::{CameraContent, CameraMessage, Device};

/// Largest payload that is looked at, in bytes. Real ones are below 2 KiB.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Longest text that is kept of a field, in bytes; longer ones are treated as missing.
const MAX_TEXT: usize = 256;

/// Why a payload says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Above [`MAX_PAYLOAD`].
    #[error("the payload is larger than 64 KiB")]
    TooLarge,
    /// Not JSON, not UTF-8, or nested too deeply.
    #[error("the payload is not JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// A connection message without a status.
    #[error("the connection message has no status")]
    NoStatus,
}

/// Parses the payload of a report of this kind from this camera. Whether the broker had retained it, the caller
/// has to say.
///
/// # Errors
///
/// See [`Malformed`].
pub fn parse(kind: ReportKind, camera: CameraId, payload: &[u8]) -> Result<CameraMessage, Malformed> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Malformed::TooLarge);
    }
    // The parser stops at 128 levels by itself, long before the stack does.
    let value: Value = serde_json::from_slice(payload).map_err(|_| Malformed::NotJson)?;
    if !value.is_object() {
        return Err(Malformed::NotAnObject);
    }
    let content = match kind {
        ReportKind::Connection => connection(&value)?,
        ReportKind::Status => status(&value),
        ReportKind::Activity => activity(&value),
    };
    Ok(CameraMessage { camera, content, retained: false })
}

fn connection(value: &Value) -> Result<CameraContent, Malformed> {
    // "Anything else" means disconnected, but silence means nothing.
    let status = value.get("status").ok_or(Malformed::NoStatus)?;
    let device = &value["device"];
    Ok(CameraContent::Connection {
        online: status == "connected",
        at: time(&value["timestamp"]),
        ip: ip(&value["ipAddress"]),
        device: Device {
            software_version: text(&device["softwareVersion"]),
            hardware_version: text(&device["hardwareVersion"]),
            serial_number: text(&device["serialNumber"]),
        },
    })
}

fn status(value: &Value) -> CameraContent {
    let ethernet = &value["ethernet"];
    CameraContent::Status {
        battery_percent: number(&value["battery"]["level"]).filter(|level| (0.0..=100.0).contains(level)),
        signal: number(&value["radio"]["signalStrength"]),
        ip: ip(&ethernet["ipAddress"]).filter(|ip| link_may_be_up(&ethernet["linkStatus"]) && !is_self_assigned(*ip)),
        mac: text(&ethernet["macAddress"]),
        link_status: text(&ethernet["linkStatus"]),
        temperature: number(&value["temperature"]),
        uptime: number(&value["uptime"]).filter(|uptime| *uptime >= 0.0),
    }
}

fn activity(value: &Value) -> CameraContent {
    CameraContent::Activity {
        event_id: text(&value["eventId"]),
        activity_type: text(&value["activityType"]),
        at: time(&value["timestamp"]),
        confidence: number(&value["confidence"]),
    }
}

/// Texts, and numbers where a text was expected (versions, serial numbers).
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    // These end in logs and on pages.
    let fit = !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    fit.then_some(text)
}

/// Finite numbers, and texts that hold one.
fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// An address that packets can come from.
fn ip(value: &Value) -> Option<IpAddr> {
    let address = value.as_str()?.trim().parse::<IpAddr>().ok()?.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// A camera on Wi-Fi goes on to report the ethernet port that nothing is plugged into.
fn link_may_be_up(status: &Value) -> bool {
    match status {
        Value::Bool(up) => *up,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !["down", "disconnected", "disabled", "off", "no", "false", "0"]
            .contains(&text.trim().to_lowercase().as_str()),
        _ => true,
    }
}

/// RFC 3927 and RFC 4291 §2.5.6: what an interface calls itself when nobody gives it an address.
fn is_self_assigned(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Unix seconds or milliseconds as number or text, or ISO 8601 (UTC where it names no zone).
fn time(value: &Value) -> Option<SystemTime> {
    if let Some(number) = number(value) {
        return unix_time(number);
    }
    let text = value.as_str()?.trim();
    if text.len() > MAX_TEXT {
        return None;
    }
    let stamp = match text.parse::<jiff::Timestamp>() {
        Ok(stamp) => stamp,
        Err(_) => {
            let local = text.parse::<jiff::civil::DateTime>().ok()?;
            jiff::tz::Offset::UTC.to_timestamp(local).ok()?
        }
    };
    // Negative parts, that is, times before 1970, do not convert.
    let seconds = u64::try_from(stamp.as_second()).ok()?;
    let nanos = u32::try_from(stamp.subsec_nanosecond()).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

fn unix_time(number: f64) -> Option<SystemTime> {
    // 10^11 s is the year 5138, 10^11 ms is 1973: nothing real lies on the wrong side.
    const FIRST_MILLIS: f64 = 1e11;
    // The end of the year 9999 in seconds: what ISO 8601 can still print.
    const LAST: f64 = 253_402_300_799.0;
    let seconds = if number >= FIRST_MILLIS { number / 1000.0 } else { number };
    if !(0.0..=LAST).contains(&seconds) {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KINDS: [ReportKind; 3] = [ReportKind::Connection, ReportKind::Status, ReportKind::Activity];

    fn camera() -> CameraId {
        "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().unwrap()
    }

    fn content(kind: ReportKind, value: &Value) -> CameraContent {
        parse(kind, camera(), value.to_string().as_bytes()).unwrap().content
    }

    fn examples() -> [(ReportKind, Value); 3] {
        [
            (
                ReportKind::Connection,
                json!({
                    "status": "connected", "timestamp": 1_795_569_821, "ipAddress": "192.168.1.20",
                    "device": {"softwareVersion": "1.4.2", "hardwareVersion": "B", "serialNumber": "VBC01-77"}
                }),
            ),
            (
                ReportKind::Status,
                json!({
                    "status": "ok", "battery": {"level": 87, "charging": true}, "radio": {"signalStrength": -61},
                    "ethernet": {"ipAddress": "10.0.0.9", "macAddress": "00:11:22:33:44:55", "linkStatus": "up"},
                    "temperature": 41.5, "uptime": 86_400
                }),
            ),
            (
                ReportKind::Activity,
                json!({
                    "eventId": "e-1", "activityType": "motion", "timestamp": "2026-11-25T01:23:41.005Z",
                    "confidence": 0.93
                }),
            ),
        ]
    }

    #[test]
    fn the_address_of_an_unplugged_or_unconfigured_interface_is_none() {
        let ip = |ethernet: &str| match status(&serde_json::from_str(&format!(r#"{{"ethernet":{ethernet}}}"#)).unwrap())
        {
            CameraContent::Status { ip, .. } => ip,
            other => panic!("{other:?}"),
        };
        for good in [r#""linkStatus":"up""#, r#""linkStatus":true"#, r#""linkStatus":"100 Mbit/s""#, r#""x":1"#] {
            assert!(ip(&format!(r#"{{"ipAddress":"10.0.0.9",{good}}}"#)).is_some(), "{good}");
        }
        for bad in
            [r#""linkStatus":"Down""#, r#""linkStatus":false"#, r#""linkStatus":"disconnected""#, r#""linkStatus":0"#]
        {
            assert!(ip(&format!(r#"{{"ipAddress":"10.0.0.9",{bad}}}"#)).is_none(), "{bad}");
        }
        assert!(ip(r#"{"ipAddress":"169.254.7.7","linkStatus":"up"}"#).is_none());
    }

    #[test]
    fn whole_messages_are_read() {
        let [connection, status, activity] = examples().map(|(kind, value)| content(kind, &value));
        let second = UNIX_EPOCH + Duration::from_secs(1_795_569_821);
        assert_eq!(
            connection,
            CameraContent::Connection {
                online: true,
                at: Some(second),
                ip: Some("192.168.1.20".parse().unwrap()),
                device: Device {
                    software_version: Some("1.4.2".to_owned()),
                    hardware_version: Some("B".to_owned()),
                    serial_number: Some("VBC01-77".to_owned()),
                },
            }
        );
        assert_eq!(
            status,
            CameraContent::Status {
                battery_percent: Some(87.0),
                signal: Some(-61.0),
                ip: Some("10.0.0.9".parse().unwrap()),
                mac: Some("00:11:22:33:44:55".to_owned()),
                link_status: Some("up".to_owned()),
                temperature: Some(41.5),
                uptime: Some(86_400.0),
            }
        );
        assert_eq!(
            activity,
            CameraContent::Activity {
                event_id: Some("e-1".to_owned()),
                activity_type: Some("motion".to_owned()),
                at: Some(second + Duration::from_millis(5)),
                confidence: Some(0.93),
            }
        );
    }

    #[test]
    fn anything_but_connected_is_offline_and_silence_is_refused() {
        for status in [json!("disconnected"), json!("Connected"), json!(null), json!(1), json!({"a": 1})] {
            let value = json!({"status": status});
            assert!(matches!(
                content(ReportKind::Connection, &value),
                CameraContent::Connection { online: false, at: None, ip: None, .. }
            ));
        }
        assert_eq!(parse(ReportKind::Connection, camera(), b"{}"), Err(Malformed::NoStatus));
    }

    #[test]
    fn times_come_in_many_shapes() {
        let second = UNIX_EPOCH + Duration::from_secs(1_795_569_821);
        for shape in [
            json!(1_795_569_821),
            json!(1_795_569_821.0),
            json!(1_795_569_821_000_u64),
            json!("1795569821"),
            json!(" 1795569821000 "),
            json!("2026-11-25T01:23:41Z"),
            json!("2026-11-25T02:23:41+01:00"),
            json!("2026-11-25T01:23:41"),
            json!("2026-11-25 01:23:41"),
        ] {
            assert_eq!(time(&shape), Some(second), "{shape}");
        }
        for shape in [
            json!(-1),
            json!(1e300),
            json!("NaN"),
            json!("inf"),
            json!(""),
            json!("yesterday"),
            json!("0001-01-01T00:00:00Z"),
            json!(true),
            json!([]),
            Value::Null,
        ] {
            assert_eq!(time(&shape), None, "{shape}");
        }
    }

    #[test]
    fn addresses_that_nothing_comes_from_are_missing() {
        assert_eq!(ip(&json!("::ffff:10.1.2.3")), Some("10.1.2.3".parse().unwrap()));
        for shape in [json!("0.0.0.0"), json!("::"), json!("239.1.1.1"), json!("10.1.2"), json!(7), json!("camera")] {
            assert_eq!(ip(&shape), None, "{shape}");
        }
    }

    #[test]
    fn texts_for_logs_and_pages_are_short_and_printable() {
        assert_eq!(text(&json!(12)), Some("12".to_owned()));
        for shape in [json!("a\u{1b}[31m"), json!("x".repeat(MAX_TEXT + 1)), json!("  "), json!(true)] {
            assert_eq!(text(&shape), None, "{shape}");
        }
    }

    #[test]
    fn payloads_that_say_nothing_are_refused() {
        let deep = "[".repeat(MAX_PAYLOAD);
        let large = format!("{{\"status\":\"{}\"}}", "x".repeat(MAX_PAYLOAD));
        for (payload, error) in [
            (b"".as_slice(), Malformed::NotJson),
            (b"connected", Malformed::NotJson),
            (b"\xff\xfe{}", Malformed::NotJson),
            (deep.as_bytes(), Malformed::NotJson),
            (b"[1]", Malformed::NotAnObject),
            (b"\"connected\"", Malformed::NotAnObject),
            (large.as_bytes(), Malformed::TooLarge),
        ] {
            for kind in KINDS {
                assert_eq!(parse(kind, camera(), payload), Err(error));
            }
        }
    }

    #[test]
    fn every_truncation_is_refused_without_panic() {
        for (kind, value) in examples() {
            let payload = value.to_string();
            for end in 0..payload.len() {
                assert_eq!(parse(kind, camera(), &payload.as_bytes()[..end]), Err(Malformed::NotJson));
            }
        }
    }

    #[test]
    fn a_field_of_a_wrong_type_counts_as_missing_and_hides_no_other() {
        let wrong = [json!(null), json!(true), json!([1]), json!({"x": 1}), json!("")];
        for (kind, value) in examples() {
            // The status of a connection is the one field that must be there.
            for key in value.as_object().unwrap().keys().filter(|key| *key != "status") {
                let mut without = value.clone();
                without.as_object_mut().unwrap().remove(key);
                for replacement in &wrong {
                    let mut value = value.clone();
                    value[key] = replacement.clone();
                    assert_eq!(content(kind, &value), content(kind, &without), "{key}={replacement}");
                }
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("status".to_owned()),
            Just("timestamp".to_owned()),
            Just("ipAddress".to_owned()),
            Just("device".to_owned()),
            Just("battery".to_owned()),
            Just("level".to_owned()),
            Just("ethernet".to_owned()),
            Just("uptime".to_owned()),
            ".{0,8}",
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..8)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..512)) {
            for kind in KINDS {
                let _ = parse(kind, camera(), &payload);
            }
        }

        #[test]
        fn json_objects_are_always_read(value in any_json()) {
            let payload = value.to_string();
            for kind in KINDS {
                let result = parse(kind, camera(), payload.as_bytes());
                match value.as_object() {
                    None => prop_assert_eq!(result, Err(Malformed::NotAnObject)),
                    Some(object) if kind == ReportKind::Connection && !object.contains_key("status") => {
                        prop_assert_eq!(result, Err(Malformed::NoStatus));
                    }
                    Some(_) => prop_assert!(result.is_ok()),
                }
            }
        }
    }
}
