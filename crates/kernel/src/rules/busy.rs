//! An operation is under way: let it work, unless what it needs is gone.

use crate::candidates::{Found, Wanted, find};
use crate::decide::Verdict;
use crate::rules::archiving::archiving;
use crate::view::Running;
use crate::wishes::Pending;
use crate::{Action, Reason, View};
use pgherd_types::{Instant, Operation};
use std::time::Duration;

/// How often a leader whose start takes too long looks for somebody else.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Hold, or give up an operation whose ground or time is gone. (One that needs the lock and has lost it is the fence's case.)
pub fn busy(view: &View, running: &Running, now: Instant) -> Verdict {
    let name = running.operation.name();
    let somebody_leads = view.cluster.get().is_some_and(|c| c.leader.is_some());
    if makes_room(view, running) {
        return Verdict::act(Action::Cancel(running.id), Reason::MakingRoom { name });
    }
    if let Some(verdict) = archiving(view, running, now) {
        return verdict;
    }
    let pointless = matches!(running.operation, Operation::Bootstrap) && somebody_leads && !view.leads(now);
    if pointless && !running.cancelled {
        return Verdict::act(Action::Cancel(running.id), Reason::StartupNotNeeded { name });
    }
    let takes_long = matches!(running.operation, Operation::StartPrimary);
    let allowed = match &view.pending {
        Some(Pending::Restart { timeout: Some(timeout), .. }) => *timeout,
        _ => view.start_timeout(),
    };
    let gives_up_at = running.since + allowed;
    if takes_long && !running.cancelled && now >= gives_up_at {
        return match somebody_else(view, now) {
            Found::Able(_) => Verdict::act(Action::Cancel(running.id), Reason::StartTimedOut),
            Found::Asking(step) => *step,
            Found::Nobody(_) => Verdict::hold_until(Reason::StartTimedOutAlone, now + ASK_AGAIN),
        };
    }
    let because = Reason::OperationInProgress { name, renewed: view.leads(now) };
    if takes_long && now < gives_up_at { Verdict::hold_until(because, gives_up_at) } else { Verdict::hold(because) }
}

/// Could another member lead? Asked by a leader whose start takes too long: only then is there a point in giving up.
pub(crate) fn somebody_else(view: &View, now: Instant) -> Found {
    match view.cluster.get().filter(|_| view.dcs_lost_since.is_none()) {
        Some(cluster) => find(view, cluster, &Wanted::by(None, cluster.status.optime, Instant::default()), now),
        None => Found::Nobody("the DCS is not accessible".to_owned()),
    }
}

/// A new copy of the data was asked for with force while this was under way already.
fn makes_room(view: &View, running: &Running) -> bool {
    let wanted = matches!(&view.pending, Some(Pending::Reinitialize { at, .. }) if *at >= running.since);
    wanted && !running.cancelled && !matches!(running.operation, Operation::Stop { .. })
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::view::Running;
    use pgherd_types::{Instant, Operation, OperationEnd, OperationId};

    fn starting_since(ms: u64) -> Case {
        let since = Instant::from_millis(ms);
        let running = Running { id: OperationId(2), operation: Operation::StartPrimary, since, cancelled: false };
        primary().stopped().with_view(|v| {
            v.operation = Some(running);
            v.settings.primary_start_timeout = std::time::Duration::from_secs(10);
        })
    }

    #[test]
    fn a_primary_that_starts_for_too_long_makes_room() {
        check(starting_since(50_001), "Hold", "OperationInProgress");
        check(starting_since(50_000), "Probe", "LookingForSuccessor");
        let able = |case: Case| case.peers(vec![("b", answered(1000)), ("c", silent())]);
        let nobody = |case: Case| case.peers(vec![("b", silent()), ("c", silent())]);
        check(able(starting_since(50_000)), "Cancel", "StartTimedOut");
        check(nobody(starting_since(50_000)), "Hold", "StartTimedOutAlone");
        check(
            primary().stopped().ended(Operation::StartPrimary, OperationEnd::Cancelled),
            "Release",
            "StartFailedReleasing",
        );
    }
}
