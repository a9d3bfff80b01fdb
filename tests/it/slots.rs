//! Replication slots: consumers that go on after a change of leader, slots that come and go with the configuration, what is
//! refused or told because a slot is not safe, and slots of others.

mod ahead;
mod consumer;
mod ignored;
mod synchronous;
mod unsafe_copy;

use crate::support::*;
use pgherd_testkit::node::Node;
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
