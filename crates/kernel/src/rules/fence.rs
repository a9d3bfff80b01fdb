//! PostgreSQL is or may become writable although the lock does not allow it: end that, whatever else is wanted.

use crate::decide::Verdict;
use crate::situation::Situation;
use crate::{Action, Reason, View};
use pgherd_types::{Instant, Operation, Server, StopMode};

/// The lock does not allow what PostgreSQL is or may become. The fence thread acts on the same facts on its own; this
/// rule makes the orderly part of it.
pub fn unfenced(view: &View, now: Instant) -> Verdict {
    let because = why(view);
    match &view.operation {
        Some(running) if Situation::ends_writability(&running.operation) || running.cancelled => {
            Verdict::hold(Reason::OperationInProgress { name: running.operation.name(), renewed: false })
        }
        Some(running) => {
            Verdict::act(Action::Cancel(running.id), Reason::LockLostDuring { name: running.operation.name() })
        }
        None => Verdict::start(view, now, Operation::Stop { mode: StopMode::Immediate }, because),
    }
}

fn why(view: &View) -> Reason {
    let other = view.cluster.get().and_then(|c| c.leader.as_ref()).filter(|_| !view.key_is_ours());
    match other {
        Some(leader) => Reason::FencedWithoutLock { leader: Some(leader.name.clone()) },
        None if view.lease.lost_at.is_some() => Reason::FencedLockLost,
        None if view.lease.leader.is_some() => Reason::FencedLeaseRanOut,
        None => Reason::FencedWithoutLock { leader: None },
    }
}

/// Backends outlive their postmaster and may still acknowledge commits: end them before anything else.
pub fn orphaned(view: &View, now: Instant) -> Verdict {
    debug_assert!(view.postgres.get().is_some_and(|p| p.server == Server::Orphaned));
    Verdict::start(view, now, Operation::Stop { mode: StopMode::Immediate }, Reason::OrphanedBackends)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::view::Running;
    use crate::{Action, Observation};
    use pgherd_types::*;

    #[test]
    fn a_refused_renewal_ends_writes_at_once() {
        for why in [Refused::Compare, Refused::LeaseGone] {
            let (mut view, now) = primary().build();
            view.asked.renew = Some(crate::asked::Ask::new(true, now.mono));
            view.apply(Observation::LeaseRefused { why }, now);
            assert_eq!(name_of(&crate::decide(&view, now).role), "Stop Immediate");
            assert!(matches!(view.fence_order(now.mono), FenceOrder::Armed { stop_at, .. } if stop_at <= now.mono));
        }
    }

    #[test]
    fn an_unreachable_dcs_does_not_before_the_deadline() {
        let (mut view, now) = primary().build();
        view.asked.renew = Some(crate::asked::Ask::new(true, now.mono));
        view.apply(Observation::LeaseRefused { why: Refused::Unreachable("no answer".into()) }, now);
        assert_eq!(crate::decide(&view, now).role, Action::Hold);
    }

    #[test]
    fn a_promotion_under_way_is_given_up_with_the_lock() {
        let promote = Operation::Promote { timeline: Timeline(2) };
        let running = Running { id: OperationId(4), operation: promote, since: Instant::default(), cancelled: false };
        let case = replica().with_view(|v| v.operation = Some(running));
        check(case, "Cancel", "LockLostDuring");
    }

    #[test]
    fn orphans_are_ended_even_with_the_lock() {
        check(primary().server(Server::Orphaned), "Stop Immediate", "OrphanedBackends");
    }

    #[test]
    fn a_standby_is_never_fenced() {
        let (view, now) = replica().build();
        assert_eq!(view.fence_order(now.mono), FenceOrder::Disarmed);
    }
}
