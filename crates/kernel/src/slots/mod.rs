//! Replication slots (spec/slots.md): which ones this node should have, what is to be changed for that, and what the others
//! must know of them.
//!
//! Every member that may lead keeps a slot for each member that may stream from it, now or after a failover, and the
//! permanent ones of the configuration. The leader publishes in `status` how far the consumers are; the others move their
//! own slots there. A logical slot cannot be made on a standby: it begins as a copy of the leader's (`copy`) and is safe to be used only once
//! nothing it needs can have been removed here (`ready`). A slot that the agent neither wants nor made is
//! reported and left alone.
//!
//! Reading order: `wanted`, `changes`, `published`, `chain`, `memory`, `copy`, `ready`, `waited_for`, `notes`.

mod chain;
mod changes;
pub mod copy;
mod memory;
mod notes;
mod published;
mod ready;
mod waited_for;
mod wanted;

pub use chain::{feedback, server_may_copy};
pub use memory::{SlotMemory, Told};
pub use notes::notes;
pub use published::{legacy_optime, status, told_in_failsafe};
pub use ready::{needed, needed_of, safe, unsafe_slots};
pub use waited_for::waited_for;
pub use wanted::{Wanted, Wants, wanted};

use crate::View;
use pgherd_types::{Cluster, Instant, RunningServer, SlotTarget};

/// PostgreSQL's version since which slots can be moved forward.
pub const CAN_ADVANCE: u32 = 11;
/// The version since which servers themselves keep logical slots on standbys.
pub const NATIVE_FAILOVER: u32 = 17;

/// What is to be done about this node's slots; `None` when they are not managed.
pub fn plan(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Option<SlotTarget> {
    if !view.settings.use_slots {
        return None;
    }
    let wants = wanted(view, cluster, running, now);
    let compare = ready::comparison(view, cluster, running, &wants, now);
    Some(SlotTarget { compare, ..changes::changes(view, cluster, running, &wants, now) })
}

/// The major version of a running server.
pub(crate) fn major_version(running: &RunningServer) -> u32 {
    running.server_version / 10_000
}
