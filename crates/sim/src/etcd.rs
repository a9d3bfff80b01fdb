//! A model of etcd: one linearizable store with revisions, leases and transactions. It knows nothing of the network; the
//! world decides when a request arrives and whether the reply gets back.

use crate::dcs::guard_holds;
use pgherd_types::{
    Cluster, ConfigKey, DcsWrite, FailoverKey, Initialize, LeaderKey, LeaseId, Member, MemberName, StatusKey,
    SyncGuard, SyncKey, SyncSeen,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Granted time to live.
    pub ttl_ms: u64,
    /// True time at which it lapses; it is revoked some time after that.
    pub expires: u64,
    /// The node that asked for it.
    pub owner: usize,
}

/// One request of a node.
#[derive(Clone, Debug)]
pub enum Request {
    /// A new lease.
    Grant(u64),
    /// A new lease beside the one there is.
    GrantAnother(u64),
    /// Move the leader key and the member key, as far as they hang on one lease, to another, if the leader key was not
    /// changed since a reading.
    MoveKeys {
        /// Away from this lease.
        from: LeaseId,
        /// To this one.
        to: LeaseId,
        /// The revision of the reading.
        read_at: i64,
    },
    /// Keep a lease alive.
    KeepAlive(LeaseId),
    /// Does the leader key hang on this lease?
    CompareLeader(LeaseId),
    /// Create the leader key on this lease, if the `sync` key is like that.
    CreateLeader(LeaseId, SyncGuard),
    /// Write `status`, remove the leader key if it hangs on this lease.
    Release(LeaseId, Option<StatusKey>),
    /// A guarded write.
    Write(Option<LeaseId>, Arc<DcsWrite>),
    /// Read everything.
    Range,
}

impl Request {
    /// Does it change anything?
    pub fn writes(&self) -> bool {
        matches!(self, Self::CreateLeader(..) | Self::Release(..) | Self::Write(..) | Self::MoveKeys { .. })
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A lease and its time to live.
    Granted(LeaseId, u64),
    /// The lease lives that long.
    Ttl(u64),
    /// A keepalive of a lease that is gone: an answer without a TTL.
    NoTtl,
    /// The comparison held; done.
    Yes,
    /// It did not.
    No,
    /// The lease to attach to does not exist.
    LeaseGone,
    /// A comparison found no leader key.
    Absent,
    /// The cluster.
    All(Arc<Cluster>),
}

/// The store.
#[derive(Debug, Default)]
pub struct Etcd {
    /// Keys and revision.
    pub cluster: Cluster,
    cache: Option<Arc<Cluster>>,
    /// Leases.
    pub leases: BTreeMap<i64, Lease>,
    last_lease: i64,
    /// The revision at which the leader key was last changed.
    leader_changed_at: i64,
    /// Answers nobody before this.
    pub frozen_until: u64,
    /// Something changed since the watchers were told.
    pub changed: bool,
    /// The leader key went away since the checkers looked.
    pub leader_gone: bool,
    /// An operator removed the leader key at that time.
    pub key_removed_at: Option<u64>,
}

impl Etcd {
    fn touch(&mut self) {
        self.cluster.revision += 1;
        self.cache = None;
        self.changed = true;
    }
    /// The cluster as of now.
    pub fn read(&mut self) -> Arc<Cluster> {
        let cluster = &self.cluster;
        Arc::clone(self.cache.get_or_insert_with(|| Arc::new(cluster.clone())))
    }
    /// The node that holds the leader key, if its lease is known.
    pub fn leader(&self) -> Option<usize> {
        let lease = self.cluster.leader.as_ref()?.lease?;
        Some(self.leases.get(&lease.0)?.owner)
    }
    /// Does the leader key hang on this lease?
    pub fn leader_on(&self, lease: LeaseId) -> bool {
        self.cluster.leader.as_ref().is_some_and(|l| l.lease == Some(lease))
    }

    /// Carry a request out.
    pub fn serve(&mut self, node: usize, name: &MemberName, request: &Request, now: u64) -> Reply {
        let yes = |done: bool| if done { Reply::Yes } else { Reply::No };
        match request {
            Request::Grant(ttl_ms) | Request::GrantAnother(ttl_ms) => {
                self.last_lease += 1;
                self.leases.insert(self.last_lease, Lease { ttl_ms: *ttl_ms, expires: now + ttl_ms, owner: node });
                Reply::Granted(LeaseId(self.last_lease), *ttl_ms)
            }
            Request::KeepAlive(lease) => match self.leases.get_mut(&lease.0).filter(|l| l.expires > now) {
                Some(held) => {
                    held.expires = now + held.ttl_ms;
                    Reply::Ttl(held.ttl_ms)
                }
                None => Reply::NoTtl,
            },
            Request::CompareLeader(_) if self.cluster.leader.is_none() => Reply::Absent,
            Request::CompareLeader(lease) => yes(self.leader_on(*lease)),
            Request::CreateLeader(lease, guard) => {
                if self.cluster.leader.is_some() || !guard_holds(&self.cluster, *guard) {
                    return Reply::No;
                }
                if !self.leases.contains_key(&lease.0) {
                    return Reply::LeaseGone;
                }
                self.cluster.leader = Some(LeaderKey { name: name.clone(), lease: Some(*lease) });
                self.cluster.status_is_leaders = false;
                self.touch();
                self.leader_changed_at = self.cluster.revision;
                Reply::Yes
            }
            Request::MoveKeys { from, to, read_at } => self.move_keys(name, *from, *to, *read_at),
            Request::Release(lease, status) => {
                if !self.leader_on(*lease) {
                    return Reply::No;
                }
                if let Some(status) = status {
                    self.cluster.status = status.clone();
                }
                self.drop_leader();
                Reply::Yes
            }
            Request::Write(lease, write) => self.write(name, *lease, write),
            Request::Range => Reply::All(self.read()),
        }
    }

    fn move_keys(&mut self, name: &MemberName, from: LeaseId, to: LeaseId, read_at: i64) -> Reply {
        if self.leader_changed_at > read_at {
            return Reply::No;
        }
        if !self.leases.contains_key(&to.0) {
            return Reply::LeaseGone;
        }
        if let Some(leader) = self.cluster.leader.as_mut().filter(|leader| leader.lease == Some(from)) {
            leader.lease = Some(to);
            self.leader_changed_at = self.cluster.revision + 1;
        }
        if let Some(member) = self.cluster.members.get_mut(name).filter(|member| member.lease == Some(from)) {
            member.lease = Some(to);
        }
        self.touch();
        Reply::Yes
    }

    fn write(&mut self, name: &MemberName, lease: Option<LeaseId>, write: &DcsWrite) -> Reply {
        let ours = lease.is_some_and(|lease| self.leader_on(lease));
        let claimed =
            matches!(&self.cluster.initialize, Some(Initialize::InProgress { lease: Some(l) }) if Some(*l) == lease);
        let attached = lease.filter(|l| self.leases.contains_key(&l.0));
        let cluster = &mut self.cluster;
        let done = match write {
            DcsWrite::ClaimInitialize if cluster.initialize.is_none() => {
                let Some(lease) = attached else { return Reply::LeaseGone };
                cluster.initialize = Some(Initialize::InProgress { lease: Some(lease) });
                true
            }
            DcsWrite::FinishInitialize(id) if claimed => {
                cluster.initialize = Some(Initialize::Done(*id));
                true
            }
            DcsWrite::DropInitialize if claimed => {
                cluster.initialize = None;
                true
            }
            DcsWrite::AdoptInitialize(id) if cluster.initialize.is_none() => {
                cluster.initialize = Some(Initialize::Done(*id));
                true
            }
            DcsWrite::ClaimInitialize
            | DcsWrite::FinishInitialize(_)
            | DcsWrite::DropInitialize
            | DcsWrite::AdoptInitialize(_) => false,
            DcsWrite::Member(doc) => {
                let Some(lease) = attached else { return Reply::LeaseGone };
                let member = Member { name: name.clone(), lease: Some(lease), doc: (**doc).clone() };
                cluster.members.insert(name.clone(), member);
                true
            }
            DcsWrite::Status(status) if ours => {
                cluster.status = status.clone();
                cluster.status_is_leaders = true;
                true
            }
            DcsWrite::LegacyOptime(_) if ours => true, // nobody in the model reads it
            DcsWrite::History(rows) if ours => {
                cluster.history = Some(rows.clone());
                true
            }
            DcsWrite::ReserveTimeline { timeline, seen } if ours && cluster.timeline_reserved == *seen => {
                cluster.timeline_reserved = Some(*timeline);
                true
            }
            DcsWrite::Config(text) if ours && !cluster.config.as_ref().is_some_and(|c| c.valid) => {
                cluster.config =
                    Some(ConfigKey { mod_revision: cluster.revision + 1, text: text.clone(), valid: true });
                true
            }
            DcsWrite::ReplaceConfig { text, seen }
                if cluster.config.as_ref().map_or(0, |c| c.mod_revision) == *seen =>
            {
                let mod_revision = cluster.revision + 1;
                cluster.config = Some(ConfigKey { mod_revision, text: text.clone(), valid: true });
                true
            }
            DcsWrite::AskFailover { request, seen } if seen.is_none_or(|seen| seen == Self::failover_at(cluster)) => {
                cluster.failover = Some(FailoverKey { mod_revision: cluster.revision + 1, ..request.clone() });
                true
            }
            DcsWrite::ClearFailover { seen } if *seen == Self::failover_at(cluster) => {
                cluster.failover = Some(FailoverKey { mod_revision: cluster.revision + 1, ..FailoverKey::default() });
                true
            }
            DcsWrite::Failsafe(members) if ours => {
                cluster.failsafe = Some(members.clone());
                true
            }
            DcsWrite::Sync(write) if ours && cluster.sync.revision() == write.seen => {
                cluster.sync = SyncSeen::Valid(SyncKey {
                    mod_revision: cluster.revision + 1,
                    leader: Some(write.leader.clone()),
                    quorum: write.quorum,
                    standbys: write.standbys.clone(),
                });
                true
            }
            DcsWrite::DropSync { seen } if ours && cluster.sync.revision() == Some(*seen) => {
                cluster.sync = SyncSeen::Absent;
                true
            }
            DcsWrite::Status(_)
            | DcsWrite::LegacyOptime(_)
            | DcsWrite::History(_)
            | DcsWrite::ReserveTimeline { .. }
            | DcsWrite::Config(_)
            | DcsWrite::ReplaceConfig { .. }
            | DcsWrite::AskFailover { .. }
            | DcsWrite::ClearFailover { .. }
            | DcsWrite::Sync(_)
            | DcsWrite::DropSync { .. }
            | DcsWrite::Failsafe(_) => false,
        };
        if done {
            self.touch();
        }
        if done { Reply::Yes } else { Reply::No }
    }

    /// Somebody with etcdctl, or another program.
    pub fn write_for_operator(&mut self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster);
        self.touch();
    }

    fn failover_at(cluster: &Cluster) -> i64 {
        cluster.failover.as_ref().map_or(0, |key| key.mod_revision)
    }

    /// The leader key goes.
    pub fn drop_leader(&mut self) {
        self.cluster.status_is_leaders = false;
        if self.cluster.leader.take().is_some() {
            self.leader_gone = true;
            self.touch();
            self.leader_changed_at = self.cluster.revision;
        }
    }

    /// The lease is revoked: everything that hangs on it goes.
    pub fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let gone = Some(LeaseId(lease));
        if self.cluster.leader.as_ref().is_some_and(|l| l.lease == gone) {
            self.drop_leader();
        }
        if matches!(&self.cluster.initialize, Some(Initialize::InProgress { lease }) if *lease == gone) {
            self.cluster.initialize = None;
            self.touch();
        }
        let before = self.cluster.members.len();
        self.cluster.members.retain(|_, m| m.lease != gone);
        if self.cluster.members.len() != before {
            self.touch();
        }
    }

    /// A new etcd leader: every lease has its full time to live again.
    pub fn change_leader(&mut self, now: u64) {
        for lease in self.leases.values_mut() {
            lease.expires = now + lease.ttl_ms;
        }
    }

    /// Did this write take effect, by what the keys say now?
    pub fn shows(cluster: &Cluster, name: &MemberName, lease: Option<LeaseId>, write: &DcsWrite) -> bool {
        match write {
            DcsWrite::ClaimInitialize => {
                matches!(&cluster.initialize, Some(Initialize::InProgress { lease: l }) if *l == lease)
            }
            DcsWrite::FinishInitialize(id) | DcsWrite::AdoptInitialize(id) => {
                cluster.initialize == Some(Initialize::Done(*id))
            }
            DcsWrite::DropInitialize => cluster.initialize.is_none(),
            DcsWrite::Member(doc) => cluster.members.get(name).is_some_and(|m| m.lease == lease && m.doc == **doc),
            DcsWrite::Status(status) => cluster.status == *status,
            DcsWrite::LegacyOptime(_) => true,
            DcsWrite::History(rows) => cluster.history.as_ref() == Some(rows),
            DcsWrite::ReserveTimeline { timeline, .. } => cluster.timeline_reserved == Some(*timeline),
            DcsWrite::Config(_) => cluster.config.as_ref().is_some_and(|c| c.valid),
            DcsWrite::ReplaceConfig { text, .. } => cluster.config.as_ref().is_some_and(|c| c.text == *text),
            DcsWrite::AskFailover { request, .. } => cluster.manual().is_some_and(|key| {
                FailoverKey { mod_revision: 0, ..key.clone() } == FailoverKey { mod_revision: 0, ..request.clone() }
            }),
            DcsWrite::ClearFailover { .. } => cluster.manual().is_none(),
            DcsWrite::Sync(write) => cluster.sync.active().is_some_and(|key| {
                let same = (key.leader.as_ref(), key.quorum, &key.standbys)
                    == (Some(&write.leader), write.quorum, &write.standbys);
                same && write.seen.is_none_or(|seen| key.mod_revision > seen)
            }),
            DcsWrite::DropSync { .. } => cluster.sync.revision().is_none(),
            DcsWrite::Failsafe(members) => cluster.failsafe.as_ref() == Some(members),
        }
    }
}
