//! What the coordinator counts: facts and decisions go by here, and the counts are published with the status. Nothing is
//! decided by them.

mod sync_waits;

use pgherd_kernel::{Decision, Observation, Reason, View};
use pgherd_types::{Counts, MemberName, Now, Operation, OperationEnd};
use std::time::Duration;
use sync_waits::SyncWaits;

/// See the module.
#[derive(Default)]
pub struct Metrics {
    counts: Counts,
    /// Who led when last somebody did.
    leader: Option<MemberName>,
    /// Since then somebody asked for a switchover or failover.
    asked_for: bool,
    fenced: bool,
    sync_waits: SyncWaits,
}

impl Metrics {
    /// A fact arrives; the view does not know it yet.
    pub fn fact(&mut self, fact: &Observation, view: &View, now: Now) {
        match fact {
            Observation::Cluster { cluster, read_at } => {
                self.counts.readings.add(now.mono.since(*read_at));
                self.asked_for |= cluster.manual().is_some();
                if let Some(leader) = &cluster.leader {
                    self.led_by(&leader.name);
                }
            }
            Observation::LeaseRenewed { grant, .. } => self.counts.renewals.add(now.mono.since(grant.sent_at)),
            Observation::DcsLost { .. } if view.dcs_lost_since.is_none() => self.counts.dcs_losses += 1,
            Observation::Postgres(state) => {
                self.counts.sync_waits_cancelled += self.sync_waits.looked(state.running());
            }
            Observation::OperationFinished { end: OperationEnd::Done, .. } => {
                let operation = view.operation.as_ref().map(|running| &running.operation);
                self.counts.promotions += u64::from(matches!(operation, Some(Operation::Promote { .. })));
            }
            _ => {}
        }
    }

    fn led_by(&mut self, leader: &MemberName) {
        if self.leader.as_ref() == Some(leader) {
            return;
        }
        // the first leader that is seen took over from nobody this agent knows of
        if self.leader.replace(leader.clone()).is_some() {
            let count =
                if self.asked_for { &mut self.counts.planned_leader_changes } else { &mut self.counts.failovers };
            *count += 1;
        }
        self.asked_for = false;
    }

    /// A decision was made.
    pub fn decided(&mut self, decision: &Decision) {
        let fenced = matches!(
            decision.because,
            Reason::FencedLeaseRanOut | Reason::FencedLockLost | Reason::FencedWithoutLock { .. }
        );
        // one fence is decided on many times until PostgreSQL is down
        self.counts.fences += u64::from(fenced && !self.fenced);
        self.fenced = fenced;
    }

    /// A decision would have broken an invariant.
    pub fn breach(&mut self) {
        self.counts.breaches += 1;
    }

    /// A turn is over.
    pub fn turned(&mut self, took: Duration) {
        self.counts.decisions.add(took);
    }

    /// As of now.
    pub fn counts(&self) -> Counts {
        Counts { refused_sends: crate::tell::refused_total(), ..self.counts.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::{Cluster, FailoverKey, Instant, LeaderKey, WallTime};
    use std::sync::Arc;

    fn led(metrics: &mut Metrics, leader: Option<&str>, asked_for: bool) -> (u64, u64) {
        let leader = leader.map(|name| LeaderKey { name: name.into(), lease: None });
        let failover = asked_for.then(|| FailoverKey {
            mod_revision: 1,
            leader: Some("a".into()),
            candidate: None,
            schedule: None,
        });
        let cluster = Arc::new(Cluster { leader, failover, ..Cluster::default() });
        let now = Now { mono: Instant::from_millis(5), wall: WallTime(0) };
        let fact = Observation::Cluster { cluster, read_at: Instant::from_millis(2) };
        metrics.fact(&fact, &View::default(), now);
        (metrics.counts().planned_leader_changes, metrics.counts().failovers)
    }

    #[test]
    fn another_leader_is_a_failover_unless_somebody_asked_for_it() {
        let mut metrics = Metrics::default();
        for (leader, asked_for, expected) in [
            (Some("a"), false, (0, 0)),
            (None, false, (0, 0)),
            (Some("a"), false, (0, 0)),
            (None, false, (0, 0)),
            (Some("b"), false, (0, 1)),
            (Some("b"), true, (0, 1)),
            (None, true, (0, 1)),
            (Some("a"), false, (1, 1)),
            (Some("c"), false, (1, 2)),
        ] {
            assert_eq!(led(&mut metrics, leader, asked_for), expected, "{leader:?}");
        }
        assert_eq!(metrics.counts().readings.sum(), Duration::from_millis(9 * 3));
    }

    #[test]
    fn the_loss_of_the_dcs_is_counted_once() {
        let (mut metrics, mut view) = (Metrics::default(), View::default());
        let now = Now { mono: Instant::from_millis(5), wall: WallTime(0) };
        for _ in 0..3 {
            let fact = Observation::DcsLost { since: Instant::from_millis(1) };
            metrics.fact(&fact, &view, now);
            view.apply(fact, now);
        }
        assert_eq!(metrics.counts().dcs_losses, 1);
    }
}
