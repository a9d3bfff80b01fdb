//! Facts: everything that can change a view.

use pgherd_types::{
    Cluster, DcsWrite, Instant, LeaseGrant, OperationEnd, OperationId, PeerReport, PostgresState, Refused, Settings,
};
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
        /// Did it work?
        ok: bool,
    },
    /// The dynamic configuration changed.
    Settings(Settings),
    /// The process should end.
    ShutdownRequested,
}
