//! Commands for the DCS watcher, which owns the lease, the request connection and the reading of the cluster.

use actix::Message;
use pgherd_types::{DcsWrite, Instant, LeaseGrant, Refused, StatusKey, SyncGuard};

/// The lease was renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewed {
    /// etcd's promise; another lease id than before means that the old lease was lost and a new one granted.
    pub grant: LeaseGrant,
    /// Keepalive **and** the comparison LEASE(`leader`) = own both succeeded, in this order.
    pub leader_proven: bool,
}

/// Keep the lease alive, or get one if there is none. With `prove_leader` the answer is `Ok` only if the leader key
/// hangs on this very lease: `Refused::LeaseGone` when the lease is lost, `Refused::Absent` when the key does not
/// exist, `Refused::Compare` when it is not ours.
/// With `new_ttl` our keys are moved to a new lease first; where nobody knows whether that worked, the next renewal settles
/// it. Served before everything else.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "Result<Renewed, Refused>")]
pub struct RenewLease {
    /// Prove the leader key too.
    pub prove_leader: bool,
    /// Move to a new lease with this time to live.
    pub new_ttl: Option<std::time::Duration>,
    /// Give up by then.
    pub deadline: Instant,
}

/// Take the leader key on our lease if nobody has it (and, when the `sync` key is used, if that is unchanged).
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "Result<LeaseGrant, Refused>")]
pub struct AcquireLease {
    /// What the `sync` key must still be.
    pub sync: SyncGuard,
    /// Give up by then.
    pub deadline: Instant,
}

/// Write `status` and remove the leader key in one transaction, if it hangs on our lease.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<(), Refused>")]
pub struct ReleaseLease {
    /// The last position, for those who race next; `None` leaves `status` alone.
    pub status: Option<StatusKey>,
    /// Give up by then.
    pub deadline: Instant,
}

/// One guarded write.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<(), Refused>")]
pub struct WriteKey {
    /// What.
    pub write: DcsWrite,
    /// Give up by then.
    pub deadline: Instant,
}

/// From the watch connection: something under the prefix changed. A hint to read again, never a proof.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct KeysChanged {
    /// etcd's revision of the change.
    pub revision: i64,
    /// The watch was just opened: nothing changed perhaps, but what happened before was not heard.
    pub opened: bool,
}

/// From the watch connection: it ended and is being opened again; changes may have been missed.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct LinkLost {
    /// Why.
    pub why: String,
}

/// The settings that keep the watcher's time changed. A changed ttl is in force from the next lease on; the coordinator asks
/// for one (`RenewLease::new_ttl`).
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct ChangeTimes {
    /// Time to live of the lease.
    pub ttl: std::time::Duration,
    /// How often the cluster is told to the coordinator at least.
    pub loop_wait: std::time::Duration,
    /// How long one step may take.
    pub retry_timeout: std::time::Duration,
}
