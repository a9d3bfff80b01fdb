//! What may be done to PostgreSQL, one at a time.

use crate::{Decoding, MemberName, Timeline};
use serde::Serialize;
use std::collections::BTreeMap;

/// A running or finished operation's number; grows.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(pub u64);

/// Where to stream or clone from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// The member.
    pub member: MemberName,
    /// Host of its `conn_url`.
    pub host: String,
    /// Port of its `conn_url`.
    pub port: u16,
}

/// How PostgreSQL is stopped.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum StopMode {
    /// SIGINT: clients are cut, a shutdown checkpoint is written and sent to the standbys.
    Fast,
    /// SIGQUIT, and soon after the kill that leaves no process of the data directory alive.
    Immediate,
}

/// One long piece of work on PostgreSQL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Make a new cluster and its roles; ends with PostgreSQL stopped. No client can reach it meanwhile.
    Bootstrap,
    /// Copy this member's data directory; ends with PostgreSQL stopped and set up as a standby of it.
    Clone {
        /// The source.
        from: Upstream,
        /// Data that are there already are replaced, once the copy is complete. Only when that was asked for.
        replace: bool,
        /// Only with pg_basebackup, whatever other methods are configured.
        basebackup_only: bool,
    },
    /// Make a replica without a source, by the configured methods that need none (an archive, say); ends with PostgreSQL
    /// stopped and set up as a standby of nobody.
    Restore,
    /// Take diverged data of a stopped server back to the source's history with pg_rewind; ends with PostgreSQL stopped
    /// and set up as a standby of the source. A server that did not end in order is recovered in single-user mode first.
    Rewind {
        /// The source, the leader.
        from: Upstream,
    },
    /// Start as primary on the present timeline (after a crash or a bootstrap). Needs the leader lock.
    StartPrimary,
    /// Start as a standby: of the upstream, or of nobody.
    StartReplica {
        /// Whom to follow.
        upstream: Option<Upstream>,
    },
    /// Change whom the running standby follows.
    Follow {
        /// Whom to follow.
        upstream: Option<Upstream>,
    },
    /// Put copies of these logical slots of the leader in place. A running standby is stopped for that, but only if there is
    /// something to put in place; ends with PostgreSQL stopped, or fails before the stop.
    CopySlots {
        /// The leader.
        from: Upstream,
        /// Which.
        slots: BTreeMap<String, Decoding>,
    },
    /// Leave recovery on exactly this timeline; smaller unused numbers are skipped. Needs the leader lock.
    Promote {
        /// The reserved number.
        timeline: Timeline,
    },
    /// Stop.
    Stop {
        /// How.
        mode: StopMode,
    },
}

impl Operation {
    /// May it only be done by the holder of the leader lock?
    pub const fn needs_lock(&self) -> bool {
        matches!(self, Self::StartPrimary | Self::Promote { .. })
    }
    /// The words used in status lines (spec/ha.md 5.1).
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Clone { .. } => "bootstrap from",
            Self::Restore => "bootstrap (without leader)",
            Self::Rewind { .. } => "running pg_rewind from",
            Self::StartPrimary => "starting primary",
            Self::StartReplica { .. } => "starting as a secondary",
            Self::Follow { .. } => "changing primary_conninfo",
            Self::CopySlots { .. } => "copying logical slots from",
            Self::Promote { .. } => "promote",
            Self::Stop { .. } => "stop",
        }
    }
}

/// How far the copy of a data directory has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Progress {
    /// So much has arrived.
    pub done_bytes: u64,
    /// Of so much, as the source estimates it; `None` while it does not say.
    pub total_bytes: Option<u64>,
}

/// A failed promotion whose text begins so was refused by the user's script: another node may be asked.
pub const PRE_PROMOTE: &str = "pre_promote";

/// How an operation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperationEnd {
    /// It did what it says.
    Done,
    /// It did not; PostgreSQL is as the next look finds it. The text says what was tried and what to do.
    Failed(String),
    /// It was given up because it was cancelled.
    Cancelled,
    /// It was never begun, or given up, because its fence had passed.
    TooLate,
}
