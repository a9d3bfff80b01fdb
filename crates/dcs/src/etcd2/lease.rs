//! Keeping our keys alive. Each is written again with its time to live, on condition that it is as it was written last.

use super::Etcd2;
use super::held::{Held, Kept};
use super::request::{ask, refused};
use super::settle::{Judgement, Seen, Settled};
use super::tag::Tag;
use super::wire::{Guard, Node, Request};
use crate::port::Answer;
use futures_util::future::{Either, select};
use pgherd_clock::boottime;
use pgherd_types::{Instant, LeaseGrant, LeaseId, Refused};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::time::Duration;

/// How long a proof waits for the renewal of the member key.
const MEMBER_PATIENCE: Duration = Duration::from_millis(500);
const CONTRADICTION: &str = "etcd's answers contradict each other about our keys";

/// Nobody else ever calls a lease so.
fn new_lease() -> LeaseId {
    // seeded by the system, differently each time
    let number = RandomState::new().build_hasher().finish() & (i64::MAX as u64);
    LeaseId(i64::try_from(number.max(1)).unwrap_or(1))
}

impl Etcd2 {
    /// A number of our own, once etcd has answered with a majority.
    pub(super) async fn grant_lease(&self, ttl: Duration, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let ttl_s = u64::try_from(ttl.as_millis().div_ceil(1000).max(1)).unwrap_or(u64::MAX / 2000);
        let look = self.settle(None, |_| Judgement::Done, deadline).await?;
        let lease = new_lease();
        self.held.borrow_mut().insert(lease, Held::new(ttl_s));
        let asked_ttl_ms = u64::try_from(ttl.as_millis()).ok();
        Ok(LeaseGrant { lease, sent_at: look.sent_at, ttl_ms: ttl_s * 1000, asked_ttl_ms })
    }

    pub(super) async fn renew_lease(
        &self,
        lease: LeaseId,
        prove_leader: bool,
        deadline: Instant,
    ) -> Result<LeaseGrant, Refused> {
        if self.key_ttl_s(lease, deadline).await.map_err(refused)?.is_none() {
            return Err(Refused::LeaseGone);
        }
        let sent_at = match prove_leader {
            true => self.keep_both(lease, deadline).await,
            false => self.keep_member(lease, deadline).await,
        };
        let sent_at = match sent_at {
            Err(Refused::LeaseGone) => {
                self.forget(lease);
                return Err(Refused::LeaseGone);
            }
            sent_at => sent_at?,
        };
        let ttl_s = self.with_held(lease, |held| held.ttl_s).ok_or(Refused::LeaseGone)?;
        Ok(LeaseGrant { lease, sent_at, ttl_ms: ttl_s * 1000, asked_ttl_ms: None })
    }

    /// The proof does not depend on the member key and waits for it only a little: the kernel sees by itself when its key is
    /// gone.
    async fn keep_both(&self, lease: LeaseId, deadline: Instant) -> Result<Instant, Refused> {
        let leader = self.keep_leader(lease, deadline);
        let member = self.keep_member(lease, deadline);
        let (proven, renewed) = match select(pin!(leader), pin!(member)).await {
            Either::Left((proven, member)) => (proven, tokio::time::timeout(MEMBER_PATIENCE, member).await.ok()),
            Either::Right((renewed, leader)) => (leader.await, Some(renewed)),
        };
        if !matches!(renewed, Some(Ok(_))) {
            log::debug!("our member key was not renewed: {renewed:?}");
        }
        proven
    }

    /// Renews the leader key, which proves that it is ours; from when on the promise counts.
    async fn keep_leader(&self, lease: LeaseId, deadline: Instant) -> Result<Instant, Refused> {
        let Some((kept, ttl_s)) = self.with_held(lease, |held| (held.leader, held.key_ttl_s())) else {
            return Err(Refused::LeaseGone);
        };
        let key = self.layout.key("leader");
        let first = kept.map(|kept| Request::refresh(&key, ttl_s, kept.modified));
        let judge = |seen: &Seen<'_>| match (seen.led_on(lease), seen.leader()) {
            (Some(node), _) if !self.taken_by_patroni(seen) => {
                Judgement::Try(Request::refresh(&key, ttl_s, node.modified))
            }
            (None, None) if kept.is_some() && self.lapsed(lease, kept) => Judgement::Refuse(Refused::LeaseGone),
            (None, None) => Judgement::Refuse(Refused::Absent),
            _ => Judgement::Refuse(Refused::Compare),
        };
        let answer = self.settle(first, judge, deadline).await;
        match answer {
            Ok(Settled { node: Some(node), sent_at }) if self.leads(lease, &node) => {
                self.with_held(lease, |held| held.leader = Some(newer(held.leader, Kept::of(&node, sent_at))));
                Ok(sent_at)
            }
            Ok(_) => Err(Refused::Unreachable(CONTRADICTION.into())),
            Err(why @ (Refused::Compare | Refused::Absent)) => {
                // a creation never comes back
                self.with_held(lease, |held| {
                    held.leader = held.leader.filter(|now| Some(now.created) != kept.map(|k| k.created))
                });
                Err(why)
            }
            Err(why) => Err(why),
        }
    }

    fn lapsed(&self, lease: LeaseId, kept: Option<Kept>) -> bool {
        self.with_held(lease, |held| held.may_have_lapsed(kept, boottime())).unwrap_or(true)
    }

    /// A Patroni of our name renews whatever leader key has that name, and its own member key has no tag.
    fn taken_by_patroni(&self, seen: &Seen<'_>) -> bool {
        seen.member().is_some_and(|member| Tag::of(&member.value).is_none())
    }

    /// Renews the member key, if there is one, and our claim to bootstrap; else a look proves that etcd answers.
    async fn keep_member(&self, lease: LeaseId, deadline: Instant) -> Result<Instant, Refused> {
        self.keep_claim(lease, deadline).await?;
        if self.with_held(lease, |held| held.leader.is_none() && held.stray_until.is_some()) == Some(true) {
            self.clean_up(lease, deadline).await?;
        }
        let (held, kept) = match self.with_held(lease, |held| (held.clone(), held.member)) {
            None => return Err(Refused::LeaseGone),
            Some((_, None)) => return Ok(self.settle(None, |_| Judgement::Done, deadline).await?.sent_at),
            Some((held, Some(kept))) => (held, kept),
        };
        let key = self.layout.my_member();
        let tag = self.tag_for(lease).ok_or(Refused::LeaseGone)?;
        // what the tag says of the leader key is for the process that comes after this one
        let ttl_s = held.key_ttl_s();
        let as_it_should_be = |document: &str, modified: i64| match held.tagged == tag.leader {
            true => Request::refresh(&key, ttl_s, modified),
            false => Request::put(&key, &tag.on(document), Some(ttl_s), Guard::At(modified)),
        };
        let judge = |seen: &Seen<'_>| match seen.member() {
            Some(node) if Tag::of(&node.value).is_some_and(|tag| tag.lease == lease) => {
                Judgement::Try(as_it_should_be(&node.value, node.modified))
            }
            None if !self.lapsed(lease, Some(kept)) => Judgement::Done,
            _ => Judgement::Refuse(Refused::LeaseGone),
        };
        let first = as_it_should_be(&held.document, kept.modified);
        let settled = self.settle(Some(first), judge, deadline).await?;
        self.with_held(lease, |held| match &settled.node {
            Some(node) => {
                held.member = Some(newer(held.member, Kept::of(node, settled.sent_at)));
                held.tagged = tag.leader;
            }
            None => held.member = held.member.filter(|now| now.created != kept.created),
        });
        Ok(settled.sent_at)
    }

    /// Our member key on this lease, whoever wrote it before.
    pub(super) async fn put_member(&self, lease: LeaseId, document: &str, deadline: Instant) -> Result<(), Refused> {
        let key = self.layout.my_member();
        let ttl_s = self.key_ttl_s(lease, deadline).await.map_err(refused)?.ok_or(Refused::LeaseGone)?;
        let tag = self.tag_for(lease).ok_or(Refused::LeaseGone)?;
        let value = tag.on(document);
        let put = |modified: i64| Request::put(&key, &value, Some(ttl_s), Guard::At(modified));
        let first = self.with_held(lease, |held| held.member).flatten().map(|kept| put(kept.modified));
        let judge = |seen: &Seen<'_>| match seen.member() {
            Some(node) if Tag::of(&node.value).is_some_and(|tag| tag.lease == lease) => {
                Judgement::Try(put(node.modified))
            }
            None => Judgement::Try(Request::put(&key, &value, Some(ttl_s), Guard::Absent)),
            // with a creation of its own, by which it is known from when on the name is ours
            Some(_) => Judgement::Try(Request::set(&key, &value, ttl_s)),
        };
        let settled = self.settle(first, judge, deadline).await?;
        self.with_held(lease, |held| {
            held.member = settled.node.as_ref().map(|node| newer(held.member, Kept::of(node, settled.sent_at)));
            held.tagged = tag.leader;
            held.document = document.to_owned();
        });
        Ok(())
    }

    /// In two steps, each of which may have been done before: on which lease a key is, is known here and in the tag.
    pub(super) async fn move_our_keys(
        &self,
        from: LeaseId,
        to: LeaseId,
        prove_leader: bool,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let ttl_s = self.key_ttl_s(to, deadline).await.map_err(refused)?.ok_or(Refused::LeaseGone)?;
        let _ = self.key_ttl_s(from, deadline).await.map_err(refused)?;
        let leader_key = self.layout.key("leader");
        let judge = |seen: &Seen<'_>| match seen.led_on(from).or(seen.led_on(to)) {
            Some(node) => Judgement::Try(Request::refresh(&leader_key, ttl_s, node.modified)),
            None if !prove_leader => Judgement::Done,
            None if seen.leader().is_none() => Judgement::Refuse(Refused::Absent),
            None => Judgement::Refuse(Refused::Compare),
        };
        let leader = self.settle(None, judge, deadline).await?;
        let leader = leader.node.map(|node| Kept::of(&node, leader.sent_at));
        let (ttl_promised, document) = {
            let held = self.held.borrow();
            let document = held.get(&from).or(held.get(&to)).map(|held| held.document.clone()).unwrap_or_default();
            (held.get(&to).map_or(1, |held| held.ttl_s), document)
        };
        let tag = Tag { lease: to, ttl_s: ttl_promised, leader: leader.map(|kept| kept.created) };
        let member_key = self.layout.my_member();
        let judge = |seen: &Seen<'_>| match seen.member().map(|node| (node, Tag::of(&node.value))) {
            Some((node, Some(there))) if there.lease == from || there.lease == to => {
                let value = tag.on(&node.value);
                Judgement::Try(Request::put(&member_key, &value, Some(ttl_s), Guard::At(node.modified)))
            }
            _ => Judgement::Done,
        };
        let member = self.settle(None, judge, deadline).await?;
        let claim = self.with_held(from, |held| {
            held.leader = None;
            held.member = None;
            held.claim.take()
        });
        self.with_held(to, |held| {
            held.leader = leader.map(|kept| newer(held.leader, kept));
            held.member = member.node.as_ref().map(|node| newer(held.member, Kept::of(node, member.sent_at)));
            held.claim = held.claim.or(claim.flatten());
            held.document = document;
            held.tagged = tag.leader;
        });
        Ok(())
    }

    /// Removes what is on it, as far as it is as we know it. An answer that is lost does not matter: then it lapses.
    pub(super) fn revoke_lease(&self, lease: LeaseId, deadline: Instant) -> Answer<'_, ()> {
        Box::pin(async move {
            let held = self.held.borrow_mut().remove(&lease);
            let Some(Held { leader, claim, .. }) = held else { return };
            let Ok(snapshot) = self.look(deadline).await else { return };
            let ours = |name: &str, created: Option<i64>| {
                let node = snapshot.get(&self.layout.key(name)).filter(|node| Some(node.created) == created);
                node.map(|node| Request::delete(&self.layout.key(name), node.modified))
            };
            let member = snapshot.get(&self.layout.my_member());
            let member = member.filter(|node| Tag::of(&node.value).is_some_and(|tag| tag.lease == lease));
            let requests = [
                ours("leader", leader.map(|kept| kept.created)),
                ours("initialize", claim),
                member.map(|node| Request::delete(&self.layout.my_member(), node.modified)),
            ];
            for request in requests.into_iter().flatten() {
                let _ = ask(&self.client, &request, deadline).await;
            }
        })
    }

    /// The claim to bootstrap dies with its bootstrapper.
    async fn keep_claim(&self, lease: LeaseId, deadline: Instant) -> Result<(), Refused> {
        let claim = self.with_held(lease, |held| held.claim.map(|created| (created, held.key_ttl_s())));
        let Some((created, ttl_s)) = claim.flatten() else { return Ok(()) };
        let key = self.layout.key("initialize");
        let judge = |seen: &Seen<'_>| match seen.get(&key) {
            Some(node) if node.created == created && node.value.is_empty() => {
                Judgement::Try(Request::refresh(&key, ttl_s, node.modified))
            }
            _ => Judgement::Done,
        };
        if self.settle(None, judge, deadline).await?.node.is_none() {
            self.with_held(lease, |held| held.claim = held.claim.filter(|now| *now != created));
        }
        Ok(())
    }
}

/// Answers may come in another order than the writes were done.
fn newer(now: Option<Kept>, written: Kept) -> Kept {
    match now {
        Some(now) if now.created == written.created && now.modified > written.modified => now,
        _ => written,
    }
}

/// A key that somebody else keeps alive: not a lease, but the same from one reading to the next.
pub(super) fn foreign(node: &Node) -> Option<LeaseId> {
    node.ttl.map(|_| LeaseId(-node.created))
}
