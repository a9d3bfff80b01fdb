//! Each write with its guard. A leader's write first looks whether the leader key is ours, and then is guarded by the index
//! of the very key it writes: a copy that arrives when a successor has written the key fails.

use super::Etcd2;
use super::request::{ask, refused};
use super::settle::{Judgement, Seen};
use super::wire::{Guard, Request};
use crate::codec;
use crate::etcd3::failure::Failure;
use crate::etcd3::settle::Pauses;
use Judgement::{Done, Refuse, Try};
use pgherd_types::{DcsWrite, Instant, LeaseId, Refused, SyncWrite, Timeline};

/// What the codec writes is JSON or a number.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

impl Etcd2 {
    /// Asked again while the outcome is not known: what is gone stays gone.
    pub(super) async fn remove_prefix(&self, deadline: Instant) -> Result<(), Refused> {
        let request = Request::delete_all(self.layout.prefix());
        let mut pauses = Pauses::default();
        loop {
            match ask(&self.client, &request, deadline).await {
                Ok(_) => return Ok(()), // also if there was nothing
                Err(Failure::NoAnswer { .. }) if pauses.pause_before(deadline).await => {}
                Err(failure) => return Err(refused(failure)),
            }
        }
    }

    pub(super) async fn guarded_write(
        &self,
        lease: Option<LeaseId>,
        write: DcsWrite,
        deadline: Instant,
    ) -> Result<(), Refused> {
        match &write {
            DcsWrite::AdoptInitialize(id) => return self.adopt_initialize(&id.to_string(), deadline).await,
            DcsWrite::ReplaceConfig { .. } | DcsWrite::AskFailover { .. } | DcsWrite::ClearFailover { .. } => {
                return self.operators_write(&write, deadline).await;
            }
            _ => {}
        }
        let lease = lease.ok_or(Refused::LeaseGone)?;
        let known = self.key_ttl_s(lease, deadline).await.map_err(refused)?;
        let ttl_s = known.ok_or(Refused::LeaseGone)?;
        match write {
            DcsWrite::ClaimInitialize => self.claim_initialize(lease, ttl_s, deadline).await,
            DcsWrite::FinishInitialize(id) => self.finish_initialize(lease, &id.to_string(), deadline).await,
            DcsWrite::DropInitialize => self.drop_initialize(lease, deadline).await,
            DcsWrite::Member(doc) => self.put_member(lease, &text(&codec::encode_member(&doc)), deadline).await,
            DcsWrite::Status(status) => {
                self.put_as_leader(lease, "status", &codec::encode_status(&status), deadline).await
            }
            DcsWrite::LegacyOptime(at) => {
                self.put_as_leader(lease, "optime/leader", at.0.to_string().as_bytes(), deadline).await
            }
            DcsWrite::History(rows) => {
                self.put_as_leader(lease, "history", &codec::encode_history(&rows), deadline).await
            }
            DcsWrite::Failsafe(members) => {
                self.put_as_leader(lease, "failsafe", &codec::encode_failsafe(&members), deadline).await
            }
            DcsWrite::ReserveTimeline { timeline, seen } => {
                self.reserve_timeline(lease, timeline, seen, deadline).await
            }
            DcsWrite::Config(text) => self.put_missing_config(lease, &text, deadline).await,
            DcsWrite::Sync(write) => self.write_sync(lease, &write, deadline).await,
            DcsWrite::DropSync { seen } => self.drop_sync(lease, seen, deadline).await,
            DcsWrite::AdoptInitialize(_)
            | DcsWrite::ReplaceConfig { .. }
            | DcsWrite::AskFailover { .. }
            | DcsWrite::ClearFailover { .. } => self.operators_write(&write, deadline).await,
        }
    }

    /// What anybody may write for an operator: guarded by the key's index, not by the leader key.
    async fn operators_write(&self, write: &DcsWrite, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key(write.key());
        let (value, expected) = codec::operators_value(write)?;
        let value = text(&value);
        let judge = |seen: &Seen<'_>| {
            let node = seen.get(&key);
            match expected {
                _ if seen.unsure && node.is_some_and(|node| node.value == value) => Done,
                Some(expected) if node.map_or(0, |node| node.modified) != expected => Refuse(Refused::Compare),
                _ => Try(Request::put(&key, &value, None, Guard::of(node))),
            }
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    /// The value is the same whoever claims, so a claim whose answer is lost is nobody's: it lapses.
    async fn claim_initialize(&self, lease: LeaseId, ttl_s: u64, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let claim = Request::put(&key, "", Some(ttl_s), Guard::Absent);
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            None => Try(claim.clone()),
            Some(node) if self.claimed(lease, node.created) => Done,
            Some(node) if seen.unsure && node.value.is_empty() => Refuse(Refused::Unreachable(
                "whether the claim to bootstrap is ours is not known; it lapses by itself".into(),
            )),
            Some(_) => Refuse(Refused::Compare),
        };
        let settled = self.settle(Some(claim.clone()), judge, deadline).await?;
        if let Some(node) = settled.node {
            self.with_held(lease, |held| held.claim = Some(node.created));
        }
        Ok(())
    }

    fn claimed(&self, lease: LeaseId, created: i64) -> bool {
        self.with_held(lease, |held| held.claim == Some(created)).unwrap_or(false)
    }

    async fn finish_initialize(&self, lease: LeaseId, id: &str, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            Some(node) if node.value.is_empty() && self.claimed(lease, node.created) => {
                Try(Request::put(&key, id, None, Guard::At(node.modified)))
            }
            Some(node) if seen.unsure && node.value == id => Done,
            _ => Refuse(Refused::Compare),
        };
        self.settle(None, judge, deadline).await?;
        self.with_held(lease, |held| held.claim = None);
        Ok(())
    }

    async fn drop_initialize(&self, lease: LeaseId, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            Some(node) if node.value.is_empty() && self.claimed(lease, node.created) => {
                Try(Request::delete(&key, node.modified))
            }
            None if seen.unsure => Done,
            _ => Refuse(Refused::Compare),
        };
        self.settle(None, judge, deadline).await?;
        self.with_held(lease, |held| held.claim = None);
        Ok(())
    }

    async fn adopt_initialize(&self, id: &str, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("initialize");
        let create = Request::put(&key, id, None, Guard::Absent);
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            None => Try(create.clone()),
            Some(node) if seen.unsure && node.value == id => Done,
            Some(_) => Refuse(Refused::Compare),
        };
        self.settle(Some(create.clone()), judge, deadline).await.map(drop)
    }

    pub(super) async fn put_as_leader(
        &self,
        lease: LeaseId,
        name: &str,
        value: &[u8],
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (key, value) = (self.layout.key(name), text(value));
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            Some(there) if seen.unsure && there.value == value => Done,
            node if seen.led_on(lease).is_some() => Try(Request::put(&key, &value, None, Guard::of(node))),
            _ => Refuse(Refused::Compare),
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    /// The number must never be handed out twice, and a deposed leader's copy of the same request cannot be told from our
    /// own: when the answer is lost and the number is there, it is nobody's, and the next one is taken.
    async fn reserve_timeline(
        &self,
        lease: LeaseId,
        timeline: Timeline,
        expected: Option<Timeline>,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let key = self.layout.key("timeline");
        let judge = |seen: &Seen<'_>| {
            let node = seen.get(&key);
            let there = node.and_then(|node| codec::read_timeline(node.value.as_bytes()));
            match seen.led_on(lease) {
                Some(_) if there == expected => Try(Request::put(&key, &timeline.to_string(), None, Guard::of(node))),
                _ => Refuse(Refused::Compare),
            }
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    async fn put_missing_config(&self, lease: LeaseId, value: &str, deadline: Instant) -> Result<(), Refused> {
        if !codec::is_config_object(value.as_bytes()) {
            return Err(Refused::Denied("the configuration to write is not a JSON object".into()));
        }
        let key = self.layout.key("config");
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            Some(there) if seen.unsure && there.value == value => Done,
            Some(there) if codec::is_config_object(there.value.as_bytes()) => Refuse(Refused::Compare),
            _ if seen.led_on(lease).is_none() => Refuse(Refused::Compare),
            node => Try(Request::put(&key, value, None, Guard::of(node))),
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    /// What a look finds is ours only if nobody else can have written it: the value names the leader that wrote it.
    async fn write_sync(&self, lease: LeaseId, write: &SyncWrite, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("sync");
        let value = text(&codec::encode_sync(Some(&write.leader), write.quorum, &write.standbys));
        let expected = write.seen.unwrap_or(0);
        let judge = |seen: &Seen<'_>| {
            let node = seen.get(&key);
            let modified = node.map_or(0, |node| node.modified);
            match node {
                _ if seen.led_on(lease).is_none() => Refuse(Refused::Compare),
                Some(there) if seen.unsure && there.value == value && modified > expected => Done,
                _ if modified == expected => Try(Request::put(&key, &value, None, Guard::of(node))),
                _ => Refuse(Refused::Compare),
            }
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    async fn drop_sync(&self, lease: LeaseId, expected: i64, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("sync");
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            _ if seen.led_on(lease).is_none() => Refuse(Refused::Compare),
            None if seen.unsure => Done,
            Some(node) if node.modified == expected => Try(Request::delete(&key, expected)),
            _ => Refuse(Refused::Compare),
        };
        self.settle(None, judge, deadline).await.map(drop)
    }
}
