//! A node whose copy of a logical slot is not safe.

use super::*;

/// From 17 on servers copy slots from a primary only, so the third has none.
fn fed_by_a_standby(cluster: &Cluster) -> usize {
    assert_eq!(cluster.nodes[2].sql("SHOW sync_replication_slots"), ["off"], "it would fail again and again");
    2
}

/// Rows that the second needs are kept no more, and its server begins anew.
fn without_feedback(cluster: &Cluster) -> usize {
    await_safe(&cluster.nodes[2]);
    let second = &cluster.nodes[1];
    second.sql("ALTER SYSTEM SET hot_standby_feedback = off");
    // with a logical slot PostgreSQL would not start below wal_level logical
    configure(cluster, json!({"postgresql": {"parameters": {"wal_level": "replica"}}}));
    let pending = || second.status()["pending_restart"].as_bool()?.then_some(());
    eventually(PATIENCE, "the lower wal_level waits for a restart", pending);
    let (code, text) = send(second, "POST", "/restart", &json!({}));
    assert_eq!(code, 200, "{text}");
    second.await_log(0, "wal_level stays logical");
    assert_eq!(second.sql("SHOW wal_level"), ["logical"]);
    configure(cluster, json!({"postgresql": {"parameters": {"wal_level": "logical"}}}));
    1
}

#[test]
fn a_node_without_a_safe_copy_is_switched_to_only_by_a_failover_and_says_so_afterwards() {
    let cluster = prepared(3);
    // the third is fed by the second
    cluster.nodes[2].add_section("tags:\n  replicatefrom: pg2");
    let mut cluster = cluster;
    cluster.nodes[0].start();
    assert_eq!(cluster.await_primary(), 0);
    cluster.nodes[1].start();
    cluster.await_streaming(1);
    cluster.nodes[2].start();
    let fed = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
    eventually(PATIENCE, "pg3 streams from pg2", || (cluster.nodes[1].try_sql(fed).ok()? == ["pg3"]).then_some(()));
    // somebody's own slots
    cluster.nodes[0].sql("SELECT pg_create_physical_replication_slot('theirs', true)");
    configure(&cluster, json!({"slots": {"cdc": logical()}, "slot_wal_warning": "1MB"}));
    await_safe(&cluster.nodes[1]);
    assert_eq!(cluster.nodes[1].sql("SHOW hot_standby_feedback"), ["on"]);
    let bare = if copies_by_itself(&cluster) { fed_by_a_standby(&cluster) } else { without_feedback(&cluster) };
    let (node, name) = (&cluster.nodes[bare], cluster.nodes[bare].name.clone());
    let why = await_note(node, "cdc", "not-safe-yet");
    assert!(why.contains("not safe to be used after a failover to this node"), "{why}");
    // before that, the request is accepted, and the leader itself refuses a moment later
    eventually(PATIENCE, "the leader has told of the slot", || {
        cluster.keys().get("status")?.json()["slots"]["cdc"].is_u64().then_some(())
    });
    let refused = format!("{name} has no safe copy of logical slots: cdc");
    let (code, text) = send(&cluster.nodes[0], "POST", "/switchover", &json!({"leader": "pg1", "candidate": name}));
    assert!(code == 412 && text.contains(&refused), "{code} {text}");
    let mark = cluster.nodes[0].log_mark();
    cluster.keys().put("failover", json!({"leader": "pg1", "member": name}).to_string().as_bytes(), 0);
    let (_, line) = cluster.nodes[0].await_log(mark, "Cleaning up failover key");
    assert!(line.contains(&refused), "{line}");
    assert_eq!(cluster.primary(), Some(0));

    // what is not the agent's is named and left alone
    cluster.nodes[0].sql("CREATE TABLE bulk AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
    let unknown = await_note(&cluster.nodes[0], "theirs", "unknown");
    assert!(unknown.contains("leaves it alone"), "{unknown}");
    await_note(&cluster.nodes[0], "theirs", "holds-wal");
    cluster.nodes[0].await_log(0, "replication slot theirs: it holds back");
    assert_eq!(has_slot(&cluster.nodes[0], "theirs"), Some(true));

    cluster.await_caught_up(0, bare);
    let (code, text) = send(&cluster.nodes[0], "POST", "/failover", &json!({"candidate": name}));
    assert_eq!(code, 200, "{text}");
    node.await_log(0, "Logical replication slots that might be unsafe to use after promote: {'cdc'}");
    await_note(node, "cdc", "unsafe");
    eventually(PATIENCE, "the events tell of it before and after the promotion", || {
        let events = node.get("/events?limit=1000&type=slot.noted")?.json()["events"].clone();
        let told = |note: &str| {
            let tells = |event: &Value| event["data"]["slot"] == "cdc" && event["data"]["note"] == note;
            events.as_array()?.iter().position(tells)
        };
        (told("not-safe-yet")? < told("unsafe")?).then_some(())
    });
}
