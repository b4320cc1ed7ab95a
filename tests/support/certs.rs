//! A private CA and what it signs, as PEM files in a directory of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// One CA, one server certificate and one client certificate. The files go with the value.
pub struct Certs {
    dir: TempDir,
}

impl Certs {
    /// `names` are the DNS names and addresses of the server certificate.
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        issue(dir.path(), "server", names, ExtendedKeyUsagePurpose::ServerAuth, &ca);
        issue(dir.path(), "client", &["client"], ExtendedKeyUsagePurpose::ClientAuth, &ca);
        Self { dir }
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn server_cert(&self) -> PathBuf {
        self.dir.path().join("server.pem")
    }

    pub fn server_key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }

    pub fn client_cert(&self) -> PathBuf {
        self.dir.path().join("client.pem")
    }

    pub fn client_key(&self) -> PathBuf {
        self.dir.path().join("client.key")
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    // A name of its own, so that a foreign CA is unknown and not merely wrong.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Test CA {:?}", key.public_key_raw().first_chunk::<8>()));
    CertifiedIssuer::self_signed(params, key).unwrap()
}

fn issue(
    dir: &Path,
    stem: &str,
    names: &[&str],
    purpose: ExtendedKeyUsagePurpose,
    ca: &CertifiedIssuer<'static, KeyPair>,
) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, stem);
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    fs::write(dir.join(format!("{stem}.pem")), certificate.pem()).unwrap();
    fs::write(dir.join(format!("{stem}.key")), key.serialize_pem()).unwrap();
}
