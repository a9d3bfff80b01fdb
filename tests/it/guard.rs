//! The guard process: PostgreSQL is ended at the deadline when its agent cannot do it.

use crate::support::*;
use pgherd_testkit::keys::Key;
use pgherd_testkit::node::Node;
use pgherd_testkit::writer::Ack;

const NOT_TAKEN: &str = "promote failed: the guard process did not take the order";

/// PostgreSQL ends while the key still names its node: the lease has not lapsed yet. First one look, then the other.
fn await_fenced(cluster: &Cluster, node: usize, key: &Key) {
    eventually(PATIENCE, "PostgreSQL is ended", || (!cluster.nodes[node].postgres_is_alive()).then_some(()));
    let still = cluster.keys().get("leader").map(|still| still.create_revision);
    assert_eq!(still, Some(key.create_revision), "the lease lapsed first");
}

/// Waits until the other node has taken writes, and checks the order: every write of the old primary, then the end of
/// the key, then the first write of the new one.
fn assert_no_overlap(cluster: &Cluster, old: usize, watch: &LeaderWatch, acks: impl Fn() -> Vec<Ack>) {
    let on_new = |acks: &[Ack]| acks.iter().any(|ack| ack.node != old);
    eventually(PATIENCE, "the other node accepts writes", || Some(acks()).filter(|acks| on_new(acks)));
    let seen = watch.last_naming(&cluster.nodes[old].name).expect("the old leader was seen");
    let (before, after): (Vec<Ack>, Vec<Ack>) = acks().into_iter().partition(|ack| ack.node == old);
    assert!(before.iter().all(|ack| ack.at < seen.ended), "a write was acknowledged after the key had gone");
    assert!(after[0].at > seen.begun, "the new primary wrote while the key named the old one");
}

fn is_writable(node: &Node) -> bool {
    node.try_sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == ["f"])
}

fn await_guard(node: &Node, mark: usize) -> i32 {
    node.await_log(mark, "the guard process is on duty");
    node.guard().expect("a guard")
}

#[test]
fn a_primary_whose_agent_was_killed_is_ended_before_its_lease_lapses() {
    let mut cluster = cluster(2);
    rewind_what_diverges(&cluster);
    let old = cluster.await_primary();
    let key = leader_key(&cluster);
    let watch = LeaderWatch::start(cluster.keys());
    let writer = cluster.write();
    cluster.nodes[old].kill_agent();
    assert!(cluster.nodes[old].guard().is_some(), "the guard outlives the agent");
    await_fenced(&cluster, old, &key);
    assert_no_overlap(&cluster, old, &watch, || writer.acks());
    drop(writer.stop());

    // Nothing is left to guard, and nobody is there.
    eventually(PATIENCE, "the guard ends", || cluster.nodes[old].guard().is_none().then_some(()));
    assert!(!cluster.nodes[old].postgres_is_alive());
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    cluster.await_streaming(old);
    assert!(!was_cloned_since(&cluster.nodes[old], mark));
}

#[test]
fn a_primary_whose_agent_is_frozen_is_ended_before_its_lease_lapses_and_rejoins() {
    let mut cluster = cluster(2);
    let old = cluster.await_primary();
    let guard = cluster.nodes[old].guard();
    let key = leader_key(&cluster);
    let watch = LeaderWatch::start(cluster.keys());
    let writer = cluster.write();
    cluster.nodes[old].freeze();
    await_fenced(&cluster, old, &key);
    assert_no_overlap(&cluster, old, &watch, || writer.acks());
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].thaw();
    let new = 1 - old;
    eventually(PATIENCE, "it follows again", || {
        assert!(!is_writable(&cluster.nodes[old]));
        cluster.streaming_from(new)?.contains(&cluster.nodes[old].name).then_some(())
    });
    drop(writer.stop());
    cluster.await_caught_up(new, old);
    assert_eq!(cluster.nodes[old].rows(), cluster.nodes[new].rows());
    assert!(!was_cloned_since(&cluster.nodes[old], mark));
    assert_eq!(cluster.nodes[old].guard(), guard, "one guard for all of it");
    assert_eq!(cluster.await_complete(), new);
}

#[test]
fn a_guard_that_was_killed_is_replaced_and_the_new_one_is_armed() {
    let mut cluster = cluster(2);
    let old = cluster.await_primary();
    let first = await_guard(&cluster.nodes[old], 0);
    let key = leader_key(&cluster);
    let writer = cluster.write();
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].kill_guard();
    cluster.nodes[old].await_log(mark, "there is no guard process");
    assert_ne!(await_guard(&cluster.nodes[old], mark), first);
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
    assert_eq!(cluster.nodes[old].logged_since(mark, "CRITICAL"), None, "PostgreSQL was left alone");

    cluster.nodes[old].kill_agent();
    await_fenced(&cluster, old, &key);
}

#[test]
fn a_guard_that_is_frozen_is_replaced_and_harms_nobody() {
    let cluster = cluster(1);
    let node = &cluster.nodes[0];
    let (first, postmaster) = (await_guard(node, 0), node.postmaster());
    let writer = cluster.write();
    let mark = node.log_mark();
    node.freeze_guard();
    let (killed, _) = node.await_log(mark, "killed the guard process");
    assert_ne!(await_guard(node, killed), first);
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
    assert_eq!(node.postmaster(), postmaster);
}

#[test]
fn the_guard_stays_with_the_data_and_goes_with_the_last_agent() {
    let mut cluster = Cluster::start(2, options_with(20, 1, 1));
    let primary = cluster.await_primary();
    let guards: Vec<_> = cluster.nodes.iter().map(|node| await_guard(node, 0)).collect();
    for (node, guard) in cluster.nodes.iter_mut().zip(&guards) {
        node.kill_agent();
        let mark = node.log_mark();
        node.start();
        assert_eq!(await_guard(node, mark), *guard, "the same one");
    }
    assert_eq!(cluster.await_complete(), primary);
    for node in &mut cluster.nodes {
        assert_eq!(node.terminate().code(), Some(0));
        assert_eq!(node.guard(), None, "left in order");
    }
}

#[test]
fn without_a_guard_nothing_is_promoted() {
    let mut cluster = cluster(2);
    let old = cluster.await_primary();
    let new = 1 - old;
    await_guard(&cluster.nodes[new], 0);
    let blocked = cluster.nodes[new].data_dir().with_extension("pgherd").join("guard.v1.sock");
    std::fs::remove_file(&blocked).and_then(|()| std::fs::create_dir(&blocked)).expect("block the socket");
    let mark = cluster.nodes[new].log_mark();
    cluster.nodes[new].kill_guard();
    let (_, complaint) = cluster.nodes[new].await_log(mark, "there is no guard process");
    assert!(complaint.contains(" ERROR: "), "{complaint}");

    cluster.nodes[old].kill_node();
    let (_, refused) = cluster.nodes[new].await_log(mark, NOT_TAKEN);
    assert!(refused.contains(" ERROR: "), "{refused}");
    assert!(!is_writable(&cluster.nodes[new]));

    std::fs::remove_dir(&blocked).expect("free the socket");
    await_guard(&cluster.nodes[new], mark);
    assert_eq!(cluster.await_primary(), new);
}
