//! New clusters: from a program that restores a backup, with a script of the user's, and what is left when they fail.

use crate::servers::{PATIENCE, free, script};
use pgherd_postgres::{
    Alive, BootstrapMethod, Credentials, PostgresOptions, alive, bootstrap, observe, start_primary, state_dir,
};
use pgherd_testkit::eventually::eventually_blocking;
use pgherd_testkit::postgres::{PASSWORD, TestDir, TestPostgres, options, run_as};
use pgherd_types::DataDirectory;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn method(section: serde_json::Value) -> Option<BootstrapMethod> {
    BootstrapMethod::from_section("own", section.as_object().unwrap()).unwrap()
}

/// What failed bootstraps left.
fn failed_copies(options: &PostgresOptions) -> Vec<PathBuf> {
    let prefix = format!("{}.failed.", options.name);
    let entries = fs::read_dir(options.data_dir.parent().unwrap()).unwrap().flatten();
    entries.map(|e| e.path()).filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(&prefix)).collect()
}

fn as_server(command: &str, port: u16) {
    use std::os::unix::process::CommandExt;
    let mut it = Command::new("sh");
    it.args(["-c", command]).env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).current_dir("/");
    it.env("PGUSER", "postgres").env("PGPASSWORD", PASSWORD);
    if let Some((uid, gid)) = run_as() {
        it.uid(uid).gid(gid);
    }
    assert!(it.status().unwrap().success(), "{command}");
}

/// A server that archives, its backup, and a restore point behind the first of two rows.
async fn archived(dir: &TestDir) -> TestPostgres {
    let archive = dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    if let Some((uid, gid)) = run_as() {
        std::os::unix::fs::chown(&archive, Some(uid), Some(gid)).unwrap();
    }
    let mut own = options("a1", dir.path());
    own.parameters.insert("archive_mode".to_owned(), "on".to_owned());
    own.parameters.insert("archive_command".to_owned(), format!("cp %p {}/%f", archive.display()));
    // More than the cluster that is made from its backup has.
    own.bootstrap_dcs = r#"{"postgresql":{"parameters":{"max_connections":200}}}"#.to_owned();
    let a = TestPostgres::bootstrapped(own.clone()).await.unwrap();
    start_primary(&a.server, &free()).unwrap();
    let backup = own.program("pg_basebackup");
    as_server(
        &format!("{} -D {}/backup -X none --checkpoint=fast", backup.display(), dir.path().display()),
        own.listen_port,
    );
    for statement in [
        "CREATE TABLE t AS SELECT 1 AS n",
        "SELECT pg_create_restore_point('here')",
        "INSERT INTO t VALUES (2)",
        "SELECT pg_switch_wal()",
        "ALTER ROLE postgres PASSWORD 'another'",
    ] {
        a.sql(statement).await.unwrap();
    }
    // The segment with all but the last of it.
    eventually_blocking(PATIENCE, "it is archived", || {
        let found =
            fs::read_dir(&archive).unwrap().flatten().filter(|e| e.metadata().is_ok_and(|m| m.len() == 16 << 20));
        (found.count() >= 3).then_some(())
    });
    a
}

#[tokio::test]
async fn a_cluster_is_restored_to_a_point_and_gets_our_roles() {
    let dir = TestDir::new();
    let a = archived(&dir).await;
    let old_identity = pgherd_testkit::postgres::sql(a.server.options().listen_port, "SELECT 1").await;
    assert!(old_identity.is_err(), "its superuser has another password now");
    let mut own = options("b1", dir.path());
    own.pg_hba = ["local all all scram-sha-256", "host all all all scram-sha-256"].map(str::to_owned).to_vec();
    let body = "echo \"$@\" > $dir/told; cp -a $dir/backup \"$datadir\"; rm \"$datadir\"/postgresql*.conf \"$datadir\"/pg_hba.conf";
    let restore = format!("cp {}/archive/%f %p", dir.path().display());
    own.bootstrap_tool = method(serde_json::json!({
        "command": script(dir.path(), "restore", body), "stanza": "main", "datadir": "/reserved",
        "recovery_conf": {"restore_command": restore, "recovery_target_name": "here", "recovery_target_timeline": "latest",
            "recovery_target_action": "pause"},
    }));
    let body = "test -z \"$PGPASSWORD\" || exit 1; echo \"$@\" > $dir/dsn; stat -c %a \"$PGPASSFILE\" > $dir/mode\nexec psql -X -v ON_ERROR_STOP=1 -c 'CREATE TABLE by_script AS SELECT current_user AS who' \"$1\"";
    let psql = own.program("psql").parent().unwrap().to_owned();
    let body = format!("PATH={}:$PATH\n{body}", psql.display());
    own.post_bootstrap = Some(script(dir.path(), "post", &body));
    let b = TestPostgres::open(own.clone()).unwrap();
    bootstrap(&b.server, &free()).await.unwrap();

    assert_eq!(alive(&own.data_dir), Alive::Nothing);
    let told = fs::read_to_string(dir.path().join("told")).unwrap();
    assert_eq!(told, format!("--scope=test --datadir={} --stanza=main\n", own.data_dir.display()));
    let dsn = fs::read_to_string(dir.path().join("dsn")).unwrap();
    let sockets = state_dir(&own.data_dir);
    assert_eq!(dsn, format!("dbname=postgres user=postgres host={} port={}\n", sockets.display(), own.listen_port));
    assert_eq!(fs::read_to_string(dir.path().join("mode")).unwrap(), "600\n");
    assert!(!sockets.join("pgpass.bootstrap").exists() && !sockets.join("single_user.sql").exists());
    let control = observe(&b.server).await.state.control().unwrap().clone();
    assert!(!control.standby_signal);
    assert_eq!(control.checkpoint_timeline.0, 2);
    assert!(own.data_dir.join("pg_wal/archive_status/00000002.history.ready").exists());

    start_primary(&b.server, &free()).unwrap();
    assert_eq!(b.sql("SELECT n FROM t").await.unwrap(), ["1"]);
    assert_eq!(b.sql("SELECT who FROM by_script").await.unwrap(), ["postgres"]);
    let roles = b.sql("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1").await.unwrap();
    assert_eq!(roles, ["postgres", "replicator", "rewinder"]);
    let target = "SELECT current_setting('recovery_target_name') || current_setting('restore_command')";
    assert_eq!(b.sql(target).await.unwrap(), [""]);
    assert_eq!(b.sql("SELECT current_setting('max_connections')").await.unwrap(), ["100"]);
    assert!(failed_copies(&own).is_empty());
}

#[tokio::test]
async fn what_the_program_wrote_about_recovery_can_be_kept_and_a_superuser_without_password_stays_so() {
    let dir = TestDir::new();
    let a = archived(&dir).await;
    drop(a);
    let mut own = options("b1", dir.path());
    own.superuser = Credentials { username: Some("postgres".to_owned()), ..Credentials::default() };
    own.pg_hba = vec!["host all all all scram-sha-256".to_owned()];
    let body = "cp -a $dir/backup \"$datadir\"; touch \"$datadir/recovery.signal\"\necho \"restore_command = 'cp $dir/archive/%f %p'\" >> \"$datadir/postgresql.auto.conf\"";
    own.bootstrap_tool = method(serde_json::json!({
        "command": script(dir.path(), "restore", body), "keep_existing_recovery_conf": true, "no_params": false,
    }));
    let b = TestPostgres::open(own.clone()).unwrap();
    bootstrap(&b.server, &free()).await.unwrap();
    let auto = fs::read_to_string(own.data_dir.join("postgresql.auto.conf")).unwrap();
    assert!(!auto.contains("restore_command"), "{auto}");
    start_primary(&b.server, &free()).unwrap();
    // The password it had in the backup, not one of ours.
    assert_eq!(b.sql("SELECT n FROM t ORDER BY 1").await.unwrap(), ["1", "2"]);
}

#[tokio::test]
async fn a_failed_bootstrap_is_kept_and_the_next_one_begins_anew() {
    let dir = TestDir::new();
    let mut own = options("a1", dir.path());
    own.post_bootstrap = Some(script(dir.path(), "post", "echo we cannot; exit 4"));
    let a = TestPostgres::open(own.clone()).unwrap();
    let why = bootstrap(&a.server, &free()).await.unwrap_err().to_string();
    assert!(why.contains("post_bootstrap script failed") && why.contains("we cannot"), "{why}");
    assert_eq!(observe(&a.server).await.state.data, DataDirectory::Empty);
    let kept = failed_copies(&own);
    assert!(kept.len() == 1 && kept[0].join("global/pg_control").exists(), "{kept:?}");
    drop(a);

    own.post_bootstrap = None;
    own.bootstrap_tool = method(serde_json::json!({
        "command": script(dir.path(), "bad", "mkdir \"$datadir\"; touch \"$datadir/half\"; exit 1"),
    }));
    let a = TestPostgres::open(own.clone()).unwrap();
    let why = bootstrap(&a.server, &free()).await.unwrap_err().to_string();
    assert!(why.starts_with("custom bootstrap failed: the method own failed"), "{why}");
    assert!(failed_copies(&own).iter().any(|copy| copy.join("half").exists()));
    drop(a);

    for (options, part) in [
        (vec![("pgdata".to_owned(), Some("/x".to_owned()))], "option pgdata is not allowed in bootstrap.initdb"),
        (vec![("encoding".to_owned(), Some("nonsense".to_owned()))], "initdb failed"),
    ] {
        let a = TestPostgres::open(PostgresOptions { initdb: options, bootstrap_tool: None, ..own.clone() }).unwrap();
        let why = bootstrap(&a.server, &free()).await.unwrap_err().to_string();
        assert!(why.contains(part), "{why}");
    }
    own.bootstrap_tool = None;
    let a = TestPostgres::bootstrapped(own.clone()).await.unwrap();
    start_primary(&a.server, &free()).unwrap();
    assert_eq!(a.sql("SELECT 1").await.unwrap(), ["1"]);
    assert_eq!(failed_copies(&own).len(), 2);
}

#[tokio::test]
async fn nobody_gets_into_a_cluster_that_is_being_made() {
    let dir = TestDir::new();
    let mut own = options("a1", dir.path());
    // Whoever is on this machine tries without a password, as every role, from inside the script.
    let psql = own.program("psql").parent().unwrap().to_owned();
    let body = format!(
        "PATH={}:$PATH\nhost=$(echo \"$1\" | sed 's/.*host=\\([^ ]*\\).*/\\1/')\nfor role in postgres replicator $(id -un); do PGPASSFILE=/dev/null psql -X -w -h $host -p {} -U $role -d postgres -c 'SELECT 1' >> $dir/in 2>> $dir/out; done; psql -X -w -h 127.0.0.1 -p {} -U postgres -d postgres -c 'SELECT 1' >> $dir/in 2>> $dir/out\nexit 0",
        psql.display(),
        own.listen_port,
        own.listen_port,
    );
    own.post_bootstrap = Some(script(dir.path(), "post", &body));
    let a = TestPostgres::open(own).unwrap();
    bootstrap(&a.server, &free()).await.unwrap();
    let (inside, refused) =
        (fs::read_to_string(dir.path().join("in")).unwrap(), fs::read_to_string(dir.path().join("out")).unwrap());
    assert_eq!(inside, "");
    assert_eq!(
        refused.matches("no password supplied").count() + refused.matches("no pg_hba.conf entry").count(),
        3,
        "{refused}"
    );
    assert!(refused.contains("Connection refused"), "{refused}");
}
