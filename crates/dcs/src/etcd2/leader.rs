//! Taking and releasing the leader key.
//!
//! It is created if there is none, and is nobody's until it is **confirmed**: a look after its creation must show that our
//! name is held by this very process, and the `sync` key as the race was judged by. That look suffices: what a deposed leader
//! wrote there and acted upon, it wrote before its key was gone.

use super::Etcd2;
use super::held::Kept;
use super::request::{ask, refused};
use super::settle::{Judgement, Seen};
use super::wire::{Guard, Node, Request};
use crate::codec;
use pgherd_clock::boottime;
use pgherd_types::{Instant, LeaseId, Refused, StatusKey, SyncGuard};

/// While it lives nothing is cleaned up.
struct Acquiring<'a>(&'a Etcd2);

impl<'a> Acquiring<'a> {
    fn begin(etcd: &'a Etcd2) -> Self {
        etcd.acquiring.set(etcd.acquiring.get() + 1);
        Self(etcd)
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        self.0.acquiring.set(self.0.acquiring.get() - 1);
    }
}

impl Etcd2 {
    pub(super) async fn acquire_leader(
        &self,
        lease: LeaseId,
        sync: SyncGuard,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let _acquiring = Acquiring::begin(self);
        let answer = self.acquire_and_confirm(lease, sync, deadline).await;
        let in_vain = matches!(answer, Err(Refused::Unreachable(_)));
        self.with_held(lease, |held| held.asked_in_vain = in_vain);
        answer
    }

    async fn acquire_and_confirm(&self, lease: LeaseId, sync: SyncGuard, deadline: Instant) -> Result<(), Refused> {
        let ttl_s = self.key_ttl_s(lease, deadline).await.map_err(refused)?.ok_or(Refused::LeaseGone)?;
        let (key, me) = (self.layout.key("leader"), self.layout.me().as_str());
        let create = Request::put(&key, me, Some(ttl_s), Guard::Absent);
        let in_vain = self.with_held(lease, |held| held.asked_in_vain).unwrap_or(false);
        self.with_held(lease, |held| held.expects_copies(boottime()));
        // a key that is there already needs its full time once more: the caller's promise is younger than it
        let ours = |seen: &Seen<'_>, node: &Node| {
            self.leads(lease, node)
                || ((seen.unsure || in_vain)
                    && node.value == me
                    && self.has_the_name_since_before(lease, node.created, seen))
        };
        let judge = |seen: &Seen<'_>| match seen.leader() {
            None => Judgement::Try(create.clone()),
            Some(node) if ours(seen, node) => Judgement::Try(Request::refresh(&key, ttl_s, node.modified)),
            Some(_) => Judgement::Refuse(Refused::Compare),
        };
        let settled = self.settle(Some(create.clone()), judge, deadline).await?;
        let Some(node) = settled.node else { return Err(Refused::Compare) };
        let kept = Kept::of(&node, settled.sent_at);
        if self.leads(lease, &node) {
            self.with_held(lease, |held| held.leader = Some(kept));
            return Ok(());
        }
        match self.confirm(lease, &node, sync, deadline).await {
            Ok(()) => self.with_held(lease, |held| held.leader = Some(kept)).ok_or(Refused::LeaseGone),
            Err(why @ Refused::Unreachable(_)) => Err(why),
            Err(why) => {
                self.give_back(&node, deadline).await?;
                Err(why)
            }
        }
    }

    async fn confirm(&self, lease: LeaseId, node: &Node, sync: SyncGuard, deadline: Instant) -> Result<(), Refused> {
        let judged_by = sync.judged_by();
        let key = self.layout.key("sync");
        let judge = |seen: &Seen<'_>| {
            let there = seen.leader().is_some_and(|now| now.created == node.created && now.value == node.value);
            let named = seen.member().is_none() || self.has_the_name_since_before(lease, node.created, seen);
            let sync = seen.get(&key).map_or(0, |sync| sync.modified);
            match there && named && judged_by.is_none_or(|revision| revision == sync) {
                true => Judgement::Done,
                false => Judgement::Refuse(Refused::Compare),
            }
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    /// A leader key that was created and could not be confirmed.
    async fn give_back(&self, node: &Node, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.key("leader");
        let judge = |seen: &Seen<'_>| match seen.leader() {
            Some(now) if now.created == node.created => Judgement::Try(Request::delete(&key, now.modified)),
            _ => Judgement::Done,
        };
        self.settle(None, judge, deadline).await.map(drop)
    }

    /// Removes a leader key of our name that a late copy of a request left behind. Only as it was seen, and only once: a request
    /// for the key that begins meanwhile changes it.
    pub(super) async fn clean_up(&self, lease: LeaseId, deadline: Instant) -> Result<(), Refused> {
        let snapshot = self.look(deadline).await.map_err(refused)?;
        let seen = Seen::of(self, &snapshot);
        let stray = seen.leader().filter(|node| {
            node.value == self.layout.me().as_str()
                && self.lease_of_leader(node).is_none()
                && self.has_the_name_since_before(lease, node.created, &seen)
        });
        if self.acquiring.get() > 0 {
            return Ok(());
        }
        if let Some(node) = stray {
            log::info!("removing a leader key of ours that was asked for and never confirmed");
            let request = Request::delete(&self.layout.key("leader"), node.modified);
            ask(&self.client, &request, deadline).await.map_err(refused)?;
        }
        let now = boottime();
        self.with_held(lease, |held| held.stray_until = held.stray_until.filter(|until| now < *until));
        Ok(())
    }

    /// First the status, then the key: who is faster than a release finds the older status, as after a crash.
    pub(super) async fn release_leader(
        &self,
        lease: LeaseId,
        status: Option<StatusKey>,
        deadline: Instant,
    ) -> Result<(), Refused> {
        if let Some(status) = status {
            self.put_as_leader(lease, "status", &codec::encode_status(&status), deadline).await?;
        }
        let key = self.layout.key("leader");
        let judge = |seen: &Seen<'_>| match seen.led_on(lease) {
            Some(node) => Judgement::Try(Request::delete(&key, node.modified)),
            None if seen.unsure => Judgement::Done,
            None => Judgement::Refuse(Refused::Compare),
        };
        self.settle(None, judge, deadline).await?;
        self.with_held(lease, |held| held.leader = None);
        Ok(())
    }
}
