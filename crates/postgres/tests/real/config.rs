//! Configurations put in force on real servers: what a running server takes, what waits for its restart, and what is
//! put back.

use crate::servers::{self, PATIENCE, free, primary, running};
use pgherd_postgres::{
    Overlay, RoleClass, apply_dynamic, cached_dynamic, clone_from, promote, reload_config, start_primary,
    start_replica, stop_fast,
};
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::postgres::{TestDir, TestPostgres, options};
use pgherd_types::Timeline;
use std::fs;
use std::path::{Path, PathBuf};

/// One that streams.
async fn standby(dir: &TestDir, name: &str, of: &TestPostgres) -> TestPostgres {
    let it = servers::standby(dir, name, of).await;
    eventually(PATIENCE, "it streams", async || running(&it).await.streaming.then_some(())).await;
    it
}

async fn restart_primary(it: &TestPostgres) {
    stop_fast(&it.server, &free()).await.unwrap();
    start_primary(&it.server, &free()).unwrap();
}

async fn restart_standby(it: &TestPostgres, of: &TestPostgres) {
    stop_fast(&it.server, &free()).await.unwrap();
    start_replica(&it.server, Some(&of.upstream()), &free()).unwrap();
}

async fn setting(it: &TestPostgres, name: &str) -> String {
    it.sql(&format!("SELECT current_setting('{name}')")).await.unwrap().remove(0)
}

async fn apply(it: &TestPostgres, parameters: &str) -> bool {
    let dynamic = format!(r#"{{"postgresql":{{"parameters":{{{parameters}}}}}}}"#);
    apply_dynamic(&it.server, dynamic).await.unwrap()
}

/// `name: old->new`, as the last look shows them.
async fn waiting(it: &TestPostgres) -> Vec<String> {
    let seen = running(it).await;
    assert_eq!(seen.pending_restart, !seen.pending_restart_reason.is_empty());
    seen.pending_restart_reason.iter().map(|(name, old, new)| format!("{name}: {old}->{new}")).collect()
}

fn file(it: &TestPostgres, name: &str) -> PathBuf {
    it.server.options().data_dir.join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[tokio::test]
async fn what_needs_no_restart_is_in_force_at_once_and_the_rest_is_told() {
    let dir = TestDir::new();
    let mut of = options("a1", dir.path());
    of.parameters.remove("shared_buffers");
    let it = TestPostgres::bootstrapped(of).await.unwrap();
    apply(&it, r#""shared_buffers":"128MB","archive_mode":true"#).await;
    start_primary(&it.server, &free()).unwrap();
    assert_eq!(waiting(&it).await, [""; 0]);

    let changed = r#""shared_buffers":"64MB","max_connections":80,"work_mem":"7MB","archive_mode":"on","my.name":"x","#;
    assert!(apply(&it, &format!(r#"{changed}"log_min_duration_statement":250"#)).await);
    for (name, value) in [("work_mem", "7MB"), ("my.name", "x"), ("log_min_duration_statement", "250ms")] {
        assert_eq!(setting(&it, name).await, value);
    }
    assert_eq!(waiting(&it).await, ["max_connections: 100->80", "shared_buffers: 128MB->64MB"]);
    // The same once more changes nothing.
    assert!(!apply(&it, &format!(r#"{changed}"log_min_duration_statement":250"#)).await);

    // What is gone has its default again.
    assert!(apply(&it, r#""shared_buffers":"16384","max_connections":80"#).await);
    assert_eq!(
        (setting(&it, "work_mem").await, setting(&it, "log_min_duration_statement").await),
        ("4MB".into(), "-1".into())
    );
    assert_eq!(waiting(&it).await, ["archive_mode: on->off", "max_connections: 100->80"]);

    restart_primary(&it).await;
    assert_eq!(waiting(&it).await, [""; 0]);
    assert_eq!(
        (setting(&it, "max_connections").await, setting(&it, "archive_mode").await),
        ("80".into(), "off".into())
    );
    let cached = cached_dynamic(&it.server.options().data_dir);
    assert_eq!(cached.unwrap(), r#"{"postgresql":{"parameters":{"shared_buffers":"16384","max_connections":80}}}"#);
}

#[tokio::test]
async fn what_the_server_would_refuse_is_corrected_or_left_out() {
    let dir = TestDir::new();
    let it = primary(&dir, "a1").await;
    let bad = r#""work_mem":"1kB","seq_page_cost":-3,"bgwriter_lru_maxpages":2000000000,"no_such":1,"fsync":"perhaps",
        "wal_sync_method":"hope","checkpoint_timeout":"long","maintenance_work_mem":"9MB""#;
    assert!(apply(&it, bad).await);
    for (name, value) in [
        ("work_mem", "64kB"),
        ("seq_page_cost", "0"),
        ("bgwriter_lru_maxpages", "1073741823"),
        ("checkpoint_timeout", "5min"),
        ("maintenance_work_mem", "9MB"),
    ] {
        assert_eq!(setting(&it, name).await, value, "{name}");
    }
    let text = read(&file(&it, "postgresql.conf"));
    for name in ["no_such", "wal_sync_method", "checkpoint_timeout"] {
        assert!(!text.contains(name), "{name} is in\n{text}");
    }
    // It starts with them, too.
    restart_primary(&it).await;
    assert_eq!(setting(&it, "work_mem").await, "64kB");

    // A document of the wrong kind changes nothing at all.
    for document in [r#"{"postgresql":{"parameters":[]}}"#, "[]", r#"{"postgresql":{"pg_hba":"host all"}}"#] {
        let refused = apply_dynamic(&it.server, document.to_owned()).await;
        assert!(refused.is_err(), "{document}");
    }
    assert_eq!(read(&file(&it, "postgresql.conf")), text);
    assert_eq!(setting(&it, "maintenance_work_mem").await, "9MB");
}

#[tokio::test]
async fn a_smaller_value_waits_for_the_primary_first() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, "b1", &a).await;
    for it in [&a, &b] {
        apply(it, r#""max_connections":80,"max_worker_processes":12"#).await;
        assert_eq!(waiting(it).await, ["max_connections: 100->80", "max_worker_processes: 8->12"]);
    }
    // The standby first: it must go on with as much as the primary has, and says so.
    restart_standby(&b, &a).await;
    assert_eq!(setting(&b, "max_connections").await, "100");
    assert_eq!(waiting(&b).await, ["max_connections: 100->80"]);
    assert!(read(&file(&b, "postgresql.conf")).contains("max_connections = '100'"));
    // Writing the files again does not lose it.
    reload_config(&b.server).await.unwrap();
    assert_eq!(waiting(&b).await, ["max_connections: 100->80"]);

    restart_primary(&a).await;
    assert_eq!(waiting(&a).await, [""; 0]);
    let end = a.sql("SELECT pg_switch_wal(); SELECT pg_current_wal_lsn()").await.unwrap().pop().unwrap();
    eventually(PATIENCE, "the standby replays the primary's restart", async || {
        let replayed = b.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{end}'")).await.ok()?;
        (replayed == ["t"]).then_some(())
    })
    .await;
    restart_standby(&b, &a).await;
    assert_eq!(waiting(&b).await, [""; 0]);
    assert_eq!(setting(&b, "max_connections").await, "80");
}

#[tokio::test]
async fn a_pause_of_replay_is_left_alone_and_what_lacks_is_told() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, "b1", &a).await;
    for it in [&a, &b] {
        apply(it, r#""max_connections":120"#).await;
    }
    // The wrong order for a larger value: replay stops at the primary's restart.
    restart_primary(&a).await;
    eventually(PATIENCE, "replay is paused", async || running(&b).await.replay_paused.then_some(())).await;
    assert_eq!(waiting(&b).await, ["max_connections: 100->120"]);
    reload_config(&b.server).await.unwrap();
    assert!(running(&b).await.replay_paused, "it must not be resumed: that would end the server");
    restart_standby(&b, &a).await;
    assert_eq!(waiting(&b).await, [""; 0]);

    // A pause of somebody's own is kept, whatever is written.
    b.sql("SELECT pg_wal_replay_pause()").await.unwrap();
    apply(&b, r#""max_connections":120,"work_mem":"5MB""#).await;
    assert!(running(&b).await.replay_paused);
}

#[tokio::test]
async fn a_bad_access_file_is_put_back_and_not_tried_again() {
    let dir = TestDir::new();
    let mut of = options("a1", dir.path());
    let good = of.pg_hba.clone();
    of.pg_hba.clear();
    let it = TestPostgres::bootstrapped(of).await.unwrap();
    let hba = |lines: &[String]| serde_json::json!({"postgresql": {"pg_hba": lines}}).to_string();
    apply_dynamic(&it.server, hba(&good)).await.unwrap();
    start_primary(&it.server, &free()).unwrap();
    let (path, before) = (file(&it, "pg_hba.conf"), read(&file(&it, "pg_hba.conf")));

    let bad: Vec<_> = good.iter().cloned().chain(["host all all nowhere/99 trust".to_owned()]).collect();
    apply_dynamic(&it.server, hba(&bad)).await.unwrap();
    assert_eq!(read(&path), before);
    // Neither by a reload nor by a start.
    reload_config(&it.server).await.unwrap();
    assert_eq!(read(&path), before);
    restart_primary(&it).await;
    assert_eq!(read(&path), before);

    // Nobody can be asked about another one while it is stopped: it fails one start.
    stop_fast(&it.server, &free()).await.unwrap();
    let worse: Vec<_> = good.iter().cloned().chain(["nonsense".to_owned()]).collect();
    apply_dynamic(&it.server, hba(&worse)).await.unwrap();
    let refused = start_primary(&it.server, &free()).unwrap_err().to_string();
    assert!(refused.contains("pg_hba.conf"), "{refused}");
    start_primary(&it.server, &free()).unwrap();
    assert_eq!(read(&path), before);

    let better: Vec<_> = good.iter().cloned().chain(["host all all 10.0.0.0/8 reject".to_owned()]).collect();
    assert!(apply_dynamic(&it.server, hba(&better)).await.unwrap());
    assert!(read(&path).contains("10.0.0.0/8 reject"));
    let rules = it.sql("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject'").await.unwrap();
    assert_eq!(rules, ["1"]);

    // The same for the other file.
    let ident = |line: &str| serde_json::json!({"postgresql": {"pg_hba": better, "pg_ident": [line]}}).to_string();
    apply_dynamic(&it.server, ident("m os db")).await.unwrap();
    apply_dynamic(&it.server, ident("only-two fields")).await.unwrap();
    assert!(read(&file(&it, "pg_ident.conf")).ends_with("\nm os db\n"));
}

#[tokio::test]
async fn a_role_has_its_own_settings_when_it_begins() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let mut of = options("b1", dir.path());
    let overlay = |work_mem: &str, hba: Option<Vec<String>>| Overlay {
        parameters: Some([("work_mem".to_owned(), work_mem.to_owned())].into()),
        pg_hba: hba,
        pg_ident: None,
    };
    let only_on_primary = of.pg_hba.iter().cloned().chain(["host all all 10.0.0.0/8 reject".to_owned()]).collect();
    of.overlays.insert(RoleClass::Primary, overlay("9MB", Some(only_on_primary)));
    of.overlays.insert(RoleClass::Replica, overlay("3MB", None));
    let b = TestPostgres::open(of).unwrap();
    clone_from(&b.server, &a.upstream(), false, &free()).await.unwrap();
    a.sql("SELECT pg_create_physical_replication_slot('b1')").await.unwrap();
    start_replica(&b.server, Some(&a.upstream()), &free()).unwrap();
    eventually(PATIENCE, "it streams", async || running(&b).await.streaming.then_some(())).await;
    let hba = file(&b, "pg_hba.conf");
    assert_eq!(setting(&b, "work_mem").await, "3MB");
    assert!(!read(&hba).contains("reject"));

    stop_fast(&a.server, &free()).await.unwrap();
    promote(&b.server, Timeline(2), &free()).await.unwrap();
    assert_eq!(setting(&b, "work_mem").await, "9MB");
    assert!(read(&hba).contains("reject"));
    assert_eq!(waiting(&b).await, [""; 0]);

    stop_fast(&b.server, &free()).await.unwrap();
    start_replica(&b.server, None, &free()).unwrap();
    assert_eq!((running(&b).await.in_recovery, setting(&b, "work_mem").await), (true, "3MB".to_owned()));
    assert!(!read(&hba).contains("reject"));
}

#[tokio::test]
async fn files_are_where_the_settings_say() {
    let dir = TestDir::new();
    let place = dir.path().join("etc");
    fs::create_dir(&place).unwrap();
    let mut of = options("a1", dir.path());
    if let Some((uid, gid)) = of.run_as {
        std::os::unix::fs::chown(&place, Some(uid), Some(gid)).unwrap();
    }
    of.config_dir = Some(place.clone());
    of.config_base_name = "main".to_owned();
    of.recovery_conf = Some([("restore_command".to_owned(), "false %f".to_owned())].into());
    let a = TestPostgres::bootstrapped(of.clone()).await.unwrap();
    start_primary(&a.server, &free()).unwrap();
    assert_eq!(setting(&a, "config_file").await, place.join("main.conf").display().to_string());
    assert_eq!(setting(&a, "hba_file").await, place.join("pg_hba.conf").display().to_string());
    assert_eq!(setting(&a, "restore_command").await, "false %f");
    let source = a.sql("SELECT sourcefile FROM pg_settings WHERE name = 'lc_messages'").await.unwrap();
    assert_eq!(source, [place.join("main.base.conf").display().to_string()]);
    stop_fast(&a.server, &free()).await.unwrap();

    // The user's own files: one is included, the other is left alone.
    fs::write(place.join("mine.conf"), "work_mem = '11MB'\n").unwrap();
    let own_hba = place.join("own_hba.conf");
    fs::write(&own_hba, "host all all all scram-sha-256\n").unwrap();
    let ours = read(&place.join("pg_hba.conf"));
    of.custom_conf = Some("mine.conf".to_owned());
    of.parameters.insert("hba_file".to_owned(), "own_hba.conf".to_owned());
    of.pg_hba.push("host all all 10.0.0.0/8 reject".to_owned());
    assert!(a.server.take_local(of).unwrap().is_empty());
    start_primary(&a.server, &free()).unwrap();
    assert_eq!(setting(&a, "work_mem").await, "11MB");
    assert_eq!(setting(&a, "hba_file").await, own_hba.display().to_string());
    assert_eq!(read(&own_hba), "host all all all scram-sha-256\n");
    assert_eq!(read(&place.join("pg_hba.conf")), ours);
    assert_eq!(waiting(&a).await, [""; 0]);
}

#[tokio::test]
async fn the_local_configuration_changes_while_the_server_runs() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, "b1", &a).await;
    let mut of = b.server.options().clone();
    of.parameters.insert("work_mem".to_owned(), "6MB".to_owned());
    of.replication.extra.insert("sslmode".to_owned(), "disable".to_owned());
    of.krbsrvname = Some("pg".to_owned());
    of.listen_port = 1;
    assert_eq!(b.server.take_local(of).unwrap(), ["postgresql.listen"]);
    assert!(reload_config(&b.server).await.unwrap());
    assert_eq!(setting(&b, "work_mem").await, "6MB");
    let conninfo = setting(&b, "primary_conninfo").await;
    let tail = format!(
        "host=127.0.0.1 port={} sslmode=disable application_name=b1 krbsrvname=pg gssencmode=prefer channel_binding=prefer",
        a.upstream().port
    );
    assert!(
        conninfo.starts_with("dbname=postgres user=replicator passfile=") && conninfo.ends_with(&tail),
        "{conninfo}"
    );
    eventually(PATIENCE, "it streams again", async || running(&b).await.streaming.then_some(())).await;
    assert_eq!(waiting(&b).await, [""; 0]);
}
