//! A standby cluster (spec/ha.md 18): whoever has the lock follows the primary of another cluster, the others follow it,
//! and nobody is promoted. A cluster becomes one, and ceases to be one, by its dynamic configuration.
//!
//! Who leads is decided as everywhere else; only what the lock means is different, and here it fences nothing: a standby
//! acknowledges no commits.

use crate::decide::Verdict;
use crate::rules::{follow, handover, release_once, start_unless_failing, write_once};
use crate::view::{Diverged, Memory};
use crate::{Reason, View};
use pgherd_types::postgres::ControlState;
use pgherd_types::{
    Cluster, ControlData, DcsWrite, Instant, Now, Operation, Role, RunningServer, StandbyCluster, StatusKey, StopMode,
};

/// Standby with the lock: follow the remote primary, or nobody where there is only an archive.
pub fn leading(view: &View, cluster: &Cluster, running: &RunningServer, at: Now) -> Verdict {
    let now = at.mono;
    if let Some(found) = forked(running) {
        let because = Reason::Diverged(found);
        // its data are changed only when they are no longer the leader's
        return if may_rewind(view) { release_once(view, now, None, because) } else { Verdict::hold(because) };
    }
    handover::requested(view, cluster, running, at).unwrap_or_else(|| follow_remote(view, running, now))
}

/// Follow the remote primary.
pub fn follow_remote(view: &View, running: &RunningServer, now: Instant) -> Verdict {
    let upstream = view.remote();
    let as_wanted = match &upstream {
        Some(wanted) => !follow::differs(running, wanted),
        None => running.upstream.is_none(),
    };
    if as_wanted {
        return Verdict::hold(Reason::StandbyLeaderWithLock { me: view.me.name.clone() });
    }
    start_unless_failing(view, now, Operation::Follow { upstream }, Reason::PromotedToStandbyLeader)
}

/// Before a promotion a standby leaves whoever may still send it WAL of the other cluster, itself or by another member:
/// that could be on a newer timeline than the one that is reserved here. The source of an ordinary failover is gone.
pub fn leave(view: &View, running: &RunningServer, now: Instant) -> Option<Verdict> {
    let Some(upstream) = &running.upstream else {
        return running.streaming.then(|| Verdict::hold(Reason::LeavingRemotePrimary));
    };
    let role_of = |upstream| view.known_servers.values().find(|(known, _)| known == upstream).map(|(_, role)| *role);
    let harmless = !view.was_standby_cluster
        && match role_of(upstream) {
            None => false,
            Some(role) => role == Some(Role::Primary) || !running.streaming,
        };
    let leave = Operation::Follow { upstream: None };
    (!harmless).then(|| start_unless_failing(view, now, leave, Reason::LeavingRemotePrimary))
}

/// A primary with the lock in what has become a standby cluster: it is stopped in order, so that the other cluster can
/// get all that it has, and keeps the lock.
pub fn demote(view: &View, now: Instant) -> Verdict {
    let stop = Operation::Stop { mode: StopMode::Fast };
    start_unless_failing(view, now, stop, Reason::DemotingToStandbyCluster)
}

/// A standby leader needs no shutdown to hand the lead over: all it has comes from elsewhere.
pub fn hand_over(
    view: &View,
    cluster: &Cluster,
    running: &RunningServer,
    action: &'static str,
    now: Instant,
) -> Verdict {
    let status = StatusKey { optime: running.position(), ..cluster.status.clone() };
    release_once(view, now, Some(status), Reason::HandingOver { action })
}

/// PostgreSQL is down and the lock is ours. The shutdown checkpoint of a former primary is published first: it tells
/// whoever promotes the other cluster how far that must have come.
pub fn down_with_lock(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    if let Some(found) = view.diverged.clone().filter(|_| may_rewind(view)) {
        return release_once(view, now, None, Reason::Diverged(found));
    }
    let was_primary = !control.standby_signal && control.state == ControlState::ShutDown;
    if was_primary && cluster.status.optime != control.checkpoint_lsn && view.dcs_lost_since.is_none() {
        let status = handover::last_position(cluster, control);
        return write_once(view, now, DcsWrite::Status(status), Reason::PublishingShutdownCheckpoint);
    }
    let start = Operation::StartReplica { upstream: view.remote() };
    Verdict {
        remember: view.handover.as_ref().map(|_| Memory::HandoverOver),
        ..start_unless_failing(view, now, start, Reason::StartingAsStandbyLeader)
    }
}

/// A running standby whose data the remote primary does not have: it is stopped, if pg_rewind may mend them.
pub fn cut_off(view: &View, running: &RunningServer, now: Instant) -> Option<Verdict> {
    view.settings.standby_cluster.as_ref()?;
    let found = forked(running).filter(|_| may_rewind(view))?;
    Some(Verdict::start(view, now, Operation::Stop { mode: StopMode::Fast }, Reason::Diverged(found)))
}

/// PostgreSQL is down, the lock is not ours, and the data were found to have left the remote primary's history.
pub fn take_back(view: &View, now: Instant) -> Option<Verdict> {
    view.settings.standby_cluster.as_ref()?;
    let found = view.diverged.clone().filter(|_| may_rewind(view))?;
    let from = view.remote()?;
    let because = Reason::Rewinding { leader: from.member.clone(), found };
    Some(start_unless_failing(view, now, Operation::Rewind { from }, because))
}

/// A former primary, under a leader that is a standby: only the remote primary can tell whether its data are on the
/// history, and pg_rewind changes nothing if they are.
pub fn former_primary(view: &View, now: Instant) -> Option<Verdict> {
    view.settings.standby_cluster.as_ref()?;
    let from = view.remote().filter(|_| may_rewind(view))?;
    Some(start_unless_failing(view, now, Operation::Rewind { from }, Reason::ComparingWithRemotePrimary))
}

fn may_rewind(view: &View) -> bool {
    let rewindable = view.postgres.get().and_then(|p| p.control()).is_some_and(|control| control.rewindable);
    view.settings.rewind.use_pg_rewind && rewindable && view.remote().is_some()
}

/// The server replayed more of its timeline than the history that came from the remote primary has.
fn forked(running: &RunningServer) -> Option<Diverged> {
    let (newest, ended) = running.forked_at?;
    let timeline = running.timeline?;
    let text = format!(
        "diverged: timeline {timeline} ended at {ended} on the history of {}, this node has replayed up to {}",
        StandbyCluster::REMOTE,
        running.replayed
    );
    (running.replayed > ended).then_some(Diverged { timeline, leader_timeline: newest, text })
}

#[cfg(test)]
#[path = "standby_cluster_tests.rs"]
mod tests;
