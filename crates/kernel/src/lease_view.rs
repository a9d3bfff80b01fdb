//! What this node may believe about its lease. **All lease arithmetic lives here.**
//!
//! etcd promises that a lease lives until `sent_at + ttl`, counted from before the renewal left. We rely on it until
//! `stop_at = sent_at + ttl - margin`; then PostgreSQL is stopped immediately, at `kill_at = stop_at + margin / 2` every
//! process of it is killed, and the other half of the margin is for the kill itself, for scheduling and for clock drift.

use pgherd_types::{FenceOrder, Instant, LeaseGrant, millis};
use std::time::Duration;

/// The default margin: a tenth of the ttl, at least a second, never half of the ttl or more.
pub fn margin_ms(ttl_ms: u64) -> u64 {
    (ttl_ms / 10).max(1000).min(ttl_ms.saturating_sub(1) / 2)
}

/// A proof that the leader key hung on our lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    /// The promise.
    pub grant: LeaseGrant,
    /// When the proof was complete. A reading of the cluster says something about it only if it was begun later.
    pub known_at: Instant,
}

/// All members agreed to keep this primary.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Before the first of them was asked.
    pub asked_at: Instant,
    /// For how long they do not race from then on, as far as this node knows.
    pub ttl_ms: u64,
}

/// How the leader lock stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Lock {
    /// Ours, to be relied upon until then.
    Held {
        /// The fence deadline.
        until: Instant,
    },
    /// It was ours and the lease lives, but the key was removed: it may be taken again until then.
    Vanished {
        /// The fence deadline of the last proof.
        until: Instant,
    },
    /// Not ours, or no longer to be relied upon.
    No,
}

/// The lease as this node knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseView {
    /// The last promise for our lease; `None` when we have none.
    pub current: Option<LeaseGrant>,
    /// The last proof of leadership; gone when it was disproved.
    pub leader: Option<Proof>,
    /// The key was seen to be absent since the last proof.
    pub vanished: bool,
    /// Not because somebody removed it, but because its lease lapsed while the DCS could not be reached.
    pub lapsed: bool,
    /// When leadership was disproved while it had been relied upon.
    pub lost_at: Option<Instant>,
    /// Every member was asked then, and all agreed that this primary goes on without the DCS: they do not race for the
    /// time to live from when they were asked. Counts only on top of a proof.
    pub agreed: Option<Agreement>,
    /// The leader key may be on its way to a new lease: until the next proof nobody knows on which one it hangs, and of the
    /// two promises only the one that ends first counts. The new one's is taken as of before it was asked for.
    pub moving: Option<LeaseGrant>,
    /// Overrides the margin; the simulator plants a wrong one with it.
    pub margin_override_ms: Option<u64>,
}

fn expires_at(grant: &LeaseGrant) -> Instant {
    grant.sent_at + Duration::from_millis(grant.ttl_ms)
}

impl LeaseView {
    fn margin(&self, grant: &LeaseGrant) -> Duration {
        Duration::from_millis(self.margin_override_ms.unwrap_or_else(|| margin_ms(grant.ttl_ms)))
    }
    /// From then on the promise is not relied upon.
    pub fn stop_at(&self, grant: &LeaseGrant) -> Instant {
        (grant.sent_at + Duration::from_millis(grant.ttl_ms)).minus(self.margin(grant))
    }
    /// What etcd promised about the leader key at the least.
    pub fn promise(&self) -> Option<LeaseGrant> {
        let grant = self.leader?.grant;
        let sooner = self.moving.filter(|moving| expires_at(moving) < expires_at(&grant));
        Some(sooner.map_or(grant, |moving| LeaseGrant { lease: grant.lease, ..moving }))
    }
    /// From then on leadership is not relied upon: what etcd promised, or what all members promised later.
    fn until(&self, proof: &Proof) -> Instant {
        let grants = [Some(proof.grant), self.moving];
        let promised = grants.iter().flatten().map(|grant| self.stop_at(grant)).min().unwrap_or_default();
        self.agreed_until(proof).map_or(promised, |agreed| agreed.max(promised))
    }
    fn agreed_until(&self, proof: &Proof) -> Option<Instant> {
        let Agreement { asked_at, ttl_ms } = self.agreed?;
        let ttl_ms = ttl_ms.min(proof.grant.ttl_ms);
        Some(self.stop_at(&LeaseGrant { sent_at: asked_at, ttl_ms, ..proof.grant }))
    }
    /// Have all members agreed to keep this primary, and does that last?
    pub fn agreed(&self, now: Instant) -> bool {
        self.leader.is_some_and(|proof| self.agreed_until(&proof).is_some_and(|until| now < until))
    }
    /// Was the lease asked with another time to live than this? (etcd may have granted more than was asked.)
    pub fn is_asked_otherwise(&self, ttl: Duration) -> bool {
        let asked = self.current.map(|grant| grant.asked_ttl_ms.unwrap_or(grant.ttl_ms));
        asked.is_some_and(|asked| u128::from(asked) != ttl.as_millis())
    }
    /// The keys are about to be moved to a new lease with this time to live.
    pub fn begin_move(&mut self, ttl: Duration, now: Instant) {
        let Some(current) = self.current.filter(|_| self.leader.is_some()) else { return };
        let ttl_ms = millis(ttl);
        let new = LeaseGrant { lease: current.lease, sent_at: now, ttl_ms, asked_ttl_ms: Some(ttl_ms) };
        let sooner = self.moving.filter(|moving| expires_at(moving) < expires_at(&new));
        self.moving = Some(sooner.unwrap_or(new));
    }
    /// How the lock stands.
    pub fn lock(&self, now: Instant) -> Lock {
        match self.leader {
            Some(proof) if now < self.until(&proof) => {
                let until = self.until(&proof);
                if self.vanished { Lock::Vanished { until } } else { Lock::Held { until } }
            }
            _ => Lock::No,
        }
    }
    /// For how long a fresh promise may be relied upon.
    pub fn usable(&self) -> Option<Duration> {
        let grant = self.leader.map(|proof| proof.grant).or(self.current)?;
        Some(Duration::from_millis(grant.ttl_ms).saturating_sub(self.margin(&grant)))
    }
    /// When the next renewal is due: so often that two more fit in before the deadline, and not less often than
    /// `loop_wait`.
    pub fn renewal_due_at(&self, loop_wait: Duration) -> Option<Instant> {
        let grant = self.current?;
        let usable = Duration::from_millis(grant.ttl_ms).saturating_sub(self.margin(&grant));
        Some(grant.sent_at + loop_wait.min(usable * 2 / 5))
    }
    /// Leadership is disproved, for certain.
    pub fn lose(&mut self, now: Instant) {
        if self.leader.is_some() {
            self.lost_at = Some(now);
        }
        self.leader = None;
        self.agreed = None;
        self.moving = None;
        (self.vanished, self.lapsed) = (false, false);
    }
    /// Leadership is proved.
    pub fn prove(&mut self, grant: LeaseGrant, now: Instant) {
        self.current = Some(grant);
        self.leader = Some(Proof { grant, known_at: now });
        self.agreed = None;
        self.moving = None;
        (self.vanished, self.lapsed) = (false, false);
        self.lost_at = None;
    }
    /// The order for the fence thread while PostgreSQL is or may become writable. Without any proof it is at once.
    pub fn fence_order(&self, now: Instant) -> FenceOrder {
        let Some(grant) = self.leader.map(|p| p.grant).or(self.current) else {
            let at = self.lost_at.unwrap_or(now);
            return FenceOrder::Armed {
                lease: pgherd_types::LeaseId(0),
                stop_at: at,
                kill_at: at + Duration::from_millis(500),
            };
        };
        let stop_at = match &self.leader {
            Some(proof) => self.until(proof),
            None => self.lost_at.unwrap_or(now),
        };
        let margins = [Some(grant), self.moving].into_iter().flatten().map(|grant| self.margin(&grant));
        FenceOrder::Armed { lease: grant.lease, stop_at, kill_at: stop_at + margins.min().unwrap_or_default() / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::LeaseId;

    fn grant(sent_ms: u64, ttl_ms: u64) -> LeaseGrant {
        LeaseGrant { lease: LeaseId(7), sent_at: Instant::from_millis(sent_ms), ttl_ms, asked_ttl_ms: None }
    }

    #[test]
    fn the_margin_is_a_tenth_at_least_a_second_and_less_than_half() {
        for (ttl, margin) in
            [(30_000, 3_000), (20_000, 2_000), (10_000, 1_000), (3_000, 1_000), (2_000, 999), (1_000, 499)]
        {
            assert_eq!(margin_ms(ttl), margin, "ttl {ttl}");
        }
    }

    #[test]
    fn the_lock_is_relied_upon_until_the_margin_and_not_a_millisecond_longer() {
        let mut lease = LeaseView::default();
        lease.prove(grant(1_000, 30_000), Instant::from_millis(1_400));
        let until = Instant::from_millis(28_000);
        assert_eq!(lease.lock(Instant::from_millis(27_999)), Lock::Held { until });
        assert_eq!(lease.lock(until), Lock::No);
        lease.vanished = true;
        assert_eq!(lease.lock(Instant::from_millis(5_000)), Lock::Vanished { until });
    }

    #[test]
    fn the_kill_comes_half_a_margin_after_the_stop_and_before_the_lease_can_lapse() {
        let mut lease = LeaseView::default();
        lease.prove(grant(0, 3_000), Instant::from_millis(10));
        let FenceOrder::Armed { stop_at, kill_at, .. } = lease.fence_order(Instant::from_millis(20)) else { panic!() };
        assert_eq!((stop_at, kill_at), (Instant::from_millis(2_000), Instant::from_millis(2_500)));
    }

    #[test]
    fn a_disproved_leader_is_fenced_at_once() {
        let mut lease = LeaseView::default();
        lease.prove(grant(0, 30_000), Instant::from_millis(10));
        lease.lose(Instant::from_millis(5_000));
        let FenceOrder::Armed { stop_at, .. } = lease.fence_order(Instant::from_millis(6_000)) else { panic!() };
        assert_eq!(stop_at, Instant::from_millis(5_000));
        assert_eq!(lease.lock(Instant::from_millis(5_000)), Lock::No);
    }

    #[test]
    fn while_the_key_moves_only_the_promise_that_ends_first_counts() {
        let mut lease = LeaseView::default();
        lease.prove(grant(0, 30_000), Instant::from_millis(10));
        assert!(!lease.is_asked_otherwise(Duration::from_secs(30)));
        lease.begin_move(Duration::from_secs(3), Instant::from_millis(5_000));
        let until = Instant::from_millis(7_000);
        assert_eq!(lease.lock(Instant::from_millis(5_000)), Lock::Held { until });
        let FenceOrder::Armed { stop_at, kill_at, .. } = lease.fence_order(Instant::from_millis(5_000)) else {
            panic!()
        };
        assert_eq!((stop_at, kill_at), (until, Instant::from_millis(7_500)));
        let promise = lease.promise().unwrap();
        assert_eq!((promise.lease, promise.sent_at.as_millis(), promise.ttl_ms), (LeaseId(7), 5_000, 3_000));
        lease.begin_move(Duration::from_secs(60), Instant::from_millis(6_000));
        assert_eq!(lease.lock(Instant::from_millis(6_000)), Lock::Held { until }, "a second attempt extends nothing");
        lease.prove(grant(6_500, 60_000), Instant::from_millis(6_600));
        assert_eq!(lease.lock(Instant::from_millis(6_600)), Lock::Held { until: Instant::from_millis(60_500) });
    }

    #[test]
    fn a_longer_time_to_live_is_not_relied_upon_before_the_proof() {
        let mut lease = LeaseView::default();
        lease.prove(grant(0, 10_000), Instant::from_millis(10));
        lease.begin_move(Duration::from_secs(60), Instant::from_millis(1_000));
        assert_eq!(lease.lock(Instant::from_millis(1_000)), Lock::Held { until: Instant::from_millis(9_000) });
        assert_eq!(lease.promise(), Some(grant(0, 10_000)));
    }

    #[test]
    fn what_etcd_granted_beyond_what_was_asked_is_no_reason_for_another_lease() {
        let granted = LeaseGrant { asked_ttl_ms: Some(3_000), ..grant(0, 8_000) };
        let lease = LeaseView { current: Some(granted), ..LeaseView::default() };
        assert!(!lease.is_asked_otherwise(Duration::from_secs(3)) && lease.is_asked_otherwise(Duration::from_secs(8)));
    }

    #[test]
    fn renewals_leave_room_for_two_more() {
        let mut lease = LeaseView { current: Some(grant(0, 30_000)), ..LeaseView::default() };
        assert_eq!(lease.renewal_due_at(Duration::from_secs(10)), Some(Instant::from_millis(10_000)));
        lease.current = Some(grant(0, 3_000));
        assert_eq!(lease.renewal_due_at(Duration::from_secs(1)), Some(Instant::from_millis(800)));
    }
}
