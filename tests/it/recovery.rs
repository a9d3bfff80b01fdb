//! A primary crashes and should not, or cannot, simply be started again.

use crate::support::*;
use serde_json::json;

#[test]
fn where_a_crashed_primary_is_not_to_start_again_another_node_leads() {
    let mut cluster = cluster(2);
    configure(&cluster, json!({"primary_start_timeout": 0, "postgresql": {"use_pg_rewind": true}}));
    let old = cluster.await_primary();
    cluster.nodes[old].sql("CREATE TABLE ledger (id bigint PRIMARY KEY)");
    cluster.await_caught_up(old, 1 - old);
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].kill_postmaster();
    cluster.nodes[old].await_log(mark, "stopped PostgreSQL to fail over after a crash");
    eventually(PATIENCE, "the other leads", || (cluster.primary()? == 1 - old).then_some(()));
    assert_eq!(cluster.await_complete(), 1 - old);
}

#[test]
fn without_anybody_else_it_is_started_again_all_the_same() {
    let cluster = cluster(1);
    configure(&cluster, json!({"primary_start_timeout": 0}));
    let postmaster = cluster.nodes[0].postmaster();
    cluster.nodes[0].kill_postmaster();
    eventually(PATIENCE, "it serves again", || {
        let answers = cluster.nodes[0].try_sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == ["f"]);
        (answers && cluster.nodes[0].postmaster() != postmaster).then_some(())
    });
    assert_eq!(timeline(&cluster.nodes[0]), 1);
}

#[test]
fn a_primary_that_crashes_again_and_again_makes_room() {
    let mut cluster = cluster(2);
    configure(&cluster, json!({"postgresql": {"use_pg_rewind": true}}));
    let old = cluster.await_primary();
    for _ in 0..2 {
        let mark = cluster.nodes[old].log_mark();
        let postmaster = cluster.nodes[old].postmaster();
        cluster.nodes[old].kill_postmaster();
        cluster.nodes[old].await_log(mark, "starting primary after failure");
        eventually(PATIENCE, "it serves again", || {
            let leads = cluster.nodes[old].reason() == "LeaderWithLock";
            (leads && cluster.nodes[old].postmaster() != postmaster).then_some(())
        });
        assert_eq!(timeline(&cluster.nodes[old]), 1);
        cluster.await_caught_up(old, 1 - old);
    }
    cluster.nodes[old].kill_postmaster();
    eventually(PATIENCE, "the other leads", || (cluster.primary()? == 1 - old).then_some(()));
    assert_eq!(cluster.await_complete(), 1 - old);
}

#[test]
fn a_start_that_hangs_makes_room_for_another_node() {
    let mut cluster = cluster(2);
    configure(&cluster, json!({"primary_start_timeout": 3, "postgresql": {"use_pg_rewind": true}}));
    let old = cluster.await_primary();
    cluster.nodes[old].sql("CREATE TABLE ledger (id bigint PRIMARY KEY)");
    cluster.await_caught_up(old, 1 - old);
    // whoever opens this file to read it waits for a writer that never comes
    let segment = cluster.nodes[old].sql("SELECT pg_walfile_name(pg_current_wal_lsn())").remove(0);
    let place = cluster.nodes[old].data_dir().join("pg_wal").join(segment);
    let aside = place.with_extension("aside");
    std::fs::rename(&place, &aside).expect("move a segment");
    let made = std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&place).status();
    assert!(made.expect("mkfifo").success());
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].kill_postmaster();
    cluster.nodes[old].await_log(mark, "stopped PostgreSQL because of startup timeout");
    eventually(PATIENCE, "the other leads", || (cluster.primary()? == 1 - old).then_some(()));
    std::fs::rename(&aside, &place).expect("put the segment back");
    assert_eq!(cluster.await_complete(), 1 - old);
}
