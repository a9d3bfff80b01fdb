//! Switchover and failover: the checks against the cluster and its members (spec/rest-api.md 10), the key, the outcome.

use super::Desk;
use super::await_leader::{Awaited, outcome};
use crate::peer_prober::ask;
use futures_util::future::join_all;
use pgherd_clock::boottime;
use pgherd_kernel::slots;
use pgherd_protocol::request_desk::{Reply, RequestFailover};
use pgherd_types::{
    Cluster, DcsWrite, FailoverKey, Member, MemberName, PeerAnswer, PeerReport, PeerToAsk, Refused, Schedule, Settings,
    SyncMode, SyncName,
};
use std::collections::BTreeSet;

/// How long a member may take to answer.
const PROBE_PATIENCE_MS: u64 = 2_000;

/// `Err` is an answer too.
pub(super) async fn perform(desk: &Desk, request: RequestFailover) -> Result<Reply, Reply> {
    let (status, cluster) = desk.cluster()?;
    if request.scheduled_at.is_none() {
        let members = candidates(&request, &cluster, status.settings.sync_mode())?;
        find_good_one(desk, &request, &members, &cluster, &status.settings).await?;
    }
    let key = key_of(&request);
    let awaited = Awaited::from_now(&request, key.clone(), &cluster);
    if let Err(why) = desk.write(DcsWrite::AskFailover { request: key, seen: None }).await {
        log::error!("{}: the failover key was not written: {why:?}", request.action);
        return Err(Reply::new(503, "failed to write failover key into DCS"));
    }
    if request.scheduled_at.is_some() {
        return Ok(Reply::new(202, "Switchover scheduled"));
    }
    let patience = status.settings.loop_wait.max(std::time::Duration::from_secs(10)) * 2;
    Ok(outcome(&desk.status, awaited.written(boottime()), patience).await)
}

/// Forgets a scheduled switchover.
pub(super) async fn cancel(desk: &Desk) -> Result<Reply, Reply> {
    let (_, cluster) = desk.cluster()?;
    let scheduled = cluster.manual().filter(|key| key.schedule.is_some());
    let Some(key) = scheduled else { return Err(Reply::new(404, "no switchover is scheduled")) };
    match desk.write(DcsWrite::ClearFailover { seen: key.mod_revision }).await {
        Ok(()) => Ok(Reply::new(200, "scheduled switchover deleted")),
        Err(Refused::Compare) => Err(Reply::new(409, "the failover key was changed meanwhile: nothing was deleted")),
        Err(why) => {
            log::error!("the failover key was not cleared: {why:?}");
            Err(Reply::new(503, "failed to write failover key into DCS"))
        }
    }
}

fn key_of(request: &RequestFailover) -> FailoverKey {
    FailoverKey {
        mod_revision: 0,
        leader: request.leader.clone(),
        candidate: request.candidate.clone(),
        schedule: request.scheduled_at.clone().map(|moment| Schedule::At { at: moment.at, text: moment.text }),
    }
}

/// The members one of which is to lead; an error if that is clear without asking them. In mode `on` a switchover loses
/// nothing, so it is to a synchronous standby; in mode `quorum` the vote tells who may lead. A failover may be to any
/// member: an operator who asks for that accepts the loss.
fn candidates<'a>(request: &RequestFailover, cluster: &'a Cluster, mode: SyncMode) -> Result<Vec<&'a Member>, Reply> {
    let switchover = request.action == "switchover";
    let key = cluster.sync.active_in(mode).filter(|_| switchover && mode == SyncMode::On);
    let synchronous = |name: &MemberName| key.is_none_or(|key| key.standbys.contains(&SyncName::from(name)));
    let leader = cluster.leader.as_ref().map(|leader| &leader.name);
    if request.leader.is_some() && request.leader.as_ref() != leader {
        return Err(Reply::new(412, "leader name does not match"));
    }
    if let Some(name) = &request.candidate {
        if !synchronous(name) {
            return Err(Reply::new(412, "candidate name does not match with sync_standby"));
        }
        let candidate = cluster.members.get(name).ok_or_else(|| Reply::new(412, "candidate does not exists"))?;
        return Ok(vec![candidate]);
    }
    let others = cluster.members.values().filter(|member| Some(&member.name) != leader);
    let able: Vec<_> = others.filter(|member| synchronous(&member.name)).collect();
    let nobody =
        if key.is_some() { "can not find sync_standby" } else { "cluster does not have members except leader" };
    match able.is_empty() {
        true => Err(Reply::new(412, format!("{} is not possible: {nobody}", request.action))),
        false => Ok(able),
    }
}

/// Asks them all at once; one that could take over is enough.
async fn find_good_one(
    desk: &Desk,
    request: &RequestFailover,
    members: &[&Member],
    cluster: &Cluster,
    settings: &Settings,
) -> Result<(), Reply> {
    let asks = members.iter().filter_map(|member| {
        let api_url = member.doc.api_url.clone()?;
        let peer = PeerToAsk { name: member.name.clone(), api_url, patience_ms: PROBE_PATIENCE_MS };
        Some(ask(desk.client.clone(), peer, request.action))
    });
    // who asks for a failover answers for the slots
    let slots = if request.leader.is_some() { slots::needed_of(settings, cluster) } else { BTreeSet::new() };
    let (mut good, mut lacking) = (false, Vec::new());
    for report in join_all(asks).await {
        let lacks = lacks(&report, &slots);
        match limitation(&report, cluster, settings) {
            None if lacks.is_empty() => good = true,
            None => lacking.push(format!("{} has no safe copy of logical slots: {}", report.name, lacks.join(", "))),
            Some(why) => log::info!("{}: Member {} {why}", request.action, report.name),
        }
    }
    lacking.iter().for_each(|why| log::info!("{}: Member {why}", request.action));
    let hint = "/patroni of the member says why; a failover to it is done all the same";
    let why = if lacking.is_empty() { String::new() } else { format!(": {} ({hint})", lacking.join("; ")) };
    let text = || format!("{} is not possible: no good candidates have been found{why}", request.action);
    if good { Ok(()) } else { Err(Reply::new(412, text())) }
}

/// The logical slots that would be lost with this member as the leader.
fn lacks(report: &PeerReport, needed: &BTreeSet<String>) -> Vec<String> {
    match &report.answer {
        PeerAnswer::Said(said) => said.lacks(needed).into_iter().map(str::to_owned).collect(),
        PeerAnswer::Silent(_) => Vec::new(),
    }
}

/// Why this member cannot take over. How far it is behind counts only while a leader lives, who would refuse for it;
/// without one an operator may choose whom there is.
fn limitation(report: &PeerReport, cluster: &Cluster, settings: &Settings) -> Option<&'static str> {
    let PeerAnswer::Said(said) = &report.answer else { return Some("is not reachable") };
    let lag_bytes = cluster.status.optime.ahead_of(said.position);
    match () {
        () if said.priority <= 0 => Some("is not allowed to promote"),
        () if said.watchdog_failed => Some("is not watchdog capable"),
        () if cluster.leader.is_some() && lag_bytes > settings.maximum_lag_on_failover => {
            Some("exceeds maximum replication lag")
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::{Instant, LeaderKey, Lsn, MemberDoc, PeerSaid, StatusKey, SyncKey, SyncSeen};

    fn cluster(leader: Option<&str>, members: &[&str]) -> Cluster {
        let member =
            |name: &&str| ((*name).into(), Member { name: (*name).into(), lease: None, doc: MemberDoc::default() });
        Cluster {
            leader: leader.map(|name| LeaderKey { name: name.into(), lease: None }),
            members: members.iter().map(member).collect(),
            status: StatusKey { optime: Lsn(1_000), ..StatusKey::default() },
            ..Cluster::default()
        }
    }

    fn names(found: Result<Vec<&Member>, Reply>) -> Result<String, Reply> {
        found.map(|members| members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(" "))
    }

    fn told(expected: Result<&str, &str>) -> Result<String, Reply> {
        expected.map(str::to_owned).map_err(|text| Reply::new(412, text))
    }

    #[test]
    fn what_the_cluster_rules_out_is_told_in_order() {
        for (leader, candidate, members, expected) in [
            (Some("a"), None, &["a", "b", "c"][..], Ok("b c")),
            (Some("a"), Some("c"), &["a", "b", "c"], Ok("c")),
            (None, Some("b"), &["a", "b"], Ok("b")),
            (Some("b"), Some("x"), &["a"], Err("leader name does not match")),
            (Some("a"), Some("x"), &["a", "b"], Err("candidate does not exists")),
            (Some("a"), None, &["a"], Err("switchover is not possible: cluster does not have members except leader")),
        ] {
            let request = RequestFailover {
                action: "switchover",
                leader: leader.map(Into::into),
                candidate: candidate.map(Into::into),
                scheduled_at: None,
            };
            let cluster = cluster(Some("a"), members);
            let found = candidates(&request, &cluster, SyncMode::Off);
            assert_eq!(names(found), told(expected));
        }
        let request =
            RequestFailover { action: "switchover", leader: Some("a".into()), candidate: None, scheduled_at: None };
        let leaderless = candidates(&request, &cluster(None, &["a", "b"]), SyncMode::On).map(|_| ());
        assert_eq!(leaderless, Err(Reply::new(412, "leader name does not match")));
    }

    #[test]
    fn a_switchover_in_mode_on_is_to_a_synchronous_standby() {
        let not_listed = Err("candidate name does not match with sync_standby");
        let nobody = Err("switchover is not possible: can not find sync_standby");
        for (action, candidate, mode, listed, expected) in [
            ("switchover", Some("b"), SyncMode::On, &["B"][..], Ok("b")),
            ("switchover", Some("c"), SyncMode::On, &["b"], not_listed),
            ("switchover", Some("unknown"), SyncMode::On, &["b"], not_listed),
            ("switchover", Some("gone"), SyncMode::On, &["gone"], Err("candidate does not exists")),
            ("switchover", None, SyncMode::On, &["b", "gone"], Ok("b")),
            ("switchover", None, SyncMode::On, &["gone"], nobody),
            ("switchover", None, SyncMode::On, &[], nobody),
            // the leader itself is nobody to switch over to
            ("switchover", None, SyncMode::On, &["a"], nobody),
            ("failover", Some("c"), SyncMode::On, &["b"], Ok("c")),
            ("switchover", Some("c"), SyncMode::Quorum, &["b"], Ok("c")),
            ("switchover", None, SyncMode::Quorum, &["b"], Ok("b c")),
            ("switchover", Some("c"), SyncMode::Off, &["b"], Ok("c")),
        ] {
            let key = |leader: Option<&str>| {
                let standbys = listed.iter().map(|name| (*name).into()).collect();
                SyncSeen::Valid(SyncKey { leader: leader.map(Into::into), standbys, ..SyncKey::default() })
            };
            let leader = (action == "switchover").then(|| "a".into());
            let request = RequestFailover { action, leader, candidate: candidate.map(Into::into), scheduled_at: None };
            let active = Cluster { sync: key(Some("a")), ..cluster(Some("a"), &["a", "b", "c"]) };
            let case = format!("{action} {candidate:?} {mode:?} {listed:?}");
            assert_eq!(names(candidates(&request, &active, mode)), told(expected), "{case}");
            let not_yet = Cluster { sync: key(None), ..active };
            let asynchronous = candidates(&request, &not_yet, SyncMode::Off);
            assert_eq!(names(candidates(&request, &not_yet, mode)), names(asynchronous), "not active: {case}");
        }
    }

    #[test]
    fn members_that_cannot_take_over_are_told_why() {
        let settings = Settings { maximum_lag_on_failover: 100, ..Settings::default() };
        let good = PeerSaid {
            is_primary: false,
            position: Lsn(900),
            timeline: None,
            priority: 1,
            safe_slots: None,
            watchdog_failed: false,
            looked_at: Instant::default(),
        };
        let said = |said: PeerSaid| PeerReport { name: "b".into(), answer: PeerAnswer::Said(said) };
        let of = |report: &PeerReport, leader| limitation(report, &cluster(leader, &["b"]), &settings);
        assert_eq!(of(&said(good.clone()), Some("a")), None);
        let behind = said(PeerSaid { position: Lsn(899), ..good.clone() });
        assert_eq!(of(&behind, Some("a")), Some("exceeds maximum replication lag"));
        assert_eq!(of(&behind, None), None, "nobody else decides");
        let mute = PeerReport { name: "b".into(), answer: PeerAnswer::Silent(String::new()) };
        assert_eq!(of(&mute, Some("a")), Some("is not reachable"));
        assert_eq!(of(&said(PeerSaid { priority: 0, ..good.clone() }), None), Some("is not allowed to promote"));
        assert_eq!(of(&said(PeerSaid { watchdog_failed: true, ..good }), None), Some("is not watchdog capable"));
    }
}
