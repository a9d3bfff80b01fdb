//! From one published status to the next: what happened in between. A pure function of the two, and of what is remembered
//! of the last change of the leader.

mod cluster;
mod node;
mod slots;

use pgherd_types::{Instant, MemberName, NodeStatus, millis};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Happening {
    /// Its kind, without `pgherd.`.
    pub kind: &'static str,
    /// What there is to say.
    pub data: Value,
}

impl Happening {
    /// This, of which there is that to say.
    pub fn new(kind: &'static str, data: Value) -> Self {
        Self { kind, data }
    }
}

/// The last status, and when the steps of a failover were seen.
#[derive(Default)]
pub struct Changes {
    last: Option<Arc<NodeStatus>>,
    phases: Phases,
}

/// Of the change of the leader that goes on.
#[derive(Clone, Default)]
struct Phases {
    /// Who led before.
    former: Option<MemberName>,
    /// Nobody leads since.
    leaderless_at: Option<Instant>,
    /// Reasons that were told since then: they come and go by the second.
    steps: BTreeSet<String>,
    /// This node has the leader key since.
    acquired_at: Option<Instant>,
    /// The operation under way began.
    operation_at: Option<Instant>,
    /// Tenths of the copy that were told.
    tenths: u64,
    /// What is known of slots, and which are safe.
    slot_notes: BTreeSet<(String, &'static str)>,
    safe_slots: BTreeSet<String>,
}

impl Changes {
    /// What happened since the last status; of the first one nothing is said but what it is.
    pub fn seen(&mut self, status: &Arc<NodeStatus>) -> Vec<Happening> {
        let mut happened = Vec::new();
        if let Some(last) = self.last.replace(status.clone()) {
            cluster::changes(&last, status, &mut self.phases, &mut happened);
            node::changes(&last, status, &mut self.phases, &mut happened);
        }
        happened
    }
}

/// Milliseconds from then to this status.
fn ms(since: Option<Instant>, status: &NodeStatus) -> Option<u64> {
    since.map(|since| millis(status.turned_at.since(since)))
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
