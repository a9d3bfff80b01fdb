//! The parameters that must be equal on all members: they come from the dynamic configuration only, and go on the
//! command line, so that `ALTER SYSTEM` cannot change them (spec/postgres-control.md 5.2).

use crate::options::PostgresOptions;
use crate::units;
use std::collections::BTreeMap;

/// Parameters that must be equal on all members: default, and whether a value is acceptable.
type Rule = (&'static str, &'static str, fn(&str) -> bool);

/// PostgreSQL counts its processes in 18 bits.
const PROCESSES_MAX: i64 = 0x3_FFFF;
/// The smallest `wal_keep_size`, one segment.
const WAL_KEEP_MIN_MB: f64 = 16.0;
const WAL_KEEP_DEFAULT: &str = "128MB";

const RULES: [Rule; 10] = [
    ("hot_standby", "on", is_true),
    ("max_connections", "100", |v| within(v, 25, PROCESSES_MAX)),
    ("max_locks_per_transaction", "64", |v| within(v, 32, i64::from(i32::MAX))),
    ("max_prepared_transactions", "0", |v| within(v, 0, PROCESSES_MAX)),
    ("max_replication_slots", "10", |v| within(v, 4, PROCESSES_MAX)),
    ("max_wal_senders", "10", |v| within(v, 3, PROCESSES_MAX)),
    ("max_worker_processes", "8", |v| within(v, 2, PROCESSES_MAX)),
    ("track_commit_timestamp", "off", is_bool),
    ("wal_level", "replica", |v| matches!(v, "replica" | "hot_standby" | "logical")),
    ("wal_log_hints", "on", is_bool),
];

/// Their values in force for the shared parameters of the dynamic configuration.
pub(crate) fn controlled(options: &PostgresOptions, shared: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let chosen = |(name, default, good): &Rule| {
        let value = shared.get(*name).map_or(*default, |value| value.trim());
        if !good(value) {
            log::warn!("parameter {name} cannot be '{value}' (dynamic configuration); using {default}");
        }
        let value = if good(value) { value } else { default };
        ((*name).to_owned(), canonical(value))
    };
    let mut all: BTreeMap<String, String> = RULES.iter().map(chosen).collect();
    all.insert("listen_addresses".to_owned(), options.listen_hosts.clone());
    all.insert("port".to_owned(), options.listen_port.to_string());
    all.insert("cluster_name".to_owned(), options.scope.clone());
    all
}

/// As the server shows it.
fn canonical(value: &str) -> String {
    match value.to_lowercase().as_str() {
        // The old word for the same level.
        "hot_standby" => "replica".to_owned(),
        "true" | "yes" => "on".to_owned(),
        "false" | "no" => "off".to_owned(),
        _ => value.to_owned(),
    }
}

/// `wal_keep_size`, or the older `wal_keep_segments` at 16 MB each.
pub(crate) fn wal_keep_size(shared: &BTreeMap<String, String>) -> String {
    let enough = |size: &&String| units::parse(size, "MB").is_some_and(|mb| mb >= WAL_KEEP_MIN_MB);
    if let Some(size) = shared.get("wal_keep_size") {
        return match Some(size).filter(enough) {
            Some(size) => size.clone(),
            None => {
                log::warn!(
                    "parameter wal_keep_size cannot be '{size}' (dynamic configuration); using {WAL_KEEP_DEFAULT}"
                );
                WAL_KEEP_DEFAULT.to_owned()
            }
        };
    }
    let segments = shared.get("wal_keep_segments").and_then(|s| s.trim().parse::<u64>().ok()).filter(|n| *n >= 1);
    segments.map_or_else(|| WAL_KEEP_DEFAULT.to_owned(), |n| format!("{}MB", n.saturating_mul(16)))
}

/// The same for a server older than 13, rounded up.
pub(crate) fn wal_keep_segments(size: &str) -> String {
    let mb = units::parse(size, "MB").unwrap_or(128.0);
    format!("{:.0}", (mb / 16.0).ceil())
}

/// May this name only be set in the dynamic configuration, or not at all?
pub(crate) fn is_controlled(name: &str) -> bool {
    let fixed = ["listen_addresses", "port", "cluster_name", "wal_keep_segments", "wal_keep_size"];
    fixed.contains(&name) || RULES.iter().any(|(known, ..)| *known == name)
}

fn within(value: &str, min: i64, max: i64) -> bool {
    value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n))
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

    #[test]
    fn wal_to_keep_is_a_size_or_a_number_of_segments() {
        let of = |name: &str, value: &str| wal_keep_size(&[(name.to_owned(), value.to_owned())].into());
        for (name, value, size) in [
            ("wal_keep_size", "1GB", "1GB"),
            ("wal_keep_size", "32", "32"),
            ("wal_keep_size", "1MB", "128MB"),
            ("wal_keep_size", "much", "128MB"),
            ("wal_keep_segments", "10", "160MB"),
            ("wal_keep_segments", "0", "128MB"),
        ] {
            assert_eq!(of(name, value), size, "{name} = {value}");
        }
        assert_eq!((wal_keep_segments("160MB"), wal_keep_segments("17")), ("10".to_owned(), "2".to_owned()));
    }
}
