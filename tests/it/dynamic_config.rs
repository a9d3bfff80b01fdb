//! The configuration of a running cluster: the `config` key, the settings files, and what is kept for the next start.

use crate::support::*;
use pgherd_testkit::http;
use pgherd_testkit::node::Node;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Changes the `config` key as an operator with etcdctl does.
fn change(cluster: &Cluster, change: impl FnOnce(&mut Value)) {
    let key = eventually(PATIENCE, "the config key is written", || cluster.keys().get("config"));
    let mut document = serde_json::from_slice(&key.value).expect("JSON in the config key");
    change(&mut document);
    cluster.keys().put("config", document.to_string().as_bytes(), 0);
}

fn member(cluster: &Cluster, node: usize) -> Value {
    let key = cluster.keys().get(&format!("members/{}", cluster.nodes[node].name));
    key.and_then(|key| serde_json::from_slice(&key.value).ok()).unwrap_or_default()
}

fn await_setting(node: &Node, name: &str, value: &str) {
    eventually(PATIENCE, &format!("{name} of {} is {value}", node.name), || {
        let found = node.try_sql(&format!("SELECT current_setting('{name}')")).ok()?;
        (found == [value]).then_some(())
    });
}

fn await_reason(cluster: &Cluster, node: usize, wanted: Value) {
    eventually(PATIENCE, &format!("the key of {} gives as reason {wanted}", cluster.nodes[node].name), || {
        let document = member(cluster, node);
        let flag = document["pending_restart"].as_bool().unwrap_or(false);
        (document["pending_restart_reason"] == wanted && flag != wanted.is_null()).then_some(())
    });
}

/// The settings file with one text in the place of another.
fn edit(node: &Node, old: &str, new: &str) {
    let text = std::fs::read_to_string(node.config()).expect("settings");
    assert!(text.contains(old), "{old} is not in {text}");
    std::fs::write(node.config(), text.replacen(old, new, 1)).expect("write settings");
}

#[test]
fn a_changed_key_is_in_force_everywhere_and_what_waits_for_a_restart_is_told() {
    // Neither is the loop what brings it, nor does anything restart.
    let mut cluster = Cluster::start(2, options_with(60, 20, 10));
    let primary = cluster.await_primary();
    let replica = cluster.others(primary)[0];
    let postmasters: Vec<_> = cluster.nodes.iter().map(Node::postmaster).collect();
    change(&cluster, |document| {
        document["postgresql"]["parameters"] =
            json!({"work_mem": "7MB", "no_such_parameter": 1, "max_connections": 80, "wal_buffers": "1MB"});
    });
    let reason = json!({"max_connections": {"old_value": "100", "new_value": "80"}, "wal_buffers": {"old_value": "512kB", "new_value": "1MB"}});
    for (at, node) in cluster.nodes.iter().enumerate() {
        await_setting(node, "work_mem", "7MB");
        node.await_log(0, "parameter no_such_parameter is left out");
        await_reason(&cluster, at, reason.clone());
        assert_eq!(node.status()["pending_restart_reason"], reason);
    }
    let list = cluster.run(primary, &["list"]);
    assert!(list.contains("max_connections: 100->80"), "{list}");

    // A key that makes no sense changes nothing.
    change(&cluster, |document| document["postgresql"]["parameters"] = json!(["work_mem"]));
    for node in &cluster.nodes {
        node.await_log(0, "Exception when setting dynamic_configuration: postgresql.parameters must be an object");
    }
    let record = cluster.nodes[primary].add_script("record", r#"echo "$*" >> "$0.calls""#);
    change(&cluster, |document| {
        document["postgresql"]["parameters"] = json!({"max_connections": 80});
        document["postgresql"]["callbacks"] = json!({"on_reload": record});
    });
    for node in &cluster.nodes {
        await_setting(node, "work_mem", "4MB");
    }
    eventually(PATIENCE, "scripts named there are called", || {
        let calls = cluster.nodes[primary].lines_of("record.calls");
        ["on_reload primary test", "on_reload replica test"]
            .iter()
            .all(|call| calls.contains(&(*call).to_owned()))
            .then_some(())
    });
    assert_eq!(postmasters, cluster.nodes.iter().map(Node::postmaster).collect::<Vec<_>>());

    // A restart of the server ends the wait; the standby, which has the old value from its primary, waits on.
    let left = json!({"max_connections": {"old_value": "100", "new_value": "80"}});
    for node in [primary, replica] {
        await_reason(&cluster, node, left.clone());
    }
    cluster.nodes[replica].kill_postmaster();
    cluster.nodes[replica].await_log(0, "max_connections value in pg_controldata: 100, in the global configuration: 80. pg_controldata value will be used. Setting 'Pending restart' flag");
    cluster.await_streaming(replica);
    await_reason(&cluster, replica, left);
    cluster.nodes[primary].kill_postmaster();
    await_reason(&cluster, primary, Value::Null);
    await_setting(&cluster.nodes[primary], "max_connections", "80");
    let _ = cluster.await_complete();
}

#[test]
fn the_settings_file_is_read_again_on_sighup_and_a_broken_one_changes_nothing() {
    let mut cluster = Cluster::prepare(1, options());
    edit(&cluster.nodes[0], "  pgpass:", "  proxy_address: 127.0.0.1:6432\n  pgpass:");
    cluster.nodes[0].start();
    cluster.await_complete();
    let node = &cluster.nodes[0];
    let postmaster = node.postmaster();
    assert_eq!(member(&cluster, 0)["proxy_url"], "postgres://127.0.0.1:6432/postgres");

    let mark = node.log_mark();
    edit(node, "    fsync: off", "    fsync: off\n    work_mem: 6MB");
    edit(node, "  pg_hba:\n", "  pg_hba:\n    - host all nobody 10.0.0.0/8 reject\n");
    edit(node, "level: DEBUG", "level: INFO");
    node.signal_agent(Signal::HUP);
    node.await_log(mark, "the settings were read again");
    await_setting(node, "work_mem", "6MB");
    let rules = "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject'";
    eventually(PATIENCE, "the rule is there", || (node.try_sql(rules).ok()? == ["1"]).then_some(()));

    // What cannot change is told; what can beside it does.
    let mark = node.log_mark();
    edit(node, "work_mem: 6MB", "work_mem: 5MB");
    edit(node, "scope: test", "scope: test\nnamespace: /other");
    edit(node, "/data\n", "/elsewhere\n");
    node.signal_agent(Signal::HUP);
    node.await_log(mark, "namespace was changed in the settings and needs a restart of the agent");
    node.await_log(mark, "postgresql.data_dir was changed in the settings and needs a restart of the agent");
    await_setting(node, "work_mem", "5MB");
    assert!(node.logged_since(mark, " DEBUG: ").is_none(), "the level is INFO now");

    // The REST API asks for the same.
    edit(node, "work_mem: 5MB", "work_mem: 8MB");
    let answer = http::request(node.rest_port, "POST", "/reload", "", PATIENCE).expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (202, b"reload scheduled".as_slice()));
    await_setting(node, "work_mem", "8MB");
    edit(node, "work_mem: 8MB", "work_mem: 5MB");
    node.signal_agent(Signal::HUP);
    await_setting(node, "work_mem", "5MB");

    // A broken file: nothing of it counts.
    let mark = node.log_mark();
    edit(node, "work_mem: 5MB", "work_mem: [3MB]");
    node.signal_agent(Signal::HUP);
    node.await_log(mark, "cannot be used, those in force stay");
    edit(node, "work_mem: [3MB]", "work_mem: 3MB");
    edit(node, "name: pg1", "name: {");
    node.signal_agent(Signal::HUP);
    eventually(PATIENCE, "the second refusal", || {
        let (first, _) = node.logged_since(mark, "those in force stay")?;
        node.logged_since(first + 1, "those in force stay")
    });
    assert_eq!(node.sql("SELECT current_setting('work_mem')"), ["5MB"]);
    assert_eq!(node.postmaster(), postmaster);
    assert_eq!(node.check("/primary"), Some(200));
}

#[test]
fn the_last_configuration_is_kept_for_a_start_without_the_key() {
    let mut cluster = cluster(1);
    change(&cluster, |document| document["postgresql"]["parameters"] = json!({"work_mem": "7MB"}));
    await_setting(&cluster.nodes[0], "work_mem", "7MB");
    let kept = cluster.nodes[0].data_dir().join("patroni.dynamic.json");
    let text = std::fs::read(&kept).expect("the cache file");
    assert_eq!(text, cluster.keys().get("config").expect("a config key").value);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).expect("the cache file").permissions());
    assert_eq!(mode & 0o777, 0o600);

    // With the key gone it is what the leader writes back; `bootstrap.dcs` has long been overtaken.
    cluster.nodes[0].terminate();
    cluster.keys().delete("config");
    cluster.nodes[0].start();
    cluster.await_complete();
    await_setting(&cluster.nodes[0], "work_mem", "7MB");
    let key = eventually(PATIENCE, "the key is written back", || cluster.keys().get("config"));
    assert_eq!(key.value, text);
}
