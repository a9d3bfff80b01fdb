//! Could somebody else lead? Asked before a leader steps down, because it would be worse than what it steps down for if
//! nobody could take over (spec/ha.md 9.4).

use crate::decide::Verdict;
use crate::rules::{ballot, probe_once};
use crate::{Reason, View};
use pgherd_types::{
    Cluster, FailoverKey, Instant, Lsn, MemberName, PeerAnswer, PeerReport, PeerSaid, PeerToAsk, Timeline,
};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

/// Answers count for this long.
const ANSWERS_LAST: Duration = Duration::from_secs(3);
/// Patience with a member.
const PATIENCE_MS: u64 = 2000;

/// What a successor must be like.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted<'a> {
    /// Only this member will do.
    pub only: Option<&'a MemberName>,
    /// It need not be synchronous: an operator answers for it.
    pub anybody: bool,
    /// It must have received this much.
    pub at_least: Option<Lsn>,
    /// Without `at_least`: where the leader is, for the lag rule.
    pub leader_at: Lsn,
    /// It must have safe copies of the logical slots: somebody asks for a change of leader that could as well be later.
    pub slots: bool,
    /// Answers from before then say nothing.
    pub asked_after: Instant,
}

impl<'a> Wanted<'a> {
    /// Whoever a manual request allows.
    pub fn by(key: Option<&'a FailoverKey>, leader_at: Lsn, asked_after: Instant) -> Self {
        let anybody = key.is_some_and(|key| key.leader.is_none());
        let only = key.and_then(|key| key.candidate.as_ref());
        Self { only, anybody, at_least: None, leader_at, slots: key.is_some(), asked_after }
    }
}

/// The finding.
#[derive(Debug)]
pub enum Found {
    /// It is being found out: this is the next step.
    Asking(Box<Verdict>),
    /// Nobody; the text says why.
    Nobody(String),
    /// These.
    Able(Vec<MemberName>),
}

/// Find out.
pub fn find(view: &View, cluster: &Cluster, wanted: &Wanted<'_>, now: Instant) -> Found {
    let asked = members(view, cluster, wanted);
    if asked.is_empty() {
        return Found::Nobody(match wanted.only {
            Some(name) => format!("member {name} does not exist"),
            None => "candidates list is empty".to_owned(),
        });
    }
    let fresh = |at: Instant| at >= wanted.asked_after && now < at + ANSWERS_LAST;
    let Some(round) = view.peers.as_ref().filter(|round| fresh(round.asked_at) && answers(&round.reports, &asked))
    else {
        return Found::Asking(Box::new(probe_once(view, asked, now, Reason::LookingForSuccessor)));
    };
    // an operator who asks for a failover answers for the slots, too
    let slots = if wanted.anybody || !wanted.slots { BTreeSet::new() } else { crate::slots::needed(view, cluster) };
    let (mut able, mut limited) = (Vec::new(), Vec::new());
    for peer in asked {
        let answer = round.reports.iter().find(|report| report.name == peer.name).map(|report| &report.answer);
        match limitation(view, cluster, wanted, &slots, answer) {
            None => able.push(peer.name),
            Some(why) => limited.push(format!("Member {} {why}", peer.name)),
        }
    }
    let votes = ballot::votes_needed(view, cluster).filter(|_| wanted.only.is_none());
    match votes {
        _ if able.is_empty() => Found::Nobody(limited.join("; ")),
        Some(needed) if able.len() <= needed as usize => {
            Found::Nobody(format!("Quorum requirement {needed} can not be reached"))
        }
        _ => Found::Able(able),
    }
}

fn answers(reports: &[PeerReport], asked: &[PeerToAsk]) -> bool {
    asked.iter().all(|peer| reports.iter().any(|report| report.name == peer.name))
}

/// Every member but this one that has an API and may lead.
fn members(view: &View, cluster: &Cluster, wanted: &Wanted<'_>) -> Vec<PeerToAsk> {
    let others = cluster.members.values().filter(|member| member.name != view.me.name);
    let synchronous = |name: &MemberName| wanted.anybody || ballot::may_succeed(view, cluster, name);
    let allowed = others
        .filter(|member| wanted.only.is_none_or(|only| *only == member.name))
        .filter(|member| synchronous(&member.name));
    let ask = |member: &pgherd_types::Member| {
        let api_url = member.doc.api_url.clone().filter(|_| member.doc.tags.may_lead())?;
        Some(PeerToAsk { name: member.name.clone(), api_url, patience_ms: PATIENCE_MS })
    };
    allowed.filter_map(ask).collect()
}

/// Why it cannot take over, if so; the order of spec/ha.md 9.3 and 9.4.
fn limitation(
    view: &View,
    cluster: &Cluster,
    wanted: &Wanted<'_>,
    slots: &BTreeSet<String>,
    answer: Option<&PeerAnswer>,
) -> Option<Cow<'static, str>> {
    let said = match answer {
        Some(PeerAnswer::Said(said)) => said,
        Some(PeerAnswer::Silent(_)) | None => return Some("is not reachable".into()),
    };
    if said.priority <= 0 {
        return Some("is not allowed to promote".into());
    }
    if said.watchdog_failed {
        return Some("is not watchdog capable".into());
    }
    if said.is_primary {
        return Some("is no standby".into());
    }
    if lags(view, wanted, said) {
        return Some("exceeds maximum replication lag".into());
    }
    let latest =
        cluster.history.as_ref().map_or(Timeline(1), |rows| rows.last().map_or(Timeline(1), |row| row.timeline.next()));
    let behind = view.checks_timeline() && said.timeline.is_none_or(|timeline| timeline < latest);
    if behind {
        return Some("is behind the cluster's timeline".into());
    }
    let lacks = said.lacks(slots);
    (!lacks.is_empty()).then(|| format!("has no safe copy of logical slots: {}", lacks.join(", ")).into())
}

fn lags(view: &View, wanted: &Wanted<'_>, said: &PeerSaid) -> bool {
    match wanted.at_least {
        Some(needed) => said.position < needed,
        None => wanted.leader_at.ahead_of(said.position) > view.settings.maximum_lag_on_failover,
    }
}
