//! Which versions of etcd will do, and under which path each has its API.

/// The path for a version of the cluster (not of the server: a cluster works as its oldest member). The error says what
/// to do.
pub(super) fn api_for(cluster: &str) -> Result<&'static str, String> {
    let mut numbers = cluster.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(3), Some(3)) => Ok("/v3beta"),
        (Some(3), Some(4..)) | (Some(4..), Some(_)) => Ok("/v3"),
        (Some(_), Some(_)) => Err(format!(
            "etcd {cluster} is too old: it cannot compare a key's lease in a transaction, by which every write here is \
             guarded; upgrade etcd to 3.4 or later (3.3 is the oldest that will do)"
        )),
        _ => Err(format!(
            "etcd's cluster version is {cluster:?}; it has not decided yet, or something else answers there"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_refused_in_words() {
        for (version, api) in
            [("3.3.0", "/v3beta"), ("3.4.0", "/v3"), ("3.5.30", "/v3"), ("3.10.1", "/v3"), ("4.0.0", "/v3")]
        {
            assert_eq!(api_for(version), Ok(api));
        }
        for (version, word) in [
            ("3.2.32", "too old"),
            ("3.0.4", "too old"),
            ("2.3.8", "too old"),
            ("not_decided", "not decided"),
            ("", "not"),
        ] {
            assert!(api_for(version).unwrap_err().contains(word), "{version}");
        }
    }
}
