//! Synchronous replication on real servers: whom commits wait for, what survives restarts, and what a look shows.

use crate::servers::{self, PATIENCE, free, primary, primary_with, running};
use pgherd_postgres::{
    Overlay, Postgres, PostgresOptions, RoleClass, apply_dynamic, apply_sync, reload_config, start_primary, stop_fast,
};
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::postgres::{TestDir, TestPostgres, options, sql};
use pgherd_types::{StandbyNames, SyncApply, SyncKind, SyncName, SyncNames};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const NEVER: Duration = Duration::from_secs(3600);

async fn standby(dir: &TestDir, of: &TestPostgres) -> TestPostgres {
    standby_with(options("b1", dir.path()), of).await
}

async fn standby_with(options: PostgresOptions, of: &TestPostgres) -> TestPostgres {
    let it = servers::standby_with(options, of).await;
    eventually(PATIENCE, "the standby streams", async || running(&it).await.streaming.then_some(())).await;
    it
}

fn names(list: &[&str]) -> StandbyNames {
    StandbyNames::all(list.iter().map(|name| SyncName::from(*name)).collect::<SyncNames>())
}

async fn order(it: &TestPostgres, step: SyncApply) -> Result<(), String> {
    apply_sync(&it.server, &step, || true).await
}

async fn shown(it: &TestPostgres) -> String {
    it.sql("SHOW synchronous_standby_names").await.unwrap().remove(0)
}

/// A client's statement, whose end can be waited for.
fn client(it: &TestPostgres, text: &'static str) -> JoinHandle<Result<Vec<String>, String>> {
    let port = it.server.options().listen_port;
    tokio::spawn(async move { sql(port, text).await })
}

/// Until a look lists this many commits that wait.
async fn commits_wait(it: &TestPostgres, number: usize) -> Vec<(u32, String)> {
    let waiting = async || Some(running(it).await.sync.waiting).filter(|waiting| waiting.len() == number);
    eventually(PATIENCE, "a commit waits", waiting).await
}

/// Another agent takes over the same data directory; PostgreSQL goes on.
fn reopen(it: &mut TestPostgres, dir: &TestDir) {
    let options = it.server.options().clone();
    let nobody = Postgres::open(self::options("nobody", dir.path())).unwrap();
    drop(std::mem::replace(&mut it.server, Arc::new(nobody)));
    it.server = Arc::new(Postgres::open(options).unwrap());
}

#[tokio::test]
async fn names_survive_restarts_of_both_programs_until_the_users_come_back() {
    let dir = TestDir::new();
    let mut options = options("a1", dir.path());
    options.parameters.insert("synchronous_standby_names".to_owned(), "x1".to_owned());
    let parameters = Some([("synchronous_standby_names".to_owned(), "x2".to_owned())].into());
    options.overlays.insert(RoleClass::Primary, Overlay { parameters, ..Overlay::default() });
    let mut it = primary_with(options).await;
    let report = running(&it).await.sync;
    assert_eq!((report.names.as_str(), report.managed, report.user_names.as_str()), ("x2", false, "x2"));

    order(&it, SyncApply::Names(names(&["b1", "any"]))).await.unwrap();
    let text = "2 (\"any\",b1)";
    assert_eq!(shown(&it).await, text);
    let report = running(&it).await.sync;
    assert_eq!((report.names.as_str(), report.managed, report.user_names.as_str()), (text, true, "x2"));

    stop_fast(&it.server, &free()).await.unwrap();
    start_primary(&it.server, &free()).unwrap();
    assert_eq!(shown(&it).await, text, "from the first moment after a restart");

    reopen(&mut it, &dir);
    assert!(running(&it).await.sync.managed);
    let dynamic = r#"{"postgresql":{"parameters":{"work_mem":"7MB","synchronous_standby_names":"x3"}}}"#;
    apply_dynamic(&it.server, dynamic.to_owned()).await.unwrap();
    reload_config(&it.server).await.unwrap();
    assert_eq!(it.sql("SHOW work_mem").await.unwrap(), ["7MB"]);
    assert_eq!(shown(&it).await, text, "no other writer of the file brings another value");

    order(&it, SyncApply::Names(StandbyNames::none())).await.unwrap();
    assert_eq!(shown(&it).await, "");
    reopen(&mut it, &dir);
    let report = running(&it).await.sync;
    assert!(report.managed && report.names.is_empty(), "nobody, instead of the user's: {report:?}");

    order(&it, SyncApply::UserNames).await.unwrap();
    assert_eq!(shown(&it).await, "x2");
    reopen(&mut it, &dir);
    let report = running(&it).await.sync;
    assert_eq!((report.names.as_str(), report.managed), ("x2", false));
}

#[tokio::test]
async fn a_late_order_changes_nothing() {
    let dir = TestDir::new();
    let it = primary(&dir, "a1").await;
    let late = apply_sync(&it.server, &SyncApply::Names(names(&["b1"])), || false).await;
    assert_eq!(late, Err("the fence passed".to_owned()));
    let report = running(&it).await.sync;
    assert_eq!((report.names.as_str(), report.managed), ("", false));
}

#[tokio::test]
async fn a_value_set_by_alter_system_gives_way() {
    let dir = TestDir::new();
    let it = primary(&dir, "a1").await;
    it.sql("ALTER SYSTEM SET synchronous_standby_names = 'other'").await.unwrap();
    it.sql("SELECT pg_reload_conf()").await.unwrap();
    eventually(PATIENCE, "it is in force", async || (shown(&it).await == "other").then_some(())).await;
    let report = running(&it).await.sync;
    assert_eq!((report.names.as_str(), report.user_names.as_str()), ("other", ""));

    order(&it, SyncApply::Names(names(&["b1"]))).await.unwrap();
    assert_eq!(shown(&it).await, "b1");
    // Set once more, and read by nobody before the next start.
    it.sql("ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
    it.server.kill_all().unwrap();
    start_primary(&it.server, &free()).unwrap();
    assert_eq!(shown(&it).await, "b1");
    let auto_conf = std::fs::read_to_string(it.server.options().data_dir.join("postgresql.auto.conf")).unwrap();
    assert!(!auto_conf.contains("synchronous_standby_names"), "{auto_conf}");
}

#[tokio::test]
async fn with_the_placeholder_commits_wait_until_the_names_change_and_forced_wal_does_not() {
    let dir = TestDir::new();
    let it = primary(&dir, "a1").await;
    it.sql("CREATE TABLE t (n int)").await.unwrap();
    for kind in [SyncKind::First, SyncKind::Any] {
        order(&it, SyncApply::Names(StandbyNames::blocked(kind))).await.unwrap();
        let blocked = client(&it, "INSERT INTO t VALUES (1)");
        let waiting = commits_wait(&it, 1).await;
        assert!(waiting.iter().all(|(pid, since)| *pid > 0 && !since.is_empty()), "{waiting:?}");

        let before = running(&it).await.flushed;
        order(&it, SyncApply::ForceWal).await.unwrap();
        eventually(PATIENCE, "the WAL is flushed", async || (running(&it).await.flushed > before).then_some(())).await;
        assert_eq!(commits_wait(&it, 1).await, waiting, "the same commit still waits");
        assert!(!blocked.is_finished());

        order(&it, SyncApply::Names(StandbyNames::none())).await.unwrap();
        assert_eq!(blocked.await.unwrap(), Ok(Vec::new()));
        assert!(running(&it).await.sync.waiting.is_empty());
    }
}

/// Not by the WAL writer, which would take `wal_writer_delay`.
#[tokio::test]
async fn forced_wal_is_flushed_when_the_order_is_done() {
    let dir = TestDir::new();
    let mut options = options("a1", dir.path());
    options.parameters.insert("wal_writer_delay".to_owned(), "10s".to_owned());
    let it = primary_with(options).await;
    it.sql("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    it.sql("SELECT pg_reload_conf()").await.unwrap();
    let read_only =
        async || (it.sql("SHOW default_transaction_read_only").await == Ok(vec!["on".into()])).then_some(());
    eventually(PATIENCE, "a user's setting that must not matter", read_only).await;
    for _ in 0..3 {
        let before = running(&it).await.flushed;
        order(&it, SyncApply::ForceWal).await.unwrap();
        assert!(running(&it).await.flushed > before);
    }
}

/// The number may be changed before the names are, in either direction, and nobody is counted twice.
#[tokio::test]
async fn with_fewer_names_than_wanted_commits_wait_although_all_of_them_have_it() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, &a).await;
    a.sql("CREATE TABLE t (n int)").await.unwrap();
    for kind in [SyncKind::First, SyncKind::Any] {
        let list = |number| StandbyNames { kind, number, ..names(&["b1"]) };
        order(&a, SyncApply::Names(list(2))).await.unwrap();
        let blocked = client(&a, "INSERT INTO t VALUES (1)");
        let waiting = commits_wait(&a, 1).await;
        let position = running(&a).await.flushed;
        let has_it = async || (running(&b).await.replayed >= position).then_some(());
        eventually(PATIENCE, "the standby has the commit", has_it).await;
        let told = async || running(&a).await.walsenders.pop().filter(|sender| sender.replayed >= Some(position));
        eventually(PATIENCE, "the primary knows", told).await;
        assert_eq!(commits_wait(&a, 1).await, waiting, "the same commit still waits");
        assert!(!blocked.is_finished());

        order(&a, SyncApply::Names(list(1))).await.unwrap();
        assert_eq!(blocked.await.unwrap(), Ok(Vec::new()));
    }
}

#[tokio::test]
async fn a_look_shows_who_streams_and_how_far_and_forced_wal_reaches_him() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, &a).await;
    order(&a, SyncApply::Names(names(&["b1"]))).await.unwrap();
    a.sql("CREATE TABLE t AS SELECT 1 AS n").await.unwrap();

    let seen = running(&a).await;
    let [sender] = seen.walsenders.as_slice() else { panic!("one standby: {:?}", seen.walsenders) };
    let pids = a.sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'b1'").await.unwrap();
    assert_eq!(pids, [sender.pid.to_string()]);
    assert_eq!((sender.application_name.as_str(), sender.sync_state.as_str()), ("b1", "sync"));
    let slot = seen.slots.iter().find(|slot| slot.name == "b1").unwrap();
    assert_eq!(slot.active_pid, Some(sender.pid));
    assert!(sender.replied_ms_ago.is_some());
    assert_eq!((seen.sync.commit.as_str(), seen.sync.status_interval_ms), ("on", 10_000));

    let before = seen.flushed;
    order(&a, SyncApply::ForceWal).await.unwrap();
    let passed = eventually(PATIENCE, "the standby has it", async || {
        let sender = running(&a).await.walsenders.pop()?;
        (sender.flushed > Some(before) && sender.replayed > Some(before)).then_some(sender)
    })
    .await;
    assert!(passed.written >= passed.flushed);

    // Before a promotion a standby takes names, too.
    order(&b, SyncApply::Names(StandbyNames::blocked(SyncKind::Any))).await.unwrap();
    let standby = running(&b).await;
    assert!(standby.in_recovery && standby.sync.managed);
    assert!(StandbyNames::read(&standby.sync.names).is_blocked(), "{}", standby.sync.names);
    assert!(order(&b, SyncApply::ForceWal).await.is_err(), "a standby writes no WAL");
}

/// Whether commits wait at all is the checkpointer's to say, and connections show a value that it has not read.
#[tokio::test]
async fn names_are_in_force_only_when_the_checkpointer_has_read_them() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let mut options = options("b1", dir.path());
    let busy = dir.path().join("busy");
    std::fs::write(&busy, "").unwrap();
    // A standby's checkpointer runs it at the end of a restartpoint.
    let command = format!("while [ -e {} ]; do sleep 0.02; done", busy.display());
    options.recovery_conf = Some([("archive_cleanup_command".to_owned(), command)].into());
    let b = standby_with(options, &a).await;
    a.sql("CREATE TABLE t AS SELECT 1 AS n; CHECKPOINT").await.unwrap();
    let position = running(&a).await.flushed;
    let has_it = async || (running(&b).await.replayed >= position).then_some(());
    eventually(PATIENCE, "the standby has the checkpoint", has_it).await;
    let restartpoint = client(&b, "CHECKPOINT");
    let waits_for = "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let is_busy = async || (b.sql(waits_for).await == Ok(vec!["ArchiveCleanupCommand".to_owned()])).then_some(());
    eventually(PATIENCE, "the checkpointer is busy", is_busy).await;

    let server = b.server.clone();
    let change = tokio::spawn(async move { apply_sync(&server, &SyncApply::Names(names(&["c1"])), || true).await });
    eventually(PATIENCE, "connections show it", async || (shown(&b).await == "c1").then_some(())).await;
    assert_eq!(running(&b).await.sync.names, "", "not yet in force");
    std::fs::remove_file(&busy).unwrap();
    if let Err(e) = change.await.unwrap() {
        // only if the machine took longer to get here than the change may
        assert!(e.contains("in the middle of a checkpoint"), "{e}");
        assert_eq!(running(&b).await.sync.names, "", "still not in force");
        order(&b, SyncApply::Names(names(&["c1"]))).await.unwrap();
    }
    assert_eq!(running(&b).await.sync.names, "c1");
    restartpoint.await.unwrap().unwrap();
}

/// A backend that cannot end keeps the server from its shutdown checkpoint.
#[tokio::test]
async fn in_a_synchronous_mode_a_primary_that_does_not_stop_is_stopped_immediately() {
    let dir = TestDir::new();
    let mut options = options("a1", dir.path());
    options.ctl_timeout = NEVER;
    let it = primary_with(options).await;
    let dynamic = r#"{"synchronous_mode":true,"primary_stop_timeout":1}"#;
    apply_dynamic(&it.server, dynamic.to_owned()).await.unwrap();
    let _client = client(&it, "SELECT pg_sleep(3600)");
    let of_client = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    let pid = eventually(PATIENCE, "the client works", async || it.sql(of_client).await.ok()?.pop()).await;
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());

    let (server, (told, stopped)) = (it.server.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = told.send(runtime.block_on(stop_fast(&server, &free())));
    });
    let stopped = tokio::task::spawn_blocking(move || stopped.recv_timeout(PATIENCE)).await.unwrap();
    assert_eq!(stopped.expect("in time"), Ok(()));
}
