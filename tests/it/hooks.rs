//! The scripts that PostgreSQL's promotion and stop wait for.

use crate::support::*;
use pgherd_testkit::node::Node;

#[test]
fn a_node_whose_pre_promote_script_fails_makes_room_for_another() {
    let mut cluster = Cluster::prepare(3, options());
    for node in &cluster.nodes {
        // refuses as long as there is a file for it
        let script = node.add_script("check", r#"echo asked >> "$0.calls"; test ! -e "$0.refuse""#);
        node.add_settings(&format!("  pre_promote: {}", script.display()));
    }
    cluster.nodes.iter_mut().for_each(Node::start);
    let first = cluster.await_complete();
    let others = cluster.others(first);
    assert_eq!(cluster.nodes[first].lines_of("check.calls"), [""; 0], "a bootstrap is no promotion");
    others.iter().for_each(|n| cluster.await_caught_up(first, *n));

    // all refuse: nobody is promoted, and everybody says why
    others.iter().for_each(|n| drop(cluster.nodes[*n].add_script("check.refuse", "")));
    cluster.nodes[first].kill_node();
    let refused = "promote failed: pre_promote script ";
    let mark = |cluster: &Cluster, node: usize| cluster.nodes[node].log_mark();
    let candidate = eventually(PATIENCE, "a promotion is refused", || {
        others.iter().copied().find(|n| cluster.nodes[*n].logged_since(0, refused).is_some())
    });
    let (_, line) = cluster.nodes[candidate].await_log(0, refused);
    assert!(line.ends_with("ended with exit code 1: this node is not promoted"), "{line}");
    for node in &others {
        let in_recovery = cluster.nodes[*node].sql("SELECT pg_is_in_recovery()");
        assert_eq!(in_recovery, ["t"]);
        assert!(!cluster.nodes[*node].data_dir().join("pg_wal/00000002.history").exists());
    }

    // one agrees: it leads, whoever is asked before
    let willing = others.iter().copied().find(|n| *n != candidate).expect("two replicas");
    let since = mark(&cluster, willing);
    std::fs::remove_file(cluster.nodes[willing].config().with_file_name("check.refuse")).expect("remove the file");
    eventually(PATIENCE, "the willing one leads", || (cluster.primary() == Some(willing)).then_some(()));
    assert!(cluster.nodes[willing].logged_since(since, refused).is_none());
    assert_eq!(cluster.await_primary(), willing);
    cluster.await_streaming(candidate);
}

#[test]
fn before_stop_runs_while_the_server_still_serves_and_its_failure_stops_nothing() {
    let mut cluster = Cluster::prepare(1, options());
    let node = &cluster.nodes[0];
    let data_dir = node.data_dir();
    let script = format!(r#"sed -n 8p {}/postmaster.pid >> "$0.saw"; exit 1"#, data_dir.display());
    let script = node.add_script("farewell", &script);
    node.add_settings(&format!("  before_stop: {} 'two words'", script.display()));
    cluster.nodes[0].start();
    cluster.await_complete();
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    let saw: Vec<_> = cluster.nodes[0].lines_of("farewell.saw").iter().map(|line| line.trim().to_owned()).collect();
    assert_eq!(saw, ["ready"]);
    cluster.nodes[0].await_log(0, "ended with exit code 1; PostgreSQL is stopped all the same");
    assert_eq!(cluster.nodes[0].postmaster(), None);
}
