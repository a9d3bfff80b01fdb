//! The one function.

use crate::rules::{
    bootstrap, busy, dcs_unreachable, fence, follow, lead, pause, race, recover, release_once, requests, shutdown,
    standby_cluster, trouble,
};
use crate::situation::Situation;
use crate::view::Memory;
use crate::{Action, Decision, Reason, View, upkeep};
use pgherd_types::{Instant, Now, Operation, OperationId};
use std::time::Duration;

/// A rule's answer: what to do about the role, why, and when to look again at the latest.
#[derive(Debug)]
pub struct Verdict {
    /// What.
    pub role: Action,
    /// Why.
    pub because: Reason,
    /// When again, if earlier than the usual time.
    pub again_at: Option<Instant>,
    /// What is to be remembered.
    pub remember: Option<Memory>,
}

impl Verdict {
    /// Do nothing.
    pub fn hold(because: Reason) -> Self {
        Self { role: Action::Hold, because, again_at: None, remember: None }
    }
    /// Do nothing, and look again then.
    pub fn hold_until(because: Reason, at: Instant) -> Self {
        Self { again_at: Some(at), ..Self::hold(because) }
    }
    /// Do this.
    pub fn act(role: Action, because: Reason) -> Self {
        Self { role, ..Self::hold(because) }
    }
    /// Begin an operation; one that needs the lock is given the fence of the lock.
    pub fn start(view: &View, now: Instant, operation: Operation, because: Reason) -> Self {
        let fence = match view.lock(now) {
            crate::Lock::Held { until } if operation.needs_lock() => Some(until),
            _ => None,
        };
        let id = OperationId(view.last_operation + 1);
        Self::act(Action::Start { id, operation, fence }, because)
    }
}

/// Decide what to do now. Same view and time, same decision.
pub fn decide(view: &View, now: Now) -> Decision {
    let at = now.mono;
    let verdict = match Situation::of(view, now) {
        Situation::Unfenced => fence::unfenced(view, at),
        Situation::Leaving => shutdown::leaving(view, at),
        Situation::Busy(running) => busy::busy(view, running, at),
        Situation::Releasing(status) => release_once(view, at, status.clone(), Reason::GivingUpKey),
        Situation::NothingKnown => Verdict::hold(Reason::NothingKnown),
        Situation::Orphaned => fence::orphaned(view, at),
        Situation::Unusable(why) => trouble::unusable(view, why, at),
        Situation::NameTaken(api_url) => {
            Verdict::hold(Reason::NameTaken { me: view.me.name.clone(), api_url: api_url.to_owned() })
        }
        Situation::NoCluster => Verdict::hold(Reason::WaitingForDcs),
        Situation::Empty(cluster) => bootstrap::empty(view, cluster, at),
        Situation::Foreign { ours, key } => Verdict::hold(Reason::ForeignData { ours, key }),
        Situation::Paused(cluster, postgres) => pause::paused(view, cluster, postgres, now),
        Situation::Restart => requests::restart(view, at),
        Situation::ScheduledRestart(restart) => requests::scheduled(view, restart, at),
        Situation::Reinitialize(cluster) => requests::reinitialize(view, cluster, at),
        Situation::Unregistered(cluster, control) => bootstrap::unregistered(view, cluster, control, at),
        Situation::Down(cluster, control) => recover::down(view, cluster, control, at),
        Situation::NotServing(cluster, server) => trouble::not_serving(view, cluster, server, at),
        Situation::KeyVanished => lead::key_vanished(view, at),
        Situation::Leading(cluster, running) => lead::leading(view, cluster, running, now),
        Situation::Elected(cluster, running) => lead::elected(view, cluster, running, at),
        Situation::Surplus => standby_cluster::demote(view, at),
        Situation::StandbyLeader(cluster, running) => standby_cluster::leading(view, cluster, running, now),
        Situation::Blind => dcs_unreachable::blind(),
        Situation::Race(cluster, running) => race::race(view, cluster, running, now),
        Situation::Following(cluster, running) => follow::follow(view, cluster, running, at),
    };
    finish(view, now, verdict)
}

fn finish(view: &View, now: Now, verdict: Verdict) -> Decision {
    let (upkeep, upkeep_at) = upkeep::owed(view, now, &verdict);
    let fence_at = match view.lock(now.mono) {
        crate::Lock::Held { until } | crate::Lock::Vanished { until } => Some(until),
        crate::Lock::No => None,
    };
    let usual = now.mono + view.settings.loop_wait;
    let earliest = now.mono + Duration::from_millis(1);
    let decide_again_at =
        [verdict.again_at, upkeep_at, fence_at].into_iter().flatten().fold(usual, Instant::min).max(earliest);
    Decision { role: verdict.role, upkeep, because: verdict.because, remember: verdict.remember, decide_again_at }
}
