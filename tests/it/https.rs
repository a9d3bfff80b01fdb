//! A cluster whose members speak TLS: with each other, with commands, and with clients, while certificates change.

use crate::support::*;
use pgherd_testkit::authority::Authority;
use pgherd_testkit::cluster::ClusterOptions;
use pgherd_testkit::http::{Stream, Tls, open, request, request_over};
use pgherd_testkit::node::Node;
use rustix::process::Signal;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

const QUICK: Duration = Duration::from_secs(5);

/// The status code, if there was a handshake and an answer.
fn code(node: &Node, tls: &Tls, method: &str, path: &str) -> Option<u16> {
    request_over(open(node.rest_port, tls, QUICK)?, method, path, "", "").map(|answer| answer.status)
}

/// A status code over a connection that stays.
fn code_over(stream: &mut dyn Stream, path: &str) -> String {
    stream.write_all(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("ask");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer on a connection that stays");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split(' ').nth(1).expect("a status").to_owned()
}

/// The first node tells what happens to its own API, which takes nothing of the kind: once trusting it, once not.
fn cluster_with_tls(nodes: usize) -> Cluster {
    let mut cluster = Cluster::prepare(nodes, ClusterOptions { https: true, ..options() });
    let node = &cluster.nodes[0];
    let stranger = node.write_file("stranger.crt", &Authority::new().pem());
    let hook = |path: &str, cacert: &Path| {
        let url = format!("https://127.0.0.1:{}/{path}", node.rest_port);
        format!("\n    - {{url: '{url}', cacert: {}}}", cacert.display())
    };
    let hooks = hook("trusted", &node.config().with_file_name("ca.crt")) + &hook("doubted", &stranger);
    node.add_section(&format!("events:\n  webhooks:{hooks}"));
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.await_complete();
    cluster
}

#[test]
fn members_commands_and_clients_speak_tls_while_certificates_change() {
    let mut cluster = cluster_with_tls(3);
    rewind_what_diverges(&cluster);
    let primary = cluster.await_complete();
    let standby = cluster.others(primary)[0];
    let name = |cluster: &Cluster, n: usize| cluster.nodes[n].name.clone();

    let told = |path: &str| cluster.nodes[0].await_log(0, &format!("/{path}: event")).1;
    assert!(told("trusted").contains("it answered 501"), "{}", told("trusted"));
    assert!(told("doubted").contains("UnknownIssuer"), "{}", told("doubted"));

    // who speaks plain HTTP gets nothing, who has no certificate may read, who has one may change something
    let node = &cluster.nodes[primary];
    assert!(request(node.rest_port, "GET", "/primary", "", QUICK).is_none());
    let nobody: Tls = Some(cluster.authority.client(cluster.directory(), false));
    assert_eq!(code(node, &nobody, "GET", "/primary"), Some(200));
    assert_eq!(code(node, &nobody, "DELETE", "/switchover"), Some(403));
    assert_eq!(send(node, "DELETE", "/switchover", &json!(null)).0, 404);
    let document = node.get("/cluster").expect("an answer").json();
    let urls = document["members"].as_array().expect("members").iter().map(|member| &member["api_url"]);
    assert!(urls.clone().all(|url| url.as_str().is_some_and(|url| url.starts_with("https://"))), "{document}");

    // commands, and members who ask each other before a switchover
    let switch = ["switchover", "test", "--leader", &name(&cluster, primary), "--candidate", &name(&cluster, standby)];
    let printed = cluster.run(standby, &[&switch[..], &["--force"]].concat());
    assert!(printed.contains("Successfully switched over"), "{printed}");
    let explained = cluster.run(primary, &["explain", "test", &name(&cluster, standby)]);
    assert!(explained.contains(&name(&cluster, primary)), "{explained}");
    cluster.await_complete();

    // a failover; those who are left reach each other
    let marks: Vec<_> = cluster.nodes.iter().map(Node::log_mark).collect();
    cluster.nodes[standby].kill_node();
    let leader = cluster.await_primary();
    let other = cluster.others(standby).into_iter().find(|n| *n != leader).expect("a third");
    let unheard = format!("no usable answer from {}", name(&cluster, other));
    assert_eq!(cluster.nodes[leader].logged_since(marks[leader], &unheard), None);

    // first everybody trusts a second authority, then one node has a certificate of it
    let (second, node) = (Authority::new(), &cluster.nodes[leader]);
    let both = format!("{}{}", cluster.authority.pem(), second.pem());
    for n in [leader, other] {
        let mark = cluster.nodes[n].log_mark();
        cluster.nodes[n].write_file("ca.crt", &both);
        cluster.nodes[n].signal_agent(Signal::HUP);
        cluster.nodes[n].await_log(mark, "the settings were read again");
    }
    let mut stays = open(node.rest_port, &nobody, PATIENCE).expect("a connection");
    assert_eq!(code_over(&mut *stays, "/primary"), "200");
    let new: Tls = Some(second.client(cluster.directory(), true));
    assert_eq!(code(node, &new, "GET", "/primary"), None, "the second authority has signed nothing yet");
    node.write_file("rest.pem", &second.signed());
    node.signal_agent(Signal::HUP);
    eventually(PATIENCE, "the new certificate is shown", || code(node, &new, "GET", "/primary").filter(|c| *c == 200));
    assert_eq!(code(node, &nobody, "GET", "/primary"), None, "and the old one is not");
    assert_eq!(code(node, &new, "DELETE", "/switchover"), Some(404), "clients of the second authority are let in");
    assert_eq!(code_over(&mut *stays, "/primary"), "200");

    // what cannot be used replaces nothing
    let mark = node.log_mark();
    node.write_file("rest.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n");
    node.signal_agent(Signal::HUP);
    let (_, line) = node.await_log(mark, "cannot be used, those in force stay");
    assert!(line.contains("rest.pem"), "{line}");
    assert_eq!(code(node, &new, "GET", "/primary"), Some(200));
    assert_eq!(code_over(&mut *stays, "/primary"), "200");
    drop(stays);
    assert_eq!(cluster.nodes[leader].terminate().code(), Some(0));
}
