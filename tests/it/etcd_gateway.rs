//! A hostile gateway between the agent and etcd: what it does to answers is an error for a while, never a panic, and never a
//! reason to end a primary whose lease can still be renewed in time.

use crate::support::*;
use pgherd_testkit::node::Node;
use pgherd_testkit::proxy::Spoil;
use pgherd_testkit::writer::Writer;
use std::time::{Duration, Instant};

const TOKEN: &str =
    r#"{"error":"etcdserver: invalid auth token","message":"etcdserver: invalid auth token","code":16}"#;
const GONE: &str = r#"{"error":"etcdserver: requested lease not found","code":5}"#;
const NO_LEADER: &str = r#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#;
const DENIED: &str = r#"{"error":"etcdserver: permission denied","code":7}"#;

const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(8);

#[derive(Copy, Clone, Debug)]
enum Fault {
    /// Connections are ended and refused.
    Reset,
    Spoiled(Spoil),
}

/// One node at ttl 20 whose client writes all the time.
struct Played {
    cluster: Cluster,
    writer: Writer,
}

impl Played {
    fn start() -> Self {
        let cluster = Cluster::start(1, options_with(20, 1, 3));
        let writer = cluster.write();
        Self { cluster, writer }
    }
    fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }
    /// The client gets on as long as the fault lasts and after it, the node is primary all the time, and renews again.
    fn survives(&self, fault: Fault, length: Duration) {
        let (node, mark) = (self.node(), self.node().log_mark());
        match fault {
            Fault::Reset => node.etcd_links[0].cut(),
            Fault::Spoiled(how) => node.etcd_links[0].spoil(how),
        }
        let begun = Instant::now();
        while begun.elapsed() < length {
            self.cluster.await_acks(&self.writer, 1);
            assert_eq!(node.check("/primary"), Some(200), "{fault:?} for {length:?}");
        }
        node.etcd_links[0].heal();
        await_renewal(node);
        self.cluster.await_acks(&self.writer, 10);
        assert_eq!(node.logged_since(mark, "panicked"), None, "{fault:?} for {length:?}");
    }
    /// One after the other, with the same agent all the time and a client that was never disturbed.
    fn survives_all(self, faults: impl IntoIterator<Item = Fault>, length: Duration) {
        let agent = self.node().agent_pid();
        for fault in faults {
            self.survives(fault, length);
        }
        assert_eq!(self.node().agent_pid(), agent, "the same agent all the time");
        assert_undisturbed(&self.writer.stop());
    }
}

#[test]
fn no_spoiled_answer_ends_a_primary() {
    let faults = [
        Fault::Reset,
        Fault::Spoiled(Spoil::Half),
        Fault::Spoiled(Spoil::Late(700)),
        Fault::Spoiled(Spoil::OneByte),
        Fault::Spoiled(Spoil::Status(500)),
        Fault::Spoiled(Spoil::Status(404)),
        Fault::Spoiled(Spoil::Instead(200, "{}")),
        Fault::Spoiled(Spoil::Instead(200, "<html>sign in</html>")),
        Fault::Spoiled(Spoil::Instead(401, TOKEN)),
        Fault::Spoiled(Spoil::Instead(503, NO_LEADER)),
        Fault::Spoiled(Spoil::Instead(502, "bad gateway")),
        Fault::Spoiled(Spoil::Instead(403, DENIED)),
    ];
    Played::start().survives_all(faults, SHORT);
}

#[test]
fn nor_does_a_burst_of_them_that_the_lease_outlives() {
    let faults = [
        Fault::Reset,
        Fault::Spoiled(Spoil::OneByte),
        Fault::Spoiled(Spoil::Half),
        Fault::Spoiled(Spoil::Instead(401, TOKEN)),
        Fault::Spoiled(Spoil::Instead(503, NO_LEADER)),
        Fault::Spoiled(Spoil::Status(500)),
    ];
    Played::start().survives_all(faults, LONG);
}

/// An answer that says for certain that the lease is gone is not believed as long as the key hangs on it.
#[test]
fn a_lie_about_the_lease_is_looked_into() {
    Played::start().survives_all([Fault::Spoiled(Spoil::Instead(404, GONE))], SHORT);
}
