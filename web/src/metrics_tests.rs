//! Names, types and values of series.

use super::*;
use crate::status::tests::{NOW, primary, replica, server_of};
use pgherd_types::postgres::SeenSlot;
use pgherd_types::{Lsn, ServerPhase, SyncMode};
use std::time::Duration;

/// Every series that dashboards for Patroni use.
const KNOWN: &[(&str, &str)] = &[
    ("patroni_version", "gauge"),
    ("patroni_postgres_running", "gauge"),
    ("patroni_postmaster_start_time", "gauge"),
    ("patroni_primary", "gauge"),
    ("patroni_standby_leader", "gauge"),
    ("patroni_replica", "gauge"),
    ("patroni_sync_standby", "gauge"),
    ("patroni_quorum_standby", "gauge"),
    ("patroni_xlog_location", "counter"),
    ("patroni_xlog_received_location", "counter"),
    ("patroni_xlog_replayed_location", "counter"),
    ("patroni_xlog_replayed_timestamp", "gauge"),
    ("patroni_xlog_paused", "gauge"),
    ("patroni_postgres_streaming", "gauge"),
    ("patroni_postgres_in_archive_recovery", "gauge"),
    ("patroni_postgres_server_version", "gauge"),
    ("patroni_cluster_unlocked", "gauge"),
    ("patroni_failsafe_mode_is_active", "gauge"),
    ("patroni_failsafe_mode_enabled", "gauge"),
    ("patroni_failsafe_member", "gauge"),
    ("patroni_postgres_timeline", "gauge"),
    ("patroni_dcs_last_seen", "gauge"),
    ("patroni_pending_restart", "gauge"),
    ("patroni_is_paused", "gauge"),
    ("patroni_postgres_state", "gauge"),
    ("patroni_failover_priority", "gauge"),
];

/// The value of a series by its name and labels behind scope and name.
fn value(text: &str, series: &str) -> f64 {
    let (name, more) = series.split_once('{').map_or((series, ""), |(name, more)| (name, more.trim_end_matches('}')));
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && (more.is_empty() || rest.contains(more)))
    });
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_series_that_dashboards_know_are_there() {
    for status in [primary(), replica(), NodeStatus::default()] {
        let text = text(&status, NOW).unwrap();
        for (name, kind) in KNOWN {
            let optional = status.postgres.is_none() && matches!(*kind, "gauge") && name.contains("_postgres_");
            if optional && (name.ends_with("streaming") || name.ends_with("archive_recovery")) {
                continue;
            }
            assert!(text.contains(&format!("\n# TYPE {name} {kind}\n{name}{{")), "{name}\n{text}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        let labels = format!("{{scope=\"{}\",name=\"{}\"", status.scope, status.name);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('{').next().unwrap();
            assert!(name.starts_with("patroni_") || name.starts_with("pgherd_"), "{line}");
            assert!(line[name.len()..].starts_with(&labels), "{line}");
        }
    }
}

#[test]
fn a_primarys_series() {
    let text = text(&primary(), NOW).unwrap();
    for (series, expected) in [
        ("patroni_version", 40_104.0),
        ("patroni_postgres_running", 1.0),
        ("patroni_postmaster_start_time", 1_795_294_800.123_456),
        ("patroni_primary", 1.0),
        ("patroni_replica", 0.0),
        ("patroni_xlog_location", 16_777_316.0),
        ("patroni_xlog_replayed_location", 0.0),
        ("patroni_postgres_server_version", 150_018.0),
        ("patroni_postgres_timeline", 2.0),
        ("patroni_cluster_unlocked", 0.0),
        ("patroni_dcs_last_seen", 1_700_000_000.0),
        ("patroni_postgres_state", 5.0),
        ("patroni_failover_priority", 1.0),
        ("pgherd_leader", 1.0),
        ("pgherd_lease_remaining_seconds", 10.0),
        ("pgherd_cluster_age_seconds", 0.25),
        ("pgherd_turn_age_seconds", 1.0),
        ("pgherd_dcs_lost_seconds", 0.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

#[test]
fn a_replicas_series() {
    let mut status = replica();
    status.tags.nofailover = true;
    status.dcs_lost_since = Some(NOW.minus(Duration::from_millis(1500)));
    let text = text(&status, NOW).unwrap();
    for (series, expected) in [
        ("patroni_primary", 0.0),
        ("patroni_replica", 1.0),
        ("patroni_xlog_location", 0.0),
        ("patroni_xlog_received_location", 16_777_266.0),
        ("patroni_xlog_replayed_location", 16_777_216.0),
        ("patroni_xlog_replayed_timestamp", 1_795_298_400.5),
        ("patroni_postgres_streaming", 1.0),
        ("patroni_postgres_in_archive_recovery", 0.0),
        ("patroni_cluster_unlocked", 1.0),
        ("patroni_failover_priority", 0.0),
        ("pgherd_leader", 0.0),
        ("pgherd_lease_remaining_seconds", 0.0),
        ("pgherd_dcs_lost_seconds", 1.5),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}

#[test]
fn claims_lapse_by_themselves() {
    let status = primary();
    let later = text(&status, NOW + Duration::from_secs(3600)).unwrap();
    assert_eq!(value(&later, "pgherd_leader"), 0.0);
    assert_eq!(value(&later, "patroni_postgres_running"), 0.0);
    assert_eq!(value(&later, "patroni_postgres_state"), -1.0);
    let down = text(&NodeStatus { phase: ServerPhase::Crashed, postgres: None, ..status }, NOW).unwrap();
    assert_eq!(value(&down, "patroni_postgres_state"), 14.0);
}

#[test]
fn counts_times_slots_and_standbys() {
    let mut status = primary();
    status.counts.failovers = 2;
    status.counts.sync_waits_cancelled = 3;
    status.counts.renewals.add(Duration::from_millis(2));
    status.settings.sync.mode = SyncMode::Quorum;
    let slot = |name: &str, physical, restart_lsn| SeenSlot {
        name: name.into(),
        physical,
        active: physical,
        restart_lsn,
        ..SeenSlot::default()
    };
    let server = server_of(&mut status);
    server.slots = vec![slot("pg2", true, Some(Lsn(0x100_0000))), slot("odd\"\\\n", false, None)];
    server.walsenders[0].flushed = Some(Lsn(0x100_0060));
    let text = text(&status, NOW).unwrap();
    for (series, expected) in [
        ("pgherd_failovers_total", 2.0),
        ("pgherd_sync_waits_cancelled_total", 3.0),
        ("pgherd_sync_mode", 2.0),
        ("pgherd_sync_active", 0.0),
        ("pgherd_dcs_seconds_count{request=\"renew\"}", 1.0),
        ("pgherd_dcs_seconds_bucket{request=\"renew\",le=\"0.001\"}", 0.0),
        ("pgherd_dcs_seconds_bucket{request=\"renew\",le=\"0.0025\"}", 1.0),
        ("pgherd_slot_retained_bytes{slot=\"pg2\",type=\"physical\"}", 100.0),
        ("pgherd_slot_active{slot=\"odd\\\"\\\\\\n\",type=\"logical\"}", 0.0),
        ("pgherd_standby_lag_bytes{standby=\"pg2\"}", 4.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
}
