//! The agent as a process: what it tells the service manager, what its children inherit, which signals it obeys.

use crate::support::*;
use pgherd_testkit::postgres::run_as;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn environment_of(pid: i32) -> BTreeMap<String, String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("the environment of a process");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Plays the service manager: reads what the agent tells it.
struct ServiceManager {
    path: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
}

impl ServiceManager {
    fn of(cluster: &Cluster) -> Self {
        let path = cluster.nodes[0].config().with_file_name("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        if let Some((uid, gid)) = run_as() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
        }
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::downgrade(&said);
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        std::thread::spawn(move || {
            let mut bytes = [0; 1000];
            while let Some(said) = heard.upgrade() {
                if let Ok(len) = socket.recv(&mut bytes) {
                    let message = String::from_utf8_lossy(&bytes[..len]).trim_end().to_owned();
                    said.lock().expect("what was said").push(message);
                }
            }
        });
        Self { path, said }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().expect("what was said").clone()
    }

    fn await_more(&self, message: &str) {
        let before = self.said().len();
        let came = || self.said()[before..].iter().any(|said| said == message);
        eventually(PATIENCE, &format!("it says {message}"), || came().then_some(()));
    }
}

#[test]
fn the_service_manager_is_told_and_postgresql_inherits_nothing_of_that() {
    let mut cluster = Cluster::prepare(1, options());
    let manager = ServiceManager::of(&cluster);
    cluster.nodes[0].start_with(|command| {
        command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "600000");
        command.env("PATRONI_LOG_LEVEL", "INFO").env("PGOPTIONS", "-c work_mem=1MB");
        command.env("PG_MALLOC_ARENA_MAX", "2").env("KEPT", "yes");
    });
    eventually(PATIENCE, "it says something", || (!manager.said().is_empty()).then_some(()));
    assert!(cluster.nodes[0].check("/liveness").is_some(), "it answers when it is ready");
    manager.await_more("WATCHDOG=1");
    manager.await_more("WATCHDOG=1");
    let said = manager.said();
    assert_eq!((said[0].as_str(), said[1].as_str()), ("READY=1", "WATCHDOG=1"));
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
    assert_eq!(cluster.nodes[0].wait_for_agent().code(), Some(0));
    eventually(PATIENCE, "it says that it stops", || manager.said().contains(&"STOPPING=1".to_owned()).then_some(()));
    assert_eq!(cluster.nodes[0].postmaster(), None, "PostgreSQL was stopped");
    cluster.nodes[0].await_log(0, "left in order");
}

#[test]
fn an_agent_that_is_frozen_gives_no_sign_of_life() {
    let mut cluster = Cluster::prepare(1, options());
    let manager = ServiceManager::of(&cluster);
    cluster.nodes[0].start_with(|command| {
        command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "300000");
    });
    cluster.await_complete();
    manager.await_more("WATCHDOG=1");
    cluster.nodes[0].freeze();
    let before = manager.said().len();
    // that takes the guard many times as long as messages are apart; one or two may have been on their way
    eventually(PATIENCE, "PostgreSQL is ended", || (!cluster.nodes[0].postgres_is_alive()).then_some(()));
    assert!(manager.said().len() <= before + 2, "{:?}", &manager.said()[before..]);
    cluster.nodes[0].thaw();
    manager.await_more("WATCHDOG=1");
    assert_eq!(cluster.await_primary(), 0);
}
