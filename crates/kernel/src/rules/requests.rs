//! What an operator asked of this node is carried out (spec/ha.md 17).

use crate::decide::Verdict;
use crate::rules::bootstrap::source;
use crate::rules::start_unless_failing;
use crate::sync::duty;
use crate::view::Memory;
use crate::wishes::{self, Pending};
use crate::{Reason, View};
use pgherd_types::{Cluster, Instant, Operation, ScheduledRestart, Server, StopMode, SyncMode};

/// Stop PostgreSQL; what starts it again is the rule for a server that is down.
pub fn restart(view: &View, now: Instant) -> Verdict {
    if let Some(verdict) = let_go_first(view, now) {
        return verdict;
    }
    Verdict::start(view, now, Operation::Stop { mode: StopMode::Fast }, Reason::Restarting)
}

/// The time of the scheduled restart has come: it begins, if it is still wanted.
pub fn scheduled(view: &View, restart: &ScheduledRestart, now: Instant) -> Verdict {
    let wanted = wishes::same_server(view, restart) && wishes::filter_holds(view, &restart.wish.filter, now);
    if wanted && view.settings.sync_mode() != SyncMode::Off {
        // from here on the member key says that this standby is not to be counted
        let begun = Verdict::hold_until(Reason::Restarting, now + std::time::Duration::from_millis(1));
        Verdict { remember: Some(Memory::RestartBegun), ..begun }
    } else if wanted {
        Verdict { remember: Some(Memory::RestartBegun), ..self::restart(view, now) }
    } else {
        let hold = Verdict::hold_until(Reason::ScheduledRestartNotNeeded, now + std::time::Duration::from_millis(1));
        Verdict { remember: Some(Memory::ScheduleDropped), ..hold }
    }
}

/// A synchronous standby is let go before it stops, so that no commit waits for it.
fn let_go_first(view: &View, now: Instant) -> Option<Verdict> {
    let since = match &view.pending {
        Some(Pending::Restart { at, .. } | Pending::Reinitialize { at, .. }) => *at,
        None => return None,
    };
    let until = duty::waits_to_be_let_go(view, since, now)?;
    Some(Verdict::hold_until(Reason::AwaitingSyncRelease, until))
}

/// Replace the data: stop, then copy.
pub fn reinitialize(view: &View, cluster: &Cluster, now: Instant) -> Verdict {
    let Some(Pending::Reinitialize { from_leader, .. }) = &view.pending else {
        return Verdict::hold(Reason::WaitingForLeaderToBootstrap);
    };
    if view.leads(now) || view.key_is_ours() {
        return Verdict::hold(Reason::LeaderIsNotReinitialized);
    }
    if let Some(verdict) = let_go_first(view, now) {
        return verdict;
    }
    if view.postgres.get().is_none_or(|p| p.server != Server::Stopped) {
        return Verdict::start(view, now, Operation::Stop { mode: StopMode::Immediate }, Reason::Reinitializing);
    }
    let Some((from, is_leader)) = source(view, cluster, *from_leader) else {
        return Verdict::hold(Reason::WaitingForLeaderToBootstrap);
    };
    let because = Reason::Cloning { from: from.member.clone(), is_leader };
    start_unless_failing(view, now, Operation::Clone { from, replace: true, basebackup_only: *from_leader }, because)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::view::Running;
    use crate::{Action, Observation, decide};
    use pgherd_types::*;

    const ID: RequestId = RequestId(1);

    fn wished(case: Case, wish: Wish) -> Case {
        case.with_view(|v| {
            v.apply(Observation::Wished { id: ID, wish }, Now { mono: Instant::from_millis(59_000), ..Now::default() });
        })
    }
    fn reinit(from_leader: bool) -> Wish {
        Wish::Reinitialize { force: false, from_leader }
    }

    #[test]
    fn a_restart_stops_in_order_starts_on_the_same_timeline_and_is_answered_when_it_serves() {
        check(wished(primary(), Wish::Restart(RestartWish::default())), "Stop Fast", "Restarting");
        let (mut view, _) = wished(primary(), Wish::Restart(RestartWish::default())).decide();
        let at = |ms| Now { mono: Instant::from_millis(ms), ..Now::default() };
        let mut state = view.postgres.get().unwrap().as_ref().clone();
        let serving = state.clone();
        (state.server, state.looked_at) = (Server::Stopped, Instant::from_millis(60_100));
        view.apply(Observation::Postgres(std::sync::Arc::new(state)), at(60_100));
        view.apply(Observation::OperationFinished { id: OperationId(1), end: OperationEnd::Done }, at(60_101));
        let start = decide(&view, at(60_102));
        assert_eq!((name_of(&start.role).as_str(), start.upkeep.answers.len()), ("Start StartPrimary", 0));
        view.dispatched(&start, at(60_102));
        view.apply(Observation::OperationFinished { id: OperationId(2), end: OperationEnd::Done }, at(60_300));
        let again = PostgresState { looked_at: Instant::from_millis(60_299), ..serving };
        view.apply(Observation::Postgres(std::sync::Arc::new(again)), at(60_300));
        let done = decide(&view, at(60_301));
        assert_eq!(done.upkeep.answers, [(ID, WishEnd::Done)]);
        view.dispatched(&done, at(60_301));
        assert_eq!(decide(&view, at(60_302)).upkeep.answers, []);
    }

    #[test]
    fn a_restart_that_fails_is_answered_so() {
        let failed = OperationEnd::Failed("no space".into());
        let case = wished(primary().stopped(), Wish::Restart(RestartWish::default()))
            .with_view(|v| {
                let Some(Pending::Restart { stopped_at, .. }) = &mut v.pending else { panic!() };
                *stopped_at = Some(Instant::from_millis(59_500));
            })
            .ended(Operation::StartPrimary, failed);
        let decision = check(case, "Release", "StartFailedReleasing");
        assert_eq!(decision.upkeep.answers, [(ID, WishEnd::Failed("restart failed: no space".into()))]);
    }

    #[test]
    fn conditions_are_judged_before() {
        let judge = |case: Case, wish: RestartWish| {
            let (view, now) = case.build();
            wishes::judge(&view, &Wish::Restart(wish), now.mono)
        };
        let on = |filter| RestartWish { filter, ..RestartWish::default() };
        let role = |role| on(RestartFilter { role: Some(role), ..RestartFilter::default() });
        assert_eq!(judge(primary(), role(Role::Primary)), Ok(()));
        assert_eq!(judge(replica(), role(Role::Primary)), Err(WishEnd::ConditionsNotMet));
        let pending = on(RestartFilter { pending_only: true, ..RestartFilter::default() });
        assert_eq!(judge(primary(), pending.clone()), Err(WishEnd::ConditionsNotMet));
        assert_eq!(judge(primary().with_server(|s| s.pending_restart = true), pending), Ok(()));
        let below = |version| on(RestartFilter { below_version: Some(version), ..RestartFilter::default() });
        assert_eq!(judge(primary(), below(150_000)), Err(WishEnd::ConditionsNotMet));
        assert_eq!(judge(primary(), below(150_001)), Ok(()));
    }

    fn scheduled_at(ms: i64, start_time: &str) -> Wish {
        Wish::ScheduleRestart(ScheduledRestart {
            at: WallTime(1_700_000_000_000 + ms),
            text: "then".into(),
            wish: RestartWish::default(),
            shown: vec![],
            postmaster_start_time: start_time.into(),
        })
    }

    #[test]
    fn a_scheduled_restart_comes_in_its_time_and_only_for_its_server() {
        let decision = check(wished(primary(), scheduled_at(4000, "")), "Hold", "LeaderWithLock");
        assert_eq!(decision.decide_again_at, Instant::from_millis(64_000));
        let member =
            decision.upkeep.writes.iter().find_map(|w| if let DcsWrite::Member(m) = w { Some(m) } else { None });
        assert!(member.unwrap().scheduled_restart.is_some());
        let (view, decision) = wished(primary(), scheduled_at(0, "")).decide();
        assert_eq!(name_of(&decision.role), "Stop Fast");
        assert!(view.scheduled_restart.is_none() && view.pending.is_some());
        let (view, decision) = wished(primary(), scheduled_at(0, "another server")).decide();
        assert_eq!(decision.because.id(), "ScheduledRestartNotNeeded");
        assert!(view.scheduled_restart.is_none() && view.pending.is_none());
    }

    #[test]
    fn new_data_only_for_a_replica_with_a_leader_that_is_not_busy() {
        let judge = |case: Case, force| {
            let (view, now) = case.build();
            wishes::judge(&view, &Wish::Reinitialize { force, from_leader: false }, now.mono)
        };
        let busy = |case: Case| {
            let operation = Operation::Follow { upstream: None };
            let running = Running { id: OperationId(1), operation, since: Instant::default(), cancelled: false };
            case.with_view(|v| v.operation = Some(running))
        };
        assert_eq!(judge(replica(), false), Ok(()));
        assert_eq!(judge(primary(), true), Err(WishEnd::IsLeader));
        assert_eq!(judge(replica().unlocked(), true), Err(WishEnd::NoLeader));
        assert_eq!(judge(busy(replica()), false), Err(WishEnd::Busy("changing primary_conninfo".into())));
        assert_eq!(judge(busy(replica()), true), Ok(()));
        check(wished(busy(replica()), reinit(false)), "Cancel", "MakingRoom");
    }

    #[test]
    fn without_a_leader_the_old_data_are_still_good_for_a_race() {
        check(wished(replica(), reinit(false)).unlocked().stopped(), "Start StartReplica", "StartingAsSecondary");
        check(wished(replica(), reinit(false)).unlocked(), "Probe", "AskingPeers");
    }

    #[test]
    fn new_data_are_copied_once_the_server_is_down() {
        check(wished(replica(), reinit(false)), "Stop Immediate", "Reinitializing");
        check(wished(replica().stopped(), reinit(false)), "Start Clone", "Cloning");
        let willing = |from_leader| {
            let case = wished(replica().stopped(), reinit(from_leader));
            case.with_cluster(|c| c.members.get_mut(&"c".into()).unwrap().doc.tags.clonefrom = true)
        };
        let from = |case: Case| match check(case, "Start Clone", "Cloning").role {
            Action::Start { operation: Operation::Clone { from, replace: true, .. }, .. } => from.member.0,
            other => panic!("{other:?}"),
        };
        assert_eq!((from(willing(false)), from(willing(true))), ("c".to_owned(), "b".to_owned()));
    }
}
