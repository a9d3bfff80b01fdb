//! The life of real servers: bootstrap, clone, promotion, adoption.

use crate::servers::{PATIENCE, free, primary, running, standby};
use pgherd_postgres::{Alive, alive, follow, observe, promote, start_primary, start_replica, stop_fast};
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::postgres::{TestDir, TestPostgres, options};
use pgherd_types::postgres::ControlState;
use pgherd_types::{Server, Timeline};

#[tokio::test]
async fn a_new_cluster_is_made_started_seen_and_stopped() {
    let dir = TestDir::new();
    let it = TestPostgres::bootstrapped(options("a1", dir.path())).await.unwrap();
    let look = observe(&it.server).await.state;
    assert_eq!(look.server, Server::Stopped);
    assert_eq!(look.control().unwrap().state, ControlState::ShutDown);
    start_primary(&it.server, &free()).unwrap();
    let seen = running(&it).await;
    assert!(!seen.in_recovery && !seen.flushed.is_zero());
    assert_eq!((seen.timeline, seen.server_version / 10_000, seen.upstream), (Some(Timeline(1)), 15, None));
    let roles = it.sql("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1").await.unwrap();
    assert_eq!(roles, ["postgres", "replicator", "rewinder"]);
    let setting = it.sql("SELECT source FROM pg_settings WHERE name = 'max_connections'").await.unwrap();
    assert_eq!(setting, ["command line"]);
    stop_fast(&it.server, &free()).await.unwrap();
    assert_eq!(alive(&it.server.options().data_dir), Alive::Nothing);
    assert_eq!(observe(&it.server).await.state.control().unwrap().state, ControlState::ShutDown);
}

#[tokio::test]
async fn a_parameter_the_server_refuses_does_not_keep_it_from_starting() {
    let dir = TestDir::new();
    let mut options = options("a1", dir.path());
    let sockets = dir.path().join("made").join("for it");
    for (name, value) in [
        ("nonsense", "1"),
        ("work_mem", "lots"),
        ("jit", "off"),
        ("wal_consistency_checking", "heap"),
        ("my.own", "it's"),
        ("unix_socket_directories", sockets.to_str().unwrap()),
    ] {
        options.parameters.insert(name.to_owned(), value.to_owned());
    }
    options.use_unix_socket = true;
    let it = TestPostgres::bootstrapped(options).await.unwrap();
    start_primary(&it.server, &free()).unwrap();
    running(&it).await;
    let query =
        "SELECT current_setting(n) FROM unnest(ARRAY['work_mem', 'jit', 'wal_consistency_checking', 'my.own']) n";
    assert_eq!(it.sql(query).await.unwrap(), ["4MB", "off", "heap", "it's"]);
}

#[tokio::test]
async fn a_promotion_takes_exactly_the_reserved_timeline_and_standbys_follow_over_the_gap() {
    let dir = TestDir::new();
    let a = primary(&dir, "a1").await;
    let b = standby(&dir, "b1", &a).await;
    let c = standby(&dir, "c1", &a).await;
    a.sql("CREATE TABLE t AS SELECT 1 AS n").await.unwrap();
    eventually(PATIENCE, "both stream", async || {
        (running(&b).await.streaming && running(&c).await.streaming).then_some(())
    })
    .await;
    assert_eq!(running(&b).await.upstream, Some(("127.0.0.1".to_owned(), a.server.options().listen_port)));
    stop_fast(&a.server, &free()).await.unwrap();

    promote(&b.server, Timeline(5), &free()).await.unwrap();
    let seen = running(&b).await;
    assert_eq!((seen.in_recovery, seen.timeline), (false, Some(Timeline(5))));
    assert_eq!(seen.history.iter().map(|r| r.timeline.0).collect::<Vec<_>>(), [1]);
    b.sql("INSERT INTO t VALUES (2); SELECT pg_create_physical_replication_slot('c1'); SELECT pg_create_physical_replication_slot('a1')").await.unwrap();
    follow(&c.server, Some(&b.upstream()), &free()).await.unwrap();
    let has_row = async |it: &TestPostgres, n: u32| {
        it.sql(&format!("SELECT n FROM t WHERE n = {n}")).await.ok().filter(|r| !r.is_empty())
    };
    eventually(PATIENCE, "the standby follows to timeline 5", async || has_row(&c, 2).await).await;
    assert_eq!(running(&c).await.timeline, Some(Timeline(5)));

    // The old primary stopped in order, so it follows too, over the same gap and after a restart.
    start_replica(&a.server, Some(&b.upstream()), &free()).unwrap();
    eventually(PATIENCE, "the old primary follows", async || has_row(&a, 2).await).await;
    stop_fast(&a.server, &free()).await.unwrap();
    start_replica(&a.server, Some(&b.upstream()), &free()).unwrap();

    // And again, with another gap.
    stop_fast(&b.server, &free()).await.unwrap();
    promote(&c.server, Timeline(9), &free()).await.unwrap();
    c.sql("INSERT INTO t VALUES (3); SELECT pg_create_physical_replication_slot('a1'); SELECT pg_create_physical_replication_slot('b1')").await.unwrap();
    follow(&a.server, Some(&c.upstream()), &free()).await.unwrap();
    eventually(PATIENCE, "the third leader is followed", async || has_row(&a, 3).await).await;
    start_replica(&b.server, Some(&c.upstream()), &free()).unwrap();
    eventually(PATIENCE, "by both", async || has_row(&b, 3).await).await;
    assert_eq!(running(&a).await.timeline, Some(Timeline(9)));
    let history = running(&c).await.history;
    assert_eq!(history.iter().map(|r| r.timeline.0).collect::<Vec<_>>(), [1, 5]);
}

/// The control file would still say 1: no restartpoint was made since the switch.
#[tokio::test]
async fn a_standby_without_a_leader_knows_the_timeline_it_has_replayed() {
    let dirs = [TestDir::new(), TestDir::new(), TestDir::new()];
    let first = primary(&dirs[0], "first").await;
    let (second, third) = (standby(&dirs[1], "second", &first).await, standby(&dirs[2], "third", &first).await);
    first.server.kill_all().unwrap();
    promote(&second.server, Timeline(2), &free()).await.unwrap();
    second.sql("SELECT pg_create_physical_replication_slot('third')").await.unwrap();
    follow(&third.server, Some(&second.upstream()), &free()).await.unwrap();
    eventually(PATIENCE, "the third streams on timeline 2", async || {
        let now = running(&third).await;
        (now.streaming && now.timeline == Some(Timeline(2))).then_some(())
    })
    .await;
    second.server.kill_all().unwrap();
    eventually(PATIENCE, "the third has lost its upstream", async || (!running(&third).await.streaming).then_some(()))
        .await;
    assert_eq!(running(&third).await.timeline, Some(Timeline(2)));
}
