//! The lock is ours and PostgreSQL runs.

use crate::decide::Verdict;
use crate::rules::{acquire_once, release_once, start_unless_failing, write_once};
use crate::{Lock, Reason, View};
use pgherd_types::{Cluster, DcsWrite, Initialize, Instant, Operation, RunningServer, StopMode, Timeline};

/// How often a promotion may fail before another node is given the chance.
const PROMOTIONS_MAX: u32 = 3;

/// Primary with the lock: nothing to do but the upkeep.
pub fn leading(view: &View, cluster: &Cluster, _running: &RunningServer, now: Instant) -> Verdict {
    let me = view.me.name.clone();
    if let (Some(since), Lock::Held { until }) = (view.dcs_lost_since, view.lock(now)) {
        let early_at = since + view.settings.retry_timeout;
        if !view.settings.dcs_outage_demote_early {
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
    match (view.system_id(), &cluster.initialize) {
        (Some(ours), Some(Initialize::Done(key))) if ours != *key => {
            Verdict::hold(Reason::LeaderWithForeignInitialize { ours, key: *key })
        }
        _ => Verdict::hold(Reason::LeaderWithLock { me }),
    }
}

/// Standby with the lock: reserve a timeline, then promote to exactly that one, so that no number is ever used twice.
pub fn elected(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Verdict {
    let mine =
        running.timeline.or_else(|| Some(view.postgres.get()?.control()?.checkpoint_timeline)).unwrap_or(Timeline(1));
    let Some(timeline) = view.reservation.filter(|reserved| *reserved > mine) else {
        let timeline = cluster.latest_timeline().map_or(mine, |latest| latest.max(mine)).next();
        let write = DcsWrite::ReserveTimeline { timeline, seen: cluster.timeline_reserved };
        return write_once(view, now, write, Reason::ReservingTimeline { timeline });
    };
    let promote = Operation::Promote { timeline };
    if crate::rules::backoff(view, &promote).is_some_and(|(failures, _)| failures >= PROMOTIONS_MAX) {
        return release_once(view, now, None, Reason::StartFailedReleasing);
    }
    start_unless_failing(view, now, promote, Reason::PromotedByLock { timeline })
}

/// The key was removed while our lease lives: take it back before anybody else does.
pub fn key_vanished(view: &View, now: Instant) -> Verdict {
    acquire_once(view, now, Reason::TakingVanishedKeyAgain)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Action, Observation, decide};
    use pgherd_types::*;
    use std::time::Duration;

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
    fn the_leader_keeps_its_keys() {
        let case = primary().with_cluster(|c| (c.config, c.status) = (None, StatusKey::default()));
        let decision = check(case, "Hold", "LeaderWithLock");
        assert!(decision.upkeep.repair_config);
        assert!(decision.upkeep.writes.iter().any(|w| matches!(w, DcsWrite::Status(s) if s.optime == Lsn(1000))));
        assert_eq!(
            decision.upkeep.slots.map(|(_, t)| t.members.into_iter().collect::<Vec<_>>()),
            Some(vec!["b".into(), "c".into()])
        );
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
