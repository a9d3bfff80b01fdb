//! etcd with authentication.

use crate::support::*;
use pgherd_testkit::node::Node;
use rustix::process::Signal;

fn log_in_with(node: &Node, password: &str) {
    let text = std::fs::read_to_string(node.config()).expect("the settings");
    let (before, after) = text.split_once("  use_proxies: true\n").expect("a line for proxies");
    let after =
        after.lines().filter(|line| !line.starts_with("  username: agent") && !line.starts_with("  password: x"));
    let after: Vec<_> = after.collect();
    let login = format!("  use_proxies: true\n  username: agent\n  password: x{password}\n");
    std::fs::write(node.config(), format!("{before}{login}{}\n", after.join("\n"))).expect("write the settings");
}

#[test]
fn a_wrong_password_ends_the_start_and_a_changed_one_is_taken_over() {
    let mut cluster = Cluster::prepare(1, options_with(10, 1, 3));
    cluster.etcd[0].enable_auth("root's", &[("agent", "xright", "/service/test/")]);
    log_in_with(&cluster.nodes[0], "wrong");
    cluster.nodes[0].start();
    let ended = cluster.nodes[0].wait_for_agent();
    assert_eq!(ended.code(), Some(1));
    let (_, line) = cluster.nodes[0].await_log(0, "etcd refuses the user agent");
    assert!(line.contains("authentication failed"), "{line}");
    assert!(cluster.nodes[0].log().iter().all(|line| !line.contains("xwrong")), "a password in the log");

    log_in_with(&cluster.nodes[0], "right");
    cluster.nodes[0].start();
    cluster.await_complete();
    let writer = cluster.write();
    // the old password is no good any more, and its token is forgotten with the server
    cluster.etcd[0].ctl_with_input(&["user", "passwd", "agent", "--interactive=false"], "xnew");
    log_in_with(&cluster.nodes[0], "new");
    cluster.nodes[0].signal_agent(Signal::HUP);
    cluster.nodes[0].await_log(0, "etcd is asked at");
    cluster.etcd[0].restart();
    await_renewal(&cluster.nodes[0]);
    cluster.await_acks(&writer, 10);
    assert_undisturbed(&writer.stop());
}
