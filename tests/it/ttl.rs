//! The cluster's time to live is changed while it runs.

use crate::support::*;
use serde_json::json;

fn granted(cluster: &Cluster) -> Option<i64> {
    cluster.keys().granted_seconds(leader_key(cluster).lease)
}

#[test]
fn every_node_has_a_lease_of_the_new_length_and_no_client_notices() {
    let mut cluster = Cluster::start(2, options_with(60, 10, 10));
    let primary = cluster.await_primary();
    let writer = cluster.write();
    assert_eq!(granted(&cluster), Some(60));
    let marks: Vec<usize> = cluster.nodes.iter().map(|node| node.log_mark()).collect();
    for ttl in [90, 40] {
        let (before, created) = (leader_key(&cluster), leader_key(&cluster).create_revision);
        configure(&cluster, json!({"ttl": ttl}));
        eventually(PATIENCE, "the leader key is on another lease", || {
            (cluster.keys().get("leader")?.lease != before.lease).then_some(())
        });
        let after = leader_key(&cluster);
        assert_eq!((granted(&cluster), after.create_revision), (Some(ttl), created), "the key was never gone");
        assert_eq!(after.text(), cluster.nodes[primary].name);
        for node in &cluster.nodes {
            let what = format!("the lease of {} is of the new length", node.name);
            eventually(PATIENCE, &what, || {
                let key = cluster.keys().get(&format!("members/{}", node.name))?;
                (cluster.keys().granted_seconds(key.lease)? == ttl).then_some(())
            });
        }
        eventually(PATIENCE, "the old lease ends", || {
            cluster.keys().seconds_left(before.lease).is_none().then_some(())
        });
        cluster.await_acks(&writer, 20);
    }
    assert_undisturbed(&writer.stop());
    for (node, mark) in cluster.nodes.iter().zip(marks) {
        assert!(
            node.logged_since(mark, "demot").is_none() && node.logged_since(mark, "is gone from the DCS").is_none()
        );
    }
    assert_eq!(cluster.await_complete(), primary);
}
