//! HAProxy with the sample configuration in front of a cluster. Of the sample only addresses and ports are changed.

use crate::support::*;
use pgherd_testkit::node::command;
use pgherd_testkit::postgres::{TestDir, sql};
use pgherd_testkit::{http, ports};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

const HAPROXY: &str = "/usr/sbin/haproxy";
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/haproxy.cfg");

/// A running HAProxy; it ends when dropped.
struct Haproxy {
    child: Child,
    primary_port: u16,
    replicas_port: u16,
    stats_port: u16,
    _directory: TestDir,
}

impl Haproxy {
    fn start(cluster: &Cluster) -> Self {
        let directory = TestDir::new();
        let [primary_port, replicas_port, stats_port] = std::array::from_fn(|_| ports::lasting_port());
        let file = directory.path().join("haproxy.cfg");
        let binds = [(5000, primary_port), (5001, replicas_port), (7000, stats_port)];
        std::fs::write(&file, rendered(cluster, &binds)).expect("write the configuration");
        let config = |more: &str| {
            let mut command = command(Path::new(HAPROXY), directory.path());
            command.args([more, "-f"]).arg(&file).stdin(Stdio::null());
            command
        };
        let checked = config("-c").output().expect("run haproxy (Debian package haproxy)");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let child = config("-db").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start haproxy");
        Self { child, primary_port, replicas_port, stats_port, _directory: directory }
    }

    /// The names of the servers of a section that are in use, as the page of statistics says.
    fn in_use(&self, section: &str) -> Option<BTreeSet<String>> {
        let page = http::get(self.stats_port, "/;csv").filter(|answer| answer.status == 200)?;
        let text = String::from_utf8(page.body).expect("text");
        let columns: Vec<_> = text.lines().next()?.trim_start_matches("# ").split(',').collect();
        let status = columns.iter().position(|column| *column == "status").expect("a column status");
        let servers = text.lines().map(|line| line.split(',').collect::<Vec<_>>()).filter(|line| line[0] == section);
        let up = servers.filter(|line| line[1].starts_with("pg") && line[status].starts_with("UP"));
        Some(up.map(|line| line[1].to_owned()).collect())
    }

    fn await_in_use(&self, section: &str, wanted: &BTreeSet<String>) {
        let what = format!("{section}: {wanted:?} in use");
        eventually(PATIENCE, &what, || self.in_use(section).filter(|names| names == wanted).map(drop));
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sample with this machine's addresses. Every line that names one must be there, or it is not the sample that is tried.
fn rendered(cluster: &Cluster, binds: &[(u16, u16); 3]) -> String {
    let mut text = std::fs::read_to_string(PathBuf::from(SAMPLE)).expect("the sample");
    let mut replace = |from: &str, to: &str, times: usize| {
        assert_eq!(text.matches(from).count(), times, "{from} in {SAMPLE}");
        text = text.replace(from, to);
    };
    for (sample, port) in binds {
        replace(&format!("bind *:{sample}\n"), &format!("bind 127.0.0.1:{port}\n"), 1);
    }
    for (number, node) in (1..).zip(&cluster.nodes) {
        let line = |place: &str, rest: u16| format!("server {} {place} maxconn 100 check port {rest}\n", node.name);
        replace(
            &line(&format!("10.0.0.{number}:5432"), 8008),
            &line(&format!("127.0.0.1:{}", node.pg_port), node.rest_port),
            2,
        );
    }
    text
}

/// What one new connection to that port answers.
fn ask(port: u16, text: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(sql(port, text)).unwrap_or_else(|why| panic!("{text}: {why}")).remove(0)
}

fn names(cluster: &Cluster, nodes: &[usize]) -> BTreeSet<String> {
    nodes.iter().map(|n| cluster.nodes[*n].name.clone()).collect()
}

/// The nodes that answer so many connections to that port.
fn answering(cluster: &Cluster, port: u16, connections: usize) -> BTreeSet<String> {
    let of = |answer: String| cluster.nodes.iter().find(|node| node.pg_port.to_string() == answer).expect("a node");
    (0..connections).map(|_| of(ask(port, "SELECT inet_server_port()")).name.clone()).collect()
}

/// Writes go to the primary, and reads to all others and to nobody else.
fn assert_leads_where_it_should(cluster: &Cluster, haproxy: &Haproxy, primary: usize, row: i64) {
    let (leader, replicas) = (names(cluster, &[primary]), names(cluster, &cluster.others(primary)));
    haproxy.await_in_use("primary", &leader);
    haproxy.await_in_use("replicas", &replicas);
    assert_eq!(answering(cluster, haproxy.primary_port, 6), leader);
    assert_eq!(answering(cluster, haproxy.replicas_port, 6), replicas);
    let written = ask(haproxy.primary_port, &format!("INSERT INTO ledger VALUES ({row}) RETURNING id"));
    assert_eq!(written, row.to_string());
    assert!(cluster.nodes[primary].rows().expect("rows").contains(&row), "the primary has the row");
    assert_eq!(ask(haproxy.replicas_port, "SELECT pg_is_in_recovery()"), "t");
}

#[test]
fn the_sample_leads_writes_to_the_primary_and_reads_to_replicas_before_and_after_a_switchover() {
    let mut cluster = cluster(3);
    let old = cluster.await_primary();
    cluster.nodes[old].sql("CREATE TABLE ledger (id bigint PRIMARY KEY)");
    let haproxy = Haproxy::start(&cluster);
    assert_leads_where_it_should(&cluster, &haproxy, old, 1);

    let new = cluster.others(old)[0];
    let body = serde_json::json!({"leader": cluster.nodes[old].name, "candidate": cluster.nodes[new].name});
    let (status, text) = send(&cluster.nodes[old], "POST", "/switchover", &body);
    assert_eq!(status, 200, "{text}");
    assert_eq!(cluster.await_complete(), new);
    assert_leads_where_it_should(&cluster, &haproxy, new, 2);
}
