//! Facts: everything that can change a view.

use pgherd_types::{
    Cluster, DcsWrite, Instant, LeaseGrant, Lsn, MemberName, OperationEnd, OperationId, PeerReport, PostgresState,
    Refused, RequestId, Settings, SlotReport, Tags, Wish,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One fact.
#[derive(Clone, Debug)]
pub enum Observation {
    /// The cluster was read (linearizably).
    Cluster {
        /// What it is.
        cluster: Arc<Cluster>,
        /// Read before the request left.
        read_at: Instant,
    },
    /// The DCS does not answer.
    DcsLost {
        /// Since when.
        since: Instant,
    },
    /// A renewal succeeded.
    LeaseRenewed {
        /// etcd's promise.
        grant: LeaseGrant,
        /// The leader key was proven to hang on this lease, after the keepalive.
        leader_proven: bool,
    },
    /// A renewal did not.
    LeaseRefused {
        /// Why.
        why: Refused,
    },
    /// The leader key is ours now.
    LeaderAcquired(LeaseGrant),
    /// It is not.
    AcquireRefused(Refused),
    /// The leader key was given up.
    LeaderReleased,
    /// It was not, or that is not known.
    ReleaseRefused(Refused),
    /// A write succeeded.
    Written(DcsWrite),
    /// A write did not.
    WriteRefused(DcsWrite, Refused),
    /// PostgreSQL was looked at.
    Postgres(Arc<PostgresState>),
    /// Peers were asked.
    Peers {
        /// The round's number.
        round: u64,
        /// Their answers.
        reports: Vec<PeerReport>,
    },
    /// An operation ended.
    OperationFinished {
        /// Which.
        id: OperationId,
        /// How.
        end: OperationEnd,
    },
    /// Slots were aligned, or not.
    SlotsAligned {
        /// The round's number.
        round: u64,
        /// How; `None`: nothing was done.
        report: Option<SlotReport>,
    },
    /// A step of synchronous replication was carried out by PostgreSQL, or not.
    SyncAligned {
        /// The round's number.
        round: u64,
        /// Is it in force?
        ok: bool,
    },
    /// The dynamic configuration changed.
    Settings(Settings),
    /// The node's tags changed.
    Tags(Tags),
    /// An operator's wish that [`crate::wishes::judge`] found acceptable.
    Wished {
        /// Its number.
        id: RequestId,
        /// What.
        wish: Wish,
    },
    /// A primary without the DCS asked whether it may go on, and was told yes.
    FailsafePromised {
        /// Who.
        to: MemberName,
        /// How far the consumers of its slots are.
        slots: BTreeMap<String, Lsn>,
    },
    /// The members were asked whether this primary may go on without the DCS.
    FailsafeAsked {
        /// The round's number.
        round: u64,
        /// Before the first question left.
        asked_at: Instant,
        /// Who did not agree, and why.
        refused: Vec<(MemberName, String)>,
    },
    /// The watchdog is required and cannot be used, or can be again.
    WatchdogFailed(bool),
    /// The process should end.
    ShutdownRequested,
}
