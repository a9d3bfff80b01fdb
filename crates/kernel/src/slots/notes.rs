//! What an operator should know of slots: shown by REST, and logged when it begins.

use super::wanted::Wants;
use super::{major_version, unsafe_slots, wanted};
use crate::View;
use pgherd_types::{Cluster, Instant, RunningServer, SeenSlot, SlotKind, SlotNote};

/// All of it.
pub fn notes(view: &View, now: Instant) -> Vec<SlotNote> {
    let running = view.postgres.get().and_then(|p| p.running());
    let (Some(cluster), Some(running)) = (view.cluster.get(), running) else { return Vec::new() };
    if !view.settings.use_slots {
        return Vec::new();
    }
    let wants = wanted(view, cluster, running, now);
    let mut notes = wants.refused.clone();
    notes.extend(running.slots.iter().flat_map(|slot| of_slot(view, running, &wants, slot)));
    notes.extend(failing(view, running));
    notes.extend(not_safe(view, cluster, running, now));
    notes.sort();
    notes
}

fn note(slot: &str, state: &'static str, text: String) -> SlotNote {
    SlotNote { slot: slot.to_owned(), state, text }
}

fn of_slot(view: &View, running: &RunningServer, wants: &Wants, slot: &SeenSlot) -> Vec<SlotNote> {
    let settings = &view.settings.slots;
    let mut notes = Vec::new();
    if let Some(held) = slot.held_bytes.filter(|_| view.slots.holding.contains(&slot.name)) {
        let text = format!(
            "it holds back {held} bytes of WAL (slot_wal_warning is {}): see to its consumer, drop it if nobody needs it, or \
             limit it by max_slot_wal_keep_size",
            settings.wal_warning
        );
        notes.push(note(&slot.name, "holds-wal", text));
    }
    let ignored = settings.ignore.iter().any(|matcher| matcher.matches(slot));
    match wants.slots.get(&slot.name) {
        None if slot.managed || ignored || slot.failover || slot.synced || settings.drop_unknown => {}
        None => {
            let text = format!(
                "the agent does not know this {} slot and leaves it alone; if it is needed, put it into slots or \
                 ignore_slots, else drop it (pg_drop_replication_slot): it keeps WAL",
                if slot.physical { "physical" } else { "logical" }
            );
            notes.push(note(&slot.name, "unknown", text));
        }
        Some(wanted) => notes.extend(of_wanted(running, slot, &wanted.kind)),
    }
    notes
}

fn of_wanted(running: &RunningServer, slot: &SeenSlot, kind: &SlotKind) -> Option<SlotNote> {
    match kind {
        SlotKind::Physical if !slot.physical => {
            Some(note(&slot.name, "differs", "it is a logical slot, and a physical one is wanted".to_owned()))
        }
        SlotKind::Logical(decoding) if !slot.decodes(decoding) => {
            let text = "its kind, database or plugin is not what slots says; it is made anew only if the agent made it and \
                        nobody uses it";
            Some(note(&slot.name, "differs", text.to_owned()))
        }
        SlotKind::Logical(_) if slot.lost && !running.in_recovery => {
            let text = "WAL or rows that it needs are gone, its consumer cannot go on; once the consumer was made anew, drop \
                        the slot (pg_drop_replication_slot) and the agent makes a new one";
            Some(note(&slot.name, "lost", text.to_owned()))
        }
        SlotKind::Logical(_) if major_version(running) >= super::NATIVE_FAILOVER && !slot.failover => {
            let text = "it was made without failover=true, so the server does not keep it on standbys; drop it when its \
                        consumer can do without, and the agent makes it anew";
            (!running.in_recovery).then(|| note(&slot.name, "no-failover", text.to_owned()))
        }
        SlotKind::Physical | SlotKind::Logical(_) => None,
    }
}

fn failing(view: &View, running: &RunningServer) -> Vec<SlotNote> {
    let told = view.slots.failing.iter().filter(|_| !running.in_recovery);
    told.map(|(name, failing)| note(name, "failing", format!("it could not be changed: {}", failing.fault.text)))
        .collect()
}

/// On a standby those that would not be safe now; on a primary those that were not when it was promoted.
fn not_safe(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Vec<SlotNote> {
    let standby = unsafe_slots(view, cluster, running, now);
    let text = |why: &String| format!("not safe to be used after a failover to this node: {why}");
    let mut notes: Vec<SlotNote> = standby.iter().map(|(name, why)| note(name, "not-safe-yet", text(why))).collect();
    let promoted = view.slots.unsafe_when_promoted.iter().filter(|_| !running.in_recovery);
    notes.extend(promoted.map(|(name, why)| {
        let text = format!(
            "it was not safe when this node was promoted ({why}): its consumer may miss rows or fail; compare it with the \
             tables, and make it anew if in doubt"
        );
        note(name, "unsafe", text)
    }));
    notes
}
