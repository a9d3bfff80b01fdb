//! The commands over a real cluster.

use crate::support::*;
use pgherd_testkit::cluster::Program;
use pgherd_testkit::node::command;
use pgherd_testkit::postgres::TestDir;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::Path;

fn json_of(cluster: &Cluster, node: usize, arguments: &[&str]) -> Value {
    serde_json::from_str(&cluster.run(node, arguments)).expect("JSON")
}

/// What a command prints, and its exit code.
fn answer(cluster: &Cluster, node: usize, arguments: &[&str]) -> (String, i32) {
    let node = &cluster.nodes[node];
    let output = node.command().args(arguments).arg("-c").arg(node.config()).output().expect("run pgherd");
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().expect("an exit code"))
}

#[test]
fn commands_that_look() {
    let mut cluster = cluster(2);
    let primary = cluster.await_complete();
    let replica = 1 - primary;
    let (leader, follower) = (&cluster.nodes[primary], &cluster.nodes[replica]);
    eventually(PATIENCE, "the leader wrote the config key", || cluster.keys().get("config").map(drop));
    let config = cluster.run(replica, &["show-config"]);
    assert!(config.starts_with("loop_wait: 1\n") && config.contains("\npostgresql:\n  use_slots: true\n"), "{config}");
    assert_eq!(cluster.run(replica, &["dsn"]), format!("host=127.0.0.1 port={}\n", leader.pg_link.port()));
    let of_replica = format!("host=127.0.0.1 port={}\n", follower.pg_link.port());
    assert_eq!(cluster.run(primary, &["dsn", "test", "-r", "replica"]), of_replica);
    let tree = cluster.run(primary, &["topology"]);
    let rows: Vec<_> = tree.lines().filter(|line| line.contains("| Leader ") || line.contains("| Replica ")).collect();
    assert!(rows[0].starts_with(&format!("| {} ", leader.name)) && rows[0].contains("| Leader "), "{tree}");
    assert!(rows[1].starts_with(&format!("| + {} ", follower.name)) && rows[1].contains("| Replica "), "{tree}");
    let yaml = cluster.run(primary, &["list", "-f", "yaml"]);
    assert!(yaml.contains(&format!("  Member: {}\n  Role: Leader\n", leader.name)), "{yaml}");
    let server = leader.sql("SHOW server_version").remove(0);
    let server = server.split(' ').next().expect("a version");
    let lines = format!("\npg1: Patroni 4.1.4 PostgreSQL {server}\npg2: Patroni 4.1.4 PostgreSQL {server}\n");
    eventually(PATIENCE, "both agents have seen their servers", || {
        cluster.run(primary, &["version", "test"]).ends_with(&lines).then_some(())
    });
    assert_eq!(json_of(&cluster, primary, &["history", "-f", "json"]), json!([]));
    let (old, new) = (primary, follower.name.clone());
    assert_eq!(cluster.nodes[old].terminate().code(), Some(0));
    cluster.await_primary();
    let history = eventually(PATIENCE, "the history has a row", || {
        Some(json_of(&cluster, replica, &["history", "-f", "json"])).filter(|rows| *rows != json!([]))
    });
    assert_eq!((&history[0]["TL"], &history[0]["New Leader"]), (&json!(1), &json!(new)), "{history}");
    assert!(history[0]["LSN"].is_u64(), "{history}");
}

#[test]
fn the_configuration_is_edited() {
    let cluster = cluster(1);
    eventually(PATIENCE, "the leader wrote the config key", || cluster.keys().get("config").map(drop));
    let out =
        cluster.run(0, &["edit-config", "-s", "maximum_lag_on_failover=2097152", "-p", "work_mem=8MB", "--force"]);
    assert!(
        out.contains("\n+maximum_lag_on_failover: 2097152\n") && out.ends_with("\nConfiguration changed\n"),
        "{out}"
    );
    let key = cluster.keys().get("config").expect("a config key");
    assert_eq!(key.json()["postgresql"]["parameters"], json!({"work_mem": "8MB"}));
    assert_eq!(key.text(), key.json().to_string(), "compact, for those who look for texts in it");
    assert!(cluster.run(0, &["show-config"]).contains("  parameters:\n    work_mem: 8MB\n"));
    assert_eq!(cluster.run(0, &["edit-config", "-s", "maximum_lag_on_failover=2097152"]), "Not changed\n");
}

#[test]
fn a_refusal_is_a_failure_unless_called_patronictl() {
    let mut cluster = Cluster::start(1, options_with(60, 1, 1));
    let directory = TestDir::new();
    let program = Program::reachable(Path::new(PROGRAM));
    let link = directory.path().join("patronictl");
    symlink(&program.path, &link).expect("a link");
    cluster.nodes[0].kill_agent();
    for (program, code) in [(&program.path, 1), (&link, 0)] {
        let mut command = command(program, directory.path());
        let output =
            command.arg("-c").arg(cluster.nodes[0].config()).args(["version", "test"]).output().expect("run it");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.stderr.is_empty() && out.contains("\npg1: failed to get version: http://127.0.0.1:"), "{out}");
        assert_eq!(output.status.code(), Some(code), "{out}");
    }
}

#[test]
fn members_are_asked() {
    let cluster = cluster(2);
    let primary = cluster.await_primary();
    let (leader, other) = (&cluster.nodes[primary].name, &cluster.nodes[1 - primary].name);
    eventually(PATIENCE, "the leader wrote the config key", || cluster.keys().get("config").map(drop));
    let at = ["--scheduled", "2093-01-01T12:00+01:00"];
    let out = cluster.run(primary, &["switchover", "--force", "--candidate", other, at[0], at[1]]);
    let planned = format!(
        "
 Switchover scheduled at: 2093-01-01T12:00:00+01:00
                    from: {leader}
                      to: {other}
"
    );
    assert!(out.contains(" Switchover scheduled\n+ Cluster: test (") && out.ends_with(&planned), "{out}");
    assert!(cluster.run(1 - primary, &["list"]).ends_with(&planned));
    // the leader answers from what it has seen
    let (taken_back, _) = eventually(PATIENCE, "the leader has seen it", || {
        Some(answer(&cluster, primary, &["flush", "test", "switchover"])).filter(|(_, code)| *code == 0)
    });
    assert_eq!(taken_back, "Success: scheduled switchover deleted\n");
    assert_eq!(cluster.run(primary, &["flush", "test", "switchover"]), "No pending scheduled switchover\n");

    assert_eq!(cluster.run(1 - primary, &["pause"]), "Success: cluster management is paused\n");
    assert!(cluster.run(primary, &["list"]).ends_with("\n Maintenance mode: on\n"));
    assert_eq!(cluster.run(1 - primary, &["resume"]), "Success: cluster management is resumed\n");
    assert_eq!(cluster.keys().get("config").expect("a config key").json().get("pause"), None);
}
