//! A whole cluster of real programs for a test: etcd, agents, and by them PostgreSQL, each node with a directory, a
//! settings file and a log of its own, joined by links that can be cut. All of it ends when it is dropped; a test that
//! fails shows the end of every log.

use crate::authority::Authority;
use crate::etcd::{Etcd, EtcdSetup};
use crate::eventually::eventually_blocking;
use crate::keys::Keys;
use crate::node::Node;
use crate::postgres::{PASSWORD, TestDir, options as server_options};
use crate::proxy::Proxy;
use crate::writer::Writer;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// So many clusters at a time: more would overload a small machine, and leases of a few seconds would lapse.
const CLUSTERS_MAX: usize = 3;

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The agent program.
    pub program: PathBuf,
    /// How many members etcd has.
    pub etcd_members: usize,
    /// `ttl`, in seconds.
    pub ttl_s: u32,
    /// `loop_wait`, in seconds.
    pub loop_wait_s: u32,
    /// `retry_timeout`, in seconds.
    pub retry_timeout_s: u32,
    /// The size of WAL files. PostgreSQL's own 16 MB make a cluster write several times what its data are, most of it zeros.
    pub wal_segment_mb: u32,
    /// Agents speak etcd's v2 API.
    pub etcd_v2: bool,
    /// REST APIs with TLS: each node has a certificate of the cluster's authority, clients need one for what changes something.
    pub https: bool,
}

impl ClusterOptions {
    /// Quick times, one etcd member.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            etcd_members: 1,
            ttl_s: 5,
            loop_wait_s: 1,
            retry_timeout_s: 1,
            wal_segment_mb: 1,
            etcd_v2: false,
            https: false,
        }
    }
}

/// See the module.
pub struct Cluster {
    /// The nodes, `pg1` first. Before etcd, so that they are ended before it.
    pub nodes: Vec<Node>,
    /// The members of etcd.
    pub etcd: Vec<Etcd>,
    /// Who signs the certificates, with `https`.
    pub authority: Authority,
    options: ClusterOptions,
    directory: TestDir,
    program: Arc<Program>,
    _permit: Permit,
}

impl Cluster {
    /// Starts etcd and so many nodes, and returns when one serves and the others stream from it.
    pub fn start(nodes: usize, options: ClusterOptions) -> Self {
        let mut cluster = Self::prepare(nodes, options);
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.await_complete();
        cluster
    }

    /// The same without starting an agent.
    pub fn prepare(nodes: usize, options: ClusterOptions) -> Self {
        let permit = Permit::take();
        let program = Program::reachable(&options.program);
        let setup = EtcdSetup::members(options.etcd_members);
        let etcd = Etcd::start_setup(&if options.etcd_v2 { setup.with_v2() } else { setup });
        let (directory, nodes_wanted) = (TestDir::new(), nodes);
        let authority = Authority::new();
        let mut cluster = Self { nodes: Vec::new(), etcd, authority, options, directory, program, _permit: permit };
        for _ in 0..nodes_wanted {
            cluster.add_node();
        }
        cluster
    }

    /// One more node, not started; the answer is its place.
    pub fn add_node(&mut self) -> usize {
        let name = format!("pg{}", self.nodes.len() + 1);
        let directory = self.directory.path().join(&name);
        fs::create_dir(&directory).expect("make a node's directory");
        let links = self.etcd.iter().map(|etcd| Proxy::start(etcd.port())).collect();
        let mut node = Node::new(&name, &directory, &self.program.path, links);
        fs::write(node.config(), self.settings(&node, &directory)).expect("write a node's settings");
        if self.options.https {
            node.write_file("rest.pem", &self.authority.signed());
            node.write_file("ca.crt", &self.authority.pem());
            node.rest_tls = Some(self.authority.client(self.directory.path(), true));
        }
        for path in [&directory, &node.config()] {
            give_to_servers_user(path);
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Where its nodes are, and files of the test may be.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn settings(&self, node: &Node, directory: &Path) -> String {
        let ClusterOptions { ttl_s, loop_wait_s, retry_timeout_s, wal_segment_mb, .. } = self.options;
        let (name, directory) = (&node.name, directory.display());
        let hosts: Vec<_> = node.etcd_links.iter().map(|link| format!("127.0.0.1:{}", link.port())).collect();
        let bin_dir = server_options("x", self.directory.path()).bin_dir;
        let bin_dir = bin_dir.map(|dir| format!("\n  bin_dir: {}", dir.display())).unwrap_or_default();
        let tls = match self.options.https {
            true => format!(
                "\n  certfile: {directory}/rest.pem\n  cafile: {directory}/ca.crt\n  verify_client: optional\nctl:\n  certfile: {directory}/rest.pem"
            ),
            false => String::new(),
        };
        // A JSON text is a YAML text.
        let password = serde_json::Value::from(PASSWORD);
        format!(
            "scope: test
name: {name}
restapi:
  listen: 127.0.0.1:{rest}
  connect_address: 127.0.0.1:{rest_link}{tls}
{etcd}:
  hosts: {hosts}
  # else the agents would find the members themselves, beside the links
  use_proxies: true
bootstrap:
  dcs:
    ttl: {ttl_s}
    loop_wait: {loop_wait_s}
    retry_timeout: {retry_timeout_s}
    postgresql:
      use_slots: true
  initdb:
    - encoding: UTF8
    - data-checksums
    - wal-segsize: {wal_segment_mb}
    - auth: scram-sha-256
postgresql:
  listen: 127.0.0.1:{pg}
  connect_address: 127.0.0.1:{pg_link}
  data_dir: {directory}/data{bin_dir}
  pgpass: {directory}/pgpass
  authentication:
    superuser: {{username: postgres, password: {password}}}
    replication: {{username: replicator, password: {password}}}
  parameters:
    unix_socket_directories: {directory}
    # only speed: no test here ends the machine
    fsync: off
    shared_buffers: 16MB
    max_connections: 50
  pg_hba:
    - local all all scram-sha-256
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
log:
  level: DEBUG
",
            rest = node.rest_port,
            rest_link = node.rest_link.port(),
            pg = node.pg_port,
            pg_link = node.pg_link.port(),
            etcd = if self.options.etcd_v2 { "etcd" } else { "etcd3" },
            hosts = hosts.join(","),
        )
    }

    /// The keys of the cluster, by way of the last member of etcd.
    pub fn keys(&self) -> Keys {
        Keys::new(self.etcd.last().expect("an etcd").port(), "/service/test/")
    }

    /// The place of the node that says it is the primary.
    pub fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.agent_pid().is_some() && node.check("/primary") == Some(200))
    }

    /// Waits for a node that says it is the primary and accepts a write.
    pub fn await_primary(&self) -> usize {
        eventually_blocking(PATIENCE, "a node is the primary", || {
            self.primary().filter(|n| self.nodes[*n].try_sql("SELECT pg_current_wal_flush_lsn()").is_ok())
        })
    }

    /// Waits until one node is the primary and every other running one streams from it; its place.
    pub fn await_complete(&mut self) -> usize {
        let wanted: Vec<_> = self.nodes.iter().filter(|n| n.agent_pid().is_some()).map(|n| n.name.clone()).collect();
        let begun = Instant::now();
        loop {
            if let Some(dead) = self.nodes.iter_mut().find_map(|n| n.agent_has_ended().then(|| n.name.clone())) {
                panic!("the agent of {dead} ended");
            }
            let streaming = |primary: usize| {
                let others = wanted.iter().filter(|name| **name != self.nodes[primary].name);
                self.streaming_from(primary)
                    .is_some_and(|streaming| others.clone().all(|name| streaming.contains(name)))
            };
            if let Some(primary) = self.primary().filter(|primary| streaming(*primary)) {
                return primary;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited {PATIENCE:?} in vain for a primary and its standbys of {wanted:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The names of the standbys that stream from this node.
    pub fn streaming_from(&self, node: usize) -> Option<Vec<String>> {
        let text = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
        self.nodes[node].try_sql(text).ok()
    }

    /// Waits until that node streams from the primary.
    pub fn await_streaming(&self, node: usize) {
        let name = &self.nodes[node].name;
        eventually_blocking(PATIENCE, &format!("{name} streams from the primary"), || {
            self.streaming_from(self.primary()?)?.contains(name).then_some(())
        });
    }

    /// The places of all nodes but this one.
    pub fn others(&self, node: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| *n != node).collect()
    }

    /// Makes the table and begins to write into it, wherever that is possible.
    pub fn write(&self) -> Writer {
        self.nodes[self.await_primary()].sql("CREATE TABLE ledger (id bigint PRIMARY KEY)");
        let writer = self.write_on(1);
        self.await_acks(&writer, 20);
        writer
    }

    /// Begins to write into the existing table, with numbers from `first` on that nobody has used.
    pub fn write_on(&self, first: i64) -> Writer {
        Writer::start(self.nodes.iter().map(|node| node.pg_port).collect(), first)
    }

    /// Waits until so many more rows were acknowledged.
    pub fn await_acks(&self, writer: &Writer, more: usize) {
        let wanted = writer.acks().len() + more;
        let what = format!("{more} more rows are acknowledged");
        eventually_blocking(PATIENCE, &what, || (writer.acks().len() >= wanted).then_some(()));
    }

    /// Waits until a standby has replayed everything that the primary has written.
    pub fn await_caught_up(&self, primary: usize, standby: usize) {
        let end = self.nodes[primary].sql("SELECT pg_current_wal_lsn()").remove(0);
        let text = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        let what = format!("{} has replayed {end}", self.nodes[standby].name);
        eventually_blocking(PATIENCE, &what, || {
            (self.nodes[standby].try_sql(&text).ok()?.first()? == "t").then_some(())
        });
    }

    /// Runs `pgherd` with these arguments and the settings of that node; its standard output. It must succeed and
    /// write nothing else.
    pub fn run(&self, node: usize, arguments: &[&str]) -> String {
        let node = &self.nodes[node];
        let output = node.command().args(arguments).arg("-c").arg(node.config()).output().expect("run pgherd");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "pgherd {arguments:?}: {:?} {errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.nodes.iter().for_each(|node| node.print_log(60));
        }
        self.nodes.iter_mut().for_each(Node::kill_agent);
    }
}

fn give_to_servers_user(path: &Path) {
    if let Some((uid, gid)) = crate::postgres::run_as() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

/// The agent program where the servers' user can run it: a copy, if the tests run as root, since root's build
/// directories are often closed to others. It is shared, and removed with the last cluster that uses it.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    _copy: Option<TestDir>,
}

impl Program {
    /// A program that the servers' user can run.
    pub fn reachable(program: &Path) -> Arc<Self> {
        static SHARED: Mutex<Weak<Program>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = shared.upgrade() {
            return program;
        }
        let made = Arc::new(Self::make(program));
        *shared = Arc::downgrade(&made);
        made
    }

    fn make(program: &Path) -> Self {
        if crate::postgres::run_as().is_none() {
            return Self { path: program.to_owned(), _copy: None };
        }
        let directory = TestDir::new();
        let path = directory.path().join("pgherd");
        fs::copy(program, &path).expect("copy the program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        Self { path, _copy: Some(directory) }
    }
}

/// The right to run a cluster.
struct Permit;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

fn running() -> MutexGuard<'static, usize> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Permit {
    fn take() -> Self {
        let mut running = ENDED.wait_while(running(), |n| *n >= CLUSTERS_MAX).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *running() -= 1;
        ENDED.notify_one();
    }
}
