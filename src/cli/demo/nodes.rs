//! The demo's processes: one etcd, three agents, and by them three PostgreSQL servers.

use pgherd_postgres::Killer;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TEMPLATE: &str = include_str!("../../../config/demo/node.yml");
const POLL: Duration = Duration::from_millis(100);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// One node.
pub struct Node {
    pub name: String,
    pub rest_port: u16,
    pub pg_port: u16,
    directory: PathBuf,
    agent: Option<Child>,
}

/// All of it. Dropping it ends every process it started and removes its directory.
pub struct Cluster {
    directory: PathBuf,
    bin_dir: PathBuf,
    etcd_port: u16,
    etcd: Option<Child>,
    pub nodes: Vec<Node>,
}

impl Node {
    pub fn config(&self) -> PathBuf {
        self.directory.join("node.yml")
    }
    fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }
    /// The status code of a health check, if the node answers.
    pub async fn check(&self, path: &str) -> Option<u16> {
        let url = format!("http://127.0.0.1:{}{path}", self.rest_port);
        super::writer::http_status(&url).await
    }
    /// SIGKILL for the agent, its guard and every process of its PostgreSQL: what the loss of a machine looks like.
    pub fn kill(&mut self) -> Result<(), String> {
        if let Some(mut agent) = self.agent.take() {
            agent
                .kill()
                .and_then(|()| agent.wait())
                .map_err(|e| format!("cannot kill the agent of {}: {e}", self.name))?;
        }
        pgherd_guard::end(&self.data_dir());
        let killed = Killer::new(&self.data_dir()).kill_all(Duration::from_secs(10));
        killed.map_err(|e| format!("processes {:?} of {} survive SIGKILL", e.0, self.name))
    }
    fn stop(&mut self) {
        if let Some(agent) = &self.agent {
            terminate(agent);
        }
    }
    fn finish(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            wait_or_kill(&mut agent);
        }
        pgherd_guard::end(&self.data_dir());
        let _ = Killer::new(&self.data_dir()).kill_all(Duration::from_secs(10));
    }
}

impl Cluster {
    /// Choose ports, make the directory and the configuration files.
    pub fn prepare(bin_dir: Option<&Path>) -> Result<Self, String> {
        let bin_dir = bin_dir.map_or_else(newest_postgres, |dir| Ok(dir.to_owned()))?;
        let directory = std::env::temp_dir().join(format!("pgherd-demo-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
        let mut cluster = Self { directory, bin_dir, etcd_port: free_port(12379)?, etcd: None, nodes: Vec::new() };
        for n in 1..=3u16 {
            let node = Node {
                name: format!("pg{n}"),
                rest_port: free_port(18007 + n)?,
                pg_port: free_port(15431 + n)?,
                directory: cluster.directory.join(format!("pg{n}")),
                agent: None,
            };
            cluster.write_config(&node).map_err(|e| format!("cannot write the files of {}: {e}", node.name))?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    fn write_config(&self, node: &Node) -> std::io::Result<()> {
        fs::create_dir(&node.directory)?;
        let text = TEMPLATE
            .replace("REST_PORT", &node.rest_port.to_string())
            .replace("PG_PORT", &node.pg_port.to_string())
            .replace("ETCD_PORT", &self.etcd_port.to_string())
            .replace("BIN_DIR", &self.bin_dir.display().to_string())
            .replace("DIRECTORY", &node.directory.display().to_string())
            .replace("name: NAME", &format!("name: {}", node.name));
        fs::write(node.config(), text)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Start all processes.
    pub fn start(&mut self) -> Result<(), String> {
        self.etcd = Some(self.start_etcd()?);
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        for node in &mut self.nodes {
            let mut command = Command::new(&program);
            command.arg("run").arg(node.config());
            node.agent = Some(spawn(command, &node.directory.join("agent.log"))?);
        }
        Ok(())
    }

    fn start_etcd(&self) -> Result<Child, String> {
        let (client, peer) =
            (format!("http://127.0.0.1:{}", self.etcd_port), format!("http://127.0.0.1:{}", free_port(12380)?));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.directory.join("etcd")).args(["--name", "demo", "--logger", "zap"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.arg("--initial-cluster").arg(format!("demo={peer}"));
        spawn(command, &self.directory.join("etcd.log"))
    }

    /// Wait until one node leads and the others stream.
    pub async fn wait_until_complete(&mut self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            self.fail_on_dead_processes()?;
            let mut ready = 0;
            for node in &self.nodes {
                let path = "/replica?replication_state=streaming";
                ready += usize::from(node.check("/primary").await == Some(200) || node.check(path).await == Some(200));
            }
            if ready == self.nodes.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the cluster was not complete after {} s", within.as_secs()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn fail_on_dead_processes(&mut self) -> Result<(), String> {
        let dead = |child: &mut Option<Child>| child.as_mut().is_some_and(|c| !matches!(c.try_wait(), Ok(None)));
        if dead(&mut self.etcd) {
            return Err("etcd ended".to_owned());
        }
        match self.nodes.iter_mut().find_map(|n| dead(&mut n.agent).then(|| n.name.clone())) {
            Some(name) => Err(format!("the agent of {name} ended")),
            None => Ok(()),
        }
    }

    /// The node that says it is the primary.
    pub async fn primary(&self) -> Option<usize> {
        for (n, node) in self.nodes.iter().enumerate() {
            if node.agent.is_some() && node.check("/primary").await == Some(200) {
                return Some(n);
            }
        }
        None
    }

    /// The members table, as `pgherd list` prints it.
    pub fn print_members(&self) {
        let Ok(program) = std::env::current_exe() else { return };
        let _ = Command::new(program).arg("list").arg("-c").arg(self.nodes[0].config()).status();
    }

    pub fn what_to_try(&self) -> String {
        let (node, program) = (&self.nodes[0], std::env::current_exe().unwrap_or_else(|_| "pgherd".into()));
        let ports: Vec<_> = self.nodes.iter().map(|n| n.pg_port.to_string()).collect();
        let pids: Vec<_> =
            self.nodes.iter().filter_map(|n| Some(format!("{} {}", n.name, n.agent.as_ref()?.id()))).collect();
        format!(
            "\nThe cluster is up. Try, in another terminal:\n\
             \x20 {program} list -c {config}\n\
             \x20 curl -s http://127.0.0.1:{rest}/patroni        # one node's state, and why it does what it does\n\
             \x20 curl -s http://127.0.0.1:{rest}/cluster\n\
             \x20 PGPASSWORD=demo-super psql -h 127.0.0.1 -p {first} -U postgres     # PostgreSQL listens on ports {ports}\n\
             \x20 kill -TERM <agent>                             # an orderly hand-over; agents: {pids}\n\
             \x20 tail -f {log}\n\
             Ctrl-C ends everything and removes {dir}.",
            program = program.display(),
            config = node.config().display(),
            rest = node.rest_port,
            first = node.pg_port,
            ports = ports.join(", "),
            pids = pids.join(", "),
            log = node.directory.join("agent.log").display(),
            dir = self.directory.display(),
        )
    }

    /// The end of every log, for a failure report.
    pub fn print_logs(&self) {
        for path in self.nodes.iter().map(|n| n.directory.join("agent.log")).chain([self.directory.join("etcd.log")]) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(15).collect();
            eprintln!("--- {}", path.display());
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }

    /// End all processes and remove the directory.
    pub fn stop(&mut self) {
        self.nodes.iter_mut().for_each(Node::stop);
        self.nodes.iter_mut().for_each(Node::finish);
        if let Some(mut etcd) = self.etcd.take() {
            terminate(&etcd);
            wait_or_kill(&mut etcd);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The child is put in a process group of its own, so that Ctrl-C reaches this program only, which ends them in order.
fn spawn(mut command: Command, log: &Path) -> Result<Child, String> {
    use std::os::unix::process::CommandExt;
    let program = command.get_program().to_string_lossy().into_owned();
    let log_file = File::create(log).map_err(|e| format!("cannot create {}: {e}", log.display()))?;
    let error_file = log_file.try_clone().map_err(|e| format!("cannot share {}: {e}", log.display()))?;
    command.process_group(0).stdin(Stdio::null()).stdout(log_file).stderr(error_file);
    command.spawn().map_err(|e| format!("cannot start {program}: {e} (`make deps` installs what is needed)"))
}

fn terminate(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn wait_or_kill(child: &mut Child) {
    let deadline = Instant::now() + STOP_WITHIN;
    while let Ok(None) = child.try_wait() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The port, or the next free one after it.
fn free_port(wanted: u16) -> Result<u16, String> {
    static TAKEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let free = |port: &u16| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port =
        (wanted..wanted.saturating_add(500)).find(free).ok_or_else(|| format!("no free port from {wanted} on"))?;
    taken.push(port);
    Ok(port)
}

fn newest_postgres() -> Result<PathBuf, String> {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let dirs = fs::read_dir("/usr/lib/postgresql")
        .map_err(|_| "PostgreSQL is not installed in /usr/lib/postgresql: `make deps`".to_owned())?;
    let mut found: Vec<_> = dirs.flatten().map(|d| d.path()).filter(|d| d.join("bin/postgres").exists()).collect();
    found.sort_by_key(|path| version(path));
    found.pop().map(|d| d.join("bin")).ok_or_else(|| "no PostgreSQL in /usr/lib/postgresql: `make deps`".to_owned())
}
