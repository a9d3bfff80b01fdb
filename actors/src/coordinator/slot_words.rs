//! What is said of slots: what an operator should know, once when it begins.

use pgherd_types::SlotNote;
use std::collections::BTreeSet;

/// A logical slot of a standby that is not safe to be used yet: nothing is wrong, it takes its time.
const NOT_SAFE_YET: &str = "not-safe-yet";
/// One that was not when the node was promoted.
const UNSAFE: &str = "unsafe";

/// What was said already.
#[derive(Default)]
pub(super) struct Told {
    notes: BTreeSet<(String, &'static str)>,
    safe: BTreeSet<String>,
}

impl Told {
    /// What is new among these.
    pub fn notes(&mut self, notes: &[SlotNote], safe: &BTreeSet<String>) {
        let now: BTreeSet<(String, &'static str)> = notes.iter().map(|note| (note.slot.clone(), note.state)).collect();
        let new = |note: &&SlotNote| !self.notes.contains(&(note.slot.clone(), note.state));
        let after_promotion: Vec<&str> =
            notes.iter().filter(new).filter(|note| note.state == UNSAFE).map(|note| note.slot.as_str()).collect();
        if !after_promotion.is_empty() {
            log::warn!(
                "Logical replication slots that might be unsafe to use after promote: {{'{}'}}",
                after_promotion.join("', '")
            );
        }
        for SlotNote { slot, state, text } in notes.iter().filter(new) {
            match *state {
                NOT_SAFE_YET => log::info!("replication slot {slot}: {text}"),
                _ => log::warn!("replication slot {slot}: {text}"),
            }
        }
        for slot in safe.difference(&self.safe) {
            log::info!("Logical slot {slot} is safe to be used after a failover");
        }
        (self.notes, self.safe) = (now, safe.clone());
    }
}
