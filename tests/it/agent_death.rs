//! The agent dies alone, and PostgreSQL outlives it.

use crate::support::*;

#[test]
fn a_new_agent_adopts_postgresql_as_it_runs() {
    let mut cluster = Cluster::start(2, options_with(20, 1, 1));
    let primary = cluster.await_primary();
    let (key, postmaster) = (leader_key(&cluster), cluster.nodes[primary].postmaster());
    let started = cluster.nodes[primary].sql("SELECT pg_postmaster_start_time()");
    let writer = cluster.write();

    cluster.nodes[primary].kill_agent();
    let mark = cluster.nodes[primary].log_mark();
    cluster.nodes[primary].start();
    cluster.nodes[primary].await_log(mark, "adopting it");
    cluster.nodes[primary].await_log(mark, "the leader with the lock");
    assert_eq!(cluster.await_primary(), primary);
    cluster.await_acks(&writer, 20);

    // The lease is the old one and lives: a renewal by the new agent was proven.
    let now = leader_key(&cluster);
    assert_eq!((now.create_revision, now.lease), (key.create_revision, key.lease), "the key was never given up");
    assert_eq!(cluster.nodes[primary].postmaster(), postmaster);
    assert_eq!(cluster.nodes[primary].sql("SELECT pg_postmaster_start_time()"), started);
    assert_undisturbed(&writer.stop());
    cluster.await_complete();
}

#[test]
fn a_replica_is_adopted_as_it_runs_too() {
    let mut cluster = cluster(2);
    let replica = 1 - cluster.await_primary();
    let postmaster = cluster.nodes[replica].postmaster();
    cluster.nodes[replica].kill_agent();
    let mark = cluster.nodes[replica].log_mark();
    cluster.nodes[replica].start();
    cluster.nodes[replica].await_log(mark, "a secondary, and following a leader");
    assert_eq!(cluster.nodes[replica].postmaster(), postmaster);
    cluster.await_complete();
}

#[test]
fn a_new_agent_without_etcd_fences_at_the_recorded_deadline() {
    let mut cluster = cluster(2);
    let primary = cluster.await_primary();
    let replica = 1 - primary;
    cluster.await_caught_up(primary, replica);
    let (key, postmaster) = (leader_key(&cluster), cluster.nodes[primary].postmaster());
    cluster.nodes[primary].kill_agent();
    cluster.nodes[primary].cut_etcd();
    let mark = cluster.nodes[primary].log_mark();
    cluster.nodes[primary].start();
    cluster.nodes[primary].await_log(mark, "adopting it");

    // First the end of PostgreSQL, then a look at the key: it must not have lapsed yet.
    eventually(PATIENCE, "PostgreSQL is ended", || (cluster.nodes[primary].postmaster() != postmaster).then_some(()));
    let still = cluster.keys().get("leader");
    assert_eq!(still.map(|still| still.create_revision), Some(key.create_revision), "the lease lapsed first");
    let writable = || cluster.nodes[primary].try_sql("SELECT pg_is_in_recovery()").is_ok_and(|t| t == ["f"]);
    assert!(!writable());
    eventually(PATIENCE, "the replica leads", || (cluster.primary() == Some(replica)).then_some(()));
    assert!(!writable());

    cluster.nodes[primary].heal_etcd();
    cluster.await_streaming(primary);
    assert!(!was_cloned_since(&cluster.nodes[primary], mark));
}
