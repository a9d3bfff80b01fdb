//! The postmaster dies alone, while its backends are busy.

use crate::support::*;
use pgherd_testkit::writer::connect;
use std::thread::JoinHandle;

/// Keeps a backend busy for a while before it commits, without a wait in which it would notice its postmaster's death.
const BUSY: &str = "INSERT INTO busy SELECT count(*) FROM generate_series(1, 3000) a, generate_series(1, 10000) b";
const CLIENTS: usize = 3;

/// A client that repeats the statement until it fails; the times of the acknowledgements, as logs write them.
fn client(port: u16) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = connect(port).await.expect("connect");
            let mut acknowledged = Vec::new();
            while client.batch_execute(BUSY).await.is_ok() {
                acknowledged.push(log_time());
            }
            acknowledged
        })
    })
}

#[test]
fn its_backends_are_ended_and_the_same_node_serves_again() {
    // The loop is too slow to be the cause of anything here.
    let mut cluster = Cluster::start(2, options_with(180, 60, 10));
    let primary = cluster.await_primary();
    let replica = 1 - primary;
    cluster.nodes[primary].sql("CREATE TABLE busy (n bigint)");
    let before = leader_key(&cluster);
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(cluster.nodes[primary].pg_port)).collect();
    let busy = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT INTO busy%'";
    eventually(PATIENCE, "all clients are busy", || (cluster.nodes[primary].sql(busy).len() == CLIENTS).then_some(()));
    let postmaster = cluster.nodes[primary].postmaster();
    let mark = cluster.nodes[primary].log_mark();
    cluster.nodes[primary].kill_postmaster();

    let (noticed, _) = cluster.nodes[primary].await_log(mark, "postmaster is gone but backends are alive");
    let (_, fenced) = cluster.nodes[primary].await_log(noticed, "ended: Done");
    let (restarted, _) = cluster.nodes[primary].await_log(noticed, "starting primary after failure");
    for client in clients {
        // Joined when its connection is dead: an orphan that lived on would acknowledge its statement first.
        let acknowledged = client.join().expect("a client");
        assert!(
            acknowledged.iter().all(|at| at[..] <= fenced[..at.len()]),
            "acknowledged by an orphan: {acknowledged:?}\nended at: {fenced}"
        );
    }
    cluster.nodes[primary].await_log(restarted, "the leader with the lock");
    assert_eq!(cluster.await_primary(), primary);
    cluster.nodes[primary].sql("INSERT INTO busy VALUES (1)");
    assert_ne!(cluster.nodes[primary].postmaster(), postmaster);
    assert_eq!(timeline(&cluster.nodes[primary]), 1);
    let after = leader_key(&cluster);
    assert_eq!((after.mod_revision, after.lease), (before.mod_revision, before.lease), "the key was kept");
    assert!(cluster.nodes[replica].logged_since(0, "acquiring the lock").is_none());
    cluster.await_complete();
}

#[test]
fn a_replica_is_started_again_too() {
    let mut cluster = Cluster::start(2, options_with(180, 60, 10));
    let primary = cluster.await_primary();
    let replica = 1 - primary;
    let postmaster = cluster.nodes[replica].postmaster();
    cluster.nodes[replica].kill_postmaster();
    eventually(PATIENCE, "another postmaster runs", || {
        cluster.nodes[replica].postmaster().filter(|now| Some(*now) != postmaster)
    });
    cluster.await_streaming(replica);
    cluster.await_complete();
    assert_eq!(cluster.primary(), Some(primary));
}
