//! `etcd3`: where the DCS is.

use super::address::host_port;
use super::error::SettingsError;
use super::section::Section;
use pgherd_dcs::Endpoint;
use serde_json::Value;

/// The DCS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Etcd3 {
    /// `http://host:port`, in the order given; at least one.
    pub endpoints: Vec<String>,
}

/// Reads the section.
pub fn read(section: Section) -> Result<Etcd3, SettingsError> {
    let protocol = section.text("protocol")?.unwrap_or_else(|| "http".to_owned());
    if protocol != "http" {
        return Err(section.error("protocol", format!("only http is supported yet, not {protocol}")));
    }
    let mut endpoints = Vec::new();
    for (key, text) in hosts(&section)? {
        endpoints.push(endpoint(&text).map_err(|what| section.error(key, what))?);
    }
    if endpoints.is_empty() {
        return Err(
            section.error("hosts", "missing, but needed: the etcd endpoints as host:port, a list or comma separated")
        );
    }
    section.without_effect_yet(&["username", "password"]);
    section.without_effect_yet(&[
        "cacert",
        "cert",
        "key",
        "proxy",
        "use_proxies",
        "srv",
        "srv_suffix",
        "discovery_srv",
        "srv_domain",
    ]);
    section.finish();
    Ok(Etcd3 { endpoints })
}

/// `hosts` (list or comma text), `host` and `url`, each with the key it came from.
fn hosts(section: &Section) -> Result<Vec<(&'static str, String)>, SettingsError> {
    let hosts = match section.raw("hosts") {
        Some(Value::String(text)) => {
            text.split(',').map(|h| h.trim().to_owned()).filter(|host| !host.is_empty()).collect()
        }
        _ => section.texts("hosts")?.unwrap_or_default(),
    };
    let mut all: Vec<_> = hosts.into_iter().map(|host| ("hosts", host)).collect();
    for key in ["host", "url"] {
        all.extend(section.text(key)?.map(|text| (key, text)));
    }
    Ok(all)
}

fn endpoint(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    if bare.contains("://") {
        return Err(format!("only http is supported yet, not {text}"));
    }
    let address = host_port(bare, Some(2379))?;
    if address.host.is_empty() || address.host.contains(['/', '@', ' ']) {
        return Err(format!("must be host:port, not {text}"));
    }
    format!("http://{address}").parse::<Endpoint>().map(|endpoint| endpoint.to_string())
}
