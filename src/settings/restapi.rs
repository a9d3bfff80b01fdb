//! `restapi`: where the API server listens and how others reach it.

use super::address::{HostPort, host_port, is_wildcard};
use super::error::SettingsError;
use super::secret::Secret;
use super::section::Section;
use super::tls;
use pgherd_tls::ServerFiles;
use pgherd_web::{AllHeaders, ExtraHeaders, ServerTokens};

/// A user name and its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Longer queues no system makes.
const QUEUE_MAX: u32 = 4096;

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
    pub headers: AllHeaders,
    /// With which certificates; without them over plain HTTP.
    pub tls: Option<ServerFiles>,
    /// So many connections may wait to be taken, if it is said.
    pub request_queue_size: Option<u32>,
}

impl RestApi {
    /// What the member key says.
    pub fn api_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/patroni", self.connect_address)
    }
}

/// Reads the section.
pub fn read(section: Section) -> Result<RestApi, SettingsError> {
    let listen = section.required_text("listen")?;
    let listen = host_port(&listen, None).map_err(|what| section.error("listen", what))?;
    let connect_address = connect_address(&section, &listen, None)?;
    let authentication = authentication(&section)?;
    let allowlist = section.texts("allowlist")?.unwrap_or_default();
    let allowlist_include_members = section.flag("allowlist_include_members")?.unwrap_or(false);
    let headers = headers(&section)?;
    let tls = tls::server(&section)?;
    if tls.is_some() && connect_address.host.contains(':') {
        section.warn("connect_address", "is an IPv6 address, which other members cannot reach over https; use a name");
    }
    let request_queue_size = request_queue_size(&section)?;
    // known, and without effect: nothing here waits for a thread (docs/rest-api.md)
    section.integer("thread_pool_size")?;
    section.finish();
    Ok(RestApi {
        listen,
        connect_address,
        authentication,
        allowlist,
        allowlist_include_members,
        headers,
        tls,
        request_queue_size,
    })
}

fn request_queue_size(section: &Section) -> Result<Option<u32>, SettingsError> {
    let size = section.integer("request_queue_size")?;
    let of_range = |size: i64| u32::try_from(size).ok().filter(|size| *size <= QUEUE_MAX);
    let wrong = || section.error("request_queue_size", format!("must be between 0 and {QUEUE_MAX}"));
    size.map(|size| of_range(size).ok_or_else(wrong)).transpose()
}

fn headers(section: &Section) -> Result<AllHeaders, SettingsError> {
    let tokens = match section.text("server_tokens")?.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("original") => ServerTokens::Original,
        Some("minimal") => ServerTokens::Minimal,
        Some("productonly") => ServerTokens::ProductOnly,
        Some(_) => {
            section.warn("server_tokens", "is not known (original, minimal, productonly): as original");
            ServerTokens::Original
        }
    };
    let of = |key: &str, tokens| {
        ExtraHeaders::new(&section.parameters(key)?, tokens).map_err(|what| section.error(key, what))
    };
    Ok(AllHeaders {
        every: of("http_extra_headers", tokens)?,
        encrypted: of("https_extra_headers", ServerTokens::Original)?,
    })
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
