//! etcd stands still, or a part of it is dead.

use crate::support::*;
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_frozen_etcd_ends_writes_before_the_lease_can_lapse_and_they_go_on_after_it() {
    let cluster = cluster(3);
    rewind_what_diverges(&cluster);
    let primary = cluster.await_primary();
    let writer = cluster.write();
    cluster.await_acks(&writer, 50);
    let frozen = Instant::now();
    cluster.etcd[0].freeze();

    eventually(PATIENCE, "PostgreSQL is read-only", || {
        cluster.nodes[primary].try_sql("SELECT pg_is_in_recovery()").is_ok_and(|t| t == ["t"]).then_some(())
    });
    let last = writer.acks().last().expect("an acknowledged row").at;
    // Whatever etcd granted, it granted before it was frozen.
    assert!(last < frozen + Duration::from_secs(5), "a row was acknowledged {:?} after the freeze", last - frozen);
    assert_eq!(cluster.primary(), None, "and nobody says that it leads");
    for node in &cluster.nodes {
        assert_eq!(node.sql("SELECT pg_is_in_recovery()"), ["t"]);
    }

    let before = writer.acks().len();
    cluster.etcd[0].thaw();
    eventually(PATIENCE, "the cluster serves again", || (writer.acks().len() > before + 20).then_some(()));
    let new = cluster.await_primary();
    let acks = writer.stop();
    let rows: BTreeSet<i64> = cluster.nodes[new].rows().expect("rows").into_iter().collect();
    let lost: Vec<_> = acks.iter().filter(|ack| !rows.contains(&ack.id)).collect();
    assert!(lost.is_empty(), "acknowledged rows are missing: {lost:?}");
    cluster.others(new).into_iter().for_each(|n| cluster.await_streaming(n));
}

#[test]
fn a_dead_or_silent_endpoint_at_start_does_not_matter() {
    let mut cluster = Cluster::prepare(2, pgherd_testkit::cluster::ClusterOptions { etcd_members: 3, ..options() });
    // The first of the list, dead for one node and silent for the other.
    cluster.nodes[0].etcd_links[0].cut();
    cluster.nodes[1].etcd_links[0].stall();
    cluster.etcd[0].kill();
    cluster.nodes.iter_mut().for_each(pgherd_testkit::node::Node::start);
    let primary = cluster.await_complete();
    let writer = cluster.write();

    // Another one dies after the first is back: those who spoke to it go on elsewhere.
    cluster.etcd[0].restart();
    cluster.nodes.iter().for_each(|node| node.etcd_links[0].heal());
    cluster.nodes.iter().for_each(|node| node.etcd_links[1].cut());
    cluster.await_acks(&writer, 50);
    cluster.await_complete();
    assert_eq!(cluster.primary(), Some(primary));
    assert_undisturbed(&writer.stop());
}

#[test]
fn an_agent_waits_for_an_etcd_that_is_not_there_yet() {
    let mut cluster = Cluster::prepare(1, options());
    cluster.etcd[0].kill();
    cluster.nodes[0].start();
    cluster.nodes[0].await_log(0, "the DCS cannot be read");
    assert_eq!(cluster.nodes[0].check("/primary"), Some(503));
    assert_eq!(cluster.nodes[0].check("/liveness"), Some(200));
    assert!(!cluster.nodes[0].data_dir().exists(), "nothing is made while nobody can say what others do");
    cluster.etcd[0].restart();
    cluster.await_complete();
}

#[test]
fn any_one_member_of_etcd_may_freeze_or_be_cut_off_and_no_client_notices() {
    let options = pgherd_testkit::cluster::ClusterOptions { etcd_members: 3, ..options_with(10, 1, 3) };
    let cluster = Cluster::start(2, options);
    let primary = cluster.await_primary();
    let node = &cluster.nodes[primary];
    let writer = cluster.write();
    for etcd in &cluster.etcd {
        // etcd's leader is one of them
        etcd.freeze();
        await_renewal(node);
        await_renewal(node);
        etcd.thaw();
    }
    for member in 0..3 {
        cluster.nodes.iter().for_each(|node| node.etcd_links[member].stall());
        await_renewal(node);
        await_renewal(node);
        cluster.nodes.iter().for_each(|node| node.etcd_links[member].heal());
    }
    cluster.await_acks(&writer, 10);
    assert_eq!(cluster.primary(), Some(primary));
    assert_undisturbed(&writer.stop());
}
