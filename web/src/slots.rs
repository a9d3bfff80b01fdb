//! Replication slots in the status document, under `pgherd`: each slot with what it holds back, and which logical slots are safe
//! to be used once this node leads.

use pgherd_types::node_status::NodeStatus;
use pgherd_types::{SeenSlot, SlotNote};
use serde_json::{Map, Value, json};

/// `slots` and `safe_slots`; nothing while the server does not answer.
pub fn shown(status: &NodeStatus) -> Vec<(String, Value)> {
    let Some(running) = status.postgres.as_ref().and_then(|postgres| postgres.running()) else { return Vec::new() };
    let mut slots: Map<String, Value> =
        running.slots.iter().map(|slot| (slot.name.clone(), Value::Object(of(slot)))).collect();
    for SlotNote { slot, state, text } in &status.slot_notes {
        // a slot that is not there has notes, too
        if let Some(shown) = slots.entry(slot.clone()).or_insert_with(|| json!({})).as_object_mut() {
            let notes = shown.entry("notes").or_insert_with(|| json!({}));
            notes[*state] = text.as_str().into();
        }
    }
    let mut parts = Vec::new();
    if status.settings.slots.logical().next().is_some() {
        parts.push(("safe_slots".to_owned(), json!(status.safe_slots)));
    }
    if !slots.is_empty() {
        parts.push(("slots".to_owned(), Value::Object(slots)));
    }
    parts
}

fn of(slot: &SeenSlot) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| drop(shown.insert(key.to_owned(), value));
    put("type", if slot.physical { "physical" } else { "logical" }.into());
    if let (Some(database), Some(plugin)) = (&slot.database, &slot.plugin) {
        put("database", database.as_str().into());
        put("plugin", plugin.as_str().into());
    }
    put("active", slot.active.into());
    put("managed", slot.managed.into());
    if let Some(position) = slot.position() {
        put("position", position.0.into());
    }
    if let Some(held) = slot.held_bytes {
        put("held_bytes", held.into());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{primary, server_of};
    use pgherd_types::{Decoding, Lsn, PermanentSlot, SlotKind};

    #[test]
    fn slots_are_shown_with_what_they_hold_back_and_what_is_wrong_with_them() {
        let mut status = primary();
        let (name, at) = ("b".to_owned(), Some(Lsn(900)));
        let slot = SeenSlot { name, physical: true, restart_lsn: at, held_bytes: Some(100), ..SeenSlot::default() };
        server_of(&mut status).slots = vec![slot];
        let note = |slot: &str, text: &str| SlotNote { slot: slot.into(), state: "unknown", text: text.into() };
        status.slot_notes = vec![note("b", "whose?"), note("gone", "not here")];
        assert!(!super::shown(&status).iter().any(|(name, _)| name == "safe_slots"), "it says nothing of none");
        let decoding = Decoding { database: "db".into(), plugin: "pgoutput".into() };
        let cdc = PermanentSlot { kind: SlotKind::Logical(decoding), in_standby_cluster: None };
        status.settings.slots.permanent.insert("cdc".into(), cdc);
        status.safe_slots = ["cdc".to_owned()].into();
        let shown: Map<String, Value> = super::shown(&status).into_iter().collect();
        let b = json!({"type": "physical", "active": false, "managed": false, "position": 900, "held_bytes": 100,
            "notes": {"unknown": "whose?"}});
        assert_eq!(shown["slots"], json!({"b": b, "gone": {"notes": {"unknown": "not here"}}}));
        assert_eq!(shown["safe_slots"], json!(["cdc"]));
    }
}
