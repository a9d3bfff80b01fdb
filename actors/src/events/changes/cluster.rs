//! What happened to the cluster, as its keys show it.

use super::{Happening, Phases, ms};
use pgherd_types::{Cluster, MemberName, NodeStatus, SyncSeen};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Adds what changed.
pub fn changes(last: &NodeStatus, status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    dcs(last, status, happened);
    let (Some((before, _)), Some((after, _))) = (&last.cluster, &status.cluster) else { return };
    if Arc::ptr_eq(before, after) {
        return;
    }
    went_back(before, after, happened);
    leader(before, after, status, phases, happened);
    members(before, after, happened);
    sync(before, after, status, happened);
    config(before, after, happened);
    manual(before, after, happened);
}

fn dcs(last: &NodeStatus, status: &NodeStatus, happened: &mut Vec<Happening>) {
    match (last.dcs_lost_since, status.dcs_lost_since) {
        (None, Some(since)) => {
            happened.push(Happening::new("dcs.lost", json!({"silent_ms": ms(Some(since), status)})));
        }
        (Some(since), None) => {
            happened.push(Happening::new("dcs.back", json!({"lost_ms": ms(Some(since), status)})));
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
}

/// Revisions only grow, unless the store is another one than before.
fn went_back(before: &Cluster, after: &Cluster, happened: &mut Vec<Happening>) {
    if after.revision < before.revision {
        let data = json!({"from": before.revision, "to": after.revision});
        happened.push(Happening::new("dcs.went_back", data));
    }
}

fn leader(before: &Cluster, after: &Cluster, status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    let name = |cluster: &Cluster| cluster.leader.as_ref().map(|leader| leader.name.clone());
    let (was, is) = (name(before), name(after));
    if was == is {
        return;
    }
    phases.steps.clear();
    if let Some(was) = &was {
        phases.former = Some(was.clone());
        phases.leaderless_at = Some(status.turned_at);
        let asked_for = after.manual().is_some();
        happened.push(Happening::new("leader.lost", json!({"leader": was.as_str(), "asked_for": asked_for})));
    }
    if let Some(is) = is {
        let former = phases.former.take();
        let data = json!({
            "leader": is.as_str(),
            "former": former.as_ref().map(MemberName::as_str),
            "leaderless_ms": ms(phases.leaderless_at, status),
        });
        happened.push(Happening::new("leader.elected", data));
    }
}

fn members(before: &Cluster, after: &Cluster, happened: &mut Vec<Happening>) {
    let state = |cluster: &Cluster, name: &MemberName| {
        let doc = &cluster.members.get(name)?.doc;
        let streams = doc.replication_state.as_deref().filter(|state| !state.is_empty());
        Some(streams.unwrap_or(&doc.state).to_owned())
    };
    for name in before.members.keys().filter(|name| !after.members.contains_key(*name)) {
        happened.push(Happening::new("member.lost", json!({"member": name.as_str()})));
    }
    for (name, member) in &after.members {
        match (state(before, name), state(after, name)) {
            (None, is) => {
                let data = json!({"member": name.as_str(), "state": is, "api_url": member.doc.api_url});
                happened.push(Happening::new("member.joined", data));
            }
            (was, is) if was != is => {
                let data = json!({"member": name.as_str(), "from": was, "to": is});
                happened.push(Happening::new("member.state", data));
            }
            _ => {}
        }
    }
}

fn sync(before: &Cluster, after: &Cluster, status: &NodeStatus, happened: &mut Vec<Happening>) {
    let shown = |seen: &SyncSeen| match seen {
        SyncSeen::Absent => Value::Null,
        SyncSeen::Garbage { .. } => json!("cannot be understood"),
        SyncSeen::Valid(key) => {
            let standbys: Vec<&str> = key.standbys.iter().map(|name| name.as_str()).collect();
            let leader = key.leader.as_ref().map(MemberName::as_str);
            json!({"leader": leader, "quorum": key.quorum, "standbys": standbys})
        }
    };
    let (was, is) = (shown(&before.sync), shown(&after.sync));
    if was != is {
        let mode = format!("{:?}", status.settings.sync_mode()).to_lowercase();
        happened.push(Happening::new("sync.changed", json!({"mode": mode, "from": was, "to": is})));
    }
}

/// Which keys changed, not to what: values may be secrets.
fn config(before: &Cluster, after: &Cluster, happened: &mut Vec<Happening>) {
    if before.config == after.config {
        return;
    }
    let read = |cluster: &Cluster| -> Map<String, Value> {
        let text = cluster.config.as_ref().map_or("", |config| config.text.as_str());
        serde_json::from_str(text).unwrap_or_default()
    };
    let mut keys = Vec::new();
    differing(&read(before), &read(after), "", 3, &mut keys);
    let revision = after.config.as_ref().map(|config| config.mod_revision);
    let valid = after.config.as_ref().is_some_and(|config| config.valid);
    happened.push(Happening::new("config.changed", json!({"revision": revision, "usable": valid, "keys": keys})));
}

fn differing(a: &Map<String, Value>, b: &Map<String, Value>, path: &str, depth: u32, found: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys.into_iter().filter(|key| a.get(*key) != b.get(*key)) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (a.get(key), b.get(key)) {
            (Some(Value::Object(a)), Some(Value::Object(b))) if depth > 1 => differing(a, b, &path, depth - 1, found),
            _ => found.push(path),
        }
    }
}

fn manual(before: &Cluster, after: &Cluster, happened: &mut Vec<Happening>) {
    let shown = |cluster: &Cluster| {
        let key = cluster.manual()?;
        let name = |name: &Option<MemberName>| name.as_ref().map(|name| name.as_str().to_owned());
        let at = match &key.schedule {
            Some(pgherd_types::Schedule::At { text, .. } | pgherd_types::Schedule::Garbage(text)) => Some(text.clone()),
            None => None,
        };
        Some(json!({"from": name(&key.leader), "to": name(&key.candidate), "at": at}))
    };
    match (shown(before), shown(after)) {
        (was, is) if was == is => {}
        (_, Some(is)) => happened.push(Happening::new("switchover.requested", is)),
        (Some(was), None) => happened.push(Happening::new("switchover.over", was)),
        (None, None) => {}
    }
}
