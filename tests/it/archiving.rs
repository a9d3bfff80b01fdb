//! A leader steps down while its archive is slow: PostgreSQL has shut down but for the archiver, and nobody waits for that.

use crate::support::*;
use pgherd_testkit::cluster::ClusterOptions;
use pgherd_testkit::node::Node;
use rustix::process::Signal;
use serde_json::json;
use std::path::PathBuf;

/// Archives nothing while `hold` is in the node's directory; the working directory is the data directory.
const PARAMETERS: &str = "
      parameters:
        archive_mode: 'on'
        archive_command: 'while test -e ../hold; do sleep 0.1; done; echo %f >> ../archived'";

fn archiving_cluster(options: ClusterOptions, prepare: impl Fn(&Node)) -> Cluster {
    let mut cluster = Cluster::prepare(2, options);
    for node in &mut cluster.nodes {
        let text = std::fs::read_to_string(node.config()).expect("the settings");
        let with_archive = text.replace("\n      use_slots: true", &format!("\n      use_slots: true{PARAMETERS}"));
        assert_ne!(text, with_archive);
        std::fs::write(node.config(), with_archive).expect("write the settings");
        prepare(node);
        node.start();
    }
    cluster.await_complete();
    cluster
}

fn beside(node: &Node, name: &str) -> PathBuf {
    node.data_dir().with_file_name(name)
}

fn hold(node: &Node, name: &str) {
    std::fs::write(beside(node, name), "").expect("make a file");
}

fn let_go(node: &Node, name: &str) {
    std::fs::remove_file(beside(node, name)).expect("remove a file");
}

/// Nothing but the archiver holds the postmaster, and no client is let in.
fn assert_only_archives(node: &Node) {
    assert!(node.postmaster().is_some(), "the old postmaster still archives");
    let refused = node.try_sql("SELECT 1").expect_err("no client is let in");
    assert!(refused.contains("shutting down"), "{refused}");
    assert_eq!(node.status()["state"], "stopping");
}

#[test]
fn after_a_switchover_the_new_primary_serves_while_the_old_one_still_archives() {
    let mut cluster = archiving_cluster(options_with(60, 20, 5), |_| {});
    let old = cluster.await_primary();
    let new = 1 - old;
    let writer = cluster.write();
    let mark = cluster.nodes[old].log_mark();
    hold(&cluster.nodes[old], "hold");
    let asked = json!({"leader": cluster.nodes[old].name});
    let (code, text) = send(&cluster.nodes[new], "POST", "/switchover", &asked);
    assert_eq!((code, text), (200, format!("Successfully switched over to \"{}\"", cluster.nodes[new].name)));
    cluster.await_acks(&writer, 20);
    assert_eq!(leader_key(&cluster).text(), cluster.nodes[new].name);
    assert_only_archives(&cluster.nodes[old]);

    let archived = cluster.nodes[old].lines_of("archived").len();
    let_go(&cluster.nodes[old], "hold");
    assert_eq!(cluster.await_complete(), new);
    assert!(cluster.nodes[old].lines_of("archived").len() > archived, "the rest was archived");
    assert!(cluster.nodes[old].logged_since(mark, "stopping it immediately").is_none());
    assert!(!was_cloned_since(&cluster.nodes[old], mark), "its data are used as they are");
    assert_nothing_lost(&cluster, new, &writer.stop());
}

#[test]
fn an_agent_that_ends_gives_the_key_up_while_its_postgresql_still_archives() {
    let mut cluster = archiving_cluster(options_with(60, 20, 5), |_| {});
    let old = cluster.await_primary();
    let new = 1 - old;
    let writer = cluster.write();
    hold(&cluster.nodes[old], "hold");
    cluster.nodes[old].signal_agent(Signal::TERM);
    eventually(PATIENCE, "the other leads", || (cluster.primary()? == new).then_some(()));
    cluster.await_acks(&writer, 20);
    assert_only_archives(&cluster.nodes[old]);
    assert!(!cluster.nodes[old].agent_has_ended(), "it sees to its PostgreSQL");
    let_go(&cluster.nodes[old], "hold");
    assert_eq!(cluster.nodes[old].wait_for_agent().code(), Some(0));
    assert!(!cluster.nodes[old].postgres_is_alive());
    cluster.nodes[old].start();
    assert_eq!(cluster.await_complete(), new);
    assert_nothing_lost(&cluster, new, &writer.stop());
}

#[test]
fn without_a_successor_the_old_leader_serves_again_and_does_not_wait_for_its_archive() {
    let script = "touch reached; while test -e hold_stop; do sleep 0.1; done";
    let mut cluster = archiving_cluster(options_with(60, 20, 5), |node| {
        let directory = beside(node, "").display().to_string();
        let path = node.add_script("before_stop", &format!("cd {directory}; {script}"));
        node.add_settings(&format!("  before_stop: {}", path.display()));
        hold(node, "hold_stop");
    });
    let leader = cluster.await_primary();
    let other = 1 - leader;
    let writer = cluster.write();
    let mark = cluster.nodes[leader].log_mark();
    hold(&cluster.nodes[leader], "hold");
    let request = json!({"leader": cluster.nodes[leader].name}).to_string();
    cluster.keys().put("failover", request.as_bytes(), 0);
    eventually(PATIENCE, "the stop begins", || beside(&cluster.nodes[leader], "reached").exists().then_some(()));
    cluster.nodes[other].freeze();
    let_go(&cluster.nodes[leader], "hold_stop");
    cluster.nodes[leader].await_log(mark, "nobody has received the shutdown checkpoint");
    cluster.await_acks(&writer, 20);
    assert_eq!((cluster.primary(), timeline(&cluster.nodes[leader])), (Some(leader), 1));
    let_go(&cluster.nodes[leader], "hold");
    cluster.nodes[other].thaw();
    assert_eq!(cluster.await_complete(), leader);
    assert_nothing_lost(&cluster, leader, &writer.stop());
}
