//! The members of a cluster as `/cluster` and `pgherd list` show them.

use crate::status::{self, reasons, tags};
use crate::synchronous::{awaited, standing};
use pgherd_types::node_status::NodeStatus;
use pgherd_types::{Cluster, Instant, Lsn, Member, Role, Schedule, ScheduledRestart, SyncMode, Timeline, millis};
use serde_json::{Map, Value, json};

/// One member, seen from the outside.
#[derive(Clone, PartialEq, Debug)]
pub struct MemberView<'a> {
    /// Its name.
    pub name: &'a str,
    /// `leader`, `standby_leader`, `sync_standby`, `quorum_standby` or `replica`.
    pub role: &'static str,
    /// The leader's state; of others how they replicate, if they do.
    pub state: &'a str,
    /// Its REST address.
    pub api_url: Option<&'a str>,
    /// Host and port of its PostgreSQL.
    pub endpoint: Option<(String, u16)>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// It waits for a restart.
    pub pending_restart: bool,
    /// Of which settings: name, value in force, value wanted.
    pub pending_restart_reason: &'a [(String, String, String)],
    /// It is to restart then.
    pub scheduled_restart: Option<&'a ScheduledRestart>,
    /// Its tags, as JSON texts.
    pub tags: &'a [(String, String)],
    /// Positions and lags, for all but leaders.
    pub behind: Option<Behind>,
}

/// Where a member is, and how far behind the leader's last published position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// Received.
    pub receive: Option<Lsn>,
    /// Replayed.
    pub replay: Option<Lsn>,
    /// The larger of the two.
    pub both: Option<Lsn>,
    /// The leader's position.
    pub leader: Lsn,
}

impl Behind {
    /// Bytes from `position` to the leader's.
    pub fn lag_bytes(&self, position: Option<Lsn>) -> Option<u64> {
        position.map(|position| self.leader.ahead_of(position))
    }
}

/// The members, by name, where that synchronous mode is asked for.
pub fn members(cluster: &Cluster, mode: SyncMode) -> Vec<MemberView<'_>> {
    cluster.members.values().map(|member| view(cluster, mode, member)).collect()
}

fn view<'a>(cluster: &Cluster, mode: SyncMode, member: &'a Member) -> MemberView<'a> {
    let leads = cluster.leader.as_ref().is_some_and(|leader| leader.name == member.name);
    let doc = &member.doc;
    let replication = doc.replication_state.as_deref().filter(|state| !leads && !state.is_empty());
    let behind = Behind {
        receive: doc.receive_lsn,
        replay: doc.replay_lsn,
        both: doc.receive_lsn.max(doc.replay_lsn).or(doc.xlog_location),
        leader: cluster.status.optime,
    };
    MemberView {
        name: member.name.as_str(),
        role: match (leads, doc.role) {
            (true, Some(Role::StandbyLeader)) => "standby_leader",
            (true, _) => "leader",
            (false, _) => standing(cluster, mode, &member.name).unwrap_or("replica"),
        },
        state: if doc.role == Some(Role::StandbyLeader) || !leads {
            replication.unwrap_or(&doc.state)
        } else {
            &doc.state
        },
        api_url: doc.api_url.as_deref(),
        endpoint: doc.endpoint(),
        timeline: doc.timeline,
        pending_restart: doc.pending_restart,
        pending_restart_reason: &doc.pending_restart_reason,
        scheduled_restart: doc.scheduled_restart.as_ref(),
        tags: &doc.tags.shown,
        behind: (!leads).then_some(behind),
    }
}

/// The body of `/cluster`; `None` if the cluster was never read.
pub fn document(status: &NodeStatus, now: Instant) -> Option<Value> {
    let (cluster, read_at) = status.cluster.as_ref()?;
    let (mut doc, mode) = (Map::new(), status.settings.sync_mode());
    doc.insert("members".to_owned(), members(cluster, mode).iter().map(member_json).collect());
    if status.settings.pause {
        doc.insert("pause".to_owned(), true.into());
    }
    if let Some(switchover) = scheduled_switchover(cluster) {
        doc.insert("scheduled_switchover".to_owned(), switchover);
    }
    doc.insert("scope".to_owned(), status.scope.as_str().into());
    let age_ms = millis(now.since(*read_at));
    let mut own = Map::from_iter([("age_ms".to_owned(), age_ms.into())]);
    if let Some(awaited) = awaited(cluster, mode) {
        own.insert("waiting_for".to_owned(), json!(awaited.names()));
    }
    doc.insert("pgherd".to_owned(), own.into());
    Some(Value::Object(doc))
}

/// `at`, and `from` and `to` if they are given.
fn scheduled_switchover(cluster: &Cluster) -> Option<Value> {
    let key = cluster.manual()?;
    let Some(Schedule::At { text, .. }) = &key.schedule else { return None };
    let mut shown = Map::new();
    shown.insert("at".to_owned(), text.as_str().into());
    for (word, name) in [("from", &key.leader), ("to", &key.candidate)] {
        if let Some(name) = name {
            shown.insert(word.to_owned(), name.as_str().into());
        }
    }
    Some(Value::Object(shown))
}

fn member_json(member: &MemberView) -> Value {
    let mut doc = Map::new();
    let mut put = |key: &str, value: Value| {
        doc.insert(key.to_owned(), value);
    };
    put("name", member.name.into());
    put("role", member.role.into());
    put("state", member.state.into());
    put("api_url", member.api_url.into());
    if let Some((host, port)) = &member.endpoint {
        put("host", host.as_str().into());
        put("port", (*port).into());
    }
    if let Some(timeline) = member.timeline {
        put("timeline", timeline.0.into());
    }
    if member.pending_restart {
        put("pending_restart", true.into());
        if !member.pending_restart_reason.is_empty() {
            put("pending_restart_reason", reasons(member.pending_restart_reason));
        }
    }
    if let Some(restart) = member.scheduled_restart {
        let mut shown = status::scheduled_restart(restart);
        shown.insert("postmaster_start_time".to_owned(), restart.postmaster_start_time.as_str().into());
        put("scheduled_restart", Value::Object(shown));
    }
    if !member.tags.is_empty() {
        put("tags", tags(member.tags));
    }
    if let Some(behind) = &member.behind {
        let known = |value: Option<Value>| value.unwrap_or_else(|| "unknown".into());
        let positions = [
            ("receive_lsn", "receive_lag", behind.receive),
            ("replay_lsn", "replay_lag", behind.replay),
            ("lsn", "lag", behind.both),
        ];
        for (lsn_key, lag_key, position) in positions {
            put(lsn_key, known(position.map(|lsn| lsn.to_string().into())));
            put(lag_key, known(behind.lag_bytes(position).map(Value::from)));
        }
    }
    Value::Object(doc)
}

/// The body of `/history`.
pub fn history(cluster: &Cluster) -> Value {
    let row = |row: &pgherd_types::HistoryRow| {
        let mut items = vec![json!(row.timeline), json!(row.switch_lsn), json!(row.reason)];
        if let Some(at) = &row.at {
            items.push(json!(at));
            items.extend(row.new_leader.as_ref().map(|name| json!(name)));
        }
        Value::Array(items)
    };
    cluster.history.iter().flatten().map(row).collect()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
