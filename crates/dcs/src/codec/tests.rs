//! What is written, to the byte; what is read, whatever stands there.

use super::*;
use crate::Layout;
use pgherd_types::{
    Cluster, FailoverKey, HistoryRow, Initialize, LeaseId, Lsn, MemberDoc, RestartFilter, RestartWish, Role, Schedule,
    ScheduledRestart, StatusKey, SystemId, Tags, Timeline, WallTime,
};

fn kv(name: &str, value: impl AsRef<[u8]>) -> KeyValue {
    let key = format!("/service/main/{name}").into_bytes();
    KeyValue { key, value: value.as_ref().to_vec(), create_revision: 3, mod_revision: 7, lease: None }
}

fn read(keys: &[KeyValue]) -> (Cluster, Vec<Complaint>) {
    cluster(&Layout::new("service", "main", "a".into()), 9, keys)
}

fn clean(name: &str, value: &str) -> Cluster {
    let (cluster, complaints) = read(&[kv(name, value)]);
    assert_eq!(complaints, [], "{name} = {value}");
    cluster
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn full_member() -> MemberDoc {
    MemberDoc {
        conn_url: Some("postgres://10.0.0.1:5432/postgres".into()),
        api_url: Some("http://10.0.0.1:8008/patroni".into()),
        proxy_url: Some("postgres://10.0.0.9:6432/postgres".into()),
        state: "running".into(),
        role: Some(Role::Replica),
        version: Some("4.1.4".into()),
        pgherd: Some("0.1.0".into()),
        tags: Tags {
            nofailover: true,
            shown: vec![("nofailover".into(), "true".into()), ("zone".into(), r#""x y""#.into())],
            ..Tags::default()
        },
        xlog_location: Some(Lsn(67_109_040)),
        receive_lsn: Some(Lsn(67_109_040)),
        replay_lsn: Some(Lsn(67_109_000)),
        replication_state: Some("streaming".into()),
        timeline: Some(Timeline(3)),
        pending_restart: true,
        pending_restart_reason: vec![("max_connections".into(), "100".into(), "80".into())],
        scheduled_restart: Some(ScheduledRestart {
            at: WallTime(1_893_499_200_000),
            text: "2030-01-01T12:00:00+00:00".into(),
            wish: RestartWish {
                filter: RestartFilter { pending_only: true, ..RestartFilter::default() },
                timeout: None,
            },
            shown: vec![("restart_pending".into(), "true".into())],
            postmaster_start_time: "2026-01-01 00:00:00+00".into(),
        }),
        pause: true,
        checkpoint_pending: true,
        trouble: Some("rewind failed".into()),
        sync_names: Some("pg2".into()),
    }
}

#[test]
fn a_member_document_to_the_byte_and_back() {
    let expected = concat!(
        r#"{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","#,
        r#""state":"running","role":"replica","version":"4.1.4","proxy_url":"postgres://10.0.0.9:6432/postgres","#,
        r#""checkpoint_after_promote":false,"tags":{"nofailover":true,"zone":"x y"},"#,
        r#""pending_restart":true,"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"80"}},"#,
        r#""xlog_location":67109040,"receive_lsn":67109040,"replay_lsn":67109000,"#,
        r#""replication_state":"streaming","timeline":3,"scheduled_restart":{"schedule":"2030-01-01T12:00:00+00:00","#,
        r#""restart_pending":true,"postmaster_start_time":"2026-01-01 00:00:00+00"},"pause":true,"pgherd":"0.1.0","pgherd_reason":"rewind failed","pgherd_sync_names":"pg2"}"#
    );
    assert_eq!(text(encode_member(&full_member())), expected);
    assert_eq!(clean("members/a", expected).members[&"a".into()].doc, full_member());
}

#[test]
fn what_a_member_does_not_have_is_left_out() {
    let doc = MemberDoc { state: "stopped".into(), receive_lsn: Some(Lsn(0)), ..MemberDoc::default() };
    assert_eq!(text(encode_member(&doc)), r#"{"state":"stopped"}"#);
}

#[test]
fn members_of_patroni_and_of_old_times_are_read() {
    let patroni = r#"{"conn_url": "postgres://b:5432/postgres", "state": "running", "role": "master", "xlog_location": 5,
        "tags": {"nofailover": "true", "clonefrom": false, "failover_priority": "3", "replicatefrom": "c"},
        "timeline": 2, "proxy_url": "postgres://p", "checkpoint_after_promote": false, "unknown": [null]}"#;
    let doc = clean("members/b", patroni).members[&"b".into()].doc.clone();
    assert_eq!((doc.role, doc.timeline, doc.pgherd), (Some(Role::Primary), Some(Timeline(2)), None));
    assert!(doc.tags.nofailover && !doc.tags.clonefrom);
    assert_eq!((doc.tags.failover_priority, doc.tags.replicatefrom.as_deref()), (Some(3), Some("c")));
    let old = clean("members/b", "postgres://b:5432/postgres?application_name=http://b:8008/patroni");
    let doc = &old.members[&"b".into()].doc;
    assert_eq!(doc.conn_url.as_deref(), Some("postgres://b:5432/postgres"));
    assert_eq!(doc.api_url.as_deref(), Some("http://b:8008/patroni"));
}

#[test]
fn only_direct_children_are_members() {
    let (cluster, complaints) = read(&[kv("members/a/b", "x"), kv("members/", "x"), kv("other", "x"), kv("", "x")]);
    assert!(cluster.members.is_empty() && complaints.is_empty());
}

#[test]
fn a_broken_field_costs_only_itself() {
    let value = r#"{"state":"running","role":"boss","xlog_location":-5,"timeline":"x","tags":[],"api_url":7}"#;
    let (cluster, complaints) = read(&[kv("members/a", value)]);
    let doc = &cluster.members[&"a".into()].doc;
    assert_eq!((doc.state.as_str(), doc.role, doc.xlog_location), ("running", None, None));
    assert_eq!(complaints.len(), 1);
    for field in ["role", "xlog_location", "timeline", "tags", "api_url"] {
        assert!(complaints[0].what.contains(field), "{complaints:?}");
    }
}

#[test]
fn status_to_the_byte_and_back() {
    let full = StatusKey {
        optime: Lsn(67_109_040),
        slots: [("a".to_owned(), Lsn(5)), ("b".to_owned(), Lsn(6))].into(),
        retain_slots: vec!["b".into(), "a".into()],
    };
    let expected = r#"{"optime":67109040,"slots":{"a":5,"b":6},"retain_slots":["a","b"]}"#;
    assert_eq!(text(encode_status(&full)), expected);
    assert_eq!(clean("status", expected).status.slots, full.slots);
    assert_eq!(text(encode_status(&StatusKey { optime: Lsn(5), ..StatusKey::default() })), r#"{"optime":5}"#);
    assert_eq!(clean("status", "67109040").status.optime, Lsn(67_109_040));
    let wrapped = r#"{"optime":"7","slots":"{\"a\": 5}","retain_slots":"[\"x\"]"}"#;
    let status = clean("status", wrapped).status;
    assert_eq!((status.optime, status.slots["a"], status.retain_slots), (Lsn(7), Lsn(5), vec!["x".to_owned()]));
    assert_eq!(clean("status", r#"{"optime":7,"slots":null}"#).status.optime, Lsn(7));
}

#[test]
fn whose_word_the_status_is_shows_by_revisions() {
    let status = |mod_revision| KeyValue { mod_revision, ..kv("status", r#"{"optime":5}"#) };
    let leader = KeyValue { create_revision: 7, mod_revision: 9, ..kv("leader", "a") };
    for (written, expected) in [(6, false), (8, true)] {
        assert_eq!(read(&[leader.clone(), status(written)]).0.status_is_leaders, expected, "{written}");
    }
    assert!(!read(&[status(8)]).0.status_is_leaders, "nobody leads");
}

#[test]
fn status_wins_over_the_key_of_old_versions() {
    assert_eq!(clean("optime/leader", "67").status.optime, Lsn(67));
    let (cluster, _) = read(&[kv("optime/leader", "67"), kv("status", r#"{"optime":99}"#)]);
    assert_eq!(cluster.status.optime, Lsn(99));
}

#[test]
fn history_to_the_byte_and_back() {
    let rows = vec![
        HistoryRow {
            timeline: Timeline(1),
            switch_lsn: Lsn(67_109_040),
            reason: "no recovery target specified".into(),
            at: Some("2026-01-02T03:04:05.678901+00:00".into()),
            new_leader: Some("a".into()),
        },
        HistoryRow { timeline: Timeline(2), switch_lsn: Lsn(7), reason: "x".into(), at: None, new_leader: None },
    ];
    let expected = concat!(
        r#"[[1,67109040,"no recovery target specified","2026-01-02T03:04:05.678901+00:00","a"],"#,
        r#"[2,7,"x"]]"#
    );
    assert_eq!(text(encode_history(&rows)), expected);
    assert_eq!(clean("history", expected).history, Some(rows));
    assert_eq!(clean("history", "[]").history, Some(Vec::new()));
    assert_eq!(text(encode_history(&[])), "[]");
}

#[test]
fn the_small_keys() {
    assert_eq!(clean("initialize", "").initialize, Some(Initialize::InProgress { lease: None }));
    let id = Some(Initialize::Done(SystemId(7_123_456_789_012_345_678)));
    assert_eq!(clean("initialize", "7123456789012345678").initialize, id);
    assert_eq!(clean("timeline", "12").timeline_reserved, Some(Timeline(12)));
    let config = clean("config", r#"{ "ttl": 30 }"#).config.unwrap();
    assert_eq!((config.text.as_str(), config.valid, config.mod_revision), (r#"{ "ttl": 30 }"#, true, 7));
    let leader = KeyValue { lease: Some(LeaseId(5)), ..kv("leader", "a") };
    assert_eq!(read(&[leader]).0.leader.unwrap().lease, Some(LeaseId(5)));
}

#[test]
fn garbage_of_any_kind_is_survived_and_named() {
    let deep = "[".repeat(100_000);
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let values: Vec<Vec<u8>> = [
        "nonsense",
        "{",
        "[1,",
        "null",
        "true",
        "\"text\"",
        "[[]]",
        "[1]",
        "[[0,1,\"x\"]]",
        "[[99999999999,1,\"x\"]]",
        "1e999",
        "-1",
        "0",
        "99999999999999999999999999",
        "{\"optime\":1e999}",
        "\u{0}",
        " ",
        &deep,
        &deep_object,
        &large,
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .chain([vec![0xff, 0xfe], vec![b'"', 0xff, b'"'], vec![0; 1 << 20]])
    .collect();
    for value in &values {
        let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        let complained_about = |name: &str| {
            let (cluster, complaints) = read(&[kv(name, value)]);
            assert!(complaints.iter().all(|c| c.what.len() < 1000 && c.mod_revision == 7), "{name}: {complaints:?}");
            (cluster, complaints.len())
        };
        let (cluster, complaints) = complained_about("members/x");
        assert_eq!((&cluster.members[&"x".into()].doc, complaints), (&MemberDoc::default(), 1), "{shown}");
        let (cluster, complaints) = complained_about("config");
        let config = cluster.config.unwrap();
        // The objects among them are valid configurations as far as this crate can tell.
        assert_eq!(complaints, usize::from(!config.valid), "{shown}");
        let (cluster, complaints) = complained_about("history");
        assert_eq!((cluster.history, complaints), (None, 1), "{shown}");
        let (cluster, complaints) = complained_about("initialize");
        assert_eq!((cluster.initialize, complaints), (Some(Initialize::Garbage), 1), "{shown}");
        let (cluster, complaints) = complained_about("timeline");
        assert_eq!((cluster.timeline_reserved, complaints), (None, 1), "{shown}");
        let (cluster, complaints) = complained_about("status");
        assert!(cluster.status == StatusKey::default(), "{shown}");
        assert!(complaints == 1 || value == b"0", "{shown}");
        let (cluster, _) = complained_about("leader");
        assert!(cluster.leader.is_some(), "whatever it says, it is taken: {shown}");
    }
}

#[test]
fn damaged_documents_never_panic() {
    let originals = [
        ("members/a", encode_member(&full_member())),
        ("status", br#"{"optime":67109040,"slots":{"a":5,"b":6},"retain_slots":["a","b"]}"#.to_vec()),
        ("history", br#"[[1,67109040,"no recovery target specified","2026-01-02T03:04:05+00:00","a"]]"#.to_vec()),
    ];
    for (name, original) in &originals {
        for position in 0..original.len() {
            for byte in [0, b'"', b'{', b'[', b'-', b'9', b'\\', 0xff] {
                let mut damaged = original.clone();
                damaged[position] = byte;
                read(&[kv(name, &damaged)]);
                read(&[kv(name, &original[..position])]);
            }
        }
    }
}

#[test]
fn a_request_for_a_switchover_in_every_form() {
    let of = |value: &str| {
        let (cluster, complaints) = read(&[kv("failover", value)]);
        (cluster.failover.unwrap(), complaints.len())
    };
    let asked = |leader: &str, candidate: &str| FailoverKey {
        mod_revision: 7,
        leader: Some(leader).filter(|l| !l.is_empty()).map(Into::into),
        candidate: Some(candidate).filter(|c| !c.is_empty()).map(Into::into),
        schedule: None,
    };
    for (value, wanted) in [
        (r#"{"leader":"a","member":"b"}"#, asked("a", "b")),
        (r#"{"leader":"a","member":""}"#, asked("a", "")),
        (r#"{"leader":null,"member":"b","scheduled_at":""}"#, asked("", "b")),
        ("a:b", asked("a", "b")),
        (":b", asked("", "b")),
        ("{}", asked("", "")),
    ] {
        assert_eq!(of(value), (wanted, 0), "{value}");
    }
    for garbage in ["", "[]", "7", "{", r#"{"leader":{}}"#, "\u{0}"] {
        let (key, complaints) = of(garbage);
        assert!(!key.asks() && complaints == 1, "{garbage:?}");
    }
    let at = |text: &str| of(&format!(r#"{{"leader":"a","scheduled_at":"{text}"}}"#)).0.schedule.unwrap();
    let noon = Schedule::At { at: WallTime(1_893_495_600_000), text: "2030-01-01T12:00:00+01:00".into() };
    assert_eq!(at("2030-01-01T12:00:00+01:00"), noon);
    assert_eq!(at("2030-01-01T12:00:00"), Schedule::Garbage("2030-01-01T12:00:00".into()), "no zone");
    assert_eq!(at("soon"), Schedule::Garbage("soon".into()));
    let written = FailoverKey { schedule: Some(noon), ..asked("a", "b") };
    let expected = r#"{"leader":"a","member":"b","scheduled_at":"2030-01-01T12:00:00+01:00"}"#;
    assert_eq!(text(encode_failover(&written)), expected);
    assert_eq!(text(encode_failover(&FailoverKey::default())), "{}");
}

#[test]
fn the_failsafe_topology() {
    let members = clean("failsafe", r#"{"b":"http://b:8008/patroni","a":"http://a:8008/patroni"}"#).failsafe.unwrap();
    let expected = r#"{"a":"http://a:8008/patroni","b":"http://b:8008/patroni"}"#;
    assert_eq!(text(encode_failsafe(&members)), expected);
    let (cluster, complaints) = read(&[kv("failsafe", "[]")]);
    assert!(cluster.failsafe.is_none() && complaints.len() == 1);
}
