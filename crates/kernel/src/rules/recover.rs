//! PostgreSQL is down and the data are ours (spec/ha.md 7).

use crate::candidates::{Found, Wanted, find};
use crate::decide::Verdict;
use crate::divergence::{Standing, of_stopped};
use crate::rules::bootstrap::upstream_of;
use crate::rules::diverged::{diverged, half_rewound};
use crate::rules::follow::copying;
use crate::rules::{acquire_once, failed, handover, release_once, standby_cluster, start_unless_failing, take_again};
use crate::{Lock, Reason, View, slots};
use pgherd_types::postgres::ControlState;
use pgherd_types::{Cluster, ControlData, Initialize, Instant, LeaderKey, Operation, OperationEnd};
use std::time::Duration;

/// How long a successor is waited for after this node gave the key up for one.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(1);
/// So many crashes of a primary within this time are enough: another node may try.
const CRASHES_MAX: usize = 3;
const CRASH_WINDOW: Duration = Duration::from_secs(300);

/// What to do about a PostgreSQL that is down.
pub fn down(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    if control.rewind_interrupted {
        return half_rewound(view, cluster, control, now);
    }
    if let (Lock::No, Some(verdict)) = (view.lock(now), standby_cluster::take_back(view, now)) {
        return verdict;
    }
    match view.lock(now) {
        Lock::Held { .. } => with_lock(view, cluster, control, now),
        Lock::Vanished { .. } => take_again(view, now),
        Lock::No if view.dcs_lost_since.is_some() => as_standby_of_nobody(view, now),
        Lock::No if view.key_is_ours() => Verdict::hold(Reason::AwaitingProof),
        Lock::No => match &cluster.leader {
            None if just_bootstrapped(view, cluster, control) => acquire_once(view, now, Reason::Acquiring),
            None => once_succeeded(view, control, now),
            Some(leader) if leader.name == view.me.name => as_standby_of_nobody(view, now),
            Some(leader) => behind(view, cluster, leader, control, now),
        },
    }
}

/// The lock is ours: go on as primary where that cannot fork history, else begin as a standby and be promoted.
fn with_lock(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    let gave_up =
        view.ended.as_ref().is_some_and(|e| e.operation == Operation::StartPrimary && e.end == OperationEnd::Cancelled);
    let starts = |o: &Operation| {
        matches!(o, Operation::StartPrimary | Operation::StartReplica { .. } | Operation::Promote { .. })
    };
    if gave_up || failed(view, starts) {
        let why = crate::shown::last_failure(view).unwrap_or("it took too long").to_owned();
        return release_once(view, now, None, Reason::StartFailedReleasing { why });
    }
    if view.settings.standby_cluster.is_some() {
        return standby_cluster::down_with_lock(view, cluster, control, now);
    }
    match &view.handover {
        Some(handover) if control.state == ControlState::ShutDown => {
            return handover::stopped(view, cluster, control, handover, now);
        }
        Some(handover) => {
            let why = "PostgreSQL did not stop in order".to_owned();
            return handover::give_up(view, cluster, handover, why, now);
        }
        None => {}
    }
    if let Some(verdict) = make_room(view, cluster, now) {
        return verdict;
    }
    if may_resume(cluster, control) {
        let because = if view.crashed { Reason::StartingPrimaryAfterFailure } else { Reason::StartingPrimary };
        return Verdict::start(view, now, Operation::StartPrimary, because);
    }
    Verdict::start(view, now, Operation::StartReplica { upstream: None }, Reason::StartingReadOnlyWithLock)
}

/// A primary that is not to be started again, or keeps crashing, makes room if somebody else could serve.
fn make_room(view: &View, cluster: &Cluster, now: Instant) -> Option<Verdict> {
    if view.watchdog_failed {
        return Some(release_once(view, now, None, Reason::WatchdogLostWhileLeading));
    }
    let not_again = view.crashed && view.settings.primary_start_timeout.is_zero();
    let recent = view.crashes.iter().filter(|at| now < **at + CRASH_WINDOW).count();
    let loops = view.crashed && recent >= CRASHES_MAX;
    if !(view.makes_room || not_again || loops) {
        return None;
    }
    match find(view, cluster, &Wanted::by(None, cluster.status.optime, Instant::default()), now) {
        Found::Asking(step) => Some(*step),
        Found::Able(_) => Some(release_once(view, now, None, Reason::StoppedToFailOver)),
        Found::Nobody(_) => None,
    }
}

/// Nobody can have been promoted since this data directory was a primary's: timelines are unique, and no newer one than
/// its own was ever reserved or recorded.
fn may_resume(cluster: &Cluster, control: &ControlData) -> bool {
    !control.standby_signal && cluster.latest_timeline().is_none_or(|latest| latest <= control.wal_timeline())
}

/// Only a bootstrap that this very process finished may take the key before PostgreSQL was seen running.
fn just_bootstrapped(view: &View, cluster: &Cluster, control: &ControlData) -> bool {
    let done = view.ended.as_ref().is_some_and(|e| e.operation == Operation::Bootstrap && e.end == OperationEnd::Done);
    done && cluster.initialize == Some(Initialize::Done(control.system_id))
}

/// Of nobody in this cluster: where it follows another one, it is a standby of that.
fn as_standby_of_nobody(view: &View, now: Instant) -> Verdict {
    start_unless_failing(view, now, Operation::StartReplica { upstream: view.remote() }, Reason::StartingAsSecondary)
}

/// Nobody leads. Who has just handed over is not in the way of its successor, and starts as a standby of it; but it is
/// needed when there is none. (Where a crashed primary stands is known soonest when it runs as a standby.)
fn once_succeeded(view: &View, control: &ControlData, now: Instant) -> Verdict {
    let until = view.made_way_at.map(|at| at + SUCCESSOR_PATIENCE).filter(|until| now < *until);
    match until.filter(|_| control.state == ControlState::ShutDown) {
        Some(until) => Verdict::hold_until(Reason::AwaitingSuccessor, until),
        None => as_standby_of_nobody(view, now),
    }
}

/// Another member leads. A former primary is started only once it is known to be on the leader's history.
fn behind(view: &View, cluster: &Cluster, leader: &LeaderKey, control: &ControlData, now: Instant) -> Verdict {
    let Some(member) = cluster.members.get(&leader.name) else {
        return Verdict::hold(Reason::LeaderKeyWithoutMember { leader: leader.name.clone() });
    };
    match of_stopped(view, cluster, member, control) {
        Standing::Diverged(found) => diverged(view, cluster, member, control, found, now),
        Standing::Unknown(why) if !control.standby_signal => standby_cluster::former_primary(view, now)
            .unwrap_or_else(|| Verdict::hold(Reason::DivergenceUnknown { why })),
        Standing::Unknown(_) | Standing::OnHistory => {
            let upstream = upstream_of(member);
            let copy = upstream.as_ref().and_then(|from| slots::copy::before_start(view, cluster, control, from));
            if let Some(copy) = copy {
                return copying(view, copy, now);
            }
            start_unless_failing(view, now, Operation::StartReplica { upstream }, Reason::StartingAsSecondary)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use pgherd_types::{Instant, LeaseId, Lsn, Now, Operation, OperationEnd, PostgresState, Role, Server, Timeline};
    use std::time::Duration;

    /// A former primary that is down, with its WAL up to `end`.
    fn left_behind(switch: u64, end: Option<u64>) -> Case {
        promoted_elsewhere(primary().stopped().with_control(|c| c.wal_end = end.map(Lsn)), switch)
    }

    #[test]
    fn a_crashed_primary_with_the_lock_starts_on_its_timeline() {
        let crashed = primary().stopped().with_view(|v| v.crashed = true);
        check(crashed, "Start StartPrimary", "StartingPrimaryAfterFailure");
        check(primary().stopped(), "Start StartPrimary", "StartingPrimary");
    }

    #[test]
    fn it_does_not_once_a_newer_timeline_is_known() {
        let case = primary().stopped().with_cluster(|c| c.timeline_reserved = Some(Timeline(2)));
        check(case, "Start StartReplica", "StartingReadOnlyWithLock");
        let case = primary().stopped().with_control(|c| c.standby_signal = true);
        check(case, "Start StartReplica", "StartingReadOnlyWithLock");
    }

    #[test]
    fn a_leader_that_cannot_start_makes_room() {
        let failed = OperationEnd::Failed("no space left".into());
        check(primary().stopped().ended(Operation::StartPrimary, failed), "Release", "StartFailedReleasing");
    }

    #[test]
    fn without_a_leader_it_starts_read_only() {
        check(replica().unlocked().stopped(), "Start StartReplica", "StartingAsSecondary");
        check(
            primary().stopped().with_view(|v| v.lease.leader = None).unlocked(),
            "Start StartReplica",
            "StartingAsSecondary",
        );
    }

    #[test]
    fn with_the_key_but_no_proof_it_waits_for_the_proof_unless_the_dcs_is_gone() {
        let unproven = || primary().stopped().with_view(|v| v.lease.leader = None);
        check(unproven(), "Hold", "AwaitingProof");
        let (mut view, now) = unproven().build();
        view.apply(crate::Observation::DcsLost { since: now.mono }, now);
        assert_eq!(name_of(&crate::decide(&view, now).role), "Start StartReplica");
    }

    #[test]
    fn failing_starts_are_spaced() {
        let failed = OperationEnd::Failed("port in use".into());
        let case = replica().stopped().ended(Operation::StartReplica { upstream: None }, failed);
        check(case, "Hold", "WaitingBeforeRetry");
    }

    #[test]
    fn a_former_primary_rejoins_only_when_all_its_wal_is_on_the_leaders_history() {
        check(left_behind(1000, Some(1000)), "Start StartReplica", "StartingAsSecondary");
        check(left_behind(1000, Some(1001)), "Hold", "Diverged");
        check(left_behind(1000, None), "Hold", "DivergenceUnknown");
    }

    #[test]
    fn a_timeline_that_the_leader_never_had_is_a_divergence() {
        let skipped = |theirs: Option<&str>| {
            let theirs = theirs.map(str::to_owned);
            left_behind(1000, Some(1200)).with_control(|c| c.checkpoint_timeline = Timeline(2)).with_cluster(move |c| {
                let leader = c.members.get_mut(&"b".into()).unwrap();
                (leader.doc.timeline, leader.doc.pgherd) = (Some(Timeline(3)), theirs);
            })
        };
        check(skipped(Some("0.1.0")), "Hold", "Diverged");
        check(skipped(None), "Hold", "DivergenceUnknown");
    }

    #[test]
    fn a_primary_that_is_not_to_start_again_makes_room_if_somebody_could_serve() {
        let crashed = || primary().stopped().with_view(|v| v.crashed = true);
        let never = |case: Case| case.with_view(|v| v.settings.primary_start_timeout = Duration::ZERO);
        let able = |case: Case| case.peers(vec![("b", answered(1000)), ("c", silent())]);
        let nobody = |case: Case| case.peers(vec![("b", silent()), ("c", silent())]);
        check(never(crashed()), "Probe", "LookingForSuccessor");
        check(able(never(crashed())), "Release", "StoppedToFailOver");
        check(nobody(never(crashed())), "Start StartPrimary", "StartingPrimaryAfterFailure");
        check(able(never(primary().stopped())), "Start StartPrimary", "StartingPrimary");
    }

    #[test]
    fn a_crash_that_is_seen_in_steps_is_one() {
        let (mut view, now) = primary().build();
        let at = |ms| Now { mono: Instant::from_millis(ms), ..now };
        let state = view.postgres.get().unwrap().as_ref().clone();
        for (ms, server) in [(60_100, Server::Starting), (60_200, Server::Orphaned), (60_300, Server::Stopped)] {
            let looked_at = Instant::from_millis(ms);
            let state = PostgresState { looked_at, server, ..state.clone() };
            view.apply(crate::Observation::Postgres(std::sync::Arc::new(state)), at(ms));
        }
        assert!(view.crashed);
        assert_eq!(view.crashes, [Instant::from_millis(60_200)]);
    }

    #[test]
    fn a_primary_that_keeps_crashing_makes_room() {
        let crashed = |times: &[u64]| {
            let times = times.iter().map(|ms| Instant::from_millis(*ms)).collect();
            let case = primary().stopped().with_view(|v| (v.crashed, v.crashes) = (true, times));
            case.peers(vec![("b", answered(1000)), ("c", silent())])
        };
        check(crashed(&[20_000, 60_000]), "Start StartPrimary", "StartingPrimaryAfterFailure");
        check(crashed(&[20_000, 40_000, 60_000]), "Release", "StoppedToFailOver");
    }

    #[test]
    fn it_waits_for_the_leader_to_finish_its_promotion() {
        let case = left_behind(1000, Some(1000)).with_cluster(|c| {
            c.members.get_mut(&"b".into()).unwrap().doc.role = Some(Role::Replica);
        });
        check(case, "Hold", "DivergenceUnknown");
        let case = left_behind(1000, Some(1000)).with_cluster(|c| c.history = None);
        check(case, "Hold", "DivergenceUnknown");
    }

    #[test]
    fn nothing_is_started_under_a_leader_without_a_member() {
        check(replica().stopped().led_by("ghost", Some(LeaseId(5))), "Hold", "LeaderKeyWithoutMember");
    }
}
