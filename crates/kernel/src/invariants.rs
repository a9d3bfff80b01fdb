//! The local forms of the invariants, over a view and the decision made from it. Shares nothing with the rules: it reads
//! only plain facts. In tests and in the simulator a breach panics; in production the safe action replaces the decision.

use crate::{Action, Decision, Lock, View};
use pgherd_types::{DataDirectory, DcsWrite, Now, Operation, OperationId, Server, StopMode};

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// Its id, as in docs and logs.
    pub id: &'static str,
    /// What was about to happen.
    pub what: String,
}

/// Judge a decision.
pub fn check(view: &View, decision: &Decision, now: Now) -> Result<(), Breach> {
    let breach = |id, what: &str| {
        Err(Breach { id, what: format!("{what}: {:?} because {:?}", decision.role, decision.because) })
    };
    let held_until = match view.lease.lock(now.mono) {
        Lock::Held { until } => Some(until),
        Lock::Vanished { .. } | Lock::No => None,
    };
    let data = view.postgres.get().map(|p| &p.data);
    if let Action::Start { operation, fence, .. } = &decision.role {
        if operation.needs_lock() && (held_until.is_none() || *fence != held_until) {
            return breach("S2", "becoming writable without the lock or with a later fence than the lease's");
        }
        if matches!(operation, Operation::Clone { replace: false, .. } | Operation::Restore | Operation::Bootstrap)
            && data != Some(&DataDirectory::Empty)
        {
            return breach("S6", "overwriting a data directory that is not empty");
        }
        if matches!(operation, Operation::Clone { replace: true, .. } | Operation::Rewind { .. })
            && (held_until.is_some() || view.postgres.get().is_none_or(|p| p.server != Server::Stopped))
        {
            return breach("S6", "changing the data of a running server or of the leader");
        }
        if operation.needs_lock() && view.settings.standby_cluster.is_some() {
            return breach("S2", "becoming writable in a standby cluster");
        }
        let written_by = view.cluster.get().and_then(|c| c.sync.active()).and_then(|key| key.leader.as_ref());
        let synchronous = view.settings.sync_mode() != pgherd_types::SyncMode::Off;
        if matches!(operation, Operation::Promote { .. }) && synchronous && written_by != Some(&view.me.name) {
            return breach("S5", "promoting before the sync key names this node");
        }
        if let Operation::Promote { timeline } = operation {
            let mine = view.postgres.get().and_then(|p| p.running()).and_then(|r| r.timeline);
            if view.reservation != Some(*timeline) || mine.is_some_and(|mine| *timeline <= mine) {
                return breach("S4", "promoting to a timeline that is not reserved or does not grow");
            }
        }
        if view.operation.is_some() {
            return breach("S1", "two operations at a time");
        }
    }
    let must_be_fenced = !view.settings.pause || view.becomes_writable();
    if must_be_fenced && view.may_be_writable() && view.lease.lock(now.mono) == Lock::No && !ends_it(view, decision) {
        return breach("S1", "staying writable without the lock");
    }
    if matches!(decision.role, Action::Release(_)) && must_be_fenced && view.may_be_writable() {
        return breach("S1", "giving up the key while commits may be acknowledged");
    }
    // a proof may have found the key gone before any reading did
    let vanished = matches!(view.lease.lock(now.mono), Lock::Vanished { .. });
    let key_free = vanished || view.cluster.get().is_some_and(|c| c.leader.is_none());
    if decision.role == Action::Acquire && !key_free {
        return breach("S2", "taking a key that somebody has");
    }
    let leader_write = |w: &DcsWrite| {
        matches!(
            w,
            DcsWrite::Status(_)
                | DcsWrite::LegacyOptime(_)
                | DcsWrite::History(_)
                | DcsWrite::ReserveTimeline { .. }
                | DcsWrite::Config(_)
                | DcsWrite::Failsafe(_)
                | DcsWrite::ClearFailover { .. }
        )
    };
    let asks_as_leader = decision.upkeep.writes.iter().any(leader_write)
        || matches!(&decision.role, Action::Write(w) if leader_write(w));
    if asks_as_leader && held_until.is_none() {
        return breach("S4", "writing a leader's key without the lock");
    }
    if decision.decide_again_at <= now.mono {
        return breach("L1", "the wake-up does not lie ahead");
    }
    Ok(())
}

/// A stop is on its way, or begins, or the operation that could make it writable is being given up.
fn ends_it(view: &View, decision: &Decision) -> bool {
    let under_way =
        view.operation.as_ref().is_some_and(|r| matches!(r.operation, Operation::Stop { .. }) || r.cancelled);
    under_way || matches!(&decision.role, Action::Start { operation: Operation::Stop { .. }, .. } | Action::Cancel(_))
}

/// What is done instead of a decision that breaks an invariant: for S1 and S2 the immediate stop, else nothing.
pub fn safe_instead(view: &View, decision: Decision, breach: &Breach) -> Decision {
    let stop = Action::Start {
        id: OperationId(view.last_operation + 1),
        operation: Operation::Stop { mode: StopMode::Immediate },
        fence: None,
    };
    let role = match (breach.id, view.operation.is_some()) {
        ("S1" | "S2", false) if view.may_be_writable() => stop,
        _ => Action::Hold,
    };
    Decision {
        role,
        upkeep: crate::Upkeep { renew: decision.upkeep.renew, new_ttl: decision.upkeep.new_ttl, ..Default::default() },
        ..decision
    }
}
