//! PEM files: read as a whole, with a limit, and taken apart.

use crate::error::TlsError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A bundle of all public authorities is a quarter of this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file as it was read. Its bytes are not shown: there may be a key among them.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path.display(), self.bytes.len())
    }
}

impl PemFile {
    /// Blocks until the file is read.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let unreadable = |e: std::io::Error| TlsError::of(path, plain(&e));
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(TlsError::of(path, "not a file; name one in PEM form"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(TlsError::of(path, format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// All certificates, in their order; at least one.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|e| self.error(format!("not valid PEM: {e}")))?;
        match certificates.is_empty() {
            true => Err(self.error("has no certificate in PEM form (-----BEGIN CERTIFICATE-----)")),
            false => Ok(certificates),
        }
    }

    pub fn error(&self, what: impl Into<String>) -> TlsError {
        TlsError::of(&self.path, what)
    }
}

/// An I/O error in words, with what to do.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied; the user that runs this program must be able to read it".to_owned()
        }
        _ => format!("cannot be read: {error}"),
    }
}
