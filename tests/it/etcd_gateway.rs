//! A hostile gateway between the agent and etcd: what it does to answers is an error for a while, never a panic, and never a
//! reason to end a primary whose lease can still be renewed in time.

use crate::support::*;
use pgherd_testkit::proxy::Spoil;
use std::time::Duration;

const TOKEN: &str =
    r#"{"error":"etcdserver: invalid auth token","message":"etcdserver: invalid auth token","code":16}"#;
const GONE: &str = r#"{"error":"etcdserver: requested lease not found","code":5}"#;
const NO_LEADER: &str = r#"{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}"#;

#[test]
fn no_spoiled_answer_ends_a_primary() {
    let cluster = Cluster::start(1, options_with(20, 1, 3));
    let node = &cluster.nodes[0];
    let (writer, agent) = (cluster.write(), node.agent_pid());
    let link = &node.etcd_links[0];
    let spoils = [
        Spoil::Half,
        Spoil::Late(700),
        Spoil::OneByte,
        Spoil::Status(500),
        Spoil::Status(404),
        Spoil::Instead(200, "{}"),
        Spoil::Instead(200, "<html>sign in</html>"),
        Spoil::Instead(401, TOKEN),
        Spoil::Instead(503, NO_LEADER),
        Spoil::Instead(502, "bad gateway"),
        Spoil::Instead(403, r#"{"error":"etcdserver: permission denied","code":7}"#),
    ];
    for (round, spoil) in spoils.into_iter().enumerate() {
        link.spoil(spoil);
        // the fault's length; what matters is that nothing happens meanwhile
        std::thread::sleep(Duration::from_millis(1500));
        link.heal();
        let mark = node.log_mark();
        cluster.await_acks(&writer, 10);
        assert_eq!(node.check("/primary"), Some(200), "after fault {round}: {spoil:?}");
        await_renewal(node);
        assert_eq!(node.logged_since(mark, "panicked"), None);
    }
    // as long as the lease lives by far, a longer one is survived as well
    for spoil in [Spoil::Instead(401, TOKEN), Spoil::OneByte] {
        link.spoil(spoil);
        std::thread::sleep(Duration::from_secs(6));
        link.heal();
        await_renewal(node);
    }
    assert_eq!(node.agent_pid(), agent, "the same agent all the time");
    assert_undisturbed(&writer.stop());
}

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
