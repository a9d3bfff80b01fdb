//! No consumer is ahead of the node that is promoted (`manage_synchronized_standby_slots`, PostgreSQL 17 and later).

use super::*;
use pgherd_testkit::postgres::{PASSWORD, options as server_options};
use pgherd_testkit::slot_consumer::Consumer;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn await_list(node: &Node, wanted: &str) {
    let what = format!("consumers at {} wait for '{wanted}'", node.name);
    let shown = || node.try_sql("SHOW synchronized_standby_slots").ok().filter(|shown| *shown == [wanted]).map(drop);
    eventually(PATIENCE, &what, shown);
}

/// A consumer that streams, as most do.
fn stream(node: &Node, to: &Path) -> Child {
    let bin = server_options("x", to).bin_dir.unwrap_or_default();
    let mut command = Command::new(bin.join("pg_recvlogical"));
    command.args(["-h", "127.0.0.1", "-p", &node.pg_port.to_string(), "-U", "postgres", "-d", "postgres"]);
    command.args(["--slot", "cdc", "--start", "--no-loop", "-f"]).arg(to).env("PGPASSWORD", PASSWORD);
    command.stderr(Stdio::null()).spawn().expect("start pg_recvlogical")
}

/// An older server is not given a setting that it does not know.
fn knows_nothing_of_it(cluster: &Cluster) {
    for node in &cluster.nodes {
        node.sql("SELECT pg_reload_conf()");
        let wrong = "SELECT name || ': ' || error FROM pg_file_settings WHERE error IS NOT NULL";
        assert_eq!(node.sql(wrong), Vec::<String>::new());
        assert_eq!(node.sql("SELECT name FROM pg_settings WHERE name LIKE 'synchronized%'"), Vec::<String>::new());
    }
}

#[test]
fn a_consumer_waits_for_the_standby_that_is_promoted_and_for_a_dead_one_not_for_long() {
    let mut cluster = started(prepared(2));
    rewind_what_diverges(&cluster);
    let old = cluster.await_primary();
    let new = 1 - old;
    configure(&cluster, json!({"manage_synchronized_standby_slots": true, "slots": {"cdc": logical()}}));
    await_safe(&cluster.nodes[new]);
    if !copies_by_itself(&cluster) {
        return knows_nothing_of_it(&cluster);
    }
    let [slot_of_old, slot_of_new] = [old, new].map(|node| cluster.nodes[node].name.clone());
    await_list(&cluster.nodes[old], &slot_of_new);
    await_list(&cluster.nodes[new], "");

    let writer = cluster.write();
    let consumer = Consumer::start(cluster.nodes.iter().map(|node| node.pg_port).collect(), "cdc");
    consumer.await_rows(20);
    // the standby gets nothing any more, and its connection stays
    cluster.nodes[old].pg_link.stall();
    cluster.await_acks(&writer, 20);
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event ILIKE '%StandbyConfirmation'";
    eventually(PATIENCE, "the consumer waits for the standby", || {
        (cluster.nodes[old].try_sql(waits).ok()? == ["t"]).then_some(())
    });
    cluster.nodes[old].kill_node();
    eventually(PATIENCE, "the standby leads", || (cluster.primary()? == new).then_some(()));
    cluster.await_acks(&writer, 20);
    // nobody streams from it yet, and who is dead stops no consumer
    consumer.await_rows(20);
    await_list(&cluster.nodes[new], "");

    cluster.nodes[old].pg_link.heal();
    cluster.nodes[old].start();
    assert_eq!(cluster.await_complete(), new);
    await_list(&cluster.nodes[new], &slot_of_old);
    consumer.await_rows(20);
    cluster.nodes[old].kill_node();
    cluster.await_acks(&writer, 20);
    await_list(&cluster.nodes[new], "");
    consumer.await_rows(20);

    let acks: BTreeSet<i64> = writer.stop().iter().map(|ack| ack.id).collect();
    let rows: BTreeSet<i64> = cluster.nodes[new].rows().expect("rows").into_iter().collect();
    consumer.await_row(*rows.last().expect("rows"));
    let seen: BTreeSet<i64> = consumer.stop().into_iter().collect();
    assert!(
        acks.difference(&rows).count() >= 20,
        "replication is asynchronous: the last rows of the old primary are lost"
    );
    assert_eq!(seen, rows, "the consumer has seen what the new primary has, all of it and nothing else");

    // a standby that died a moment ago does not hold up the end of a primary with a consumer that streams
    cluster.nodes[old].start();
    assert_eq!(cluster.await_complete(), new);
    await_list(&cluster.nodes[new], &slot_of_old);
    let mut streaming = stream(&cluster.nodes[new], &cluster.directory().join("changes"));
    let active = "SELECT active FROM pg_replication_slots WHERE slot_name = 'cdc'";
    eventually(PATIENCE, "it streams", || (cluster.nodes[new].sql(active) == ["t"]).then_some(()));
    cluster.nodes[old].kill_node();
    cluster.nodes[new].sql("INSERT INTO ledger SELECT 1000000 + n FROM generate_series(1, 100) AS n");
    let mark = cluster.nodes[new].log_mark();
    assert!(cluster.nodes[new].terminate().success());
    assert_eq!(times(&cluster.nodes[new], mark, "did not stop in order"), 0);
    let _ = streaming.kill();
    streaming.wait().expect("the end of pg_recvlogical");
}
