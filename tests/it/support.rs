//! What the tests share.

pub use pgherd_testkit::cluster::{Cluster, ClusterOptions, PATIENCE};
pub use pgherd_testkit::eventually::eventually_blocking as eventually;
use pgherd_testkit::keys::Key;
pub use pgherd_testkit::leader_watch::LeaderWatch;
use pgherd_testkit::node::Node;
use pgherd_testkit::writer::Ack;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
pub use std::time::Instant;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pgherd");

/// Quick times, one etcd member.
pub fn options() -> ClusterOptions {
    ClusterOptions::new(PROGRAM)
}

/// Other times, in seconds.
pub fn options_with(ttl_s: u32, loop_wait_s: u32, retry_timeout_s: u32) -> ClusterOptions {
    ClusterOptions { ttl_s, loop_wait_s, retry_timeout_s, ..options() }
}

/// The time as logs write it.
pub fn log_time() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

/// A complete cluster of so many nodes.
pub fn cluster(nodes: usize) -> Cluster {
    Cluster::start(nodes, options())
}

/// The key `leader`, which must be there.
pub fn leader_key(cluster: &Cluster) -> Key {
    cluster.keys().get("leader").expect("a leader key")
}

/// No write failed since the first one was acknowledged: the writer passes a number over after each failure.
pub fn assert_undisturbed(acks: &[Ack]) {
    let broken = acks.windows(2).find(|pair| pair[0].id + 1 != pair[1].id);
    assert_eq!(broken, None, "a client of the primary was disturbed");
}

/// Was anything copied from another node, or made anew, since that line of the log?
pub fn was_cloned_since(node: &Node, mark: usize) -> bool {
    node.logged_since(mark, "begins: bootstrap").is_some()
}

/// The timeline that a running server writes; of a standby the one of its last restartpoint. (The control file of a new
/// primary shows its timeline only after a checkpoint.)
pub fn timeline(node: &Node) -> u32 {
    let text = "SELECT CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint()) \
                ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END";
    node.sql(text).remove(0).parse().expect("a timeline")
}

/// Name, size and content of everything in a data directory that holds data: the control file, WAL and tables.
pub fn data_files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in ["global", "pg_wal", "base"] {
        collect(&directory.join(part), &mut found);
    }
    assert!(found.keys().any(|path| path.ends_with("global/pg_control")), "no control file in {}", directory.display());
    found
}

fn collect(directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).expect("read a data directory").flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, found),
            path => drop(found.insert(path.display().to_string(), std::fs::read(&path).expect("read a data file"))),
        }
    }
}

/// How long a request may take that waits for what becomes of it.
const ANSWER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A request to a node's REST API; status and body as text.
pub fn send(node: &Node, method: &str, path: &str, body: &serde_json::Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = node.request(method, path, &body, ANSWER_PATIENCE).expect("an answer");
    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
}

/// Changes the dynamic configuration and waits until every node goes by it.
pub fn configure(cluster: &Cluster, change: serde_json::Value) {
    eventually(PATIENCE, "there is a configuration to change", || {
        cluster.nodes[0].get("/config").filter(|answer| answer.status == 200).map(drop)
    });
    let (code, text) = send(&cluster.nodes[0], "PATCH", "/config", &change);
    assert_eq!(code, 200, "{text}");
    let wanted = cluster.keys().get("config").expect("a config key").json();
    for node in cluster.nodes.iter().filter(|node| node.agent_pid().is_some()) {
        let what = format!("{} goes by {wanted}", node.name);
        eventually(PATIENCE, &what, || (node.get("/config")?.json() == wanted).then_some(()));
    }
}

/// A primary that is ended at once may have a little that nobody else has: with this it comes back by itself.
pub fn rewind_what_diverges(cluster: &Cluster) {
    configure(cluster, serde_json::json!({"postgresql": {"use_pg_rewind": true}}));
}

/// Every acknowledged row is there.
pub fn assert_nothing_lost(cluster: &Cluster, primary: usize, acks: &[Ack]) {
    let rows: std::collections::BTreeSet<i64> = cluster.nodes[primary].rows().expect("rows").into_iter().collect();
    let lost: Vec<_> = acks.iter().filter(|ack| !rows.contains(&ack.id)).collect();
    assert!(lost.is_empty(), "acknowledged rows are missing: {lost:?}");
}

/// The value of a series that the node shows, told apart by a label if need be.
pub fn metric(node: &Node, name: &str, label: &str) -> Option<f64> {
    let answer = node.get("/metrics").filter(|answer| answer.status == 200)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits until the node shows such a value.
pub fn await_metric(node: &Node, name: &str, what: impl Fn(f64) -> bool) {
    let shown = || metric(node, name, "").filter(|value| what(*value)).map(drop);
    eventually(PATIENCE, &format!("{} shows another {name}", node.name), shown);
}

/// For how long a node may say that it leads without another proof, by its metrics.
pub fn lease_left_s(node: &Node) -> Option<f64> {
    metric(node, "pgherd_lease_remaining_seconds", "")
}

/// Waits for a renewal of the lease that is younger than this call.
pub fn await_renewal(node: &Node) {
    let before = lease_left_s(node).expect("metrics");
    let begun = Instant::now();
    let what = format!("{} renews its lease", node.name);
    eventually(PATIENCE, &what, || {
        let left = lease_left_s(node)?;
        (left > before - begun.elapsed().as_secs_f64() + 0.5 && left > 0.0).then_some(())
    });
}

/// The first event of that kind for which this is true.
pub fn await_event(node: &Node, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let what = format!("{} tells {kind}", node.name);
    eventually(PATIENCE, &what, || {
        let answer = node.get(&format!("/events?limit=1000&type={kind}"))?;
        answer.json()["events"].as_array()?.iter().find(|event| wanted(&event["data"])).cloned()
    })
}
