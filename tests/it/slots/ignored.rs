//! Slots of another tool beside the agent's.

use super::*;

const TOOLS: [&str; 2] = ["tool_wal", "tool_rows"];

/// Which of the tool's slots are there, and how far they are.
fn of_tool(node: &Node) -> Vec<String> {
    let text = "SELECT slot_name || ' ' || restart_lsn || ' ' || COALESCE(confirmed_flush_lsn::text, '')
                FROM pg_replication_slots WHERE slot_name IN ('tool_wal', 'tool_rows') ORDER BY 1";
    node.sql(text)
}

fn make_stray(node: &Node, stray: &str) {
    node.sql(&format!("SELECT pg_create_physical_replication_slot('{stray}', true)"));
}

/// What the agent does not know it drops: by then it has looked at all slots.
fn await_sweep(node: &Node, stray: &str) {
    let what = format!("{stray} is dropped on {}", node.name);
    eventually(PATIENCE, &what, || (!has_slot(node, stray)?).then_some(()));
}

#[test]
fn an_ignored_slot_is_neither_dropped_nor_moved_nor_reported_through_a_switchover() {
    let mut cluster = started(prepared(2));
    let old = cluster.await_primary();
    let new = 1 - old;
    let ignored = json!([{"name": "tool_wal"}, {"type": "logical", "database": "postgres", "plugin": "test_decoding"}]);
    configure(&cluster, json!({"ignore_slots": ignored}));
    // the tool has a slot on each server, and one that only a primary can have
    for node in &cluster.nodes {
        node.sql("SELECT pg_create_physical_replication_slot('tool_wal', true)");
    }
    cluster.nodes[old].sql("SELECT pg_create_logical_replication_slot('tool_rows', 'test_decoding')");
    let before: Vec<_> = cluster.nodes.iter().map(of_tool).collect();
    assert_eq!((before[old].len(), before[new].len()), (2, 1));
    for node in &cluster.nodes {
        make_stray(node, "stray");
        await_note(node, "stray", "unknown");
        let slots = own(node, "slots");
        assert!(TOOLS.iter().all(|slot| slots[slot]["notes"].is_null()), "{slots}");
    }

    configure(&cluster, json!({"drop_unknown_slots": "always"}));
    for node in &cluster.nodes {
        await_sweep(node, "stray");
    }
    switch_to(&mut cluster, old, new);
    cluster.nodes[new].sql("CREATE TABLE more AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)");
    cluster.await_caught_up(new, old);
    for node in &cluster.nodes {
        make_stray(node, "another");
        await_sweep(node, "another");
    }
    let after: Vec<_> = cluster.nodes.iter().map(of_tool).collect();
    assert_eq!(after, before);

    // it is the rule that kept them
    configure(&cluster, json!({"ignore_slots": null}));
    for slot in TOOLS {
        await_slot(&cluster, slot, false);
    }
}
