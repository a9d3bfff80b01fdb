//! The agent as a process: what it tells the service manager, what its children inherit, which signals it obeys.

use crate::support::*;
use pgherd_testkit::postgres::run_as;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn environment_of(pid: i32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("the environment of a process");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A socket in the place of the service manager's, which the agent may write to.
fn service_manager(cluster: &Cluster) -> (UnixDatagram, std::path::PathBuf) {
    let path = cluster.nodes[0].config().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    if let Some((uid, gid)) = run_as() {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
    }
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (socket, path)
}

fn next_message(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1000];
    let len = socket.recv(&mut bytes).expect("a message for the service manager");
    String::from_utf8_lossy(&bytes[..len]).trim_end().to_owned()
}

#[test]
fn the_service_manager_is_told_and_postgresql_inherits_nothing_of_that() {
    let mut cluster = Cluster::prepare(1, options());
    let (socket, path) = service_manager(&cluster);
    let node = &mut cluster.nodes[0];
    node.start_with(|command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
        command.env("PATRONI_LOG_LEVEL", "INFO").env("PGOPTIONS", "-c work_mem=1MB");
        command.env("PG_MALLOC_ARENA_MAX", "2").env("KEPT", "yes");
    });
    assert_eq!(next_message(&socket), "READY=1");
    assert!(cluster.nodes[0].check("/liveness").is_some(), "it answers when it is ready");
    assert_eq!(next_message(&socket), "WATCHDOG=1");
    assert_eq!(next_message(&socket), "WATCHDOG=1");
    cluster.await_complete();

    let environment = environment_of(cluster.nodes[0].postmaster().expect("a postmaster"));
    let has = |name: &str| environment.get(name).map(String::as_str);
    assert_eq!((has("KEPT"), has("MALLOC_ARENA_MAX")), (Some("yes"), Some("2")));
    let ours: Vec<_> = environment.keys().filter(|k| k.starts_with("PATRONI_") || k.contains("NOTIFY")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    for name in ["WATCHDOG_USEC", "PGOPTIONS", "PG_MALLOC_ARENA_MAX"] {
        assert_eq!(has(name), None, "{name}");
    }

    // SIGINT is as good as SIGTERM
    cluster.nodes[0].signal_agent(Signal::INT);
    let stopping = std::iter::from_fn(|| Some(next_message(&socket))).find(|message| message != "WATCHDOG=1");
    assert_eq!(stopping.as_deref(), Some("STOPPING=1"));
    assert_eq!(cluster.nodes[0].wait_for_agent().code(), Some(0));
    assert_eq!(cluster.nodes[0].postmaster(), None, "PostgreSQL was stopped");
    cluster.nodes[0].await_log(0, "left in order");
}

#[test]
fn an_agent_that_is_frozen_gives_no_sign_of_life() {
    let mut cluster = Cluster::prepare(1, options());
    let (socket, path) = service_manager(&cluster);
    cluster.nodes[0].start_with(|command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    });
    cluster.await_complete();
    cluster.nodes[0].freeze();
    // what was sent before is read until nothing comes for ten times as long as two messages may be apart
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    while socket.recv(&mut [0; 100]).is_ok() {}
    cluster.nodes[0].thaw();
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(next_message(&socket), "WATCHDOG=1");
}
