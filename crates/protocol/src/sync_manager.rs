//! Commands for the sync-replication manager.

use actix::Message;
use pgherd_types::{Instant, SyncApply};

/// One step of synchronous replication that is PostgreSQL's; the answer is `SyncAligned`, once it is in force.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct AlignSync {
    /// Comes back with the answer.
    pub round: u64,
    /// What to do.
    pub apply: SyncApply,
    /// Dropped if it arrives after this.
    pub fence: Option<Instant>,
}
