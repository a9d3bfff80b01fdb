//! The texts of `/cluster` and `/history`.

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
    let key =
        SyncKey { leader: Some("gone".into()), standbys: ["PG2".into(), "far".into()].into(), ..SyncKey::default() };
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
    assert_eq!(shown(&cluster, SyncMode::On)["pgherd"], json!({"age_ms": 0, "waiting_for": ["PG2", "far", "gone"]}));
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
    assert_eq!((&doc["members"][1]["scheduled_restart"], doc["members"][0].get("scheduled_restart")), (&restart, None));
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
