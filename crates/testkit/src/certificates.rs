//! Certificates for tests: an authority, and what it signs, as PEM files in a directory.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::path::{Path, PathBuf};

/// See the module.
pub struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// One whose certificate is `ca.pem` in that directory.
    pub fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::OrganizationName, "tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        std::fs::write(directory.join("ca.pem"), issuer.pem()).expect("write the authority");
        Self { directory: directory.to_owned(), issuer }
    }
    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }
    /// `<name>.pem` and `<name>.key` for 127.0.0.1 and localhost, for servers, for clients, or for both.
    pub fn signs(&self, name: &str, server: bool, client: bool, common_name: Option<&str>) -> (PathBuf, PathBuf) {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        if let Some(common_name) = common_name {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        let usages = [(server, ExtendedKeyUsagePurpose::ServerAuth), (client, ExtendedKeyUsagePurpose::ClientAuth)];
        params.extended_key_usages = usages.into_iter().filter(|(wanted, _)| *wanted).map(|(_, usage)| usage).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = (self.directory.join(format!("{name}.pem")), self.directory.join(format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).expect("write a certificate");
        std::fs::write(&files.1, key.serialize_pem()).expect("write a key");
        files
    }
}
