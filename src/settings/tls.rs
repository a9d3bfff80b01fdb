//! Certificates, keys and authorities: which files the settings name. They are read later, when they are used.

use super::error::SettingsError;
use super::section::Section;
use pgherd_tls::{IdentityFiles, Password, ServerFiles, VerifyClient};
use std::path::PathBuf;

/// A file, if one is named.
pub fn path(section: &Section, key: &str) -> Result<Option<PathBuf>, SettingsError> {
    Ok(section.text(key)?.filter(|text| !text.is_empty()).map(PathBuf::from))
}

/// `certfile`, `keyfile` and `keyfile_password`.
pub fn identity(section: &Section) -> Result<Option<IdentityFiles>, SettingsError> {
    let (certificate, key) = (path(section, "certfile")?, path(section, "keyfile")?);
    let password = section.text("keyfile_password")?.map(Password::new);
    if certificate.is_none() && key.is_some() {
        section.warn("keyfile", "has no effect without certfile");
    }
    Ok(certificate.map(|certificate| IdentityFiles { certificate, key, password }))
}

/// What makes the REST API one with TLS: all of it depends on `certfile`.
pub fn server(section: &Section) -> Result<Option<ServerFiles>, SettingsError> {
    let authorities = path(section, "cafile")?;
    let verify_client = verify_client(section)?;
    let ciphers = section.text("ciphers")?.filter(|text| !text.is_empty());
    let Some(identity) = identity(section)? else {
        if verify_client != VerifyClient::None {
            return Err(
                section.error("verify_client", "needs a certfile: without TLS no client can show a certificate")
            );
        }
        return Ok(None);
    };
    if verify_client != VerifyClient::None && authorities.is_none() {
        return Err(section.error("verify_client", "needs a cafile: the authorities of the clients' certificates"));
    }
    Ok(Some(ServerFiles { identity, authorities, verify_client, ciphers }))
}

fn verify_client(section: &Section) -> Result<VerifyClient, SettingsError> {
    match section.text("verify_client")?.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("none" | "") => Ok(VerifyClient::None),
        Some("optional") => Ok(VerifyClient::Optional),
        Some("required") => Ok(VerifyClient::Required),
        Some(_) => Err(section.error("verify_client", "must be none, optional or required")),
    }
}
