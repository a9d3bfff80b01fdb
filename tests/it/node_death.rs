//! The node of the primary dies: agent and PostgreSQL at once.

use crate::support::*;
use pgherd_testkit::writer::Ack;
use std::collections::BTreeSet;

fn ids(acks: &[Ack]) -> BTreeSet<i64> {
    acks.iter().map(|ack| ack.id).collect()
}

#[test]
fn a_replica_leads_when_the_lease_has_lapsed_and_the_old_primary_rejoins() {
    let mut cluster = cluster(3);
    let old = cluster.await_primary();
    let old_name = cluster.nodes[old].name.clone();
    let before = leader_key(&cluster);
    let watch = LeaderWatch::start(cluster.keys());
    let writer = cluster.write();
    cluster.await_acks(&writer, 100);

    // What every replica has confirmed must survive; nothing more is written, so the old primary cannot diverge.
    let confirmed = ids(&writer.stop());
    cluster.others(old).into_iter().for_each(|n| cluster.await_caught_up(old, n));
    cluster.nodes[old].kill_node();
    let killed = Instant::now();
    let names_old = leader_key(&cluster);
    assert_eq!(names_old.create_revision, before.create_revision, "the key outlives the node");

    let writer = cluster.write_on(1_000_000);
    cluster.await_acks(&writer, 20);
    let new = cluster.await_primary();
    assert_ne!(new, old);
    lapse_came_before_promotion(&cluster, &watch, &old_name, &before, killed, &writer.acks());
    timeline_was_reserved_and_recorded(&cluster, new);
    drop(writer);
    let rows: BTreeSet<i64> = cluster.nodes[new].rows().expect("rows").into_iter().collect();
    assert_eq!(confirmed.difference(&rows).count(), 0, "rows that replicas had confirmed are missing");

    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    cluster.await_streaming(old);
    assert!(!was_cloned_since(&cluster.nodes[old], mark), "its data are used as they are");
    cluster.await_caught_up(new, old);
    assert_eq!(cluster.nodes[old].rows(), cluster.nodes[new].rows());
    assert_eq!(cluster.primary(), Some(new), "the one that leads goes on leading");
}

/// Order: the key named the dead node after its death; it went with its lease; only then was there a new leader, and
/// only after that a first write.
fn lapse_came_before_promotion(
    cluster: &Cluster,
    watch: &LeaderWatch,
    old: &str,
    before: &pgherd_testkit::keys::Key,
    killed: Instant,
    acks: &[Ack],
) {
    let last_seen = watch.last_naming(old).expect("the old leader was seen");
    assert!(last_seen.ended > killed, "the key named the old leader after its death");
    assert!(acks[0].at > last_seen.begun, "nothing is written while the key names the dead node");
    assert_eq!(cluster.keys().seconds_left(before.lease), None, "its lease has lapsed");
    assert_eq!(cluster.keys().get(&format!("members/{old}")), None, "and took the member key with it");
}

fn timeline_was_reserved_and_recorded(cluster: &Cluster, new: usize) {
    assert_eq!(cluster.keys().get("timeline").expect("a timeline key").text(), "2");
    assert_eq!(timeline(&cluster.nodes[new]), 2);
    let history = eventually(PATIENCE, "the history key", || cluster.keys().get("history"));
    let rows = history.json();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert_eq!((&rows[0][0], &rows[0][4]), (&1.into(), &cluster.nodes[new].name.as_str().into()), "{rows}");
    let on_disk = cluster.nodes[new].sql("SELECT pg_read_file('pg_wal/00000002.history')").remove(0);
    let position: pgherd_types::Lsn = on_disk.split('\t').nth(1).expect("a position").parse().expect("a position");
    assert_eq!(rows[0][1], position.0, "{rows} {on_disk}");
    assert_eq!(history.text(), rows.to_string(), "compact");
}

#[test]
fn an_old_primary_that_has_diverged_is_left_alone_with_its_reason() {
    let mut cluster = cluster(3);
    let old = cluster.await_primary();
    let writer = cluster.write();
    cluster.await_acks(&writer, 20);
    // From here on no replica receives anything, and the primary acknowledges alone.
    cluster.nodes[old].pg_link.cut();
    eventually(PATIENCE, "nobody streams", || cluster.streaming_from(old).filter(Vec::is_empty));
    cluster.await_acks(&writer, 50);
    let confirmed: BTreeSet<i64> =
        cluster.others(old).into_iter().flat_map(|n| cluster.nodes[n].rows().expect("rows")).collect();
    let written = writer.acks().last().expect("an acknowledged row").id;
    let watch = LeaderWatch::start(cluster.keys());
    cluster.nodes[old].kill_node();
    eventually(PATIENCE, "another node accepts writes", || {
        writer.acks().iter().any(|ack| ack.node != old).then_some(())
    });
    let new = cluster.await_primary();
    let seen = watch.last_naming(&cluster.nodes[old].name).expect("the old leader was seen");
    let acks = writer.stop();
    let (before, after): (Vec<Ack>, Vec<Ack>) = acks.into_iter().partition(|ack| ack.node == old);
    assert!(before.iter().all(|ack| ack.at < after[0].at), "the order of acknowledgements");
    assert!(after[0].at > seen.begun, "the new primary wrote while the key named the old one");
    let rows: BTreeSet<i64> = cluster.nodes[new].rows().expect("rows").into_iter().collect();
    assert_eq!(confirmed.difference(&rows).count(), 0, "rows that a replica had confirmed are missing");
    assert!(!rows.contains(&written), "the old primary has a row of its own");

    cluster.nodes[old].pg_link.heal();
    let data = data_files(&cluster.nodes[old].data_dir());
    let mark = cluster.nodes[old].log_mark();
    cluster.nodes[old].start();
    let status = eventually(PATIENCE, "the node says why it is left alone", || {
        Some(cluster.nodes[old].status()).filter(|doc| doc["pgherd"]["reason"]["id"] == "Diverged")
    });
    let why = status["pgherd"]["reason"]["text"].as_str().expect("a text").to_owned();
    assert!(why.contains("timeline 1 ended at"), "{why}");
    let (_, logged) = cluster.nodes[old].await_log(mark, &why);
    assert!(logged.contains(" ERROR: "), "{logged}");
    let key = format!("members/{}", cluster.nodes[old].name);
    let member = eventually(PATIENCE, "its member key says why", || {
        cluster.keys().get(&key).map(|key| key.json()).filter(|doc| doc["pgherd_reason"] == why.as_str())
    });
    assert_eq!((&member["state"], &status["state"]), (&"stopped".into(), &"stopped".into()));
    let list = cluster.run(new, &["list"]);
    assert!(list.contains(&why), "the list says why:\n{list}");
    assert_eq!(cluster.nodes[old].postmaster(), None);
    assert!(!was_cloned_since(&cluster.nodes[old], mark));
    let untouched = data_files(&cluster.nodes[old].data_dir()) == data;
    assert!(untouched, "its data have been changed");
    assert_eq!(cluster.nodes[old].check("/health"), Some(503));
    assert_eq!(cluster.primary(), Some(new));
}
