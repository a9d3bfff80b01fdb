//! Maintenance mode: the agent looks on.

use crate::support::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn pause(cluster: &Cluster) {
    configure(cluster, json!({"pause": true}));
    for node in cluster.nodes.iter().filter(|node| node.agent_pid().is_some()) {
        let key = format!("members/{}", node.name);
        eventually(PATIENCE, &format!("{} says that it is paused", node.name), || {
            (cluster.keys().get(&key)?.json()["pause"] == true).then_some(())
        });
    }
}

fn resume(cluster: &Cluster) {
    configure(cluster, json!({"pause": null}));
}

#[test]
fn a_stopped_primary_stays_down_until_the_mode_ends() {
    let mut cluster = cluster(2);
    let primary = cluster.await_primary();
    cluster.await_caught_up(primary, 1 - primary);
    pause(&cluster);
    let mark = cluster.nodes[primary].log_mark();
    cluster.nodes[primary].kill_postgres();
    cluster.nodes[primary].await_log(mark, "removed leader lock because postgres is not running");
    eventually(PATIENCE, "the key is gone", || cluster.keys().get("leader").is_none().then_some(()));
    eventually(PATIENCE, "the replica does nothing", || {
        (cluster.nodes[1 - primary].reason() == "Paused").then_some(())
    });
    assert_eq!(cluster.nodes[1 - primary].sql("SELECT pg_is_in_recovery()"), ["t"]);
    assert!(!cluster.nodes[primary].postgres_is_alive());
    resume(&cluster);
    cluster.await_complete();
}

#[test]
fn without_etcd_the_primary_goes_on_and_takes_the_key_again() {
    let cluster = cluster(2);
    let primary = cluster.await_primary();
    let writer = cluster.write();
    pause(&cluster);
    let lease = leader_key(&cluster).lease;
    cluster.etcd[0].freeze();
    // longer than the ttl of five seconds: by the acknowledged rows, not by a clock of this test's own
    let frozen = Instant::now();
    eventually(PATIENCE, "rows are acknowledged long after the lease", || {
        (writer.acks().last()?.at > frozen + Duration::from_secs(8)).then_some(())
    });
    cluster.etcd[0].thaw();
    eventually(PATIENCE, "the key is the primary's, on a new lease", || {
        let key = cluster.keys().get("leader")?;
        (key.text() == cluster.nodes[primary].name && key.lease != lease).then_some(())
    });
    resume(&cluster);
    eventually(PATIENCE, "the primary leads as always", || {
        (cluster.nodes[primary].reason() == "LeaderWithLock").then_some(())
    });
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
    assert_eq!(timeline(&cluster.nodes[primary]), 1);
}

#[test]
fn the_agent_may_leave_and_come_back_without_a_client_noticing() {
    let mut cluster = cluster(2);
    let primary = cluster.await_primary();
    let writer = cluster.write();
    pause(&cluster);
    let postmaster = cluster.nodes[primary].postmaster();
    assert!(cluster.nodes[primary].terminate().success());
    eventually(PATIENCE, "the key has lapsed", || cluster.keys().get("leader").is_none().then_some(()));
    cluster.await_acks(&writer, 20);
    cluster.nodes[primary].start();
    eventually(PATIENCE, "the key is the primary's", || {
        (cluster.keys().get("leader")?.text() == cluster.nodes[primary].name).then_some(())
    });
    resume(&cluster);
    assert_eq!(cluster.await_complete(), primary);
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
    assert_eq!(cluster.nodes[primary].postmaster(), postmaster);
}

#[test]
fn a_switchover_needs_a_candidate_and_is_done_with_one() {
    let mut cluster = cluster(2);
    let (primary, replica) = (cluster.await_primary(), 1 - cluster.await_primary());
    let (leader, candidate) = (cluster.nodes[primary].name.clone(), cluster.nodes[replica].name.clone());
    let writer = cluster.write();
    pause(&cluster);
    let (code, text) = send(&cluster.nodes[primary], "POST", "/switchover", &json!({"leader": leader}));
    assert_eq!((code, text.as_str()), (400, "Switchover is possible only to a specific candidate in a paused state"));
    let body = json!({"leader": leader, "candidate": candidate});
    let (code, text) = send(&cluster.nodes[primary], "POST", "/switchover", &body);
    assert_eq!((code, text), (200, format!("Successfully switched over to \"{candidate}\"")));
    eventually(PATIENCE, "the candidate serves", || (cluster.primary()? == replica).then_some(()));
    cluster.await_acks(&writer, 20);
    resume(&cluster);
    assert_eq!(cluster.await_complete(), replica);
    assert_nothing_lost(&cluster, replica, &writer.stop());
}
