//! How servers are spoken to: whom to trust, and with which certificate of our own.

use crate::authorities;
use crate::error::TlsError;
use crate::identity::{Identity, IdentityFiles};
use crate::pem::PemFile;
use crate::{HTTP_1_1, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;

/// What the settings name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientFiles {
    /// The authorities that servers' certificates must come from; by default those the machine trusts.
    pub authorities: Option<PathBuf>,
    /// A certificate of our own, for servers that ask for one.
    pub identity: Option<IdentityFiles>,
    /// Servers are not verified at all.
    pub insecure: bool,
}

/// What was in the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientMaterial {
    authorities: Option<PemFile>,
    identity: Option<Identity>,
    insecure: bool,
}

impl ClientFiles {
    /// Blocks until the files are read.
    pub fn read(&self) -> Result<ClientMaterial, TlsError> {
        Ok(ClientMaterial {
            authorities: self.authorities.as_deref().map(PemFile::read).transpose()?,
            identity: self.identity.as_ref().map(Identity::read).transpose()?,
            insecure: self.insecure,
        })
    }
}

impl ClientMaterial {
    /// For rustls. It may read what the machine trusts, so it blocks for a moment, too.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = versions.map_err(|e| TlsError::general(e.to_string()))?;
        let builder = match (self.insecure, &self.authorities) {
            (true, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider()))),
            (false, Some(file)) => builder.with_root_certificates(authorities::of_bundle(file)?),
            (false, None) => builder.with_root_certificates(authorities::of_machine()?),
        };
        let mut config = match &self.identity {
            Some(identity) => {
                let certified = SingleCertAndKey::from(identity.certified()?);
                builder.with_client_cert_resolver(Arc::new(certified))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }
}

/// Takes every certificate: the user asked for it. The server must still have the key of the certificate it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
