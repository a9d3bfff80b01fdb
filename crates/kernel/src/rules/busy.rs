//! An operation is under way: let it work, unless what it needs is gone.

use crate::decide::Verdict;
use crate::view::Running;
use crate::{Action, Reason, View};
use pgherd_types::{Instant, Operation};

/// Hold, or give up an operation whose ground is gone. (One that needs the lock and has lost it is the fence's case.)
pub fn busy(view: &View, running: &Running, now: Instant) -> Verdict {
    let name = running.operation.name();
    let somebody_leads = view.cluster.get().is_some_and(|c| c.leader.is_some());
    let pointless = matches!(running.operation, Operation::Bootstrap) && somebody_leads && !view.leads(now);
    if pointless && !running.cancelled {
        return Verdict::act(Action::Cancel(running.id), Reason::StartupNotNeeded { name });
    }
    Verdict::hold(Reason::OperationInProgress { name, renewed: view.leads(now) })
}
