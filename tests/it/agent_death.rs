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

#[test]
fn a_new_agent_that_comes_too_late_fences_before_anything_else() {
    let mut cluster = cluster(2);
    let old = cluster.await_primary();
    let new = 1 - old;
    cluster.nodes[old].kill_agent();
    cluster.nodes[old].kill_guard();
    eventually(PATIENCE, "the other node leads", || (cluster.primary() == Some(new)).then_some(()));
    let postmaster = cluster.nodes[old].postmaster();
    assert!(postmaster.is_some(), "without its agent and its guard nobody ended it");
    // etcd could not allow it to go on either
    cluster.nodes[old].cut_etcd();
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    let (fenced, _) = cluster.nodes[old].await_log(mark, "no lease allows it: stopping it before anything else");
    let (served, _) = cluster.nodes[old].await_log(mark, "REST API listens");
    assert!(fenced < served, "it says nothing to anybody before that");
    assert_ne!(cluster.nodes[old].postmaster(), postmaster);
    let writable = cluster.nodes[old].try_sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == ["f"]);
    assert!(!writable);
    // A server that ran on alone may have written something of its own; if so, it says so.
    cluster.nodes[old].heal_etcd();
    eventually(PATIENCE, "it streams, or says why not", || {
        let streams = cluster.streaming_from(new)?.contains(&cluster.nodes[old].name);
        (streams || cluster.nodes[old].reason() == "Diverged").then_some(())
    });
    assert_eq!(cluster.primary(), Some(new));
}

#[test]
fn a_second_agent_on_the_same_data_is_refused() {
    let mut cluster = cluster(1);
    let node = &cluster.nodes[0];
    let member = || cluster.keys().get("members/pg1").expect("a member key").create_revision;
    let now = || (leader_key(&cluster).mod_revision, member(), node.postmaster(), node.guard(), node.agent_pid());
    let before = now();
    let output = node.command().arg("run").arg(node.config()).output().expect("run pgherd");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(" CRITICAL: ") && errors.contains("another agent works on this data directory; end it first"),
        "{errors}"
    );
    assert_eq!(now(), before);
    cluster.await_complete();
}
