//! Why the link is down, in words for the people who have to repair it.

use std::error::Error;
use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// The reason of `error`, on a link that presents a client certificate or not, over TLS or not.
pub(super) fn of_connection(error: &ConnectionError, target: &Target<'_>) -> String {
    let place = format!("{}:{}", target.host, target.port);
    if let Some(tls) = find::<TlsError>(error) {
        return of_tls(tls, target);
    }
    match error {
        ConnectionError::ConnectionRefused(code) => return of_return_code(*code, &place),
        ConnectionError::NetworkTimeout => return format!("{place} did not answer within {} s", target.timeout_s),
        ConnectionError::FlushTimeout => return format!("{place} did not take data for {} s", target.timeout_s),
        ConnectionError::NotConnAck(_) => return format!("{place} did not answer as an MQTT 3.1.1 broker"),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            return format!("{place} stopped answering: no reply to a ping");
        }
        _ => {}
    }
    let closed = match find::<io::Error>(error) {
        Some(io) => match io.kind() {
            io::ErrorKind::ConnectionRefused => {
                return format!("connection refused by {place}: is the broker running?");
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => true,
            _ => return format!("cannot talk to {place}: {io}"),
        },
        None => matches!(error, ConnectionError::MqttState(StateError::ConnectionAborted)),
    };
    if !closed {
        return format!("MQTT error on the connection to {place}: {error}");
    }
    match (target.was_connected, target.identity) {
        (true, _) => format!("{place} closed the connection"),
        // With TLS 1.3 the broker judges the client certificate after the handshake, and its alert is
        // often lost because the connection is reset at once.
        (false, Some(false)) => {
            format!(
                "{place} closed the connection during the greeting: it requires a client certificate, none is set, or it \
                 does not speak TLS"
            )
        }
        (false, Some(true)) => format!(
            "{place} closed the connection during the greeting: it may not accept the client certificate, or not speak TLS"
        ),
        (false, None) => format!("{place} closed the connection during the greeting: it may expect TLS"),
    }
}

/// Whether the peer, or our check of it, said no: asking again at once will not change that.
pub(super) fn is_refusal(error: &ConnectionError) -> bool {
    let refused = matches!(error, ConnectionError::ConnectionRefused(_) | ConnectionError::NotConnAck(_));
    refused || find::<TlsError>(error).is_some()
}

/// What the words are about.
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// `None`: plain TCP. Otherwise whether there is a client certificate.
    pub(super) identity: Option<bool>,
    /// Whether the broker had accepted this connection.
    pub(super) was_connected: bool,
    pub(super) timeout_s: u64,
}

fn of_return_code(code: ConnectReturnCode, place: &str) -> String {
    let why = match code {
        ConnectReturnCode::BadUserNamePassword => "it does not accept the user name or password",
        ConnectReturnCode::NotAuthorized => "this client is not authorized (user, password or certificate)",
        ConnectReturnCode::BadClientId => "it does not accept the client id",
        ConnectReturnCode::ServiceUnavailable => "its MQTT service is unavailable",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::Success => "it gave no reason",
    };
    format!("the broker at {place} refused the connection: {why}")
}

fn of_tls(error: &TlsError, target: &Target<'_>) -> String {
    let place = format!("{}:{}", target.host, target.port);
    match error {
        TlsError::InvalidCertificate(problem) => {
            let why = match problem {
                CertificateError::UnknownIssuer => "it is not signed by the configured CA".to_owned(),
                CertificateError::NotValidForName => "it does not carry the expected name".to_owned(),
                CertificateError::NotValidForNameContext { expected, presented } => format!(
                    "it does not carry the name {} but {}; set the expected server name, or switch the name check off",
                    expected.to_str(),
                    match presented.is_empty() {
                        true => "none".to_owned(),
                        false => presented.join(", "),
                    }
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "it is not valid yet; is the clock right?".to_owned()
                }
                other => other.to_string(),
            };
            format!("the certificate of the broker at {place} is not acceptable: {why}")
        }
        TlsError::AlertReceived(alert) => {
            let why = match (alert, target.identity) {
                (AlertDescription::CertificateRequired, _) | (AlertDescription::HandshakeFailure, Some(false)) => {
                    "it requires a client certificate, none is set"
                }
                (
                    AlertDescription::BadCertificate
                    | AlertDescription::UnknownCA
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::AccessDenied
                    | AlertDescription::DecryptError,
                    _,
                ) => "it does not accept the client certificate",
                (AlertDescription::ProtocolVersion, _) => "it speaks neither TLS 1.2 nor 1.3",
                _ => "the TLS handshake failed",
            };
            format!("the broker at {place} refused the connection: {why} (alert {alert:?})")
        }
        TlsError::InvalidMessage(_) => format!("{place} does not answer with TLS: is it a plain MQTT port?"),
        other => format!("TLS with {place} failed: {other}"),
    }
}

/// The first `E` in the chain of causes. `io::Error` hides what it wraps from `source()`.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(identity: Option<bool>) -> Target<'static> {
        Target { host: "broker", port: 8883, identity, was_connected: false, timeout_s: 5 }
    }

    #[test]
    fn finds_the_tls_error_inside_io_errors() {
        let tls = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = ConnectionError::Io(io::Error::new(io::ErrorKind::InvalidData, tls));
        let words = of_connection(&error, &target(Some(true)));
        assert!(words.contains("broker:8883") && words.contains("not signed by the configured CA"), "{words}");
    }

    #[test]
    fn alerts_of_later_reads_are_found_too() {
        let tls = TlsError::AlertReceived(AlertDescription::CertificateRequired);
        let io = io::Error::new(io::ErrorKind::InvalidData, tls);
        let error = ConnectionError::MqttState(StateError::Deserialization(io.into()));
        let words = of_connection(&error, &target(Some(false)));
        assert!(words.contains("requires a client certificate"), "{words}");
    }

    #[test]
    fn a_silent_end_during_the_greeting_names_the_likely_cause() {
        let error = || ConnectionError::MqttState(StateError::ConnectionAborted);
        assert!(of_connection(&error(), &target(Some(false))).contains("client certificate"));
        assert!(of_connection(&error(), &target(None)).contains("may expect TLS"));
        let later = Target { was_connected: true, ..target(None) };
        assert_eq!(of_connection(&error(), &later), "broker:8883 closed the connection");
    }

    #[test]
    fn refusals_of_the_broker_are_told_apart() {
        let refused = |code| of_connection(&ConnectionError::ConnectionRefused(code), &target(None));
        assert!(refused(ConnectReturnCode::BadUserNamePassword).contains("password"));
        assert!(refused(ConnectReturnCode::NotAuthorized).contains("not authorized"));
    }
}
