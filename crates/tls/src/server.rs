//! How clients are served: with which certificate, and which certificates of theirs are wanted.

use crate::error::TlsError;
use crate::identity::{Identity, IdentityFiles};
use crate::pem::PemFile;
use crate::{HTTP_1_1, authorities, ciphers, provider};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use std::path::PathBuf;
use std::sync::Arc;

/// Are clients asked for a certificate?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VerifyClient {
    /// No.
    #[default]
    None,
    /// Yes; without one they may only read, with a bad one there is no connection.
    Optional,
    /// Yes; without a good one there is no connection.
    Required,
}

/// What the settings name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerFiles {
    /// The certificate that is shown.
    pub identity: IdentityFiles,
    /// The authorities that clients' certificates must come from.
    pub authorities: Option<PathBuf>,
    /// Are clients asked for one?
    pub verify_client: VerifyClient,
    /// OpenSSL's names of the cipher suites that may be used.
    pub ciphers: Option<String>,
}

/// What was in the files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerMaterial {
    identity: Identity,
    authorities: Option<PemFile>,
    verify_client: VerifyClient,
    ciphers: Option<String>,
}

impl ServerFiles {
    /// Blocks until the files are read.
    pub fn read(&self) -> Result<ServerMaterial, TlsError> {
        let needed = self.verify_client != VerifyClient::None;
        let authorities = self.authorities.as_deref().filter(|_| needed).map(PemFile::read).transpose()?;
        Ok(ServerMaterial {
            identity: Identity::read(&self.identity)?,
            authorities,
            verify_client: self.verify_client,
            ciphers: self.ciphers.clone(),
        })
    }
}

impl ServerMaterial {
    /// Are clients asked for a certificate?
    pub fn verify_client(&self) -> VerifyClient {
        self.verify_client
    }

    /// For rustls.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let mut provider = rustls::crypto::ring::default_provider();
        if let Some(text) = &self.ciphers {
            provider.cipher_suites = ciphers::chosen(text, &provider.cipher_suites).map_err(TlsError::general)?;
        }
        let builder = ServerConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| TlsError::general(e.to_string()))?;
        let builder = match self.client_verifier()? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let certified = SingleCertAndKey::from(self.identity.certified()?);
        let mut config = builder.with_cert_resolver(Arc::new(certified));
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Arc::new(config))
    }

    fn client_verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        if self.verify_client == VerifyClient::None {
            return Ok(None);
        }
        let Some(file) = &self.authorities else {
            return Err(TlsError::general(
                "verify_client needs a cafile: the authorities of the clients' certificates",
            ));
        };
        let roots = authorities::of_bundle(file)?;
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let builder = match self.verify_client {
            VerifyClient::Optional => builder.allow_unauthenticated(),
            VerifyClient::None | VerifyClient::Required => builder,
        };
        builder.build().map(Some).map_err(|e| file.error(e.to_string()))
    }
}
