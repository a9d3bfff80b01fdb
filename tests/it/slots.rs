//! Replication slots: consumers that go on after a change of leader, slots that come and go with the configuration, and
//! what is refused or told because a slot is not safe.

use crate::support::*;
use pgherd_testkit::node::Node;
use pgherd_testkit::slot_consumer::Consumer;
use serde_json::{Value, json};
use std::time::Duration;

/// Not started yet; logical decoding is possible.
fn prepared(nodes: usize) -> Cluster {
    let cluster = Cluster::prepare(nodes, options());
    for node in &cluster.nodes {
        let text = std::fs::read_to_string(node.config()).expect("the settings");
        let more = "      use_slots: true\n      parameters: {wal_level: logical, wal_receiver_status_interval: 1}\n";
        std::fs::write(node.config(), text.replacen("      use_slots: true\n", more, 1)).expect("write the settings");
    }
    cluster
}

fn started(mut cluster: Cluster) -> Cluster {
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.await_complete();
    cluster
}

fn logical() -> Value {
    json!({"type": "logical", "database": "postgres", "plugin": "test_decoding"})
}

fn own(node: &Node, part: &str) -> Value {
    node.status()["pgherd"][part].clone()
}

/// A server that keeps slots by itself takes its time.
const SAFE_PATIENCE: Duration = Duration::from_secs(180);

fn await_safe(node: &Node) {
    let what = format!("the slot cdc is safe on {}", node.name);
    eventually(SAFE_PATIENCE, &what, || own(node, "safe_slots").as_array()?.contains(&json!("cdc")).then_some(()));
}

fn await_note(node: &Node, slot: &str, note: &str) -> String {
    let what = format!("{} says of {slot}: {note}", node.name);
    eventually(PATIENCE, &what, || own(node, "slots")[slot]["notes"][note].as_str().map(str::to_owned))
}

fn has_slot(node: &Node, slot: &str) -> Option<bool> {
    let text = format!("SELECT slot_name FROM pg_replication_slots WHERE slot_name = '{slot}'");
    node.try_sql(&text).ok().map(|rows| !rows.is_empty())
}

fn await_slot(cluster: &Cluster, slot: &str, there: bool) {
    for node in &cluster.nodes {
        let what = format!("{slot} on {}: {there}", node.name);
        eventually(PATIENCE, &what, || (has_slot(node, slot)? == there).then_some(()));
    }
}

/// When its PostgreSQL was started.
fn run_of(node: &Node) -> String {
    node.sql("SELECT pg_postmaster_start_time()::text").remove(0)
}

fn times(node: &Node, mark: usize, text: &str) -> usize {
    node.log().iter().skip(mark).filter(|line| line.contains(text)).count()
}

/// From version 17 on the servers keep logical slots on standbys.
fn copies_by_itself(cluster: &Cluster) -> bool {
    cluster.nodes[0].sql("SHOW server_version_num")[0].parse::<u32>().expect("a number") >= 170_000
}

fn switch_to(cluster: &mut Cluster, from: usize, to: usize) {
    let names = json!({"leader": cluster.nodes[from].name, "candidate": cluster.nodes[to].name});
    let (code, text) = send(&cluster.nodes[from], "POST", "/switchover", &names);
    assert_eq!(code, 200, "{text}");
    assert_eq!(cluster.await_complete(), to);
}

#[test]
fn a_logical_consumer_misses_nothing_through_switchovers_and_a_death_and_replicas_are_restarted_once() {
    let mut cluster = started(prepared(3));
    rewind_what_diverges(&cluster);
    let a = cluster.await_primary();
    let (b, c) = (cluster.others(a)[0], cluster.others(a)[1]);
    let marks: Vec<usize> = cluster.nodes.iter().map(Node::log_mark).collect();
    // two at once
    configure(&cluster, json!({"slots": {"cdc": logical(), "more": logical(), "backup": {"type": "physical"}}}));
    for slot in ["cdc", "more", "backup"] {
        await_slot(&cluster, slot, true);
    }
    let restarts = usize::from(!copies_by_itself(&cluster));
    for node in [b, c] {
        await_safe(&cluster.nodes[node]);
        let (node, mark) = (&cluster.nodes[node], marks[node]);
        let copies = times(node, mark, "begins: copying logical slots");
        let starts = times(node, mark, "begins: starting as a secondary");
        assert_eq!((copies, starts), (restarts, restarts), "{} is restarted once for both slots", node.name);
        assert_eq!(node.sql("SHOW hot_standby_feedback"), ["on"]);
    }

    let writer = cluster.write();
    let consumer = Consumer::start(cluster.nodes.iter().map(|node| node.pg_port).collect(), "cdc");
    consumer.await_rows(20);
    let run_of_c = run_of(&cluster.nodes[c]);
    switch_to(&mut cluster, a, b);
    cluster.await_acks(&writer, 30);
    consumer.await_rows(30);
    for node in [a, c] {
        await_safe(&cluster.nodes[node]);
    }
    assert_eq!(run_of(&cluster.nodes[c]), run_of_c, "a change of leader restarts no other replica");
    switch_to(&mut cluster, b, c);
    consumer.await_rows(30);
    for node in [a, b] {
        await_safe(&cluster.nodes[node]);
    }

    cluster.nodes[c].kill_node();
    let next = cluster.await_primary();
    assert_ne!(next, c);
    cluster.await_acks(&writer, 30);
    consumer.await_rows(30);
    let mark = cluster.nodes[c].log_mark();
    cluster.nodes[c].start();
    assert_eq!(cluster.await_complete(), next);
    await_slot(&cluster, "cdc", true);
    await_safe(&cluster.nodes[c]);
    assert_eq!(times(&cluster.nodes[c], mark, "begins: starting as a secondary"), 1, "and it starts once");
    // (the other slot has no consumer: a server may keep no copy of it where it would be too old)
    assert_eq!(times(&cluster.nodes[next], 0, "might be unsafe to use after promote: {'cdc'"), 0);

    writer.stop();
    let rows = cluster.nodes[next].rows().expect("rows");
    consumer.await_row(*rows.last().expect("rows"));
    let seen = consumer.stop();
    let first = seen.first().expect("rows");
    let missed: Vec<_> = rows.iter().filter(|id| *id >= first && !seen.contains(id)).collect();
    assert_eq!((*first, missed), (1, Vec::new()), "every row was seen");

    configure(&cluster, json!({"slots": {"more": null, "cdc": null}}));
    for slot in ["cdc", "more"] {
        await_slot(&cluster, slot, false);
    }
    await_slot(&cluster, "backup", true);
}

#[test]
fn a_node_without_a_safe_copy_is_switched_to_only_by_a_failover_and_says_so_afterwards() {
    let cluster = prepared(3);
    // the third is fed by the second
    cluster.nodes[2].add_section("tags:\n  replicatefrom: pg2");
    let mut cluster = cluster;
    cluster.nodes[0].start();
    assert_eq!(cluster.await_primary(), 0);
    cluster.nodes[1].start();
    cluster.await_streaming(1);
    cluster.nodes[2].start();
    let fed = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
    eventually(PATIENCE, "pg3 streams from pg2", || (cluster.nodes[1].try_sql(fed).ok()? == ["pg3"]).then_some(()));
    if copies_by_itself(&cluster) {
        return; // no standby of a standby keeps slots there, and it is the server that says what is safe
    }
    // somebody's own slots
    cluster.nodes[0].sql("SELECT pg_create_physical_replication_slot('theirs', true)");
    configure(&cluster, json!({"slots": {"cdc": logical()}, "slot_wal_warning": "1MB"}));
    await_safe(&cluster.nodes[2]);
    await_safe(&cluster.nodes[1]);
    assert_eq!(cluster.nodes[1].sql("SHOW hot_standby_feedback"), ["on"]);

    // rows that the second needs are kept no more, and its server begins anew
    cluster.nodes[1].sql("ALTER SYSTEM SET hot_standby_feedback = off");
    // with a logical slot PostgreSQL would not start below wal_level logical
    configure(&cluster, json!({"postgresql": {"parameters": {"wal_level": "replica"}}}));
    let pending = || cluster.nodes[1].status()["pending_restart"].as_bool()?.then_some(());
    eventually(PATIENCE, "the lower wal_level waits for a restart", pending);
    let (code, text) = send(&cluster.nodes[1], "POST", "/restart", &json!({}));
    assert_eq!(code, 200, "{text}");
    cluster.nodes[1].await_log(0, "wal_level stays logical");
    assert_eq!(cluster.nodes[1].sql("SHOW wal_level"), ["logical"]);
    configure(&cluster, json!({"postgresql": {"parameters": {"wal_level": "logical"}}}));
    let why = await_note(&cluster.nodes[1], "cdc", "not-safe-yet");
    assert!(why.contains("not safe to be used after a failover to this node"), "{why}");
    let names = json!({"leader": "pg1", "candidate": "pg2"});
    let (code, text) = send(&cluster.nodes[0], "POST", "/switchover", &names);
    assert!(code == 412 && text.contains("pg2 has no safe copy of logical slots: cdc"), "{code} {text}");
    let mark = cluster.nodes[0].log_mark();
    cluster.keys().put("failover", json!({"leader": "pg1", "member": "pg2"}).to_string().as_bytes(), 0);
    let (_, line) = cluster.nodes[0].await_log(mark, "Cleaning up failover key");
    assert!(line.contains("pg2 has no safe copy of logical slots: cdc"), "{line}");
    assert_eq!(cluster.primary(), Some(0));

    // what is not the agent's is named and left alone
    cluster.nodes[0].sql("CREATE TABLE bulk AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
    let unknown = await_note(&cluster.nodes[0], "theirs", "unknown");
    assert!(unknown.contains("leaves it alone"), "{unknown}");
    await_note(&cluster.nodes[0], "theirs", "holds-wal");
    cluster.nodes[0].await_log(0, "replication slot theirs: it holds back");
    assert_eq!(has_slot(&cluster.nodes[0], "theirs"), Some(true));

    cluster.await_caught_up(0, 1);
    let (code, text) = send(&cluster.nodes[0], "POST", "/failover", &json!({"candidate": "pg2"}));
    assert_eq!(code, 200, "{text}");
    cluster.nodes[1].await_log(0, "Logical replication slots that might be unsafe to use after promote: {'cdc'}");
    await_note(&cluster.nodes[1], "cdc", "unsafe");
    eventually(PATIENCE, "the events tell of it before and after the promotion", || {
        let events = cluster.nodes[1].get("/events?limit=1000&type=slot.noted")?.json()["events"].clone();
        let told = |note: &str| {
            let tells = |event: &Value| event["data"]["slot"] == "cdc" && event["data"]["note"] == note;
            events.as_array()?.iter().position(tells)
        };
        (told("not-safe-yet")? < told("unsafe")?).then_some(())
    });
}
