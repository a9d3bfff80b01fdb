//! Two real servers whose data have parted: `a` was the primary and has WAL that `b`, the leader now, never got.

use crate::servers::{PATIENCE, free};
use pgherd_postgres::{
    OperationControl, Outcome, PostgresOptions, clone_from, observe, promote, rewind, start_primary, start_replica,
    state_dir, stop_fast,
};
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::postgres::{TestDir, TestPostgres, options, replace_program};
use pgherd_types::postgres::ControlState;
use pgherd_types::{ControlData, Timeline, Upstream};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// How the former primary ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Killed,
    InOrder,
}

pub struct Scene {
    pub a: TestPostgres,
    pub b: TestPostgres,
    pub dir: TestDir,
}

impl Scene {
    /// With a leader that was promoted just now.
    pub async fn new(end: End, arrange: impl Fn(&mut PostgresOptions)) -> Self {
        let scene = Self::before_the_promotion(end, arrange).await;
        promote(&scene.b.server, Timeline(2), &free()).await.unwrap();
        scene.write_on_the_leader().await;
        scene
    }

    pub async fn before_the_promotion(end: End, arrange: impl Fn(&mut PostgresOptions)) -> Self {
        let dir = TestDir::new();
        let make = |name| {
            let mut options = options(name, dir.path());
            options.bin_dir = Some(replaceable_programs(dir.path(), options.bin_dir.as_deref()));
            // The user's options reach pg_rewind; and flushing a whole data directory takes long.
            options.rewind_options = vec![("no-sync".to_owned(), None)];
            arrange(&mut options);
            options
        };
        let a = TestPostgres::bootstrapped(make("a1")).await.unwrap();
        start_primary(&a.server, &free()).unwrap();
        a.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n; CHECKPOINT").await.unwrap();
        let b = TestPostgres::open(make("b1")).unwrap();
        clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
        start_replica(&b.server, None, &free()).unwrap();
        // Only here, and nothing of it on the other node.
        a.sql("UPDATE t SET n = -n; CREATE TABLE lost AS SELECT 1; SELECT pg_switch_wal()").await.unwrap();
        a.sql("INSERT INTO lost SELECT 2").await.unwrap();
        match end {
            End::Killed => a.server.kill_all().unwrap(),
            End::InOrder => stop_fast(&a.server, &free()).await.unwrap(),
        }
        eventually(PATIENCE, "the standby runs", async || observe(&b.server).await.state.running().cloned()).await;
        Self { a, b, dir }
    }

    pub async fn write_on_the_leader(&self) {
        let text = "INSERT INTO t VALUES (7777); SELECT pg_create_physical_replication_slot('a1')";
        self.b.sql(text).await.unwrap();
    }

    pub fn rewind(&self) -> Outcome<()> {
        rewind(&self.a.server, &self.b.upstream(), &free())
    }

    /// Rewinds on a thread of its own.
    pub fn rewinding(&self, control: &Arc<OperationControl>) -> JoinHandle<Outcome<()>> {
        let (server, from, control) = (self.a.server.clone(), self.b.upstream(), control.clone());
        std::thread::spawn(move || rewind(&server, &from, &control))
    }

    pub async fn control(&self) -> ControlData {
        observe(&self.a.server).await.state.control().unwrap().clone()
    }

    pub async fn is_interrupted(&self) -> bool {
        self.control().await.rewind_interrupted
    }

    /// A file of the former primary's data directory.
    pub fn data(&self, name: &str) -> PathBuf {
        self.a.server.options().data_dir.join(name)
    }

    /// A file beside it.
    pub fn state(&self, name: &str) -> PathBuf {
        state_dir(&self.a.server.options().data_dir).join(name)
    }

    /// What the shell does before pg_rewind in earnest, with `$data` for the data directory.
    pub fn before_pg_rewind(&self, script: &str) {
        set_script(self.dir.path(), &format!("[ \"$dry\" ] || {{ {script}\n}}"));
    }

    /// What it does before every run.
    pub fn before_every_pg_rewind(&self, script: &str) {
        set_script(self.dir.path(), script);
    }

    /// The former primary is a standby with the leader's data and nothing else.
    pub async fn is_a_standby_of_the_leader(&self) {
        assert!(!self.is_interrupted().await && !self.state("rewind").exists());
        for secret in ["service.rewind", "pgpass.rewind"] {
            assert!(!self.state(secret).exists(), "{secret}");
        }
        start_replica(&self.a.server, Some(&self.b.upstream()), &free()).unwrap();
        self.b.sql("INSERT INTO t VALUES (8888)").await.unwrap();
        eventually(PATIENCE, "the leader's rows arrive", async || {
            let rows = self.a.sql("SELECT count(*) FROM t WHERE n IN (7777, 8888)").await;
            (rows == Ok(vec!["2".to_owned()])).then_some(())
        })
        .await;
        let rows = self.a.sql("SELECT count(*) FROM t WHERE n BETWEEN 1 AND 1000; SELECT to_regclass('lost')").await;
        assert_eq!(rows.unwrap().first().map(String::as_str), Some("1000"));
        assert!(self.a.sql("SELECT 1 FROM lost").await.is_err());
        let seen = observe(&self.a.server).await.state.running().cloned().unwrap();
        let leader = Some(("127.0.0.1".to_owned(), self.b.server.options().listen_port));
        assert_eq!((seen.in_recovery, seen.streaming, seen.upstream), (true, true, leader));
        assert_eq!(seen.timeline, Some(Timeline(2)));
    }

    /// The data are whole, the old ones, and can be started as before.
    pub async fn is_as_it_was(&self, state: ControlState) {
        let control = self.control().await;
        assert_eq!((control.state, control.rewind_interrupted), (state, false));
        assert!(!self.state("rewind").exists());
        start_primary(&self.a.server, &free()).unwrap();
        assert_eq!(self.a.sql("SELECT count(*) FROM t WHERE n < 0").await.unwrap(), ["1000"]);
        stop_fast(&self.a.server, &free()).await.unwrap();
    }

    /// Neither start is possible.
    pub async fn is_refused(&self) {
        assert!(self.is_interrupted().await);
        let primary = start_primary(&self.a.server, &free());
        let replica = start_replica(&self.a.server, Some(&self.b.upstream()), &free());
        for refused in [primary, replica] {
            assert!(refused.unwrap_err().to_string().starts_with("pg_rewind was interrupted"));
        }
    }
}

/// PostgreSQL's programs, but pg_rewind is a script that does what a test wants first.
fn replaceable_programs(dir: &Path, real: Option<&Path>) -> PathBuf {
    let programs = dir.join("bin");
    let real = real.expect("PostgreSQL's programs");
    if programs.exists() {
        return programs;
    }
    let script = format!(
        "data=\"$5\"\ndry=; for a; do [ \"$a\" != --dry-run ] || dry=1; done\n. {}/script\nexec {}/pg_rewind \"$@\"",
        dir.display(),
        real.display()
    );
    replace_program(&programs, real, "pg_rewind", &script);
    set_script(dir, "");
    programs
}

pub fn set_script(dir: &Path, script: &str) {
    fs::write(dir.join("script"), script).unwrap();
}

/// The other member as a running agent knows it.
pub fn upstream_at(port: u16) -> Upstream {
    Upstream { member: "b1".into(), host: "127.0.0.1".to_owned(), port }
}
