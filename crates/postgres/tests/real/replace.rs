//! Replacing data by a copy: the old data stay until the new ones are complete, whatever happens.

use crate::servers::{PATIENCE, free, primary, standby_with};
use pgherd_postgres::{
    OperationError, Outcome, PostgresOptions, clone_from, observe, staging_dir, start_replica, state_dir, stop_fast,
};
use pgherd_testkit::eventually::{eventually, eventually_blocking};
use pgherd_testkit::postgres::{TestDir, TestPostgres, options};
use pgherd_types::{Server, Upstream};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells this program to be the agent that is killed in the middle of a copy.
const REPLACER: &str = "TEST_REPLACER";

/// A stopped standby with a file that a new copy does not have.
async fn stopped_standby(options: PostgresOptions, of: &TestPostgres) -> TestPostgres {
    let it = standby_with(options, of).await;
    stop_fast(&it.server, &free()).await.unwrap();
    fs::write(it.server.options().data_dir.join("precious"), "old").unwrap();
    it
}

/// Names and contents of everything below a directory.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path if path.is_file() => drop(found.insert(path.display().to_string(), fs::read(&path).unwrap())),
                _ => {}
            }
        }
    }
    found
}

/// What is in the directory of a test beside the data and state directories of these servers.
fn leftovers(dir: &TestDir, names: &[&str]) -> Vec<String> {
    let known: Vec<String> = names.iter().flat_map(|n| [(*n).to_owned(), format!("{n}.pgherd")]).collect();
    let entries = fs::read_dir(dir.path()).unwrap().flatten();
    let all = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    all.filter(|name| !known.contains(name) && !name.starts_with(".s.PGSQL")).collect()
}

fn is_old(it: &TestPostgres) -> bool {
    it.server.options().data_dir.join("precious").exists()
}

async fn streams(it: &TestPostgres) {
    eventually(PATIENCE, "it streams", async || {
        observe(&it.server).await.state.running().filter(|r| r.streaming).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn the_new_copy_takes_the_place_of_the_old_data() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = stopped_standby(options("b1", dir.path()), &a).await;
    a.sql("CREATE TABLE later AS SELECT 1").await.unwrap();
    let refused = clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap_err().to_string();
    assert!(refused.contains("never overwritten") && is_old(&b), "{refused}");
    clone_from(&b.server, &a.upstream(), true, &free()).await.unwrap();
    assert!(!is_old(&b));
    assert_eq!(leftovers(&dir, &["a1", "b1"]), [""; 0]);
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    streams(&b).await;
    // Never under a running server.
    let refused = clone_from(&b.server, &a.upstream(), true, &free()).await.unwrap_err().to_string();
    assert!(refused.contains("running already"), "{refused}");
    streams(&b).await;
}

#[tokio::test]
async fn the_old_data_stay_as_they_are_when_the_source_cannot_be_copied() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let mut own = options("b1", dir.path());
    let b = stopped_standby(own.clone(), &a).await;
    let before = contents(&own.data_dir);
    let nobody = Upstream { port: pgherd_testkit::ports::lasting_port(), ..a.upstream() };
    let why = clone_from(&b.server, &nobody, true, &free()).await.unwrap_err().to_string();
    assert!(why.contains("pg_basebackup from a1"), "{why}");
    assert!(contents(&own.data_dir) == before, "the old data were changed");
    drop(b);

    // Too little room, and the credentials are wrong: nothing goes before they are proven.
    own.replication.password = Some("wrong".to_owned());
    own.free_bytes = |_| Ok(50 << 20);
    let b = TestPostgres::open(own.clone()).unwrap();
    let why = clone_from(&b.server, &a.upstream(), true, &free()).await.unwrap_err().to_string();
    assert!(why.contains("cannot be reached for replication") && why.contains("password"), "{why}");
    assert!(contents(&own.data_dir) == before, "the old data were changed");
    drop(b);

    // Too little room even without the old data.
    own.replication.password = a.server.options().replication.password.clone();
    own.free_bytes = |_| Ok(0);
    let b = TestPostgres::open(own.clone()).unwrap();
    let why = clone_from(&b.server, &a.upstream(), true, &free()).await.unwrap_err().to_string();
    assert!(why.contains("nothing was removed"), "{why}");
    assert!(contents(&own.data_dir) == before, "the old data were changed");
    assert_eq!(leftovers(&dir, &["a1", "b1"]), [""; 0]);
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    streams(&b).await;
}

/// How often the free space was asked for while the old data were still there, and since they are not.
static ASKED: AtomicU64 = AtomicU64::new(0);

#[tokio::test]
async fn without_room_for_two_the_old_data_go_first_once_the_source_is_proven() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let mut own = options("b1", dir.path());
    // So slow that the copy can be looked at.
    own.basebackup = vec![("max-rate".to_owned(), Some("4M".to_owned()))];
    own.free_bytes = |_| {
        ASKED.fetch_add(1, Ordering::SeqCst);
        Ok(50 << 20)
    };
    let b = stopped_standby(PostgresOptions { basebackup: Vec::new(), ..own.clone() }, &a).await;
    drop(b);
    let b = TestPostgres::open(own.clone()).unwrap();
    let control = Arc::new(free());
    let (server, upstream, held) = (b.server.clone(), a.upstream(), control.clone());
    let cloning = std::thread::spawn(move || block_on(clone_from(&server, &upstream, true, &held)));
    let progress = eventually_blocking(PATIENCE, "the copy gets on", || {
        b.server.progress().filter(|p| p.done_bytes > 0 && p.total_bytes.is_some())
    });
    assert!(progress.total_bytes.unwrap() > 20 << 20, "{progress:?}");
    assert!(!own.data_dir.exists(), "there is only room for one");
    assert_eq!(observe(&b.server).await.state.server, Server::Stopped);
    cloning.join().unwrap().unwrap();
    assert_eq!(b.server.progress(), None);
    assert!(ASKED.load(Ordering::SeqCst) >= 1 && !is_old(&b));
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    streams(&b).await;
}

fn block_on<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[tokio::test]
async fn a_cancelled_replacement_leaves_the_old_data() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let mut own = options("b1", dir.path());
    drop(stopped_standby(own.clone(), &a).await);
    own.basebackup = vec![("max-rate".to_owned(), Some("100k".to_owned()))];
    let b = TestPostgres::open(own.clone()).unwrap();
    let before = contents(&own.data_dir);
    let control = Arc::new(free());
    let (server, upstream, held) = (b.server.clone(), a.upstream(), control.clone());
    let cloning = std::thread::spawn(move || block_on(clone_from(&server, &upstream, true, &held)));
    eventually_blocking(PATIENCE, "the copy begins", || b.server.progress().filter(|p| p.done_bytes > 0));
    control.cancel();
    assert_eq!(cloning.join().unwrap(), Err(OperationError::Cancelled));
    assert!(contents(&own.data_dir) == before, "the old data were changed");
    assert_eq!(leftovers(&dir, &["a1", "b1"]), [""; 0]);
}

/// Not a test of its own: the agent that the next test kills.
#[tokio::test]
async fn replacer() {
    let Some(dir) = std::env::var_os(REPLACER) else { return };
    let mut own = options("b1", Path::new(&dir));
    own.basebackup = vec![("max-rate".to_owned(), Some("100k".to_owned()))];
    let port = std::env::var("TEST_REPLACER_PORT").unwrap().parse().unwrap();
    let from = Upstream { member: "a1".into(), host: "127.0.0.1".to_owned(), port };
    let b = TestPostgres::open(own).unwrap();
    let _ = clone_from(&b.server, &from, true, &free()).await;
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_leaves_data_that_can_be_started() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let own = options("b1", dir.path());
    drop(stopped_standby(own.clone(), &a).await);
    let before = contents(&own.data_dir);
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["replace::replacer", "--exact"])
        .env(REPLACER, dir.path())
        .env("TEST_REPLACER_PORT", a.server.options().listen_port.to_string())
        .spawn()
        .unwrap();
    let copy = staging_dir(&own.data_dir);
    eventually_blocking(PATIENCE, "the copy begins", || copy.join("base").exists().then_some(()));
    let marker = state_dir(&own.data_dir).join("operation");
    eventually_blocking(PATIENCE, "its program is noted", || {
        fs::read_to_string(&marker).ok().filter(|text| !text.contains("\"pid\":null"))
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    let b = TestPostgres::open(own.clone()).unwrap();
    assert!(!copy.exists() && !marker.exists());
    assert!(contents(&own.data_dir) == before, "the old data were changed");
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    streams(&b).await;
}

#[tokio::test]
async fn wal_and_tablespaces_elsewhere_are_replaced_with_the_data() {
    let dir = TestDir::new();
    let outside = |name: &str| dir.path().join(name);
    let text = |name: &str| outside(name).display().to_string();
    let a = primary(&dir, "a1").await;
    make_directory(&outside("space"));
    a.sql(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", text("space"))).await.unwrap();
    a.sql("CREATE TABLE there TABLESPACE elsewhere AS SELECT 1 AS n").await.unwrap();
    let mut own = options("b1", dir.path());
    own.basebackup = vec![
        ("waldir".to_owned(), Some(text("b_wal"))),
        ("tablespace-mapping".to_owned(), Some(format!("{}={}", text("space"), text("b_space")))),
    ];
    let b = stopped_standby(own.clone(), &a).await;
    fs::write(outside("b_wal").join("old"), "old").unwrap();
    fs::write(fs::read_dir(outside("b_space")).unwrap().next().unwrap().unwrap().path().join("old"), "old").unwrap();
    clone_from(&b.server, &a.upstream(), true, &free()).await.unwrap();
    assert!(!is_old(&b) && !contents(dir.path()).keys().any(|path| path.ends_with("/old")));
    assert_eq!(fs::read_link(own.data_dir.join("pg_wal")).unwrap(), outside("b_wal"));
    let mut left = leftovers(&dir, &["a1", "b1"]);
    left.sort();
    assert_eq!(left, ["b_space", "b_wal", "space"]);
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    streams(&b).await;
    assert_eq!(b.sql("SELECT n FROM there").await.unwrap(), ["1"]);
    let location = b.sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'elsewhere'").await;
    assert_eq!(location.unwrap(), [text("b_space")]);
}

fn make_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    if let Some((uid, gid)) = pgherd_testkit::postgres::run_as() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
}
