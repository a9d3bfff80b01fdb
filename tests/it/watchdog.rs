//! The watchdog device, played by a FIFO: armed before writes, pinged while they are allowed, disarmed in order.

use crate::support::*;
use pgherd_testkit::node::Node;
use pgherd_testkit::postgres::run_as;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// What an agent writes to its device.
struct Device {
    reader: OwnedFd,
    said: String,
}

impl Device {
    /// A device for this node, in the mode.
    fn of(node: &Node, mode: &str) -> Self {
        let path = node.config().with_file_name("watchdog");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        if let Some((uid, gid)) = run_as() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
        }
        let reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("open a FIFO");
        use_device(node, mode, &path.display().to_string());
        Self { reader, said: String::new() }
    }

    /// Reads what there is; false when nobody has the device open any more.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 1000];
        loop {
            match rustix::io::read(&self.reader, &mut bytes) {
                Ok(0) => return false,
                Ok(len) => self.said.push_str(&String::from_utf8_lossy(&bytes[..len])),
                Err(Errno::AGAIN) => return true,
                Err(e) => panic!("read the FIFO: {e}"),
            }
        }
    }

    /// Everything so far.
    fn said(&mut self) -> &str {
        self.read();
        &self.said
    }

    fn await_said(&mut self, what: &str, agrees: impl Fn(&str) -> bool) {
        eventually(PATIENCE, what, || agrees(self.said()).then_some(()));
    }
}

fn use_device(node: &Node, mode: &str, path: &str) {
    node.add_section(&format!("watchdog:\n  mode: {mode}\n  device: {path}\n  driver: testing"));
}

fn pings(said: &str) -> usize {
    said.replace("Ctimeout=15", "").matches('1').count()
}

#[test]
fn it_is_armed_while_a_node_leads_and_disarmed_at_a_stop_and_a_demotion() {
    let mut cluster = Cluster::prepare(2, options_with(20, 2, 3));
    let mut devices: Vec<_> = cluster.nodes.iter().map(|node| Device::of(node, "required")).collect();
    cluster.nodes.iter_mut().for_each(Node::start);
    let old = cluster.await_complete();
    let new = 1 - old;
    let armed = "Ctimeout=15\n1";
    assert!(devices[old].said().starts_with(armed), "{:?}", devices[old].said);
    devices[old].await_said("it is pinged", |said| pings(said) >= 5);
    assert!(!devices[old].said.contains('V') && devices[old].said.matches('C').count() == 1, "{:?}", devices[old].said);
    assert_eq!(devices[new].said(), "", "a replica needs none");

    assert_eq!(cluster.nodes[old].terminate().code(), Some(0));
    assert!(!devices[old].read(), "nobody has it open");
    assert!(devices[old].said.ends_with("1V"), "{:?}", devices[old].said);
    devices[new].await_said("the new primary arms its own", |said| said.starts_with(armed));

    // somebody else's name in the leader key: this node must not go on
    assert_eq!(cluster.await_primary(), new);
    cluster.keys().put("leader", b"nobody", 0);
    devices[new].await_said("it is disarmed", |said| said.ends_with('V'));
    assert!(cluster.nodes[new].try_sql("CREATE TABLE late (n int)").is_err());
    cluster.keys().delete("leader");
    devices[new].await_said("it is armed again", |said| said.contains(&format!("V{armed}")));
    assert_eq!(cluster.await_primary(), new);
}

#[test]
fn the_pings_end_with_the_agent() {
    let mut cluster = Cluster::prepare(1, options_with(20, 2, 3));
    let mut device = Device::of(&cluster.nodes[0], "automatic");
    cluster.nodes[0].start();
    cluster.await_complete();
    device.await_said("it is pinged", |said| said.starts_with("Ctimeout=15\n1"));
    cluster.nodes[0].kill_agent();
    // the guard has no part in it: with the agent the last writer is gone, and nothing was disarmed
    eventually(PATIENCE, "nobody has it open", || (!device.read()).then_some(()));
    assert!(device.said.ends_with('1') && !device.said.contains('V'), "{:?}", device.said);
}

#[test]
fn without_etcd_it_waits_for_the_fence() {
    let mut cluster = Cluster::prepare(1, options());
    let mut device = Device::of(&cluster.nodes[0], "automatic");
    cluster.nodes[0].start();
    cluster.await_complete();
    device.await_said("it is armed", |said| said.starts_with("Ctimeout=3\n1"));
    let before = device.said.len();
    cluster.nodes[0].cut_etcd();
    device.await_said("it is disarmed, since PostgreSQL was stopped", |said| said.ends_with('V'));
    let since = &device.said[before..];
    assert!(since.ends_with("Ctimeout=2\n1V"), "it was set to fire after the fence, and did not: {since:?}");
    cluster.nodes[0].heal_etcd();
    device.await_said("it is armed again", |said| said.contains("VCtimeout=3\n1"));
    assert_eq!(cluster.await_primary(), 0);
}

#[test]
fn a_node_without_a_device_that_is_required_never_leads() {
    let mut cluster = Cluster::prepare(2, options());
    use_device(&cluster.nodes[1], "required", "/no/such/watchdog");
    cluster.nodes[0].start();
    cluster.await_primary();
    cluster.nodes[1].start();
    cluster.await_complete();
    cluster.await_caught_up(0, 1);
    let (_, why) = cluster.nodes[1].await_log(0, "the watchdog /no/such/watchdog is required and cannot be used: ");
    assert!(why.contains("ERROR") && why.contains("there is no such device"), "{why}");

    cluster.nodes[0].kill_node();
    let name = cluster.nodes[0].name.clone();
    eventually(PATIENCE, "the dead leader's lease lapses", || {
        cluster.keys().get("leader").is_none_or(|key| key.text() != name).then_some(())
    });
    // it may not even try; if it does, it fails
    eventually(PATIENCE, "the other node says why it does not lead", || {
        let node = &cluster.nodes[1];
        let failed = node.logged_since(0, "promote failed: the watchdog is required and cannot be used").is_some();
        (failed || node.reason() == "WatchdogUnusable").then_some(())
    });
    assert_eq!(cluster.nodes[1].sql("SELECT pg_is_in_recovery()"), ["t"]);
    cluster.nodes[0].start();
    eventually(PATIENCE, "the first node leads again", || (cluster.primary() == Some(0)).then_some(()));
    cluster.await_streaming(1);
    let history = eventually(PATIENCE, "the history key", || cluster.keys().get("history"));
    let leaders: Vec<_> = history.json().as_array().expect("rows").iter().map(|row| row[4].clone()).collect();
    assert!(leaders.iter().all(|leader| *leader == name.as_str()), "{leaders:?}");
}
