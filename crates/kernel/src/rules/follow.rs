//! A running standby under somebody else's lead (spec/ha.md 11, 14).

use crate::decide::Verdict;
use crate::divergence::{Standing, of_running};
use crate::rules::bootstrap::upstream_of;
use crate::rules::{standby_cluster, start_unless_failing};
use crate::slots::copy::Turn;
use crate::view::Memory;
use crate::{Reason, View, slots};
use pgherd_types::{Cluster, Instant, Member, Operation, RunningServer, StopMode, Upstream};
use std::time::Duration;

/// Follow whom we should.
pub fn follow(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Verdict {
    let Some(key) = &cluster.leader else { return Verdict::hold(Reason::WaitingForDcs) };
    let leader = key.name.clone();
    if view.key_is_ours() {
        return Verdict::hold(Reason::AwaitingProof);
    }
    if key.lease.is_none() {
        return Verdict::hold(Reason::LeaderKeyWithoutLease { leader });
    }
    if leader == view.me.name {
        return Verdict::hold(Reason::LeaderKeyNamesUsButIsNotOurs { me: leader });
    }
    let Some(member) = cluster.members.get(&leader) else {
        return Verdict::hold(Reason::LeaderKeyWithoutMember { leader });
    };
    if let Some(verdict) = standby_cluster::cut_off(view, running, now) {
        return verdict;
    }
    if let Standing::Diverged(found) = of_running(view, cluster, member, running) {
        return Verdict::start(view, now, Operation::Stop { mode: StopMode::Fast }, Reason::Diverged(found));
    }
    match wanted_upstream(view, cluster, member) {
        Some(wanted) if differs(running, &wanted) => {
            let because = Reason::ChangingUpstream { leader };
            start_unless_failing(view, now, Operation::Follow { upstream: Some(wanted) }, because)
        }
        _ => {
            if let Some(copy) =
                upstream_of(member).and_then(|from| slots::copy::owed(view, cluster, running, &from, now))
            {
                return copying_in_turn(view, cluster, running, copy, now);
            }
            let not_owed = view.slots.copies.awaited().then_some(Memory::CopyNotOwed);
            let standby = view.settings.standby_cluster.is_some();
            let following = Verdict::hold(Reason::Following { me: view.me.name.clone(), leader, standby });
            Verdict { remember: not_owed, ..following }
        }
    }
}

/// Other slots may be on their way, and commits may wait for this standby: it is not stopped at once.
fn copying_in_turn(view: &View, cluster: &Cluster, running: &RunningServer, copy: Operation, now: Instant) -> Verdict {
    match slots::copy::turn(view, cluster, running, now) {
        Turn::Now => copying(view, copy, now),
        Turn::Wait(until, because) => Verdict::hold_until(because, until),
        Turn::Note(memory, because) => {
            let soon = Verdict::hold_until(because, now + Duration::from_millis(1));
            Verdict { remember: Some(memory), ..soon }
        }
    }
}

/// Logical slots of the leader are put in place.
pub(crate) fn copying(view: &View, copy: Operation, now: Instant) -> Verdict {
    let slots = match &copy {
        Operation::CopySlots { slots, .. } => slots.keys().cloned().collect(),
        _ => Vec::new(),
    };
    Verdict::start(view, now, copy, Reason::CopyingSlots { slots })
}

/// Whom this standby should follow; `None` while that is not known, or nobody.
pub fn wanted(view: &View, cluster: &Cluster) -> Option<Upstream> {
    let leader = cluster.leader_member().filter(|leader| leader.name != view.me.name)?;
    wanted_upstream(view, cluster, leader)
}

/// Does it follow somebody else?
pub fn differs(running: &RunningServer, wanted: &Upstream) -> bool {
    running.upstream != Some((wanted.host.clone(), wanted.port))
}

/// The member named by `replicatefrom` if it exists, else the leader.
fn wanted_upstream(view: &View, cluster: &Cluster, leader: &Member) -> Option<Upstream> {
    if view.me.tags.nostream {
        return None;
    }
    let cascade = view.me.tags.replicatefrom.as_deref().filter(|name| *name != view.me.name.as_str());
    let cascade = cascade.and_then(|name| cluster.members.get(&name.into())).and_then(upstream_of);
    cascade.or_else(|| upstream_of(leader))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use pgherd_types::LeaseId;

    #[test]
    fn a_streaming_secondary_is_left_alone() {
        check(replica(), "Hold", "Following");
    }

    #[test]
    fn another_leader_means_another_upstream() {
        check(replica().led_by("c", Some(LeaseId(3))), "Start Follow", "ChangingUpstream");
        check(replica().with_server(|s| s.upstream = None), "Start Follow", "ChangingUpstream");
    }

    #[test]
    fn cascading_follows_the_named_member_while_it_exists() {
        let cascade = |name: &str| {
            let name = name.to_owned();
            replica().with_view(move |v| v.me.tags.replicatefrom = Some(name))
        };
        check(cascade("c"), "Start Follow", "ChangingUpstream");
        check(cascade("nobody"), "Hold", "Following");
        check(cascade("a"), "Hold", "Following");
    }

    #[test]
    fn leader_keys_that_cannot_be_right_are_reported() {
        check(replica().led_by("ghost", Some(LeaseId(5))), "Hold", "LeaderKeyWithoutMember");
        check(replica().led_by("b", None), "Hold", "LeaderKeyWithoutLease");
        check(replica().led_by("a", None), "Hold", "LeaderKeyWithoutLease");
        check(replica().led_by("a", Some(LeaseId(5))), "Hold", "LeaderKeyNamesUsButIsNotOurs");
    }

    #[test]
    fn a_leader_whose_key_still_shows_an_older_timeline_than_it_reserved_says_nothing() {
        let ahead = || replica().with_server(|s| s.timeline = Some(pgherd_types::Timeline(2)));
        check(ahead().with_cluster(|c| c.timeline_reserved = Some(pgherd_types::Timeline(2))), "Hold", "Following");
        check(ahead(), "Stop Fast", "Diverged");
        let mut seen_later = ahead();
        seen_later.postgres.looked_at = seen_later.now.mono + std::time::Duration::from_millis(1);
        check(seen_later, "Hold", "Following");
    }

    #[test]
    fn a_standby_beyond_the_switch_point_is_stopped_and_stays_so() {
        check(promoted_elsewhere(replica(), 1000), "Hold", "Following");
        let (view, decision) = promoted_elsewhere(replica(), 999).decide();
        assert_eq!(name_of(&decision.role), "Stop Fast");
        assert!(view.diverged.is_some());
        let again = promoted_elsewhere(replica(), 999).stopped().with_view(|v| v.diverged = view.diverged);
        check(again, "Hold", "Diverged");
    }
}
