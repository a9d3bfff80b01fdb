//! etcd over TLS, with certificates of the agents.

use crate::support::*;
use pgherd_testkit::authority::{Authority, Usage, write};
use pgherd_testkit::etcd::{Etcd, EtcdSetup, EtcdTls};
use pgherd_testkit::node::Node;
use rustix::process::Signal;
use std::path::{Path, PathBuf};

fn files(directory: &Path, name: &str, (certificate, key): (String, String)) -> (PathBuf, PathBuf) {
    let file = |ending: &str, text: &str| write(directory, &format!("{name}.{ending}"), text);
    (file("pem", &certificate), file("key", &key))
}

/// What the agent shows to etcd, and whom it trusts.
fn agents_files(node: &Node, signer: &Authority, trusted: &str) {
    let (certificate, key) = signer.sign(Usage::Client, None);
    node.write_file("etcd-ca.pem", trusted);
    node.write_file("etcd.pem", &(certificate + &key));
}

fn over_tls(node: &Node, etcd: &Etcd) {
    let text = std::fs::read_to_string(node.config()).expect("the settings");
    let place = node.directory().display();
    let section = format!(
        "etcd3:\n  hosts: 127.0.0.1:{}\n  protocol: https\n  cacert: {place}/etcd-ca.pem\n  cert: {place}/etcd.pem\n",
        etcd.port()
    );
    let (before, after) = text.split_once("etcd3:\n").expect("a section etcd3");
    let after = after.split_once("\nbootstrap:").expect("the next section").1;
    std::fs::write(node.config(), format!("{before}{section}bootstrap:{after}")).expect("write the settings");
}

fn reread(node: &Node) {
    let mark = node.log_mark();
    node.signal_agent(Signal::HUP);
    node.await_log(mark, "etcd is asked at");
    await_renewal(node);
}

#[test]
fn certificates_on_both_sides_are_exchanged_under_a_running_primary() {
    let (first, second) = (Authority::new(), Authority::new());
    let mut cluster = Cluster::prepare(1, options_with(10, 1, 3));
    let place = cluster.directory().to_owned();
    let tls = EtcdTls {
        authority: write(&place, "ca.pem", &first.pem()),
        server: files(&place, "server", first.sign(Usage::Both, None)),
        client: Some(files(&place, "ctl", first.sign(Usage::Client, None))),
    };
    cluster.etcd = Etcd::start_setup(&EtcdSetup { tls: Some(tls), ..EtcdSetup::members(1) });
    agents_files(&cluster.nodes[0], &first, &first.pem());
    over_tls(&cluster.nodes[0], &cluster.etcd[0]);
    cluster.nodes[0].start();
    cluster.await_complete();
    let writer = cluster.write();

    // a second authority is trusted on both sides, then etcd has a certificate of it
    let both = first.pem() + &second.pem();
    cluster.nodes[0].write_file("etcd-ca.pem", &both);
    reread(&cluster.nodes[0]);
    write(&place, "ca.pem", &both);
    files(&place, "server", second.sign(Usage::Both, None));
    cluster.etcd[0].restart();
    await_renewal(&cluster.nodes[0]);
    // then the agent, which trusts the first one no more
    agents_files(&cluster.nodes[0], &second, &second.pem());
    reread(&cluster.nodes[0]);
    cluster.await_acks(&writer, 10);
    assert_undisturbed(&writer.stop());
}
