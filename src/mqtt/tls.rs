//! TLS towards the broker: private CA, client certificate, and a name check that can be switched off on
//! its own. The chain is always verified.

use std::io::Error as IoError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::client::TlsStream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use super::link::LinkError;

/// How to secure the link. TLS 1.2 and 1.3.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// PEM file with the CA certificates that may sign the broker's; the system's store without.
    pub ca: Option<PathBuf>,
    /// PEM file with the client certificate and its intermediates.
    pub client_cert: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    pub client_key: Option<PathBuf>,
    /// The name or address that the broker's certificate must carry, where it is not the one connected to.
    pub server_name: Option<String>,
    /// `false`: any name will do, as long as the chain leads to the CA. For a broker that is reached
    /// under an address which its certificate does not name.
    pub verify_hostname: bool,
}

/// Settings that were read and found usable.
pub(super) struct Tls {
    connector: TlsConnector,
    server_name: ServerName<'static>,
    has_identity: bool,
}

impl Tls {
    /// Reads and checks every file at once, so that a wrong path shows at the start and not at night.
    pub(super) fn load(settings: &TlsSettings, host: &str) -> Result<Self, LinkError> {
        let expected = settings.server_name.as_deref().unwrap_or(host);
        let server_name =
            ServerName::try_from(expected.to_owned()).map_err(|_| LinkError::ServerName(expected.to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(match &settings.ca {
            Some(path) => read_roots(path)?,
            None => system_roots()?,
        });

        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the ring provider serves TLS 1.2 and 1.3");
        let key_provider = Arc::clone(&provider);
        let builder = match settings.verify_hostname {
            true => builder.with_root_certificates(roots),
            false => builder.dangerous().with_custom_certificate_verifier(Arc::new(ChainOnly { roots, provider })),
        };
        let (config, has_identity) = match (&settings.client_cert, &settings.client_key) {
            (Some(cert), Some(key)) => {
                let chain = read_certificates("client certificate", cert)?;
                let secret = read_key(key)?;
                let identity = identity(&key_provider, chain, secret).map_err(|error| {
                    let why = format!("it does not go with the certificate {}: {error}", cert.display());
                    content("client key", key, why)
                })?;
                (builder.with_client_cert_resolver(Arc::new(identity)), true)
            }
            (None, None) => (builder.with_no_client_auth(), false),
            (Some(path), None) => {
                return Err(LinkError::HalfIdentity { given: "client certificate", path: path.clone() });
            }
            (None, Some(path)) => return Err(LinkError::HalfIdentity { given: "client key", path: path.clone() }),
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name, has_identity })
    }

    /// The handshake. The error wraps a [`rustls::Error`] where TLS is at fault.
    pub(super) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, IoError> {
        self.connector.connect(self.server_name.clone(), stream).await
    }

    /// Whether a client certificate is presented when the broker asks.
    pub(super) fn has_identity(&self) -> bool {
        self.has_identity
    }
}

/// Verifies the chain, its validity and its purpose, and leaves the name alone.
#[derive(Debug)]
struct ChainOnly {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What `with_client_auth_cert` does, but for a certificate that rustls cannot look into, such as one of X.509 v1 (what
/// `openssl x509 -req` writes without an extension file): whether that is good enough is for the broker to say.
fn identity(
    provider: &CryptoProvider,
    chain: Vec<CertificateDer<'static>>,
    secret: PrivateKeyDer<'static>,
) -> Result<SingleCertAndKey, rustls::Error> {
    let identity = CertifiedKey::new(chain, provider.key_provider.load_private_key(secret)?);
    match identity.keys_match() {
        Ok(())
        | Err(
            rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)
            | rustls::Error::InvalidCertificate(CertificateError::Other(_)),
        ) => Ok(SingleCertAndKey::from(identity)),
        Err(error) => Err(error),
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("CA", path)? {
        roots.add(certificate).map_err(|error| content("CA", path, error.to_string()))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, LinkError> {
    let mut roots = RootCertStore::empty();
    // Single unreadable certificates of the system are the system's business; none at all is ours.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(LinkError::NoSystemRoots),
        false => Ok(roots),
    }
}

fn read_certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let text = read(what, path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(what, path, error.to_string()))?;
    match certificates.is_empty() {
        true => Err(content(what, path, "it holds no PEM certificate".to_owned())),
        false => Ok(certificates),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    const WHAT: &str = "client key";
    let text = read(WHAT, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let why = match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                "it holds no unencrypted PEM private key (PKCS#8, PKCS#1 or SEC1)".to_owned()
            }
            other => other.to_string(),
        };
        content(WHAT, path, why)
    })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, LinkError> {
    std::fs::read(path).map_err(|source| LinkError::Read { what, path: path.to_owned(), source })
}

fn content(what: &'static str, path: &Path, why: String) -> LinkError {
    LinkError::Content { what, path: path.to_owned(), why }
}
