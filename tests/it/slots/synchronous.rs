//! Logical slots where commits wait for a standby.

use super::*;
use pgherd_testkit::slot_consumer::Consumer;

fn sync_standby(cluster: &Cluster) -> Option<usize> {
    let key = cluster.keys().get("sync")?.json();
    cluster.nodes.iter().position(|node| Some(node.name.as_str()) == key["sync_standby"].as_str())
}

fn await_sync_standby(cluster: &Cluster) -> usize {
    eventually(PATIENCE, "the key names one standby, for which the primary waits", || {
        let standby = sync_standby(cluster)?;
        let names = cluster.nodes[cluster.primary()?].try_sql("SHOW synchronous_standby_names").ok()?;
        (names == [cluster.nodes[standby].name.as_str()]).then_some(standby)
    })
}

/// When a line was written.
fn time_of(node: &Node, mark: usize, text: &str) -> String {
    node.await_log(mark, text).1[..23].to_owned()
}

#[test]
fn no_commit_waits_for_a_synchronous_standby_that_is_restarted_for_a_slot_and_none_is_lost() {
    let mut cluster = started(prepared(3));
    rewind_what_diverges(&cluster);
    configure(&cluster, json!({"synchronous_mode": true}));
    let leader = cluster.await_complete();
    let first = await_sync_standby(&cluster);
    let second = 3 - leader - first;
    let writer = cluster.write();
    let marks: Vec<usize> = cluster.nodes.iter().map(Node::log_mark).collect();
    configure(&cluster, json!({"slots": {"cdc": logical()}}));
    // a server that copies slots by itself takes one from when its consumer has moved on
    let consumer = Consumer::start(cluster.nodes.iter().map(|node| node.pg_port).collect(), "cdc");
    consumer.await_rows(20);
    for node in [first, second] {
        await_safe(&cluster.nodes[node]);
    }
    let restarts = usize::from(!copies_by_itself(&cluster));
    for node in [first, second] {
        let starts = times(&cluster.nodes[node], marks[node], "begins: starting as a secondary");
        assert_eq!(starts, restarts, "{} is restarted once", cluster.nodes[node].name);
    }
    if restarts > 0 {
        // each time commits waited for the other one before it was stopped
        let replaced = format!("Synchronous standby status assigned to ['{}']", cluster.nodes[second].name);
        let let_go = time_of(&cluster.nodes[leader], marks[leader], &replaced);
        let stopped = time_of(&cluster.nodes[first], marks[first], "begins: copying logical slots");
        let there = time_of(&cluster.nodes[second], marks[second], "begins: starting as a secondary");
        assert!(there < let_go && let_go < stopped, "{there} {let_go} {stopped}");
    }
    cluster.await_acks(&writer, 30);
    assert_undisturbed(&writer.acks());

    let standby = await_sync_standby(&cluster);
    cluster.nodes[leader].kill_node();
    let next = eventually(PATIENCE, "another one leads", || cluster.primary().filter(|next| *next != leader));
    assert_eq!(next, standby);
    cluster.await_acks(&writer, 30);
    consumer.await_rows(30);
    assert_nothing_lost(&cluster, next, &writer.stop());
    assert_eq!(times(&cluster.nodes[next], 0, "might be unsafe to use after promote"), 0);
}
