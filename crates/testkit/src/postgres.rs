//! A real PostgreSQL in a temporary directory. PostgreSQL refuses root, so a test that runs as root runs the server's
//! programs as the user `postgres`.

use pgherd_postgres::{
    Credentials, Killer, OperationControl, Outcome, PidFd, Postgres, PostgresOptions, bootstrap, find_postmaster,
};
use pgherd_types::Upstream;
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Where the distribution keeps the programs when they are not in `PATH`.
const BIN_DIR: &str = "/usr/lib/postgresql/15/bin";
/// Names another directory with PostgreSQL's programs (`make test-versions`).
const BIN_DIR_VARIABLE: &str = "PGHERD_TEST_BIN_DIR";
/// PostgreSQL kills what it has not ended by then itself.
const IMMEDIATE_STOP: Duration = Duration::from_secs(6);
/// Password of every role a test makes.
pub const PASSWORD: &str = "secret'\\ of tests";

/// User and group for PostgreSQL's programs: `postgres` when the test runs as root, else nobody else.
pub fn run_as() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|l| l.starts_with("postgres:")).expect("a user named postgres");
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().expect("a user id"), fields[3].parse().expect("a group id")))
}

/// A directory that the server's user may write to; removed with everything in it when dropped.
#[derive(Debug)]
pub struct TestDir(PathBuf);

impl TestDir {
    /// Makes it.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pgherd-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        if let Some((uid, gid)) = run_as() {
            chown(&path, Some(uid), Some(gid)).expect("chown");
        }
        Self(path)
    }
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TestDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where PostgreSQL's programs are; `None` where they are taken from `PATH`. A directory that is asked for must have them.
fn bin_dir() -> Option<PathBuf> {
    let Some(wanted) = std::env::var_os(BIN_DIR_VARIABLE).map(PathBuf::from) else {
        return Some(PathBuf::from(BIN_DIR)).filter(|dir| dir.is_dir());
    };
    assert!(wanted.join("postgres").is_file(), "{BIN_DIR_VARIABLE}: no program postgres in {}", wanted.display());
    Some(wanted)
}

/// The directory of PostgreSQL's programs.
pub fn server_programs() -> PathBuf {
    bin_dir().expect("PostgreSQL's programs, from Debian's package")
}

/// Makes a directory of the programs that are in another one, in which that one is this shell script instead.
pub fn replace_program(place: &Path, real: &Path, name: &str, script: &str) {
    fs::create_dir(place).expect("a directory for programs");
    let programs = fs::read_dir(real).expect("PostgreSQL's programs").flatten();
    for program in programs.filter(|program| program.file_name() != name) {
        symlink(program.path(), place.join(program.file_name())).expect("a link to a program");
    }
    let path = place.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write a script");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("permissions");
}

/// Options for a server of this name below a directory, on a free port.
pub fn options(name: &str, dir: &Path) -> PostgresOptions {
    let mut options = PostgresOptions::new(name.into(), "test", &dir.join(name));
    let role = |user: &str| Credentials {
        username: Some(user.to_owned()),
        password: Some(PASSWORD.to_owned()),
        ..Credentials::default()
    };
    options.bin_dir = bin_dir();
    options.listen_port = crate::ports::lasting_port();
    options.connect_port = options.listen_port;
    options.superuser = role("postgres");
    options.replication = role("replicator");
    options.rewind = Some(role("rewinder"));
    options.initdb = [("encoding", "UTF8"), ("auth", "scram-sha-256")]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .to_vec();
    options.pg_hba =
        ["local all all scram-sha-256", "host all all all scram-sha-256", "host replication all all scram-sha-256"]
            .map(str::to_owned)
            .to_vec();
    for (name, value) in [
        ("unix_socket_directories", dir.display().to_string()),
        ("shared_buffers", "16MB".to_owned()),
        ("fsync", "off".to_owned()),
        ("max_wal_size", "64MB".to_owned()),
    ] {
        options.parameters.insert(name.to_owned(), value);
    }
    options.run_as = run_as();
    options
}

/// A server that is killed when dropped.
#[derive(Debug)]
pub struct TestPostgres {
    /// It.
    pub server: Arc<Postgres>,
}

impl TestPostgres {
    /// Opens a server; nothing is created or started.
    pub fn open(options: PostgresOptions) -> Outcome<Self> {
        Postgres::open(options).map(|server| Self { server: Arc::new(server) })
    }
    /// A new cluster, not started.
    pub async fn bootstrapped(options: PostgresOptions) -> Outcome<Self> {
        let it = Self::open(options)?;
        bootstrap(&it.server, &OperationControl::new(None)).await?;
        Ok(it)
    }
    /// As others see it.
    pub fn upstream(&self) -> Upstream {
        let options = self.server.options();
        Upstream { member: options.name.clone(), host: options.connect_host.clone(), port: options.connect_port }
    }
    /// Runs SQL as a client.
    pub async fn sql(&self, text: &str) -> Result<Vec<String>, String> {
        sql(self.server.options().listen_port, text).await
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        end_server(&self.server.options().data_dir);
    }
}

/// Ends whatever runs in that directory. A server is given the time to give back its shared memory: a machine has a limited
/// number of segments, and one whose server was killed stays until the next start in the same directory.
pub fn end_server(data_dir: &Path) {
    if let Some(postmaster) = find_postmaster(data_dir).and_then(|postmaster| PidFd::open(postmaster.pid).ok()) {
        let _ = postmaster.signal(Signal::QUIT).and_then(|()| postmaster.signal(Signal::CONT));
        postmaster.wait(IMMEDIATE_STOP);
    }
    let _ = Killer::new(data_dir).kill_all(Duration::from_secs(30));
}

/// Runs SQL as a client of the server on this port; the first column of every row.
pub async fn sql(port: u16, text: &str) -> Result<Vec<String>, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password(PASSWORD).dbname("postgres");
    let answer = tokio::time::timeout(Duration::from_secs(30), async {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(connection);
        let messages = client.simple_query(text).await;
        driver.abort();
        messages
    });
    let messages = answer.await.map_err(|_| "no answer within 30 s".to_owned())?.map_err(describe)?;
    let first = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(first).collect())
}

fn describe(error: tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}
