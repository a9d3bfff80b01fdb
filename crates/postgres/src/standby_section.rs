//! The section `standby_cluster` of the dynamic configuration (spec/bootstrap-and-replicas.md 5): it makes the leader a
//! standby of another cluster's primary.

use pgherd_types::StandbyCluster;
use serde_json::Value;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 5432;

/// The section, with what only PostgreSQL's configuration needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbySection {
    /// Whom the leader follows.
    pub remote: StandbyCluster,
    /// The slot it uses there; it must exist. None: it streams without a slot.
    pub slot: Option<String>,
    /// Counts over the user's recovery parameters on every node.
    pub restore_command: Option<String>,
    /// The same.
    pub archive_cleanup_command: Option<String>,
    /// For the leader only.
    pub recovery_min_apply_delay: Option<String>,
    /// How every node of this cluster is copied.
    pub create_replica_methods: Vec<String>,
}

impl StandbySection {
    /// Reads the section of a dynamic configuration; `Ok(None)` if there is none, or one that says nothing.
    pub fn read(dynamic: &Value) -> Result<Option<Self>, String> {
        let Some(section) = dynamic.get("standby_cluster").filter(|section| !section.is_null()) else {
            return Ok(None);
        };
        if !section.is_object() {
            return Err("standby_cluster must be a map".to_owned());
        }
        let text = |key: &str| match &section[key] {
            Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let (host, port, restore_command) = (text("host"), text("port"), text("restore_command"));
        if host.is_none() && port.is_none() && restore_command.is_none() {
            return Ok(None);
        }
        let number = match &port {
            Some(port) => port.parse().map_err(|_| format!("standby_cluster.port is no port: {port}"))?,
            None => DEFAULT_PORT,
        };
        let host = host.or_else(|| port.map(|_| DEFAULT_HOST.to_owned()));
        Ok(Some(Self {
            remote: StandbyCluster { host, port: number },
            slot: text("primary_slot_name"),
            restore_command,
            archive_cleanup_command: text("archive_cleanup_command"),
            recovery_min_apply_delay: text("recovery_min_apply_delay"),
            create_replica_methods: method_names(section),
        }))
    }

    /// Is this the remote primary?
    pub(crate) fn is_remote(&self, host: &str, port: u16) -> bool {
        self.remote.host.as_deref() == Some(host) && self.remote.port == port
    }
}

/// `create_replica_methods` (or its old name) of a section.
pub(crate) fn method_names(section: &Value) -> Vec<String> {
    let list = ["create_replica_methods", "create_replica_method"].into_iter().find_map(|key| section.get(key));
    list.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(section: Value) -> Result<Option<StandbySection>, String> {
        StandbySection::read(&json!({"standby_cluster": section}))
    }

    #[test]
    fn one_of_three_keys_makes_a_standby_cluster() {
        for nothing in [json!(null), json!({}), json!({"host": "", "primary_slot_name": "s"})] {
            assert_eq!(read(nothing), Ok(None));
        }
        let it = |section| read(section).unwrap().unwrap();
        let remote = it(json!({"host": "h1,h2", "port": "5433", "primary_slot_name": "s"}));
        assert_eq!(remote.remote, StandbyCluster { host: Some("h1,h2".into()), port: 5433 });
        assert_eq!(remote.slot.as_deref(), Some("s"));
        assert!(remote.is_remote("h1,h2", 5433) && !remote.is_remote("h1", 5433));
        assert_eq!(it(json!({"port": 6000})).remote, StandbyCluster { host: Some("localhost".into()), port: 6000 });
        let archive = it(json!({"restore_command": "cp /a/%f %p", "recovery_min_apply_delay": "1h"}));
        assert_eq!(archive.remote.upstream(), None);
        assert_eq!(archive.recovery_min_apply_delay.as_deref(), Some("1h"));
    }

    #[test]
    fn nonsense_is_an_error_and_not_another_kind_of_cluster() {
        assert!(read(json!("yes")).is_err());
        assert!(read(json!({"host": "h", "port": "many"})).is_err());
    }
}
