//! TLS against mosquitto with a private CA and client certificates.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use honeycast::base::Shutdown;
use honeycast::mqtt::{Link, LinkSettings, TlsSettings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};

use crate::support::certs::Certs;
use crate::support::mosquitto::{Mosquitto, Options};
use crate::{Client, message, settings};

/// A broker in the manner of contract §2: reached under 127.0.0.1, which its certificate does not name.
const NAMES: [&str; 2] = ["broker.example", "192.0.2.7"];

fn tls(certs: &Certs) -> TlsSettings {
    TlsSettings {
        ca: Some(certs.ca()),
        client_cert: Some(certs.client_cert()),
        client_key: Some(certs.client_key()),
        server_name: None,
        verify_hostname: true,
    }
}

fn with_tls(port: u16, tls: TlsSettings) -> LinkSettings {
    LinkSettings { tls: Some(tls), ..settings(port, &["t/#"]) }
}

async fn assert_works(port: u16, tls: TlsSettings) {
    let mut client = Client::connected(with_tls(port, tls)).await;
    client.link.publish(message("t/1", "secret")).await.unwrap();
    assert_eq!(client.next().await, message("t/1", "secret"));
    client.stop().await;
}

async fn refusal(port: u16, tls: TlsSettings) -> String {
    let client = Client::start(with_tls(port, tls));
    let reason = client.refusal().await;
    client.stop().await;
    reason
}

/// What a client that can do both versions agrees on with this broker.
fn negotiated(port: u16, certs: &Certs) -> ProtocolVersion {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.ca()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(certs.client_cert()).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certs.client_key()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    socket.flush().unwrap();
    tls.protocol_version().unwrap()
}

#[tokio::test]
async fn mutual_tls_1_2() {
    let certs = Certs::new(&["127.0.0.1"]);
    let broker = Mosquitto::start(Options::mutual_tls(&certs).max_tls("TLSv1.2"));
    assert_eq!(negotiated(broker.port(), &certs), ProtocolVersion::TLSv1_2);
    assert_works(broker.port(), tls(&certs)).await;
}

#[tokio::test]
async fn mutual_tls_1_3() {
    let certs = Certs::new(&["127.0.0.1"]);
    let broker = Mosquitto::start(Options::mutual_tls(&certs).line("tls_version tlsv1.3"));
    assert_eq!(negotiated(broker.port(), &certs), ProtocolVersion::TLSv1_3);
    assert_works(broker.port(), tls(&certs)).await;
}

#[tokio::test]
async fn a_broker_of_a_foreign_ca_is_refused_with_and_without_the_name_check() {
    let (certs, foreign) = (Certs::new(&["127.0.0.1"]), Certs::new(&["127.0.0.1"]));
    let broker = Mosquitto::start(Options::mutual_tls(&certs));
    for verify_hostname in [true, false] {
        let reason =
            refusal(broker.port(), TlsSettings { ca: Some(foreign.ca()), verify_hostname, ..tls(&certs) }).await;
        assert!(reason.contains("not signed by the configured CA"), "{reason}");
    }
}

#[tokio::test]
async fn a_foreign_name_is_refused_unless_it_is_expected_or_not_checked() {
    let certs = Certs::new(&NAMES);
    let broker = Mosquitto::start(Options::mutual_tls(&certs));
    let reason = refusal(broker.port(), tls(&certs)).await;
    assert!(reason.contains("127.0.0.1") && reason.contains("broker.example"), "{reason}");

    assert_works(broker.port(), TlsSettings { verify_hostname: false, ..tls(&certs) }).await;
    for name in NAMES {
        assert_works(broker.port(), TlsSettings { server_name: Some(name.to_owned()), ..tls(&certs) }).await;
    }
    let other = TlsSettings { server_name: Some("other.example".to_owned()), ..tls(&certs) };
    let reason = refusal(broker.port(), other).await;
    assert!(reason.contains("does not carry the name other.example"), "{reason}");
}

#[tokio::test]
async fn a_missing_client_certificate_is_refused_in_both_versions() {
    let certs = Certs::new(&["127.0.0.1"]);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let broker = Mosquitto::start(Options::mutual_tls(&certs).max_tls(version));
        let anonymous = TlsSettings { client_cert: None, client_key: None, ..tls(&certs) };
        let reason = refusal(broker.port(), anonymous).await;
        assert!(reason.contains("client certificate, none is set"), "{version}: {reason}");
    }
}

#[tokio::test]
async fn a_client_certificate_of_a_foreign_ca_is_refused_in_both_versions() {
    let (certs, foreign) = (Certs::new(&["127.0.0.1"]), Certs::new(&["127.0.0.1"]));
    for version in ["TLSv1.2", "TLSv1.3"] {
        let broker = Mosquitto::start(Options::mutual_tls(&certs).max_tls(version));
        let reason = refusal(broker.port(), TlsSettings { ca: Some(certs.ca()), ..tls(&foreign) }).await;
        assert!(reason.contains("accept the client certificate"), "{version}: {reason}");
    }
}

#[tokio::test]
async fn a_client_certificate_of_x509_v1_is_the_brokers_to_judge() {
    let certs = Certs::new(&["127.0.0.1"]);
    let broker = Mosquitto::start(Options::mutual_tls(&certs));
    assert_works(broker.port(), TlsSettings { client_cert: Some(certs.client_cert_v1()), ..tls(&certs) }).await;
}

#[tokio::test]
async fn plain_and_tls_mixed_up_is_told() {
    let certs = Certs::new(&["127.0.0.1"]);
    let secure = Mosquitto::start(Options::mutual_tls(&certs));
    let client = Client::start(settings(secure.port(), &[]));
    let reason = client.refusal().await;
    assert!(reason.contains("may expect TLS"), "{reason}");

    let plain = Mosquitto::start(Options::plain());
    for anonymous in [false, true] {
        let mut tls = tls(&certs);
        if anonymous {
            (tls.client_cert, tls.client_key) = (None, None);
        }
        let reason = refusal(plain.port(), tls).await;
        assert!(reason.contains("speak TLS") || reason.contains("plain MQTT"), "{reason}");
    }
}

#[test]
fn unusable_files_are_named_at_the_start() {
    let (certs, foreign) = (Certs::new(&["127.0.0.1"]), Certs::new(&["127.0.0.1"]));
    let missing = certs.ca().with_file_name("missing.pem");
    let cases = [
        (TlsSettings { ca: Some(missing.clone()), ..tls(&certs) }, missing.clone(), "cannot read the CA file"),
        (TlsSettings { ca: Some(certs.client_key()), ..tls(&certs) }, certs.client_key(), "no PEM certificate"),
        (TlsSettings { client_cert: Some(missing.clone()), ..tls(&certs) }, missing.clone(), "client certificate file"),
        (
            TlsSettings { client_key: Some(certs.client_cert()), ..tls(&certs) },
            certs.client_cert(),
            "no unencrypted PEM private key",
        ),
        (
            TlsSettings { client_key: Some(foreign.client_key()), ..tls(&certs) },
            foreign.client_key(),
            "does not go with",
        ),
        (TlsSettings { client_key: None, ..tls(&certs) }, certs.client_cert(), "belong together"),
        (TlsSettings { client_cert: None, ..tls(&certs) }, certs.client_key(), "belong together"),
    ];
    for (tls, file, words) in cases {
        let error = Link::start(with_tls(1, tls), &Shutdown::new()).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()) && error.contains(words), "{error}");
    }
}
