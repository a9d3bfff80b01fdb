//! What a standby cluster does in which moment.

use crate::testing::*;
use crate::{Action, Observation, invariants};
use pgherd_types::postgres::ControlState;
use pgherd_types::*;
use std::time::Duration;

/// The cluster follows another one.
fn standby(case: Case) -> Case {
    case.with_view(|v| v.settings.standby_cluster = Some(StandbyCluster { host: Some("remote".into()), port: 5433 }))
}
fn archive_only(case: Case) -> Case {
    case.with_view(|v| v.settings.standby_cluster = Some(StandbyCluster { host: None, port: 5432 }))
}
fn follows_remote(case: Case) -> Case {
    case.with_server(|s| s.upstream = Some(("remote".into(), 5433)))
}
/// Its source's history left ours at this position, and it has replayed up to 1000.
fn forked(case: Case, at: u64) -> Case {
    case.with_server(|s| (s.forked_at, s.streaming) = (Some((Timeline(2), Lsn(at))), false))
}
fn may_rewind(case: Case) -> Case {
    case.with_view(|v| v.settings.rewind.use_pg_rewind = true)
}

#[test]
fn who_gets_the_lock_follows_the_remote_primary_and_is_not_promoted() {
    let decision = check(standby(replica().locked()), "Start Follow", "PromotedToStandbyLeader");
    let Action::Start { operation: Operation::Follow { upstream: Some(upstream) }, .. } = decision.role else {
        panic!()
    };
    assert_eq!((upstream.host.as_str(), upstream.port), ("remote", 5433));
    check(follows_remote(standby(replica().locked())), "Hold", "StandbyLeaderWithLock");
    check(archive_only(replica().locked()), "Start Follow", "PromotedToStandbyLeader");
    check(archive_only(replica().locked()).with_server(|s| s.upstream = None), "Hold", "StandbyLeaderWithLock");
}

#[test]
fn the_end_of_the_section_promotes_the_standby_leader() {
    let decision = check(follows_remote(replica().locked()), "Start Follow", "LeavingRemotePrimary");
    assert!(matches!(decision.role, Action::Start { operation: Operation::Follow { upstream: None }, .. }));
    let left = |streaming| replica().locked().with_server(move |s| (s.upstream, s.streaming) = (None, streaming));
    let decision = check(left(true), "Hold", "LeavingRemotePrimary");
    assert!(decision.upkeep.look);
    check(left(false), "Write ReserveTimeline", "ReservingTimeline");
}

#[test]
fn a_primary_steps_down_in_order_publishes_where_it_ended_and_keeps_the_lock() {
    check(standby(primary()), "Stop Fast", "DemotingToStandbyCluster");
    let down = || standby(primary().stopped().with_control(|c| c.state = ControlState::ShutDown));
    let decision = check(down(), "Write Status", "PublishingShutdownCheckpoint");
    assert!(matches!(decision.role, Action::Write(DcsWrite::Status(status)) if status.optime == Lsn(900)));
    let published = down().with_cluster(|c| c.status.optime = Lsn(900));
    let decision = check(published, "Start StartReplica", "StartingAsStandbyLeader");
    let Action::Start { operation: Operation::StartReplica { upstream: Some(to) }, .. } = decision.role else {
        panic!()
    };
    assert_eq!(to.host, "remote");
    check(standby(primary().stopped()), "Start StartReplica", "StartingAsStandbyLeader");
}

#[test]
fn the_fence_of_a_primary_does_not_wait_for_its_demotion() {
    let (mut view, now) = standby(primary()).build();
    view.apply(Observation::DcsLost { since: now.mono }, now);
    let late = Now { mono: now.mono + Duration::from_secs(60), ..now };
    assert_eq!(name_of(&crate::decide(&view, late).role), "Stop Immediate");
}

#[test]
fn nothing_that_makes_writable_is_allowed() {
    let (view, now) = standby(replica().locked()).with_view(|v| v.reservation = Some(Timeline(2))).build();
    let promotion = crate::decide::Verdict::start(
        &view,
        now.mono,
        Operation::Promote { timeline: Timeline(2) },
        crate::Reason::PromotedByLock { timeline: Timeline(2) },
    );
    let wrong = crate::Decision { role: promotion.role, ..crate::decide(&view, now) };
    assert_eq!(invariants::check(&view, &wrong, now).unwrap_err().id, "S2");
}

#[test]
fn the_others_follow_the_standby_leader_and_say_so() {
    let decision = check(standby(replica()), "Hold", "Following");
    assert!(decision.because.to_string().ends_with("following a standby leader (b)"), "{}", decision.because);
    check(standby(replica().empty()), "Start Clone", "Cloning");
    check(standby(replica().unlocked().empty()), "Hold", "WaitingForStandbyLeader");
}

#[test]
fn without_a_leader_they_race_as_ever_and_start_as_standbys_of_the_remote_primary() {
    check(standby(replica().unlocked()).peers(vec![("b", silent()), ("c", answered(1000))]), "Acquire", "Acquiring");
    check(standby(replica().unlocked()).peers(vec![("b", silent()), ("c", answered(1001))]), "Hold", "PeerAhead");
    let decision = check(standby(replica().unlocked().stopped()), "Start StartReplica", "StartingAsSecondary");
    assert!(matches!(decision.role,
        Action::Start { operation: Operation::StartReplica { upstream: Some(u) }, .. } if u.host == "remote"));
    let strict = standby(replica().unlocked()).with_view(|v| {
        v.settings.check_timeline = true;
        v.settings.primary_race_backoff = Duration::from_secs(600);
    });
    let old = strict.with_server(|s| s.timeline = None).with_cluster(|c| c.leader = None);
    check(old, "Probe", "AskingPeers");
}

#[test]
fn the_first_node_is_a_copy_of_the_remote_primary_or_of_the_archive() {
    let claimed = || {
        let mine = Some(Initialize::InProgress { lease: Some(LEASE) });
        replica().empty().with_cluster(move |c| *c = Cluster { revision: 1, initialize: mine, ..Cluster::default() })
    };
    let decision = check(standby(claimed()), "Start Clone", "BootstrappingStandbyLeader");
    assert!(matches!(decision.role,
        Action::Start { operation: Operation::Clone { from, replace: false, .. }, .. } if from.host == "remote"));
    check(archive_only(claimed()), "Start Restore", "BootstrappingStandbyLeader");
    let from = StandbyCluster { host: Some("remote".into()), port: 5433 }.upstream().unwrap();
    let clone = Operation::Clone { from, replace: false, basebackup_only: false };
    let failed = standby(claimed()).ended(clone, OperationEnd::Failed("no route".into()));
    check(failed, "Write DropInitialize", "BootstrapFailed");
}

#[test]
fn a_switchover_needs_no_shutdown() {
    let asked = |candidate: Option<&str>| {
        let (leader, candidate) = (Some("a".into()), candidate.map(Into::into));
        let key = FailoverKey { mod_revision: 5, leader, candidate, schedule: None };
        follows_remote(standby(replica().locked())).with_cluster(|c| c.failover = Some(key))
    };
    check(asked(None), "Probe", "LookingForSuccessor");
    let decision =
        check(asked(None).peers(vec![("b", answered(1000)), ("c", answered(1000))]), "Release", "HandingOver");
    assert!(matches!(decision.role, Action::Release(Some(status)) if status.optime == Lsn(1000)));
    check(asked(Some("z")), "Write ClearFailover", "ManualRequestCleared");
}

#[test]
fn the_standby_leader_publishes_its_position_and_its_role_but_no_history() {
    let case = follows_remote(standby(replica().locked())).with_cluster(|c| c.status.optime = Lsn(1));
    let decision = check(case.with_server(|s| s.timeline = Some(Timeline(4))), "Hold", "StandbyLeaderWithLock");
    let writes = &decision.upkeep.writes;
    assert!(writes.iter().any(|w| matches!(w, DcsWrite::Status(status) if status.optime == Lsn(1000))));
    assert!(writes.iter().any(|w| matches!(w, DcsWrite::Member(doc) if doc.role == Some(Role::StandbyLeader))));
    assert!(!writes.iter().any(|w| matches!(w, DcsWrite::History(_) | DcsWrite::Failsafe(_))));
}

#[test]
fn data_that_left_the_remote_primarys_history_are_rewound_to_it() {
    let leader = |at| forked(follows_remote(standby(replica().locked())), at);
    check(may_rewind(leader(1000)), "Hold", "StandbyLeaderWithLock");
    check(may_rewind(leader(999)), "Release", "Diverged");
    check(leader(999), "Hold", "Diverged");
    check(may_rewind(forked(standby(replica()), 999)), "Stop Fast", "Diverged");
    check(may_rewind(forked(standby(replica().unlocked()), 999)), "Stop Fast", "Diverged");
    let (view, _) = may_rewind(forked(standby(replica().unlocked()), 999)).decide();
    let down = |case: Case| may_rewind(standby(case.stopped())).with_view(|v| v.diverged.clone_from(&view.diverged));
    let decision = check(down(replica().unlocked()), "Start Rewind", "Rewinding");
    assert!(
        matches!(decision.role, Action::Start { operation: Operation::Rewind { from }, .. } if from.host == "remote")
    );
    check(down(replica()), "Start Rewind", "Rewinding");
    check(down(replica().locked()), "Release", "Diverged");
}

#[test]
fn a_former_primary_is_started_only_when_pg_rewind_has_had_a_look() {
    let former = || {
        let led = |c: &mut Cluster| c.members.get_mut(&"b".into()).unwrap().doc.role = Some(Role::StandbyLeader);
        standby(primary().stopped().with_view(|v| v.lease.leader = None))
            .led_by("b", Some(LeaseId(99)))
            .with_cluster(led)
    };
    check(may_rewind(former()), "Start Rewind", "ComparingWithRemotePrimary");
    check(former().with_control(|c| c.wal_end = Some(Lsn(1))), "Hold", "DivergenceUnknown");
}

#[test]
fn in_maintenance_mode_it_goes_on_following() {
    let paused = |case: Case| case.with_view(|v| v.settings.pause = true);
    check(paused(standby(replica().locked())), "Start Follow", "PromotedToStandbyLeader");
    check(paused(follows_remote(standby(replica().locked()))), "Hold", "StandbyLeaderWithLock");
    check(paused(standby(primary())), "Hold", "LeaderWithLock");
}
