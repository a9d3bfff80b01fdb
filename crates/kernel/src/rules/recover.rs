//! PostgreSQL is down and the data are ours (spec/ha.md 7).

use crate::decide::Verdict;
use crate::divergence::{Standing, of_stopped};
use crate::rules::bootstrap::upstream_of;
use crate::rules::{acquire_once, failed, release_once, start_unless_failing};
use crate::{Lock, Reason, View};
use pgherd_types::{Cluster, ControlData, Initialize, Instant, LeaderKey, Operation, OperationEnd};

/// What to do about a PostgreSQL that is down.
pub fn down(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    match view.lock(now) {
        Lock::Held { .. } => with_lock(view, cluster, control, now),
        Lock::Vanished { .. } => acquire_once(view, now, Reason::TakingVanishedKeyAgain),
        Lock::No if view.key_is_ours() => Verdict::hold(Reason::LeaderKeyNamesUsButIsNotOurs { me: view.me.name.clone() }),
        Lock::No if view.dcs_lost_since.is_some() => as_standby_of_nobody(view, now),
        Lock::No => match &cluster.leader {
            None if just_bootstrapped(view, cluster, control) => acquire_once(view, now, Reason::Acquiring),
            None => as_standby_of_nobody(view, now),
            Some(leader) if leader.name == view.me.name => as_standby_of_nobody(view, now),
            Some(leader) => behind(view, cluster, leader, control, now),
        },
    }
}

/// The lock is ours: go on as primary where that cannot fork history, else begin as a standby and be promoted.
fn with_lock(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    if failed(view, |o| matches!(o, Operation::StartPrimary | Operation::StartReplica { .. } | Operation::Promote { .. })) {
        return release_once(view, now, None, Reason::StartFailedReleasing);
    }
    if may_resume(cluster, control) {
        return Verdict::start(view, now, Operation::StartPrimary, Reason::StartingPrimaryAfterFailure);
    }
    Verdict::start(view, now, Operation::StartReplica { upstream: None }, Reason::StartingReadOnlyWithLock)
}

/// Nobody can have been promoted since this data directory was a primary's: timelines are unique, and no newer one than
/// its own was ever reserved or recorded.
fn may_resume(cluster: &Cluster, control: &ControlData) -> bool {
    let ours = control.checkpoint_timeline.max(control.min_recovery_timeline);
    !control.standby_signal && cluster.latest_timeline().is_none_or(|latest| latest <= ours)
}

/// Only a bootstrap that this very process finished may take the key before PostgreSQL was seen running.
fn just_bootstrapped(view: &View, cluster: &Cluster, control: &ControlData) -> bool {
    let done = view.ended.as_ref().is_some_and(|e| e.operation == Operation::Bootstrap && e.end == OperationEnd::Done);
    done && cluster.initialize == Some(Initialize::Done(control.system_id))
}

fn as_standby_of_nobody(view: &View, now: Instant) -> Verdict {
    start_unless_failing(view, now, Operation::StartReplica { upstream: None }, Reason::StartingAsSecondary)
}

/// Another member leads. A former primary is started only once it is known to be on the leader's history.
fn behind(view: &View, cluster: &Cluster, leader: &LeaderKey, control: &ControlData, now: Instant) -> Verdict {
    let Some(member) = cluster.members.get(&leader.name) else {
        return Verdict::hold(Reason::LeaderKeyWithoutMember { leader: leader.name.clone() });
    };
    match of_stopped(view, cluster, member, control) {
        Standing::Diverged(found) => Verdict::hold(Reason::Diverged(found)),
        Standing::Unknown(why) if !control.standby_signal => Verdict::hold(Reason::DivergenceUnknown { why }),
        Standing::Unknown(_) | Standing::OnHistory => {
            let upstream = upstream_of(member);
            start_unless_failing(view, now, Operation::StartReplica { upstream }, Reason::StartingAsSecondary)
        }
    }
}
