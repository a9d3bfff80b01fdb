//! A former primary whose data have parted from the leader's becomes its standby, or stays as it was.

use crate::scene::{End, Scene, upstream_at};
use crate::servers::{PATIENCE, free};
use pgherd_postgres::{
    Alive, Credentials, OperationControl, PidFd, PostgresOptions, alive, find_postmaster, observe, promote, rewind,
    server_processes, start_replica, stop_fast,
};
use pgherd_testkit::eventually::{eventually, eventually_blocking};
use pgherd_testkit::postgres::{PASSWORD, TestDir, TestPostgres, options, run_as};
use pgherd_types::postgres::ControlState;
use pgherd_types::{Progress, Server, Timeline};
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[tokio::test]
async fn a_former_primary_with_more_wal_becomes_a_standby_of_the_leader() {
    for end in [End::Killed, End::InOrder] {
        let scene = Scene::new(end, |_| ()).await;
        // pg_rewind brings the leader's files, which say nothing good for a standby of it.
        scene.b.sql("ALTER SYSTEM SET primary_conninfo = 'host=nowhere'").await.unwrap();
        scene.b.sql("ALTER SYSTEM SET deadlock_timeout = '7s'").await.unwrap();
        scene.rewind().unwrap();
        assert_eq!(scene.state("single_user.log").exists(), end == End::Killed);
        let auto = fs::read_to_string(scene.data("postgresql.auto.conf")).unwrap();
        assert!(auto.contains("deadlock_timeout") && !auto.contains("primary_conninfo"), "{auto}");
        assert!(scene.control().await.standby_signal);
        scene.is_a_standby_of_the_leader().await;
        let port = scene.a.sql("SELECT setting FROM pg_settings WHERE name = 'port'").await.unwrap();
        assert_eq!(port, [scene.a.server.options().listen_port.to_string()]);
    }
}

/// The checkpointer, which makes the checkpoint that pg_rewind relies on; going on again when dropped.
struct Held(PidFd);

impl Held {
    async fn checkpointer(of: &TestPostgres) -> Self {
        let pid = of.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'").await.unwrap();
        let held = PidFd::open(pid[0].parse().unwrap()).unwrap();
        held.signal(Signal::STOP).unwrap();
        Self(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.signal(Signal::CONT);
    }
}

#[tokio::test]
async fn a_leader_without_a_checkpoint_since_its_promotion_is_waited_for() {
    let scene = Scene::before_the_promotion(End::InOrder, |_| ()).await;
    let held = Held::checkpointer(&scene.b).await;
    promote(&scene.b.server, Timeline(2), &free()).await.unwrap();
    scene.write_on_the_leader().await;
    let before = fs::read(scene.data("global/pg_control")).unwrap();
    let refused = scene.rewind().unwrap_err().to_string();
    assert!(refused.contains("waiting for checkpoint on b1") && refused.contains("role rewinder"), "{refused}");
    assert_eq!(fs::read(scene.data("global/pg_control")).unwrap(), before);
    assert!(!scene.is_interrupted().await);
    drop(held);
    eventually(PATIENCE, "a rewind after the leader's own checkpoint", async || scene.rewind().ok()).await;
    scene.is_a_standby_of_the_leader().await;
}

#[tokio::test]
async fn a_role_that_may_makes_the_checkpoint_on_the_leader() {
    let superuser = |options: &mut PostgresOptions| options.rewind = None;
    let scene = Scene::before_the_promotion(End::InOrder, superuser).await;
    let held = Held::checkpointer(&scene.b).await;
    promote(&scene.b.server, Timeline(2), &free()).await.unwrap();
    scene.write_on_the_leader().await;
    let rewinding = scene.rewinding(&Arc::new(free()));
    let asked = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'psql' AND query = 'CHECKPOINT'";
    eventually(PATIENCE, "it is ordered", async || scene.b.sql(asked).await.ok().filter(|r| !r.is_empty())).await;
    drop(held);
    rewinding.join().unwrap().unwrap();
    scene.is_a_standby_of_the_leader().await;
}

#[tokio::test]
async fn how_far_pg_rewind_has_come_is_told_while_it_runs() {
    let scene = Scene::new(End::Killed, |_| ()).await;
    let (hold, real) = (scene.dir.path().join("hold"), options("a1", scene.dir.path()).bin_dir.unwrap());
    fs::write(&hold, "").unwrap();
    // It has done its work, and does not end before somebody has looked.
    let (real, held) = (real.display(), hold.display());
    scene.before_pg_rewind(&format!(
        "{real}/pg_rewind \"$@\"; code=$?; while [ -e {held} ]; do sleep 0.05; done; exit $code"
    ));
    assert_eq!(scene.a.server.progress(), None);
    let rewinding = scene.rewinding(&Arc::new(free()));
    let all = |progress: &Progress| progress.total_bytes == Some(progress.done_bytes);
    let told = eventually(PATIENCE, "all is copied", async || scene.a.server.progress().filter(all)).await;
    assert_eq!(observe(&scene.a.server).await.state.progress, Some(told));
    assert!(told.done_bytes > 1 << 20, "{told:?}");
    assert!(!rewinding.is_finished());
    fs::remove_file(&hold).unwrap();
    rewinding.join().unwrap().unwrap();
    assert_eq!(scene.a.server.progress(), None);
    scene.is_a_standby_of_the_leader().await;
}

/// An archive in the test's directory. The other node does not read it: it would get what it must not have.
fn archiving(options: &mut PostgresOptions, restores: bool) {
    let restores = restores && options.name.as_str() == "a1";
    let archive = options.data_dir.with_file_name("archive");
    fs::create_dir_all(&archive).unwrap();
    if let Some((uid, gid)) = run_as() {
        std::os::unix::fs::chown(&archive, Some(uid), Some(gid)).unwrap();
    }
    let archive = archive.display();
    let command = format!("test ! -f {archive}/closed && cp %p {archive}/%f");
    for (name, value) in [("archive_mode", "on"), ("archive_command", command.as_str())] {
        options.parameters.insert(name.to_owned(), value.to_owned());
    }
    let restore = ("restore_command".to_owned(), format!("cp {archive}/%f %p"));
    options.recovery_conf = Some(restores.then_some(restore).into_iter().collect());
}

/// Moves a former primary's WAL since its last checkpoint but one away: an orderly stop may do so.
fn lose_wal(scene: &Scene) {
    let archive = scene.dir.path().join("archive");
    let archived = |name: &str| archive.join(name).exists();
    let names = fs::read_dir(scene.data("pg_wal")).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let lost: Vec<String> = names.filter(|name| name.len() == 24 && archived(name)).collect();
    assert!(!lost.is_empty());
    for name in lost {
        fs::remove_file(scene.data("pg_wal").join(name)).unwrap();
    }
}

#[tokio::test]
async fn missing_wal_comes_from_the_archive() {
    // The second round has a pg_rewind that cannot fetch it, as before version 13.
    let old = r#"for a do shift; [ "$a" = --restore-target-wal ] || set -- "$@" "$a"; done"#;
    for script in ["", old] {
        let scene = Scene::new(End::InOrder, |options| archiving(options, true)).await;
        scene.before_every_pg_rewind(script);
        lose_wal(&scene);
        scene.rewind().unwrap();
        scene.is_a_standby_of_the_leader().await;
    }
}

#[tokio::test]
async fn wal_that_is_nowhere_leaves_the_data_as_they_were() {
    let scene = Scene::new(End::InOrder, |options| archiving(options, false)).await;
    lose_wal(&scene);
    let failed = scene.rewind().unwrap_err().to_string();
    assert!(failed.contains("could not open file") && !failed.contains("neither the old"), "{failed}");
    scene.is_as_it_was(ControlState::ShutDown).await;
}

#[tokio::test]
async fn wal_that_was_not_archived_is_archived_by_hand() {
    for closed in [false, true] {
        let scene = Scene::new(End::Killed, |options| archiving(options, false)).await;
        let archive = scene.dir.path().join("archive");
        let wal = "000000010000000000000001";
        // As if the archiver had not got to it; and a history that the leader does not have.
        let (status, there) = (scene.data("pg_wal/archive_status"), scene.data("pg_wal").join(wal));
        let _ = fs::remove_file(status.join(format!("{wal}.done")));
        let _ = fs::remove_file(archive.join(wal));
        if !there.exists() {
            fs::write(&there, vec![0; 16 << 20]).unwrap();
        }
        for name in [wal, "00000009.history"] {
            fs::write(status.join(format!("{name}.ready")), "").unwrap();
        }
        fs::write(scene.data("pg_wal/00000009.history"), "1\t0/3000000\tfalse primary\n").unwrap();
        if closed {
            fs::write(archive.join("closed"), "").unwrap();
        }
        scene.rewind().unwrap();
        assert_eq!(archive.join(wal).exists(), !closed);
        assert!(!archive.join("00000009.history").exists());
        scene.is_a_standby_of_the_leader().await;
    }
}

#[tokio::test]
async fn nothing_is_touched_when_the_source_is_not_the_leader_or_cannot_be_reached() {
    let scene = Scene::new(End::Killed, |_| ()).await;
    let before = fs::read(scene.data("global/pg_control")).unwrap();
    let other = TestPostgres::bootstrapped(options("other", scene.dir.path())).await.unwrap();
    pgherd_postgres::start_primary(&other.server, &free()).unwrap();
    let standby = TestPostgres::open(options("c1", scene.dir.path())).unwrap();
    pgherd_postgres::clone_from(&standby.server, &scene.b.upstream(), false, &free()).await.unwrap();
    start_replica(&standby.server, None, &free()).unwrap();
    eventually(PATIENCE, "it answers", async || standby.sql("SELECT 1").await.ok()).await;
    let nobody = upstream_at(pgherd_testkit::ports::lasting_port());
    for (from, why) in
        [(nobody, "could not ask b1"), (other.upstream(), "is another cluster"), (standby.upstream(), "read-only")]
    {
        let failed = rewind(&scene.a.server, &from, &free()).unwrap_err().to_string();
        assert!(failed.contains(why) && !failed.contains(PASSWORD), "{failed}");
        assert_eq!(fs::read(scene.data("global/pg_control")).unwrap(), before, "{why}");
        assert!(!scene.state("rewind").exists() && !scene.state("single_user.log").exists(), "{why}");
    }
    let cancelled = free();
    cancelled.cancel();
    assert!(rewind(&scene.a.server, &scene.b.upstream(), &cancelled).is_err());
    scene.is_as_it_was(ControlState::InProduction).await;
}

#[tokio::test]
async fn a_wrong_password_is_not_shown() {
    let wrong = |options: &mut PostgresOptions| {
        options.rewind = Some(Credentials { password: Some("not this".to_owned()), ..options.rewind.clone().unwrap() });
    };
    let scene = Scene::new(End::InOrder, |_| ()).await;
    let mut options = scene.a.server.options().clone();
    wrong(&mut options);
    let Scene { a, b, dir } = scene;
    drop(a);
    // A process that another test is starting just now may hold the lock for a moment.
    let reopened = || TestPostgres::open(options.clone()).ok();
    let a = eventually_blocking(PATIENCE, "the lock is free", reopened);
    let failed = rewind(&a.server, &b.upstream(), &free()).unwrap_err().to_string();
    assert!(
        failed.contains("as role rewinder") && failed.contains("password") && !failed.contains("not this"),
        "{failed}"
    );
    drop(dir);
}

#[tokio::test]
async fn a_running_server_is_not_rewound_and_a_single_user_server_is_not_taken_for_one() {
    let scene = Scene::new(End::InOrder, |_| ()).await;
    let data_dir = &scene.a.server.options().data_dir;
    let mut single = single_user(data_dir, scene.a.server.options());
    eventually_blocking(PATIENCE, "it works there", || (!server_processes(data_dir).is_empty()).then_some(()));
    assert_eq!(alive(data_dir), Alive::Nothing);
    assert_eq!(pgherd_postgres::observe(&scene.a.server).await.state.server, Server::Stopped);
    let refused = scene.rewind().unwrap_err().to_string();
    assert!(refused.contains("single-user server"), "{refused}");
    drop(single.stdin.take());
    assert!(single.wait().unwrap().success());
    start_replica(&scene.a.server, None, &free()).unwrap();
    assert!(find_postmaster(data_dir).is_some());
    assert!(scene.rewind().unwrap_err().to_string().contains("running already"));
    stop_fast(&scene.a.server, &free()).await.unwrap();
}

fn single_user(data_dir: &Path, options: &PostgresOptions) -> std::process::Child {
    let mut command = Command::new(options.program("postgres"));
    command.arg("--single").arg("-D").arg(data_dir).arg("template1");
    if let Some((uid, gid)) = run_as() {
        command.uid(uid).gid(gid);
    }
    let mut child =
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"SELECT 1\n").unwrap();
    child
}

#[tokio::test]
async fn a_directory_of_its_own_kind_is_needed() {
    let dir = TestDir::new();
    let empty = TestPostgres::open(options("a1", dir.path())).unwrap();
    let control = OperationControl::new(None);
    assert!(rewind(&empty.server, &upstream_at(1), &control).is_err());
    assert!(!empty.server.options().data_dir.exists());
}
