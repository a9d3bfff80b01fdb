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
        return Verdict::hold_until(Reason::LeaderHoldsWithoutDcs { me, left_s: now.until(early_at).as_secs() }, early_at);
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
    let mine = running.timeline.or_else(|| Some(view.postgres.get()?.control()?.checkpoint_timeline)).unwrap_or(Timeline(1));
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
