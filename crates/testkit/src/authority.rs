//! An authority of a test, and certificates that it signs, for servers on this machine and for their clients.

use pgherd_tls::{ClientConfig, ClientFiles, IdentityFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rcgen::{ExtendedKeyUsagePurpose, ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Authorities of the same name would be taken for one another.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate may be used for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Usage {
    /// By servers only.
    Server,
    /// By clients only.
    Client,
    /// By both.
    Both,
}

impl Usage {
    fn purposes(self) -> Vec<ExtendedKeyUsagePurpose> {
        match self {
            Self::Server => vec![ServerAuth],
            Self::Client => vec![ClientAuth],
            Self::Both => vec![ServerAuth, ClientAuth],
        }
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }
    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }
    /// A certificate for 127.0.0.1 and its key.
    pub fn signed(&self) -> String {
        let (certificate, key) = self.sign(Usage::Both, None);
        certificate + &key
    }
    /// Such a certificate and its key, for that use and with that CommonName or none.
    pub fn sign(&self, usage: Usage, common_name: Option<&str>) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("names");
        params.extended_key_usages = usage.purposes();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "tests");
        if let Some(common_name) = common_name {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        let certificate = params.signed_by(&key, &self.0).expect("a signature");
        (certificate.pem(), key.serialize_pem())
    }
    /// A client that trusts this authority alone, with such a certificate of its own or without. The files are put there.
    pub fn client(&self, directory: &Path, with_certificate: bool) -> Arc<ClientConfig> {
        let identity = with_certificate.then(|| IdentityFiles {
            certificate: write(directory, "client.pem", &self.signed()),
            key: None,
            password: None,
        });
        let authorities = Some(write(directory, "client-ca.crt", &self.pem()));
        let files = ClientFiles { authorities, identity, insecure: false };
        files.read().and_then(|material| material.config()).expect("a client")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts a file there.
pub fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("write a certificate");
    path
}
