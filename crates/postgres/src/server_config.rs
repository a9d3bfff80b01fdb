//! The configuration in force: defaults, the dynamic configuration, the local one (spec/postgres-control.md 5.1, 5.2).

use crate::options::PostgresOptions;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Parameters that must be equal on all members: default, and whether a value is acceptable.
type Rule = (&'static str, &'static str, fn(&str) -> bool);

const CONTROLLED: [Rule; 10] = [
    ("hot_standby", "on", is_true),
    ("max_connections", "100", |v| at_least(v, 25)),
    ("max_locks_per_transaction", "64", |v| at_least(v, 32)),
    ("max_prepared_transactions", "0", |v| at_least(v, 0)),
    ("max_replication_slots", "10", |v| at_least(v, 4)),
    ("max_wal_senders", "10", |v| at_least(v, 3)),
    ("max_worker_processes", "8", |v| at_least(v, 2)),
    ("track_commit_timestamp", "off", is_bool),
    ("wal_level", "replica", |v| matches!(v, "replica" | "hot_standby" | "logical")),
    ("wal_log_hints", "on", is_bool),
];

/// What the server shall run with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// Go on the command line, so that `ALTER SYSTEM` cannot change them, and into the file.
    pub controlled: BTreeMap<String, String>,
    /// Go into the file only.
    pub parameters: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`; empty leaves the file alone.
    pub pg_hba: Vec<String>,
    /// Lines of `pg_ident.conf`; empty leaves the file alone.
    pub pg_ident: Vec<String>,
    /// Recovery parameters of the user (`restore_command`, …).
    pub recovery: BTreeMap<String, String>,
    /// Stream through a replication slot.
    pub use_slots: bool,
    /// How long a primary may take to start, and a `pre_promote` script to end.
    pub primary_start_timeout: Duration,
}

impl ServerConfig {
    /// Merges the dynamic configuration (the JSON text of the `config` key) with the local one.
    pub fn merge(options: &PostgresOptions, dynamic: &str) -> Self {
        let dynamic: Value = serde_json::from_str(dynamic).unwrap_or(Value::Null);
        let section = &dynamic["postgresql"];
        let shared = lower_case(text_map(&section["parameters"]));
        let mut parameters = shared.clone();
        parameters.extend(lower_case(options.parameters.clone()));
        parameters.retain(|name, _| !is_controlled(name) && !is_recovery_parameter(name));
        parameters.insert("wal_keep_size".to_owned(), wal_keep_size(&shared));
        let recovery = options.recovery_conf.clone().unwrap_or_else(|| text_map(&section["recovery_conf"]));
        Self {
            controlled: controlled(options, &shared),
            parameters,
            pg_hba: or_shared(&options.pg_hba, &section["pg_hba"]),
            pg_ident: or_shared(&options.pg_ident, &section["pg_ident"]),
            recovery: recovery.into_iter().filter(|(name, _)| is_user_recovery_parameter(name)).collect(),
            use_slots: section["use_slots"].as_bool().unwrap_or(true),
            primary_start_timeout: primary_start_timeout(&dynamic),
        }
    }
}

/// 300 s unless it is set, and where it is zero, which is about what to do after a crash.
fn primary_start_timeout(dynamic: &Value) -> Duration {
    let seconds = |name| match &dynamic[name] {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    };
    let set = seconds("primary_start_timeout").or_else(|| seconds("master_start_timeout"));
    Duration::from_secs(set.filter(|s| *s > 0).unwrap_or(300))
}

fn controlled(options: &PostgresOptions, shared: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let chosen = |(name, default, good): &Rule| {
        let value = shared.get(*name).map_or(*default, String::as_str);
        if !good(value) {
            log::warn!("parameter {name} cannot be '{value}' (dynamic configuration); using {default}");
        }
        let value = if good(value) { value } else { default };
        // The old word for the same level.
        let value = if *name == "wal_level" && value == "hot_standby" { "replica" } else { value };
        ((*name).to_owned(), value.to_owned())
    };
    let mut all: BTreeMap<String, String> = CONTROLLED.iter().map(chosen).collect();
    all.insert("listen_addresses".to_owned(), options.listen_hosts.clone());
    all.insert("port".to_owned(), options.listen_port.to_string());
    all.insert("cluster_name".to_owned(), options.scope.clone());
    all
}

/// `wal_keep_size`, or the older `wal_keep_segments` at 16 MB each.
fn wal_keep_size(shared: &BTreeMap<String, String>) -> String {
    if let Some(size) = shared.get("wal_keep_size") {
        return size.clone();
    }
    let segments = shared.get("wal_keep_segments").and_then(|s| s.parse::<u64>().ok()).filter(|n| *n >= 1);
    format!("{}MB", segments.unwrap_or(8) * 16)
}

fn is_controlled(name: &str) -> bool {
    let fixed = ["listen_addresses", "port", "cluster_name", "wal_keep_segments", "wal_keep_size"];
    fixed.contains(&name) || CONTROLLED.iter().any(|(known, ..)| *known == name)
}

/// Parameters that belong into the recovery section of the file.
pub(crate) fn is_recovery_parameter(name: &str) -> bool {
    matches!(
        name,
        "primary_conninfo"
            | "primary_slot_name"
            | "restore_command"
            | "archive_cleanup_command"
            | "recovery_end_command"
            | "recovery_min_apply_delay"
            | "promote_trigger_file"
    ) || name.starts_with("recovery_target")
}

/// Those of them that the user may set.
pub(crate) fn is_user_recovery_parameter(name: &str) -> bool {
    is_recovery_parameter(name)
        && !name.starts_with("recovery_target")
        && !matches!(name, "primary_conninfo" | "primary_slot_name" | "promote_trigger_file")
}

fn or_shared(local: &[String], shared: &Value) -> Vec<String> {
    if local.is_empty() { lines(shared) } else { local.to_vec() }
}

fn lines(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn text_map(map: &Value) -> BTreeMap<String, String> {
    let text = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Bool(true) => "on".to_owned(),
            Value::Bool(false) => "off".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((name.clone(), value))
    };
    map.as_object().into_iter().flatten().filter_map(text).collect()
}

fn lower_case(map: BTreeMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect()
}

fn at_least(value: &str, minimum: i64) -> bool {
    value.trim().parse::<i64>().is_ok_and(|n| n >= minimum)
}

fn is_true(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "on" | "true" | "yes" | "1")
}

fn is_bool(value: &str) -> bool {
    is_true(value) || matches!(value.to_lowercase().as_str(), "off" | "false" | "no" | "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn merged(local: &[(&str, &str)], dynamic: &str) -> ServerConfig {
        let mut options = PostgresOptions::new("a".into(), "demo", Path::new("/data"));
        options.parameters = local.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ServerConfig::merge(&options, dynamic)
    }

    #[test]
    fn controlled_parameters_come_only_from_the_dynamic_configuration() {
        let local = [("max_connections", "500"), ("Work_Mem", "8MB"), ("port", "1")];
        let config =
            merged(&local, r#"{"postgresql":{"parameters":{"max_connections":200,"work_mem":"4MB","jit":false}}}"#);
        assert_eq!(config.controlled["max_connections"], "200");
        assert_eq!(config.controlled["port"], "5432");
        assert_eq!(config.parameters["work_mem"], "8MB");
        assert_eq!(config.parameters["jit"], "off");
        assert!(!config.parameters.contains_key("port") && !config.parameters.contains_key("max_connections"));
    }

    #[test]
    fn a_bad_controlled_value_becomes_the_default() {
        let bad = r#"{"postgresql":{"parameters":{"max_connections":3,"hot_standby":"off","wal_level":"minimal","wal_log_hints":7}}}"#;
        let config = merged(&[], bad);
        for (name, default) in
            [("max_connections", "100"), ("hot_standby", "on"), ("wal_level", "replica"), ("wal_log_hints", "on")]
        {
            assert_eq!(config.controlled[name], default);
        }
    }

    #[test]
    fn lists_of_the_local_configuration_replace_the_shared_ones() {
        let dynamic = r#"{"postgresql":{"pg_hba":["shared"],"use_slots":false,"parameters":{"wal_keep_segments":10},
            "recovery_conf":{"restore_command":"cp","recovery_target":"immediate"}}}"#;
        let config = merged(&[], dynamic);
        assert_eq!(config.pg_hba, ["shared"]);
        assert!(!config.use_slots);
        assert_eq!(config.parameters["wal_keep_size"], "160MB");
        assert_eq!(config.recovery.keys().collect::<Vec<_>>(), ["restore_command"]);
        assert_eq!(merged(&[], "not json").parameters["wal_keep_size"], "128MB");
    }
}
