//! What Prometheus reads, on a cluster at work and on one whose etcd is silent.

use crate::support::*;
use pgherd_testkit::node::Node;
use serde_json::json;

/// The agent has looked at PostgreSQL once more.
fn await_look(node: &Node) {
    assert_eq!(node.check("/patroni?look=now"), Some(200));
}

#[test]
fn commits_whose_wait_was_cancelled_are_counted_and_those_that_were_confirmed_are_not() {
    let mut cluster = cluster(2);
    configure(&cluster, json!({"synchronous_mode": true, "synchronous_mode_strict": true}));
    let primary = cluster.await_complete();
    let standby = 1 - primary;
    let cancelled = |cluster: &Cluster| metric(&cluster.nodes[primary], "pgherd_sync_waits_cancelled_total", "");
    await_metric(&cluster.nodes[primary], "pgherd_sync_standbys", |value| value == 1.0);
    await_metric(&cluster.nodes[standby], "patroni_sync_standby", |value| value == 1.0);
    cluster.nodes[primary].sql("CREATE TABLE waits (id int)");
    cluster.nodes[standby].kill_node();
    cluster.nodes[primary].await_log(0, "Commits will be delayed");

    let insert = |cluster: &Cluster, id: u32| {
        let node = &cluster.nodes[primary];
        std::thread::scope(|scope| {
            let insert = scope.spawn(move || node.try_sql(&format!("INSERT INTO waits VALUES ({id})")));
            await_metric(node, "pgherd_sync_commits_waiting", |value| value == 1.0);
            // so that the wait is not the only thing that changed since the look before
            (0..2).for_each(|_| await_look(node));
            let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            assert_eq!(node.sql(cancel), ["t"]);
            insert.join().expect("a thread").expect("PostgreSQL says that the row is there");
        });
        await_look(node);
    };
    insert(&cluster, 1);
    assert_eq!(cancelled(&cluster), Some(1.0));
    insert(&cluster, 2);
    assert_eq!(cancelled(&cluster), Some(2.0));

    let node = &cluster.nodes[primary];
    let port = node.pg_port;
    let waits = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(pgherd_testkit::postgres::sql(port, "INSERT INTO waits VALUES (3)"))
    });
    await_metric(node, "pgherd_sync_commits_waiting", |value| value == 1.0);
    cluster.nodes[standby].start();
    waits.join().expect("a thread").expect("the standby has confirmed it");
    (0..3).for_each(|_| await_look(&cluster.nodes[primary]));
    assert_eq!(cancelled(&cluster), Some(2.0), "a standby let it go");
}

#[test]
fn series_of_a_leader_and_of_one_that_lost_etcd() {
    let cluster = Cluster::start(1, options_with(3, 1, 1));
    let node = &cluster.nodes[0];
    let text = node.get("/metrics").expect("an answer");
    assert_eq!(text.status, 200);
    assert!(text.head.contains("content-type: text/plain; version=0.0.4"), "{}", text.head);
    for (name, expected) in [("patroni_primary", 1.0), ("patroni_postgres_state", 5.0), ("pgherd_leader", 1.0)] {
        await_metric(node, name, |value| value == expected);
    }
    let renewals = || metric(node, "pgherd_dcs_seconds_count", "renew").expect("a count");
    let before = renewals();
    eventually(PATIENCE, "renewals are timed", || (renewals() > before).then_some(()));
    assert!(metric(node, "pgherd_decision_seconds_count", "").is_some_and(|count| count > 0.0));
    assert!(metric(node, "pgherd_lease_remaining_seconds", "").is_some_and(|left| left > 0.0 && left <= 3.0));

    node.stall_etcd();
    await_metric(node, "pgherd_dcs_lost_seconds", |lost| lost > 0.0);
    await_metric(node, "pgherd_dcs_losses_total", |losses| losses == 1.0);
    await_metric(node, "pgherd_lease_remaining_seconds", |left| left == 0.0);
    await_metric(node, "pgherd_fences_total", |fences| fences == 1.0);
    assert_eq!(metric(node, "patroni_cluster_unlocked", ""), Some(1.0));
    node.heal_etcd();
    await_metric(node, "pgherd_leader", |leads| leads == 1.0);
    await_metric(node, "pgherd_dcs_lost_seconds", |lost| lost == 0.0);
    assert_eq!(metric(node, "pgherd_failovers_total", ""), Some(0.0), "the same member leads again");
}
