//! The status document: the body of every health check and of `/patroni`. Keys and their order are those clients know;
//! everything of our own is under `pgherd`.

use crate::health::{is_blind, server, standing};
use crate::server_time::isoformat;
use crate::slots;
use pgherd_types::node_status::NodeStatus;
use pgherd_types::{
    COMPATIBLE_VERSION, Instant, PRODUCT_VERSION, Role, RunningServer, ScheduledRestart, ServerPhase, millis,
};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Arc;

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// What was made of a status, for as long as it is the one published last.
struct Kept {
    status: Arc<NodeStatus>,
    /// The server was seen lately then.
    seen: bool,
    /// Everything in front of the numbers that move.
    text: String,
}

/// The document as of `now`, as text. Load balancers ask again and again while nothing happens: only the numbers that move are
/// written anew.
pub fn text(status: &Arc<NodeStatus>, now: Instant) -> String {
    KEPT.with_borrow_mut(|kept| {
        let seen = server(status, now).is_some();
        let usable = kept.take().filter(|kept| kept.seen == seen && Arc::ptr_eq(&kept.status, status));
        let kept = kept.insert(usable.unwrap_or_else(|| Kept::new(status, now, seen)));
        let mut text = String::with_capacity(kept.text.len() + MOVING_BYTES);
        text.push_str(&kept.text);
        for (key, ms) in moving(status, now) {
            let _ = write!(text, ",\"{key}\":{ms}");
        }
        text.push_str(ENDS);
        text
    })
}

/// So much room the numbers take at most, with their names and the end.
const MOVING_BYTES: usize = 120;
/// The part of our own is the last, and the numbers that move are the last of it.
const ENDS: &str = "}}";

impl Kept {
    fn new(status: &Arc<NodeStatus>, now: Instant, seen: bool) -> Self {
        let mut text = lasting(status, now).to_string();
        text.truncate(text.len() - ENDS.len());
        Self { status: status.clone(), seen, text }
    }
}

/// The document without the numbers that move. Of `now` only matters whether the server was seen lately.
fn lasting(status: &NodeStatus, now: Instant) -> Value {
    let mut doc = Map::new();
    let server = server(status, now);
    let mut put = |key: &str, value: Value| {
        doc.insert(key.to_owned(), value);
    };
    put("state", state(status, server).into());
    if let Some(server) = server {
        put("postmaster_start_time", isoformat(&server.postmaster_start_time).into());
    }
    put("role", role(status, server).as_str().into());
    if let Some(server) = server {
        put_server(&mut put, status, server);
    }
    put_cluster(&mut put, status);
    if let Some(server) = server.filter(|s| s.pending_restart) {
        put("pending_restart", true.into());
        if !server.pending_restart_reason.is_empty() {
            put("pending_restart_reason", reasons(&server.pending_restart_reason));
        }
    }
    let name = status.name.as_str();
    put("patroni", json!({"version": COMPATIBLE_VERSION, "scope": status.scope, "name": name}));
    if let Some(restart) = &status.scheduled_restart {
        put("scheduled_restart", Value::Object(scheduled_restart(restart)));
    }
    if status.watchdog_failed {
        put("watchdog_failed", true.into());
    }
    put("pgherd", own_part(status));
    Value::Object(doc)
}

/// `unknown` when the server should be running but did not answer lately.
pub fn state(status: &NodeStatus, server: Option<&RunningServer>) -> &'static str {
    if status.phase == ServerPhase::Running && server.is_none() { "unknown" } else { status.phase.as_str() }
}

/// What the server itself says, else the role the agent remembers.
pub fn role(status: &NodeStatus, server: Option<&RunningServer>) -> Role {
    match server {
        Some(server) if !server.in_recovery => Role::Primary,
        Some(_) if status.role == Role::StandbyLeader => Role::StandbyLeader,
        Some(_) => Role::Replica,
        None => status.role,
    }
}

fn put_server(put: &mut impl FnMut(&str, Value), status: &NodeStatus, server: &RunningServer) {
    put("server_version", server.server_version.into());
    put("xlog", xlog(server));
    if let Some(word) = standing(status).filter(|_| server.in_recovery) {
        put(word, true.into());
    }
    put("timeline", server.timeline.or(status.timeline).map_or(Value::Null, |t| t.0.into()));
    if let Some(state) = server.replication_state() {
        put("replication_state", state.into());
    }
    if !server.walsenders.is_empty() {
        put("replication", json!(server.walsenders));
    }
}

fn xlog(server: &RunningServer) -> Value {
    if !server.in_recovery {
        return json!({"location": server.flushed});
    }
    let received = if server.received.is_zero() { server.replayed } else { server.received };
    json!({
        "received_location": received,
        "replayed_location": server.replayed,
        "replayed_timestamp": server.replayed_timestamp.as_deref().map(isoformat),
        "paused": server.replay_paused,
    })
}

fn put_cluster(put: &mut impl FnMut(&str, Value), status: &NodeStatus) {
    if status.settings.pause {
        put("pause", true.into());
    }
    if is_blind(status) || status.cluster.as_ref().is_none_or(|(cluster, _)| cluster.leader.is_none()) {
        put("cluster_unlocked", true.into());
    }
    if status.failsafe_active {
        put("failsafe_mode_is_active", true.into());
    }
    put("dcs_last_seen", (status.dcs_last_seen.0 / 1000).into());
    if !status.tags.shown.is_empty() {
        put("tags", tags(&status.tags.shown));
    }
    if let Some(system_id) = status.system_id {
        put("database_system_identifier", system_id.to_string().into());
    }
}

/// What waits for a restart: `{name: {old_value, new_value}}`.
pub fn reasons(reasons: &[(String, String, String)]) -> Value {
    let change =
        |(name, old, new): &(String, String, String)| (name.clone(), json!({"old_value": old, "new_value": new}));
    Value::Object(reasons.iter().map(change).collect())
}

/// Tags are kept as JSON texts.
pub fn tags(shown: &[(String, String)]) -> Value {
    Value::Object(shown.iter().map(|(name, json)| (name.clone(), value_of(json))).collect())
}

/// When, and on which conditions, as they were asked for.
pub fn scheduled_restart(restart: &ScheduledRestart) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("schedule".to_owned(), restart.text.as_str().into());
    let condition = |(name, json): &(String, String)| (name.clone(), value_of(json));
    shown.extend(restart.shown.iter().map(condition));
    shown
}

/// Values that are kept as JSON texts.
fn value_of(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.to_owned()))
}

/// What only we tell, without the numbers that move.
fn own_part(status: &NodeStatus) -> Value {
    let mut own = Map::new();
    own.insert("version".to_owned(), PRODUCT_VERSION.into());
    own.insert("reason".to_owned(), json!({"id": status.reason.id, "text": status.reason.text}));
    if let Some(operation) = status.operation {
        own.insert("operation".to_owned(), operation.into());
    }
    if let Some(progress) = status.postgres.as_ref().and_then(|postgres| postgres.progress) {
        own.insert("progress".to_owned(), json!(progress));
    }
    own.extend(slots::shown(status));
    Value::Object(own)
}

/// Ages and what is left in milliseconds; peers use `looked_ms_ago` to know how old the positions in the document are.
fn moving(status: &NodeStatus, now: Instant) -> impl Iterator<Item = (&'static str, u64)> {
    let looked = status.postgres.as_ref().map(|looked| ("looked_ms_ago", millis(now.since(looked.looked_at))));
    let until = status.leader_until.filter(|until| now < *until);
    let lost = status.dcs_lost_since.map(|since| ("dcs_lost_ms", millis(now.since(since))));
    [looked, until.map(|until| ("leader_for_ms", millis(now.until(until)))), lost].into_iter().flatten()
}

#[cfg(test)]
#[path = "status_tests.rs"]
pub(crate) mod tests;
