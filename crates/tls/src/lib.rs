//! TLS as it is used everywhere in the program: certificates, keys and authorities are read from the PEM files that the
//! settings name, and become rustls configurations, or an error that names the file and says what to do. One provider of
//! cryptography, named explicitly, so that nothing depends on what another package has installed. HTTP/1.1 only: nothing
//! else is offered in a handshake.
//!
//! What was read is kept as it was (`ClientMaterial`, `ServerMaterial`) and can be compared: whoever reads the files again
//! when asked to sees whether anything changed, and what cannot be used replaces nothing.
//!
//! Reading order: `client` and `server` (what becomes of files), `identity` (certificate and key), `pem` (files),
//! `authorities` (who is trusted), `ciphers`. Nothing here opens a connection.

mod authorities;
pub mod ciphers;
pub mod client;
mod encrypted;
pub mod error;
pub mod identity;
mod pem;
pub mod server;
#[cfg(test)]
mod testing;

pub use client::{ClientFiles, ClientMaterial};
pub use error::TlsError;
pub use identity::{IdentityFiles, Password};
pub use rustls::{ClientConfig, ServerConfig};
pub use server::{ServerFiles, ServerMaterial, VerifyClient};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// What is offered in a handshake.
const HTTP_1_1: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
