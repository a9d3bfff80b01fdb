//! Where one member of etcd listens for clients.

use std::fmt;
use std::str::FromStr;

/// `http://host:port` or `https://host:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint(String);

impl Endpoint {
    /// As etcd's members advertise themselves. Addresses that lead a client to itself are no use.
    pub(crate) fn advertised(url: &str) -> Option<Self> {
        url.parse().ok().filter(|endpoint: &Self| !matches!(endpoint.host(), "0.0.0.0" | "[::]"))
    }
    /// Name or address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or(self.0.as_str(), |(_, authority)| authority);
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    }
    /// Is it reached through TLS?
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
    /// Does it lead to this very machine, by its address?
    pub fn is_loopback(&self) -> bool {
        let host = self.host().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `host:port` and `host` are taken as `http`, with 2379 as the default port.
impl FromStr for Endpoint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: awc::http::Uri = url.parse().map_err(|_| format!("etcd endpoint {text:?} is not a URL"))?;
        if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(
                "an etcd endpoint carries user and password in its URL; write them as username and password".into()
            );
        }
        let host = uri.host().filter(|h| !h.is_empty()).ok_or(format!("etcd endpoint {text:?} names no host"))?;
        match uri.scheme_str() {
            Some(scheme @ ("http" | "https")) => {
                Ok(Self(format!("{scheme}://{host}:{}", uri.port_u16().unwrap_or(2379))))
            }
            _ => Err(format!("etcd endpoint {text:?} must begin with http:// or https://")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_completed_or_refused() {
        for (text, url, host) in [
            ("etcd1", "http://etcd1:2379", "etcd1"),
            (" 10.0.0.1:4001 ", "http://10.0.0.1:4001", "10.0.0.1"),
            ("http://[::1]:2379", "http://[::1]:2379", "[::1]"),
            ("http://etcd1/", "http://etcd1:2379", "etcd1"),
            ("https://etcd1", "https://etcd1:2379", "etcd1"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.host()), (url, host));
        }
        for text in ["", "ftp://etcd1:2379", "http://", "http://user:secret@etcd1:2379", "a b"] {
            let refused = text.parse::<Endpoint>().unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn what_leads_to_this_machine_is_known() {
        for (text, is) in [("localhost", true), ("127.0.0.3:1", true), ("[::1]:2", true), ("10.0.0.1", false)] {
            assert_eq!(text.parse::<Endpoint>().unwrap().is_loopback(), is, "{text}");
        }
        assert_eq!(Endpoint::advertised("http://0.0.0.0:2379"), None);
        assert!(Endpoint::advertised("http://10.0.0.1:2379").is_some());
    }
}
