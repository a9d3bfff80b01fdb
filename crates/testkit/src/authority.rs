//! An authority of a test, and certificates that it signs, for servers on this machine and for their clients.

use pgherd_tls::{ClientConfig, ClientFiles, IdentityFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Authorities of the same name would be taken for one another.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

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
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("a signature");
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }
    /// A client that trusts this authority alone, with such a certificate of its own or without. The files are put there.
    pub fn client(&self, directory: &Path, with_certificate: bool) -> Arc<ClientConfig> {
        let write = |name: &str, text: String| -> PathBuf {
            let path = directory.join(name);
            fs::write(&path, text).expect("write a certificate");
            path
        };
        let identity = with_certificate.then(|| IdentityFiles {
            certificate: write("client.pem", self.signed()),
            key: None,
            password: None,
        });
        let authorities = Some(write("client-ca.crt", self.pem()));
        let files = ClientFiles { authorities, identity, insecure: false };
        files.read().and_then(|material| material.config()).expect("a client")
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
