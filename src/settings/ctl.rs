//! `ctl`: how the members' REST APIs are spoken to, by commands and by the members themselves. What it does not say, the
//! section `restapi` says.

use super::error::SettingsError;
use super::restapi::{Login, authentication};
use super::section::Section;
use super::tls;
use pgherd_tls::ClientFiles;

/// See the module.
#[derive(Clone, PartialEq, Debug)]
pub struct Ctl {
    /// For requests that change something.
    pub login: Option<Login>,
    /// Whom to trust, and how to show who is asking. None if nothing is said of TLS: then no member is expected to use it.
    pub tls: Option<ClientFiles>,
}

/// Reads the section, and of the other one what it falls back on.
pub fn read(section: &Section, restapi: &Section) -> Result<Ctl, SettingsError> {
    let login = authentication(section)?.map_or_else(|| authentication(restapi), |login| Ok(Some(login)))?;
    let named = tls::path(section, "cacert")?;
    let authorities = named.map_or_else(|| tls::path(restapi, "cafile"), |file| Ok(Some(file)))?;
    let identity = tls::identity(section)?;
    let insecure = section.flag("insecure")?.unwrap_or(false);
    let wanted = authorities.is_some() || identity.is_some() || insecure || tls::path(restapi, "certfile")?.is_some();
    Ok(Ctl { login, tls: wanted.then_some(ClientFiles { authorities, identity, insecure }) })
}
