//! The series of spec/rest-api.md 13. Counters of positions have no `_total`: dashboards know them so.

use super::page::Page;
use crate::health::{is_blind, server, standing};
use crate::server_time::isoformat;
use crate::status;
use pgherd_types::{COMPATIBLE_VERSION, Instant, NodeStatus, Role, RunningServer, ServerPhase};

/// The texts of the states, by number; -1 is none of them.
const STATES: &str = "Values: -1=unknown, 0=initializing new cluster, 1=initdb failed, 2=running custom bootstrap script, \
     3=custom bootstrap failed, 4=creating replica, 5=running, 6=starting, 7=starting after custom bootstrap, \
     8=start failed, 9=restarting, 10=restart failed, 11=stopping, 12=stopped, 13=stop failed, 14=crashed";

/// Adds them.
pub fn put(page: &mut Page, status: &NodeStatus, now: Instant) {
    let server = server(status, now);
    page.gauge("patroni_version", "Patroni version, to which the behaviour is compatible.", version());
    put_server(page, status, server, now);
    put_cluster(page, status, server);
    page.gauge("patroni_postgres_state", &format!("State of PostgreSQL. {STATES}"), state(status, server));
    page.gauge(
        "patroni_failover_priority",
        "Failover priority: the tag, 0 if the node must not lead.",
        f64::from(status.tags.priority()),
    );
}

fn put_server(page: &mut Page, status: &NodeStatus, server: Option<&RunningServer>, now: Instant) {
    let (role, standby) = (status::role(status, server), server.filter(|server| server.in_recovery));
    let primary = server.filter(|server| !server.in_recovery);
    let position = |lsn: Option<pgherd_types::Lsn>| lsn.map_or(0, |lsn| lsn.0);
    let running = crate::health::is_running(status, now);
    page.flag("patroni_postgres_running", "Value is 1 if PostgreSQL is running, 0 otherwise.", running);
    let started = server.map(|server| epoch(&server.postmaster_start_time));
    page.gauge("patroni_postmaster_start_time", "Epoch seconds since PostgreSQL started.", started.unwrap_or(0.0));
    page.flag("patroni_primary", "Value is 1 if this node is the primary, 0 otherwise.", role == Role::Primary);
    let location = position(primary.map(|server| server.flushed));
    page.counter("patroni_xlog_location", "Position of the WAL of the primary in bytes, 0 on a replica.", location);
    let leads_standbys = role == Role::StandbyLeader;
    page.flag("patroni_standby_leader", "Value is 1 if this node leads a standby cluster.", leads_standbys);
    page.flag("patroni_replica", "Value is 1 if this node is a replica, 0 otherwise.", role == Role::Replica);
    for (name, help, word) in [
        ("patroni_sync_standby", "Value is 1 if this node is a synchronous standby.", "sync_standby"),
        ("patroni_quorum_standby", "Value is 1 if this node is a quorum standby.", "quorum_standby"),
    ] {
        page.flag(name, help, standby.is_some() && standing(status) == Some(word));
    }
    let received = standby.map(|server| if server.received.is_zero() { server.replayed } else { server.received });
    let help = "Position of the WAL received, in bytes, 0 on the primary.";
    page.counter("patroni_xlog_received_location", help, position(received));
    let replayed = position(standby.map(|server| server.replayed));
    page.counter("patroni_xlog_replayed_location", "Position replayed, in bytes, 0 on the primary.", replayed);
    let replayed_at = standby.and_then(|server| server.replayed_timestamp.as_deref()).map_or(0.0, epoch);
    page.gauge("patroni_xlog_replayed_timestamp", "Epoch seconds of the last replayed commit, 0 if none.", replayed_at);
    let paused = standby.is_some_and(|server| server.replay_paused);
    page.flag("patroni_xlog_paused", "Value is 1 if replay is paused, 0 otherwise.", paused);
    if let Some(server) = server {
        let is = |state| server.replication_state() == Some(state);
        page.flag("patroni_postgres_streaming", "Value is 1 if PostgreSQL streams.", is("streaming"));
        let help = "Value is 1 if PostgreSQL recovers from an archive.";
        page.flag("patroni_postgres_in_archive_recovery", help, is("in archive recovery"));
    }
    let version = server.map_or(0, |server| server.server_version);
    page.gauge("patroni_postgres_server_version", "Version of PostgreSQL, 0 if not known.", f64::from(version));
}

fn put_cluster(page: &mut Page, status: &NodeStatus, server: Option<&RunningServer>) {
    let cluster = status.cluster.as_ref().map(|(cluster, _)| cluster);
    let unlocked = is_blind(status) || cluster.is_none_or(|cluster| cluster.leader.is_none());
    page.flag("patroni_cluster_unlocked", "Value is 1 if nobody is known to lead the cluster.", unlocked);
    let help = "Value is 1 while the primary goes on without the DCS by agreement.";
    page.flag("patroni_failsafe_mode_is_active", help, status.failsafe_active);
    page.flag("patroni_failsafe_mode_enabled", "Value is 1 if failsafe_mode is on.", status.settings.failsafe_mode);
    let topology = cluster.and_then(|cluster| cluster.failsafe.as_ref()).filter(|_| status.settings.failsafe_mode);
    let member = topology.is_some_and(|members| members.contains_key(&status.name));
    page.flag("patroni_failsafe_member", "Value is 1 if this node is in the failsafe topology.", member);
    let timeline = server.and_then(|server| server.timeline).or(status.timeline).map_or(0, |timeline| timeline.0);
    page.gauge("patroni_postgres_timeline", "Timeline of this node, 0 if not known.", f64::from(timeline));
    let seen = status.dcs_last_seen.0 / 1000;
    page.gauge("patroni_dcs_last_seen", "Epoch seconds of the last good reading from the DCS.", seen as f64);
    let pending = server.is_some_and(|server| server.pending_restart);
    page.flag("patroni_pending_restart", "Value is 1 if a setting waits for a restart.", pending);
    page.flag("patroni_is_paused", "Value is 1 in maintenance mode.", status.settings.pause);
}

/// `4.1.4` as 40104.
fn version() -> f64 {
    let parts = COMPATIBLE_VERSION.split('.').map(|part| part.parse().unwrap_or(0));
    parts.fold(0, |number: u32, part: u32| number * 100 + part).into()
}

/// Seconds since 1970 of PostgreSQL's text; 0 if it is none.
fn epoch(text: &str) -> f64 {
    let at: Option<jiff::Timestamp> = isoformat(text).parse().ok();
    at.map_or(0.0, |at| at.as_microsecond() as f64 / 1e6)
}

fn state(status: &NodeStatus, server: Option<&RunningServer>) -> f64 {
    let number: i8 = match status.phase {
        ServerPhase::Running if server.is_none() => -1,
        ServerPhase::InitializingNewCluster => 0,
        ServerPhase::InitdbFailed => 1,
        ServerPhase::RunningCustomBootstrap => 2,
        ServerPhase::CustomBootstrapFailed => 3,
        ServerPhase::CreatingReplica => 4,
        ServerPhase::Running => 5,
        ServerPhase::Starting => 6,
        ServerPhase::StartFailed => 8,
        ServerPhase::Restarting => 9,
        ServerPhase::RestartFailed => 10,
        ServerPhase::Stopping => 11,
        ServerPhase::Stopped => 12,
        ServerPhase::StopFailed => 13,
        ServerPhase::Crashed => 14,
    };
    number.into()
}
