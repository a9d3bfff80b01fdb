//! The exact texts of the members list.

use super::*;
use pgherd_types::{
    ConfigKey, LeaderKey, Member, MemberDoc, Role, StatusKey, SyncKey, SyncSeen, SystemId, Tags, Timeline,
};

fn member(name: &str, address: &str, doc: MemberDoc) -> Member {
    let doc = MemberDoc { conn_url: Some(format!("postgres://{address}/postgres")), ..doc };
    Member { name: name.into(), lease: None, doc }
}

fn leader(name: &str, address: &str) -> Member {
    let doc = MemberDoc {
        state: "running".into(),
        role: Some(Role::Primary),
        timeline: Some(Timeline(5)),
        ..MemberDoc::default()
    };
    member(name, address, doc)
}

fn standby(name: &str, address: &str) -> Member {
    let doc = MemberDoc {
        state: "running".into(),
        role: Some(Role::Replica),
        timeline: Some(Timeline(5)),
        replication_state: Some("streaming".into()),
        receive_lsn: Some(Lsn(0x400_04E8)),
        replay_lsn: Some(Lsn(0x400_04E8 - (3 << 20))),
        ..MemberDoc::default()
    };
    member(name, address, doc)
}

fn cluster(members: impl IntoIterator<Item = Member>) -> Cluster {
    Cluster {
        initialize: Some(Initialize::Done(SystemId(7_277_694_203_142_172_922))),
        leader: Some(LeaderKey { name: "postgresql0".into(), lease: None }),
        members: members.into_iter().map(|member| (member.name.clone(), member)).collect(),
        status: StatusKey { optime: Lsn(0x400_04E8), ..StatusKey::default() },
        ..Cluster::default()
    }
}

#[test]
fn a_cluster_of_two() {
    let cluster = cluster([standby("postgresql1", "127.0.0.1:5433"), leader("postgresql0", "127.0.0.1:5432")]);
    let expected = "\
+ Cluster: batman (7277694203142172922) -+-----------+----+-------------+-----+------------+-----+
| Member      | Host           | Role    | State     | TL | Receive LSN | Lag | Replay LSN | Lag |
+-------------+----------------+---------+-----------+----+-------------+-----+------------+-----+
| postgresql0 | 127.0.0.1:5432 | Leader  | running   |  5 |             |     |            |     |
| postgresql1 | 127.0.0.1:5433 | Replica | streaming |  5 |   0/40004E8 |   0 |  0/3D004E8 |   3 |
+-------------+----------------+---------+-----------+----+-------------+-----+------------+-----+";
    assert_eq!(members_table("batman", &cluster, false).to_string(), expected);
    assert_eq!(
        members_json("batman", &cluster, false),
        concat!(
            r#"[{"Cluster": "batman", "Member": "postgresql0", "Host": "127.0.0.1:5432", "Role": "Leader", "#,
            r#""State": "running", "TL": 5}, {"Cluster": "batman", "Member": "postgresql1", "Host": "127.0.0.1:5433", "#,
            r#""Role": "Replica", "State": "streaming", "TL": 5, "Receive LSN": "0/40004E8", "Receive Lag": 0, "#,
            r#""Replay LSN": "0/3D004E8", "Replay Lag": 3}]"#
        )
    );
}

/// With this dynamic configuration, and this `sync` key.
fn synchronous(cluster: Cluster, config: &str, leader: &str, quorum: u32, standbys: &[&str]) -> Cluster {
    let standbys = standbys.iter().map(|name| (*name).into()).collect();
    let key = SyncKey { mod_revision: 1, leader: Some(leader.into()), quorum, standbys };
    let config = Some(ConfigKey { mod_revision: 1, text: config.into(), valid: true });
    Cluster { sync: SyncSeen::Valid(key), config, ..cluster }
}

#[test]
fn synchronous_standbys_are_told_from_others() {
    let roles = |config: &str| {
        let members = ["postgresql1", "postgresql2"].map(|name| standby(name, "127.0.0.1:5432"));
        let all = members.into_iter().chain([leader("postgresql0", "127.0.0.1:5432")]);
        let cluster = synchronous(cluster(all), config, "postgresql0", 0, &["PostgreSQL2"]);
        let list = members_table("x", &cluster, false).rows;
        let tree = topology_table("x", &cluster).rows;
        let roles = |rows: Vec<Vec<String>>| rows.into_iter().map(|row| row[2].clone()).collect::<Vec<_>>();
        assert_eq!(roles(list.clone()), roles(tree));
        roles(list)
    };
    assert_eq!(roles(r#"{"synchronous_mode": "on"}"#), ["Leader", "Replica", "Sync Standby"]);
    assert_eq!(roles(r#"{"synchronous_mode": "quorum"}"#), ["Leader", "Replica", "Quorum Standby"]);
    for off in ["{}", "garbage", r#"{"synchronous_mode": true, "standby_cluster": {"host": "far"}}"#] {
        assert_eq!(roles(off), ["Leader", "Replica", "Replica"], "{off}");
    }
}

#[test]
fn who_must_return_is_told_below_the_table() {
    let line = |members: &[&str], config: &str, quorum, standbys: &[&str]| {
        let members = members.iter().map(|name| standby(name, "127.0.0.1:5432"));
        let cluster = Cluster { leader: None, ..cluster(members) };
        waiting_line(&synchronous(cluster, config, "a", quorum, standbys))
    };
    let told = |text: &str| Some(text.to_owned());
    let (on, by_vote) = (r#"{"synchronous_mode": true}"#, r#"{"synchronous_mode": "quorum"}"#);
    assert_eq!(line(&["c"], on, 0, &["b"]), told(" Waiting for one of: a, b (synchronous members)"));
    assert_eq!(line(&["c"], on, 0, &[]), told(" Waiting for: a (synchronous member)"));
    assert_eq!(line(&["b"], on, 0, &["b"]), None);
    assert_eq!(line(&["c"], "{}", 0, &["b"]), None);
    assert_eq!(line(&["b"], by_vote, 1, &["b", "c"]), told(" Waiting for one of: a, c (synchronous members)"));
    let several = " Waiting for: a, or 2 of: c, d (synchronous members)";
    assert_eq!(line(&["b"], by_vote, 2, &["b", "c", "d"]), told(several));
    let mut stuck = standby("a", "127.0.0.1:5432");
    stuck.doc.state = "start failed".into();
    let cluster = Cluster { leader: None, ..cluster([stuck]) };
    let stuck = synchronous(cluster, by_vote, "a", 1, &["b", "c", "d"]);
    assert_eq!(waiting_line(&stuck), told(" Waiting for 2 of: b, c, d (synchronous members)"));
}

#[test]
fn a_silent_member_and_tags() {
    let mut silent = member("b", "10.0.0.2:5432", MemberDoc::default());
    let shown = [("zone", "\"on\""), ("nofailover", "true")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    silent.doc.tags = Tags { shown: shown.into(), ..Tags::default() };
    silent.doc.state = "starting".into();
    let cluster = Cluster { leader: None, initialize: None, ..cluster([leader("a", "10.0.0.1:5432"), silent]) };
    let expected = "\
+ Cluster: x (uninitialized) -+----------+----+-------------+-----+------------+-----+------------------+
| Member | Host     | Role    | State    | TL | Receive LSN | Lag | Replay LSN | Lag | Tags             |
+--------+----------+---------+----------+----+-------------+-----+------------+-----+------------------+
| a      | 10.0.0.1 | Replica | running  |  5 |     unknown |     |    unknown |     |                  |
+--------+----------+---------+----------+----+-------------+-----+------------+-----+------------------+
| b      | 10.0.0.2 | Replica | starting |    |     unknown |     |    unknown |     | nofailover: true |
|        |          |         |          |    |             |     |            |     | zone: 'on'       |
+--------+----------+---------+----------+----+-------------+-----+------------+-----+------------------+";
    assert_eq!(members_table("x", &cluster, false).to_string(), expected);
    let tsv = members_tsv("x", &cluster, false);
    assert_eq!(
        tsv.lines().nth(2).unwrap(),
        "x\tb\t10.0.0.2\tReplica\tstarting\t\tunknown\t\tunknown\t\t{nofailover: true, zone: 'on'}"
    );
    assert!(tsv.starts_with("Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag\t"), "{tsv}");
}

#[test]
fn no_members_and_extended_columns() {
    let cluster = Cluster { initialize: Some(Initialize::InProgress { lease: None }), ..Cluster::default() };
    let expected = "\
+ Cluster: demo (initializing) +----+-------------+-----+------------+-----+
| Member | Host | Role | State | TL | Receive LSN | Lag | Replay LSN | Lag |
+--------+------+------+-------+----+-------------+-----+------------+-----+
+--------+------+------+-------+----+-------------+-----+------------+-----+";
    assert_eq!(members_table("demo", &cluster, false).to_string(), expected);
    assert_eq!(members_json("demo", &cluster, true), "[]");
    let headers: Vec<_> = members_table("demo", &cluster, true).columns.iter().map(|c| c.header).collect();
    assert_eq!(headers[9..], ["Pending restart", "Pending restart reason", "Scheduled restart", "Tags"]);
}

#[test]
fn maintenance_mode_is_told() {
    let with = |text: &str| {
        let config = Some(ConfigKey { mod_revision: 1, text: text.into(), valid: true });
        service_lines(&Cluster { config, ..Cluster::default() })
    };
    assert_eq!(with(r#"{"pause": true}"#), [" Maintenance mode: on"]);
    assert!(with("{}").is_empty() && with("garbage").is_empty());
}

#[test]
fn a_members_trouble_is_told_below_the_table() {
    let doc = MemberDoc { trouble: Some("diverged:\nat 0/3".into()), ..MemberDoc::default() };
    let member = Member { name: "pg1".into(), lease: None, doc };
    let cluster = Cluster { members: [("pg1".into(), member)].into(), ..Cluster::default() };
    assert_eq!(service_lines(&cluster), [" pg1: diverged:?at 0/3"]);
}

#[test]
fn the_tree_follows_replicatefrom() {
    let from = |name: &str, source: &str| {
        let mut member = standby(name, "10.0.0.1:5432");
        member.doc.tags.replicatefrom = Some(source.to_owned());
        member
    };
    let leader = leader("postgresql0", "10.0.0.1:5432");
    // b and c name each other, d itself, e nobody there is
    let members = [from("a", "f"), from("b", "c"), from("c", "b"), from("d", "d"), from("e", "gone"), from("f", "e")];
    let names = |cluster: &Cluster| {
        let rows = topology_table("x", cluster).rows;
        rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>()
    };
    let mut cluster = cluster(members.into_iter().chain([leader]));
    let expected = ["postgresql0", "+ d", "+ e", "  + f", "    + a", "b", "c"];
    assert_eq!(names(&cluster), expected);
    cluster.leader = None;
    let expected = ["d", "e", "+ f", "  + a", "postgresql0", "b", "c"];
    assert_eq!(names(&cluster), expected);
}

#[test]
fn a_long_reason_is_hidden_in_tables_only() {
    let reason = |old: &str| ("shared_preload_libraries".to_owned(), old.to_owned(), "b".to_owned());
    let doc = MemberDoc { pending_restart_reason: vec![reason("a"), reason(&"a".repeat(30))], ..MemberDoc::default() };
    let cluster = cluster([member("m", "10.0.0.1:5432", doc)]);
    let table = members_table("x", &cluster, true).to_string();
    assert!(
        table.contains("| shared_preload_libraries: a->b ")
            && table.contains("shared_preload_libraries: [hidden - too long]"),
        "{table}"
    );
    let whole = format!("shared_preload_libraries: a->b\\nshared_preload_libraries: {}->b", "a".repeat(30));
    assert!(members_json("x", &cluster, true).contains(&whole));
}

#[test]
fn an_old_member_has_one_position() {
    let doc = MemberDoc { xlog_location: Some(Lsn(0x400_04E8)), ..MemberDoc::default() };
    let json = members_json("x", &cluster([member("m", "10.0.0.1:5432", doc)]), false);
    assert!(
        json.ends_with(r#""Receive LSN": "0/40004E8", "Receive Lag": 0, "Replay LSN": "0/40004E8", "Replay Lag": 0}]"#),
        "{json}"
    );
}
