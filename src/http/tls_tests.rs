use super::*;

/// Writes a new certificate for `localhost`; the certificate itself.
fn write(files: &TlsFiles) -> CertificateDer<'static> {
    write_until(files, 2040)
}

/// The same, valid until the begin of a year.
fn write_until(files: &TlsFiles, year: i32) -> CertificateDer<'static> {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    certificate.der().clone()
}

fn files(folder: &tempfile::TempDir) -> TlsFiles {
    TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") }
}

fn served(certificates: &Certificates) -> CertificateDer<'static> {
    certificates.0.current.read().unwrap().cert[0].clone()
}

#[test]
fn an_unusable_certificate_or_key_is_an_error_that_names_the_file() {
    let (folder, other_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (good, other) = (files(&folder), files(&other_folder));
    write(&good);
    write(&other);
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = folder.path().join("missing.pem");
    for (certificate, key, named) in [
        (&missing, &good.key, &missing),
        (&empty, &good.key, &empty),
        (&good.certificate, &missing, &missing),
        (&good.certificate, &empty, &empty),
        (&good.certificate, &other.key, &good.certificate),
    ] {
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
        let error = Certificates::load(files).unwrap_err().to_string();
        assert!(error.contains(&named.display().to_string()), "{error}");
    }
}

#[test]
fn a_new_certificate_is_taken_and_a_broken_one_changes_nothing_but_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let first = write(&files);
    let certificates = Certificates::load(files.clone()).unwrap();
    let mut watch = certificates.0.first.clone();
    certificates.look(&mut watch);
    assert_eq!((served(&certificates), certificates.state().reloads), (first, 0));

    let second = write(&files);
    certificates.look(&mut watch);
    assert_eq!((served(&certificates), certificates.state().reloads), (second.clone(), 1));

    // Half of a replacement: not believed at once, and forgotten when the other half is there.
    let half = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&files.certificate, half.cert.pem()).unwrap();
    certificates.look(&mut watch);
    assert_eq!((served(&certificates), certificates.state().failure), (second, None));
    std::fs::write(&files.key, half.signing_key.serialize_pem()).unwrap();
    certificates.look(&mut watch);
    assert_eq!((&served(&certificates), certificates.state().reloads), (half.cert.der(), 2));

    std::fs::write(&files.key, "nonsense").unwrap();
    certificates.look(&mut watch);
    certificates.look(&mut watch);
    let failure = certificates.state().failure.unwrap();
    assert!(failure.contains("key.pem"), "{failure}");
    assert_eq!(&served(&certificates), half.cert.der());
    std::fs::remove_file(&files.key).unwrap();
    certificates.look(&mut watch);
    certificates.look(&mut watch);
    assert!(certificates.state().failure.unwrap().contains("key.pem"));

    let last = write(&files);
    certificates.look(&mut watch);
    assert_eq!((served(&certificates), certificates.state().failure), (last, None));
}

#[test]
fn the_end_of_the_certificate_that_is_served_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    write_until(&files, 2041);
    let certificates = Certificates::load(files.clone()).unwrap();
    let begin_of = |year: i32| crate::access::keys::parse_time(&format!("{year}-01-01T00:00:00Z")).unwrap();
    assert_eq!(certificates.state().not_after, begin_of(2041));
    let mut watch = certificates.0.first.clone();

    // What is not served does not count.
    std::fs::write(&files.key, "nonsense").unwrap();
    certificates.look(&mut watch);
    certificates.look(&mut watch);
    assert_eq!(certificates.state().not_after, begin_of(2041));

    // One that is over is served all the same: those who look will know why.
    write_until(&files, 2001);
    certificates.look(&mut watch);
    assert_eq!((certificates.state().not_after, certificates.state().reloads), (begin_of(2001), 1));
}
