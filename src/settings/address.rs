//! `host:port` texts.

use std::fmt;

/// An address others can connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads `host:port`, `[v6]:port`, `:port`, or `host` alone if there is a default port. The host may be empty.
pub fn host_port(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(format!("{text}: write an IPv6 address as [address]:port"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|p| *p > 0),
        None => default_port,
    };
    match port {
        Some(port) => Ok(HostPort { host: host.to_owned(), port }),
        None => Err(format!("must be host:port with a port between 1 and 65535, not {text}")),
    }
}

/// Does it mean "every address of this machine"? Nobody can connect to that.
pub fn is_wildcard(host: &str) -> bool {
    matches!(host, "" | "*" | "0.0.0.0" | "::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_port() {
        let cases = [
            ("10.0.0.1:5432", None, Some("10.0.0.1:5432")),
            ("[::1]:8008", None, Some("[::1]:8008")),
            (":8008", None, Some(":8008")),
            ("*:8008", None, Some("*:8008")),
            ("db1", Some(5432), Some("db1:5432")),
            ("[::1]", Some(5432), Some("[::1]:5432")),
            ("db1", None, None),
            ("::1:5432", None, None),
            ("db1:0", None, None),
            ("db1:65536", None, None),
            ("db1:x", Some(1), None),
        ];
        for (text, default, expected) in cases {
            assert_eq!(host_port(text, default).ok().map(|a| a.to_string()).as_deref(), expected, "{text}");
        }
    }
}
