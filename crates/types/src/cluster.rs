//! The cluster as etcd describes it.

use crate::{FailoverKey, HistoryRow, LeaseId, Lsn, Member, MemberName, SyncSeen, SystemId, Timeline};
use std::collections::BTreeMap;

/// The `initialize` key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Initialize {
    /// Empty value: some node is bootstrapping. The lease is ours if we are that node; Patroni attaches none.
    InProgress {
        /// The lease the key hangs on.
        lease: Option<LeaseId>,
    },
    /// The system identifier every member must have.
    Done(SystemId),
    /// Neither empty nor a system identifier.
    Garbage,
}

/// The `leader` key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderKey {
    /// The member it names.
    pub name: MemberName,
    /// The lease it hangs on; `None` means that nobody renews it and it never lapses.
    pub lease: Option<LeaseId>,
}

/// The `status` key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusKey {
    /// Last known position of the leader; zero when unknown.
    pub optime: Lsn,
    /// Slot name to position.
    pub slots: BTreeMap<String, Lsn>,
    /// Slots of members that are gone, kept for a while.
    pub retain_slots: Vec<String>,
}

/// The `config` key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigKey {
    /// Revision of its last change.
    pub mod_revision: i64,
    /// The text, valid JSON object or not.
    pub text: String,
    /// Is it a JSON object?
    pub valid: bool,
}

/// Everything under the cluster's prefix, read at one revision.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Cluster {
    /// etcd's revision of this reading.
    pub revision: i64,
    /// `initialize`.
    pub initialize: Option<Initialize>,
    /// `leader`.
    pub leader: Option<LeaderKey>,
    /// `members/*`, by name.
    pub members: BTreeMap<MemberName, Member>,
    /// `status`.
    pub status: StatusKey,
    /// `status` was written since the present leader has the key: by it, and not by its predecessor.
    pub status_is_leaders: bool,
    /// `history`: `None` when absent or garbage.
    pub history: Option<Vec<HistoryRow>>,
    /// `timeline`, our own key: the highest number any leader of ours ever reserved for a promotion.
    pub timeline_reserved: Option<Timeline>,
    /// `config`.
    pub config: Option<ConfigKey>,
    /// `failover`, also when it asks for nothing.
    pub failover: Option<FailoverKey>,
    /// `sync`.
    pub sync: SyncSeen,
    /// `failsafe`: every member's API, as last written by a leader.
    pub failsafe: Option<BTreeMap<MemberName, String>>,
}

impl Cluster {
    /// The member that leads, if its key exists too.
    pub fn leader_member(&self) -> Option<&Member> {
        self.members.get(&self.leader.as_ref()?.name)
    }
    /// What an operator asks of the whole cluster, if anything.
    pub fn manual(&self) -> Option<&FailoverKey> {
        self.failover.as_ref().filter(|key| key.asks())
    }
    /// The highest timeline the cluster is known to have used: from `history` and from reservations.
    pub fn latest_timeline(&self) -> Option<Timeline> {
        let from_history = self.history.as_ref().map(|rows| rows.last().map_or(Timeline(1), |r| r.timeline.next()));
        from_history.max(self.timeline_reserved)
    }
    /// Is no member a Patroni (so that our lower minima may apply)? Patroni always names its version; a key without one
    /// is garbage and says nothing.
    pub fn all_members_are_ours(&self) -> bool {
        self.members.values().all(|m| m.doc.pgherd.is_some() || m.doc.version.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemberDoc;

    #[test]
    fn one_patroni_member_is_enough_and_garbage_is_none() {
        let cluster = |docs: Vec<MemberDoc>| {
            let name = |n: usize| MemberName(format!("m{n}"));
            let member = |(n, doc)| (name(n), Member { name: name(n), lease: None, doc });
            Cluster { members: docs.into_iter().enumerate().map(member).collect(), ..Cluster::default() }
        };
        let of = |version: Option<&str>, pgherd: Option<&str>| MemberDoc {
            version: version.map(str::to_owned),
            pgherd: pgherd.map(str::to_owned),
            ..MemberDoc::default()
        };
        let (ours, patroni) = (of(Some("4.1.4"), Some("0.1.0")), of(Some("4.1.5"), None));
        assert!(cluster(vec![ours.clone(), of(None, None)]).all_members_are_ours());
        assert!(!cluster(vec![ours, patroni]).all_members_are_ours());
    }
}
