//! A hostile gateway between the agent and etcd: what it does to answers is an error for a while, never a panic, and never a
//! reason to end a primary whose lease can still be renewed in time.

use crate::support::*;
use pgherd_testkit::proxy::Spoil;
use std::time::Duration;

const GONE: &str = r#"{"error":"etcdserver: requested lease not found","code":5}"#;

/// An answer that says for certain that the lease is gone is not believed as long as the key hangs on it.
#[test]
fn a_lie_about_the_lease_is_looked_into() {
    let cluster = Cluster::start(1, options_with(20, 1, 3));
    let node = &cluster.nodes[0];
    let writer = cluster.write();
    node.etcd_links[0].spoil(Spoil::Instead(404, GONE));
    std::thread::sleep(Duration::from_secs(2));
    node.etcd_links[0].heal();
    cluster.await_acks(&writer, 10);
    assert_undisturbed(&writer.stop());
}
