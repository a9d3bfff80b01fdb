//! Replicas made by programs of the user's: what they are told, and what becomes of them when they fail, hang or are
//! interrupted.

use crate::servers::{PATIENCE, free, primary, script};
use pgherd_postgres::{
    OperationError, PostgresOptions, ReplicaMethod, clone_by_basebackup, clone_from, observe, restore, start_replica,
    state_dir, stop_fast,
};
use pgherd_testkit::eventually::{eventually, eventually_blocking};
use pgherd_testkit::postgres::{PASSWORD, TestDir, TestPostgres, options};
use pgherd_types::DataDirectory;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Tells this program to be the agent that is killed while a program works.
const MAKER: &str = "TEST_MAKER";

/// The section of a method.
fn method(name: &str, section: serde_json::Value) -> ReplicaMethod {
    ReplicaMethod::from_section(name, section.as_object().unwrap()).unwrap()
}

fn with(mut options: PostgresOptions, methods: Vec<ReplicaMethod>, more: &[&str]) -> PostgresOptions {
    options.create_replica_methods = methods.iter().map(|m| m.name.clone()).collect();
    options.create_replica_methods.extend(more.iter().map(|name| (*name).to_owned()));
    options.replica_methods = methods;
    options
}

/// The body of a program that copies the source as pg_basebackup does.
fn copies(options: &PostgresOptions) -> String {
    let program = options.program("pg_basebackup");
    format!("exec {} -D \"$datadir\" -X stream --checkpoint=fast --no-password -d \"$conn\"", program.display())
}

async fn streams(it: &TestPostgres, of: &TestPostgres) {
    let name = it.server.options().name.clone();
    let _ = of.sql(&format!("SELECT pg_create_physical_replication_slot('{name}')")).await;
    start_replica(&it.server, Some(&of.upstream()), &free()).unwrap();
    eventually(PATIENCE, "it streams", async || {
        observe(&it.server).await.state.running().filter(|r| r.streaming).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_program_is_told_everything_and_the_next_method_is_tried_when_it_fails() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let own = options("b1", dir.path());
    let note = "echo \"$@\" > $dir/told; env > $dir/env; cat \"$PGPASSFILE\" > $dir/pass; mkdir \"$datadir\"; touch \"$datadir/half\"; echo no tape in drive >&2; exit 3";
    let tape = method(
        "tape",
        serde_json::json!({"command": script(dir.path(), "tape", note) + " --first 'two words'", "stanza": "main"}),
    );
    let works =
        method("copy", serde_json::json!({"command": script(dir.path(), "copy", &copies(&own)), "no_leader": false}));
    let b = TestPostgres::open(with(own.clone(), vec![tape.clone(), works], &["basebackup"])).unwrap();
    clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();

    let told = fs::read_to_string(dir.path().join("told")).unwrap();
    let port = a.server.options().listen_port;
    let known = format!(
        "--first two words --stanza=main --scope=test --role=replica --datadir={} --connstring=dbname=postgres user=replicator host=127.0.0.1 port={port}",
        own.data_dir.display()
    );
    assert!(told.starts_with(&known), "{told}");
    assert!(
        fs::read_to_string(dir.path().join("pass")).unwrap().contains(":replicator:"),
        "a password file of its own"
    );
    let secret = &PASSWORD[..6];
    let environment = fs::read_to_string(dir.path().join("env")).unwrap();
    assert!(!told.contains(secret) && !environment.contains(secret), "a secret was passed on openly");
    let log = fs::read_to_string(state_dir(&own.data_dir).join("replica_method.tape.log")).unwrap();
    assert_eq!(log, "no tape in drive\n");
    assert!(!state_dir(&own.data_dir).join("pgpass.tape").exists());
    assert!(!own.data_dir.join("half").exists(), "what a failed program left is gone");
    streams(&b, &a).await;
    stop_fast(&b.server, &free()).await.unwrap();
    drop(b);

    // All of them fail: each is named with what it said, and nothing is left.
    fs::remove_dir_all(&own.data_dir).unwrap();
    let silent = method("silent", serde_json::json!({"command": "true", "no_params": true}));
    let missing = method("missing", serde_json::json!({"command": "/no/such/program"}));
    let b = TestPostgres::open(with(own.clone(), vec![tape, silent, missing], &[])).unwrap();
    let why = clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap_err().to_string();
    for part in ["replica method tape failed", "no tape in drive", "silent ended well, but", "/no/such/program"] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    assert_eq!(observe(&b.server).await.state.data, DataDirectory::Empty);
    assert!(restore(&b.server, &free()).await.unwrap_err().to_string().contains("no_leader"));
    // What was asked for by name.
    clone_by_basebackup(&b.server, &a.upstream(), false, &free()).await.unwrap();
    streams(&b, &a).await;
}

#[tokio::test]
async fn a_program_that_hangs_is_given_up_with_all_it_started() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let body = "mkdir \"$datadir\"; (sleep 1000 & echo $! > $dir/pid.new; mv $dir/pid.new $dir/pid; wait); sleep 1000";
    let hangs = method("hangs", serde_json::json!({"command": script(dir.path(), "hangs", body)}));
    let b = TestPostgres::open(with(options("b1", dir.path()), vec![hangs], &["basebackup"])).unwrap();
    let control = Arc::new(free());
    let (server, upstream, held) = (b.server.clone(), a.upstream(), control.clone());
    let cloning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(clone_from(&server, &upstream, false, &held))
    });
    let pid = eventually_blocking(PATIENCE, "it works", || fs::read_to_string(dir.path().join("pid")).ok());
    // While it works, there are no data, and nothing could be started.
    assert_eq!(observe(&b.server).await.state.data, DataDirectory::Empty);
    control.cancel();
    assert_eq!(cloning.join().unwrap(), Err(OperationError::Cancelled));
    let process = format!("/proc/{}/cwd", pid.trim());
    eventually_blocking(PATIENCE, "its child is gone", || fs::read_link(&process).is_err().then_some(()));
    assert!(!b.server.options().data_dir.exists());
}

#[tokio::test]
async fn without_a_source_only_a_program_that_needs_none_is_run() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let backup = format!(
        "{} -D {}/backup -X fetch --checkpoint=fast",
        a.server.options().program("pg_basebackup").display(),
        dir.path().display()
    );
    run_as_server(&backup, a.server.options().listen_port);
    let body = "echo \"$@\" > $dir/told; cp -a $dir/backup \"$datadir\"";
    let needs = method("needs", serde_json::json!({"command": "false"}));
    let archive =
        method("archive", serde_json::json!({"command": script(dir.path(), "archive", body), "no_leader": true}));
    let b = TestPostgres::open(with(options("b1", dir.path()), vec![needs, archive], &["basebackup"])).unwrap();
    restore(&b.server, &free()).await.unwrap();
    let told = fs::read_to_string(dir.path().join("told")).unwrap();
    assert!(told.starts_with("--no_leader=True --scope=test") && told.ends_with("--connstring=\n"), "{told}");
    assert!(observe(&b.server).await.state.control().unwrap().standby_signal);
    streams(&b, &a).await;
}

/// Runs a command as the servers' user, who may connect as superuser.
fn run_as_server(command: &str, port: u16) {
    use std::os::unix::process::CommandExt;
    let mut it = Command::new("sh");
    it.args(["-c", command]).env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).current_dir("/");
    it.env("PGUSER", "postgres").env("PGPASSWORD", PASSWORD);
    if let Some((uid, gid)) = pgherd_testkit::postgres::run_as() {
        it.uid(uid).gid(gid);
    }
    assert!(it.status().unwrap().success(), "{command}");
}

#[tokio::test]
async fn old_data_come_back_when_a_program_fails_and_go_when_it_does_not() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let own = options("b1", dir.path());
    let b = TestPostgres::open(own.clone()).unwrap();
    clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
    fs::write(own.data_dir.join("precious"), "old").unwrap();
    drop(b);
    let fails = method(
        "fails",
        serde_json::json!({"command": script(dir.path(), "fails", "test ! -e \"$datadir\" && mkdir \"$datadir\"; exit 1")}),
    );
    let b = TestPostgres::open(with(own.clone(), vec![fails.clone()], &[])).unwrap();
    assert!(clone_from(&b.server, &a.upstream(), true, &free()).await.is_err());
    assert_eq!(fs::read_to_string(own.data_dir.join("precious")).unwrap(), "old");
    streams(&b, &a).await;
    stop_fast(&b.server, &free()).await.unwrap();
    drop(b);
    let works = method("copy", serde_json::json!({"command": script(dir.path(), "copy", &copies(&own))}));
    let b = TestPostgres::open(with(own.clone(), vec![fails, works], &[])).unwrap();
    clone_from(&b.server, &a.upstream(), true, &free()).await.unwrap();
    assert!(!own.data_dir.join("precious").exists());
    let aside = fs::read_dir(dir.path()).unwrap().flatten().find(|e| e.file_name().to_string_lossy().contains(".old."));
    assert!(aside.is_none(), "{aside:?}");
    streams(&b, &a).await;
}

#[tokio::test]
async fn what_a_program_with_keep_data_left_is_built_upon_and_never_started() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let own = options("b1", dir.path());
    let body = format!(
        "if [ -e \"$datadir/part\" ]; then rm -r \"$datadir\"; {}; fi; mkdir -p \"$datadir/global\"; echo 15 > \"$datadir/PG_VERSION\"; touch \"$datadir/part\"; exit 1",
        copies(&own)
    );
    let delta = method("delta", serde_json::json!({"command": script(dir.path(), "delta", &body), "keep_data": true}));
    let open = || TestPostgres::open(with(own.clone(), vec![delta.clone()], &[])).unwrap();
    let b = open();
    assert!(clone_from(&b.server, &a.upstream(), false, &free()).await.is_err());
    assert!(own.data_dir.join("part").exists());
    assert_eq!(observe(&b.server).await.state.data, DataDirectory::Empty);
    drop(b);
    // Also for the next life of the agent.
    let b = open();
    assert_eq!(observe(&b.server).await.state.data, DataDirectory::Empty);
    clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
    assert!(matches!(observe(&b.server).await.state.data, DataDirectory::Present(_)));
    streams(&b, &a).await;
}

/// Not a test of its own: the agent that the next test kills.
#[tokio::test]
async fn maker() {
    let Some(dir) = std::env::var_os(MAKER) else { return };
    let dir = Path::new(&dir);
    let hangs = method("hangs", serde_json::json!({"command": dir.join("hangs").display().to_string()}));
    let b = TestPostgres::open(with(options("b1", dir), vec![hangs], &[])).unwrap();
    let from = pgherd_types::Upstream { member: "a1".into(), host: "127.0.0.1".to_owned(), port: 1 };
    let _ = clone_from(&b.server, &from, true, &free()).await;
}

#[tokio::test]
async fn an_agent_killed_while_a_program_works_leaves_the_old_data_or_none() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let own = options("b1", dir.path());
    script(
        dir.path(),
        "hangs",
        "mkdir \"$datadir\"; echo 15 > \"$datadir/PG_VERSION\"; echo $$ > $dir/pid.new; mv $dir/pid.new $dir/pid; sleep 1000",
    );
    for with_data in [false, true] {
        if with_data {
            let b = TestPostgres::open(own.clone()).unwrap();
            clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
        }
        let _ = fs::remove_file(dir.path().join("pid"));
        let mut agent = Command::new(std::env::current_exe().unwrap())
            .args(["methods::maker", "--exact"])
            .env(MAKER, dir.path())
            .spawn()
            .unwrap();
        let pid = eventually_blocking(PATIENCE, "it works", || fs::read_to_string(dir.path().join("pid")).ok());
        let marker = state_dir(&own.data_dir).join("operation");
        let noted = || fs::read_to_string(&marker).ok().filter(|text| text.contains(pid.trim()));
        eventually_blocking(PATIENCE, "it is noted", noted);
        agent.kill().unwrap();
        agent.wait().unwrap();
        let b = TestPostgres::open(own.clone()).unwrap();
        let process = format!("/proc/{}/cwd", pid.trim());
        eventually_blocking(PATIENCE, "the program is gone", || fs::read_link(&process).is_err().then_some(()));
        match observe(&b.server).await.state.data {
            DataDirectory::Empty => assert!(!with_data && !own.data_dir.exists()),
            DataDirectory::Present(_) => {
                assert!(with_data);
                streams(&b, &a).await;
            }
            DataDirectory::Unusable(why) => panic!("{why}"),
        }
    }
}

/// What was logged by all tests of this program.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

#[tokio::test]
async fn a_backup_that_is_older_than_what_the_slot_keeps_is_told_of() {
    log::set_logger(&Recorder).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    for (name, with_slot) in [("gap1", false), ("gap2", true)] {
        if with_slot {
            a.sql(&format!("SELECT pg_create_physical_replication_slot('{name}', true)")).await.unwrap();
        }
        let own = options(name, dir.path());
        let copy = method("copy", serde_json::json!({"command": script(dir.path(), "copy", &copies(&own))}));
        let b = TestPostgres::open(with(own, vec![copy], &[])).unwrap();
        clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
        let told = format!("the slot {name} on a1 does not keep WAL");
        assert_eq!(LOGGED.lock().unwrap().iter().any(|line| line.contains(&told)), !with_slot, "{name}");
    }
}
