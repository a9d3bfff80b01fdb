//! The writes a node asks of the DCS, each with its guard named. `docs/dcs-layout.md` has the keys.

use crate::{FailoverKey, HistoryRow, MemberDoc, MemberName, StatusKey, SystemId, Timeline};
use std::collections::BTreeMap;

/// One guarded write. "Own lease" means: in the same transaction LEASE(`leader`) is compared with our lease.
#[derive(Clone, PartialEq, Debug)]
pub enum DcsWrite {
    /// `initialize` = `""` on our lease, if it does not exist: the right to bootstrap, gone when we are.
    ClaimInitialize,
    /// `initialize` = system id without a lease, if it is `""` and on our lease.
    FinishInitialize(SystemId),
    /// Remove `initialize`, if it is `""` and on our lease: a bootstrap failed.
    DropInitialize,
    /// `initialize` = system id, if it does not exist: existing data is adopted.
    AdoptInitialize(SystemId),
    /// `members/<me>` on our lease.
    Member(Box<MemberDoc>),
    /// `status`; own lease.
    Status(StatusKey),
    /// `history`; own lease.
    History(Vec<HistoryRow>),
    /// `timeline`; own lease, and the key unchanged since the view that chose the number (`None`: absent).
    ReserveTimeline {
        /// The number.
        timeline: Timeline,
        /// What the view said before.
        seen: Option<Timeline>,
    },
    /// `config` = this JSON text, if it does not exist or is not a JSON object; own lease.
    Config(String),
    /// `config` = this JSON text, if the key is still at this revision (0: absent): an operator's change.
    ReplaceConfig {
        /// The new text.
        text: String,
        /// Its revision when the change was made up.
        seen: i64,
    },
    /// `failover` = an operator's request; with a revision only if the key is still at it (0: absent).
    AskFailover {
        /// The request; its own `mod_revision` is not looked at.
        request: FailoverKey,
        /// The key's revision when the request was made up; `None` overwrites whatever is there.
        seen: Option<i64>,
    },
    /// `failover` = `{}`, if the key is still at this revision: the request was dealt with.
    ClearFailover {
        /// Its revision.
        seen: i64,
    },
    /// `failsafe`; own lease.
    Failsafe(BTreeMap<MemberName, String>),
}

impl DcsWrite {
    /// The key, for messages.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::ClaimInitialize | Self::FinishInitialize(_) | Self::DropInitialize | Self::AdoptInitialize(_) => {
                "initialize"
            }
            Self::Member(_) => "members",
            Self::Status(_) => "status",
            Self::History(_) => "history",
            Self::ReserveTimeline { .. } => "timeline",
            Self::Config(_) | Self::ReplaceConfig { .. } => "config",
            Self::AskFailover { .. } | Self::ClearFailover { .. } => "failover",
            Self::Failsafe(_) => "failsafe",
        }
    }
}

/// Why a request to the DCS did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The comparison failed: somebody else was first, or the key is not ours. Certain.
    Compare,
    /// A proof of leadership found no leader key, while the lease lives: somebody removed it. Certain.
    Absent,
    /// The lease does not exist any more. Certain.
    LeaseGone,
    /// etcd answered with an error that is not about reachability (permission, space, …). Nothing was written.
    Denied(String),
    /// No usable answer in time; whether it took effect is not known, and reading back did not settle it.
    Unreachable(String),
}
