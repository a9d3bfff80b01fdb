//! Role checks: `/primary`, `/replica` and their kin, as a pure function of the published status, the request and the
//! time. What load balancers route by is decided here and nowhere else.

use crate::query::Parameters;
use crate::synchronous;
use pgherd_types::node_status::NodeStatus;
use pgherd_types::{Instant, Lsn, RunningServer, ServerPhase};
use std::time::Duration;

/// The answer to a health check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// 200.
    Healthy,
    /// 503.
    Unhealthy,
    /// 400: a parameter makes no sense. Passing it over would route clients to a server they did not ask for.
    Nonsense(String),
}

/// Is this node what `path` asks for? An unknown path never is.
pub fn check(status: &NodeStatus, path: &str, parameters: &Parameters, now: Instant) -> Verdict {
    let lag_bytes = match parameters.lag_bytes() {
        Ok(lag_bytes) => lag_bytes,
        Err(why) if looks_at_lag(path) => return Verdict::Nonsense(why),
        Err(_) => None,
    };
    let replica = || is_usable_replica(status, parameters, lag_bytes, now) && !leads_standby_cluster(status, now);
    let tagged = || has_tags(status, parameters);
    let healthy = match question(path) {
        Question::Leader => leads(status, now) || is_left_alone(status, now) || is_standby_left_alone(status, now),
        Question::Primary => (leads(status, now) && !is_standby_cluster(status)) || is_left_alone(status, now),
        Question::StandbyLeader => leads_standby_cluster(status, now) || is_standby_left_alone(status, now),
        Question::Replica => replica() && tagged(),
        Question::ReadOnly => (leads(status, now) || replica()) && tagged(),
        Question::Health => is_running(status, now) && tagged(),
        Question::Asynchronous => !is_blind(status) && replica() && standing(status).is_none() && tagged(),
        Question::Synchronous(word) => replica() && standing(status) == Some(word) && tagged(),
        Question::ReadOnlySynchronous(word) => {
            let synchronous = || replica() && standing(status) == Some(word);
            !is_blind(status) && (leads(status, now) || synchronous()) && tagged()
        }
        Question::Unknown => false,
    };
    if healthy { Verdict::Healthy } else { Verdict::Unhealthy }
}

/// What a path asks; of synchronous standbys with the word for the kind that is meant.
enum Question {
    Primary,
    Leader,
    StandbyLeader,
    Replica,
    ReadOnly,
    Health,
    Asynchronous,
    Synchronous(&'static str),
    ReadOnlySynchronous(&'static str),
    Unknown,
}

/// The paths that are checks; others that contain these words are, too.
pub const PATHS: &[&str] = &[
    "",
    "primary",
    "master",
    "read-write",
    "leader",
    "standby-leader",
    "standby_leader",
    "replica",
    "read-only",
    "health",
    "sync",
    "synchronous",
    "quorum",
    "async",
    "asynchronous",
    "read-only-sync",
    "read-only-synchronous",
    "read-only-quorum",
];

/// Is it one?
pub fn is_known(path: &str) -> bool {
    !matches!(question(path), Question::Unknown)
}

/// First by what the path contains, in this order, then by its first segment: so clients have it.
fn question(path: &str) -> Question {
    let contains = |part: &str| path.contains(part);
    let segment = crate::routes::first_segment(path);
    match () {
        () if contains("standby_leader") || contains("standby-leader") => Question::StandbyLeader,
        () if contains("leader") => Question::Leader,
        () if segment.is_empty() || contains("primary") || contains("master") || contains("read-write") => {
            Question::Primary
        }
        () if contains("replica") => Question::Replica,
        () if contains("read-only") && !contains("sync") && !contains("quorum") => Question::ReadOnly,
        () if contains("health") => Question::Health,
        () => match segment {
            "async" | "asynchronous" => Question::Asynchronous,
            "sync" | "synchronous" => Question::Synchronous("sync_standby"),
            "quorum" => Question::Synchronous("quorum_standby"),
            "read-only-sync" | "read-only-synchronous" => Question::ReadOnlySynchronous("sync_standby"),
            "read-only-quorum" => Question::ReadOnlySynchronous("quorum_standby"),
            _ => Question::Unknown,
        },
    }
}

fn looks_at_lag(path: &str) -> bool {
    match question(path) {
        Question::Replica
        | Question::ReadOnly
        | Question::Asynchronous
        | Question::Synchronous(_)
        | Question::ReadOnlySynchronous(_) => true,
        Question::Primary | Question::Leader | Question::StandbyLeader | Question::Health | Question::Unknown => false,
    }
}

/// In maintenance mode a primary that lost sight of the DCS is still the one to go to (spec/rest-api.md 6).
fn is_left_alone(status: &NodeStatus, now: Instant) -> bool {
    let primary = server(status, now).is_some_and(|server| !server.in_recovery);
    status.settings.pause && is_blind(status) && primary
}

/// The same for the leader of a standby cluster, as far as it was known to lead when the DCS was last seen.
fn is_standby_left_alone(status: &NodeStatus, now: Instant) -> bool {
    let led = status.cluster.as_ref().and_then(|(cluster, _)| cluster.leader.as_ref());
    let follows = server(status, now).is_some_and(|server| server.in_recovery);
    let led = led.is_some_and(|leader| leader.name == status.name);
    status.settings.pause && is_blind(status) && is_standby_cluster(status) && follows && led
}

/// Does the cluster follow another one?
fn is_standby_cluster(status: &NodeStatus) -> bool {
    status.settings.standby_cluster.is_some()
}

/// A standby that leads; a primary that is still to step down is none.
fn leads_standby_cluster(status: &NodeStatus, now: Instant) -> bool {
    let primary = server(status, now).is_some_and(|server| !server.in_recovery);
    is_standby_cluster(status) && leads(status, now) && !primary
}

/// May this node say that it leads? The claim lapses by itself.
pub fn leads(status: &NodeStatus, now: Instant) -> bool {
    status.leader_until.is_some_and(|until| now < until)
}

/// No reading of the cluster is valid.
pub fn is_blind(status: &NodeStatus) -> bool {
    status.cluster.is_none() || status.dcs_lost_since.is_some()
}

/// `sync_standby` or `quorum_standby`, as far as the DCS can be seen.
pub fn standing(status: &NodeStatus) -> Option<&'static str> {
    let (cluster, _) = status.cluster.as_ref().filter(|_| !is_blind(status))?;
    synchronous::standing(cluster, status.settings.sync_mode(), &status.name)
}

/// The server as last seen, if that is recent enough to speak of the present.
pub fn server(status: &NodeStatus, now: Instant) -> Option<&RunningServer> {
    let looked = status.postgres.as_ref()?;
    (now.since(looked.looked_at) <= fact_age_max(status)).then(|| looked.running())?
}

/// A monitor that looks every `loop_wait` and is not stuck is never this late.
fn fact_age_max(status: &NodeStatus) -> Duration {
    status.settings.loop_wait * 2 + Duration::from_secs(5)
}

/// The server runs and was seen running lately.
pub fn is_running(status: &NodeStatus, now: Instant) -> bool {
    status.phase == ServerPhase::Running && server(status, now).is_some()
}

fn is_usable_replica(status: &NodeStatus, parameters: &Parameters, lag_bytes: Option<u64>, now: Instant) -> bool {
    let Some(server) = server(status, now) else { return false };
    let wanted_state = parameters.get("replication_state");
    status.phase == ServerPhase::Running
        && server.in_recovery
        && !status.tags.noloadbalance
        && lag_bytes.is_none_or(|max| lag(status, server, server.replayed) <= max)
        && wanted_state.is_none_or(|state| server.replication_state() == Some(state))
}

/// How far `position` is behind the leader's last known position, in bytes; 0 when that is unknown.
pub fn lag(status: &NodeStatus, server: &RunningServer, position: Lsn) -> u64 {
    leader_position(status, server).unwrap_or_default().ahead_of(position)
}

/// The larger of what the cluster's `status` says and what the WAL receiver heard of.
pub fn leader_position(status: &NodeStatus, server: &RunningServer) -> Option<Lsn> {
    let published = status.cluster.as_ref().filter(|_| !is_blind(status)).map(|(cluster, _)| cluster.status.optime);
    published.max(server.latest_end)
}

/// Does the node have every tag asked for? Values that are not text are compared as lower-case text.
fn has_tags(status: &NodeStatus, parameters: &Parameters) -> bool {
    parameters.tags().all(|(name, wanted)| {
        let value = status.tags.shown.iter().find(|(n, _)| n == name).map(|(_, json)| json);
        value.is_some_and(|json| match serde_json::from_str::<String>(json) {
            Ok(text) => text == wanted,
            Err(_) => json.to_lowercase() == wanted,
        })
    })
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
