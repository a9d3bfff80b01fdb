//! The writes a node asks of the DCS, each with its guard named. `docs/dcs-layout.md` has the keys.

use crate::{FailoverKey, HistoryRow, Lsn, MemberDoc, MemberName, StatusKey, SyncNames, SystemId, Timeline};
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
    /// `optime/leader`: the same position for members that are too old to know `status`; own lease.
    LegacyOptime(Lsn),
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
    /// `sync`; own lease, and the key still at that revision.
    Sync(SyncWrite),
    /// Remove `sync`; own lease, and the key still at this revision.
    DropSync {
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
            Self::LegacyOptime(_) => "optime/leader",
            Self::History(_) => "history",
            Self::ReserveTimeline { .. } => "timeline",
            Self::Config(_) | Self::ReplaceConfig { .. } => "config",
            Self::AskFailover { .. } | Self::ClearFailover { .. } => "failover",
            Self::Sync(_) | Self::DropSync { .. } => "sync",
            Self::Failsafe(_) => "failsafe",
        }
    }
}

/// A new value of the `sync` key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncWrite {
    /// Its leader.
    pub leader: MemberName,
    /// Its quorum.
    pub quorum: u32,
    /// Its standbys.
    pub standbys: SyncNames,
    /// Its revision when the value was made up; `None`: there must be no key.
    pub seen: Option<i64>,
}

/// What the `sync` key must still be when the leader key is taken: the race was judged by it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SyncGuard {
    /// A leader takes back its own key: nobody else has judged anything.
    Unguarded,
    /// At this revision; `None`: absent.
    At(Option<i64>),
}

impl SyncGuard {
    /// The revision to compare with, 0 for a key that is absent; `None` where nothing is compared.
    pub fn judged_by(self) -> Option<i64> {
        match self {
            Self::Unguarded => None,
            Self::At(revision) => Some(revision.unwrap_or(0)),
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
