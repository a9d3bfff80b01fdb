//! What must hold when servers die: nothing of a data directory is left alive, nothing else is touched, the end of the
//! WAL is known, interrupted work is recognised, existing data is never removed.

use crate::servers::{PATIENCE, free, primary, standby};
use pgherd_postgres::{
    Alive, Killer, OperationControl, OperationError, PidFd, PostgresOptions, alive, clone_from, find_postmaster,
    find_wal_end, needs_wal_end, observe, promote, server_processes, staging_dir, start_primary, start_replica,
    state_dir, stop_fast, wal_end,
};
use pgherd_testkit::eventually::{eventually, eventually_blocking};
use pgherd_testkit::postgres::{TestDir, TestPostgres, options, sql};
use pgherd_types::postgres::ControlState;
use pgherd_types::{Instant, Lsn, PostgresState, Server, Timeline};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

const STARTER: &str = "TEST_STARTER_DIR";

async fn look(it: &TestPostgres) -> PostgresState {
    observe(&it.server).await.state
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Clients that insert rows as fast as they can, until dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    inserted: Arc<AtomicU64>,
}

impl Busy {
    async fn on(port: u16) -> Self {
        let busy = Self { stop: Arc::default(), inserted: Arc::default() };
        for _ in 0..4 {
            let (stop, inserted) = (busy.stop.clone(), busy.inserted.clone());
            std::thread::spawn(move || insert_rows(port, &stop, &inserted));
        }
        eventually(PATIENCE, "clients write", async || (busy.inserted.load(Ordering::SeqCst) > 20).then_some(())).await;
        busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Each statement is busy for a while, so that a backend does not notice at once that its postmaster is gone.
fn insert_rows(port: u16, stop: &AtomicBool, inserted: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let statement = "DO $$ BEGIN FOR i IN 1..20 LOOP INSERT INTO t VALUES (i); PERFORM sum(n) FROM generate_series(1, 20000) n; COMMIT; END LOOP; END $$";
    while !stop.load(Ordering::SeqCst) {
        if runtime.block_on(sql(port, statement)).is_ok() {
            inserted.fetch_add(20, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn kill_all_leaves_nothing_of_its_data_directory_and_touches_nothing_else() {
    let dir = TestDir::new();
    let (a, other) = (primary(&dir, "a1").await, primary(&dir, "other").await);
    a.sql("CREATE TABLE t (n int)").await.unwrap();
    let _busy = Busy::on(a.server.options().listen_port).await;
    let before = server_processes(&a.server.options().data_dir);
    assert!(before.len() > 6, "postmaster, its helpers and busy backends: {before:?}");
    let neighbours = server_processes(&other.server.options().data_dir).len();

    a.server.killer().kill_all(PATIENCE).unwrap();
    assert_eq!(alive(&a.server.options().data_dir), Alive::Nothing);
    assert!(before.iter().all(|pid| PidFd::open(*pid).map_or(true, |fd| fd.ended())), "{before:?}");
    assert_eq!(look(&a).await.server, Server::Stopped);
    assert_eq!(server_processes(&other.server.options().data_dir).len(), neighbours);
    assert!(other.sql("SELECT 1").await.is_ok());
}

/// A backend that computes notices the death of its postmaster only when it waits for something.
async fn long_query(it: &TestPostgres) -> JoinHandle<Result<Vec<String>, String>> {
    let port = it.server.options().listen_port;
    let long = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(sql(port, "SELECT count(*) FROM generate_series(1, 20000000000)"))
    });
    let running = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%20000000000%' AND pid <> pg_backend_pid()";
    eventually(PATIENCE, "the long query runs", async || it.sql(running).await.ok().filter(|r| !r.is_empty())).await;
    long
}

#[tokio::test]
async fn backends_that_outlive_their_postmaster_are_seen_and_killed() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let long = long_query(&a).await;
    signal(find_postmaster(&a.server.options().data_dir).unwrap().pid, Signal::KILL);
    eventually(PATIENCE, "orphans are seen", async || (look(&a).await.server == Server::Orphaned).then_some(())).await;
    assert!(look(&a).await.may_be_writable());
    a.server.killer().kill_all(PATIENCE).unwrap();
    assert_eq!(look(&a).await.server, Server::Stopped);
    assert!(long.join().unwrap().is_err());
    start_primary(&a.server, &free()).unwrap();
    assert!(a.sql("SELECT 1").await.is_ok());
}

#[tokio::test]
async fn a_start_ends_orphans_first() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let long = long_query(&a).await;
    signal(find_postmaster(&a.server.options().data_dir).unwrap().pid, Signal::KILL);
    eventually(PATIENCE, "the postmaster is gone", async || {
        find_postmaster(&a.server.options().data_dir).is_none().then_some(())
    })
    .await;
    start_primary(&a.server, &free()).unwrap();
    assert!(long.join().unwrap().is_err());
}

#[tokio::test]
async fn a_stopped_postmaster_is_unresponsive_and_can_still_be_killed() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    signal(find_postmaster(&a.server.options().data_dir).unwrap().pid, Signal::STOP);
    assert!(matches!(look(&a).await.server, Server::Unresponsive(_)));
    a.server.killer().kill_all(PATIENCE).unwrap();
    assert_eq!(look(&a).await.server, Server::Stopped);
}

#[tokio::test]
async fn an_immediate_stop_kills_what_does_not_obey() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let stopped = find_postmaster(&a.server.options().data_dir).unwrap().pid;
    signal(stopped, Signal::STOP);
    let control = Arc::new(free());
    let (server, held) = (a.server.clone(), control.clone());
    let stopping = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(stop_fast(&server, &held))
    });
    // Less and less polite: a stopped postmaster obeys nothing but the kill.
    control.hurry();
    assert_eq!(stopping.join().unwrap(), Ok(()));
    assert_eq!(alive(&a.server.options().data_dir), Alive::Nothing);
    assert!(PidFd::open(stopped).map_or(true, |fd| fd.ended()));
}

/// Not a test of its own: the process that the next test starts and that ends without stopping its server.
#[tokio::test]
async fn starter() {
    let Some(dir) = std::env::var_os(STARTER) else { return };
    let port = std::env::var("TEST_STARTER_PORT").unwrap().parse().unwrap();
    let it = TestPostgres::bootstrapped(with_port(options("a1", Path::new(&dir)), port)).await.unwrap();
    start_primary(&it.server, &free()).unwrap();
    std::process::exit(0);
}

fn with_port(mut options: PostgresOptions, port: u16) -> PostgresOptions {
    (options.listen_port, options.connect_port) = (port, port);
    options
}

#[tokio::test]
async fn the_server_outlives_its_starter_and_is_adopted() {
    let dir = TestDir::new();
    let options = options("a1", dir.path());
    let mut starter = Command::new(std::env::current_exe().unwrap());
    starter
        .args(["faults::starter", "--exact"])
        .env(STARTER, dir.path())
        .env("TEST_STARTER_PORT", options.listen_port.to_string());
    assert!(starter.status().unwrap().success());
    let adopted = TestPostgres::open(options).unwrap();
    let found = observe(&adopted.server).await;
    assert!(matches!(found.state.server, Server::Running(_)), "{:?}", found.state.server);
    let postmaster = found.postmaster.unwrap();
    let ended = pgherd_postgres::PidFd::of(postmaster.pid, postmaster.start_ticks).unwrap().exited();
    signal(postmaster.pid, Signal::QUIT);
    tokio::time::timeout(PATIENCE, ended).await.expect("in time").unwrap();
}

#[tokio::test]
async fn a_second_agent_is_refused() {
    let dir = TestDir::new();
    let _first = TestPostgres::open(options("a1", dir.path())).unwrap();
    let second = TestPostgres::open(options("a1", dir.path())).unwrap_err();
    assert!(second.to_string().contains("another agent"), "{second}");
}

/// The end of the WAL of a dead primary, as the monitor finds it.
async fn found_wal_end(it: &TestPostgres) -> Lsn {
    let state = look(it).await;
    assert!(needs_wal_end(&it.server, &state), "{state:?}");
    find_wal_end(&it.server, state.control().unwrap());
    let state = look(it).await;
    assert!(!needs_wal_end(&it.server, &state));
    state.control().unwrap().wal_end.expect("the end of the WAL")
}

#[tokio::test]
async fn the_wal_of_a_dead_primary_ends_where_its_standby_was_promoted_or_behind() {
    for (extra_rows, ahead) in [(false, false), (true, true)] {
        let dir = TestDir::new();
        let a = primary(&dir, "a1").await;
        let b = standby(&dir, "b1", &a).await;
        a.sql("CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 3000) n").await.unwrap();
        let flushed: Lsn = a.sql("SELECT pg_current_wal_flush_lsn()").await.unwrap()[0].parse().unwrap();
        let caught_up =
            async || look(&b).await.running().filter(|r| r.received >= flushed && r.replayed >= flushed).map(|_| ());
        eventually(PATIENCE, "everything is streamed", caught_up).await;
        if extra_rows {
            b.server.killer().kill_all(PATIENCE).unwrap();
            a.sql("INSERT INTO t SELECT n, repeat('y', 300) FROM generate_series(1, 100) n").await.unwrap();
            a.server.killer().kill_all(PATIENCE).unwrap();
            start_replica(&b.server, None, &free()).unwrap();
            eventually(PATIENCE, "the standby is back", async || look(&b).await.running().cloned()).await;
        } else {
            // Both at once: the standby's receiver has everything that the primary flushed.
            let last: Lsn = a.sql("SELECT pg_current_wal_flush_lsn()").await.unwrap()[0].parse().unwrap();
            eventually(PATIENCE, "all", async || look(&b).await.running().filter(|r| r.received >= last).map(|_| ()))
                .await;
            a.server.killer().kill_all(PATIENCE).unwrap();
        }
        promote(&b.server, Timeline(2), &free()).await.unwrap();
        let switched = look(&b).await.running().unwrap().history[0].switch_lsn;
        let end = found_wal_end(&a).await;
        assert_eq!(end > switched, ahead, "end {end}, promoted at {switched}");
        if !extra_rows {
            assert!(end <= switched && switched.ahead_of(end) == 0, "end {end}, promoted at {switched}");
        }
    }
}

/// PostgreSQL makes WAL files in advance; they are empty until they are written to, and may be the first in the directory.
#[tokio::test]
async fn wal_files_that_were_made_in_advance_do_not_hide_the_end() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    a.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n").await.unwrap();
    let written: Lsn = a.sql("SELECT pg_current_wal_flush_lsn()").await.unwrap()[0].parse().unwrap();
    a.server.killer().kill_all(PATIENCE).unwrap();
    for number in 0x80..0xFF {
        let file = a.server.options().data_dir.join(format!("pg_wal/0000000100000000000000{number:02X}"));
        std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    }
    let end = found_wal_end(&a).await;
    assert!(end >= written, "end {end}, written up to {written}");
}

/// A node may die when it has just been promoted: the checkpoint on its new timeline comes later.
#[tokio::test]
async fn the_wal_of_a_primary_that_died_right_after_its_promotion_ends_on_the_new_timeline() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, "b1", &a).await;
    a.sql("CREATE TABLE t (n int)").await.unwrap();
    let flushed: Lsn = a.sql("SELECT pg_current_wal_flush_lsn()").await.unwrap()[0].parse().unwrap();
    eventually(PATIENCE, "all", async || look(&b).await.running().filter(|r| r.replayed >= flushed).map(|_| ())).await;
    a.server.killer().kill_all(PATIENCE).unwrap();
    let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let pid: i32 = b.sql(checkpointer).await.unwrap()[0].parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    b.sql("SELECT pg_promote()").await.unwrap();
    b.sql("INSERT INTO t SELECT generate_series(1, 1000)").await.unwrap();
    let written: Lsn = b.sql("SELECT pg_current_wal_flush_lsn()").await.unwrap()[0].parse().unwrap();
    b.server.killer().kill_all(PATIENCE).unwrap();

    let control = look(&b).await.control().unwrap().clone();
    assert_eq!((control.checkpoint_timeline, control.wal_timeline()), (Timeline(1), Timeline(2)));
    let end = end_is_found_by_recovery(&b).await;
    assert!(end >= written, "end {end}, written up to {written}");
}

#[tokio::test]
async fn the_wal_end_is_where_crash_recovery_ends() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    a.sql("CREATE TABLE t (n int)").await.unwrap();
    {
        let _busy = Busy::on(a.server.options().listen_port).await;
        a.server.killer().kill_all(PATIENCE).unwrap();
    }
    // What cannot be read is said, and is no end.
    let control = look(&a).await.control().unwrap().clone();
    let wal = a.server.options().data_dir.join("pg_wal");
    let aside = dir.path().join("wal-aside");
    std::fs::rename(&wal, &aside).unwrap();
    let why = wal_end(a.server.options(), &control).unwrap_err();
    assert!(why.contains("pg_waldump"), "{why}");
    std::fs::rename(&aside, &wal).unwrap();
    end_is_found_by_recovery(&a).await;
    // The last record switched to a segment that does not exist yet.
    a.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()").await.unwrap();
    a.server.killer().kill_all(PATIENCE).unwrap();
    end_is_found_by_recovery(&a).await;
    stop_fast(&a.server, &free()).await.unwrap();
    end_is_found_by_recovery(&a).await;
}

/// The checkpoint that the next start writes begins where the WAL ended, a page header apart at most.
async fn end_is_found_by_recovery(it: &TestPostgres) -> Lsn {
    let end = found_wal_end(it).await;
    let before = look(it).await.control().unwrap().clone();
    start_primary(&it.server, &free()).unwrap();
    if before.state == ControlState::ShutDown {
        it.sql("CHECKPOINT").await.unwrap();
    }
    let first = eventually(PATIENCE, "a new checkpoint", async || {
        let now = look(it).await.control().unwrap().checkpoint_lsn;
        (now > before.checkpoint_lsn).then_some(now)
    })
    .await;
    let apart = if before.state == ControlState::ShutDown { 200 } else { 40 };
    assert!(first >= end && first.ahead_of(end) <= apart, "end {end}, next record at {first}");
    end
}

#[tokio::test]
async fn an_interrupted_clone_is_recognised_cleared_up_and_repeated() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let options = options("b1", dir.path());
    let b = TestPostgres::open(options.clone()).unwrap();
    let control = Arc::new(free());
    // A copy that never gets on: the source's postmaster is stopped.
    let postmaster = find_postmaster(&a.server.options().data_dir).unwrap().pid;
    signal(postmaster, Signal::STOP);
    let (upstream, held, server) = (a.upstream(), control.clone(), b.server.clone());
    let cloning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(clone_from(&server, &upstream, false, &held))
    });
    let marker = state_dir(&options.data_dir).join("operation");
    let noted = || std::fs::read_to_string(&marker).ok().filter(|t| !t.contains("\"pid\":null"));
    let text = eventually_blocking(PATIENCE, "the marker names the process", noted);
    control.cancel();
    assert_eq!(cloning.join().unwrap(), Err(OperationError::Cancelled));
    assert!(!marker.exists() && !staging_dir(&options.data_dir).exists());
    signal(postmaster, Signal::CONT);
    drop(b);

    // As an agent finds it that was killed in the middle: a marker, a living process, half a copy.
    let mut leftover = Command::new("sleep").arg("1000").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", leftover.id())).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    assert!(text.contains("\"operation\":\"clone\""), "{text}");
    std::fs::write(&marker, format!(r#"{{"operation":"clone","pid":{},"start_ticks":{ticks}}}"#, leftover.id()))
        .unwrap();
    std::fs::create_dir(staging_dir(&options.data_dir)).unwrap();
    std::fs::write(staging_dir(&options.data_dir).join("PG_VERSION"), "15\n").unwrap();

    let b = TestPostgres::open(options.clone()).unwrap();
    assert!(!leftover.wait().unwrap().success(), "the process of the interrupted clone was ended");
    assert!(!marker.exists() && !staging_dir(&options.data_dir).exists());
    clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    eventually(PATIENCE, "the clone runs", async || look(&b).await.running().cloned()).await;
}

#[tokio::test]
async fn existing_data_is_never_removed() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = TestPostgres::open(options("b1", dir.path())).unwrap();
    let precious = b.server.options().data_dir.join("precious");
    std::fs::create_dir(&b.server.options().data_dir).unwrap();
    std::fs::write(&precious, "data").unwrap();
    let cloned = clone_from(&b.server, &a.upstream(), false, &free()).await;
    let made = pgherd_postgres::bootstrap(&b.server, &free()).await;
    for result in [cloned, made] {
        assert!(result.unwrap_err().to_string().contains("never overwritten"));
    }
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
    let again = pgherd_postgres::bootstrap(&a.server, &free()).await;
    assert!(again.is_err() && a.sql("SELECT 1").await.is_ok());
}

#[tokio::test]
async fn nothing_becomes_writable_after_its_fence() {
    let dir = TestDir::new();
    let past = || OperationControl::new(Some(Instant::from_millis(1)));
    let a = TestPostgres::bootstrapped(options("a1", dir.path())).await.unwrap();
    assert_eq!(start_primary(&a.server, &past()), Err(OperationError::TooLate));
    assert_eq!(alive(&a.server.options().data_dir), Alive::Nothing);
    start_primary(&a.server, &free()).unwrap();
    let b = standby(&dir, "b1", &a).await;
    eventually(PATIENCE, "the standby runs", async || look(&b).await.running().cloned()).await;
    assert_eq!(promote(&b.server, Timeline(7), &past()).await, Err(OperationError::TooLate));
    assert!(look(&b).await.running().unwrap().in_recovery);
    // The numbers that were skipped in vain do not keep it from starting again as a standby.
    Killer::new(&b.server.options().data_dir).kill_all(PATIENCE).unwrap();
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    eventually(PATIENCE, "it streams again", async || look(&b).await.running().filter(|r| r.streaming).map(|_| ()))
        .await;
    assert!(wal_end(b.server.options(), look(&b).await.control().unwrap()).is_ok());
}
