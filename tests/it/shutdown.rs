//! The agent of the leader is asked to end.

use crate::support::*;
use std::collections::BTreeSet;

#[test]
fn a_replica_takes_over_at_the_release_of_the_key() {
    let mut cluster = Cluster::start(3, options_with(60, 10, 10));
    let old = cluster.await_primary();
    let old_name = cluster.nodes[old].name.clone();
    let before = leader_key(&cluster);
    let writer = cluster.write();
    cluster.await_acks(&writer, 50);
    assert_eq!(cluster.nodes[old].terminate().code(), Some(0));
    assert_eq!(cluster.nodes[old].postmaster(), None, "PostgreSQL was stopped");

    eventually(PATIENCE, "another node leads", || cluster.keys().get("leader").filter(|key| key.text() != old_name));
    let member = cluster.keys().get(&format!("members/{old_name}")).expect("the old member's key");
    assert_eq!(member.json()["state"], "stopped");
    assert_eq!(member.lease, before.lease);
    assert!(cluster.keys().seconds_left(before.lease).is_some(), "the release was the cause: the lease still lives");

    let new = cluster.await_primary();
    cluster.await_acks(&writer, 20);
    let acks = writer.stop();
    let rows: BTreeSet<i64> = cluster.nodes[new].rows().expect("rows").into_iter().collect();
    let lost: Vec<_> = acks.iter().filter(|ack| !rows.contains(&ack.id)).collect();
    assert!(lost.is_empty(), "a stop in order loses nothing: {lost:?}");

    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    cluster.await_streaming(old);
    assert!(!was_cloned_since(&cluster.nodes[old], mark));
    assert!(cluster.nodes[old].logged_since(mark, "diverged").is_none());
    cluster.await_caught_up(new, old);
    assert_eq!(cluster.nodes[old].rows(), cluster.nodes[new].rows());
}

#[test]
fn a_replica_leaves_without_notice_and_comes_back() {
    let mut cluster = cluster(2);
    let primary = cluster.await_primary();
    let replica = 1 - primary;
    let before = leader_key(&cluster);
    let writer = cluster.write();
    assert_eq!(cluster.nodes[replica].terminate().code(), Some(0));
    assert_eq!(cluster.nodes[replica].postmaster(), None);
    cluster.await_acks(&writer, 20);
    cluster.nodes[replica].start();
    cluster.await_streaming(replica);
    assert_eq!(leader_key(&cluster).mod_revision, before.mod_revision);
    assert_undisturbed(&writer.stop());
}
