//! The primary is cut off from etcd while everybody else reaches it, and it everybody else.

use crate::support::*;

/// Waits until another node than this one leads; its place.
fn await_other_primary(cluster: &Cluster, old: usize) -> usize {
    eventually(PATIENCE, "another node leads", || cluster.primary().filter(|n| *n != old))
}

#[test]
fn a_primary_cut_off_from_etcd_stops_before_another_begins() {
    let mut cluster = cluster(3);
    let first = cluster.await_primary();
    let name = cluster.nodes[first].name.clone();
    let watch = LeaderWatch::start(cluster.keys());
    let writer = cluster.write();
    cluster.await_acks(&writer, 50);
    cluster.nodes[first].cut_etcd();
    let second = await_other_primary(&cluster, first);
    eventually(PATIENCE, "the new primary accepts writes", || (writer.acks().last()?.node == second).then_some(()));
    let acks = writer.stop();
    let last_of_old = acks.iter().filter(|ack| ack.node == first).map(|ack| ack.at).max().expect("rows before");
    let first_of_new = acks.iter().filter(|ack| ack.node == second).map(|ack| ack.at).min().expect("rows after");
    let seen = watch.last_naming(&name).expect("the old leader was seen");
    let gone = watch.first_not_naming(&name, seen.begun).expect("its key lapsed");
    assert!(last_of_old < gone.ended, "the old primary acknowledged after its key was gone");
    assert!(last_of_old < first_of_new, "two primaries acknowledged rows");
    assert!(first_of_new > seen.begun, "the new primary wrote while the key named the old one");

    // Now without a client, so that nothing can be left unsent: it must come back by itself.
    let idle = second;
    let third = cluster.others(first).into_iter().find(|n| *n != second).expect("a third node");
    cluster.await_streaming(third);
    cluster.await_caught_up(second, third);
    let mark = cluster.nodes[idle].log_mark();
    // silent this time: connections stay open
    cluster.nodes[idle].stall_etcd();
    let new = await_other_primary(&cluster, idle);
    assert_eq!(new, third, "the one cut off cannot take part");
    cluster.nodes[idle].heal_etcd();
    cluster.await_streaming(idle);
    assert!(!was_cloned_since(&cluster.nodes[idle], mark));

    // The first one comes back too, unless it had rows that nobody received.
    cluster.nodes[first].heal_etcd();
    eventually(PATIENCE, "the first primary streams or says why it does not", || {
        let streams = cluster.streaming_from(new)?.contains(&name);
        (streams || cluster.nodes[first].reason() == "Diverged").then_some(())
    });
    assert_eq!(cluster.primary(), Some(new));
    if cluster.nodes[first].reason() == "Diverged" {
        let rows = cluster.nodes[new].rows().expect("rows");
        println!("diverged; acknowledged rows only it had: {}", acks.iter().filter(|a| !rows.contains(&a.id)).count());
    } else {
        cluster.await_complete();
    }
}
