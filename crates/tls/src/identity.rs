//! A certificate with its private key.

use crate::error::TlsError;
use crate::pem::PemFile;
use crate::{encrypted, provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The password of a key. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityFiles {
    /// The certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// The private key; without it the key is in the file of the certificate, too.
    pub key: Option<PathBuf>,
    /// Of the key.
    pub password: Option<Password>,
}

/// What was in them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    certificate: PemFile,
    key: Option<PemFile>,
    password: Option<Password>,
}

impl Identity {
    /// Blocks until the files are read.
    pub fn read(files: &IdentityFiles) -> Result<Self, TlsError> {
        let key = files.key.as_deref().filter(|key| *key != files.certificate);
        Ok(Self {
            certificate: PemFile::read(&files.certificate)?,
            key: key.map(PemFile::read).transpose()?,
            password: files.password.clone(),
        })
    }

    /// Certificate and key, which belong together.
    pub fn certified(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let file = self.key.as_ref().unwrap_or(&self.certificate);
        let key = private_key(file, self.password.as_ref())?;
        let certificates = self.certificate.certificates()?;
        let certified = CertifiedKey::from_der(certificates, key, &provider()).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => file.error(format!(
                "this key does not belong to the certificate in {}; are both of them new?",
                self.certificate.path.display()
            )),
            rustls::Error::InvalidCertificate(why) => {
                self.certificate.error(format!("not a usable certificate: {why}"))
            }
            other => file.error(format!("the key cannot be used: {other}")),
        })?;
        Ok(Arc::new(certified))
    }
}

fn private_key(file: &PemFile, password: Option<&Password>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = String::from_utf8_lossy(&file.bytes);
    if encrypted::is_in(&text) {
        return encrypted::decrypt(&text, password).map_err(|what| file.error(what));
    }
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|e| match e {
        pem::Error::NoItemsFound => file.error("has no private key in PEM form (-----BEGIN PRIVATE KEY-----)"),
        other => file.error(format!("not valid PEM: {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Directory, ENCRYPTED, TRADITIONAL, made};

    fn error(directory: &Directory, certificate: &str, key: Option<&str>, password: Option<&str>) -> String {
        let files = IdentityFiles {
            certificate: directory.path(certificate),
            key: key.map(|key| directory.path(key)),
            password: password.map(Password::new),
        };
        Identity::read(&files).and_then(|read| read.certified()).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_certificate_and_its_key_in_one_file_or_two() {
        let (one, other, directory) = (made("one"), made("other"), Directory::new());
        directory.write("one.crt", &one.certificate);
        directory.write("one.key", &one.key);
        directory.write("both.pem", &format!("{}{}", one.key, one.certificate));
        directory.write("other.key", &other.key);
        assert_eq!(error(&directory, "one.crt", Some("one.key"), None), "");
        assert_eq!(error(&directory, "both.pem", None, None), "");
        for (certificate, key, part) in [
            ("one.crt", Some("other.key"), "does not belong to the certificate"),
            ("one.crt", None, "has no private key"),
            ("one.key", None, "has no certificate"),
            ("none", None, "no such file"),
        ] {
            let text = error(&directory, certificate, key, None);
            assert!(text.contains(part) && text.starts_with('/'), "{text}");
        }
        directory.write("broken.crt", &one.certificate.replace('M', "!"));
        assert!(error(&directory, "broken.crt", Some("one.key"), None).contains("broken.crt: not valid PEM"));
    }

    #[test]
    fn a_key_under_a_password() {
        let directory = Directory::new();
        directory.write("sealed.pem", ENCRYPTED);
        directory.write("old.pem", &format!("{}{TRADITIONAL}", made("old").certificate));
        assert_eq!(error(&directory, "sealed.pem", None, Some("hunter2")), "");
        for (file, password, part) in [
            ("sealed.pem", None, "no password is given"),
            ("sealed.pem", Some("hunter3"), "is the password the right one?"),
            ("old.pem", Some("x"), "openssl pkcs8 -topk8"),
        ] {
            let text = error(&directory, file, None, password);
            assert!(text.contains(part) && !text.contains("hunter"), "{text}");
        }
        assert_eq!(format!("{:?}", Password::new("hunter2")), "***");
    }

    #[test]
    fn what_was_read_can_be_compared_and_is_not_shown() {
        let directory = Directory::new();
        directory.write("one.pem", ENCRYPTED);
        let files = IdentityFiles { certificate: directory.path("one.pem"), key: None, password: None };
        let before = Identity::read(&files).unwrap();
        assert_eq!(before, Identity::read(&files).unwrap());
        directory.write("one.pem", &format!("{ENCRYPTED}\n"));
        assert_ne!(before, Identity::read(&files).unwrap());
        assert!(!format!("{before:?}").contains("PRIVATE"), "{before:?}");
    }
}
