//! No data, or data that the DCS does not know yet: clone, or make a new cluster, or wait (spec/ha.md 6).

use crate::decide::Verdict;
use crate::rules::{release_once, start_unless_failing, write_once};
use crate::{Reason, View};
use pgherd_types::{Cluster, ControlData, DcsWrite, Initialize, Instant, Member, Operation, Server, Upstream};

/// The data directory is empty.
pub fn empty(view: &View, cluster: &Cluster, now: Instant) -> Verdict {
    if view.leads(now) || view.key_is_ours() {
        return release_once(view, now, None, Reason::DataEmptyWhileLeading);
    }
    if view.dcs_lost_since.is_some() {
        return Verdict::hold(Reason::DcsNotAccessible);
    }
    match (&cluster.leader, &cluster.initialize) {
        (Some(leader), _) if leader.lease.is_none() => {
            Verdict::hold(Reason::LeaderKeyWithoutLease { leader: leader.name.clone() })
        }
        (Some(leader), _) if leader.name == view.me.name => {
            Verdict::hold(Reason::LeaderKeyNamesUsButIsNotOurs { me: view.me.name.clone() })
        }
        (Some(_), Some(Initialize::Done(_))) => clone(view, cluster, now),
        (None, None) if view.me.can_bootstrap && view.me.tags.may_lead() => claim(view, now),
        (None, Some(Initialize::InProgress { lease }))
            if lease.is_some() && *lease == view.lease.current.map(|g| g.lease) =>
        {
            bootstrap(view, now)
        }
        (None, None | Some(Initialize::Done(_))) if view.me.can_restore => {
            start_unless_failing(view, now, Operation::Restore, Reason::Restoring)
        }
        _ => waiting(view),
    }
}

fn waiting(view: &View) -> Verdict {
    let standby = view.settings.standby_cluster.is_some();
    Verdict::hold(if standby { Reason::WaitingForStandbyLeader } else { Reason::WaitingForLeaderToBootstrap })
}

fn claim(view: &View, now: Instant) -> Verdict {
    if view.lease.current.is_none() {
        return Verdict::hold(Reason::BootstrapRace);
    }
    if let Some((failures, until)) = crate::rules::backoff(view, &first(view))
        && now < until
    {
        let why = crate::shown::last_failure(view).unwrap_or_default().to_owned();
        return Verdict::hold_until(Reason::WaitingBeforeRetry { what: "bootstrap", failures, why }, until);
    }
    write_once(view, now, DcsWrite::ClaimInitialize, Reason::BootstrapRace)
}

/// The right to bootstrap is ours. After a failure it is given back, so that another node may try.
fn bootstrap(view: &View, now: Instant) -> Verdict {
    let operation = first(view);
    if crate::rules::backoff(view, &operation).is_some_and(|(_, until)| now < until) {
        return write_once(view, now, DcsWrite::DropInitialize, Reason::BootstrapFailed);
    }
    let because = match operation {
        Operation::Bootstrap => Reason::Bootstrapping,
        _ => Reason::BootstrappingStandbyLeader,
    };
    Verdict::start(view, now, operation, because)
}

/// What makes the first node's data: a standby cluster begins as a copy of the remote primary, or of an archive.
fn first(view: &View) -> Operation {
    match (&view.settings.standby_cluster, view.remote()) {
        (None, _) => Operation::Bootstrap,
        (Some(_), Some(from)) => Operation::Clone { from, replace: false, basebackup_only: false },
        (Some(_), None) => Operation::Restore,
    }
}

fn clone(view: &View, cluster: &Cluster, now: Instant) -> Verdict {
    let Some((from, is_leader)) = source(view, cluster, false) else {
        return waiting(view);
    };
    let because = Reason::Cloning { from: from.member.clone(), is_leader };
    start_unless_failing(view, now, Operation::Clone { from, replace: false, basebackup_only: false }, because)
}

/// A random running replica with the tag `clonefrom`, else the leader once it runs; after a failure the next of them.
pub(crate) fn source(view: &View, cluster: &Cluster, from_leader: bool) -> Option<(Upstream, bool)> {
    let leader = cluster.leader.as_ref().map(|l| &l.name);
    let leads_on = cluster.leader_member().and_then(|leader| leader.doc.timeline);
    let usable = |m: &&Member| {
        !from_leader
            // one that has not come to the leader's timeline may never get there
            && (leads_on.is_none() || m.doc.timeline == leads_on)
            && m.doc.tags.clonefrom
            && m.doc.state == "running"
            && m.name != view.me.name
            && Some(&m.name) != leader
    };
    let mut sources: Vec<(Upstream, bool)> =
        cluster.members.values().filter(usable).filter_map(upstream_of).map(|u| (u, false)).collect();
    if !sources.is_empty() {
        let turn = view.dice as usize % sources.len();
        sources.rotate_left(turn);
    }
    let serving = cluster.leader_member().filter(|leader| leader.doc.state == "running");
    sources.extend(serving.and_then(upstream_of).map(|u| (u, true)));
    let failures =
        view.ended.as_ref().filter(|e| matches!(e.operation, Operation::Clone { .. })).map_or(0, |e| e.failures);
    let count = sources.len();
    sources.into_iter().nth(failures as usize % count.max(1))
}

/// Where a member can be reached.
pub fn upstream_of(member: &Member) -> Option<Upstream> {
    let (host, port) = member.doc.endpoint()?;
    Some(Upstream { member: member.name.clone(), host, port })
}

/// There are data, nobody leads, and `initialize` is absent or empty.
pub fn unregistered(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    if view.lease.current.is_none() {
        return Verdict::hold(Reason::WaitingForDcs);
    }
    match &cluster.initialize {
        None => {
            let stopped_or_primary =
                view.postgres.get().is_some_and(|p| p.server == Server::Stopped && !control.standby_signal);
            if stopped_or_primary || view.postgres.get().is_some_and(|p| p.running().is_some()) {
                write_once(view, now, DcsWrite::AdoptInitialize(control.system_id), Reason::AdoptingData)
            } else {
                waiting(view)
            }
        }
        Some(Initialize::InProgress { lease }) if *lease == view.lease.current.map(|g| g.lease) => {
            write_once(view, now, DcsWrite::FinishInitialize(control.system_id), Reason::FinishingBootstrap)
        }
        Some(_) => waiting(view),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use pgherd_types::*;

    fn nothing_yet() -> Case {
        replica().empty().with_cluster(|c| *c = Cluster { revision: 1, ..Cluster::default() })
    }
    fn claimed_by(lease: LeaseId) -> Case {
        nothing_yet().with_cluster(|c| c.initialize = Some(Initialize::InProgress { lease: Some(lease) }))
    }

    #[test]
    fn the_right_to_bootstrap_is_claimed_first() {
        check(nothing_yet(), "Write ClaimInitialize", "BootstrapRace");
        check(nothing_yet().with_view(|v| v.me.can_bootstrap = false), "Hold", "WaitingForLeaderToBootstrap");
        check(nothing_yet().with_view(|v| v.me.tags.nofailover = true), "Hold", "WaitingForLeaderToBootstrap");
        check(claimed_by(LEASE), "Start Bootstrap", "Bootstrapping");
        check(claimed_by(LeaseId(4)), "Hold", "WaitingForLeaderToBootstrap");
    }

    #[test]
    fn without_a_leader_a_method_that_needs_none_is_used() {
        let able = |case: Case| case.with_view(|v| v.me.can_restore = true);
        check(able(replica().empty().unlocked()), "Start Restore", "Restoring");
        check(replica().empty().unlocked(), "Hold", "WaitingForLeaderToBootstrap");
        check(able(claimed_by(LeaseId(4))), "Hold", "WaitingForLeaderToBootstrap");
        check(able(nothing_yet()), "Write ClaimInitialize", "BootstrapRace");
    }

    #[test]
    fn a_failed_bootstrap_gives_the_right_back_and_waits() {
        let failed = || OperationEnd::Failed("initdb: no space".into());
        check(claimed_by(LEASE).ended(Operation::Bootstrap, failed()), "Write DropInitialize", "BootstrapFailed");
        check(nothing_yet().ended(Operation::Bootstrap, failed()), "Hold", "WaitingBeforeRetry");
    }

    #[test]
    fn a_finished_bootstrap_is_registered_and_leads() {
        let made = claimed_by(LEASE);
        let data = || DataDirectory::Present(control());
        let mut case = made.ended(Operation::Bootstrap, OperationEnd::Done);
        case.postgres.data = data();
        check(case, "Write FinishInitialize", "FinishingBootstrap");
        let mut case = nothing_yet().ended(Operation::Bootstrap, OperationEnd::Done);
        case.postgres.data = data();
        check(
            case.with_cluster(|c| c.initialize = Some(Initialize::Done(control().system_id))),
            "Acquire",
            "Acquiring",
        );
    }

    #[test]
    fn an_empty_node_clones_from_the_leader_or_a_willing_replica() {
        check(replica().empty(), "Start Clone", "Cloning");
        let willing =
            replica().empty().with_cluster(|c| c.members.get_mut(&"c".into()).unwrap().doc.tags.clonefrom = true);
        let decision = check(willing, "Start Clone", "Cloning");
        assert_eq!(decision.because.to_string(), "trying to bootstrap from replica 'c'");
        let old = replica().empty().with_cluster(|c| {
            let doc = &mut c.members.get_mut(&"c".into()).unwrap().doc;
            (doc.tags.clonefrom, doc.timeline) = (true, Some(Timeline(7)));
        });
        assert_eq!(check(old, "Start Clone", "Cloning").because.to_string(), "trying to bootstrap from leader 'b'");
        let starting =
            replica().empty().with_cluster(|c| c.members.get_mut(&"b".into()).unwrap().doc.state = "starting".into());
        check(starting, "Hold", "WaitingForLeaderToBootstrap");
        check(replica().empty().led_by("a", None), "Hold", "LeaderKeyWithoutLease");
        check(replica().empty().locked(), "Release", "DataEmptyWhileLeading");
    }

    #[test]
    fn existing_data_are_registered_when_nobody_leads() {
        let case =
            primary().stopped().unlocked().with_view(|v| v.lease.leader = None).with_cluster(|c| c.initialize = None);
        check(case, "Write AdoptInitialize", "AdoptingData");
    }

    #[test]
    fn a_name_that_a_living_node_has_is_not_taken() {
        let namesake = |api: &str, lease| {
            let api = api.to_owned();
            replica().empty().with_cluster(move |c| {
                let member = c.members.get_mut(&"a".into()).unwrap();
                (member.doc.api_url, member.lease) = (Some(api), Some(lease));
            })
        };
        let decision = check(namesake("http://elsewhere:8008/patroni", LeaseId(4)), "Hold", "NameTaken");
        assert_eq!(decision.upkeep.writes, [], "its member key is left alone");
        check(namesake("http://a:8008/patroni", LeaseId(4)), "Start Clone", "Cloning");
        check(namesake("http://elsewhere:8008/patroni", LEASE), "Start Clone", "Cloning");
        check(
            namesake("http://elsewhere:8008/patroni", LeaseId(4)).with_view(|v| v.named = true),
            "Start Clone",
            "Cloning",
        );
    }

    #[test]
    fn data_of_another_cluster_are_left_alone() {
        let foreign = |case: Case| case.with_cluster(|c| c.initialize = Some(Initialize::Done(SystemId(5))));
        check(foreign(replica().stopped()), "Hold", "ForeignData");
        check(foreign(replica().unlocked()), "Hold", "ForeignData");
    }
}
