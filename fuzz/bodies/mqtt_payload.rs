//! What a camera publishes: payloads of each kind, and topics.

use honeycast::base::CameraId;
use honeycast::control::CameraContent;
use honeycast::mqtt::inbound::{MAX_PAYLOAD, Malformed, parse};
use honeycast::mqtt::topics::{ReportKind, TopicSettings, Topics};

/// Whether `data` is a payload that each kind of message takes.
pub(crate) fn run(data: &[u8]) -> bool {
    check_topic(data);
    let camera: CameraId = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF".parse().expect("an id");
    let kinds = [ReportKind::Connection, ReportKind::Status, ReportKind::Activity];
    let [connection, status, activity] = kinds.map(|kind| parse(kind, camera, data));
    // Only a connection message has a field that must be there.
    assert_eq!(status.is_ok(), activity.is_ok());
    match &connection {
        Ok(_) => assert!(status.is_ok()),
        Err(Malformed::NoStatus) => assert!(status.is_ok()),
        Err(error) => assert_eq!(status.as_ref().err(), Some(error)),
    }
    assert!(data.len() <= MAX_PAYLOAD || connection == Err(Malformed::TooLarge));
    for message in [&connection, &status, &activity].into_iter().flatten() {
        assert_eq!(message.camera, camera);
        check(&message.content);
    }
    connection.is_ok()
}

fn check(content: &CameraContent) {
    let (mut texts, mut numbers, mut address) = (Vec::new(), Vec::new(), None);
    match content {
        CameraContent::Connection { ip, device, .. } => {
            address = *ip;
            texts.extend([&device.software_version, &device.hardware_version, &device.serial_number]);
        }
        CameraContent::Status { battery_percent, signal, ip, mac, link_status, temperature, uptime } => {
            address = *ip;
            texts.extend([mac, link_status]);
            numbers.extend([battery_percent, signal, temperature, uptime]);
            assert!(battery_percent.is_none_or(|percent| (0.0..=100.0).contains(&percent)));
            assert!(uptime.is_none_or(|uptime| uptime >= 0.0));
        }
        CameraContent::Activity { event_id, activity_type, confidence, .. } => {
            texts.extend([event_id, activity_type]);
            numbers.push(confidence);
        }
    }
    assert!(address.is_none_or(|ip| !ip.is_unspecified() && !ip.is_multicast()));
    assert!(numbers.into_iter().flatten().all(|number| number.is_finite()), "JSON cannot show other numbers");
    for text in texts.into_iter().flatten() {
        assert!(!text.is_empty() && text.len() <= 256 && !text.contains(char::is_control), "{text:?}");
    }
}

fn check_topic(data: &[u8]) {
    let Ok(topic) = std::str::from_utf8(data) else { return };
    let topics = Topics::new(&TopicSettings::default()).expect("the defaults are valid");
    if let Ok((_, camera)) = topics.report(topic) {
        assert!(topic.split('/').any(|level| level == camera.to_string()));
    }
}
