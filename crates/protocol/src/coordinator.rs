//! Facts for the coordinator. All are sent without waiting for an answer.

use actix::Message;
use pgherd_types::{
    Cluster, DcsSurvey, Instant, Lsn, MemberName, OperationEnd, OperationId, PeerReport, PostgresState, Settings,
    SlotReport, Tags, Wish, WishEnd,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The cluster was read from the DCS (a linearizable read).
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct ClusterObserved {
    /// What it is.
    pub cluster: Arc<Cluster>,
    /// Read before the request left.
    pub read_at: Instant,
}

/// The DCS does not answer.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct DcsLost {
    /// When the first request that failed was sent.
    pub since: Instant,
    /// What was tried.
    pub why: String,
}

/// The DCS itself was looked at.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct DcsSurveyed(pub DcsSurvey);

/// PostgreSQL was looked at.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct PostgresObserved(pub Arc<PostgresState>);

/// An operation ended.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct OperationFinished {
    /// Which.
    pub id: OperationId,
    /// How.
    pub end: OperationEnd,
}

/// Peers were asked.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct PeersProbed {
    /// The number given in the command.
    pub round: u64,
    /// One report for each peer asked.
    pub reports: Vec<PeerReport>,
}

/// The slots were made as ordered, or not.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct SlotsAligned {
    /// The number given in the command.
    pub round: u64,
    /// What was done; an error when the order was not carried out.
    pub result: Result<SlotReport, String>,
}

/// A step of synchronous replication is in force, or is not.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct SyncAligned {
    /// The number given in the command.
    pub round: u64,
    /// What went wrong, if anything.
    pub result: Result<(), String>,
}

/// The dynamic configuration was read and checked: these settings are in force from now on.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct SettingsChanged(pub Settings);

/// The process was asked to end (SIGTERM, SIGINT).
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct ShutdownRequested;

/// An operator asks this node for something. The answer comes when it is done, or refused.
#[derive(Message, Clone, PartialEq, Debug)]
#[rtype(result = "WishEnd")]
pub struct RequestWish(pub Wish);

/// The local configuration was read again (SIGHUP, `POST /reload`) and this part of it changed; PostgreSQL's part goes to
/// its operator.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct LocalChanged {
    /// The node's tags.
    pub tags: Tags,
}

/// A primary that lost the DCS asks whether it may go on (`POST /failsafe`). The answer says whether this node agrees:
/// then it does not race for `ttl` from now on.
#[derive(Message, Clone, PartialEq, Eq, Debug)]
#[rtype(result = "FailsafeAnswer")]
pub struct RequestFailsafe {
    /// Who asks.
    pub name: MemberName,
    /// Where its PostgreSQL is.
    pub conn_url: String,
    /// Where its API is.
    pub api_url: String,
    /// How far the consumers of its slots are.
    pub slots: BTreeMap<String, Lsn>,
}

/// What is said to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailsafeAnswer {
    /// `Accepted`.
    Accepted {
        /// The position this node received or replayed up to.
        position: Lsn,
    },
    /// The mode is off.
    Off,
    /// This node runs as the primary itself.
    Leading,
}

/// Members were asked whether the primary may go on without the DCS.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct FailsafeAsked {
    /// The number given in the command.
    pub round: u64,
    /// Before the first question left.
    pub asked_at: Instant,
    /// Who did not agree, and why; empty when all did.
    pub refused: Vec<(MemberName, String)>,
}

/// The watchdog device was found usable, or not, although it is required.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct WatchdogChecked {
    /// It is required and cannot be used.
    pub failed: bool,
}
