//! Real etcd servers on free ports, each with a data directory of its own, ended and removed when dropped.

mod setup;

pub use setup::{EtcdSetup, EtcdTls};

use crate::eventually::eventually_blocking;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A program of Debian's packages etcd-server and etcd-client, or of the directory that `PGHERD_TEST_ETCD` names.
fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os("PGHERD_TEST_ETCD").unwrap_or_else(|| "/usr/bin".into());
    Path::new(&directory).join(name)
}

/// One etcd member.
pub struct Etcd {
    dir: PathBuf,
    args: Vec<String>,
    host: String,
    client_port: u16,
    child: Child,
    root: Option<String>,
    tls: Option<EtcdTls>,
}

impl Etcd {
    /// A cluster of one, ready to serve.
    pub fn start() -> Self {
        Self::start_cluster(1).remove(0)
    }

    /// A cluster of `n` members, ready to serve.
    pub fn start_cluster(n: usize) -> Vec<Self> {
        Self::start_setup(&EtcdSetup::members(n))
    }

    /// A cluster like that, ready to serve.
    pub fn start_setup(setup: &EtcdSetup) -> Vec<Self> {
        let n = setup.hosts.len();
        // Somebody else may take a port between its choice and etcd's start.
        let attempt = || {
            let ports: Vec<u16> = (0..2 * n).map(|_| crate::ports::lasting_port()).collect();
            let peers: Vec<_> = (0..n).map(|i| format!("m{i}=http://{}:{}", setup.hosts[i], ports[n + i])).collect();
            let peers = peers.join(",");
            let mut members: Vec<Self> =
                (0..n).map(|i| Self::member(i, setup, (ports[i], ports[n + i]), &peers)).collect();
            members.iter_mut().all(Self::serves_before_it_ends).then_some(members)
        };
        (0..5).find_map(|_| attempt()).expect("etcd ended at once five times; see its log in the temporary directory")
    }

    fn member(number: usize, setup: &EtcdSetup, (client_port, peer_port): (u16, u16), peers: &str) -> Self {
        let host = &setup.hosts[number];
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let unique = format!("pgherd-etcd-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).expect("make a directory for etcd");
        let scheme = if setup.tls.is_some() { "https" } else { "http" };
        let (client, peer) = (format!("{scheme}://{host}:{client_port}"), format!("http://{host}:{peer_port}"));
        let options = [
            ("name", format!("m{number}")),
            ("data-dir", dir.join("data").display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer),
            ("initial-cluster", peers.to_owned()),
        ];
        let options = options.iter().map(|(name, value)| format!("--{name}={value}"));
        let args: Vec<String> =
            options.chain(setup.args.iter().cloned()).chain(setup.tls.iter().flat_map(EtcdTls::args)).collect();
        let child = spawn(&args, &dir);
        Self { dir, args, host: host.clone(), client_port, child, root: None, tls: setup.tls.clone() }
    }

    /// `http://host:port` for clients, or `https`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.client_port)
    }
    /// Users of etcd's authentication: `root` with this password, and others with read and write permission below a
    /// prefix. The other members are told by `knows_root`.
    pub fn enable_auth(&mut self, root: &str, users: &[(&str, &str, &str)]) {
        self.ctl(&["user", "add", &format!("root:{root}")]);
        self.ctl(&["role", "add", "root"]);
        self.ctl(&["user", "grant-role", "root", "root"]);
        for (name, password, prefix) in users {
            self.ctl(&["user", "add", &format!("{name}:{password}")]);
            self.ctl(&["role", "add", name]);
            self.ctl(&["role", "grant-permission", "--prefix=true", name, "readwrite", prefix]);
            self.ctl(&["user", "grant-role", name, name]);
        }
        self.ctl(&["auth", "enable"]);
        self.knows_root(root);
    }
    /// Authentication is on; `ctl` works as root from now on.
    pub fn knows_root(&mut self, password: &str) {
        self.root = Some(format!("root:{password}"));
    }
    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.client_port
    }
    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }
    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }
    /// SIGKILL; the data stay.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
    /// Ends it if it runs, and starts it again with the same data and ports, without waiting until it serves.
    pub fn spawn_again(&mut self) {
        self.kill();
        self.child = spawn(&self.args, &self.dir);
    }
    /// Ends it if it runs, starts it again and waits until it serves.
    pub fn restart(&mut self) {
        self.spawn_again();
        self.wait_until_ready();
    }
    /// Ends it and starts an empty one in its place, as after a restore from nothing.
    pub fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.join("data")).expect("remove etcd's data");
        self.restart();
    }

    /// A copy of everything, in a file that goes with this member.
    pub fn backup(&self) -> PathBuf {
        let file = self.dir.join("backup");
        self.ctl(&["snapshot", "save", &file.display().to_string()]);
        file
    }
    /// Ends it and starts it from such a copy, as after a disaster. For a cluster of one.
    pub fn restore(&mut self, backup: &Path) {
        self.kill();
        let data = self.dir.join("data");
        std::fs::remove_dir_all(&data).expect("remove etcd's data");
        let kept = ["--name=", "--data-dir=", "--initial-cluster=", "--initial-advertise-peer-urls="];
        let args = self.args.iter().filter(|arg| kept.iter().any(|name| arg.starts_with(name)));
        let mut command = Command::new(program("etcdctl"));
        let command = command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(backup).args(args);
        let output = command.output().expect("run etcdctl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.restart();
    }

    /// One request of the JSON gateway, such as `("/v3/kv/put", r#"{"key":…}"#)`: HTTP status and body.
    pub fn call(&self, path: &str, body: &str) -> Option<(u16, String)> {
        self.request("POST", path, "application/json", body)
    }

    /// One request of the v2 API, such as `("PUT", "/service/main/leader", "value=a&ttl=30")`: HTTP status and body.
    pub fn v2(&self, method: &str, key: &str, form: &str) -> Option<(u16, String)> {
        match method {
            "PUT" => self.request(method, &format!("/v2/keys{key}"), "application/x-www-form-urlencoded", form),
            _ => self.request(method, &format!("/v2/keys{key}?{form}"), "text/plain", ""),
        }
    }

    /// Any request: HTTP status and body.
    pub fn request(&self, method: &str, path: &str, kind: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.client_port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// The value and lease of a key, read by the server's own command line client.
    pub fn get(&self, key: &str) -> Option<String> {
        let out = self.ctl(&["get", "--print-value-only", key]);
        (!out.is_empty()).then(|| out.trim_end_matches('\n').to_owned())
    }
    /// Writes a key without a lease.
    pub fn put(&self, key: &str, value: &str) {
        assert_eq!(self.ctl(&["put", "--", key, value]).trim(), "OK");
    }
    /// Removes a key.
    pub fn delete(&self, key: &str) {
        self.ctl(&["del", key]);
    }
    /// Any `etcdctl` command; panics with its message when it fails.
    pub fn ctl(&self, args: &[&str]) -> String {
        let endpoint = format!("--endpoints={}", self.url());
        let user = self.root.iter().map(|root| format!("--user={root}"));
        let mut command = Command::new(program("etcdctl"));
        let command = command.env("ETCDCTL_API", "3").arg(endpoint).args(user);
        let output = command.args(self.tls.iter().flat_map(EtcdTls::ctl_args)).args(args).output();
        let output = output.expect("run etcdctl");
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same with a line on its standard input.
    pub fn ctl_with_input(&self, args: &[&str], line: &str) {
        let endpoint = format!("--endpoints={}", self.url());
        let user = self.root.iter().map(|root| format!("--user={root}"));
        let mut command = Command::new(program("etcdctl"));
        let command = command.env("ETCDCTL_API", "3").arg(endpoint).args(user).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("run etcdctl");
        child.stdin.take().expect("its input").write_all(format!("{line}\n").as_bytes()).expect("write to etcdctl");
        assert!(child.wait().expect("wait for etcdctl").success(), "etcdctl {args:?}");
    }

    /// Returns when a linearizable read succeeds; an etcd that ended is started again until then.
    pub fn wait_until_ready(&mut self) {
        while !self.serves_before_it_ends() {
            std::thread::sleep(Duration::from_millis(100));
            self.spawn_again();
        }
    }

    fn serves_before_it_ends(&mut self) -> bool {
        eventually_blocking(PATIENCE, "etcd serves", || match self.child.try_wait() {
            Ok(Some(_)) => Some(false),
            _ if self.tls.is_some() => self.healthy().then_some(true),
            // with authentication on it says so, which is an answer, too
            _ => self.call("/v3/kv/range", r#"{"key":"AA=="}"#).filter(|(status, _)| *status < 500).map(|_| true),
        })
    }

    /// By the server's own client: nothing here speaks TLS.
    fn healthy(&self) -> bool {
        let endpoint = format!("--endpoints={}", self.url());
        let args = self.tls.iter().flat_map(EtcdTls::ctl_args);
        let mut command = Command::new(program("etcdctl"));
        let command = command.env("ETCDCTL_API", "3").arg(endpoint).args(args).args(["endpoint", "health"]);
        command.output().is_ok_and(|output| output.status.success())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("signal etcd");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(args: &[String], dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("open etcd's log");
    let program = program("etcd");
    Command::new(&program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("start {} (Debian package etcd-server): {e}", program.display()))
}
