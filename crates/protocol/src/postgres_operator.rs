//! Commands for the PostgreSQL operator, the only one that touches the server's processes and files.

use actix::Message;
use pgherd_types::{Instant, Operation, OperationId};
use std::collections::BTreeSet;

/// An operation is already running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy(pub OperationId);

/// Begin an operation. Its end comes as `OperationFinished`, after a new look at PostgreSQL was reported.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<(), Busy>")]
pub struct StartOperation {
    /// Chosen by the coordinator; grows.
    pub id: OperationId,
    /// What.
    pub operation: Operation,
    /// For operations that need the leader lock: nothing that could make PostgreSQL writable may begin after this.
    pub fence: Option<Instant>,
}

/// The lease was proven again: the running operation may go on until then.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct ExtendFence(pub Instant);

/// Give up the running operation, if it is this one, as soon as that leaves nothing half done.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct CancelOperation(pub OperationId);

/// The dynamic configuration changed: the text of the `config` key (a JSON object). Configuration files are written
/// and PostgreSQL is reloaded if they changed.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct ConfigChanged(pub String);

/// This node begins to lead a standby cluster, or ceases to: the settings of that role are put in force.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct LeadStandbyCluster(pub bool);

/// Logical slots of this node, or of members that it feeds, need rows that its upstream would remove, or do not any more
/// (`hot_standby_feedback`).
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct KeepRows {
    /// They do.
    pub rows: bool,
    /// Nothing here keeps the server from copying logical slots of its primary (PostgreSQL 17 and later).
    pub copies: bool,
}

/// Consumers of logical slots wait for those that stream by these slots (`synchronized_standby_slots`, PostgreSQL 17 and later),
/// where the dynamic configuration asks for it.
#[derive(Message, Clone, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct ConsumersWaitFor(pub BTreeSet<String>);

/// The local configuration or its files may have changed (SIGHUP, `POST /reload`): files are written and PostgreSQL is
/// reloaded in any case.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct ReloadConfig;
