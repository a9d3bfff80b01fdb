//! Synchronous replication on whole clusters: nothing that was acknowledged is lost, whoever dies, and the cluster comes
//! back by itself.

use crate::support::*;
use pgherd_testkit::node::Node;
use serde_json::{Value, json};

fn sync_key(cluster: &Cluster) -> Value {
    cluster.keys().get("sync").map(|key| key.json()).unwrap_or_default()
}

/// Leader and standbys of the key.
fn await_key(cluster: &Cluster, what: &str, wanted: impl Fn(&str, Vec<&str>, u64) -> bool) {
    eventually(PATIENCE, what, || {
        let key = sync_key(cluster);
        let standbys = key["sync_standby"].as_str().unwrap_or_default();
        let names = standbys.split(',').filter(|name| !name.is_empty()).collect();
        wanted(key["leader"].as_str()?, names, key["quorum"].as_u64()?).then_some(())
    });
}

fn await_standbys(cluster: &Cluster, leader: &str, standbys: &[&str], quorum: u64) {
    let what = format!("the sync key says {leader}, {quorum} of {standbys:?}");
    await_key(cluster, &what, |l, names, q| (l, names.as_slice(), q) == (leader, standbys, quorum));
}

fn await_names(node: &Node, wanted: &str) {
    let what = format!("{} waits for {wanted}", node.name);
    eventually(PATIENCE, &what, || {
        let names = node.try_sql("SHOW synchronous_standby_names").ok()?;
        (names == [wanted]).then_some(())
    });
}

fn switch(cluster: &Cluster, change: Value) {
    configure(cluster, change);
}

fn name(cluster: &Cluster, node: usize) -> String {
    cluster.nodes[node].name.clone()
}

/// The node that the key names as the only synchronous standby.
fn only_standby(cluster: &Cluster) -> usize {
    eventually(PATIENCE, "the key names one standby", || {
        let key = sync_key(cluster);
        cluster.nodes.iter().position(|node| Some(node.name.as_str()) == key["sync_standby"].as_str())
    })
}

#[test]
fn a_lost_synchronous_standby_is_replaced_and_the_present_one_takes_over() {
    let mut cluster = cluster(3);
    rewind_what_diverges(&cluster);
    // standbys answer only to WAL: a commit that waits for one that is gone is not released by chance
    let silent = json!({"parameters": {"wal_receiver_status_interval": 0}});
    switch(&cluster, json!({"synchronous_mode": true, "postgresql": silent}));
    let primary = cluster.await_complete();
    let first = only_standby(&cluster);
    let second = 3 - primary - first;
    await_names(&cluster.nodes[primary], &name(&cluster, first));
    eventually(PATIENCE, "REST says who is synchronous", || {
        let (sync, other) = (cluster.nodes[first].check("/sync")?, cluster.nodes[second].check("/sync")?);
        ((sync, other) == (200, 503)).then_some(())
    });
    let writer = cluster.write();
    cluster.nodes[first].kill_node();
    await_standbys(&cluster, &name(&cluster, primary), &[&name(&cluster, second)], 0);
    let log = &cluster.nodes[primary];
    let (replaced, _) = log.await_log(0, &format!("Assigning synchronous_standby_names to {}", name(&cluster, second)));
    log.await_log(replaced, "commits wait: a little WAL is written");
    cluster.await_acks(&writer, 20);

    cluster.nodes[primary].kill_node();
    eventually(PATIENCE, "the synchronous standby is the primary", || {
        (cluster.primary()? == second && cluster.nodes[second].try_sql("SELECT 1").is_ok()).then_some(())
    });
    cluster.await_acks(&writer, 20);
    let acks = writer.stop();
    assert!(acks.iter().any(|ack| ack.node == second), "it serves");
    assert_nothing_lost(&cluster, second, &acks);
    let (key, _) = cluster.nodes[second].await_log(0, "Synchronous standby status assigned to []");
    let (promoted, _) = cluster.nodes[second].await_log(0, "promoted self to leader");
    assert!(key < promoted, "the key comes before the promotion");
    for node in [first, primary] {
        cluster.nodes[node].start();
        cluster.await_streaming(node);
    }
    await_key(&cluster, "somebody is synchronous again", |leader, names, _| {
        leader == cluster.nodes[second].name && names.len() == 1
    });
}

#[test]
fn a_quorum_of_two_elects_who_has_everything() {
    let mut cluster = cluster(3);
    rewind_what_diverges(&cluster);
    switch(&cluster, json!({"synchronous_mode": "quorum"}));
    let primary = cluster.await_complete();
    let others: Vec<String> = cluster.others(primary).into_iter().map(|node| name(&cluster, node)).collect();
    let both: Vec<&str> = others.iter().map(String::as_str).collect();
    await_standbys(&cluster, &name(&cluster, primary), &both, 1);
    await_names(&cluster.nodes[primary], &format!("ANY 1 ({})", both.join(",")));
    // the voters have what was acknowledged before the mode was on; from here on any one of them is enough
    let writer = cluster.write();
    cluster.nodes[primary].kill_node();
    let new = eventually(PATIENCE, "one of the two is the primary", || cluster.primary().filter(|new| *new != primary));
    cluster.await_acks(&writer, 20);
    let acks = writer.stop();
    assert_nothing_lost(&cluster, new, &acks);
    await_key(&cluster, "the key names the new leader", |leader, _, _| leader == cluster.nodes[new].name);
    cluster.nodes[primary].start();
    cluster.await_streaming(primary);
    let mut all: Vec<String> = cluster.others(new).into_iter().map(|node| name(&cluster, node)).collect();
    all.sort();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    await_standbys(&cluster, &name(&cluster, new), &all, 1);
}

#[test]
fn who_is_not_in_the_key_does_not_lead_until_the_former_leader_is_back() {
    let mut cluster = cluster(2);
    switch(&cluster, json!({"synchronous_mode": true}));
    let primary = cluster.await_complete();
    let other = 1 - primary;
    await_standbys(&cluster, &name(&cluster, primary), &[&name(&cluster, other)], 0);
    let writer = cluster.write();
    cluster.nodes[other].kill_node();
    await_standbys(&cluster, &name(&cluster, primary), &[], 0);
    cluster.await_acks(&writer, 20);
    cluster.nodes[primary].kill_node();
    let acks = writer.stop();
    cluster.nodes[other].start();
    let node = &cluster.nodes[other];
    eventually(PATIENCE, "the standby says why it does not lead", || (node.reason() == "NotSynchronous").then_some(()));
    let text = node.status()["pgherd"]["reason"]["text"].as_str().unwrap_or_default().to_owned();
    assert!(text.ends_with(&format!("one of {} has to come back", name(&cluster, primary))), "{text}");
    cluster.nodes[primary].start();
    assert_eq!(cluster.await_complete(), primary);
    assert_nothing_lost(&cluster, primary, &acks);
}

#[test]
fn strict_mode_acknowledges_nothing_without_a_standby_and_goes_on_with_one() {
    let mut cluster = cluster(2);
    switch(&cluster, json!({"synchronous_mode": true, "synchronous_mode_strict": true}));
    let primary = cluster.await_complete();
    let other = 1 - primary;
    await_standbys(&cluster, &name(&cluster, primary), &[&name(&cluster, other)], 0);
    let writer = cluster.write();
    cluster.nodes[other].kill_node();
    eventually(PATIENCE, "a commit waits", || {
        let text = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        (cluster.nodes[primary].try_sql(text).ok()? != ["0"]).then_some(())
    });
    let logged = "No active replication connections from Patroni members and synchronous_mode_strict is requested";
    eventually(PATIENCE, "the primary says so", || cluster.nodes[primary].logged_since(0, logged));
    let (key, waiting) = (sync_key(&cluster), writer.acks().len());
    assert_eq!(key["sync_standby"], json!(name(&cluster, other)), "those who hold the last commits stay in the key");
    cluster.nodes[other].start();
    cluster.await_acks(&writer, 20);
    let acks = writer.stop();
    assert!(acks.len() > waiting);
    assert_nothing_lost(&cluster, primary, &acks);
}

#[test]
fn a_synchronous_standby_that_is_stopped_is_let_go_first() {
    let mut cluster = cluster(3);
    switch(&cluster, json!({"synchronous_mode": true}));
    let primary = cluster.await_complete();
    let first = only_standby(&cluster);
    let second = 3 - primary - first;
    let writer = cluster.write();
    assert!(cluster.nodes[first].terminate().success());
    let log = |text: &str| cluster.nodes[first].logged_since(0, text).map(|(line, _)| line);
    let waited = log("Waiting for primary to release us from synchronous standby").expect("it asked");
    let stopped = log("shutting down: stopping PostgreSQL").expect("it stopped");
    assert!(waited < stopped);
    await_standbys(&cluster, &name(&cluster, primary), &[&name(&cluster, second)], 0);
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
}

#[test]
fn modes_are_switched_while_the_cluster_serves() {
    let cluster = cluster(3);
    let primary = eventually(PATIENCE, "a primary", || cluster.primary());
    let node = &cluster.nodes[primary];
    let writer = cluster.write();
    switch(&cluster, json!({"synchronous_mode": true, "synchronous_node_count": 2}));
    let mut others: Vec<String> = cluster.others(primary).into_iter().map(|node| name(&cluster, node)).collect();
    others.sort();
    let both: Vec<&str> = others.iter().map(String::as_str).collect();
    await_standbys(&cluster, &node.name, &both, 0);
    await_names(node, &format!("2 ({})", both.join(",")));
    // not all walsenders read them in the same moment: number and names change one after the other
    let begun = node.log_mark();
    switch(&cluster, json!({"synchronous_node_count": 1}));
    let one = &cluster.nodes[only_standby(&cluster)].name;
    await_names(node, one);
    switch(&cluster, json!({"synchronous_node_count": 2}));
    await_standbys(&cluster, &node.name, &both, 0);
    let (two_of_one, two_of_two) = (format!("2 ({one})"), format!("2 ({})", both.join(",")));
    let mut at = begun;
    for names in [&two_of_one, one, &two_of_one, &two_of_two] {
        (at, _) = node.await_log(at, &format!("Assigning synchronous_standby_names to {names}"));
    }
    switch(&cluster, json!({"synchronous_mode": "quorum", "synchronous_node_count": 1}));
    await_standbys(&cluster, &node.name, &both, 1);
    await_names(node, &format!("ANY 1 ({})", both.join(",")));
    switch(&cluster, json!({"synchronous_mode": "off"}));
    await_names(node, "");
    eventually(PATIENCE, "the key is gone", || cluster.keys().get("sync").is_none().then_some(()));
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
}
