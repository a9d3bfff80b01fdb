//! Facts for the coordinator. All are sent without waiting for an answer.

use actix::Message;
use pgherd_types::{Cluster, Instant, OperationEnd, OperationId, PeerReport, PostgresState, Settings};
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
