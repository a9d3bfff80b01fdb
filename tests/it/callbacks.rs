//! The user's scripts are called for what happens, and hold up nothing.

use crate::support::*;
use pgherd_testkit::node::Node;
use std::os::unix::fs::PermissionsExt;

const ACTIONS: [&str; 5] = ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"];
/// Writes one line a call, whole or not at all.
const RECORD: &str = r#"echo "$* previous=$PGHERD_PREVIOUS_ROLE timeline=$PGHERD_TIMELINE" >> "$0.calls""#;

fn with_recorder(node: &Node) {
    let script = node.add_script("record", RECORD);
    let lines: Vec<_> = ACTIONS.iter().map(|action| format!("    {action}: '{}' ", script.display())).collect();
    node.add_settings(&format!("  callbacks:\n{}", lines.join("\n")));
}

/// All calls but reloads, which the first writing of the configuration may cause too.
fn calls(node: &Node) -> Vec<String> {
    node.lines_of("record.calls").into_iter().filter(|line| !line.starts_with("on_reload")).collect()
}

fn await_calls(node: &Node, wanted: &[&str]) {
    let what = format!("{} calls {wanted:?}", node.name);
    eventually(PATIENCE, &what, || {
        let calls = calls(node);
        assert!(calls.len() <= wanted.len(), "{calls:?} is more than {wanted:?}");
        (calls == wanted).then_some(())
    });
}

#[test]
fn scripts_are_called_for_what_happens() {
    let mut cluster = Cluster::prepare(2, options());
    cluster.nodes.iter().for_each(with_recorder);
    cluster.nodes.iter_mut().for_each(Node::start);
    let old = cluster.await_complete();
    let new = 1 - old;
    await_calls(&cluster.nodes[old], &["on_start primary test previous= timeline=1"]);
    await_calls(&cluster.nodes[new], &["on_start replica test previous= timeline=1"]);

    // a failover, and the return of the old primary
    cluster.await_caught_up(old, new);
    cluster.nodes[old].kill_node();
    let promoted = "on_role_change primary test previous=replica timeline=2";
    await_calls(&cluster.nodes[new], &["on_start replica test previous= timeline=1", promoted]);
    cluster.nodes[old].start();
    cluster.await_streaming(old);
    eventually(PATIENCE, "the old primary calls on_start", || {
        let last = calls(&cluster.nodes[old]).pop()?;
        last.starts_with("on_start replica test previous= ").then_some(())
    });

    // the postmaster dies and is started again in its place
    cluster.nodes[new].kill_postmaster();
    let restarted = "on_start primary test previous=primary timeline=2";
    await_calls(&cluster.nodes[new], &["on_start replica test previous= timeline=1", promoted, restarted]);
    assert_eq!(cluster.await_complete(), new);

    // a change of the configuration
    let reloads = |node: &Node| node.lines_of("record.calls").iter().filter(|l| l.starts_with("on_reload")).count();
    let before = reloads(&cluster.nodes[new]);
    let mut config = cluster.keys().get("config").expect("a config key").json();
    config["postgresql"]["parameters"]["log_lock_waits"] = "on".into();
    cluster.keys().put("config", config.to_string().as_bytes(), 0);
    eventually(PATIENCE, "a reload is told", || (reloads(&cluster.nodes[new]) > before).then_some(()));
    let last = cluster.nodes[new].lines_of("record.calls").pop();
    assert_eq!(last.as_deref(), Some("on_reload primary test previous= timeline="));

    // the agent waits for the script that its last act calls for
    assert_eq!(cluster.nodes[new].terminate().code(), Some(0));
    let stopped = "on_stop primary test previous=primary timeline=2";
    assert_eq!(calls(&cluster.nodes[new])[2..], [restarted, stopped]);
    eventually(PATIENCE, "the other node leads again", || (cluster.primary() == Some(old)).then_some(()));
    eventually(PATIENCE, "its promotion is told", || {
        let last = calls(&cluster.nodes[old]).pop()?;
        last.starts_with("on_role_change primary test previous=replica ").then_some(())
    });
}

#[test]
fn scripts_that_fail_or_hang_hold_up_nothing() {
    let mut cluster = Cluster::prepare(2, options());
    for node in &cluster.nodes {
        let fails = node.add_script("fails", "echo this one fails; exit 3");
        let hangs = node.add_script("hangs", r#"echo $$ > "$0.pid"; sleep 1000; echo came back"#);
        let (fails, hangs) = (fails.display(), hangs.display());
        node.add_settings(&format!(
            "  callback_timeout: 5\n  callbacks:\n    on_start: {fails}\n    on_role_change: {hangs}\n    on_stop: /no/such/script"
        ));
    }
    cluster.nodes.iter_mut().for_each(Node::start);
    let old = cluster.await_complete();
    let new = 1 - old;
    cluster.nodes[old].await_log(0, "this one fails");
    cluster.nodes[old].await_log(0, "callback on_start primary: the script ended with exit code 3");

    let writer = cluster.write();
    cluster.await_caught_up(old, new);
    drop(writer.stop());
    cluster.nodes[old].kill_node();
    let writer = cluster.write_on(1_000_000);
    cluster.await_acks(&writer, 20);
    let (_, line) = cluster.nodes[new].await_log(0, "did not end within 5 s and was killed");
    assert!(line.contains("callback on_role_change primary: the script"), "{line}");
    let pid = cluster.nodes[new].lines_of("hangs.pid").remove(0);
    assert!(!std::path::Path::new("/proc").join(pid).exists(), "it is dead");
    cluster.await_acks(&writer, 20);
    assert_eq!(cluster.nodes[new].terminate().code(), Some(0));
    cluster.nodes[new]
        .await_log(0, "callback on_stop primary: the script could not be run: cannot start /no/such/script");
    assert!(cluster.nodes[new].logged_since(0, "came back").is_none());
}

#[test]
fn a_crashed_primary_that_cannot_be_started_tells_that_it_is_demoted() {
    let mut cluster = Cluster::prepare(2, options());
    cluster.nodes.iter().for_each(with_recorder);
    cluster.nodes.iter_mut().for_each(Node::start);
    let old = cluster.await_complete();
    let new = 1 - old;
    cluster.await_caught_up(old, new);
    let started = "on_start primary test previous= timeline=1";
    await_calls(&cluster.nodes[old], &[started]);

    let transactions = cluster.nodes[old].data_dir().join("pg_xact");
    let allow = |mode| std::fs::set_permissions(&transactions, std::fs::Permissions::from_mode(mode)).expect("chmod");
    allow(0o000);
    cluster.nodes[old].kill_postmaster();
    let demoted = "on_role_change demoted test previous=primary timeline=1";
    await_calls(&cluster.nodes[old], &[started, demoted]);
    eventually(PATIENCE, "the other node leads", || (cluster.primary() == Some(new)).then_some(()));

    allow(0o700);
    eventually(PATIENCE, "it is told as a replica, or diverged", || {
        let last = calls(&cluster.nodes[old]).pop()?;
        let back = last.starts_with("on_role_change replica test previous=demoted ");
        (back || cluster.nodes[old].reason() == "Diverged").then_some(())
    });
}
