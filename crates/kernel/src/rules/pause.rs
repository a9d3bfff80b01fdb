//! Maintenance mode (spec/ha.md 16): nothing is started, stopped, promoted or demoted by itself. A primary keeps the key,
//! or takes it if it is free; manual requests to a named candidate, restarts and new copies are still carried out.

use crate::decide::Verdict;
use crate::rules::{acquire_once, follow, lead, race, release_once, standby_cluster, take_again};
use crate::wishes::Pending;
use crate::{Lock, Reason, View};
use pgherd_types::{Cluster, ControlData, Initialize, Instant, Now, Operation, PostgresState, RunningServer, Server};

/// What is left to do.
pub fn paused(view: &View, cluster: &Cluster, postgres: &PostgresState, now: Now) -> Verdict {
    let at = now.mono;
    let Some(control) = postgres.control() else { return without_data(view, at) };
    if let Some(verdict) = foreign(view, cluster, control, at) {
        return verdict;
    }
    match &postgres.server {
        Server::Stopped | Server::Orphaned => stopped(view, cluster, control, at),
        Server::Starting | Server::Stopping | Server::Archiving | Server::Unresponsive(_) => {
            Verdict::hold(Reason::Paused { what: "PostgreSQL does not answer", me: view.me.name.clone() })
        }
        Server::Running(running) if running.in_recovery => standby(view, cluster, running, now),
        Server::Running(running) => primary(view, cluster, control, running, now),
    }
}

fn hold(view: &View, what: &'static str) -> Verdict {
    Verdict::hold(Reason::Paused { what, me: view.me.name.clone() })
}

fn leads(view: &View, now: Instant) -> bool {
    view.leads(now) || view.key_is_ours()
}

fn without_data(view: &View, now: Instant) -> Verdict {
    if leads(view, now) {
        return release_once(view, now, None, Reason::DataEmptyWhileLeading);
    }
    hold(view, "running with empty data directory")
}

fn foreign(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Option<Verdict> {
    let Some(Initialize::Done(key)) = &cluster.initialize else { return None };
    if *key == control.system_id {
        return None;
    }
    let because = Reason::ForeignData { ours: control.system_id, key: *key };
    Some(if leads(view, now) { release_once(view, now, None, because) } else { Verdict::hold(because) })
}

/// A server that somebody stopped stays so; a restart that was asked for is brought to its end.
fn stopped(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    if let Some(Pending::Restart { stopped_at: Some(_), failed: None, .. }) = &view.pending {
        return crate::rules::recover::down(view, cluster, control, now);
    }
    if view.handover.is_some() {
        return crate::rules::recover::down(view, cluster, control, now);
    }
    if leads(view, now) {
        return release_once(view, now, None, Reason::ReleasedBecauseStopped);
    }
    hold(view, "postgres is not running")
}

fn primary(view: &View, cluster: &Cluster, control: &ControlData, running: &RunningServer, now: Now) -> Verdict {
    let ours = match &cluster.initialize {
        None => true,
        Some(Initialize::Done(key)) => *key == control.system_id,
        Some(Initialize::InProgress { .. } | Initialize::Garbage) => false,
    };
    match view.lock(now.mono) {
        Lock::Held { .. } => lead::leading(view, cluster, running, now),
        Lock::Vanished { .. } => take_again(view, now.mono),
        Lock::No if view.dcs_lost_since.is_some() => hold(view, "DCS is not accessible; the primary goes on"),
        Lock::No if view.key_is_ours() => Verdict::hold(Reason::AwaitingProof),
        Lock::No if cluster.leader.is_none() && ours => acquire_once(view, now.mono, Reason::Acquiring),
        Lock::No => hold(view, "continue to run as primary without lock"),
    }
}

fn standby(view: &View, cluster: &Cluster, running: &RunningServer, at: Now) -> Verdict {
    let now = at.mono;
    let named = cluster.manual().filter(|key| key.schedule.is_none()).and_then(|key| key.candidate.as_ref());
    let wanted = named == Some(&view.me.name) && view.me.tags.may_lead();
    let promotes = view.settings.standby_cluster.is_none();
    match view.lock(now) {
        Lock::Held { .. } if promotes && (wanted || view.reservation.is_some()) => {
            lead::elected(view, cluster, running, now)
        }
        Lock::Held { .. } if view.settings.standby_cluster.is_some() => {
            standby_cluster::follow_remote(view, running, now)
        }
        Lock::Held { .. } => release_once(view, now, None, Reason::ReleasedBecauseStandby),
        Lock::Vanished { .. } => hold(view, "no action"),
        Lock::No if view.dcs_lost_since.is_some() => Verdict::hold(Reason::DcsNotAccessible),
        // a switchover whose leader died before it handed over is no licence to lose what others have
        Lock::No if cluster.leader.is_none() && wanted => race::race(view, cluster, running, at),
        Lock::No if cluster.leader.is_none() => hold(view, "no action"),
        Lock::No => match follow::wanted(view, cluster) {
            Some(upstream) if follow::differs(running, &upstream) => {
                let leader = cluster.leader.as_ref().map(|key| key.name.clone()).unwrap_or_default();
                let operation = Operation::Follow { upstream: Some(upstream) };
                crate::rules::start_unless_failing(view, now, operation, Reason::ChangingUpstream { leader })
            }
            _ => hold(view, "no action"),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Observation, invariants};
    use pgherd_types::*;

    fn paused(case: Case) -> Case {
        case.with_view(|v| v.settings.pause = true)
    }
    fn without_lock(case: Case) -> Case {
        case.with_view(|v| v.lease.leader = None)
    }
    fn asks_for(case: Case, name: &str) -> Case {
        let candidate = Some(name.into());
        case.with_cluster(|c| c.failover = Some(FailoverKey { mod_revision: 3, candidate, ..FailoverKey::default() }))
    }

    #[test]
    fn the_candidate_of_a_switchover_without_a_leader_is_compared_with_the_others() {
        let asked =
            |case: Case| asks_for(case, "a").with_cluster(|c| c.failover.as_mut().unwrap().leader = Some("b".into()));
        check(paused(asks_for(replica(), "a").unlocked()), "Acquire", "Acquiring");
        check(paused(asked(replica()).unlocked()), "Probe", "AskingPeers");
        let ahead = |case: Case| case.peers(vec![("b", silent()), ("c", answered(2000))]);
        check(ahead(paused(asked(replica()).unlocked()).with_view(|v| v.leaderless_since = None)), "Hold", "PeerAhead");
    }

    #[test]
    fn a_primary_goes_on_with_or_without_the_lock_and_takes_a_free_key() {
        check(paused(primary()), "Hold", "LeaderWithLock");
        check(paused(without_lock(primary()).led_by("b", Some(LeaseId(99)))), "Hold", "Paused");
        check(paused(without_lock(primary()).unlocked()), "Acquire", "Acquiring");
        check(
            paused(
                without_lock(primary()).unlocked().with_cluster(|c| c.initialize = Some(Initialize::Done(SystemId(1)))),
            ),
            "Hold",
            "ForeignData",
        );
        check(paused(primary().unlocked()), "Acquire", "TakingVanishedKeyAgain");
    }

    #[test]
    fn the_fence_is_off_until_the_mode_ends() {
        let (mut view, now) = paused(without_lock(primary()).led_by("b", Some(LeaseId(99)))).build();
        assert_eq!(view.fence_order(now.mono), FenceOrder::Disarmed);
        view.apply(Observation::Settings(Settings::default()), now);
        assert!(matches!(view.fence_order(now.mono), FenceOrder::Armed { .. }));
        let decision = crate::decide(&view, now);
        assert_eq!(name_of(&decision.role), "Stop Immediate");
        assert_eq!(invariants::check(&view, &decision, now), Ok(()));
    }

    #[test]
    fn a_lost_dcs_demotes_nobody() {
        let (mut view, now) = paused(primary()).build();
        view.apply(Observation::DcsLost { since: now.mono }, now);
        let later = Now { mono: now.mono + std::time::Duration::from_secs(600), ..now };
        let decision = crate::decide(&view, later);
        assert_eq!(name_of(&decision.role), "Hold");
        assert_eq!(invariants::check(&view, &decision, later), Ok(()));
    }

    #[test]
    fn nothing_is_started_or_promoted_by_itself() {
        check(paused(replica().stopped()), "Hold", "Paused");
        check(paused(replica().empty()), "Hold", "Paused");
        check(paused(replica().unlocked()), "Hold", "Paused");
        check(paused(primary().stopped()), "Release", "ReleasedBecauseStopped");
        check(paused(replica().locked()), "Release", "ReleasedBecauseStandby");
    }

    #[test]
    fn a_named_candidate_is_promoted_and_others_are_not() {
        check(asks_for(paused(replica().unlocked()), "a"), "Acquire", "Acquiring");
        check(asks_for(paused(replica().unlocked()), "c"), "Hold", "Paused");
        let switchover = |position| {
            let from = |c: &mut Cluster| c.failover.as_mut().unwrap().leader = Some("b".into());
            let case = asks_for(paused(replica().unlocked()), "a").with_cluster(from);
            case.peers(vec![("b", silent()), ("c", answered(position))])
        };
        check(switchover(1000), "Acquire", "Acquiring");
        check(switchover(1001), "Hold", "PeerAhead");
        check(asks_for(paused(replica().locked()), "a"), "Write ReserveTimeline", "ReservingTimeline");
        let able = |case: Case| case.peers(vec![("b", answered(1000)), ("c", answered(1000))]);
        check(able(asks_for(paused(primary()), "c")), "Stop Fast", "HandingOver");
    }

    #[test]
    fn a_standby_still_follows_a_new_leader() {
        check(paused(replica().led_by("c", Some(LeaseId(3)))), "Start Follow", "ChangingUpstream");
    }

    #[test]
    fn the_member_key_tells_and_slots_are_not_dropped() {
        let gone = |v: &mut crate::View| {
            v.slots_wanted.insert("old".into(), Instant::default());
            v.settings.member_slots_ttl = std::time::Duration::from_secs(1);
        };
        let old = SeenSlot { name: "old".into(), physical: true, managed: true, ..SeenSlot::default() };
        let case = || primary().with_view(gone).with_server(|s| s.slots = vec![old.clone()]);
        let drops = |decision: &crate::Decision| {
            let (_, target) = decision.upkeep.slots.as_ref().expect("slots of members are made");
            target.changes.iter().any(|change| matches!(change, SlotChange::Drop { .. }))
        };
        assert!(drops(&case().decide().1));
        let decision = check(paused(case()), "Hold", "LeaderWithLock");
        assert!(decision.upkeep.writes.iter().any(|w| matches!(w, DcsWrite::Member(doc) if doc.pause)));
        assert!(!drops(&decision));
    }

    #[test]
    fn the_agent_leaves_everything_as_it_is() {
        let case = paused(primary()).with_view(|v| v.shutdown = Some(Instant::from_millis(59_000)));
        check(case, "Exit", "LeftPaused");
    }
}
