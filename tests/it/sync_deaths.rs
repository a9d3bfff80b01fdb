//! Deaths of the primary's node in every synchronous mode, at a moment when another replica lacks what was acknowledged
//! last: a wrong choice would lose rows. And once without synchronous replication: the check can see a loss.

use crate::support::*;
use pgherd_testkit::node::Node;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// So many a run; `make test-long` repeats the runs.
const DEATHS: usize = 2;

/// Stops the process that receives WAL on this standby, until it is dropped.
struct FrozenReceiver(Pid);

impl FrozenReceiver {
    fn of(node: &Node) -> Self {
        let pid = node.sql("SELECT pid FROM pg_stat_wal_receiver").remove(0).parse().expect("a process");
        let pid = Pid::from_raw(pid).expect("a process");
        kill_process(pid, Signal::STOP).expect("freeze a WAL receiver");
        Self(pid)
    }
}

impl Drop for FrozenReceiver {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT); // it may be gone
    }
}

/// The standbys in the key of this leader, once there are so many.
fn synchronous(cluster: &Cluster, leader: usize, wanted: usize) -> Vec<usize> {
    eventually(PATIENCE, "the key names the leader and its synchronous standbys", || {
        let key = cluster.keys().get("sync")?.json();
        let names: Vec<&str> = key["sync_standby"].as_str()?.split(',').collect();
        let listed = |node: &usize| names.contains(&cluster.nodes[*node].name.as_str());
        let standbys: Vec<usize> = cluster.others(leader).into_iter().filter(listed).collect();
        let settled = key["leader"] == json!(cluster.nodes[leader].name) && standbys.len() == wanted;
        settled.then_some(standbys)
    })
}

fn deaths(mode: Value, standbys_wanted: usize) {
    let mut cluster = cluster(3);
    rewind_what_diverges(&cluster);
    configure(&cluster, mode);
    let primary = cluster.await_complete();
    synchronous(&cluster, primary, standbys_wanted);
    let writer = cluster.write();
    for _ in 0..DEATHS {
        let primary = cluster.await_complete();
        let listed = synchronous(&cluster, primary, standbys_wanted);
        // of two voters one is enough; of one synchronous standby and another the other is not
        let spare = cluster.others(primary).into_iter().find(|node| standbys_wanted == 2 || !listed.contains(node));
        let spare = spare.expect("a replica that commits do not need");
        let frozen = FrozenReceiver::of(&cluster.nodes[spare]);
        cluster.await_acks(&writer, 30);
        cluster.nodes[primary].kill_node();
        let new = eventually(PATIENCE, "another node takes writes", || {
            let new = cluster.primary().filter(|new| *new != primary)?;
            (cluster.nodes[new].try_sql("SELECT pg_is_in_recovery()").ok()? == ["f"]).then_some(new)
        });
        assert_ne!(new, spare, "the one that lacks the last rows");
        drop(frozen);
        cluster.await_acks(&writer, 10);
        cluster.nodes[primary].start();
    }
    let primary = cluster.await_complete();
    let acks = writer.stop();
    let served: std::collections::BTreeSet<usize> = acks.iter().map(|ack| ack.node).collect();
    assert!(served.len() > 1, "the primary changed");
    assert_nothing_lost(&cluster, primary, &acks);
}

#[test]
fn mode_on_loses_nothing() {
    deaths(json!({"synchronous_mode": true}), 1);
}

#[test]
fn strict_mode_loses_nothing() {
    deaths(json!({"synchronous_mode": true, "synchronous_mode_strict": true}), 1);
}

#[test]
fn quorum_mode_loses_nothing() {
    deaths(json!({"synchronous_mode": "quorum"}), 2);
}

#[test]
fn without_a_synchronous_mode_the_same_check_sees_the_loss() {
    let mut cluster = cluster(2);
    let primary = cluster.await_complete();
    let other = 1 - primary;
    let writer = cluster.write();
    cluster.nodes[primary].pg_link.cut();
    cluster.await_acks(&writer, 30);
    let before = writer.acks();
    cluster.nodes[primary].kill_node();
    eventually(PATIENCE, "the other takes writes", || {
        (cluster.nodes[other].try_sql("SELECT pg_is_in_recovery()").ok()? == ["f"]).then_some(())
    });
    let rows = cluster.nodes[other].rows().expect("rows");
    let lost = before.iter().filter(|ack| !rows.contains(&ack.id)).count();
    assert!(lost > 0, "nothing was lost, so the check above proves nothing");
}
