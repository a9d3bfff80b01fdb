//! A running standby under somebody else's lead (spec/ha.md 11, 14).

use crate::decide::Verdict;
use crate::divergence::{Standing, of_running};
use crate::rules::bootstrap::upstream_of;
use crate::rules::start_unless_failing;
use crate::{Reason, View};
use pgherd_types::{Cluster, Instant, Member, Operation, RunningServer, StopMode, Upstream};

/// Follow whom we should.
pub fn follow(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Verdict {
    let Some(key) = &cluster.leader else { return Verdict::hold(Reason::WaitingForDcs) };
    let leader = key.name.clone();
    if leader == view.me.name {
        return Verdict::hold(Reason::LeaderKeyNamesUsButIsNotOurs { me: leader });
    }
    if key.lease.is_none() {
        return Verdict::hold(Reason::LeaderKeyWithoutLease { leader });
    }
    let Some(member) = cluster.members.get(&leader) else {
        return Verdict::hold(Reason::LeaderKeyWithoutMember { leader });
    };
    if let Standing::Diverged(found) = of_running(view, cluster, member, running) {
        return Verdict::start(view, now, Operation::Stop { mode: StopMode::Fast }, Reason::Diverged(found));
    }
    match wanted_upstream(view, cluster, member) {
        Some(wanted) if running.upstream != Some((wanted.host.clone(), wanted.port)) => {
            let because = Reason::ChangingUpstream { leader };
            start_unless_failing(view, now, Operation::Follow { upstream: Some(wanted) }, because)
        }
        _ => Verdict::hold(Reason::Following { me: view.me.name.clone(), leader }),
    }
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
