//! What this process holds, by the numbers it calls leases.

use super::Etcd2;
use super::settle::Seen;
use super::tag::Tag;
use super::wire::Node;
use crate::etcd3::failure::Failure;
use pgherd_types::{Instant, LeaseId};
use std::time::Duration;

/// A key expires when the clock of etcd's leader passes the time that the member who took the request had read on its own. So
/// much may these clocks differ before a promise is broken: keys are kept so much longer than is promised.
pub(super) const CLOCKS_MAY_DIFFER_S: u64 = 1;
/// How long a late copy of a request for the leader key may still arrive.
const COPIES_LIVE_FOR: Duration = Duration::from_secs(60);

/// A key of ours as it was written last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept {
    /// Index of its creation.
    pub created: i64,
    /// Index of the last write that is known.
    pub modified: i64,
    /// Before that write was sent; `None` if that was another process.
    pub at: Option<Instant>,
}

impl Kept {
    pub fn of(node: &Node, at: Instant) -> Self {
        Self { created: node.created, modified: node.modified, at: Some(at) }
    }
}

/// What one lease stands for.
#[derive(Clone, Default, Debug)]
pub(super) struct Held {
    pub ttl_s: u64,
    /// The leader key, once it is confirmed.
    pub leader: Option<Kept>,
    pub member: Option<Kept>,
    /// Index of the creation of our claim to bootstrap.
    pub claim: Option<i64>,
    /// Our document, without its tag.
    pub document: String,
    /// What its tag says of the leader key.
    pub tagged: Option<i64>,
    /// The last request for the leader key ended without an answer.
    pub asked_in_vain: bool,
    /// A leader key with our name may have been created that was not confirmed, or may yet be.
    pub stray_until: Option<Instant>,
}

impl Held {
    pub fn new(ttl_s: u64) -> Self {
        Self { ttl_s, ..Self::default() }
    }
    /// What etcd is asked for.
    pub fn key_ttl_s(&self) -> u64 {
        self.ttl_s + CLOCKS_MAY_DIFFER_S
    }
    /// A key that is gone: may it have lapsed, rather than been removed?
    pub fn may_have_lapsed(&self, kept: Option<Kept>, now: Instant) -> bool {
        let until = kept.and_then(|kept| kept.at).map(|at| at + Duration::from_secs(self.ttl_s));
        until.is_none_or(|until| until <= now)
    }
    pub fn expects_copies(&mut self, now: Instant) {
        self.stray_until = Some(now + COPIES_LIVE_FOR);
    }
}

impl Etcd2 {
    pub(super) fn with_held<T>(&self, lease: LeaseId, action: impl FnOnce(&mut Held) -> T) -> Option<T> {
        self.held.borrow_mut().get_mut(&lease).map(action)
    }

    /// Is that the leader key that was confirmed on this lease?
    pub(super) fn leads(&self, lease: LeaseId, node: &Node) -> bool {
        let held = self.held.borrow();
        let kept = held.get(&lease).and_then(|held| held.leader);
        kept.is_some_and(|kept| kept.created == node.created && node.value == self.layout.me().as_str())
    }

    /// The lease on which it was confirmed.
    pub(super) fn lease_of_leader(&self, node: &Node) -> Option<LeaseId> {
        let leases: Vec<LeaseId> = self.held.borrow().keys().copied().collect();
        leases.into_iter().find(|lease| self.leads(*lease, node))
    }

    /// Did our name's key say without a gap, from before that index until now, that this lease has the name? Then no other
    /// process of that name can have been told that a leader key of that index is its own.
    pub(super) fn has_the_name_since_before(&self, lease: LeaseId, index: i64, seen: &Seen<'_>) -> bool {
        seen.member().is_some_and(|member| {
            member.created < index && Tag::of(&member.value).is_some_and(|tag| tag.lease == lease)
        })
    }

    pub(super) fn tag_for(&self, lease: LeaseId) -> Option<Tag> {
        self.with_held(lease, |held| Tag { lease, ttl_s: held.ttl_s, leader: held.leader.map(|kept| kept.created) })
    }

    /// Time to live that keys on this lease get; `None` if there is no such lease. What another process called so is
    /// known by the tag that it left.
    pub(super) async fn key_ttl_s(&self, lease: LeaseId, deadline: Instant) -> Result<Option<u64>, Failure> {
        if let Some(ttl_s) = self.with_held(lease, |held| held.key_ttl_s()) {
            return Ok(Some(ttl_s));
        }
        let snapshot = self.look(deadline).await?;
        let Some(node) = snapshot.get(&self.layout.my_member()) else { return Ok(None) };
        let Some(tag) = Tag::of(&node.value).filter(|tag| tag.lease == lease) else { return Ok(None) };
        let old = |node: &Node| Kept { created: node.created, modified: node.modified, at: None };
        let leader = snapshot.get(&self.layout.key("leader"));
        let leader = leader.filter(|l| Some(l.created) == tag.leader && l.value == self.layout.me().as_str());
        let held = Held {
            leader: leader.map(old),
            member: Some(old(node)),
            document: node.value.clone(),
            tagged: tag.leader,
            ..Held::new(tag.ttl_s)
        };
        let ttl_s = held.key_ttl_s();
        self.held.borrow_mut().entry(lease).or_insert(held);
        Ok(Some(ttl_s))
    }

    pub(super) fn forget(&self, lease: LeaseId) {
        self.held.borrow_mut().remove(&lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_gone_lapsed_if_nobody_kept_it_for_its_time() {
        let held = Held::new(30);
        let at = |s: u64| Instant::from_millis(s * 1000);
        let kept = |at: Option<Instant>| Some(Kept { created: 1, modified: 2, at });
        assert!(!held.may_have_lapsed(kept(Some(at(100))), at(129)));
        assert!(held.may_have_lapsed(kept(Some(at(100))), at(130)));
        assert!(held.may_have_lapsed(kept(None), at(100)), "another process wrote it, nobody knows when");
        assert!(held.may_have_lapsed(None, at(100)));
        assert_eq!(held.key_ttl_s(), 31);
    }
}
