//! etcd is gone, and the members keep their primary by agreement.

use crate::support::*;
use serde_json::json;
use std::time::{Duration, Instant};

/// A cluster in failsafe mode whose topology is written down, with a client at work.
fn prepared() -> (Cluster, usize, pgherd_testkit::writer::Writer) {
    let cluster = Cluster::start(3, options_with(12, 2, 2));
    let primary = cluster.await_primary();
    let writer = cluster.write();
    configure(&cluster, json!({"failsafe_mode": true}));
    eventually(PATIENCE, "all members are written down, and the primary has read it", || {
        let members = cluster.nodes[primary].get("/failsafe")?.json();
        (members.as_object()?.len() == 3).then_some(())
    });
    assert_eq!(cluster.keys().get("failsafe").expect("a key").json().as_object().map(|members| members.len()), Some(3));
    (cluster, primary, writer)
}

#[test]
fn the_primary_goes_on_while_all_members_agree() {
    let (mut cluster, primary, writer) = prepared();
    cluster.etcd[0].freeze();
    let frozen = Instant::now();
    eventually(PATIENCE, "rows are acknowledged long after the lease", || {
        (writer.acks().last()?.at > frozen + Duration::from_secs(20)).then_some(())
    });
    assert_eq!(cluster.nodes[primary].reason(), "FailsafeActive");
    assert_eq!(cluster.nodes[primary].check("/primary"), Some(200));
    assert_eq!(cluster.nodes[primary].status()["failsafe_mode_is_active"], true);
    cluster.etcd[0].thaw();
    eventually(PATIENCE, "the key is the primary's", || {
        (cluster.keys().get("leader")?.text() == cluster.nodes[primary].name).then_some(())
    });
    assert_eq!(cluster.await_complete(), primary);
    assert_undisturbed(&writer.stop());
    assert_eq!(timeline(&cluster.nodes[primary]), 1);
}

#[test]
fn one_silent_member_is_enough_to_end_writes() {
    let (mut cluster, primary, writer) = prepared();
    let silent = cluster.others(primary)[0];
    cluster.nodes[silent].freeze();
    cluster.etcd[0].freeze();
    eventually(PATIENCE, "PostgreSQL is read-only", || {
        cluster.nodes[primary].try_sql("SELECT pg_is_in_recovery()").is_ok_and(|t| t == ["t"]).then_some(())
    });
    cluster.etcd[0].thaw();
    cluster.nodes[silent].thaw();
    let new = cluster.await_complete();
    cluster.await_acks(&writer, 20);
    assert_nothing_lost(&cluster, new, &writer.stop());
}
