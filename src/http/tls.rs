//! The certificate of the listeners: read at the start, and again when its files change.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::base::Shutdown;
use crate::base::files::{self, FileWatch};

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `TLS_CERT_PATH`.
    pub certificate: PathBuf,
    /// `TLS_KEY_PATH`.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both files: what is served, and when it expires.
    fn load(&self) -> io::Result<(CertifiedKey, SystemTime)> {
        let named = |path: &PathBuf, error: &dyn fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| named(&self.certificate, &error))?;
        // The first is the server's own (RFC 8446 §4.4.2); those behind it may be old ones that clients pass over.
        let own = certificates.first().ok_or_else(|| named(&self.certificate, &"holds no certificate"))?;
        let not_after = not_after(own).ok_or_else(|| named(&self.certificate, &"is no X.509 certificate"))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| named(&self.key, &error))?;
        let key = CertifiedKey::from_der(certificates, key, &provider());
        let key = key.map_err(|error| named(&self.certificate, &error))?;
        if not_after <= SystemTime::now() {
            tracing::warn!(file = %self.certificate.display(), "the certificate has expired: browsers will refuse it");
        }
        Ok((key, not_after))
    }

    fn paths(&self) -> [&Path; 2] {
        [&self.certificate, &self.key]
    }
}

/// The end of a certificate's validity (RFC 5280 §4.1.2.5); one from before 1970 is that of 1970.
fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// How the certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// When the one that is served was read.
    pub loaded_at: SystemTime,
    /// When the one that is served expires.
    pub not_after: SystemTime,
    /// Replaced so often.
    pub reloads: u64,
    /// Why the files, as they are now, are not served; the earlier certificate is.
    pub failure: Option<String>,
}

/// The certificate that is served. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    first: FileWatch,
    current: RwLock<Arc<CertifiedKey>>,
    state: Mutex<CertificateState>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.files).finish()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl ResolvesServerCert for Inner {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificates {
    /// Reads both files. An unreadable certificate is an error and never falls back to plain HTTP.
    ///
    /// # Errors
    ///
    /// A file is unreadable, holds no certificate or key, or they do not belong together; the text names the file.
    pub fn load(files: TlsFiles) -> io::Result<Self> {
        let first = FileWatch::before_reading(&files.paths());
        let (key, not_after) = files.load()?;
        let current = RwLock::new(Arc::new(key));
        let loaded_at = SystemTime::now();
        let state = Mutex::new(CertificateState { loaded_at, not_after, reloads: 0, failure: None });
        Ok(Self(Arc::new(Inner { files, first, current, state })))
    }

    /// For the listeners: every handshake gets the certificate that is current then.
    ///
    /// # Errors
    ///
    /// The TLS library has no protocol version.
    pub fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.0) as Arc<dyn ResolvesServerCert>);
        // HTTP/1.1 only: a WebSocket handshake needs it.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// How it is now.
    pub fn state(&self) -> CertificateState {
        self.lock().clone()
    }

    /// Looks at the files until the shutdown, and takes what is new: for new connections, without touching those
    /// that are open. What cannot be used changes nothing but [`CertificateState::failure`], and is warned about.
    pub async fn watch(self, shutdown: Shutdown) {
        let watch = self.0.first.clone();
        files::watch((self, watch), |(certificates, watch)| certificates.look(watch), shutdown).await;
    }

    fn look(&self, watch: &mut FileWatch) {
        match watch.look(&self.0.files.paths(), || self.0.files.load()) {
            None => {}
            Some(Ok((key, not_after))) => {
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                let mut state = self.lock();
                let reloads = state.reloads + 1;
                *state = CertificateState { loaded_at: SystemTime::now(), not_after, reloads, failure: None };
                tracing::info!(file = %self.0.files.certificate.display(), "new connections get the new certificate");
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the new certificate cannot be used; the earlier one stays");
                self.lock().failure = Some(error.to_string());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, CertificateState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
