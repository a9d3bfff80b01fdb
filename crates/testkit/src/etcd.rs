//! Real etcd servers on free ports, each with a data directory of its own, ended and removed when dropped.

use crate::eventually::eventually_blocking;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// One etcd member.
pub struct Etcd {
    dir: PathBuf,
    args: Vec<String>,
    client_port: u16,
    child: Child,
}

impl Etcd {
    /// A cluster of one, ready to serve.
    pub fn start() -> Self {
        Self::start_cluster(1).remove(0)
    }

    /// A cluster of `n` members, ready to serve.
    pub fn start_cluster(n: usize) -> Vec<Self> {
        // Somebody else may take a port between its choice and etcd's start.
        let attempt = || {
            let ports: Vec<u16> = (0..2 * n).map(|_| crate::ports::lasting_port()).collect();
            let peers: Vec<String> = (0..n).map(|i| format!("m{i}=http://127.0.0.1:{}", ports[n + i])).collect();
            let peers = peers.join(",");
            let mut members: Vec<Self> = (0..n).map(|i| Self::member(i, ports[i], ports[n + i], &peers)).collect();
            members.iter_mut().all(Self::serves_before_it_ends).then_some(members)
        };
        (0..5).find_map(|_| attempt()).expect("etcd ended at once five times; see its log in the temporary directory")
    }

    fn member(number: usize, client_port: u16, peer_port: u16, peers: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let unique = format!("pgherd-etcd-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).expect("make a directory for etcd");
        let (client, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
        let options = [
            ("name", format!("m{number}")),
            ("data-dir", dir.join("data").display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer),
            ("initial-cluster", peers.to_owned()),
        ];
        let args: Vec<String> = options.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        let child = spawn(&args, &dir);
        Self { dir, args, client_port, child }
    }

    /// `http://127.0.0.1:port` for clients.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
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

    /// One request of the JSON gateway, such as `("/v3/kv/put", r#"{"key":…}"#)`: HTTP status and body.
    pub fn call(&self, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client_port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
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
        let output = Command::new("/usr/bin/etcdctl").env("ETCDCTL_API", "3").arg(endpoint).args(args).output();
        let output = output.expect("run etcdctl");
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
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
            _ => self.call("/v3/kv/range", r#"{"key":"AA=="}"#).filter(|(status, _)| *status == 200).map(|_| true),
        })
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

fn spawn(args: &[String], dir: &std::path::Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("open etcd's log");
    Command::new("/usr/bin/etcd")
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("start /usr/bin/etcd (Debian package etcd-server)")
}
