//! What happened to replication slots: which are there, what an operator should know of one, which are safe.

use super::{Happening, Phases};
use pgherd_types::{NodeStatus, RunningServer, SlotNote};
use serde_json::json;
use std::collections::BTreeSet;

/// The slots that came and went.
pub fn changes(before: &RunningServer, after: &RunningServer, happened: &mut Vec<Happening>) {
    let names = |server: &RunningServer| server.slots.iter().map(|slot| slot.name.clone()).collect::<BTreeSet<_>>();
    let (was, is) = (names(before), names(after));
    if was != is {
        let added: Vec<_> = is.difference(&was).collect();
        let removed: Vec<_> = was.difference(&is).collect();
        happened.push(Happening::new("slots.changed", json!({"added": added, "removed": removed})));
    }
}

/// Notes that began and ended. While the server does not answer nothing is known of its slots, which is not their end.
pub fn notes(status: &NodeStatus, phases: &mut Phases, happened: &mut Vec<Happening>) {
    if status.postgres.as_ref().and_then(|postgres| postgres.running()).is_none() {
        return;
    }
    let key = |note: &SlotNote| (note.slot.clone(), note.state);
    for note in status.slot_notes.iter().filter(|note| !phases.slot_notes.contains(&key(note))) {
        let data = json!({"slot": note.slot, "note": note.state, "text": note.text});
        happened.push(Happening::new("slot.noted", data));
    }
    let now: BTreeSet<_> = status.slot_notes.iter().map(key).collect();
    for (slot, note) in phases.slot_notes.difference(&now) {
        happened.push(Happening::new("slot.note_over", json!({"slot": slot, "note": note})));
    }
    phases.slot_notes = now;
    for slot in status.safe_slots.difference(&phases.safe_slots) {
        happened.push(Happening::new("slot.safe", json!({"slot": slot})));
    }
    phases.safe_slots.clone_from(&status.safe_slots);
}
