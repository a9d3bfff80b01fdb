//! A cluster that follows the primary of another one: from its first copy on, through the loss of its leader, through a
//! change of sides, and when the other cluster's history leaves its own.

use crate::support::*;
use pgherd_testkit::node::Node;
use pgherd_types::Lsn;
use serde_json::json;

/// The second cluster is to follow the primary at this port from its bootstrap on.
fn follow_from_the_first(cluster: &Cluster, port: u16) {
    for node in &cluster.nodes {
        let text = std::fs::read_to_string(node.config()).expect("the settings");
        let section = format!("  dcs:\n    standby_cluster: {{host: 127.0.0.1, port: {port}}}\n");
        std::fs::write(node.config(), text.replacen("  dcs:\n", &section, 1)).expect("write the settings");
    }
}

fn await_check(node: &Node, path: &str, status: u16) {
    let what = format!("{} answers {path} with {status}", node.name);
    eventually(PATIENCE, &what, || (node.check(path)? == status).then_some(()));
}

fn standby_leader(cluster: &Cluster) -> usize {
    eventually(PATIENCE, "a standby leads", || {
        let leads = |node: &&Node| node.agent_pid().is_some() && node.check("/standby-leader") == Some(200);
        cluster.nodes.iter().position(|node| leads(&node))
    })
}

/// What was written there arrives here.
fn await_row(node: &Node, id: i64) {
    let text = format!("SELECT id FROM far WHERE id = {id}");
    let what = format!("row {id} is on {}", node.name);
    eventually(PATIENCE, &what, || (node.try_sql(&text).ok()? == [id.to_string()]).then_some(()));
}

/// Two clusters, the second of which follows the first, and the leader of the second.
fn pair(members: usize) -> (Cluster, Cluster, usize) {
    let near = cluster(members);
    let primary = near.await_primary();
    near.nodes[primary].sql("CREATE TABLE far (id bigint PRIMARY KEY); INSERT INTO far VALUES (1)");
    let mut far = Cluster::prepare(2, options());
    // not by the link, which is for the members of the near cluster
    follow_from_the_first(&far, near.nodes[primary].pg_port);
    far.nodes.iter_mut().for_each(Node::start);
    let leader = standby_leader(&far);
    (near, far, leader)
}

#[test]
fn a_standby_cluster_follows_survives_its_leader_and_changes_sides() {
    let (near, mut far, leader) = pair(1);
    let (here, other) = (&near.nodes[0], 1 - leader);
    eventually(PATIENCE, "the replica streams from the standby leader", || {
        far.streaming_from(leader)?.contains(&far.nodes[other].name).then_some(())
    });
    for node in &far.nodes {
        await_row(node, 1);
        assert_eq!(node.sql("SELECT pg_is_in_recovery()"), ["t"]);
    }
    for (path, leads, follows) in [("/primary", 503, 503), ("/leader", 200, 503), ("/replica", 503, 200)] {
        await_check(&far.nodes[leader], path, leads);
        await_check(&far.nodes[other], path, follows);
    }
    let key = far.keys().get(&format!("members/{}", far.nodes[leader].name)).expect("a member key").json();
    assert_eq!(key["role"], "standby_leader");
    assert!(far.run(other, &["list"]).contains("Standby Leader"), "{}", far.run(other, &["list"]));
    let initialize = |cluster: &Cluster| cluster.keys().get("initialize").expect("an initialize key").value;
    assert_eq!(initialize(&near), initialize(&far), "it is the same database system");

    far.nodes[leader].kill_node();
    await_check(&far.nodes[other], "/standby-leader", 200);
    here.sql("INSERT INTO far VALUES (2)");
    await_row(&far.nodes[other], 2);
    far.nodes[leader].start();
    eventually(PATIENCE, "the old standby leader streams from the new one", || {
        far.streaming_from(other)?.contains(&far.nodes[leader].name).then_some(())
    });

    // the sides are changed: the near cluster steps down in order, the far one has all it had, and takes over
    let writer = near.write();
    near.await_acks(&writer, 20);
    let port = far.nodes[other].pg_link.port().to_string();
    let demoted = near.run(0, &["demote-cluster", "--host", "127.0.0.1", "--port", &port, "--force"]);
    assert!(demoted.ends_with("test cluster is successfully demoted\n"), "{demoted}");
    let acks = writer.stop();
    await_check(here, "/standby-leader", 200);
    let ended: u64 = near.keys().get("status").expect("a status key").json()["optime"].as_u64().expect("a position");
    eventually(PATIENCE, "the far cluster has what the near one had", || {
        let replayed: Lsn = far.nodes[other].try_sql("SELECT pg_last_wal_replay_lsn()").ok()?.first()?.parse().ok()?;
        (replayed >= Lsn(ended)).then_some(())
    });
    let promoted = far.run(leader, &["promote-cluster", "--force"]);
    assert!(promoted.ends_with("test cluster is successfully promoted\n"), "{promoted}");
    await_check(&far.nodes[other], "/primary", 200);
    assert_nothing_lost(&far, other, &acks);
    far.nodes[other].sql("INSERT INTO far VALUES (3)");
    await_row(here, 3);
    await_row(&far.nodes[leader], 3);
    assert!(here.try_sql("INSERT INTO far VALUES (4)").is_err(), "a standby cluster takes no writes");
    let words = far.run(other, &["promote-cluster", "--force"]);
    assert_eq!(words, "Cluster is already in the required state\n");
}

#[test]
fn data_that_the_other_cluster_lost_are_rewound() {
    let (mut near, far, leader) = pair(2);
    rewind_what_diverges(&far);
    let old = near.await_complete();
    let new = 1 - old;
    await_row(&far.nodes[leader], 1);
    // the standby of the near cluster does not get this any more, the far cluster does
    near.nodes[old].pg_link.cut();
    near.nodes[old].sql("INSERT INTO far VALUES (7)");
    await_row(&far.nodes[leader], 7);
    near.nodes[old].kill_node();
    assert_eq!(near.await_primary(), new);
    near.nodes[new].sql("INSERT INTO far VALUES (8)");
    await_row(&far.nodes[1 - leader], 7);
    let marks: Vec<usize> = far.nodes.iter().map(|node| node.log().len()).collect();
    let port = near.nodes[new].pg_port;
    configure(&far, json!({"standby_cluster": {"host": "127.0.0.1", "port": port}}));
    for node in &far.nodes {
        await_row(node, 8);
        assert!(
            node.sql("SELECT id FROM far WHERE id = 7").is_empty(),
            "what the other cluster lost is gone here, too"
        );
    }
    let rewound = |node: &&Node| node.logged_since(0, "running pg_rewind from the remote primary").is_some();
    assert!(far.nodes.iter().any(|node| rewound(&node)), "somebody was rewound");
    let cloned = far.nodes.iter().zip(marks).find(|(node, mark)| was_cloned_since(node, *mark));
    assert_eq!(cloned.map(|(node, _)| &node.name), None, "and nobody copied anew");
}
