//! `--dcs-url`: `[scheme://][host][:port][/namespace]`.

/// Where the DCS is, instead of what the settings say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DcsUrl {
    /// The section of the settings that it stands for.
    pub section: &'static str,
    /// `host:port`.
    pub host: String,
    /// The namespace, if the URL has one.
    pub namespace: Option<String>,
}

/// Their default ports tell a URL without a scheme apart.
const OTHERS: &[(&str, &str)] = &[("zookeeper", "2181"), ("exhibitor", "8181"), ("consul", "8500")];

/// Reads it. Without a scheme and with a port that is none of the other stores' it is etcd's.
pub fn parse(text: &str) -> Result<DcsUrl, String> {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let (authority, namespace) = rest.split_once('/').map_or((rest, None), |(a, path)| (a, Some(path)));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let by_port = OTHERS.iter().find(|(_, default)| *default == port).map_or("etcd3", |(name, _)| *name);
    let section = match scheme.unwrap_or(by_port) {
        "etcd3" => "etcd3",
        "etcd" => "etcd",
        other if OTHERS.iter().any(|(name, _)| *name == other) => {
            return Err(format!("the store {other} is not supported; use etcd3://"));
        }
        other => return Err(format!("Unknown dcs scheme: {other}")),
    };
    let host = if host.is_empty() { "localhost" } else { host };
    let port = if port.is_empty() { "2379" } else { port };
    port.parse::<u16>().map_err(|_| format!("{text}: {port} is not a port"))?;
    let namespace = namespace.filter(|path| !path.trim_matches('/').is_empty()).map(str::to_owned);
    Ok(DcsUrl { section, host: format!("{host}:{port}"), namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_may_be_left_out() {
        for (text, host, namespace) in [
            ("etcd3://10.0.0.1:2380/db", "10.0.0.1:2380", Some("db")),
            ("etcd3://", "localhost:2379", None),
            ("etcd3:///service/x/", "localhost:2379", Some("service/x/")),
            ("10.0.0.1", "10.0.0.1:2379", None),
            (":2380", "localhost:2380", None),
            ("[::1]:2380/", "[::1]:2380", None),
            ("[::1]", "[::1]:2379", None),
        ] {
            let expected = DcsUrl { section: "etcd3", host: host.to_owned(), namespace: namespace.map(str::to_owned) };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert_eq!(parse("etcd://h:4001").map(|url| (url.section, url.host)), Ok(("etcd", "h:4001".to_owned())));
        for (text, part) in [
            ("x://h", "Unknown dcs scheme: x"),
            ("h:8500", "consul"),
            ("zookeeper://h", "zookeeper"),
            ("etcd3://h:x", "not a port"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
