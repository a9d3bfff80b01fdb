//! A former primary has what nobody else has.

use crate::support::*;
use serde_json::json;

/// Makes the primary write rows that no replica receives, and ends its node; the place of the old and the new primary.
fn leave_behind(cluster: &mut Cluster) -> (usize, usize) {
    let old = cluster.await_primary();
    cluster.nodes[old].sql("CREATE TABLE ledger (id bigint PRIMARY KEY)");
    cluster.others(old).into_iter().for_each(|n| cluster.await_caught_up(old, n));
    cluster.nodes[old].pg_link.cut();
    cluster.nodes[old].sql("INSERT INTO ledger SELECT generate_series(1, 1000)");
    cluster.nodes[old].kill_node();
    let new = cluster.await_primary();
    assert_ne!(new, old);
    cluster.nodes[new].sql("INSERT INTO ledger VALUES (-1)");
    cluster.nodes[old].pg_link.heal();
    (old, new)
}

#[test]
fn it_is_rewound_and_follows_where_that_is_configured() {
    let mut cluster = cluster(2);
    configure(&cluster, json!({"postgresql": {"use_pg_rewind": true}}));
    let (old, new) = leave_behind(&mut cluster);
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    cluster.await_streaming(old);
    assert!(cluster.nodes[old].logged_since(mark, "running pg_rewind from").is_some());
    assert!(!was_cloned_since(&cluster.nodes[old], mark));
    cluster.await_caught_up(new, old);
    assert_eq!(cluster.nodes[old].rows().expect("rows"), [-1]);
    assert_eq!(cluster.primary(), Some(new));
}

#[test]
fn otherwise_its_data_are_left_alone_and_a_new_copy_is_made_when_somebody_asks() {
    let mut cluster = cluster(2);
    let (old, new) = leave_behind(&mut cluster);
    cluster.nodes[old].start();
    eventually(PATIENCE, "it says that it has diverged", || (cluster.nodes[old].reason() == "Diverged").then_some(()));
    let before = data_files(&cluster.nodes[old].data_dir());
    assert!(!cluster.nodes[old].postgres_is_alive());
    let member = format!("members/{}", cluster.nodes[old].name);
    eventually(PATIENCE, "its member key says so, too", || {
        cluster.keys().get(&member)?.json()["pgherd_reason"].as_str()?.contains("diverged").then_some(())
    });
    assert!(data_files(&cluster.nodes[old].data_dir()) == before, "data were changed");

    assert_eq!(send(&cluster.nodes[old], "POST", "/reinitialize", &json!({"from_leader": true})).0, 200);
    cluster.await_streaming(old);
    cluster.await_caught_up(new, old);
    assert_eq!(cluster.nodes[old].rows().expect("rows"), [-1]);
}

#[test]
fn a_timeline_is_never_used_by_two_nodes() {
    // The old primary is promoted once more while nobody hears of it, and dies: the number it wrote on is not used again.
    let mut cluster = cluster(2);
    configure(&cluster, json!({"postgresql": {"use_pg_rewind": true}}));
    let first = cluster.await_primary();
    cluster.await_caught_up(first, 1 - first);
    let mark = cluster.nodes[first].log_mark();
    cluster.nodes[1 - first].kill_node();
    cluster.nodes[first].cut_etcd();
    cluster.nodes[first].await_log(mark, "demoting self");
    // before that the key is still its own, and it would go on as it was
    eventually(PATIENCE, "its lease lapses", || cluster.keys().get("leader").is_none().then_some(()));
    cluster.nodes[first].heal_etcd();
    cluster.await_primary();
    eventually(PATIENCE, "it was promoted anew", || (timeline(&cluster.nodes[first]) == 2).then_some(()));
    cluster.nodes[first].sql("CREATE TABLE only_here ()");
    cluster.nodes[first].kill_node();
    cluster.nodes[1 - first].start();
    let second = cluster.await_primary();
    assert_eq!(second, 1 - first);
    assert_eq!(timeline(&cluster.nodes[second]), 3, "2 was taken");
    cluster.nodes[first].start();
    cluster.await_streaming(first);
    cluster.await_caught_up(second, first);
    assert_eq!(cluster.nodes[first].sql("SELECT count(*) FROM pg_class WHERE relname = 'only_here'"), ["0"]);
}
