//! What a decision is.

use crate::Reason;
use crate::view::Memory;
use pgherd_types::{
    DcsWrite, Instant, MemberName, Operation, OperationId, PeerToAsk, RequestId, SlotTarget, StatusKey, SyncApply,
    WishEnd,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The one thing to do about this node's role.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Nothing.
    Hold,
    /// Take the leader key if nobody has it.
    Acquire,
    /// Give the leader key up, publishing the last position for those who race next.
    Release(Option<StatusKey>),
    /// Begin an operation on PostgreSQL.
    Start {
        /// Its number.
        id: OperationId,
        /// What.
        operation: Operation,
        /// Until when it may make PostgreSQL writable; for operations that need the lock.
        fence: Option<Instant>,
    },
    /// Give up the running operation.
    Cancel(OperationId),
    /// Ask peers for their state.
    Probe {
        /// The round's number.
        round: u64,
        /// Whom.
        peers: Vec<PeerToAsk>,
    },
    /// Write a key on which the next step depends.
    Write(DcsWrite),
    /// All is left in order: end the process.
    Exit,
}

/// What is owed beside it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Upkeep {
    /// Renew the lease; with true prove the leader key too.
    pub renew: Option<bool>,
    /// With it: get a new lease with this time to live and move our keys to it.
    pub new_ttl: Option<Duration>,
    /// Keys to write.
    pub writes: Vec<DcsWrite>,
    /// The `config` key is missing or invalid: write the last good configuration.
    pub repair_config: bool,
    /// Look at PostgreSQL at once.
    pub look: bool,
    /// Slots to align, with the round's number.
    pub slots: Option<(u64, SlotTarget)>,
    /// A step of synchronous replication that is PostgreSQL's, with the round's number.
    pub sync: Option<(u64, SyncApply)>,
    /// Strict mode without a standby: commits wait.
    pub commits_wait: bool,
    /// Members to ask whether this primary may go on without the DCS, with the round's number.
    pub failsafe: Option<(u64, BTreeMap<MemberName, String>)>,
    /// Wishes that came to an end.
    pub answers: Vec<(RequestId, WishEnd)>,
}

impl Upkeep {
    /// Nothing is owed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A decision.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// About the role.
    pub role: Action,
    /// Beside it.
    pub upkeep: Upkeep,
    /// Why.
    pub because: Reason,
    /// What the view is to remember of it.
    pub remember: Option<Memory>,
    /// Decide again then, even if nothing happens; always ahead.
    pub decide_again_at: Instant,
}
