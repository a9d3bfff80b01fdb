//! One node of a test's cluster: an agent process with its settings, its PostgreSQL, its log, and the links by which it
//! reaches etcd and by which the others reach it.

use crate::eventually::eventually_blocking;
use crate::http::{self, Answer, Tls};
use crate::postgres::{end_server, run_as, sql};
use crate::proxy::Proxy;
use pgherd_postgres::{Killer, PidFd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The length of the time at the beginning of a log line.
const TIME_CHARS: usize = 23;

/// See the module.
pub struct Node {
    /// The member's name.
    pub name: String,
    /// Where PostgreSQL listens; the other members use the link.
    pub pg_port: u16,
    /// Where the REST API listens; the other members use the link.
    pub rest_port: u16,
    /// The links to etcd, one for each of its members.
    pub etcd_links: Vec<Proxy>,
    /// The link by which others reach this node's PostgreSQL.
    pub pg_link: Proxy,
    /// The link by which others reach this node's REST API.
    pub rest_link: Proxy,
    /// How this test reaches it.
    pub rest_tls: Tls,
    directory: PathBuf,
    program: PathBuf,
    agent: Option<Child>,
}

impl Node {
    /// A node that was not started yet. Its directory exists and belongs to the user of the servers.
    pub fn new(name: &str, directory: &Path, program: &Path, etcd_links: Vec<Proxy>) -> Self {
        let (pg_port, rest_port) = (crate::ports::lasting_port(), crate::ports::lasting_port());
        Self {
            name: name.to_owned(),
            pg_port,
            rest_port,
            etcd_links,
            pg_link: Proxy::start(pg_port),
            rest_link: Proxy::start(rest_port),
            rest_tls: None,
            directory: directory.to_owned(),
            program: program.to_owned(),
            agent: None,
        }
    }

    /// The node's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("node.yml")
    }
    /// Puts these lines, indented by two, into the section `postgresql` of the settings file.
    pub fn add_settings(&self, lines: &str) {
        let text = fs::read_to_string(self.config()).expect("the settings");
        let (before, after) = text.split_once("\npostgresql:\n").expect("a section postgresql");
        fs::write(self.config(), format!("{before}\npostgresql:\n{lines}\n{after}")).expect("write the settings");
    }
    /// Puts a section at the end of the settings file.
    pub fn add_section(&self, lines: &str) {
        let text = fs::read_to_string(self.config()).expect("the settings");
        fs::write(self.config(), format!("{text}{lines}\n")).expect("write the settings");
    }
    /// Writes such a file into the node's directory, for the user of the servers; its path.
    pub fn write_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("write a file");
        if let Some((uid, gid)) = run_as() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
        }
        path
    }
    /// Makes a shell script of this name in the node's directory; its path.
    pub fn add_script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        path
    }
    /// The lines of a file in the node's directory; none if it does not exist.
    pub fn lines_of(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }
    /// What is in the node's directory beside what belongs there.
    pub fn leftovers(&self) -> Vec<String> {
        let known = ["node.yml", "agent.log", "data", "data.pgherd", "pgpass"];
        let entries = fs::read_dir(&self.directory).expect("the node's directory").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !known.contains(&name.as_str()) && !name.starts_with(".s.PGSQL")).collect()
    }
    /// The file that the agent logs to, over all of its lives.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("agent.log")
    }
    /// A command that runs the program as the servers' user, with an environment of its own.
    pub fn command(&self) -> Command {
        command(&self.program, &self.directory)
    }

    /// Starts the agent.
    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// The same with something of its command changed.
    pub fn start_with(&mut self, arrange: impl FnOnce(&mut Command)) {
        assert!(self.agent.is_none(), "the agent of {} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("open the agent's log");
        let errors = log.try_clone().expect("share the log");
        let mut command = self.command();
        command.arg("run").arg(self.config()).stdin(Stdio::null()).stdout(log).stderr(errors);
        arrange(&mut command);
        self.agent = Some(command.spawn().expect("start the agent"));
    }

    /// The agent's process, if it was started and not ended by this test.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }
    /// Did the agent end by itself?
    pub fn agent_has_ended(&mut self) -> bool {
        self.agent.as_mut().is_some_and(|agent| !matches!(agent.try_wait(), Ok(None)))
    }
    /// SIGKILL for the agent alone; returns when it is dead.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().and_then(|()| agent.wait()).expect("kill the agent");
        }
    }
    /// SIGKILL for the agent, its guard and every process of its PostgreSQL: what the loss of a machine looks like.
    pub fn kill_node(&mut self) {
        self.kill_agent();
        self.kill_guard();
        self.kill_postgres();
    }
    /// The living guard's process number.
    pub fn guard(&self) -> Option<i32> {
        pgherd_guard::holder(&self.data_dir())
    }
    /// SIGKILL for the guard; returns when it is dead. A living agent starts another.
    pub fn kill_guard(&self) {
        if let Some(guard) = self.guard().and_then(|pid| PidFd::open(pid).ok()) {
            let _ = guard.signal(Signal::KILL);
            assert!(guard.wait(PATIENCE), "kill the guard");
        }
    }
    /// SIGSTOP for the guard.
    pub fn freeze_guard(&self) {
        let guard = self.guard().and_then(|pid| PidFd::open(pid).ok()).expect("a guard");
        guard.signal(Signal::STOP).expect("freeze the guard");
    }
    /// SIGKILL for every process of PostgreSQL.
    pub fn kill_postgres(&self) {
        for directory in ["data", "data.clone"] {
            Killer::new(&self.directory.join(directory)).kill_all(PATIENCE).expect("kill PostgreSQL");
        }
    }
    /// SIGKILL for the postmaster alone.
    pub fn kill_postmaster(&self) {
        assert!(Killer::new(&self.data_dir()).signal_postmaster(Signal::KILL), "no postmaster to kill");
    }
    /// SIGTERM for the agent, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_agent(Signal::TERM);
        self.wait_for_agent()
    }
    /// Waits until the agent, asked to end by whatever means, has ended.
    pub fn wait_for_agent(&mut self) -> ExitStatus {
        let agent = self.agent.as_mut().expect("an agent");
        let status = eventually_blocking(PATIENCE, "the agent ends", || agent.try_wait().expect("wait for the agent"));
        self.agent = None;
        status
    }
    /// SIGSTOP for the agent.
    pub fn freeze(&self) {
        self.signal_agent(Signal::STOP);
    }
    /// SIGCONT for the agent.
    pub fn thaw(&self) {
        self.signal_agent(Signal::CONT);
    }
    /// Sends the agent a signal.
    pub fn signal_agent(&self, signal: Signal) {
        let agent = self.agent.as_ref().expect("an agent");
        kill_process(Pid::from_child(agent), signal).expect("signal the agent");
    }
    /// The living postmaster's process number.
    pub fn postmaster(&self) -> Option<i32> {
        pgherd_postgres::find_postmaster(&self.data_dir()).map(|postmaster| postmaster.pid)
    }
    /// Is any process of its PostgreSQL alive?
    pub fn postgres_is_alive(&self) -> bool {
        Killer::new(&self.data_dir()).anything_alive()
    }

    /// Cuts every link from this node to etcd.
    pub fn cut_etcd(&self) {
        self.etcd_links.iter().for_each(Proxy::cut);
    }
    /// Makes every link from this node to etcd silent; connections stay open.
    pub fn stall_etcd(&self) {
        self.etcd_links.iter().for_each(Proxy::stall);
    }
    /// Mends every link from this node to etcd.
    pub fn heal_etcd(&self) {
        self.etcd_links.iter().for_each(Proxy::heal);
    }

    /// GET at the node's own REST API.
    pub fn get(&self, path: &str) -> Option<Answer> {
        self.request("GET", path, "", Duration::from_secs(2))
    }
    /// Any request there.
    pub fn request(&self, method: &str, path: &str, body: &str, patience: Duration) -> Option<Answer> {
        http::request_over(http::open(self.rest_port, &self.rest_tls, patience)?, method, path, "", body)
    }
    /// The status code of a health check, if the node answers.
    pub fn check(&self, path: &str) -> Option<u16> {
        self.get(path).map(|answer| answer.status)
    }
    /// The status document; null if the node does not answer.
    pub fn status(&self) -> Value {
        self.get("/patroni").map(|answer| answer.json()).unwrap_or_default()
    }
    /// The stable name of the reason why the node does what it does.
    pub fn reason(&self) -> String {
        self.status()["pgherd"]["reason"]["id"].as_str().unwrap_or_default().to_owned()
    }
    /// Runs SQL as superuser; the first column of every row.
    pub fn try_sql(&self, text: &str) -> Result<Vec<String>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(sql(self.pg_port, text))
    }
    /// The same where it must work.
    pub fn sql(&self, text: &str) -> Vec<String> {
        self.try_sql(text).unwrap_or_else(|why| panic!("{}: {text}: {why}", self.name))
    }
    /// The numbers of the rows in `ledger` that this server can show.
    pub fn rows(&self) -> Result<Vec<i64>, String> {
        let rows = self.try_sql("SELECT id FROM ledger ORDER BY id")?;
        rows.iter().map(|id| id.parse().map_err(|_| format!("not a number: {id}"))).collect()
    }

    /// Every line the agent wrote.
    pub fn log(&self) -> Vec<String> {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
    }
    /// How many lines there are: a mark to search from later.
    pub fn log_mark(&self) -> usize {
        self.log().len()
    }
    /// The first line from `mark` on that contains the text, with its number.
    pub fn logged_since(&self, mark: usize, text: &str) -> Option<(usize, String)> {
        self.log().into_iter().enumerate().skip(mark).find(|(_, line)| line.contains(text))
    }
    /// Waits for such a line.
    pub fn await_log(&self, mark: usize, text: &str) -> (usize, String) {
        let what = format!("{} logs {text:?}", self.name);
        eventually_blocking(PATIENCE * 2, &what, || self.logged_since(mark, text))
    }
    /// The end of the log and the warnings before it, for the report of a failed test; of lines that say the same only the first.
    pub fn print_log(&self, lines: usize) {
        let mut log = self.log();
        log.dedup_by(|line, before| line.get(TIME_CHARS..).is_some_and(|text| before.get(TIME_CHARS..) == Some(text)));
        let (before, end) = log.split_at(log.len().saturating_sub(lines));
        let warnings: Vec<_> =
            before.iter().filter(|line| !line.contains(" DEBUG: ") && !line.contains(" INFO: ")).collect();
        eprintln!("--- {} (the last {lines} lines, and as many warnings before them)", self.log_path().display());
        warnings.iter().skip(warnings.len().saturating_sub(lines)).for_each(|line| eprintln!("{line}"));
        end.iter().for_each(|line| eprintln!("{line}"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        pgherd_guard::end(&self.data_dir());
        ["data", "data.clone"].iter().for_each(|directory| end_server(&self.directory.join(directory)));
    }
}

/// A command that runs a program as the servers' user in that directory: nothing of the test's environment but the
/// path, and UTC, so that times in logs can be compared.
pub fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env_clear().env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    if let Some((uid, gid)) = run_as() {
        command.uid(uid).gid(gid);
    }
    command
}
