//! The disk of a node is full or cannot be written: it says so with PostgreSQL's own words, makes room for the others, and
//! comes back by itself once the cause is gone.

use crate::support::*;
use pgherd_testkit::node::{Node, command};
use pgherd_testkit::writer::Writer;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the node says of itself: its state and why.
fn shown(node: &Node) -> (String, String) {
    let status = node.status();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&status["state"]), text(&status["pgherd"]["reason"]["text"]))
}

/// Waits until it shows this state and these words of PostgreSQL.
fn await_shown(node: &Node, state: &str, words: &str) {
    let what = format!("{} shows {state:?} and {words:?}", node.name);
    let mut last = Default::default();
    eventually(PATIENCE, &what, || {
        last = shown(node);
        (last.0 == state && last.1.contains(words)).then_some(())
    });
}

fn permit(node: &Node, directory: &str, mode: u32) {
    let path = node.data_dir().join(directory);
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("change permissions");
}

/// A primary that is written to, a replica that has caught up, and the client.
fn pair(options: ClusterOptions) -> (Cluster, usize, usize, Writer) {
    let cluster = Cluster::start(2, options);
    rewind_what_diverges(&cluster);
    let old = cluster.await_primary();
    let writer = cluster.write();
    cluster.await_caught_up(old, 1 - old);
    (cluster, old, 1 - old, writer)
}

#[test]
fn a_primary_that_cannot_use_its_wal_directory_makes_room_and_comes_back() {
    let (mut cluster, old, new, writer) = pair(options());
    let mark = cluster.nodes[old].log_mark();
    permit(&cluster.nodes[old], "pg_wal", 0o000);
    cluster.nodes[old].kill_postmaster();
    let (_, line) = cluster.nodes[old].await_log(mark, "removed leader key after trying and failing to start postgres");
    assert!(line.contains("Permission denied"), "{line}");
    eventually(PATIENCE, "the other leads", || (cluster.primary()? == new).then_some(()));
    cluster.await_acks(&writer, 20);
    await_shown(&cluster.nodes[old], "start failed", "Permission denied");
    permit(&cluster.nodes[old], "pg_wal", 0o700);
    assert_eq!(cluster.await_complete(), new);
    await_shown(&cluster.nodes[old], "running", "");
}

#[test]
fn a_replica_whose_data_cannot_be_read_says_so_and_comes_back() {
    let mut cluster = cluster(2);
    let replica = 1 - cluster.await_primary();
    let mark = cluster.nodes[replica].log_mark();
    permit(&cluster.nodes[replica], "global", 0o000);
    cluster.nodes[replica].kill_postmaster();
    let node = &cluster.nodes[replica];
    eventually(PATIENCE, "it says what is wrong", || shown(node).1.contains("Permission denied").then_some(()));
    assert!(node.logged_since(mark, "Permission denied").is_some());
    eventually(PATIENCE, "its member key says so, too", || {
        let member = cluster.keys().get(&format!("members/{}", node.name))?.json();
        member["pgherd_reason"].as_str()?.contains("Permission denied").then_some(())
    });
    permit(node, "global", 0o700);
    cluster.await_complete();
}

/// What a full disk is to PostgreSQL, without a disk: no file may become longer than this.
fn limit_files(node: &Node, bytes: &str) {
    let agent = node.agent_pid().expect("an agent").to_string();
    for pid in std::iter::once(agent).chain(node.postmaster().map(|pid| pid.to_string())) {
        let mut limit = command(Path::new("prlimit"), &node.data_dir());
        let done = limit.arg(format!("--fsize={bytes}:")).args(["--pid", &pid]).status();
        assert!(done.expect("run prlimit (util-linux)").success());
    }
}

#[test]
fn a_primary_that_cannot_write_more_wal_makes_room_and_comes_back() {
    let (mut cluster, old, new, writer) = pair(ClusterOptions { wal_segment_mb: 16, ..options() });
    let mark = cluster.nodes[old].log_mark();
    // shorter than a WAL file, longer than all others
    limit_files(&cluster.nodes[old], "8000000");
    cluster.nodes[old].kill_postmaster();
    let fills = "SELECT pg_switch_wal() FROM generate_series(1, 20)";
    eventually(PATIENCE, "the key is given up", || {
        let _ = cluster.nodes[old].try_sql(fills);
        (cluster.keys().get("leader")?.text() == cluster.nodes[new].name).then_some(())
    });
    cluster.await_acks(&writer, 20);
    let told =
        ["File too large", "No space left"].iter().any(|words| cluster.nodes[old].logged_since(mark, words).is_some());
    assert!(told, "in PostgreSQL's words");
    limit_files(&cluster.nodes[old], "unlimited");
    assert_eq!(cluster.await_complete(), new);
}
