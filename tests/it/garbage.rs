//! Nonsense in the keys that the agent reads: reported, and never a reason for a healthy primary to stop.

use crate::support::*;
use pgherd_testkit::node::Node;

const MEBIBYTE: usize = 1 << 20;

/// Values that are wrong whatever a key is for.
fn always_wrong() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("not JSON", b"{\"a\": nonsense".to_vec()),
        ("not UTF-8", b"\xff\xfe{}\x80".to_vec()),
        ("nested too deeply", [vec![b'['; 50_000], vec![b']'; 50_000]].concat()),
        ("a mebibyte of letters", vec![b'x'; MEBIBYTE]),
    ]
}

/// What else is wrong in a key.
fn wrong_in(key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let texts: &[(&str, &str)] = match key {
        "initialize" => &[("an object", "{}"), ("out of range", "99999999999999999999999"), ("negative", "-7")],
        "config" => &[("an array", "[1,2]"), ("a number", "17"), ("a text", "\"ttl\"")],
        "status" => &[
            ("an array", "[1]"),
            ("of wrong types", r#"{"optime":{"a":1},"slots":[1],"retain_slots":{}}"#),
            ("out of range", r#"{"optime":-1,"slots":{"pg2":1e300}}"#),
            ("a number beyond any", "1e400"),
        ],
        "history" => &[
            ("an object", "{}"),
            ("rows of wrong types", r#"[["x",null],{},3]"#),
            ("out of range", "[[99999999999,-5,7]]"),
        ],
        "timeline" => &[("an array", "[3]"), ("out of range", "99999999999"), ("negative", "-1"), ("zero", "0")],
        _ => &[
            ("an array", "[1]"),
            ("of wrong types", r#"{"conn_url":7,"api_url":[],"state":{},"role":"king","tags":5,"timeline":"x"}"#),
            ("out of range", r#"{"timeline":99999999999,"xlog_location":-1,"receive_lsn":1e300}"#),
        ],
    };
    texts.iter().map(|(what, text)| (*what, text.as_bytes().to_vec())).collect()
}

/// What must not change.
fn standing(cluster: &Cluster, primary: usize) -> (i64, i64, Option<i32>, Option<u32>) {
    let key = leader_key(cluster);
    (key.mod_revision, key.lease, cluster.nodes[primary].postmaster(), cluster.nodes[primary].agent_pid())
}

/// Writes the value until the node reports it: its owner may have written the key again before anybody has read it.
fn put_until_reported(cluster: &Cluster, node: &Node, key: &str, what: &str, value: &[u8]) {
    let (keys, mark, name) = (cluster.keys(), node.log_mark(), format!("/service/test/{key} "));
    eventually(PATIENCE, &format!("{} reports {key}: {what}", node.name), || {
        if keys.get(key).is_none_or(|key| key.value != value) {
            keys.put(key, value, 0);
        }
        node.log().into_iter().skip(mark).find(|line| line.contains(" ERROR: ") && line.contains(&name))
    });
}

#[test]
fn nonsense_in_a_key_is_reported_and_changes_nothing() {
    let mut cluster = cluster(2);
    let primary = cluster.await_primary();
    let keys = cluster.keys();
    let writer = cluster.write();
    let before = standing(&cluster, primary);
    let initialize = keys.get("initialize").expect("an initialize key").value;
    let replica_key = format!("members/{}", cluster.nodes[1 - primary].name);
    let own_key = format!("members/{}", cluster.nodes[primary].name);
    for key in ["initialize", "config", "status", "history", "timeline", "members/ghost", &replica_key, &own_key] {
        for (what, value) in always_wrong().into_iter().chain(wrong_in(key)) {
            put_until_reported(&cluster, &cluster.nodes[primary], key, what, &value);
            cluster.await_acks(&writer, 3);
            assert_eq!(standing(&cluster, primary), before, "after {key}: {what}");
        }
        match key {
            "initialize" => keys.put(key, &initialize, 0),
            "members/ghost" | "timeline" => keys.delete(key),
            // the rest is written anew by whom it belongs to
            _ => {}
        }
    }
    // Keys of functions that this agent does not have yet.
    for key in ["sync", "failover", "failsafe"] {
        for (_, value) in always_wrong() {
            keys.put(key, &value, 0);
            cluster.await_acks(&writer, 3);
        }
        keys.delete(key);
    }
    assert_undisturbed(&writer.stop());
    assert_eq!(standing(&cluster, primary), before);
    for key in ["config", &replica_key, &own_key] {
        eventually(PATIENCE, &format!("{key} is mended by its owner"), || {
            keys.get(key).filter(|key| key.json().is_object())
        });
    }
    assert_eq!(keys.get("config").expect("a config key").json()["ttl"], 5, "the last good configuration");
    for node in &mut cluster.nodes {
        assert!(!node.agent_has_ended());
        assert!(node.logged_since(0, "panic").is_none() && node.logged_since(0, " CRITICAL: ").is_none());
    }
    cluster.await_complete();
}

#[test]
fn a_stranger_in_the_leader_key_ends_writes_until_it_is_cleared() {
    let cluster = cluster(2);
    cluster.write();
    let lease = cluster.keys().grant(600);
    // who, on which lease, and what is wrong with that in the eyes of a replica
    let cases = [
        (&b"ghost"[..], lease, "no such member exists"),
        (b"ghost", 0, "names ghost without a lease"),
        (b"", 0, "not a member name"),
        (b"\xff\xfe", lease, "not a member name"),
    ];
    for (round, (value, lease, says)) in (1..).zip(cases) {
        let (primary, marks) = usurp(&cluster, |_| value.to_vec(), lease);
        for (node, mark) in cluster.nodes.iter().zip(&marks) {
            node.await_log(*mark, "remove the key: etcdctl del /service/test/leader");
        }
        cluster.nodes[1 - primary].await_log(marks[1 - primary], says);
        clear(&cluster, round);
    }
}

#[test]
fn a_member_in_the_leader_key_that_did_not_put_itself_there_does_not_lead() {
    let cluster = cluster(2);
    cluster.write();
    let lease = cluster.keys().grant(600);
    // 0: the primary itself, 1: the replica
    let cases = [
        (0, lease, "under a lease that is not mine"),
        (1, lease, "under a lease that is not mine"),
        (0, 0, "remove the key: etcdctl del /service/test/leader"),
        (1, 0, "remove the key: etcdctl del /service/test/leader"),
    ];
    for (round, (who, lease, says)) in (1..).zip(cases) {
        let named = |primary: usize| (primary + who) % 2;
        let name = |primary: usize| cluster.nodes[named(primary)].name.clone().into_bytes();
        let (primary, marks) = usurp(&cluster, name, lease);
        cluster.nodes[named(primary)].await_log(marks[named(primary)], says);
        clear(&cluster, round);
    }
}

#[test]
fn a_leader_takes_back_a_key_that_somebody_removed() {
    let mut cluster = cluster(2);
    let writer = cluster.write();
    let primary = cluster.await_primary();
    let before = leader_key(&cluster);
    for _ in 0..5 {
        let removed = leader_key(&cluster);
        cluster.keys().delete("leader");
        let back = eventually(PATIENCE, "the key is back", || cluster.keys().get("leader"));
        assert!(back.create_revision > removed.create_revision);
        assert_eq!((back.text(), back.lease), (before.text(), before.lease));
        cluster.await_acks(&writer, 10);
    }
    assert_undisturbed(&writer.stop());
    assert_eq!(timeline(&cluster.nodes[primary]), 1);
    cluster.await_complete();
}

/// Writes somebody into the leader key of a cluster at work and waits until nobody is writable; the former primary, and
/// where the logs stood before. Nothing is being written meanwhile: a primary that is stopped at once would keep rows to
/// itself.
fn usurp(cluster: &Cluster, who: impl Fn(usize) -> Vec<u8>, lease: i64) -> (usize, Vec<usize>) {
    let primary = cluster.await_primary();
    cluster.await_streaming(1 - primary);
    cluster.await_caught_up(primary, 1 - primary);
    let marks = cluster.nodes.iter().map(Node::log_mark).collect();
    cluster.keys().put("leader", &who(primary), lease);
    eventually(PATIENCE, "nobody is writable", || {
        let writable = |node: &Node| node.try_sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == ["f"]);
        (!cluster.nodes.iter().any(writable)).then_some(())
    });
    assert_eq!(cluster.primary(), None);
    (primary, marks)
}

/// Does what the log says. Until then nobody takes a row.
fn clear(cluster: &Cluster, round: i64) {
    for node in &cluster.nodes {
        let insert = format!("INSERT INTO ledger (id) VALUES (-{round})");
        assert!(node.try_sql(&insert).is_err(), "{} takes a row while another holds the lock", node.name);
    }
    let writer = cluster.write_on(round * 1_000_000);
    cluster.keys().delete("leader");
    cluster.await_acks(&writer, 20);
}
