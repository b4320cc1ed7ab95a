//! A private CA and what it signs, as PEM files in a directory of the test's own.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SigningKey as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

/// One CA, one server certificate and one client certificate. The files go with the value.
pub struct Certs {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Certs {
    /// `names` are the DNS names and addresses of the server certificate.
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        issue(dir.path(), "server", names, ExtendedKeyUsagePurpose::ServerAuth, &ca);
        issue(dir.path(), "client", &["client"], ExtendedKeyUsagePurpose::ClientAuth, &ca);
        Self { dir, ca }
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

    /// The client certificate once more, for the same key, as X.509 v1: without version and extensions.
    pub fn client_cert_v1(&self) -> PathBuf {
        let certificate = CertificateDer::from_pem_file(self.client_cert()).unwrap();
        let [signed, algorithm, _] = parts(&certificate)[..] else { panic!("a certificate has three parts") };
        let [version, basics @ .., extensions] = &parts(signed)[..] else { panic!("nothing is signed") };
        assert_eq!((version[0], extensions[0]), (0xa0, 0xa3));
        let signed = der(0x30, &basics.concat());
        let signature = der(0x03, &[&[0], &self.ca.key().sign(&signed).unwrap()[..]].concat());
        let certificate = STANDARD.encode(der(0x30, &[&signed[..], algorithm, &signature].concat()));
        let lines: Vec<_> = certificate.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let path = self.dir.path().join("client-v1.pem");
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        fs::write(&path, format!("{begin}\n{}\n{end}\n", lines.join("\n"))).unwrap();
        path
    }
}

/// The length of the value of a DER element, and where it begins.
fn value(element: &[u8]) -> (usize, usize) {
    match usize::from(element[1]) {
        short @ ..0x80 => (short, 2),
        long => {
            let digits = long - 0x80;
            (element[2..2 + digits].iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), 2 + digits)
        }
    }
}

/// The elements of a DER sequence.
fn parts(sequence: &[u8]) -> Vec<&[u8]> {
    let mut rest = &sequence[value(sequence).1..];
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (length, start) = value(rest);
        let (part, after) = rest.split_at(start + length);
        parts.push(part);
        rest = after;
    }
    parts
}

/// A DER element.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|digit| **digit == 0).count()..];
    match digits {
        [short @ ..0x80] => [&[tag, *short], value].concat(),
        digits => [&[tag, 0x80 | digits.len() as u8], digits, value].concat(),
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
