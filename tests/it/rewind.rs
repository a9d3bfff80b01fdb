//! A former primary has what nobody else has.

use crate::support::*;
use pgherd_testkit::node::Node;
use pgherd_testkit::postgres::{replace_program, server_programs};
use serde_json::json;
use std::path::PathBuf;

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

/// pg_rewind does its work and does not end as long as that file is there.
fn hold_rewinds(node: &Node) -> PathBuf {
    let (real, hold) = (server_programs(), node.write_file("hold", ""));
    let (place, held) = (node.directory().join("bin"), hold.display());
    let rewind = real.join("pg_rewind");
    let script = format!("{} \"$@\"; code=$?; while [ -e {held} ]; do sleep 0.05; done; exit $code", rewind.display());
    replace_program(&place, &real, "pg_rewind", &script);
    let text = std::fs::read_to_string(node.config()).expect("the settings");
    let (before, after) = text.split_once("\n  bin_dir: ").expect("a line for the programs");
    let (_, after) = after.split_once('\n').expect("more lines");
    let text = format!("{before}\n  bin_dir: {}\n{after}", place.display());
    std::fs::write(node.config(), text).expect("write the settings");
    hold
}

#[test]
fn it_is_rewound_and_follows_where_that_is_configured_and_tells_how_far_it_is() {
    let mut cluster = Cluster::prepare(2, options());
    let holds: Vec<_> = cluster.nodes.iter().map(hold_rewinds).collect();
    cluster.nodes.iter_mut().for_each(Node::start);
    cluster.await_complete();
    configure(&cluster, json!({"postgresql": {"use_pg_rewind": true}}));
    let (old, new) = leave_behind(&mut cluster);
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    let node = &cluster.nodes[old];
    let progress = eventually(PATIENCE, "all is copied, and that is told", || {
        let told = node.status()["pgherd"]["progress"].clone();
        (told["done_bytes"].as_u64()? > 1 << 20 && told["done_bytes"] == told["total_bytes"]).then_some(told)
    });
    let event = await_event(node, "operation.progress", |data| data["total_bytes"] == progress["total_bytes"]);
    assert!(event["data"]["operation"].as_str().is_some_and(|name| name.contains("pg_rewind")), "{event}");
    std::fs::remove_file(&holds[old]).expect("let it end");
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
