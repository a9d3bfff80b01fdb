//! The lock is ours and PostgreSQL runs.

use crate::decide::Verdict;
use crate::rules::{failed, handover, release_once, standby_cluster, start_unless_failing, take_again, write_once};
use crate::sync::{SyncStep, duty};
use crate::{Lock, Reason, View};
use pgherd_types::{Cluster, DcsWrite, Initialize, Instant, Now, Operation, RunningServer, StopMode, Timeline};
use std::time::Duration;

/// How often a promotion may fail before another node is given the chance.
const PROMOTIONS_MAX: u32 = 3;

/// Primary with the lock: nothing to do but the upkeep, unless somebody asks for another leader.
pub fn leading(view: &View, cluster: &Cluster, running: &RunningServer, at: Now) -> Verdict {
    let now = at.mono;
    let me = view.me.name.clone();
    if view.lease.agreed(now) && view.dcs_lost_since.is_some() {
        return Verdict::hold(Reason::FailsafeActive);
    }
    if let (Some(since), Lock::Held { until }) = (view.dcs_lost_since, view.lock(now)) {
        let early_at = since + view.settings.retry_timeout;
        if !view.settings.dcs_outage_demote_early || view.settings.pause || view.settings.failsafe_mode {
            return Verdict::hold(Reason::LeaderHoldsWithoutDcs { me, left_s: now.until(until).as_secs() });
        }
        if now >= early_at {
            return Verdict::start(view, now, Operation::Stop { mode: StopMode::Fast }, Reason::DemotedEarly);
        }
        return Verdict::hold_until(
            Reason::LeaderHoldsWithoutDcs { me, left_s: now.until(early_at).as_secs() },
            early_at,
        );
    }
    if view.watchdog_failed && !view.settings.pause {
        let stop = Operation::Stop { mode: StopMode::Immediate };
        return start_unless_failing(view, now, stop, Reason::WatchdogLostWhileLeading);
    }
    if let Some(verdict) = handover::requested(view, cluster, running, at) {
        return verdict;
    }
    match (view.system_id(), &cluster.initialize) {
        (Some(ours), Some(Initialize::Done(key))) if ours != *key => {
            Verdict::hold(Reason::LeaderWithForeignInitialize { ours, key: *key })
        }
        _ => Verdict::hold(Reason::LeaderWithLock { me }),
    }
}

/// Standby with the lock: reserve a timeline, then promote to exactly that one, so that no number is ever used twice.
pub fn elected(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Verdict {
    if let Some(verdict) = standby_cluster::leave(view, running, now) {
        return verdict;
    }
    let mine =
        running.timeline.or_else(|| Some(view.postgres.get()?.control()?.checkpoint_timeline)).unwrap_or(Timeline(1));
    let Some(timeline) = view.reservation.filter(|reserved| *reserved > mine) else {
        let timeline = cluster.latest_timeline().map_or(mine, |latest| latest.max(mine)).next();
        let write = DcsWrite::ReserveTimeline { timeline, seen: cluster.timeline_reserved };
        return write_once(view, now, write, Reason::ReservingTimeline { timeline });
    };
    let promote = Operation::Promote { timeline };
    if failed(view, |operation| matches!(operation, Operation::Promote { .. })) && view.refused_promotion_at.is_some() {
        return release_once(view, now, None, Reason::PromotionRefused);
    }
    if crate::rules::backoff(view, &promote).is_some_and(|(failures, _)| failures >= PROMOTIONS_MAX) {
        let why = crate::shown::last_failure(view).unwrap_or_default().to_owned();
        return release_once(view, now, None, Reason::StartFailedReleasing { why });
    }
    if let Some(verdict) = synchronous_first(view, now) {
        return verdict;
    }
    start_unless_failing(view, now, promote, Reason::PromotedByLock { timeline })
}

/// In a synchronous mode PostgreSQL waits for the right standbys and the key names this node before it is a primary. A key
/// that is not as the race was judged by: the race is judged again.
fn synchronous_first(view: &View, now: Instant) -> Option<Verdict> {
    if view.sync.refused {
        return Some(release_once(view, now, None, Reason::PostponingPromotion));
    }
    let step = match duty::due(view, now) {
        Some(SyncStep::Nothing) => return None,
        Some(SyncStep::WriteKey(_) | SyncStep::DeleteKey { .. }) => "writing the sync key",
        Some(SyncStep::SetNames(_) | SyncStep::SetUserNames | SyncStep::ForceWal) => {
            "setting synchronous_standby_names"
        }
        Some(SyncStep::Wait(_)) | None => "waiting for the last step",
    };
    Some(Verdict::hold_until(Reason::PreparingSynchronous { step }, now + Duration::from_secs(1)))
}

/// The key was removed while our lease lives: take it back before anybody else does.
pub fn key_vanished(view: &View, now: Instant) -> Verdict {
    take_again(view, now)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Action, Observation, decide};
    use pgherd_types::*;
    use std::time::Duration;

    #[test]
    fn a_promotion_that_the_users_script_refused_makes_room_for_a_ttl() {
        let refused = OperationEnd::Failed(format!("{PRE_PROMOTE} script /bin/false ended with 1"));
        let (mut view, now) = replica().locked().build();
        view.reservation = Some(Timeline(2));
        let start = decide(&view, now);
        view.dispatched(&start, now);
        view.apply(Observation::OperationFinished { id: OperationId(1), end: refused }, now);
        let decision = decide(&view, now);
        assert_eq!((name_of(&decision.role).as_str(), decision.because.id().as_str()), ("Release", "PromotionRefused"));
        let since =
            |ms| replica().unlocked().with_view(move |v| v.refused_promotion_at = Some(Instant::from_millis(ms)));
        check(since(30_001), "Hold", "PromotionRefusedLately");
        check(since(30_000), "Probe", "AskingPeers");
    }

    #[test]
    fn failures_of_an_earlier_lead_do_not_count_in_the_next() {
        let failed = OperationEnd::Failed(format!("{PRE_PROMOTE} script /bin/false ended with 1"));
        let (mut view, now) = replica().unlocked().ended(Operation::Promote { timeline: Timeline(2) }, failed).build();
        view.refused_promotion_at = Some(Instant::from_millis(1));
        let grant = LeaseGrant { lease: LEASE, sent_at: now.mono, ttl_ms: 30_000, asked_ttl_ms: None };
        view.apply(Observation::LeaderAcquired(grant), now);
        view.reservation = Some(Timeline(3));
        let decision = decide(&view, now);
        assert_eq!(name_of(&decision.role), "Start Promote");
    }

    #[test]
    fn a_required_watchdog_that_fails_ends_the_lead() {
        let failed = |case: Case| case.with_view(|v| v.watchdog_failed = true);
        check(failed(primary()), "Stop Immediate", "WatchdogLostWhileLeading");
        check(failed(primary().stopped()), "Release", "WatchdogLostWhileLeading");
        check(failed(primary().with_view(|v| v.settings.pause = true)), "Hold", "LeaderWithLock");
    }

    #[test]
    fn a_leader_leads() {
        check(primary(), "Hold", "LeaderWithLock");
    }

    #[test]
    fn garbage_in_initialize_does_not_demote_it() {
        let case = |key| primary().with_cluster(|c| c.initialize = key);
        check(case(Some(Initialize::Garbage)), "Hold", "LeaderWithLock");
        check(case(Some(Initialize::Done(SystemId(1)))), "Hold", "LeaderWithForeignInitialize");
        check(case(Some(Initialize::InProgress { lease: None })), "Hold", "LeaderWithLock");
        let decision = check(case(None), "Hold", "LeaderWithLock");
        assert!(decision.upkeep.writes.iter().any(|w| matches!(w, DcsWrite::AdoptInitialize(_))));
    }

    #[test]
    fn an_elected_standby_reserves_a_new_timeline_and_promotes_to_it() {
        let (mut view, decision) = replica().locked().decide();
        let write = DcsWrite::ReserveTimeline { timeline: Timeline(2), seen: None };
        assert_eq!(decision.role, Action::Write(write.clone()));
        let now = Now { mono: Instant::from_millis(60_010), ..Now::default() };
        view.apply(Observation::Written(write), now);
        let decision = decide(&view, now);
        let until = Instant::from_millis(85_000);
        assert!(matches!(decision.role,
            Action::Start { operation: Operation::Promote { timeline: Timeline(2) }, fence: Some(f), .. } if f == until));
    }

    #[test]
    fn numbers_taken_by_others_are_skipped() {
        let case = replica().locked().with_cluster(|c| c.timeline_reserved = Some(Timeline(6)));
        let decision = check(case, "Write ReserveTimeline", "ReservingTimeline");
        let wanted = DcsWrite::ReserveTimeline { timeline: Timeline(7), seen: Some(Timeline(6)) };
        assert_eq!(decision.role, Action::Write(wanted));
    }

    #[test]
    fn a_vanished_key_is_taken_again_and_a_foreign_one_ends_writes() {
        check(primary().unlocked(), "Acquire", "TakingVanishedKeyAgain");
        check(primary().led_by("b", Some(LeaseId(99))), "Stop Immediate", "FencedWithoutLock");
        check(primary().led_by("nonsense", None), "Stop Immediate", "FencedWithoutLock");
    }

    #[test]
    fn a_key_that_somebody_else_had_meanwhile_is_not_taken_again() {
        let reserved = |timeline| {
            let (mut view, now) = primary().build();
            let (leader, timeline_reserved) = (None, Some(Timeline(timeline)));
            let cluster = Cluster { leader, timeline_reserved, ..view.cluster.get().unwrap().as_ref().clone() };
            let now = Now { mono: now.mono + Duration::from_millis(1), ..now };
            view.apply(Observation::Cluster { cluster: std::sync::Arc::new(cluster), read_at: now.mono }, now);
            name_of(&decide(&view, now).role)
        };
        assert_eq!((reserved(1).as_str(), reserved(2).as_str()), ("Acquire", "Stop Immediate"));
    }

    #[test]
    fn without_the_dcs_it_goes_on_until_the_deadline_and_not_longer() {
        let lost = |case: Case| {
            let (mut view, now) = case.build();
            view.apply(Observation::DcsLost { since: Instant::from_millis(59_000) }, now);
            view
        };
        let view = lost(primary());
        let at = |ms| decide(&view, Now { mono: Instant::from_millis(ms), ..Now::default() });
        assert_eq!(at(84_999).because.id(), "LeaderHoldsWithoutDcs");
        assert_eq!(at(84_990).decide_again_at, Instant::from_millis(85_000));
        assert_eq!(name_of(&at(85_000).role), "Stop Immediate");
        let early = lost(primary().with_view(|v| v.settings.dcs_outage_demote_early = true));
        let decision = decide(&early, Now { mono: Instant::from_millis(69_000), ..Now::default() });
        assert_eq!(name_of(&decision.role), "Stop Fast");
    }

    #[test]
    fn a_key_that_a_proof_found_gone_is_taken_back() {
        let (mut view, now) = primary().build();
        view.asked.renew = Some(crate::asked::Ask::new(true, now.mono));
        view.apply(Observation::LeaseRefused { why: Refused::Absent }, now);
        let decision = decide(&view, now);
        assert_eq!(
            (name_of(&decision.role).as_str(), decision.because.id().as_str()),
            ("Acquire", "TakingVanishedKeyAgain")
        );
    }

    #[test]
    fn the_leader_keeps_its_keys() {
        let case = primary().with_cluster(|c| (c.config, c.status) = (None, StatusKey::default()));
        let decision = check(case, "Hold", "LeaderWithLock");
        assert!(decision.upkeep.repair_config);
        assert!(decision.upkeep.writes.iter().any(|w| matches!(w, DcsWrite::Status(s) if s.optime == Lsn(1000))));
        assert_eq!(
            decision.upkeep.slots.map(|(_, t)| t
                .changes
                .iter()
                .map(|change| change.slot().to_owned())
                .collect::<Vec<_>>()),
            Some(vec!["b".into(), "c".into()])
        );
    }

    #[test]
    fn the_timeline_of_a_primary_is_reserved_if_nobody_has() {
        let on = |timeline| primary().with_server(move |s| s.timeline = Some(Timeline(timeline)));
        let reserved = |case: Case| {
            let writes = case.decide().1.upkeep.writes;
            writes
                .iter()
                .find_map(|w| if let DcsWrite::ReserveTimeline { timeline, .. } = w { Some(timeline.0) } else { None })
        };
        assert_eq!((reserved(on(1)), reserved(on(4))), (None, Some(4)));
        assert_eq!(reserved(on(4).with_cluster(|c| c.timeline_reserved = Some(Timeline(4)))), None);
        assert_eq!(reserved(on(4).with_cluster(|c| c.timeline_reserved = Some(Timeline(3)))), Some(4));
        let (mut view, now) = on(4).build();
        view.apply(Observation::Written(DcsWrite::ReserveTimeline { timeline: Timeline(4), seen: None }), now);
        assert_eq!(view.reservation, None, "no promotion is due");
    }

    #[test]
    fn the_lease_is_renewed_in_time_and_proven() {
        let decision =
            check(primary().with_view(|v| v.settings.loop_wait = Duration::from_secs(1)), "Hold", "LeaderWithLock");
        assert_eq!(decision.upkeep.renew, Some(true));
        let decision = check(primary(), "Hold", "LeaderWithLock");
        assert_eq!(decision.upkeep.renew, None);
        assert_eq!(decision.decide_again_at, Instant::from_millis(68_000));
    }
}
