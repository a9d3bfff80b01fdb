//! Who is trusted: the certificates of a bundle, or those that the machine trusts.

use crate::error::TlsError;
use crate::pem::PemFile;
use rustls::RootCertStore;
use std::sync::Arc;

/// Those of this bundle; every one must be usable.
pub fn of_bundle(file: &PemFile) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in file.certificates()? {
        roots.add(certificate).map_err(|e| file.error(format!("holds a certificate that cannot be trusted: {e}")))?;
    }
    Ok(Arc::new(roots))
}

/// Those of the machine; what it has that cannot be used is left out.
pub fn of_machine() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(TlsError::general(
            "this machine has no list of trusted authorities (usually the package ca-certificates); name a CA file",
        ));
    }
    Ok(Arc::new(roots))
}
