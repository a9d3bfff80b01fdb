//! A cluster over etcd's old v2 API.

use crate::support::*;
use pgherd_testkit::cluster::ClusterOptions;
use serde_json::{Value, json};

/// A key by the v2 API; `None` if it does not exist.
fn key(cluster: &Cluster, name: &str) -> Option<String> {
    let (status, body) = cluster.etcd[0].v2("GET", &format!("/service/test/{name}"), "quorum=true")?;
    let body: Value = serde_json::from_str(&body).expect("JSON from etcd");
    (status == 200).then(|| body["node"]["value"].as_str().expect("a value").to_owned())
}

fn set(cluster: &Cluster, change: &Value) {
    let (code, text) = eventually(PATIENCE, "there is a configuration to change", || {
        Some(send(&cluster.nodes[0], "PATCH", "/config", change)).filter(|answer| answer.0 != 503)
    });
    assert_eq!(code, 200, "{text}");
    let wanted: Value = serde_json::from_str(&key(cluster, "config").expect("a config key")).expect("JSON");
    for node in &cluster.nodes {
        let what = format!("{} goes by {wanted}", node.name);
        eventually(PATIENCE, &what, || (node.get("/config")?.json() == wanted).then_some(()));
    }
}

fn standby_in_sync(cluster: &Cluster, leader: usize) -> usize {
    eventually(PATIENCE, "the key names the leader and its synchronous standby", || {
        let sync: Value = serde_json::from_str(&key(cluster, "sync")?).ok()?;
        let named = sync["leader"] == json!(cluster.nodes[leader].name);
        cluster.others(leader).into_iter().find(|n| named && sync["sync_standby"] == json!(cluster.nodes[*n].name))
    })
}

#[test]
fn a_cluster_over_the_old_api_survives_a_switchover_a_dead_node_and_a_restarted_agent_and_loses_nothing() {
    let mut cluster = Cluster::start(3, ClusterOptions { etcd_v2: true, etcd_members: 3, ..options() });
    set(&cluster, &json!({"synchronous_mode": true, "postgresql": {"use_pg_rewind": true}}));
    let first = cluster.await_complete();
    assert_eq!(cluster.keys().get("leader"), None, "nothing is kept by the other API");
    assert_eq!(key(&cluster, "leader"), Some(cluster.nodes[first].name.clone()));
    let writer = cluster.write();

    let candidate = standby_in_sync(&cluster, first);
    let name = cluster.nodes[candidate].name.clone();
    let said = cluster.run(first, &["switchover", "--force", "--candidate", &name]);
    assert!(said.contains("Successfully switched over"), "{said}");
    assert_eq!(cluster.await_complete(), candidate);
    cluster.await_acks(&writer, 30);

    // an agent that dies leaves a primary behind; the next one goes on with its lease
    let before = key(&cluster, "leader");
    let mark = cluster.nodes[candidate].log_mark();
    cluster.nodes[candidate].kill_agent();
    cluster.nodes[candidate].start();
    cluster.nodes[candidate].await_log(mark, "adopting it");
    assert_eq!(cluster.await_complete(), candidate, "it goes on leading");
    assert_eq!(key(&cluster, "leader"), before);

    standby_in_sync(&cluster, candidate);
    cluster.await_acks(&writer, 30);
    cluster.nodes[candidate].kill_node();
    let new = eventually(PATIENCE, "another node takes writes", || {
        let new = cluster.primary().filter(|new| *new != candidate)?;
        (cluster.nodes[new].try_sql("SELECT pg_is_in_recovery()").ok()? == ["f"]).then_some(new)
    });
    cluster.await_acks(&writer, 10);
    cluster.nodes[candidate].start();
    assert_eq!(cluster.await_complete(), new);
    let reserved: u32 = key(&cluster, "timeline").expect("a timeline key").parse().expect("a number");
    assert!(reserved >= 3, "two promotions");
    assert_eq!(timeline(&cluster.nodes[new]), reserved);
    let acks = writer.stop();
    let served: std::collections::BTreeSet<usize> = acks.iter().map(|ack| ack.node).collect();
    assert!(served.len() > 1, "the primary changed");
    assert_nothing_lost(&cluster, new, &acks);
}
