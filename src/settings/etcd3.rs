//! `etcd3` or `etcd`: where the DCS is, and how to get in. Both have the same keys; the second is for etcd's old v2 API.

use super::address::host_port;
use super::error::SettingsError;
use super::secret::Secret;
use super::section::Section;
use pgherd_dcs::{Endpoint, EtcdApi, EtcdLogin, EtcdServer, EtcdTls, Srv};
use pgherd_tls::{ClientFiles, IdentityFiles};
use serde_json::Value;
use std::path::PathBuf;

/// The DCS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Etcd3 {
    /// In the order given; at least one, unless DNS names them.
    pub endpoints: Vec<Endpoint>,
    /// DNS is asked for the endpoints instead.
    pub srv: Option<Srv>,
    /// They are proxies, or all there is: etcd is not asked for its members.
    pub use_proxies: bool,
    /// For `https` endpoints: whom to trust, and our own certificate.
    pub tls: ClientFiles,
    /// The user of etcd's authentication.
    pub login: Option<(String, Secret)>,
    /// Move etcd's leadership away from the primary's host.
    pub move_leader: bool,
    /// Which of both sections this is.
    pub api: EtcdApi,
}

/// The name of the section.
pub const fn name(api: EtcdApi) -> &'static str {
    match api {
        EtcdApi::V3 => "etcd3",
        EtcdApi::V2 => "etcd",
    }
}

impl Etcd3 {
    /// For the adapter; reads the files for TLS, so it blocks for a moment. The error names the file.
    pub fn server(&self) -> Result<EtcdServer, String> {
        let login = self.login.as_ref();
        let section = name(self.api);
        let maybe_tls = self.srv.is_some() || self.endpoints.iter().any(Endpoint::is_tls);
        let tls = maybe_tls.then(|| EtcdTls::read(&self.tls));
        Ok(EtcdServer {
            endpoints: self.endpoints.clone(),
            srv: self.srv.clone(),
            discover: !self.use_proxies,
            tls: tls
                .transpose()
                .map_err(|e| format!("the files for TLS to etcd ({section}.cacert, cert, key): {e}"))?,
            login: login.map(|(username, password)| EtcdLogin {
                username: username.clone(),
                password: password.expose().to_owned(),
            }),
            move_leader: self.move_leader,
        })
    }
    /// For messages.
    pub fn names(&self) -> String {
        match &self.srv {
            Some(srv) => format!("what DNS names for {}", srv.domain),
            None => self.endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", "),
        }
    }
}

/// Where the endpoints come from: the first of these that is set counts, as in Patroni.
const SOURCES: [&str; 7] = ["proxy", "srv", "discovery_srv", "srv_domain", "hosts", "host", "url"];
/// Those of them that name a domain for DNS.
const DOMAINS: [&str; 3] = ["srv", "discovery_srv", "srv_domain"];

/// Reads the section.
pub fn read(section: Section, api: EtcdApi) -> Result<Etcd3, SettingsError> {
    let protocol = section.text("protocol")?.unwrap_or_else(|| "http".to_owned());
    if !matches!(protocol.as_str(), "http" | "https") {
        return Err(section.error("protocol", format!("must be http or https, not {protocol}")));
    }
    let (mut endpoints, mut srv, mut in_url) = (Vec::new(), None, None);
    let suffix = section.text("srv_suffix")?;
    for (key, text) in named(&section)? {
        if DOMAINS.contains(&key) {
            srv = Some(domain(&text, suffix.clone()).map_err(|what| section.error(key, what))?);
            continue;
        }
        let (bare, login) = without_login(&text);
        in_url = in_url.or(login);
        endpoints.push(endpoint(&bare, &protocol).map_err(|what| section.error(key, what))?);
    }
    if srv.is_none() && suffix.is_some() {
        let srv = section.path_of("srv");
        section.warn("srv_suffix", &format!("has no effect: etcd is not found by DNS ({srv})"));
    }
    if endpoints.is_empty() && srv.is_none() {
        return Err(
            section.error("hosts", "missing, but needed: the etcd endpoints as host:port, a list or comma separated")
        );
    }
    let use_proxies = section.flag("use_proxies")?.unwrap_or(false) || section.text("proxy")?.is_some();
    let login = login(&section)?.or(in_url);
    let move_leader = section.flag("move_leader")?.unwrap_or(false);
    if move_leader && api == EtcdApi::V2 {
        section
            .warn("move_leader", "has no effect: etcd's v2 API cannot move its leadership, and no lease depends on it");
    }
    let maybe_tls = srv.is_some() || endpoints.iter().any(Endpoint::is_tls);
    let tls = tls(&section, maybe_tls)?;
    section.finish();
    Ok(Etcd3 { endpoints, srv, use_proxies, tls, login, move_leader, api })
}

/// What is named by the first source that names anything, each with the key it came from.
fn named(section: &Section) -> Result<Vec<(&'static str, String)>, SettingsError> {
    let mut found = Vec::new();
    for source in SOURCES {
        let texts = match section.raw(source) {
            Some(Value::Array(_)) if source == "hosts" => section.texts(source)?.unwrap_or_default(),
            _ if source == "hosts" => section.text(source)?.map(|text| parts(&text)).unwrap_or_default(),
            _ => section.text(source)?.into_iter().collect(),
        };
        match found.is_empty() {
            true => found = texts.into_iter().map(|text| (source, text)).collect(),
            false if !texts.is_empty() => {
                section.warn(source, &format!("has no effect: etcd is found by {}", found[0].0));
            }
            false => {}
        }
    }
    Ok(found)
}

fn parts(text: &str) -> Vec<String> {
    text.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect()
}

fn login(section: &Section) -> Result<Option<(String, Secret)>, SettingsError> {
    match (section.text("username")?, section.text("password")?) {
        (Some(username), Some(password)) => Ok(Some((username, Secret::new(password)))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(section.error("password", "missing, but needed: there is a username")),
        (None, Some(_)) => Err(section.error("username", "missing, but needed: there is a password")),
    }
}

/// Files for TLS, which have an effect only where TLS is spoken.
fn tls(section: &Section, maybe_used: bool) -> Result<ClientFiles, SettingsError> {
    let path = |key: &str| -> Result<_, SettingsError> { Ok(section.text(key)?.map(PathBuf::from)) };
    let (authorities, certificate, key) = (path("cacert")?, path("cert")?, path("key")?);
    if !maybe_used {
        for name in ["cacert", "cert", "key"].into_iter().filter(|name| section.raw(name).is_some()) {
            let protocol = section.path_of("protocol");
            section.warn(name, &format!("has no effect: no endpoint is reached by https; set {protocol}: https"));
        }
    }
    if certificate.is_none() && key.is_some() {
        return Err(section.error("cert", "missing, but needed: there is a key"));
    }
    let identity = certificate.map(|certificate| IdentityFiles { certificate, key, password: None });
    Ok(ClientFiles { authorities, identity, insecure: false })
}

/// `http://user:password@host` is a way to name them, too.
fn without_login(text: &str) -> (String, Option<(String, Secret)>) {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let Some((user, host)) = rest.rsplit_once('@') else { return (text.to_owned(), None) };
    let bare = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
    let login = user.split_once(':').map(|(name, password)| (decoded(name), Secret::new(decoded(password))));
    (bare, login)
}

/// Percent signs in a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name that the names of services can be put before.
fn domain(text: &str, suffix: Option<String>) -> Result<Srv, String> {
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if text.is_empty() || text.len() > 200 || !is_name(text) {
        return Err(format!("must be the name of a domain, not {text}"));
    }
    if suffix.as_deref().is_some_and(|suffix| suffix.is_empty() || suffix.len() > 40 || !is_name(suffix)) {
        return Err("srv_suffix must be what comes after _etcd-client- in the name of the record".to_owned());
    }
    Ok(Srv { domain: text.to_owned(), suffix, name_server: None })
}

fn endpoint(text: &str, protocol: &str) -> Result<Endpoint, String> {
    let (scheme, bare) = text.split_once("://").unwrap_or((protocol, text));
    if !matches!(scheme, "http" | "https") {
        return Err(format!("must begin with http:// or https://, or be host:port, not {text}"));
    }
    let address = host_port(bare.trim_end_matches('/'), Some(2379))?;
    if address.host.is_empty() || address.host.contains(['/', ' ']) {
        return Err(format!("must be host:port, not {text}"));
    }
    format!("{scheme}://{address}").parse()
}
