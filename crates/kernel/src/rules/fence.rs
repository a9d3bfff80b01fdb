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
        Some(running) => Verdict::act(Action::Cancel(running.id), Reason::LockLostDuring { name: running.operation.name() }),
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
