//! From nothing to a cluster, and one node more.

use crate::support::*;
use serde_json::{Value, json};

/// The place of the first line with this text in a log; it must be there.
fn line(log: &[String], text: &str) -> usize {
    log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no line says {text:?}"))
}

#[test]
fn three_nodes_from_nothing_and_a_fourth_later() {
    let mut cluster = cluster(3);
    let primary = cluster.await_primary();
    one_bootstraps_and_the_others_clone(&cluster, primary);
    slots_exist_before_clones_end(&cluster, primary);
    keys_are_as_documented(&cluster, primary);

    cluster.nodes[primary].sql("CREATE TABLE t AS SELECT 42 AS answer");
    let fourth = cluster.add_node();
    cluster.nodes[fourth].start();
    cluster.await_complete();
    cluster.await_caught_up(primary, fourth);
    assert_eq!(cluster.nodes[fourth].sql("SELECT answer FROM t"), ["42"]);
    assert_eq!(cluster.primary(), Some(primary), "the primary is still the same");
    slots_exist_before_clones_end(&cluster, primary);
    lists_agree(&cluster, primary);
}

fn one_bootstraps_and_the_others_clone(cluster: &Cluster, primary: usize) {
    for (n, node) in cluster.nodes.iter().enumerate() {
        let begun = |what: &str| node.log().iter().filter(|line| line.ends_with(&format!("begins: {what}"))).count();
        let expected = if n == primary { (1, 0) } else { (0, 1) };
        assert_eq!((begun("bootstrap"), begun("bootstrap from")), expected, "{}", node.name);
        assert_eq!(node.sql("SELECT pg_is_in_recovery()"), [if n == primary { "f" } else { "t" }]);
    }
    let initialize = cluster.keys().get("initialize").expect("an initialize key");
    assert_eq!(initialize.lease, 0);
    for node in &cluster.nodes {
        assert_eq!(node.sql("SELECT system_identifier FROM pg_control_system()"), [initialize.text()]);
    }
}

/// The primary makes a member's slot at the sight of its key, so that no WAL is missing when the copy is complete.
fn slots_exist_before_clones_end(cluster: &Cluster, primary: usize) {
    let log = cluster.nodes[primary].log();
    for n in cluster.others(primary) {
        let node = &cluster.nodes[n];
        let made = &log[line(&log, &format!("created replication slot {}", node.name))];
        let own = node.log();
        let clone = line(&own, "begins: bootstrap from");
        let ended = clone + line(&own[clone..], "ended: Done");
        // Both in UTC, on one machine's clock.
        assert!(made[..23] < own[ended][..23], "slot: {made}\nclone: {}", own[ended]);
        let slot = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{}'", node.name);
        assert_eq!(cluster.nodes[primary].sql(&slot), ["t"]);
    }
}

fn keys_are_as_documented(cluster: &Cluster, primary: usize) {
    let keys = cluster.keys();
    let leader = leader_key(cluster);
    assert_eq!(leader.text(), cluster.nodes[primary].name);
    assert!(keys.seconds_left(leader.lease).is_some_and(|left| left <= 5), "the leader key hangs on a lease of ttl");
    for (n, node) in cluster.nodes.iter().enumerate() {
        let what = format!("members/{} is complete", node.name);
        let member = eventually(PATIENCE, &what, || {
            keys.get(&format!("members/{}", node.name)).filter(|key| {
                let doc = key.json();
                doc["state"] == "running" && (n == primary || doc["replication_state"] == "streaming")
            })
        });
        let doc = member.json();
        assert_eq!(member.text(), doc.to_string(), "compact, in the order written");
        assert_eq!(doc["conn_url"], format!("postgres://127.0.0.1:{}/postgres", node.pg_link.port()));
        assert_eq!(doc["api_url"], format!("http://127.0.0.1:{}/patroni", node.rest_link.port()));
        assert_eq!(doc["role"], if n == primary { "primary" } else { "replica" });
        assert_eq!(doc["timeline"], 1);
        assert!(doc["xlog_location"].is_u64() && doc["version"].is_string() && doc["pgherd"].is_string(), "{doc}");
        assert_eq!(doc["receive_lsn"].is_u64() && doc["replay_lsn"].is_u64(), n != primary, "{doc}");
        assert!(member.lease != 0, "a member key hangs on a lease");
        assert_eq!(member.lease == leader.lease, n == primary, "and a leader has only one");
    }
    let config = keys.get("config").expect("a config key");
    assert_eq!((config.json()["ttl"].clone(), config.lease), (json!(5), 0));
    let status = eventually(PATIENCE, "the status key has a position", || {
        keys.get("status").filter(|key| key.json()["optime"].is_u64())
    });
    assert_eq!((status.text(), status.lease), (status.json().to_string(), 0));
}

/// JSON and table say the same of each member, on every node.
fn lists_agree(cluster: &Cluster, primary: usize) {
    for from in 0..cluster.nodes.len() {
        // a member key follows its server a moment later
        let json = eventually(PATIENCE, "all member keys say what their servers do", || {
            let json: Value = serde_json::from_str(&cluster.run(from, &["list", "-f", "json"])).expect("JSON");
            let streaming = json.as_array()?.iter().filter(|member| member["State"] == "streaming").count();
            (streaming + 1 == cluster.nodes.len()).then_some(json)
        });
        let table = cluster.run(from, &["list"]);
        let system_id = cluster.keys().get("initialize").expect("an initialize key").text();
        assert!(table.starts_with("+ Cluster: test (") && table.contains(&system_id), "{table}");
        let members = json.as_array().expect("an array");
        assert_eq!(members.len(), cluster.nodes.len());
        for (n, (member, node)) in members.iter().zip(&cluster.nodes).enumerate() {
            assert_eq!((&member["Cluster"], &member["Member"]), (&json!("test"), &json!(node.name)));
            assert_eq!(member["Host"], format!("127.0.0.1:{}", node.pg_link.port()));
            let expected = if n == primary { ("Leader", "running") } else { ("Replica", "streaming") };
            assert_eq!((member["Role"].as_str(), member["State"].as_str()), (Some(expected.0), Some(expected.1)));
            let row = table.lines().find(|line| line.starts_with(&format!("| {} ", node.name))).expect("a row");
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let text = |key: &str| member[key].as_str().map_or_else(|| member[key].to_string(), str::to_owned);
            assert_eq!(cells[1..6], [text("Member"), text("Host"), text("Role"), text("State"), text("TL")], "{table}");
        }
    }
}

#[test]
fn an_interrupted_clone_is_made_anew() {
    let mut cluster = cluster(1);
    let new = cluster.add_node();
    // The copy begins, and gets nowhere; its program outlives the agent.
    cluster.nodes[0].pg_link.stall();
    cluster.nodes[new].start();
    cluster.nodes[new].await_log(0, "begins: bootstrap from");
    cluster.nodes[new].kill_agent();
    cluster.nodes[0].pg_link.heal();
    assert!(!cluster.nodes[new].data_dir().exists(), "an incomplete copy is not the data directory");
    let mark = cluster.nodes[new].log_mark();
    cluster.nodes[new].start();
    cluster.await_complete();
    assert!(was_cloned_since(&cluster.nodes[new], mark));
    let left = cluster.nodes[new].leftovers();
    assert!(left.is_empty(), "left over: {left:?}");
}

#[test]
fn a_node_that_dies_while_it_bootstraps_does_not_block_the_cluster() {
    let mut cluster = Cluster::prepare(2, options());
    cluster.nodes[0].start();
    cluster.nodes[0].await_log(0, "begins: bootstrap");
    let claim = cluster.keys().get("initialize").expect("the claim");
    assert!(claim.value.is_empty() && claim.lease != 0, "the claim hangs on the lease of the one who bootstraps");
    cluster.nodes[0].kill_node();
    cluster.nodes[1].start();
    assert_eq!(cluster.await_complete(), 1);
    assert_eq!(cluster.keys().seconds_left(claim.lease), None, "after the claim lapsed");
    cluster.nodes[0].start();
    cluster.await_complete();
    assert_eq!(cluster.primary(), Some(1));
}

#[test]
fn a_second_node_of_the_same_name_refuses_and_the_first_goes_on() {
    let mut cluster = cluster(1);
    let writer = cluster.write();
    let second = cluster.add_node();
    let config = cluster.nodes[second].config();
    let settings = std::fs::read_to_string(&config).expect("the settings");
    std::fs::write(&config, settings.replace("name: pg2", "name: pg1")).expect("write the settings");
    cluster.nodes[second].start();
    cluster.nodes[second].await_log(0, "Can't start; there is already a node named 'pg1' running");
    assert!(!cluster.nodes[second].data_dir().exists(), "nothing is made");
    let key = cluster.keys().get("members/pg1").expect("the member key").json();
    assert!(key["api_url"].as_str().expect("an address").contains(&cluster.nodes[0].rest_link.port().to_string()));
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
    assert_eq!(cluster.nodes[0].reason(), "LeaderWithLock");
}
