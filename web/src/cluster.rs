//! The members of a cluster as `/cluster` and `pgherd list` show them.

use crate::status::{self, reasons, tags};
use crate::synchronous::{awaited, standing};
use pgherd_types::node_status::NodeStatus;
use pgherd_types::{Cluster, Instant, Lsn, Member, Role, Schedule, ScheduledRestart, SyncMode, Timeline};
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
    let age_ms = u64::try_from(now.since(*read_at).as_millis()).unwrap_or(u64::MAX);
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
mod tests {
    use super::*;
    use crate::status::tests::{NOW, cluster, replica};
    use pgherd_types::{FailoverKey, HistoryRow, MemberDoc, RestartWish, SyncKey, SyncSeen, WallTime};
    use std::sync::Arc;

    #[test]
    fn the_document_lists_members_by_name() {
        assert_eq!(
            document(&replica(), NOW).unwrap().to_string(),
            concat!(
                r#"{"members":[{"name":"pg1","role":"leader","state":"running","api_url":"http://10.0.0.1:8008/patroni","#,
                r#""host":"10.0.0.1","port":5432,"timeline":2},"#,
                r#"{"name":"pg2","role":"replica","state":"streaming","api_url":"http://10.0.0.2:8008/patroni","#,
                r#""host":"10.0.0.2","port":5432,"timeline":2,"tags":{"clonefrom":true,"zone":"b","weight":1.5},"#,
                r#""receive_lsn":"0/1000032","receive_lag":50,"replay_lsn":"0/1000000","replay_lag":100,"#,
                r#""lsn":"0/1000032","lag":50}],"scope":"demo","pgherd":{"age_ms":250}}"#,
            )
        );
        assert_eq!(document(&NodeStatus::default(), NOW), None);
    }

    #[test]
    fn a_member_that_says_nothing_is_unknown_not_wrong() {
        let mut cluster = cluster();
        cluster.leader = None;
        cluster.members.retain(|name, _| name.as_str() == "pg1");
        cluster.members.values_mut().for_each(|member| member.doc = MemberDoc::default());
        assert_eq!(
            member_json(&members(&cluster, SyncMode::Off)[0]).to_string(),
            concat!(
                r#"{"name":"pg1","role":"replica","state":"","api_url":null,"receive_lsn":"unknown","receive_lag":"unknown","#,
                r#""replay_lsn":"unknown","replay_lag":"unknown","lsn":"unknown","lag":"unknown"}"#
            )
        );
    }

    #[test]
    fn synchronous_standbys_are_told_from_others_and_who_must_return_is_named() {
        let mut status = replica();
        let key = SyncKey {
            leader: Some("gone".into()),
            standbys: ["PG2".into(), "far".into()].into(),
            ..SyncKey::default()
        };
        let mut cluster = Cluster { sync: SyncSeen::Valid(key), ..cluster() };
        let mut shown = |cluster: &Cluster, mode| {
            status.settings.sync.mode = mode;
            status.cluster = Some((Arc::new(cluster.clone()), NOW));
            document(&status, NOW).unwrap()
        };
        for (mode, role) in
            [(SyncMode::On, "sync_standby"), (SyncMode::Quorum, "quorum_standby"), (SyncMode::Off, "replica")]
        {
            let doc = shown(&cluster, mode);
            assert_eq!((&doc["members"][0]["role"], &doc["members"][1]["role"]), (&json!("leader"), &json!(role)));
            assert_eq!(doc["pgherd"], json!({"age_ms": 0}));
        }
        cluster.leader = None;
        assert_eq!(shown(&cluster, SyncMode::On)["pgherd"], json!({"age_ms": 0}), "pg2 may lead");
        cluster.members.remove(&"pg2".into());
        assert_eq!(
            shown(&cluster, SyncMode::On)["pgherd"],
            json!({"age_ms": 0, "waiting_for": ["PG2", "far", "gone"]})
        );
    }

    #[test]
    fn what_is_scheduled_is_told() {
        let mut status = replica();
        let mut cluster = cluster();
        let at = "2030-01-01T00:00:00+00:00";
        let schedule = |text: &str| Some(Schedule::At { at: WallTime(1), text: text.to_owned() });
        let key = FailoverKey { leader: Some("pg1".into()), schedule: schedule(at), ..FailoverKey::default() };
        cluster.failover = Some(key.clone());
        cluster.members.get_mut(&"pg2".into()).unwrap().doc.scheduled_restart = Some(ScheduledRestart {
            at: WallTime(1),
            text: at.to_owned(),
            wish: RestartWish::default(),
            shown: vec![("role".to_owned(), r#""replica""#.to_owned())],
            postmaster_start_time: "2026-11-21 21:00:00+00".to_owned(),
        });
        let mut shown = |cluster: &Cluster| {
            status.cluster = Some((Arc::new(cluster.clone()), NOW));
            document(&status, NOW).unwrap()
        };
        let doc = shown(&cluster);
        assert_eq!(doc["scheduled_switchover"], json!({"at": at, "from": "pg1"}));
        let restart = json!({"schedule": at, "role": "replica", "postmaster_start_time": "2026-11-21 21:00:00+00"});
        assert_eq!(
            (&doc["members"][1]["scheduled_restart"], doc["members"][0].get("scheduled_restart")),
            (&restart, None)
        );
        cluster.failover = Some(FailoverKey { leader: None, candidate: Some("pg2".into()), ..key.clone() });
        assert_eq!(shown(&cluster)["scheduled_switchover"], json!({"at": at, "to": "pg2"}));
        for void in [FailoverKey { schedule: None, ..key.clone() }, FailoverKey { leader: None, ..key }] {
            cluster.failover = Some(void);
            assert!(shown(&cluster).get("scheduled_switchover").is_none());
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_told_with_its_values() {
        let mut cluster = cluster();
        for member in cluster.members.values_mut() {
            let reason = |name: &str, old: &str, new: &str| (name.to_owned(), old.to_owned(), new.to_owned());
            member.doc.pending_restart = true;
            member.doc.pending_restart_reason = vec![reason("max_connections", "100", "80")];
        }
        let told = member_json(&members(&cluster, SyncMode::Off)[0]).to_string();
        let wanted = r#""timeline":2,"pending_restart":true,"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"80"}}"#;
        assert!(told.contains(wanted), "{told}");
    }

    #[test]
    fn history_rows_have_three_to_five_items() {
        let row = |at: Option<&str>, new_leader: Option<&str>| HistoryRow {
            timeline: Timeline(1),
            switch_lsn: Lsn(25),
            reason: "no recovery target specified".into(),
            at: at.map(str::to_owned),
            new_leader: new_leader.map(str::to_owned),
        };
        let history_of = |rows| history(&Cluster { history: rows, ..Cluster::default() }).to_string();
        assert_eq!(history_of(None), "[]");
        assert_eq!(history_of(Some(vec![row(None, None)])), r#"[[1,25,"no recovery target specified"]]"#);
        assert_eq!(
            history_of(Some(vec![row(Some("2026-11-21T22:00:00+00:00"), Some("pg2"))])),
            r#"[[1,25,"no recovery target specified","2026-11-21T22:00:00+00:00","pg2"]]"#
        );
    }
}
