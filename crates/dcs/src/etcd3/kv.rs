//! Each write with its guard.

use super::Etcd3;
use super::failure::Failure;
use super::settle::{Judgement, Pauses, Seen};
use super::wire::{Txn, range_body};
use crate::codec;
use Judgement::{Done, Refuse, Try};
use pgherd_types::{DcsWrite, Instant, LeaseId, Refused, StatusKey, SyncGuard, SyncWrite, Timeline};

impl Etcd3 {
    /// Asked again while the outcome is not known: what is gone stays gone.
    pub(super) async fn remove_prefix(&self, deadline: Instant) -> Result<(), Refused> {
        let body = range_body(self.layout.prefix(), &self.layout.range_end());
        let mut pauses = Pauses::default();
        loop {
            match self.client.call("/kv/deleterange", &body, deadline).await {
                Ok(_) => return Ok(()),
                Err(Failure::NoAnswer { .. }) if pauses.pause_before(deadline).await => {}
                Err(failure) => return Err(failure.refused()),
            }
        }
    }

    /// A look reads the `sync` key beside the leader key.
    pub(super) async fn acquire_leader(
        &self,
        lease: LeaseId,
        sync: SyncGuard,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (key, sync_key, me) =
            (self.layout.key("leader"), self.layout.key("sync"), self.layout.me().as_str().as_bytes());
        let free = Txn::new().if_created(&key, 0);
        let judged_by = sync.judged_by();
        let guarded = match judged_by {
            Some(revision) => free.if_modified(&sync_key, revision),
            None => free,
        };
        let create = guarded.put(&key, me, Some(lease));
        let judge = |seen: &Seen| match &seen.leader {
            Some(kv) if kv.lease == Some(lease) && kv.value == me => Done,
            None if judged_by.is_none_or(|revision| revision == seen.mod_revision()) => Try(create.clone()),
            Some(_) | None => Refuse(Refused::Compare),
        };
        self.settle(&sync_key, Some(create.clone()), judge, deadline).await
    }

    /// Two guards: our lead, and the revision that the new value was made up by. What a look finds is ours only if nobody
    /// else can have written it: the key names the leader that wrote it.
    async fn write_sync(&self, lease: LeaseId, write: &SyncWrite, deadline: Instant) -> Result<(), Refused> {
        let (key, leader) = (self.layout.key("sync"), self.layout.key("leader"));
        let value = codec::encode_sync(Some(&write.leader), write.quorum, &write.standbys);
        let expected = write.seen.unwrap_or(0);
        let put = Txn::new().if_lease(&leader, lease).if_modified(&key, expected).put(&key, &value, None);
        let judge = |seen: &Seen| match seen.value() {
            _ if !seen.leader_on(lease) => Refuse(Refused::Compare),
            Some(there) if seen.unsure && there == value && seen.mod_revision() > expected => Done,
            _ if seen.mod_revision() == expected => Try(put.clone()),
            _ => Refuse(Refused::Compare),
        };
        self.settle(&key, Some(put.clone()), judge, deadline).await
    }

    async fn drop_sync(&self, lease: LeaseId, expected: i64, deadline: Instant) -> Result<(), Refused> {
        let (key, leader) = (self.layout.key("sync"), self.layout.key("leader"));
        let delete = Txn::new().if_lease(&leader, lease).if_modified(&key, expected).delete(&key);
        let judge = |seen: &Seen| match seen.mod_revision() {
            _ if !seen.leader_on(lease) => Refuse(Refused::Compare),
            0 if seen.unsure => Done,
            revision if revision == expected => Try(delete.clone()),
            _ => Refuse(Refused::Compare),
        };
        self.settle(&key, Some(delete.clone()), judge, deadline).await
    }

    /// Guarded by the key's creation too: a late copy of this request must not remove a lock that was taken again
    /// on the same lease.
    pub(super) async fn release_leader(
        &self,
        lease: LeaseId,
        status: Option<StatusKey>,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (leader, status_key) = (self.layout.key("leader"), self.layout.key("status"));
        let status = status.as_ref().map(codec::encode_status);
        let judge = |seen: &Seen| match &seen.leader {
            Some(kv) if kv.lease == Some(lease) => {
                let guarded = Txn::new().if_lease(&leader, lease).if_created(&leader, kv.create_revision);
                let with_status = match &status {
                    Some(value) => guarded.put(&status_key, value, None),
                    None => guarded,
                };
                Try(with_status.delete(&leader))
            }
            _ if seen.unsure && status.as_deref().is_none_or(|value| seen.value() == Some(value)) => Done,
            _ => Refuse(Refused::Compare),
        };
        self.settle(&status_key, None, judge, deadline).await
    }

    pub(super) async fn guarded_write(
        &self,
        lease: Option<LeaseId>,
        write: DcsWrite,
        deadline: Instant,
    ) -> Result<(), Refused> {
        match &write {
            DcsWrite::AdoptInitialize(id) => {
                return self.adopt_initialize(id.to_string().as_bytes(), deadline).await;
            }
            DcsWrite::ReplaceConfig { .. } | DcsWrite::AskFailover { .. } | DcsWrite::ClearFailover { .. } => {
                return self.operators_write(&write, deadline).await;
            }
            _ => {}
        }
        let lease = lease.ok_or(Refused::LeaseGone)?;
        match write {
            DcsWrite::ClaimInitialize => self.claim_initialize(lease, deadline).await,
            DcsWrite::FinishInitialize(id) => self.finish_initialize(lease, id.to_string().as_bytes(), deadline).await,
            DcsWrite::DropInitialize => self.drop_initialize(lease, deadline).await,
            DcsWrite::AdoptInitialize(id) => self.adopt_initialize(id.to_string().as_bytes(), deadline).await,
            DcsWrite::Member(doc) => self.put_member(lease, &codec::encode_member(&doc), deadline).await,
            DcsWrite::Status(status) => {
                self.put_as_leader(lease, "status", &codec::encode_status(&status), deadline).await
            }
            DcsWrite::LegacyOptime(at) => {
                self.put_as_leader(lease, "optime/leader", at.0.to_string().as_bytes(), deadline).await
            }
            DcsWrite::History(rows) => {
                self.put_as_leader(lease, "history", &codec::encode_history(&rows), deadline).await
            }
            DcsWrite::ReserveTimeline { timeline, seen } => {
                self.reserve_timeline(lease, timeline, seen, deadline).await
            }
            DcsWrite::Config(text) => self.put_missing_config(lease, text.as_bytes(), deadline).await,
            DcsWrite::Sync(write) => self.write_sync(lease, &write, deadline).await,
            DcsWrite::DropSync { seen } => self.drop_sync(lease, seen, deadline).await,
            DcsWrite::Failsafe(members) => {
                self.put_as_leader(lease, "failsafe", &codec::encode_failsafe(&members), deadline).await
            }
            DcsWrite::ReplaceConfig { .. } | DcsWrite::AskFailover { .. } | DcsWrite::ClearFailover { .. } => {
                self.operators_write(&write, deadline).await
            }
        }
    }

    /// What anybody may write for an operator: guarded by the key's own revision, not by a lease.
    async fn operators_write(&self, write: &DcsWrite, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key(write.key());
        let (value, expected) = codec::operators_value(write)?;
        let judge = |seen: &Seen| match expected {
            _ if seen.unsure && seen.value() == Some(&value) => Done,
            Some(expected) if seen.mod_revision() != expected => Refuse(Refused::Compare),
            _ => Try(Txn::new().if_modified(&key, seen.mod_revision()).put(&key, &value, None)),
        };
        self.settle(&key, None, judge, deadline).await
    }

    async fn claim_initialize(&self, lease: LeaseId, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let claim = Txn::new().if_created(&key, 0).put(&key, b"", Some(lease));
        let judge = |seen: &Seen| match seen.value() {
            None => Try(claim.clone()),
            Some(b"") if seen.key_on(lease) => Done,
            Some(_) => Refuse(Refused::Compare),
        };
        self.settle(&key, Some(claim.clone()), judge, deadline).await
    }

    async fn finish_initialize(&self, lease: LeaseId, id: &[u8], deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let finish = Txn::new().if_value(&key, b"").if_lease(&key, lease).put(&key, id, None);
        let judge = |seen: &Seen| match seen.value() {
            Some(b"") if seen.key_on(lease) => Try(finish.clone()),
            Some(value) if seen.unsure && value == id => Done,
            _ => Refuse(Refused::Compare),
        };
        self.settle(&key, Some(finish.clone()), judge, deadline).await
    }

    /// Guarded by the key's revision too: a late copy must not remove a later claim on the same lease.
    async fn drop_initialize(&self, lease: LeaseId, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let judge = |seen: &Seen| match seen.value() {
            Some(b"") if seen.key_on(lease) => {
                Try(Txn::new().if_modified(&key, seen.mod_revision()).if_lease(&key, lease).delete(&key))
            }
            None if seen.unsure => Done,
            _ => Refuse(Refused::Compare),
        };
        self.settle(&key, None, judge, deadline).await
    }

    async fn adopt_initialize(&self, id: &[u8], deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let create = Txn::new().if_created(&key, 0).put(&key, id, None);
        let judge = |seen: &Seen| match seen.value() {
            None => Try(create.clone()),
            Some(value) if seen.unsure && value == id => Done,
            Some(_) => Refuse(Refused::Compare),
        };
        self.settle(&key, Some(create.clone()), judge, deadline).await
    }

    /// Our own key: putting it on a lease that is gone is an error, and that is the guard.
    async fn put_member(&self, lease: LeaseId, value: &[u8], deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.my_member();
        let put = Txn::new().put(&key, value, Some(lease));
        let judge = |seen: &Seen| match seen.value() {
            Some(there) if there == value && seen.key_on(lease) => Done,
            _ => Try(put.clone()),
        };
        self.settle(&key, Some(put.clone()), judge, deadline).await
    }

    async fn put_as_leader(&self, lease: LeaseId, name: &str, value: &[u8], deadline: Instant) -> Result<(), Refused> {
        let (key, leader) = (self.layout.key(name), self.layout.key("leader"));
        let put = Txn::new().if_lease(&leader, lease).put(&key, value, None);
        let judge = |seen: &Seen| match seen.value() {
            Some(there) if seen.unsure && there == value => Done,
            _ if seen.leader_on(lease) => Try(put.clone()),
            _ => Refuse(Refused::Compare),
        };
        self.settle(&key, Some(put.clone()), judge, deadline).await
    }

    /// The number must never be handed out twice, so "it is there already" counts as ours only if nobody else can
    /// have written it: since the leader key was created on our lease, every other writer's guard fails.
    async fn reserve_timeline(
        &self,
        lease: LeaseId,
        timeline: Timeline,
        expected: Option<Timeline>,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (key, leader) = (self.layout.key("timeline"), self.layout.key("leader"));
        let judge = |seen: &Seen| {
            let there = seen.value().and_then(codec::read_timeline);
            let since = seen.leader.as_ref().map_or(i64::MAX, |kv| kv.create_revision);
            if !seen.leader_on(lease) {
                Refuse(Refused::Compare)
            } else if seen.unsure && there == Some(timeline) && seen.mod_revision() > since {
                Done
            } else if there != expected {
                Refuse(Refused::Compare)
            } else {
                let guarded = Txn::new().if_lease(&leader, lease).if_modified(&key, seen.mod_revision());
                Try(guarded.put(&key, timeline.to_string().as_bytes(), None))
            }
        };
        self.settle(&key, None, judge, deadline).await
    }

    async fn put_missing_config(&self, lease: LeaseId, value: &[u8], deadline: Instant) -> Result<(), Refused> {
        if !codec::is_config_object(value) {
            return Err(Refused::Denied("the configuration to write is not a JSON object".into()));
        }
        let (key, leader) = (self.layout.key("config"), self.layout.key("leader"));
        let judge = |seen: &Seen| match seen.value() {
            Some(there) if seen.unsure && there == value => Done,
            Some(there) if codec::is_config_object(there) => Refuse(Refused::Compare),
            _ if !seen.leader_on(lease) => Refuse(Refused::Compare),
            _ => {
                let guarded = Txn::new().if_lease(&leader, lease).if_modified(&key, seen.mod_revision());
                Try(guarded.put(&key, value, None))
            }
        };
        self.settle(&key, None, judge, deadline).await
    }
}
