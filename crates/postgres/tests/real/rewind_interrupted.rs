//! pg_rewind that does not come to its end: the data are either proven to be as they were, or not started any more.

use crate::scene::{self, End, Scene, upstream_at};
use crate::servers::{PATIENCE, free};
use pgherd_postgres::{
    OperationControl, OperationError, PidFd, Postgres, PostgresOptions, clone_from, observe, rewind, state_dir,
};
use pgherd_testkit::eventually::{eventually, eventually_blocking};
use pgherd_testkit::postgres::TestPostgres;
use pgherd_types::postgres::ControlState;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const AGENT: &str = "TEST_REWINDING_AGENT";
/// What pg_rewind is doing when it is interrupted: a file that it always copies, and no server starts without.
const DAMAGE: &str = ": > \"$data/global/pg_filenode.map\"; ";
const HANG: &str = "sleep 1000";

#[tokio::test]
async fn a_pg_rewind_that_fails_before_it_changes_anything_leaves_the_data_as_they_were() {
    let nonsense = [("nonsense".to_owned(), None)].to_vec();
    let scene = Scene::new(End::InOrder, |options| options.rewind_options = nonsense.clone()).await;
    let failed = scene.rewind().unwrap_err().to_string();
    assert!(failed.contains("unrecognized option") && failed.contains("b1 (127.0.0.1:"), "{failed}");
    scene.is_as_it_was(ControlState::ShutDown).await;
}

#[tokio::test]
async fn a_pg_rewind_that_fails_in_the_middle_is_repeated() {
    let scene = Scene::new(End::Killed, |_| ()).await;
    scene.before_pg_rewind(&format!("{DAMAGE} echo 'pg_rewind: fatal: out of luck' >&2; exit 1"));
    let failed = scene.rewind().unwrap_err().to_string();
    assert!(failed.contains("out of luck") && failed.contains("neither the old data nor the new"), "{failed}");
    scene.is_refused().await;
    // Failing again before it does anything does not make the data good.
    scene.before_pg_rewind("exit 1");
    assert!(scene.rewind().unwrap_err().to_string().contains("neither the old data nor the new"));
    scene.is_refused().await;
    scene.before_every_pg_rewind("");
    scene.rewind().unwrap();
    scene.is_a_standby_of_the_leader().await;
}

/// Waits until pg_rewind hangs; its process.
fn hanging(state_dir: &Path) -> PidFd {
    let noted = || -> Option<i32> {
        let marker: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(state_dir.join("rewind")).ok()?).ok()?;
        marker["before"].as_str()?;
        let pid = i32::try_from(marker["pid"].as_i64()?).ok()?;
        fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?.contains("pg_rewind").then_some(pid)
    };
    let pid = eventually_blocking(PATIENCE, "the marker names pg_rewind", noted);
    let sleeps = || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        (!children.trim().is_empty()).then_some(())
    };
    eventually_blocking(PATIENCE, "it hangs", sleeps);
    PidFd::open(pid).unwrap()
}

#[tokio::test]
async fn a_cancelled_rewind_is_repeated_unless_nothing_was_changed() {
    let scene = Scene::new(End::InOrder, |_| ()).await;
    for (script, changed) in [(HANG.to_owned(), false), (format!("{DAMAGE}{HANG}"), true)] {
        scene.before_pg_rewind(&script);
        let control = Arc::new(free());
        let rewinding = scene.rewinding(&control);
        let process = hanging(&scene.state(""));
        control.cancel();
        assert_eq!(rewinding.join().unwrap(), Err(OperationError::Cancelled));
        assert!(process.ended());
        match changed {
            false => scene.is_as_it_was(ControlState::ShutDown).await,
            true => scene.is_refused().await,
        }
    }
    scene.before_every_pg_rewind("");
    scene.rewind().unwrap();
    scene.is_a_standby_of_the_leader().await;
}

/// Not a test of its own: the agent of the next test.
#[tokio::test]
async fn agent() {
    let Some(directory) = std::env::var_os(AGENT) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse().unwrap();
    let directory = Path::new(&directory);
    let mut options = pgherd_testkit::postgres::options("a1", directory);
    options.bin_dir = Some(directory.join("bin"));
    (options.listen_port, options.connect_port) = (number("TEST_PORT"), number("TEST_PORT"));
    let open = || Postgres::open(options.clone()).ok();
    let server = eventually_blocking(PATIENCE, "the lock is free", open);
    let ended = rewind(&server, &upstream_at(number("TEST_SOURCE_PORT")), &OperationControl::new(None));
    panic!("it should have hung: {ended:?}");
}

/// A process that another test is starting just now may hold the lock for a moment.
fn reopened(options: &PostgresOptions) -> TestPostgres {
    eventually_blocking(PATIENCE, "the lock is free", || TestPostgres::open(options.clone()).ok())
}

/// An agent that dies while pg_rewind works; what the next one finds.
async fn after_the_death_of_the_agent(script: &str) -> Scene {
    let Scene { a, b, dir } = Scene::new(End::Killed, |_| ()).await;
    let options = a.server.options().clone();
    drop(a);
    scene::set_script(dir.path(), &format!("[ \"$dry\" ] || {{ {script}\n}}"));
    let mut agent = Command::new(std::env::current_exe().unwrap());
    agent.args(["rewind_interrupted::agent", "--exact"]).env(AGENT, dir.path());
    agent.env("TEST_PORT", options.listen_port.to_string());
    agent.env("TEST_SOURCE_PORT", b.server.options().listen_port.to_string());
    let mut agent = agent.spawn().unwrap();
    let process = hanging(&state_dir(&options.data_dir));
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(!process.ended());
    let a = reopened(&options);
    assert!(process.wait(PATIENCE), "the process of the interrupted rewind was ended");
    Scene { a, b, dir }
}

#[tokio::test]
async fn a_rewind_whose_agent_died_is_known_to_the_next_agent() {
    let scene = after_the_death_of_the_agent(&format!("{DAMAGE}{HANG}")).await;
    scene.is_refused().await;
    scene.before_every_pg_rewind("");
    scene.rewind().unwrap();
    scene.is_a_standby_of_the_leader().await;
}

#[tokio::test]
async fn a_rewind_whose_agent_died_before_anything_was_changed_is_forgotten() {
    let scene = after_the_death_of_the_agent(HANG).await;
    scene.is_as_it_was(ControlState::ShutDown).await;
}

/// Leaves damaged data behind.
async fn damaged() -> Scene {
    let scene = Scene::new(End::InOrder, |_| ()).await;
    scene.before_pg_rewind(&format!("{DAMAGE} exit 1"));
    scene.rewind().unwrap_err();
    scene.is_refused().await;
    scene.before_every_pg_rewind("");
    scene
}

#[tokio::test]
async fn new_data_end_the_interruption() {
    let scene = damaged().await;
    fs::remove_dir_all(&scene.a.server.options().data_dir).unwrap();
    clone_from(&scene.a.server, &scene.b.upstream(), false, &free()).await.unwrap();
    scene.is_a_standby_of_the_leader().await;
}

#[tokio::test]
async fn a_crash_while_new_data_take_their_place_is_understood() {
    let scene = damaged().await;
    let Scene { a, b, dir } = scene;
    let options = a.server.options().clone();
    drop(a);
    let again = reopened(&options);
    assert!(observe(&again.server).await.state.control().unwrap().rewind_interrupted);
    drop(again);
    // All directories have been exchanged, and nothing after that was done.
    let part = serde_json::json!({ "place": options.data_dir, "fresh": dir.path().join("new"), "aside": dir.path().join("old") });
    let record = serde_json::json!({ "parts": [part], "links": [] });
    fs::write(state_dir(&options.data_dir).join("exchange"), record.to_string()).unwrap();
    let again = reopened(&options);
    assert!(!observe(&again.server).await.state.control().unwrap().rewind_interrupted);
    drop(b);
}

#[tokio::test]
async fn after_a_crash_of_the_machine_or_with_another_leader_it_is_not_repeated() {
    let scene = damaged().await;
    let marker = fs::read_to_string(scene.state("rewind")).unwrap();
    for (other, why) in [
        (marker.replace("\"timeline\":2", "\"timeline\":5"), "there is another leader (timeline 2)"),
        (marker.replace("\"boot_id\":\"", "\"boot_id\":\"another"), "the machine went down"),
        ("not readable".to_owned(), "the machine went down"),
    ] {
        assert_ne!(other, marker);
        fs::write(scene.state("rewind"), other).unwrap();
        let refused = scene.rewind().unwrap_err().to_string();
        assert!(refused.contains(why) && refused.contains("make the data anew"), "{refused}");
        scene.is_refused().await;
    }
}

#[tokio::test]
async fn a_rewind_that_was_complete_but_for_the_last_steps_is_completed() {
    let scene = Scene::new(End::InOrder, |_| ()).await;
    let real = pgherd_testkit::postgres::options("x", scene.dir.path()).bin_dir.unwrap();
    // Everything is done, but its end is not heard of.
    scene.before_pg_rewind(&format!("{}/pg_rewind \"$@\"; exit 1", real.display()));
    scene.rewind().unwrap_err();
    scene.is_refused().await;
    assert_eq!(scene.control().await.state, ControlState::InArchiveRecovery);
    scene.before_pg_rewind("exit 1");
    scene.rewind().unwrap();
    scene.is_a_standby_of_the_leader().await;
}

/// A file of the leader that cannot be read to its end: pg_rewind copies it after others.
struct Stalled(PathBuf);

impl Stalled {
    fn on(leader: &TestPostgres, name: &str) -> Self {
        let path = leader.server.options().data_dir.join(name);
        assert!(Command::new("mkfifo").arg("--mode=666").arg(&path).status().unwrap().success());
        Self(path)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // Who waits for it goes on.
        let _ = fs::OpenOptions::new().write(true).custom_flags(0o4000).open(&self.0);
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_real_pg_rewind_that_is_cancelled_in_the_middle_is_repeated() {
    let scene = Scene::new(End::Killed, |_| ()).await;
    let stalled = Stalled::on(&scene.b, "global/zz");
    let control = Arc::new(free());
    let rewinding = scene.rewinding(&control);
    // The rehearsal's session waits for that file, too, and then the second.
    let copies = "SELECT 1 FROM pg_stat_activity WHERE usename = 'rewinder' AND state = 'active'
            AND query LIKE '%pg_read_binary_file%unnest%' HAVING count(*) = 2";
    eventually(PATIENCE, "files are copied", async || scene.b.sql(copies).await.ok().filter(|r| !r.is_empty())).await;
    control.cancel();
    assert_eq!(rewinding.join().unwrap(), Err(OperationError::Cancelled));
    scene.is_refused().await;
    drop(stalled);
    scene.rewind().unwrap();
    assert!(!scene.state("rewind_wal").exists());
    scene.is_a_standby_of_the_leader().await;
}
