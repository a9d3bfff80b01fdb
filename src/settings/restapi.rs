//! `restapi`: where the API server listens and how others reach it.

use super::address::{HostPort, host_port, is_wildcard};
use super::error::SettingsError;
use super::secret::Secret;
use super::section::Section;
use pgherd_web::{ExtraHeaders, ServerTokens};

/// A user name and its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// The API server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestApi {
    /// Where it listens; an empty host or `*` means every address.
    pub listen: HostPort,
    /// How others reach it.
    pub connect_address: HostPort,
    /// For requests that change something.
    pub authentication: Option<Login>,
    /// Networks, addresses and names from which changes may be asked for; empty: from everywhere.
    pub allowlist: Vec<String>,
    /// Changes may be asked for by the members of the cluster.
    pub allowlist_include_members: bool,
    /// What every answer has beside its own.
    pub headers: ExtraHeaders,
}

impl RestApi {
    /// What the member key says.
    pub fn api_url(&self) -> String {
        format!("http://{}/patroni", self.connect_address)
    }
}

/// Reads the section.
pub fn read(section: Section) -> Result<RestApi, SettingsError> {
    let listen = section.required_text("listen")?;
    let listen = host_port(&listen, None).map_err(|what| section.error("listen", what))?;
    let connect_address = connect_address(&section, &listen, None)?;
    let authentication = authentication(&section)?;
    if section.raw("certfile").is_some() {
        return Err(section.error("certfile", "TLS is not supported yet; remove it to serve plain HTTP"));
    }
    let allowlist = section.texts("allowlist")?.unwrap_or_default();
    let allowlist_include_members = section.flag("allowlist_include_members")?.unwrap_or(false);
    section.without_effect_yet(&["keyfile", "keyfile_password", "cafile", "ciphers", "verify_client"]);
    let headers = headers(&section)?;
    section.without_effect_yet(&["https_extra_headers", "request_queue_size", "thread_pool_size"]);
    section.finish();
    Ok(RestApi { listen, connect_address, authentication, allowlist, allowlist_include_members, headers })
}

fn headers(section: &Section) -> Result<ExtraHeaders, SettingsError> {
    let tokens = match section.text("server_tokens")?.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("original") => ServerTokens::Original,
        Some("minimal") => ServerTokens::Minimal,
        Some("productonly") => ServerTokens::ProductOnly,
        Some(_) => {
            section.warn("server_tokens", "is not known (original, minimal, productonly): as original");
            ServerTokens::Original
        }
    };
    let pairs = section.parameters("http_extra_headers")?;
    ExtraHeaders::new(&pairs, tokens).map_err(|what| section.error("http_extra_headers", what))
}

/// `connect_address`, by default the (first) address listened on; "every address" is nothing others can connect to.
pub fn connect_address(
    section: &Section,
    listen: &HostPort,
    default_port: Option<u16>,
) -> Result<HostPort, SettingsError> {
    let key = "connect_address";
    match section.text(key)? {
        Some(text) => {
            let address = host_port(&text, default_port).map_err(|what| section.error(key, what))?;
            match is_wildcard(&address.host) {
                true => {
                    Err(section
                        .error(key, format!("must name one address that the other members can reach, not {text}")))
                }
                false => Ok(address),
            }
        }
        None if is_wildcard(&listen.host) => {
            Err(section.error(key, "missing, but needed because `listen` names every address of this machine"))
        }
        None => Ok(listen.clone()),
    }
}

/// The login of a section, also in its old form `auth`.
pub fn authentication(section: &Section) -> Result<Option<Login>, SettingsError> {
    if let Some(old) = section.text("auth")? {
        let (username, password) =
            old.split_once(':').ok_or_else(|| section.error("auth", "must be username:password"))?;
        return Ok(Some(Login { username: username.to_owned(), password: Secret::new(password) }));
    }
    let login = section.section("authentication")?;
    if !login.exists() {
        return Ok(None);
    }
    let username = login.required_text("username")?;
    let password = Secret::new(login.required_text("password")?);
    login.finish();
    Ok(Some(Login { username, password }))
}
